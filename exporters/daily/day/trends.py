"""Compare a day with the norm of the days before it.

Pure. Norms are medians of days, so that one bad day does not become normal; the usual spread is the
median distance from that median, scaled to a standard deviation. The norm of the tokens is that of
the same weekdays, so that a weekend is no fall.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from exporters.daily.day.facts import METRICS, Day, Metric, Trend

WEEK, MONTH = 7, 28
HISTORY_DAYS = 62  # the board's day, and the days back to the first of the month before
SPREADS = 2  # usual spreads within which a change is noise
# Norm of so many days -> known days it needs.
NEEDED = {WEEK: 3, MONTH: 7}
_WEEKDAYS_NEEDED = {WEEK: 1, MONTH: 3}  # of the same weekday, for the tokens
FALLS_WELL = ("ttft_p95_s", "tpot_p95_s")  # less is better
_MAD_TO_DEVIATION = 1.4826  # of a normal distribution


def known_values(days: Sequence[Day], metric: Metric) -> list[float]:
    """Return the values of the days that have one."""
    values = [day.values.of(metric).value for day in days]
    return [value for value in values if value is not None]


def trends(day: Day, before: Sequence[Day]) -> tuple[Trend, ...]:
    """Return the trend of each metric; `before`: at least the 28 days before, oldest first."""
    return tuple(_trend(metric, day, before) for metric in METRICS)


def _trend(metric: Metric, day: Day, before: Sequence[Day]) -> Trend:
    norms = {span: _norm_of(metric, before[-span:], span) for span in NEEDED}
    changes = {span: _change(metric, day, usual) for span, usual in norms.items()}
    # Against 28 days if possible: a week may contain the same fault.
    judged = changes[MONTH] if changes[MONTH] is not None else changes[WEEK]
    # Tokens differ by weekday, so growth.py judges them.
    if metric == "tokens" or (judged is not None and _is_usual(metric, judged, before)):
        judged = None
    return Trend(
        metric=metric,
        norm_7d=norms[WEEK],
        norm_28d=norms[MONTH],
        change_7d=changes[WEEK],
        change_28d=changes[MONTH],
        better=(judged < 0) == (metric in FALLS_WELL) if judged else None,
    )


def _norm_of(metric: Metric, days: Sequence[Day], span: int) -> float | None:
    if metric != "tokens":
        return norm(known_values(days, metric), NEEDED[span])
    same_weekday = days[::-1][WEEK - 1 :: WEEK]
    # Half a day would make the next one look like growth.
    whole = [day for day in same_weekday if day.complete and day.state != "absent"]
    return norm(known_values(whole, metric), _WEEKDAYS_NEEDED[span])


def _is_usual(metric: Metric, change: float, before: Sequence[Day]) -> bool:
    """Return True if a change from the norm is within the usual spread of the days before."""
    base = base_of(before)
    return base is not None and abs(change) <= SPREADS * base.spread(metric)


def norm(values: Sequence[float], needed: int) -> float | None:
    """Return the norm, or None if there are fewer than `needed` values."""
    return median(values) if len(values) >= needed else None


def _change(metric: Metric, day: Day, usual: float | None) -> float | None:
    value = day.values.of(metric).value
    if value is None or usual is None:
        return None
    # The running day has fewer tokens only because it is not over.
    if metric == "tokens":
        return (value - usual) / usual if usual and day.state != "running" else None
    return value - usual


@dataclass(frozen=True, slots=True)
class Base:
    """The days a change is explained against."""

    days: tuple[Day, ...]

    def spread(self, metric: Metric) -> float:
        """Return the usual distance of a day from the norm; 0 with less than three days."""
        values = known_values(self.days, metric)
        # Two days have a distance, but no usual one.
        if len(values) < NEEDED[WEEK]:
            return 0.0
        middle = median(values)
        return _MAD_TO_DEVIATION * median(abs(value - middle) for value in values)


def base_of(before: Sequence[Day]) -> Base | None:
    """Return the 28 days before if enough of them have data, else the 7, else the day before."""
    for span, needed in ((MONTH, NEEDED[MONTH]), (WEEK, NEEDED[WEEK]), (1, 1)):
        days = tuple(day for day in before[-span:] if day.values.requests)
        if len(days) >= needed:
            return Base(days)
    return None
