"""Customers keep their token when the key of their ids is changed."""

from collections import defaultdict
from collections.abc import Mapping

from hypothesis import example, given
from hypothesis import strategies as st

from streams.events.fields import OTHER
from streams.state.registry import (
    CustomerTokens,
    NameLimits,
    Registry,
    ReservedNames,
    customer_hasher,
)

SERIES = ("m", "r", "c", "t", "t", "")
FIRST, SECOND, THIRD = KEYS = [customer_hasher(bytes([number]) * 16) for number in (1, 2, 3)]
ROOMY = NameLimits(9, 9, 9, 9, series=99, customers=99)
IDS = st.sampled_from(["ann", "bob", "cyd", "unknown"])
# The keys that a process has, the present one first, as the key is changed step by step.
STEPS = ((FIRST, None), (SECOND, FIRST), (SECOND, None), (THIRD, SECOND), (THIRD, None))


def counted(registry: Registry, *customer_ids: str) -> set[str]:
    """Count an event of each customer; return all customers with a row."""
    keys = [(customer_id, "m") for customer_id in customer_ids]
    registry.series_numbers([SERIES], [len(keys)])
    registry.customer_numbers(keys, [1] * len(keys))
    return {customer for customer, _ in registry.customers}


def registry_of(step: int, table: Mapping[str, str], earlier: Registry | None = None) -> Registry:
    """The registry of a worker that takes a partition over with the keys of a step."""
    rows = ([], []) if earlier is None else (earlier.series, earlier.customers)
    present, before = STEPS[step]
    return Registry(ROOMY, CustomerTokens(present, before, table), *rows)


def store(registry: Registry, table: dict[str, str]) -> None:
    """Write the tokens that a checkpoint of the registry writes."""
    stored = dict(registry.tokens.unstored)
    table |= stored
    registry.tokens.confirm(stored)
    assert not registry.tokens.unstored


@given(st.lists(st.lists(IDS, max_size=4), min_size=len(STEPS), max_size=len(STEPS)))
@example([["ann"], ["ann"], ["ann"], ["ann"], ["ann"]])
@example([["ann"], [], ["ann"], ["ann"], ["ann"]])
def test_a_customer_that_is_counted_while_both_keys_are_set_has_one_row_for_ever(
    seen: list[list[str]],
) -> None:
    table: dict[str, str] = {}
    registry: Registry | None = None
    expected: defaultdict[str, list[str]] = defaultdict(list)
    token_by: dict[tuple[int, str], str] = {}  # by the number of a key
    for step, customer_ids in enumerate(seen):
        registry = registry_of(step, table, registry)
        rows = counted(registry, *customer_ids) if customer_ids else set()
        store(registry, table)
        key_number, is_changing = divmod(step, 2)
        for customer_id in customer_ids:
            hashed = KEYS[key_number](customer_id)
            # The oracle: the token under the key that the worker knows the customer by.
            token = token_by.setdefault((key_number, customer_id), hashed)
            if is_changing:
                token_by[key_number + 1, customer_id] = token
            if token not in expected[customer_id]:
                expected[customer_id].append(token)
            assert token in rows
    if registry is not None:
        rows = {customer for customer, _ in registry.customers}
        assert rows == {token for tokens in expected.values() for token in tokens}
    for customer_id, tokens in expected.items():
        steps = [step for step, customer_ids in enumerate(seen) if customer_id in customer_ids]
        if all(step in steps for step in (1, 3) if steps[0] <= step < steps[-1]):
            assert len(tokens) == 1


def test_workers_with_and_without_the_new_key_count_a_customer_in_one_row() -> None:
    table: dict[str, str] = {}
    changing = registry_of(1, table)
    assert counted(registry_of(0, table), "ann") == counted(changing, "ann") == {FIRST("ann")}
    store(changing, table)
    assert table == {SECOND("ann"): FIRST("ann")}
    assert counted(registry_of(2, table), "ann") == {FIRST("ann")}


def test_a_token_is_stored_once() -> None:
    table: dict[str, str] = {}
    registry = registry_of(1, table)
    counted(registry, "ann", "unknown")
    assert registry.tokens.unstored.keys() == {SECOND("ann")}
    store(registry, table)
    for later in (registry, registry_of(1, table)):
        later.customer_numbers([("ann", "another model")], [1])
        assert not later.tokens.unstored


def test_customers_without_a_row_have_no_token_to_keep_and_reserved_ones_have_one() -> None:
    limits = ROOMY._replace(customers=3, reserved=ReservedNames(customer=frozenset({"zoe"})))
    registry = Registry(limits, CustomerTokens(SECOND, FIRST))
    assert counted(registry, "ann", "bob", "cyd", "dan") == {FIRST("ann"), FIRST("bob"), OTHER}
    assert registry.tokens.unstored == {
        SECOND(customer_id): FIRST(customer_id) for customer_id in ("ann", "bob", "zoe")
    }
