"""Annual run rates, movements and retention: golden numbers, and laws that hold for any history."""

import json
from datetime import date, timedelta
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporters.revenue.history import DaySpan, Revenue, parse_span
from exporters.revenue.movements import MOVEMENTS, bridge
from streams.errors import RequestError
from tests.support.traces import TRACES, needs_traces

GOLDEN = TRACES / "business" / "golden" / "golden.json"
YEAR_BEFORE = DaySpan(date(2025, 6, 1), date(2025, 7, 1))
JUNE, JULY = (
    DaySpan(date(2026, 6, 1), date(2026, 7, 1)),
    DaySpan(date(2026, 7, 1), date(2026, 7, 31)),
)


def revenue(account: str, segment: str, span: DaySpan, usd: Any) -> Revenue:
    return Revenue(account, segment, span, Fraction(usd))


def exact(text: str) -> Fraction:
    """Return the number of `8851250/3 ~ 2950416.667`."""
    return Fraction(text.partition(" ~ ")[0])


@needs_traces
def test_a_published_bridge_comes_out_to_the_last_digit() -> None:
    golden = json.loads(GOLDEN.read_text())["2_bridge_30d"]
    history = []
    for account, (segment, start, end, note) in golden["accounts"].items():
        history += [revenue(account, segment, JUNE, start), revenue(account, segment, JULY, end)]
        if note.startswith("reactivated"):
            history.append(revenue(account, segment, YEAR_BEFORE, 1))
    found = bridge(history, JUNE, JULY)
    assert found.start_arr_usd == exact(golden["arr_start"])
    assert found.end_arr_usd == exact(golden["arr_end"])
    assert found.end_arr_usd - found.start_arr_usd == exact(golden["net_new_arr"])
    factor = exact(golden["arr_factor"])
    assert found.movements_usd == {
        name: exact(usd) * factor for name, usd in golden["movements"].items()
    }
    assert found.retention.net_ratio == exact(golden["nrr_all"])
    assert found.retention.gross_ratio == exact(golden["grr_all"])
    for segment, ratio in golden["nrr"].items():
        assert found.retention_by_segment[segment].net_ratio == exact(ratio)
        assert found.retention_by_segment[segment].gross_ratio == exact(golden["grr"][segment])


AMOUNTS = st.integers(-5, 20).map(lambda number: Fraction(number, 3))
HISTORIES = st.dictionaries(
    st.sampled_from("abcdef"),
    st.tuples(*[st.sampled_from(["smb", "all"])] * 2, *[st.none() | AMOUNTS] * 3),
    min_size=1,
).map(
    lambda accounts: [
        revenue(account, segment, span, usd)
        for account, (first, later, *amounts) in accounts.items()
        for segment, span, usd in zip(
            (first, first, later), (YEAR_BEFORE, JUNE, JULY), amounts, strict=True
        )
        if usd is not None
    ]
)


@given(HISTORIES.filter(bool))
def test_movements_add_up_and_retention_is_that_of_a_fixed_cohort(history: list[Revenue]) -> None:
    found = bridge(history, JUNE, JULY)
    assert found.start_arr_usd + sum(found.movements_usd.values()) == found.end_arr_usd
    assert set(found.movements_usd) == set(MOVEMENTS)
    whole = found.retention
    # Accounts without revenue at the start change nothing.
    paying = {row.account for row in history if row.span == JUNE and row.net_usd > 0}
    assert whole.accounts == len(paying)
    if paying:
        cohort = bridge([row for row in history if row.account in paying], JUNE, JULY)
        assert cohort.retention == found.retention
        assert whole.net_ratio == cohort.end_arr_usd / cohort.start_arr_usd
        assert whole.gross_ratio is not None
        assert whole.net_ratio is not None
        assert whole.gross_ratio <= min(whole.net_ratio, Fraction(1))
    else:
        assert (whole.net_ratio, whole.gross_ratio) == (None, None)
    segments = found.retention_by_segment.values()
    assert sum(one.accounts for one in segments) == whole.accounts


@given(st.sampled_from([28, 30, 31]), st.integers(1, 1_000))
def test_the_same_revenue_a_day_is_the_same_run_rate_in_months_of_any_length(
    days: int, usd_a_day: int
) -> None:
    second = DaySpan(JUNE.end, JUNE.end + timedelta(days=days))
    history = [
        revenue("a", "smb", JUNE, 30 * usd_a_day),
        revenue("a", "smb", second, days * usd_a_day),
    ]
    found = bridge(history, JUNE, second)
    assert found.start_arr_usd == found.end_arr_usd == 365 * usd_a_day
    assert set(found.movements_usd.values()) == {0}


def test_a_line_that_lies_partly_in_a_window_is_an_error() -> None:
    half = parse_span("2026-06-15..2026-07-15")
    with pytest.raises(RequestError, match=r"2026-06-15\.\.2026-07-15 lies partly in it"):
        bridge([revenue("a", "smb", half, 1)], JUNE, JULY)
