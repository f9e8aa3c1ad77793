"""What requests cost, to the last digit."""

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporters.pricing.rating import (
    Cost,
    RatedRequest,
    RatedTokens,
    Unpriced,
    money_text,
    rate,
)
from tests.support.price_samples import price_list, request, row

PRICES = st.decimals(0, 1_000, places=18)
TOKENS = st.integers(0, 10**9)


def cost(prices: dict[str, Any], tokens: RatedTokens) -> Cost:
    asked = RatedRequest("m", request().at, tokens)
    found = rate(price_list(row(prices)), asked)
    assert isinstance(found, Cost)
    return found


@given(st.tuples(*[PRICES] * 6), st.tuples(*[TOKENS] * 6))
def test_each_kind_of_token_costs_its_price(prices: Any, counts: Any) -> None:
    names = ("input", "cache_read", "cache_write", "cache_write_long", "output", "reasoning")
    plain, read, short, long, visible, reasoning = counts
    tokens = RatedTokens(
        input=plain + read + short + long,
        output=visible + reasoning,
        cache_read=read,
        cache_write=short + long,
        cache_write_long=long,
        reasoning=reasoning,
    )
    total = cost(dict(zip(names, prices, strict=True)), tokens).total_usd
    assert Fraction(total) * 10**6 == sum(
        Fraction(price) * count for price, count in zip(prices, counts, strict=True)
    )


def test_a_kind_without_a_price_costs_what_it_is_a_kind_of() -> None:
    tokens = RatedTokens(
        input=8, output=2, cache_read=4, cache_write=2, cache_write_long=1, reasoning=1
    )
    assert cost({"input": 3, "output": 5}, tokens).total_usd == Decimal("0.000034")
    assert cost({"input": 3, "output": 5, "cache_write": 7}, tokens).input_usd == Decimal(
        "0.000032"
    )
    # 0 is a price.
    assert cost({"input": 3, "output": 5, "cache_read": 0}, tokens).input_usd == Decimal("0.000012")


@given(st.lists(st.tuples(TOKENS, TOKENS), max_size=5), PRICES, PRICES)
def test_requests_in_parts_cost_what_they_cost_together(
    parts: list[tuple[int, int]], input_usd: Decimal, output_usd: Decimal
) -> None:
    prices = {"input": input_usd, "output": output_usd}
    whole = RatedTokens(sum(part[0] for part in parts), sum(part[1] for part in parts))
    total = sum(
        (Fraction(cost(prices, RatedTokens(*part)).total_usd) for part in parts), Fraction()
    )
    assert total == Fraction(cost(prices, whole).total_usd)


def test_tokens_without_a_price_are_unpriced() -> None:
    prices = price_list(row({"input": 1}))
    assert isinstance(rate(prices, request()), Cost)
    found = rate(prices, RatedRequest("m", request().at, RatedTokens(1, 1)))
    assert found == Unpriced("model m has no price of output tokens")
    found = rate(prices, RatedRequest("other", request().at, RatedTokens(1, 1)))
    assert found == Unpriced("the list has no model other")


@pytest.mark.parametrize(
    "tokens",
    [
        RatedTokens(-1, 0),
        RatedTokens(3, 0, cache_read=2, cache_write=2),
        RatedTokens(3, 0, cache_write=1, cache_write_long=2),
        RatedTokens(3, 1, reasoning=2),
    ],
)
def test_tokens_that_contradict_each_other_are_an_error(tokens: RatedTokens) -> None:
    with pytest.raises(ValueError, match="tokens"):
        rate(price_list(row(1)), RatedRequest("m", request().at, tokens))


def test_an_amount_is_written_with_all_its_digits() -> None:
    texts = {"1E+2": "100", "0.10": "0.1", "1E-24": "0." + "0" * 23 + "1", "0": "0", "100": "100"}
    assert {text: money_text(Decimal(text)) for text in texts} == texts
