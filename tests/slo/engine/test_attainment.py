"""How objectives stand: against plain lists, contracts computed by hand, and a public monitor."""

import csv
from collections import defaultdict
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slo.engine.attainment import (
    attainment_over,
    last_closed_period,
    minute_statuses,
    objective_status,
    period_of,
)
from slo.engine.credits import credit
from slo.engine.minute_counts import DAY, MinuteCounts
from slo.engine.minute_status import Attainment, MinuteStatus
from slo.policy.loading import as_policy, load_policy
from slo.policy.policy import ErrorBudgetObjective
from slo.policy.units import Money, money
from tests.support import objective_oracle as oracle
from tests.support.checks import not_none
from tests.support.objective_oracle import Latencies, Requests
from tests.support.traces import TRACES, needs_traces, reference

# 1 November 2026 is a Sunday; the month has 30 days.
NOVEMBER = int(datetime(2026, 11, 1, tzinfo=UTC).timestamp()) // 60
DECEMBER = int(datetime(2026, 12, 1, tzinfo=UTC).timestamp()) // 60
FAR_S = (DECEMBER + DAY) * 60
MONTH = {"calendar": "month"}
UP, DOWN, UNKNOWN, EXCLUDED = (
    MinuteStatus.UP,
    MinuteStatus.DOWN,
    MinuteStatus.UNKNOWN,
    MinuteStatus.EXCLUDED,
)


def objective(indicator: dict[str, Any], **changes: Any) -> ErrorBudgetObjective:
    objective = {"name": "o", "indicator": indicator, "target": "99.9%", "period": MONTH}
    policy = as_policy({"version": 1, "name": "p", "objectives": [objective | changes]}, "test")
    [found] = policy.error_budget_objectives()
    return found


