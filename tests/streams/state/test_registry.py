"""Names become numbers in log order; customers become tokens that only the key's owner can make."""

import hashlib
import hmac
from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streams.state.registry import (
    OTHER,
    SERIES_DIMENSIONS,
    NameLimits,
    Registry,
    ReservedNames,
    SeriesKey,
    customer_hasher,
)
from tests.support.oracle import judge, named, recount
from tests.support.shelf import (
    CUTS,
    HASHED,
    KINDS,
    NOON,
    ROOMY,
    Shelf,
    checkpoint,
    count,
    loaded,
    plain,
    shelf_after,
)

QUICK = settings(max_examples=60, deadline=None)
SMALL = st.builds(
    NameLimits,
    *(st.integers(1, 3) for _ in range(4)),
    series=st.integers(1, 5),
    customers=st.integers(1, 4),
    customer_models=st.integers(1, 6),
    reserved=st.builds(
        ReservedNames,
        *(st.frozensets(st.sampled_from(names), max_size=2) for names in ("ab", "x", "u", "su")),
        customer=st.frozensets(st.sampled_from(["ann", "dan", "eve"]), max_size=2),
    ),
)
ONE_OF_EACH = NameLimits(1, 1, 1, 1, series=1, customers=1)
STRANGE = {"model": "b", "region": "r", "channel": "c", "service_tier": "t"}
MANY_NAMES = st.lists(
    st.builds(
        lambda model, region, tier, requested, customer, kind, stamp_ms: (
            plain(
                NOON,
                **kind
                | {"model": model, "region": region, "service_tier": tier}
                | {"requested_service_tier": requested},
                customer_id=customer,
            )[0],
            stamp_ms,
        ),
        st.sampled_from(["a", "b", "c", "d", OTHER]),
        st.sampled_from("xyz"),
        st.sampled_from("st"),
        st.sampled_from([None, "s", "t", "u", "v", OTHER]),
        st.sampled_from(["ann", "bob", "cyd", "dan", "eve", "unknown", OTHER]),
        st.sampled_from(KINDS),
        st.sampled_from([NOON * 1_000] * 5 + [-1]),  # the last one: refused
    ),
    max_size=40,
)


@QUICK
@given(MANY_NAMES, CUTS, SMALL)
@example([(plain(NOON, model="a")[0], -1), plain(NOON, model="b"), plain(NOON)], [], ROOMY)
# What is called __other__ already is not folded, neither by a producer nor by us.
@example([plain(NOON), plain(NOON, model=OTHER), plain(NOON, model=OTHER)], [], ONE_OF_EACH)
@example([plain(NOON), plain(NOON, **STRANGE), plain(NOON, **STRANGE)], [], ONE_OF_EACH)
def test_names_get_the_same_numbers_and_folds_however_the_log_was_cut(
    log: list[tuple[dict[str, Any], int]], cuts: list[tuple[int, str]], caps: NameLimits
) -> None:
    must = named(recount(log), caps, HASHED)
    shelf = shelf_after(log, cuts, caps)
    assert shelf.names() == (must.series, must.customers)
    assert shelf.meta.overflowed == dict(must.overflowed)
    kept = caps.reserved
    # They were reserved from the beginning, so none of their events was ever counted as another.
    since_ms = [one for names in shelf.meta.reserved_since_ms.values() for one in names.values()]
    # Models have one for series, and one for pairs with customers.
    assert since_ms == [0] * (sum(map(len, kept)) + len(kept.model)) or not log
    for name, place in zip(SERIES_DIMENSIONS, zip(*must.series, strict=True), strict=False):
        assert len(set(place) - {OTHER}) <= max(getattr(caps, name), len(getattr(kept, name)))
    rest = [names for names in must.series if not names_reserved(names, kept)]
    assert len(rest) <= caps.series + 1
    most = max(caps.customers, len(kept.customer))
    assert len({customer for customer, _ in must.customers} - {OTHER}) <= most


def names_reserved(series: SeriesKey, kept: ReservedNames) -> bool:
    """Return whether a series has a reserved name."""
    named = zip(series, (*kept[:4], kept.service_tier), strict=False)
    return any(name in names for name, names in named)


