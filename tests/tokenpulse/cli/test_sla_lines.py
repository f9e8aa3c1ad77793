"""The lines of `tokenpulse sla`."""

from typing import Any

import pytest

from tokenpulse.cli.sla import lines


def entry(left: str, **more: Any) -> dict[str, Any]:
    period = {"from": "2026-11-01T00:00:00Z", "to": "2026-12-01T00:00:00Z"}
    return {
        "policy": "default",
        "objective": "uptime",
        "scope": {},
        "target_ratio": "0.999",
        "period": period,
        "attainment": {"ratio": "0.9995"},
        "error_budget_left_ratio": left,
        "burn_rate": {"5m": 0.5, "1h": 2.0},
        "budget_exhausted_at": "2026-11-30T01:45:00Z",
        "adjustments": [],
        **more,
    }


@pytest.mark.parametrize(("left", "is_ahead"), [("0.25", True), ("0", False), ("-0.5", False)])
def test_only_a_budget_that_is_left_has_a_time_at_which_it_is_used_up(
    left: str, is_ahead: bool
) -> None:
    printed = list(lines([entry(left)]))
    assert "  burn rate: 5m 0.5×, 1h 2×" in printed
    ahead = "  budget used up at 2026-11-30T01:45:00Z, at the pace of the last day"
    assert (ahead in printed) == is_ahead
