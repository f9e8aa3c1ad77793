"""Which burn rates alert, over which windows: exact, from the table that Google recommends.

Pure. A burn rate is the speed at which an error budget is spent; 1 spends all of it in exactly the
period. An alert needs both windows over the factor: the long one shows that enough was spent to
matter, the short one (a twelfth) that it is still being spent, so the alert ends soon after.
"""

from fractions import Fraction
from typing import NamedTuple

from slo.policy.policy import ErrorBudgetObjective
from slo.policy.scope import RollingDays

_HOUR_S = 3_600
MONTH_S = 30 * 24 * _HOUR_S  # what a calendar month is taken for here

# Severity, long window, short window, share of the period's error budget spent in the long one.
# Source: Google SRE Workbook, https://sre.google/workbook/alerting-on-slos/; for 30 days these are
# 14.4, 6, 3 and 1.
RECOMMENDED = (
    ("page", "1h", "5m", Fraction(2, 100)),
    ("page", "6h", "30m", Fraction(5, 100)),
    ("ticket", "1d", "2h", Fraction(10, 100)),
    ("ticket", "3d", "6h", Fraction(10, 100)),
)
BURN_MINUTES = {"5m": 5, "30m": 30, "1h": 60, "2h": 120, "6h": 360, "1d": 1_440, "3d": 4_320}


class BurnRateThreshold(NamedTuple):
    """Alert while both windows burn faster than `factor`."""

    severity: str
    long: str
    short: str
    factor: Fraction
    budget_share: Fraction  # of the period's error budget, gone after `long` at this speed


def period_s(objective: ErrorBudgetObjective) -> int:
    """Length of the period in seconds; a calendar month counts as 30 days."""
    if isinstance(objective.period, RollingDays):
        return objective.period.rolling_days * 24 * _HOUR_S
    return MONTH_S


def burn_rate_thresholds(objective: ErrorBudgetObjective) -> tuple[BurnRateThreshold, ...]:
    """Return the levels that can alert for this objective.

    Left out: speeds that the period sustains (a factor under 1, of short periods), speeds that
    even a full outage does not reach (loose targets); and pages, if only tickets are allowed.
    """
    found = []
    for severity, long, short, share in RECOMMENDED:
        factor = share * Fraction(period_s(objective), BURN_MINUTES[long] * 60)
        is_wanted = objective.severity == "page" or severity == objective.severity
        # The burn rate of a full outage is 1 / error budget.
        if is_wanted and 1 <= factor < 1 / objective.error_budget:
            found.append(BurnRateThreshold(severity, long, short, factor, share))
    return tuple(found)