KEPT = ReservedNames(model=frozenset("z"), customer=frozenset({"zoe"}))


def test_a_reserved_name_has_a_row_however_late_it_comes() -> None:
    caps = NameLimits(2, 9, 9, 9, series=2, customers=2, customer_models=2, reserved=KEPT)
    log = [plain(NOON, model=name, customer_id=f"of {name}") for name in "abcdab"]
    log += [plain(NOON, model="z", region=region, customer_id="zoe") for region in "rst"]
    shelf = shelf_after(log, caps=caps)
    counts = shelf.readable(list(shelf.index))
    requests: Counter[str] = Counter()
    for key, row in counts["series"].items():
        requests[key[0]] += row["success"]
    assert requests == {"a": 2, OTHER: 4, "z": 3}
    customers = {key: row["success"] for key, row in counts["customers"].items()}
    assert customers[HASHED("zoe"), "z"] == 3
    # One place of two is for the customer that comes last.
    assert {customer for customer, _ in customers} == {HASHED("of a"), OTHER, HASHED("zoe")}


def test_events_beyond_a_limit_are_counted_as_other_and_as_folded() -> None:
    caps = NameLimits(model=1, region=9, channel=9, service_tier=9, series=9, customers=1)
    log = [plain(NOON, model=model, customer_id=f"of {model}") for model in "abcbb"]
    shelf = shelf_after(log, caps=caps)
    assert shelf.meta.overflowed == {"model": 4, "customer": 4}
    counts = shelf.readable(list(shelf.index))
    requests = {key[0]: row["success"] for key, row in counts["series"].items()}
    assert requests == {"a": 1, OTHER: 4}
    assert {key: row["success"] for key, row in counts["customers"].items()} == {
        (HASHED("of a"), "a"): 1,
        (OTHER, OTHER): 4,
    }


def test_names_of_the_published_dimensions_only_are_read_as_served_as_requested() -> None:
    shelf = shelf_after([plain(NOON, service_tier="flex")])
    shelf.fields["series:0"] = msgspec.msgpack.encode([("a", "unknown", "unknown", "flex")])
    assert shelf.names()[0] == [("a", "unknown", "unknown", "flex", "flex", "")]


def test_requested_tiers_beyond_the_limit_of_tiers_are_counted_as_other() -> None:
    caps = ROOMY._replace(service_tier=2)
    log = [plain(NOON, service_tier="s", requested_service_tier=tier) for tier in ("t", "u", "s")]
    shelf = shelf_after(log, caps=caps)
    assert [key[3:5] for key in shelf.names()[0]] == [("s", "t"), ("s", "u"), ("s", "s")]
    shelf = shelf_after(
        [*log, plain(NOON, service_tier="s", requested_service_tier="v")], caps=caps
    )
    assert shelf.names()[0][-1][3:5] == ("s", OTHER)
    assert shelf.meta.overflowed == {"service_tier": 1}


def test_a_flood_of_invented_customers_costs_no_memory() -> None:
    registry = Registry(NameLimits(9, 9, 9, 9, 9, customers=3), HASHED)
    registry.series_numbers([("a", "r", "c", "t", "t", "")], [1])
    for number in range(1_000):
        registry.customer_numbers([(f"invented {number}", "a")], [1])
    assert len(registry.customers) == 4
    assert registry.overflowed == Counter(customer=997)


# --- customers -----------------------------------------------------------------------------------

SECRETS = st.binary(min_size=16, max_size=40)
IDS = st.text("abc0-_/ @", min_size=1, max_size=20).filter(lambda text: text != "unknown")


@QUICK
@given(SECRETS, IDS)
def test_a_token_is_the_hmac_of_the_id_cut_to_96_bits(secret: bytes, customer_id: str) -> None:
    token = customer_hasher(secret)(customer_id)
    assert token == hmac.digest(secret, customer_id.encode(), hashlib.sha256)[:12].hex()
    assert token != customer_id