def month(seen_until: int = DECEMBER) -> MinuteCounts:
    found = MinuteCounts(NOVEMBER // DAY - 1, 33)
    found.see(NOVEMBER, seen_until)
    return found


def fill(
    minute_counts: MinuteCounts, begin: int, end: int, pair: tuple[int, int], name: str = ""
) -> None:
    for minute in range(begin, end):
        minute_counts.count(minute, {name: pair})


def attained(
    of: ErrorBudgetObjective, minute_counts: MinuteCounts, excluded: Any = ()
) -> Attainment:
    return attainment_over(of, minute_counts, "", excluded, (NOVEMBER, DECEMBER), FAR_S)[0]


def preset(name: str, objective: str = "uptime") -> ErrorBudgetObjective:
    [found] = [one for one in load_policy(name).error_budget_objectives() if one.name == objective]
    return found


# -- as the oracle says of plain lists ------------------------------------------------------------

pairs = st.integers(0, 6).flatmap(lambda total: st.tuples(st.just(total), st.integers(0, total)))
SPAN = 60
spans = st.tuples(
    st.lists(pairs, min_size=SPAN, max_size=SPAN),
    st.sets(st.integers(0, SPAN - 1)),  # excluded
)
INDICATORS: list[dict[str, Any]] = [
    {"kind": "request_ratio", "min_samples": 30},
    {"kind": "latency_ratio", "measure": "ttft", "limit": "300ms"},
    {"kind": "minute_verdicts", "down_above": "34%", "down_run": 3, "unknown": "up"},
    {"kind": "minute_verdicts", "down_above": "0%", "min_samples": 2, "unknown": "down"},
    {"kind": "slice_ratio_mean", "slice": "5m"},
    {"kind": "slice_ratio_mean", "slice": "3m", "unknown": "down", "min_samples": 9},
    {"kind": "slice_percentile", "measure": "ttft", "percentile": 90, "limit": "1s"},
    {"kind": "slice_speed", "percentile": 5, "tokens_per_s": 80, "slice": "4m", "unknown": "up"},
]


def by_lists(indicator: Any, minutes: list[Any], excluded: set[int]) -> Attainment:
    kind = indicator.kind
    of_latency = kind in ("latency_ratio", "slice_percentile", "slice_speed")
    make = (lambda t, b: Latencies(t, t - b)) if of_latency else Requests
    counted: list[Any] = [
        None if at in excluded else make(*pair) for at, pair in enumerate(minutes)
    ]
    if kind == "request_ratio":
        return oracle.request_ratio(indicator, counted)
    if kind == "latency_ratio":
        return oracle.latency_ratio(indicator, counted)
    if kind == "minute_verdicts":
        return oracle.uptime(oracle.minute_statuses(indicator, counted), indicator.unknown)
    step = indicator.slice_s // 60
    slices: list[Any] = []
    for at in range(0, SPAN, step):
        left = [one for one in counted[at : at + step] if one is not None]
        slices.append(make(*map(sum, _as_bad(left, of_latency))) if left else None)
    if kind == "slice_ratio_mean":
        return oracle.slice_ratio_mean(indicator, slices)
    return oracle.uptime([oracle.slice_status(indicator, one) for one in slices], indicator.unknown)


def _as_bad(parts: list[Any], of_latency: bool) -> Any:
    if of_latency:
        parts = [(one.measured, one.measured - one.within) for one in parts]
    return zip(*parts, strict=True)


@settings(deadline=None, max_examples=60)
@given(spans)
def test_counts_are_judged_as_plain_lists_are(
    span: tuple[list[tuple[int, int]], set[int]],
) -> None:
    minutes, excluded = span
    minute_counts = month(NOVEMBER + SPAN)
    for at, pair in enumerate(minutes):
        minute_counts.count(NOVEMBER + at, {"": pair})
    stretches = [(NOVEMBER + at, NOVEMBER + at + 1) for at in sorted(excluded)]
    stretch = (NOVEMBER, NOVEMBER + SPAN)
    # All indicators judge one example: to draw it costs more than to judge it.
    for of in (objective(indicator) for indicator in INDICATORS):
        found = attainment_over(of, minute_counts, "", stretches, stretch, FAR_S)[0]
        expected = by_lists(of.indicator, minutes, excluded)
        assert found.counted == expected.counted, of.indicator
        assert abs(found.good - expected.good) < Fraction(1, 10**28), of.indicator


# -- contracts, by hand --------------------------------------------------------------------------


def test_bedrock_style_an_hour_of_total_failure_costs_twelve_of_8640_slices() -> None:
    of = preset("bedrock-style")
    minute_counts = month()
    fill(minute_counts, NOVEMBER, NOVEMBER + 300, (10, 0))
    fill(
        minute_counts, NOVEMBER + 300, NOVEMBER + 360, (1, 1)
    )  # few requests weigh as much as many
    # The other 8,568 slices had no request: each counts as 100 %.
    found = attained(of, minute_counts)
    assert found == Attainment(Fraction(8_628), 8_640)
    assert found.ratio == 1 - Fraction(12, 8_640)  # 99.861 %: below 99.9 %
    assert credit(not_none(of.sla), found.ratio, money("10000 USD")) == Money(Decimal(1_000), "USD")


def test_gemini_style_counts_only_runs_of_five_minutes() -> None:
    of = preset("gemini-style")
    minute_counts = month()
    fill(minute_counts, NOVEMBER, DECEMBER, (100, 0))
    fill(minute_counts, NOVEMBER + 100, NOVEMBER + 104, (100, 6))  # four minutes: a blip
    fill(minute_counts, NOVEMBER + 200, NOVEMBER + 205, (100, 6))  # five: down
    fill(minute_counts, NOVEMBER + 300, NOVEMBER + 400, (100, 5))  # exactly 5 %: not more than 5 %
    fill(minute_counts, NOVEMBER + 1_000, NOVEMBER + 1_211, (100, 100))
    found = attained(of, minute_counts)
    assert found == Attainment(Fraction(43_200 - 216), 43_200)
    assert found.ratio == Fraction(995, 1_000)  # exactly the target
    assert credit(not_none(of.sla), found.ratio, money("10000 USD")).amount == 0
    fill(minute_counts, NOVEMBER + 1_211, NOVEMBER + 1_212, (100, 100))  # one minute more
    found = attained(of, minute_counts)
    assert credit(not_none(of.sla), found.ratio, money("10000 USD")) == Money(Decimal(1_000), "USD")


def test_azure_style_a_thousand_failures_in_a_million_are_exactly_at_the_target() -> None:
    of = preset("azure-style")
    minute_counts = month()
    minute_counts.count(NOVEMBER + 5, {"": (999_999, 999)})
    minute_counts.reconcile(NOVEMBER + 60, 60, {"": (1, 1)})  # known only by the hour
    assert attained(of, minute_counts).ratio == Fraction(999, 1_000)
    assert credit(not_none(of.sla), Fraction(999, 1_000), money("10000 USD")).amount == 0
    minute_counts.count(NOVEMBER + 5, {"": (1_000_000, 1_000)})  # a late failure
    assert attained(of, minute_counts) == Attainment(Fraction(999_000), 1_000_001)
    assert (
        credit(not_none(of.sla), attained(of, minute_counts).ratio, money("10000 USD")).amount
        == 1_000
    )


def test_scale_tier_style_speed_is_kept_if_half_of_a_slice_is_fast() -> None:
    of = preset("openai-scale-style", "speed")
    minute_counts = month()
    fill(
        minute_counts, NOVEMBER, NOVEMBER + 5, (2, 1)
    )  # 5 of 10 are slow: the fifth sample is slow
    fill(minute_counts, NOVEMBER + 5, NOVEMBER + 10, (3, 1))
    found, seen = minute_statuses(of, minute_counts, "", (), (NOVEMBER, NOVEMBER + 15))
    assert found.tolist() == [DOWN, UP, UNKNOWN]
    assert seen.all()


# -- what is not known ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["minute_verdicts", "slice_ratio_mean"])
@pytest.mark.parametrize("unknown", ["up", "down", "excluded"])
def test_silence_is_what_the_policy_says_and_ignorance_is_nothing(kind: str, unknown: str) -> None:
    indicator = {"kind": kind, "unknown": unknown}
    of = objective(indicator | ({"down_above": "5%"} if kind == "minute_verdicts" else {}))
    step = 1 if kind == "minute_verdicts" else 5
    minute_counts = month(
        NOVEMBER + 20
    )  # 20 minutes without a request, and nobody looked afterwards
    minute_counts.lose(NOVEMBER + 10, NOVEMBER + 15)
    silent = 15 // step
    expected = {"up": (silent, silent), "down": (0, silent), "excluded": (0, 0)}[unknown]
    assert attained(of, minute_counts) == Attainment(Fraction(expected[0]), expected[1])


def test_slices_without_requests_count_for_a_mean_only_if_the_policy_says_so() -> None:
    minute_counts = month(NOVEMBER + 20)
    fill(minute_counts, NOVEMBER, NOVEMBER + 5, (10, 5))
    by_default = objective({"kind": "slice_ratio_mean"})
    assert attained(by_default, minute_counts) == Attainment(Fraction(1, 2), 1)
    up = objective({"kind": "slice_ratio_mean", "unknown": "up"})
    assert attained(up, minute_counts) == Attainment(Fraction(7, 2), 4)


def test_a_minute_of_which_records_were_lost_is_neither_up_nor_down() -> None:
    of = objective({"kind": "minute_verdicts", "down_above": "5%"})
    minute_counts = month()
    fill(minute_counts, NOVEMBER, NOVEMBER + 4, (10, 0))
    minute_counts.lose(NOVEMBER + 1, NOVEMBER + 2)
    found, _ = minute_statuses(of, minute_counts, "", (), (NOVEMBER, NOVEMBER + 5))
    assert found.tolist() == [UP, UNKNOWN, UP, UP, UNKNOWN]
    assert attained(of, minute_counts) == Attainment(Fraction(3), 3)


def test_a_run_that_begins_before_the_period_is_down_in_it() -> None:
    of = objective({"kind": "minute_verdicts", "down_above": "5%", "down_run": 5})
    minute_counts = month()
    minute_counts.see(NOVEMBER - 60, NOVEMBER)
    fill(minute_counts, NOVEMBER - 4, NOVEMBER + 1, (10, 10))
    assert attained(of, minute_counts) == Attainment(Fraction(0), 1)


# -- periods, burn rates, projections ------------------------------------------------------------


def test_a_month_begins_at_midnight_of_its_zone() -> None:
    of = objective({"kind": "request_ratio"}, period=MONTH | {"zone": "America/New_York"})
    begin, end = period_of(of.period, NOVEMBER * 60 + 5 * 86_400)
    # Daylight saving ends on 1 November 2026: the month begins at UTC-4 and ends at UTC-5.
    assert (begin, end) == (NOVEMBER + 4 * 60, DECEMBER + 5 * 60)
    assert last_closed_period(of.period, DECEMBER * 60 + 5 * 3_600) == (begin, end)
    assert period_of(of.period, NOVEMBER * 60)[1] == begin


def test_a_rolling_period_ends_with_the_running_minute() -> None:
    of = objective({"kind": "request_ratio"}, period={"rolling_days": 7})
    assert period_of(of.period, NOVEMBER * 60 + 59) == (NOVEMBER + 1 - 7 * DAY, NOVEMBER + 1)
    assert last_closed_period(of.period, NOVEMBER * 60 + 59) == (NOVEMBER - DAY, NOVEMBER)


def test_burn_rates_and_projections_by_hand() -> None:
    # 100 requests a minute for ten days, and in the last hour 2 of 100 fail.
    of = objective({"kind": "request_ratio"})
    now = NOVEMBER + 10 * DAY
    minute_counts = month()
    fill(minute_counts, NOVEMBER, now - 60, (100, 0))
    fill(minute_counts, now - 60, now, (100, 2))
    found = objective_status(of, minute_counts, "", (), now * 60 - 1)
    assert found.attainment == Attainment(Fraction(1_439_880), 1_440_000)
    assert found.budget_left == 1 - Fraction(120, 1_440)
    assert found.burn["5m"] == found.burn["1h"] == 20
    assert found.burn["6h"] == Fraction(20, 6)
    assert found.burn["1d"] == Fraction(20, 24)
    assert found.eligible["5m"] == 500
    assert found.eligible["3d"] == 432_000
    assert found.exhausted_at_s is None  # 0.028 + 20 / 24 * 20 / 30 < 1
    # The other 20 days (and one second) as the last one, in which 120 of 144,000 failed.
    ahead = Fraction(20 * 86_400 + 1, 86_400) * 144_000
    good = 1_439_880 + ahead * (1 - Fraction(120, 144_000))
    assert found.projected == good / (1_440_000 + ahead)


def test_the_day_on_which_the_budget_of_the_month_is_used_up() -> None:
    # 0.3 % fail, three times what the target allows: after a third of the month nothing is left.
    of = objective({"kind": "request_ratio"})
    minute_counts = month()
    fill(minute_counts, NOVEMBER, NOVEMBER + 5 * DAY, (1_000, 3))
    found = objective_status(of, minute_counts, "", (), (NOVEMBER + 5 * DAY) * 60)
    tenth = (NOVEMBER + 10 * DAY) * 60
    assert found.exhausted_at_s is not None
    assert abs(found.exhausted_at_s - tenth) <= 240  # the running minute is still empty
    # Of the budget that was due in five days nothing is left; of that of the month, a half.
    assert found.budget_left == -2
    assert found.is_budget_spent is False
    fill(minute_counts, NOVEMBER + 5 * DAY, NOVEMBER + 11 * DAY, (1_000, 3))
    late_s = (NOVEMBER + 11 * DAY) * 60
    late = objective_status(of, minute_counts, "", (), late_s)
    assert (late.exhausted_at_s, late.is_budget_spent) == (late_s, True)


def test_nothing_is_said_of_a_promise_about_which_nothing_is_known() -> None:
    found = objective_status(
        objective({"kind": "request_ratio"}), month(NOVEMBER), "", (), NOVEMBER * 60
    )
    assert found.attainment.ratio is found.budget_left is found.projected is None
    assert found.is_budget_spent is None
    assert found.burn == {}


# -- a public uptime monitor -----------------------------------------------------------------------


@needs_traces
@pytest.mark.parametrize(
    "trace",
    ["upptime_dynamisai", pytest.param("upptime_happydoc", marks=pytest.mark.slow)],
)
def test_downtime_of_public_sites_is_what_their_monitor_published(trace: str) -> None:
    """Each site is probed once a minute, and the probe fails if the site is down right then.

    Tolerances: the reference's two minutes a day, and a minute an outage, as we count whole ones.
    """
    of = objective(
        {"kind": "minute_verdicts", "down_above": "0%"},
        scope={"per": "model"},
        period={"rolling_days": 400},
    )
    checks = defaultdict(list)
    with (TRACES / trace / "checks.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            checks[row["site"]].append((int(row["commit_unix_s"]), row["status"]))
    compared = days_compared = 0
    for site, answer in reference(trace)["sites"].items():
        found = sorted(checks[site])
        begin, end = found[0][0] // 60, found[-1][0] // 60
        if end - begin < DAY:
            continue
        minute_counts = MinuteCounts(begin // DAY, end // DAY - begin // DAY + 1)
        at, status = 0, found[0][1]
        for minute in range(begin, end):
            while at < len(found) and found[at][0] <= minute * 60 + 30:
                status = found[at][1]
                at += 1
            minute_counts.count(minute, {site: (1, int(status == "down"))})
        minute_counts.see(begin, end)
        total, by_verdict = attainment_over(of, minute_counts, site, (), (begin, end), end * 60)
        intervals = len(answer["down_intervals_unix_s"])
        assert abs(by_verdict[DOWN] - answer["down_minutes"]) <= intervals
        assert total.ratio is not None
        if answer["published_uptime"] is not None:
            published = Fraction(answer["published_uptime"].rstrip("%")) / 100
            assert abs(total.ratio - published) <= Fraction(1, 10_000), site
            compared += 1
        for day, minutes in answer["published_daily_minutes_down"].items():
            first = int(datetime.fromisoformat(f"{day}T00:00Z").timestamp()) // 60
            _, of_day = attainment_over(of, minute_counts, site, (), (first, first + DAY), end * 60)
            outages = [
                one
                for one in answer["down_intervals_unix_s"]
                if one[0] < (first + DAY) * 60 and first * 60 < one[1]
            ]
            assert abs(of_day[DOWN] - minutes) <= 2 + len(outages), (site, day)
            days_compared += 1
    assert compared >= 4
    assert days_compared >= 10
