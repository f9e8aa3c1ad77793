"""Numbers as people read them, and what they must never claim."""

from decimal import Decimal
from fractions import Fraction
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporters import formatting as fmt
from exporters.board.sparkline import HEIGHT, WIDTH, sparkline


@pytest.mark.parametrize(
    ("ratio", "shown"),
    [
        (None, "unknown"),
        (float("nan"), "unknown"),
        (0.0, "0 %"),
        (1.0, "100 %"),
        (0.9996, "99.96 %"),
        (0.99968, "99.968 %"),
        (0.999996, "99.999 %"),
        (0.9999999999, "99.999 %"),
        (0.5, "50 %"),
        (0.48312, "48.3 %"),
        (0.00123, "0.12 %"),
        (0.0000004, "0.00004 %"),
        (1e-12, "0.000001 %"),
        (-0.29, "-29 %"),
        (0.0144, "1.4 %"),
        (1.344, "134 %"),
        (1.92315, "192 %"),
        (1.0004, "100.04 %"),
        (-2.471, "-247 %"),
        (Fraction(999_999_999, 10**9), "99.999 %"),
        (Fraction(1, 3), "33.3 %"),
    ],
)
def test_a_ratio_is_a_percent_and_never_100_or_0_unless_it_is(
    ratio: Fraction | float | None, shown: str
) -> None:
    assert fmt.percent(ratio) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "unknown"),
        (0.0, "0 ms"),
        (0.00941, "9.4 ms"),
        (0.0423, "42.3 ms"),
        (0.2124, "212 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1 s"),
        (1.236, "1.24 s"),
        (75.0, "75 s"),
    ],
)
def test_a_latency_has_a_unit_that_fits(seconds: float | None, shown: str) -> None:
    assert fmt.latency(seconds) == shown


def test_a_number_is_shown_on_its_side_of_the_target() -> None:
    assert fmt.latency(0.2996, 0.3) == "299.6 ms"
    assert fmt.latency(0.3, 0.3) == "300 ms"
    assert fmt.latency(0.30004, 0.3) == "300.04 ms"
    assert fmt.percent(0.39999, 0.4) == "39.999 %"
    assert fmt.percent(0.39999, Fraction(2, 5)) == "39.999 %"
    assert fmt.percent(0.999004, 0.999) == "99.9004 %"


def number_of(shown: str) -> Decimal:
    return Decimal(shown.split(" ")[0])


@given(st.floats(0, 1), st.floats(0.001, 0.999))
def test_rounding_never_moves_a_ratio_across_its_target_or_to_100(
    ratio: float, target: float
) -> None:
    shown = number_of(fmt.percent(ratio, target))
    for limit in (0, target, 1):
        exact, edge = Decimal(repr(ratio)), Decimal(repr(limit))
        if exact < edge:
            assert shown < edge * 100
        elif exact > edge:
            assert shown > edge * 100
        else:
            # 16 digits of a target are more than are shown of a number.
            assert abs(shown - edge * 100) <= Decimal("0.000001")


@given(st.floats(0, 100), st.floats(0.001, 10))
def test_rounding_never_moves_a_latency_across_its_target(seconds: float, target: float) -> None:
    shown = fmt.latency(seconds, target)
    factor = 1 if shown.endswith(" s") else 1000
    exact, edge = Decimal(repr(seconds)), Decimal(repr(target))
    if exact != edge:
        assert (number_of(shown) / factor < edge) == (exact < edge)
    assert abs(number_of(shown) / factor - exact) <= Decimal("0.0051")


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (None, "unknown"),
        (0, "0"),
        (7, "7"),
        (41.26, "41.3"),
        (12_345, "12,345"),
        (99_999, "99,999"),
        (99_999.7, "100,000"),
        (100_000, "100 k"),
        (999_499, "999 k"),
        (999_960, "1 M"),
        (1_234_567, "1.23 M"),
        (12_370_350, "12.4 M"),
        (345_000_000, "345 M"),
        (7_100_000_000, "7.1 B"),
        (2.5e12, "2.5 T"),
        (2.5e15, "2500 T"),
    ],
)
def test_tokens_have_three_digits_once_they_are_many(number: float | None, shown: str) -> None:
    assert fmt.tokens(number) == shown


@given(st.floats(0, 1e14))
def test_shown_tokens_are_near_the_number(number: float) -> None:
    digits, _, letter = fmt.tokens(number).partition(" ")
    steps = {"": 1, "k": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
    shown = float(digits.replace(",", "")) * steps[letter]
    assert abs(shown - number) <= max(0.5, 0.005 * number)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "unknown"),
        (-0.2, "0.0 s"),
        (0.84, "0.8 s"),
        (9.96, "10 s"),
        (59.6, "1 min"),
        (200, "3 min 20 s"),
        (3_600, "1 h"),
        (7_500, "2 h 5 min"),
        (273_600, "3 d 4 h"),
    ],
)
def test_an_age_has_two_units_at_most(seconds: float | None, shown: str) -> None:
    assert fmt.span(seconds) == shown


