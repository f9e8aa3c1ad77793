"""Add the days of a week or month up to one, which the board shows as it shows a day.

Pure. Counts and histograms are added, so ratios and percentiles are those of all requests of the
period, never averages of days. A final day counts as it was finalised; late events are shown as
corrections.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple
from zoneinfo import ZoneInfo

from exporters.daily.day.calendar import CalendarDay, day_of
from exporters.daily.day.counts import Counts
from exporters.daily.day.facts import BoardTargets, Day, DayState
from exporters.daily.day.final import corrections
from exporters.daily.day.history import DayCounts
from exporters.daily.day.metrics import values_of
from exporters.daily.editions.periods import Period
from exporters.formatting import counted


class PeriodDays(NamedTuple):
    """The days of a week or month up to the running one, oldest first."""

    period: Period
    history: Sequence[DayCounts]
    days: Sequence[Day]  # as the daily board shows them


def bounds(period: Period, zone: ZoneInfo) -> CalendarDay:
    """Return a period as a stretch of time, under its first date."""
    return CalendarDay(
        period.first.isoformat(), day_of(period.first, zone).from_s, day_of(period.last, zone).to_s
    )


def final_counts(counts: DayCounts, stored: Mapping[str, Counts]) -> Counts | None:
    """Return the counts of all traffic of a day, of a final one as it was finalised.

    `stored`: by date, counts that are stored apart from their day. None if none are left.
    """
    final = None if counts.record is None else counts.record.counts
    # Days of an earlier version have their counts apart only.
    if final is None and counts.record is not None:
        final = stored.get(counts.day.date)
    return counts.fleet if final is None else final


def period_day(
    selected: PeriodDays,
    stored: Mapping[str, Counts],
    targets: BoardTargets,
    zone: ZoneInfo,
    now_s: float,
) -> Day:
    """Return the sum of the days of a period; `stored` as for `final_counts`."""
    span = bounds(selected.period, zone)
    parts = [final_counts(counts, stored) for counts in selected.history]
    total = Counts.sum(part for part in parts if part is not None)
    missing = sum(
        part is None or not day.complete for part, day in zip(parts, selected.days, strict=True)
    )
    state = _state(selected.days, is_over=span.to_s <= now_s, is_counted=bool(total))
    sealed_at_s = [day.sealed_at_s for day in selected.days if day.sealed_at_s is not None]
    result = Day(
        date=span.date,
        from_s=span.from_s,
        to_s=span.to_s,
        state=state,
        complete=not missing,
        values=values_of(total, targets),
        sealed_at_s=max(sealed_at_s) if state == "sealed" else None,
        note=_note(selected.days, state, missing),
    )
    if state != "sealed":
        return result
    # The same days with the events that arrived after they were final.
    today = [
        part if counts.fleet is None else counts.fleet
        for counts, part in zip(selected.history, parts, strict=True)
    ]
    now = Counts.sum(part for part in today if part is not None)
    return replace(result, corrections=corrections(result, values_of(now, targets)))


def _state(days: Sequence[Day], *, is_over: bool, is_counted: bool) -> DayState:
    if not is_over:
        return "running"
    if any(day.state == "provisional" for day in days):
        return "provisional"
    return "sealed" if is_counted and any(day.state == "sealed" for day in days) else "absent"


def _note(days: Sequence[Day], state: DayState, missing: int) -> str:
    """Return the incomplete days, and why the last day is not final; empty without either."""
    sentences = []
    if missing:
        verb = "is" if missing == 1 else "are"
        sentences.append(f"{counted(missing, 'day')} {verb} incomplete or without data")
    open_days = [day for day in days if day.state == "provisional" and day.note]
    if state == "provisional" and open_days:
        # An incomplete day's note begins with that; the rest says why it is not final.
        reason = open_days[-1].note.rstrip(".")
        sentences.append(f"{open_days[-1].date}: {reason[0].lower()}{reason[1:]}")
    return f"{'; '.join(sentences)}." if sentences else ""
