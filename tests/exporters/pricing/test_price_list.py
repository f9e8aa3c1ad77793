"""Which row of a price list counts, and which lists are refused."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporters.pricing.price_list import WEEKDAYS, read_price_list
from exporters.pricing.rating import RatedRequest, RatedTokens, Unpriced, applies, find_price
from streams.errors import ConfigError
from tests.support.price_samples import conflicts, price_list, request, row

MAY = "2026-05-01T00:00:00Z"
DAYS = [datetime(2026, month, 1, tzinfo=UTC) for month in range(1, 6)]


def found(*rows: dict[str, Any], **asked: Any) -> float | str:
    """Return the input price of a request, or why it has none."""
    price = find_price(price_list(*rows), request(**asked))
    return price.reason if isinstance(price, Unpriced) else float(price.usd_per_mtok.input or 0)


def test_a_price_changes_at_its_instant() -> None:
    rows = row(1, to=MAY), row(2, begin=MAY)
    assert conflicts(*rows) == []
    assert found(*rows, at="2026-04-30T23:59:59.999Z") == 1
    assert found(*rows, at=MAY) == 2
    assert found(*rows, at="2026-05-01T01:30:00+02:00") == 1
    assert "no price that applies at 2025-12-31" in str(found(*rows, at="2025-12-31T00:00:00Z"))


def test_a_higher_price_of_long_requests_holds_above_its_limit() -> None:
    rows = row(1), row(2, above_input_tokens=200_000)
    assert [found(*rows, input_tokens=tokens) for tokens in (200_000, 200_001)] == [1, 2]
    rows = row(1), row(2, above_input_tokens=200_000, inclusive=True)
    assert [found(*rows, input_tokens=tokens) for tokens in (199_999, 200_000)] == [1, 2]


def test_hours_and_weekdays_are_those_of_utc() -> None:
    rows = (
        row(4),
        row(2, hours_utc="22:00-04:00"),
        row(1, weekdays=["sat", "sun"]),
        row(1, weekdays=["sat", "sun"], hours_utc="22:00-04:00"),
    )
    assert conflicts(*rows) == []
    assert found(*rows, at="2026-11-20T21:59:59Z") == 4
    assert found(*rows, at="2026-11-20T22:00:00Z") == 2
    assert found(*rows, at="2026-11-21T00:30:00Z") == 1
    assert found(*rows, at="2026-11-20T04:00:00Z") == 4
    assert found(*rows, at="2026-11-21T01:00:00+02:00") == 2  # still Friday in UTC


def test_a_tier_without_a_row_has_no_price_unless_the_list_says_so() -> None:
    rows = row(2), row(1, service_tier="batch")
    assert found(*rows, service_tier="batch") == 1
    assert found(*rows, service_tier="default") == 2
    assert found(*rows, service_tier="flex") == "model m has no price of the service tier flex"
    prices = price_list(*rows, tier_fallback="standard")
    price = find_price(prices, request(service_tier="flex"))
    assert not isinstance(price, Unpriced)
    assert price.usd_per_mtok.input == 2


def test_a_provider_must_be_given_if_there_are_prices_of_several() -> None:
    rows = row(1, provider="a"), row(2, provider="b")
    assert found(*rows, provider="b") == 2
    assert found(*rows) == "model m has prices of a, b, and no provider is given"
    assert found(rows[0]) == 1


@pytest.mark.parametrize(
    "rows",
    [
        (row(1), row(2)),
        (row(1), row(2, begin=MAY)),
        (row(1, channel="api"), row(2, region="eu")),
        (row(1, provider="a"), row(2, above_input_tokens=9)),
        (row(1, hours_utc="01:00-03:00"), row(2, hours_utc="02:00-04:00")),
        (row(1, weekdays=["mon", "tue"]), row(2, weekdays=["tue", "wed"])),
        # The row of both ends before they do.
        (row(1, channel="api"), row(2, region="eu"), row(3, channel="api", region="eu", to=MAY)),
    ],
)
def test_two_rows_of_which_neither_is_more_specific_are_refused(rows: tuple[Any, ...]) -> None:
    assert conflicts(*rows)
    assert conflicts(*reversed(rows))


def test_a_row_for_all_that_two_others_apply_to_decides() -> None:
    rows = row(1, channel="api"), row(2, region="eu"), row(3, channel="api", region="eu")
    assert conflicts(*rows) == []
    assert found(*rows, channel="api", region="eu") == 3
    parts = (
        row(3, channel="api", region="eu", to=MAY),
        row(4, channel="api", region="eu", begin=MAY),
    )
    assert conflicts(rows[0], rows[1], *parts) == []


ROWS = st.builds(
    lambda keys, begin, length, weekdays: row(
        1,
        begin=DAYS[begin].isoformat(),
        **({"to": DAYS[begin + length].isoformat()} if begin + length < len(DAYS) else {}),
        **({"weekdays": weekdays} if weekdays else {}),
        **{name: value for name, value in keys.items() if value is not None},
    ),
    st.fixed_dictionaries(
        {
            "provider": st.sampled_from([None, None, "a"]),
            "channel": st.sampled_from([None, None, "api"]),
            "service_tier": st.sampled_from([None, None, "batch"]),
            "above_input_tokens": st.sampled_from([None, None, 5, 9]),
            "hours_utc": st.sampled_from([None, None, "00:00-12:00", "06:00-18:00"]),
        }
    ),
    st.integers(0, 3),
    st.integers(1, 4),
    st.lists(st.sampled_from(WEEKDAYS[:3]), max_size=2, unique=True),
)
ASKED = [
    RatedRequest("m", day + timedelta(days=weekday, hours=hour), RatedTokens(tokens, 0), *names)
    for day in DAYS
    for weekday in range(7)
    for hour in (0, 6, 12, 18)
    for tokens in (1, 6, 10)
    for names in ((None, None), ("a", None), (None, "api"), ("a", "api"))
]


@given(st.lists(ROWS, min_size=2, max_size=4))
def test_a_list_is_refused_exactly_if_some_request_has_no_most_specific_row(
    rows: list[dict[str, Any]],
) -> None:
    """Every request is asked for that differs in what rows can tell apart."""
    prices = price_list(*rows)

    def is_ambiguous(asked: RatedRequest) -> bool:
        for tier in ("standard", "batch"):
            rows = [
                one for one in prices.prices if one.service_tier == tier and applies(one, asked)
            ]
            best = [
                one
                for one in rows
                if all(
                    other is one or (other.contains(one) and not one.contains(other))
                    for other in rows
                )
            ]
            if rows and not best:
                return True
        return False

    assert bool(list(prices.conflicts())) == any(map(is_ambiguous, ASKED))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("version: 2\nprices: []\n", "prices"),
        ("version: 2\nprices:\n- {model: m, usd_per_mtok: {input: 1}}\n", "from"),
        (
            "version: 2\nprices:\n- {model: m, from: 2026-01-01, usd_per_mtok: {input: 1}}\n",
            "from: got '2026-01-01'; give an instant with its zone",
        ),
        (
            "version: 2\nprices:\n"
            "- {model: m, from: 2026-01-01T00:00:00Z, usd_per_mtok: {cache_read: 1}}\n",
            "price of input or output",
        ),
        (
            "version: 2\nprices:\n- {model: m, from: 2026-01-01T00:00:00Z, "
            "hours_utc: 25:00-26:00, usd_per_mtok: {input: 1}}\n",
            "hours_utc",
        ),
        (
            "version: 2\nprices:\n- {model: m, from: 2026-01-01T00:00:00Z, "
            "to: 2026-01-01T00:00:00Z, usd_per_mtok: {input: 1}}\n",
            "later than `from`",
        ),
        (
            "version: 2\nprices:\n- {model: m, from: 2026-01-01T00:00:00Z, "
            "usd_per_mtok: {input: -1}}\n",
            "usd_per_mtok.input: got -1",
        ),
    ],
)
def test_a_mistake_is_one_line_with_its_place(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read_price_list(text, "prices.yaml")
    (line,) = str(raised.value).splitlines()
    assert line.startswith("prices.yaml: ")
    assert words in line