@pytest.mark.parametrize(
    ("shown", "written"),
    [
        (fmt.count(1_234_567), "1,234,567"),
        (fmt.count(0), "0"),
        (fmt.count(None), "unknown"),
        (fmt.points(-0.0041), "0.41 points"),
        (fmt.points(0.0375), "3.8 points"),
        (fmt.points(0.00012), "0.012 points"),
        (fmt.points(0.0), "0 points"),
        (fmt.points(None), "unknown"),
        (fmt.money(Decimal(1250), "USD"), "1,250.00 USD"),
        (fmt.budget_left(None), "unknown"),
        (fmt.budget_left(0.7321), "73.2 % left"),
        (fmt.budget_left(0.0), "all spent"),
        (fmt.budget_left(-0.118), "overdrawn by 11.8 %"),
        (fmt.budget_left(Fraction(1, 3)), "33.3 % left"),
    ],
)
def test_amounts_have_their_units(shown: str, written: str) -> None:
    assert shown == written


def test_a_burn_rate_is_kept_on_its_side_of_sustainable() -> None:
    assert [fmt.burn_rate(one) for one in (None, 0.0, 0.42, 0.98, 1.0, 1.02, 14.4)] == [
        "unknown", "0×", "0.4×", "0.98×", "1×", "1.02×", "14.4×",
    ]  # fmt: skip
    assert fmt.burn_rate(14.41, Fraction(144, 10)) == "14.41×"


def test_a_number_is_not_parted_from_its_unit() -> None:
    assert fmt.unbroken("99.9 % of 12 requests in 300 ms at 12:00:05 UTC; 3 small models") == (
        "99.9\u00a0% of 12 requests in 300\u00a0ms at 12:00:05\u00a0UTC; 3 small models"
    )
    assert fmt.unbroken("0.4 points lower, 1,250.00 USD due on 2026-11-04 12:00") == (
        "0.4\u00a0points lower, 1,250.00\u00a0USD due on 2026-11-04\u00a012:00"
    )


def test_times_name_their_zone() -> None:
    at_s = 1_795_348_985
    assert fmt.instant(at_s) == "2026-11-22 12:03:05 UTC"
    assert fmt.minute(at_s, ZoneInfo("Asia/Tokyo")) == "2026-11-22 21:03"
    assert fmt.rfc3339(at_s) == "2026-11-22T12:03:05Z"
    assert [fmt.month(one) for one in ("2026-11-22", "not a date")] == ["Nov", "not a date"]


def test_a_target_is_written_as_it_was_set() -> None:
    ratios = (0.999, 0.4, 1.0, 0.9995, Fraction(999, 1000))
    shown = [fmt.exact_percent(one) for one in ratios]
    assert shown == ["99.9 %", "40 %", "100 %", "99.95 %", "99.9 %"]
    seconds = (0.3, 0.3005, 1.5, Fraction(3, 10), 0.0005)
    shown = [fmt.exact_latency(one) for one in seconds]
    assert shown == ["300 ms", "300.5 ms", "1.5 s", "300 ms", "500 us"]


def test_a_sparkline_has_gaps_where_nothing_is_known_and_a_dot_for_a_value_alone() -> None:
    drawn = sparkline([1.0, 2.0, None, 3.0, None, float("nan"), 2.0, 1.0], None, str)
    starts = drawn.line.count("M")
    assert starts == 3
    first, alone, _ = drawn.line.split(" M")
    assert first.startswith("M0 ")
    assert alone.split("L")[0] == alone.split("L")[1], "a line of no length"
    assert drawn.words == "Last 8 minutes: 1.0 to 3.0; 3 of them unknown."
    assert drawn.last is not None


def test_a_sparkline_without_a_newest_value_marks_none() -> None:
    assert sparkline([1.0, None], None, str).last is None


def test_a_sparkline_of_nothing_says_so() -> None:
    drawn = sparkline([None, None], 0.3, str)
    assert (drawn.line, drawn.area, drawn.target_y) == ("", "", None)
    assert drawn.words == "Last 2 minutes: nothing known."
    assert sparkline([], None, str).line == ""


@given(
    st.lists(st.none() | st.floats(-1e12, 1e12), max_size=60), st.none() | st.floats(-1e12, 1e12)
)
def test_a_sparkline_stays_inside_its_drawing(
    values: list[float | None], target: float | None
) -> None:
    drawn = sparkline(values, target, str)
    pairs = drawn.line.replace("M", " ").replace("L", " ").split()
    assert all(0 <= float(x) <= WIDTH for x in pairs[::2])
    assert all(0 <= float(y) <= HEIGHT for y in pairs[1::2])
    if drawn.target_y is not None:
        assert 0 <= drawn.target_y <= HEIGHT
