"""What a price book may say, and the dollars that follow from it."""

from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporters.reference.prices import (
    CacheTokens,
    cache_dollars,
    cache_target,
    load_price_book,
    read_price_book,
)
from slo.policy.loading import load_policies
from slo.policy.policy import Band
from slo.policy.targets import Targets, targets_of
from streams.errors import ConfigError
from streams.simulator.profile import Profile

BOOK = read_price_book(
    """
version: 1
models:
  large: {input_usd_per_mtok: 10, cache_read_ratio: 0.1, cache_write_ratio: 1.25,
          service_tiers: {priority: 2, batch: 0.5}}
  small: {input_usd_per_mtok: 1, cache_read_ratio: 0.25, cache_write_ratio: 1}
""",
    "book.yaml",
)
HALF = Fraction(1, 2)
MTOK = 1_000_000


def test_a_read_saves_what_a_fresh_token_costs_more_and_a_write_costs_its_surcharge() -> None:
    #     1 Mtok read at 10 USD instead of 1 USD: 9.00 saved
    #     2 Mtok written at 12.50 USD instead of 10 USD: 5.00 paid
    found = cache_dollars(
        [CacheTokens("large", "standard", 4 * MTOK, MTOK, 2 * MTOK, 4 * MTOK)], BOOK, None
    )
    assert found.saved_usd == 4
    assert found.lost_usd is None


def test_writes_that_nobody_reads_cost_money() -> None:
    found = cache_dollars(
        [CacheTokens("large", "standard", 4 * MTOK, 0, MTOK, 4 * MTOK)], BOOK, None
    )
    assert found.saved_usd == Fraction("-2.5")


@pytest.mark.parametrize(
    ("tier", "saved_usd"), [("priority", 18), ("batch", "4.5"), ("unknown", 9), (None, 9)]
)
def test_a_tier_multiplies_the_input_price(tier: str | None, saved_usd: str | int) -> None:
    found = cache_dollars([CacheTokens("large", tier, MTOK, MTOK, 0, MTOK)], BOOK, None)
    assert found.saved_usd == Fraction(saved_usd)


def test_lost_is_what_the_tokens_missing_to_the_target_would_have_saved() -> None:
    # 2 Mtok of 10 read from the cache, 5 would be the target: 3 Mtok at 9.00
    found = cache_dollars(
        [CacheTokens("large", None, 10 * MTOK, 2 * MTOK, 0, 10 * MTOK)], BOOK, HALF
    )
    assert found.lost_usd == 27


def test_input_whose_cached_part_is_unknown_has_lost_nothing() -> None:
    # Of 10 Mtok only 4 are known to be cached or not, and 1 of them was: 1 Mtok is missing to half.
    found = cache_dollars([CacheTokens("large", None, 10 * MTOK, MTOK, 0, 4 * MTOK)], BOOK, HALF)
    assert found.saved_usd == 9
    assert found.lost_usd == 9


def test_dollars_are_unknown_if_no_cached_part_is_known() -> None:
    found = cache_dollars([CacheTokens("large", None, 10 * MTOK, 0, MTOK, 0)], BOOK, HALF)
    assert (found.saved_usd, found.lost_usd, found.unpriced_tokens) == (None, None, 0)


