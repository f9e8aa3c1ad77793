"""Compare a day with the norm of the days before it.

Pure. Norms are medians of days, so that one bad day does not become normal; the usual spread is the
median distance from that median, scaled to a standard deviation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from exporters.daily.day.facts import METRICS, Day, Metric, Trend, Value, Values

WEEK, MONTH = 7, 28
# Norm of so many days -> known days it needs.
NEEDED = {WEEK: 3, MONTH: 7}
FALLS_WELL = ("ttft_p95_s", "tpot_p95_s")  # less is better
_MAD_TO_DEVIATION = 1.4826  # of a normal distribution


def value_of(values: Values, metric: Metric) -> float | None:
    """One metric's value."""
    found: Value = getattr(values, metric)
    return found.value


def known(days: Sequence[Day], metric: Metric) -> list[float]:
    """The values of the days that have one."""
    values = [value_of(day.values, metric) for day in days]
    return [value for value in values if value is not None]


def trends(day: Day, before: Sequence[Day]) -> tuple[Trend, ...]:
    """The trend of each metric; `before`: at least the 28 days before, oldest first."""
    return tuple(_trend(metric, day, before) for metric in METRICS)


def _trend(metric: Metric, day: Day, before: Sequence[Day]) -> Trend:
    norms = {span: norm(known(before[-span:], metric), NEEDED[span]) for span in NEEDED}
    changes = {span: _change(metric, day, found) for span, found in norms.items()}
    judged = changes[MONTH] if changes[MONTH] is not None else changes[WEEK]
    return Trend(
        metric=metric,
        norm_7d=norms[WEEK],
        norm_28d=norms[MONTH],
        change_7d=changes[WEEK],
        change_28d=changes[MONTH],
        better=(judged < 0) == (metric in FALLS_WELL) if judged else None,
    )


def norm(values: Sequence[float], needed: int) -> float | None:
    """Return the norm, or None with too few values."""
    return median(values) if len(values) >= needed else None


def _change(metric: Metric, day: Day, usual: float | None) -> float | None:
    value = value_of(day.values, metric)
    if value is None or usual is None:
        return None
    if metric == "tokens":  # a part of a day is no less than a whole one
        return (value - usual) / usual if usual and day.state != "running" else None
    return value - usual


@dataclass(frozen=True, slots=True)
class Base:
    """The days a change is explained against."""

    days: tuple[Day, ...]

    def spread(self, metric: Metric) -> float:
        """The usual distance of a day from the norm; 0 with less than three days."""
        values = known(self.days, metric)
        if len(values) < NEEDED[WEEK]:
            return 0.0
        middle = median(values)
        return _MAD_TO_DEVIATION * median(abs(value - middle) for value in values)


def base_of(before: Sequence[Day]) -> Base | None:
    """The 28 days before where enough of them are known, else the 7, else the day before."""
    for span, needed in ((MONTH, NEEDED[MONTH]), (WEEK, NEEDED[WEEK]), (1, 1)):
        days = tuple(day for day in before[-span:] if day.values.requests)
        if len(days) >= needed:
            return Base(days)
    return None
