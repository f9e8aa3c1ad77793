"""Norms are medians of days, and a change says whether it is for the better."""

from dataclasses import replace
from typing import Any

import pytest

from exporters.daily.day.counts import Counts
from exporters.daily.day.facts import BoardTargets, Day, Trend, Value
from exporters.daily.day.metrics import board_targets, latency_mark, values_of
from exporters.daily.day.trends import base_of, trends
from slo.policy.loading import load_policies
from slo.policy.targets import targets_of
from tests.support.checks import not_none

NONE = BoardTargets(None, None, None, None, None)
TARGETS = board_targets(targets_of(load_policies(["default"])))


def day(**values: float | None) -> Day:
    shown = values_of(Counts(requests=1, eligible=1), NONE)
    known = {name: Value(value, 1, "unknown") for name, value in values.items()}
    nothing = {name: Value(None, 0, "unknown") for name in ("tokens", "availability_ratio")}
    changed: dict[str, Any] = {**nothing, **known}
    return Day("2026-11-10", 0, 86_400, "sealed", True, replace(shown, **changed))


def of(found: tuple[Trend, ...], metric: str) -> Trend:
    return next(one for one in found if one.metric == metric)


def test_the_norm_is_the_median_so_one_bad_day_changes_nothing() -> None:
    before = [day(ttft_p95_s=0.2) for _ in range(27)] + [day(ttft_p95_s=9.0)]
    found = of(trends(day(ttft_p95_s=0.25), before), "ttft_p95_s")
    assert (found.norm_7d, found.norm_28d) == (0.2, 0.2)
    assert found.change_28d == pytest.approx(0.05)
    assert found.better is False


@pytest.mark.parametrize(
    ("days_known", "weekly", "monthly"), [(2, False, False), (3, True, False), (7, True, True)]
)
def test_a_norm_needs_three_days_of_a_week_and_seven_of_four(
    days_known: int, weekly: bool, monthly: bool
) -> None:
    before = [day() for _ in range(28 - days_known)]
    before += [day(ttft_p95_s=0.2) for _ in range(days_known)]
    found = of(trends(day(ttft_p95_s=0.1), before), "ttft_p95_s")
    assert (found.norm_7d is not None, found.norm_28d is not None) == (weekly, monthly)
    assert found.better is (True if weekly else None)


@pytest.mark.parametrize(("value", "better"), [(0.22, None), (0.18, None), (0.3, False)])
def test_a_change_within_the_usual_spread_is_not_judged(value: float, better: bool | None) -> None:
    before = [day(ttft_p95_s=0.2 + 0.01 * (at % 5 - 2)) for at in range(28)]
    found = of(trends(day(ttft_p95_s=value), before), "ttft_p95_s")
    assert found.change_28d == pytest.approx(value - 0.2)
    assert found.better is better


def test_only_the_28_days_before_count() -> None:
    before = [day(ttft_p95_s=9.0) for _ in range(31)] + [day(ttft_p95_s=0.2) for _ in range(28)]
    assert of(trends(day(ttft_p95_s=0.2), before), "ttft_p95_s").norm_28d == 0.2


def test_tokens_change_as_a_share_and_not_while_the_day_runs() -> None:
    before = [day(tokens=1_000.0) for _ in range(28)]
    over = of(trends(day(tokens=900.0), before), "tokens")
    # Weekdays differ, so tokens are judged by growth.py alone.
    assert (over.change_28d, over.better) == (-0.1, None)
    running = of(trends(replace(day(tokens=400.0), state="running"), before), "tokens")
    assert (running.norm_28d, running.change_28d, running.better) == (1_000.0, None, None)


def test_tokens_are_held_against_the_same_weekday_so_a_weekend_is_no_fall() -> None:
    weekend = {5, 6}
    tokens = [600.0 if at % 7 in weekend else 1_000.0 for at in range(29)]
    before = [day(tokens=one) for one in tokens[:-1]]
    saturday = of(trends(day(tokens=600.0), before[-21:-1]), "tokens")  # two Saturdays before
    assert (saturday.norm_7d, saturday.change_7d) == (600.0, 0.0)
    assert (saturday.norm_28d, saturday.change_28d) == (None, None)
    monday = of(trends(day(tokens=1_100.0), before), "tokens")
    assert (monday.norm_7d, monday.norm_28d) == (1_000.0, 1_000.0)
    assert monday.change_28d == pytest.approx(0.1)


def test_a_day_of_which_a_part_is_missing_is_no_norm_of_tokens() -> None:
    before = [replace(day(tokens=100.0), complete=False), *[day(tokens=1_000.0)] * 6]
    assert of(trends(day(tokens=1_000.0), before), "tokens").norm_7d is None


@pytest.mark.parametrize(
    ("metric", "value", "better"),
    [
        ("availability_ratio", 0.95, True),
        ("cache_hit_ratio", 0.4, False),
        ("tpot_p95_s", 0.04, True),
        ("tpot_p95_s", 0.06, False),
    ],
)
def test_less_is_better_for_latencies_alone(metric: str, value: float, better: bool) -> None:
    norm = {"availability_ratio": 0.9, "cache_hit_ratio": 0.5, "tpot_p95_s": 0.05}[metric]
    before = [day(**{metric: norm}) for _ in range(28)]
    assert of(trends(day(**{metric: value}), before), metric).better is better


def test_a_change_is_explained_against_28_days_else_7_else_the_one_before() -> None:
    one, empty = day(tokens=1.0), replace(day(), values=values_of(Counts(), NONE))
    assert base_of([]) is None
    assert base_of([empty] * 28) is None
    assert len(not_none(base_of([one])).days) == 1
    assert len(not_none(base_of([one] * 5 + [empty] * 2)).days) == 5
    assert len(not_none(base_of([one] * 40)).days) == 28


@pytest.mark.parametrize(
    ("metric", "marks"),
    [
        ("ttft_p95_s", {0.15: "best", 0.151: "met", 0.2999: "met", 0.3: "missed", None: "unknown"}),
        ("availability_ratio", {0.9995: "best", 0.9994: "met", 0.999: "met", 0.99899: "missed"}),
        ("cache_hit_ratio", {0.4: "best", 0.6: "best", 0.7: "best", 0.39: "missed"}),
    ],
)
def test_marks_against_the_shipped_targets(metric: str, marks: dict[float | None, str]) -> None:
    for value, mark in marks.items():
        counts = Counts(
            requests=1, eligible=100_000, input_tokens=100_000, cached_of_tokens=100_000
        )
        if metric == "availability_ratio":
            counts = replace(counts, successes=round(not_none(value) * 100_000))
        elif metric == "cache_hit_ratio":
            counts = replace(
                counts, cached_tokens=round(not_none(value) * 100_000), cached_of_tokens=100_000
            )
        else:
            assert latency_mark(value, TARGETS.ttft_p95_s) == mark
            continue
        assert getattr(values_of(counts, TARGETS), metric).mark == mark, value


def test_without_a_target_nothing_is_judged() -> None:
    counts = Counts(
        requests=1, eligible=1, successes=1, input_tokens=10, cached_tokens=5, cached_of_tokens=10
    )
    values = values_of(counts, NONE)
    assert {values.availability_ratio.mark, values.cache_hit_ratio.mark} == {"unknown"}
    assert values.availability_ratio.value == 1