def test_one_models_surplus_pays_for_no_other() -> None:
    # large reads 9 of 10 Mtok, small 1 of 2: together far above the target, small exactly at it.
    rows = [
        CacheTokens("large", None, 10 * MTOK, 9 * MTOK, 0, 10 * MTOK),
        CacheTokens("small", None, 2 * MTOK, MTOK // 2, 0, 2 * MTOK),
    ]
    assert cache_dollars(rows, BOOK, HALF).lost_usd == Fraction(1, 2) * Fraction("0.75")


def test_a_models_tiers_are_held_to_the_target_together_at_their_mean_price() -> None:
    # priority reads 1 of 2 Mtok, batch 0 of 2: 1 of 4, so 1 Mtok is missing to 2,
    # at (2 x 18 + 2 x 4.5) / 4 = 11.25 USD.
    rows = [
        CacheTokens("large", "priority", 2 * MTOK, MTOK, 0, 2 * MTOK),
        CacheTokens("large", "batch", 2 * MTOK, 0, 0, 2 * MTOK),
    ]
    assert cache_dollars(rows, BOOK, HALF).lost_usd == Fraction("11.25")


def test_models_without_a_price_are_told_of_and_not_guessed() -> None:
    rows = [CacheTokens("large", None, MTOK, MTOK, 0, MTOK), CacheTokens("other", None, 7, 3, 1, 7)]
    assert cache_dollars(rows, BOOK, HALF).unpriced_tokens == 7
    assert cache_dollars(rows, BOOK, HALF).saved_usd == 9
    nothing = cache_dollars(rows[1:], BOOK, HALF)
    assert (nothing.saved_usd, nothing.lost_usd, nothing.unpriced_tokens) == (None, None, 7)


def test_a_default_prices_every_other_model() -> None:
    text = """
version: 1
default: {input_usd_per_mtok: 2, cache_read_ratio: 0.5, cache_write_ratio: 1}
models:
  large: {input_usd_per_mtok: 10, cache_read_ratio: 0.1, cache_write_ratio: 1.25}
"""
    book = read_price_book(text, "book.yaml")
    rows = [
        CacheTokens("large", None, MTOK, MTOK, 0, MTOK),
        CacheTokens("other", None, MTOK, MTOK, 0, MTOK),
    ]
    assert cache_dollars(rows, book, None).saved_usd == 10
    assert cache_dollars(rows, book, None).unpriced_tokens == 0


TOKENS = st.integers(0, 10**15)
DIGITS: dict[str, Any] = {"min_value": 0, "allow_nan": False, "places": 6}


@given(
    st.decimals(max_value=100, **DIGITS),
    st.decimals(max_value=1, **DIGITS),
    st.decimals(max_value=3, **DIGITS),
    st.decimals(max_value=3, **DIGITS),
    st.lists(st.tuples(st.sampled_from(["x", "y"]), TOKENS, TOKENS), min_size=1, max_size=5),
)
def test_saved_is_exact_whatever_the_digits(
    price: Decimal, read: Decimal, write: Decimal, tier: Decimal, rows: list[tuple[str, int, int]]
) -> None:
    text = f"""
version: 1
models:
  m: {{input_usd_per_mtok: {price:f}, cache_read_ratio: {read:f}, cache_write_ratio: {write:f},
       service_tiers: {{y: {tier:f}}}}}
"""
    expected = sum(
        Fraction(price)
        / MTOK
        * (Fraction(tier) if name == "y" else 1)
        * (cached * (1 - Fraction(read)) - written * (Fraction(write) - 1))
        for name, cached, written in rows
    )
    tokens = [
        CacheTokens("m", name, cached, cached, written, cached) for name, cached, written in rows
    ]
    assert cache_dollars(tokens, read_price_book(text, "x"), None).saved_usd == expected


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ("", "b.yaml: got nothing; write a document that begins with `version: 1`"),
        ("version: 1", "b.yaml: models: got none; give at least one, or a default"),
        ("version: 2\nmodels: {}", "b.yaml: version: got 2; it should be 1"),
        ("models: {}", "b.yaml: version: got nothing; this key is required"),
        ("version: 1\nmodel: {}", "b.yaml: model: got {}; no such key here; docs/prices.md lists"),
        ("version: 1\nmodels: {m: 3}", "b.yaml: models.m: got 3; write keys here"),
        (
            "version: 1\nmodels: {m: {input_usd_per_mtok: -1}}",
            "b.yaml: models.m.input_usd_per_mtok: got -1; it should be greater than or equal to 0",
        ),
        (
            "version: 1\ndefault: {input_usd_per_mtok: 1, cache_read_ratio: 1.5, "
            "cache_write_ratio: 1}",
            "b.yaml: default.cache_read_ratio: got 1.5; it should be less than or equal to 1",
        ),
        (
            "version: 1\ndefault: {input_usd_per_mtok: 1, cache_read_ratio: 1}",
            "b.yaml: default.cache_write_ratio: got nothing; this key is required",
        ),
        ("version: 1\nmodels: {m: {}, m: {}}", "the key m is given twice; keep one"),
        ("version: [", "b.yaml: line 1, column 11: not YAML: "),
    ],
)
def test_a_mistake_is_told_with_place_finding_and_cure(text: str, finding: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_price_book(text, "b.yaml")
    assert finding in str(caught.value)
    assert all(line.startswith("b.yaml: ") for line in str(caught.value).splitlines())


def test_a_book_that_is_not_there_is_told_with_the_shipped_ones() -> None:
    with pytest.raises(
        ConfigError,
        match=r"exporter\.price_book: no/such: cannot be read: No such file or directory; .*simul",
    ):
        load_price_book("no/such")


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "book.yaml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"book\.yaml: not UTF-8; save the file as UTF-8 text"):
        load_price_book(str(path))


def test_the_shipped_book_prices_every_simulated_model_and_no_unknown_tier() -> None:
    book = load_price_book("simulated")
    names = Profile.default().names()
    assert set(book.models) == set(names["model"])
    for price in book.models.values():
        assert set(price.service_tiers) <= set(names["service_tier"])
        assert price.input_usd_per_mtok > Decimal(0)


def test_the_target_is_the_lower_end_of_best_in_class_or_else_the_ticket_level() -> None:
    targets = targets_of(load_policies(["default"]))
    assert cache_target(targets) == Fraction(2, 5)
    bands = (Band(name="fine", **{"from": "10%"}), Band(name="Best in class", **{"from": "55%"}))
    both = Targets(cache_hit_ticket_ratio=0.3, cache_hit_bands=bands)
    assert cache_target(both) == Fraction(11, 20)
    assert cache_target(Targets(cache_hit_ticket_ratio=0.3)) == Fraction(3, 10)
    assert cache_target(Targets()) is None