@QUICK
@given(SECRETS, SECRETS, IDS, IDS)
def test_other_keys_and_other_customers_give_other_tokens(
    secret: bytes, other_secret: bytes, one: str, two: str
) -> None:
    assert (customer_hasher(secret)(one) == customer_hasher(secret)(two)) is (one == two)
    # HMAC pads a key with zeros: only keys that differ beyond that are different keys.
    if secret.rstrip(b"\0") != other_secret.rstrip(b"\0"):
        assert customer_hasher(secret)(one) != customer_hasher(other_secret)(one)


def test_nobody_stays_nobody() -> None:
    assert HASHED("unknown") == "unknown"


def test_no_stored_field_holds_a_customer_id() -> None:
    ids = [f"customer-{number}-with-a-name" for number in range(40)]
    log: list[tuple[Any, int]] = [
        plain(NOON + 30 * number, customer_id=one) for number, one in enumerate(ids)
    ]
    log += [
        (plain(NOON, customer_id=ids[0])[0] | {"model": "\n"}, NOON),
        (b"{" + ids[1].encode(), 5),
    ]
    everything = [*shelf_after(log).fields, *shelf_after(log).fields.values()]
    stored = b"".join(one if isinstance(one, bytes) else str(one).encode() for one in everything)
    assert b"with-a-name" not in stored
    for one in ids:
        assert HASHED(one).encode() in stored


def test_names_are_stored_in_pieces_of_which_only_the_last_is_written_again() -> None:
    log = [plain(NOON, region=f"r{number}") for number in range(1_100)]
    caps = ROOMY._replace(region=2_000)
    shelf, written = Shelf(), []
    state = loaded(shelf, caps)
    for until in (600, 610, 610, 1_100):
        if until > state.next_offset:
            count(state, shelf, log, until)
        snapshot = state.snapshot(1)
        written.append(sorted(name for name in snapshot.fields if name.startswith("series")))
        shelf.write(snapshot)
        state.confirm(snapshot)
    assert written == [["series:0", "series:1"], ["series:1"], [], ["series:1", "series:2"]]
    again = loaded(shelf, caps).snapshot(2)
    assert not [name for name in again.fields if name.startswith(("series", "cubes"))]
    regions = [name[1] for name in shelf.names()[0]]
    assert regions == [f"r{number}" for number in range(1_100)]


@pytest.mark.parametrize("customers", [1, 2])
def test_a_limit_that_was_lowered_keeps_the_names_it_has(customers: int) -> None:
    log = [plain(NOON, customer_id=one) for one in ("ann", "bob", "cyd", "bob")]
    shelf = Shelf()
    state = loaded(shelf)
    count(state, shelf, log, 2)
    checkpoint(state, shelf)
    state = loaded(shelf, ROOMY._replace(customers=customers))
    count(state, shelf, log, 4)
    assert [customer for customer, _ in state.registry.customers] == [
        HASHED("ann"),
        HASHED("bob"),
        OTHER,
    ]
    assert state.registry.overflowed == Counter(customer=1)


def test_a_refused_record_names_nobody() -> None:
    log = [(plain(NOON, model="never")[0], -1), plain(NOON)]
    assert judge(log).columns.series == [("a", "unknown", "unknown", "unknown", "unknown", "")]
    assert [name[0] for name in shelf_after(log).names()[0]] == ["a"]


def test_pairs_of_customer_and_model_beyond_the_limit_become_the_customers_other_model() -> None:
    registry = Registry(NameLimits(9, 9, 9, 9, 99, 9, customer_models=2), str.upper)
    registry.series_numbers(
        [("m1", "r", "c", "t", "t", ""), ("m2", "r", "c", "t", "t", "")], [1, 1]
    )
    pairs = [("ann", "m1"), ("bob", "m1"), ("ann", "m2"), ("bob", "m2"), ("ann", "m1")]
    registry.customer_numbers(pairs, [1, 2, 4, 8, 16])
    assert registry.customers == [("ANN", "m1"), ("BOB", "m1"), ("ANN", OTHER), ("BOB", OTHER)]
    assert registry.overflowed == {"customer_model": 12}
