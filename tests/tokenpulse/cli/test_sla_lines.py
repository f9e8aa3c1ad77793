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
        "budget_is_spent": False,
        "adjustments": [],
        **more,
    }


# Of a calendar month, "left" is of the budget that was due so far: it may be below 0 on day 5, and
# the budget of the month is used up on day 10.
@pytest.mark.parametrize(("left", "is_spent"), [("0.25", False), ("-2", False), ("-2", True)])
def test_only_a_budget_that_is_not_spent_has_a_time_at_which_it_is_used_up(
    left: str, is_spent: bool
) -> None:
    printed = list(lines([entry(left, budget_is_spent=is_spent)]))
    assert "  burn rate: 5m 0.5×, 1h 2×" in printed
    ahead = "  budget used up at 2026-11-30T01:45:00Z, at the pace of the last day"
    assert (ahead in printed) != is_spent
