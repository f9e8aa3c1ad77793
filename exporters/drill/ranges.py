"""The ranges of time that a page can show. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class ChartRange:
    """A stretch of time that ends now, cut into equal steps."""

    name: str  # as in `?range=`
    words: str
    span_s: int
    step_s: int
    step_words: str


# The steps are those that the state still has: 10 s for 15 minutes, 1 minute for 3 hours,
# 10 minutes for 30 hours (streams/state/slices.py).
RANGES: Mapping[str, ChartRange] = {
    chart_range.name: chart_range
    for chart_range in (
        ChartRange("15m", "15 minutes", 900, 30, "30 seconds"),
        ChartRange("1h", "1 hour", 3_600, 60, "1 minute"),
        ChartRange("6h", "6 hours", 6 * 3_600, 600, "10 minutes"),
        ChartRange("24h", "24 hours", DAY_S, 600, "10 minutes"),
        ChartRange("30d", "30 days", 30 * DAY_S, DAY_S, "1 day"),
    )
}
DEFAULT_RANGE = "1h"
