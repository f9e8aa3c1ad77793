"""An objective without an attainment says why."""

from typing import Any

import pytest

from slo.engine.attainment import objective_status
from slo.engine.minute_counts import DAY, MinuteCounts
from slo.engine.unknown import CountGaps
from slo.policy.loading import as_policy

BEGIN = 20_000 * DAY
NOW = BEGIN + 60


def unknown_code(
    indicator: dict[str, Any],
    counts: dict[int, tuple[int, int]],
    seen: int = 60,
    excluded: Any = (),
    gaps: CountGaps | None = None,
) -> str | None:
    """Return the reason after an hour; `counts`: by minute of it; `seen`: minutes seen whole."""
    objective = {
        "name": "o",
        "indicator": indicator,
        "target": "99%",
        "period": {"rolling_days": 1},
    }
    policy = as_policy({"version": 1, "name": "p", "objectives": [objective]}, "test")
    (of,) = policy.error_budget_objectives()
    minute_counts = MinuteCounts(BEGIN // DAY - 2, 4)
    minute_counts.see(BEGIN, BEGIN + seen)
    for minute, pair in counts.items():
        minute_counts.count(BEGIN + minute, {"": pair})
    status = objective_status(of, minute_counts, "", excluded, NOW * 60, gaps or CountGaps())
    assert (status.unknown is None) == (status.attainment.ratio is not None)
    return status.unknown.code if status.unknown else None


RATIO = {"kind": "request_ratio", "min_samples": 10}
MINUTES = {"kind": "minute_verdicts", "down_above": "5%", "min_samples": 10}
LATENCY = {"kind": "latency_ratio", "measure": "ttft", "limit": "300ms"}


@pytest.mark.parametrize("indicator", [RATIO, MINUTES, LATENCY])
def test_without_requests_there_are_none(indicator: dict[str, Any]) -> None:
    assert unknown_code(indicator, {}) == "no_requests"


@pytest.mark.parametrize("indicator", [RATIO, MINUTES])
def test_a_few_requests_are_too_few(indicator: dict[str, Any]) -> None:
    assert unknown_code(indicator, {5: (9, 0)}) == "too_few"
    assert unknown_code(indicator, {5: (10, 0)}) is None


def test_minutes_that_were_not_counted_whole_are_incomplete() -> None:
    assert unknown_code(MINUTES, {5: (10, 0)}, seen=0) == "incomplete"


def test_a_period_that_is_all_maintenance_is_excluded() -> None:
    assert unknown_code(RATIO, {5: (10, 0)}, excluded=[(BEGIN - DAY, NOW + 1)]) == "excluded"
    assert unknown_code(RATIO, {5: (10, 0)}, excluded=[(BEGIN, BEGIN + 10)]) == "too_few"


def test_a_limit_that_is_not_counted_is_the_reason_until_it_is_counted() -> None:
    gaps = CountGaps().with_limit(BEGIN + 7).with_limit(BEGIN + 3)
    assert gaps.limit == (BEGIN + 3, BEGIN + 7)
    assert unknown_code(LATENCY, {}, gaps=gaps) == "limit_not_counted"
    few = LATENCY | {"min_samples": 10}
    assert unknown_code(few, {6: (9, 0)}, gaps=gaps) == "limit_not_counted"
    assert unknown_code(few, {8: (9, 0)}, gaps=gaps) == "too_few"
    assert unknown_code(few, {8: (10, 0)}, gaps=gaps) is None


def test_an_input_length_that_is_not_counted_is_the_reason() -> None:
    gaps = CountGaps().with_input_length(BEGIN + 7)
    assert unknown_code(RATIO, {}, gaps=gaps) == "input_length_not_counted"
