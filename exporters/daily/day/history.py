"""Show each day of the board: counted from the slices, or as it was finalised.

Pure.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple
from zoneinfo import ZoneInfo

from exporters.daily.day import text
from exporters.daily.day.calendar import HOUR_S, CalendarDay
from exporters.daily.day.causes import GroupTraffic, causes
from exporters.daily.day.counts import DIMENSIONS, Counts, Groups, add_groups, counts_of
from exporters.daily.day.facts import (
    METRICS,
    BoardTargets,
    CacheMargin,
    Day,
    DayAttempts,
    DayState,
    GrowthRow,
    Metric,
    MetricCause,
    Reopening,
    Segment,
)
from exporters.daily.day.final import FinalDay, corrections
from exporters.daily.day.metrics import values_of
from exporters.daily.day.stretches import StretchSums, add_up
from exporters.daily.day.trends import Base
from exporters.windows.counters import attempts
from exporters.windows.incremental import FLEET, Grouping
from slo.health_limits import BEHIND_AFTER_S
from streams.state.coverage import Coverage
from streams.state.registry import OTHER


class DayCounts(NamedTuple):
    """One day as the state and the store have it."""

    day: CalendarDay
    parts: tuple[StretchSums, ...] | None  # None: the slices that are kept do not cover it
    fleet: Counts | None
    record: FinalDay | None  # if the day is final
    attempts: DayAttempts | None = None  # None if they are the requests
    is_damaged: bool = False  # the day is final, and its stored data cannot be read

    @property
    def versions(self) -> object:
        """Return a value that changes with any count of the day."""
        sealed_at_s = None if self.record is None else self.record.day.sealed_at_s
        keys = None if self.parts is None else tuple(part.key for part in self.parts)
        return self.day.date, sealed_at_s, keys

    @property
    def has_data(self) -> bool:
        """Return False if the day is neither counted nor stored."""
        return self.fleet is not None or self.record is not None


def day_counts(
    day: CalendarDay,
    parts: Sequence[StretchSums] | None,
    record: FinalDay | None,
    scopes: Mapping[str, Grouping],
) -> DayCounts:
    """Return a day with the sum of its fleet."""
    if parts is None:
        return DayCounts(day, None, None, record)
    sums = add_up([part.summary for part in parts], (FLEET,))
    fleet = counts_of(sums[FLEET], scopes[FLEET]).get("", Counts())
    view = attempts(sums[FLEET]).get(0)  # the fleet is one group
    counted = None if view is None else DayAttempts(view.requests, view.availability_ratio)
    return DayCounts(day, tuple(parts), fleet, record, counted)


class Explanation(NamedTuple):
    """What moved a day: as it was stored, or as it is now."""

    causes: tuple[MetricCause, ...] = ()
    segments: tuple[Segment, ...] = ()
    growth: tuple[GrowthRow, ...] = ()
    cache: CacheMargin | None = None


@dataclass(frozen=True, slots=True)
class BoardContext:
    """All that the days of one board share."""

    now_s: float
    zone: ZoneInfo
    targets: BoardTargets
    coverage: Coverage
    seal_after_s: float
    # Until an instant (Unix seconds) -> the partitions that are not read up to it.
    behind: Callable[[float], Sequence[tuple[int, int]]]
    # As `behind`, only those of which many records are known to wait.
    waiting: Callable[[float], Sequence[tuple[int, int]]]
    # Day and its earliest final instant -> whether it waits for an event from after that.
    is_silent: Callable[[CalendarDay, float], bool]
    first_event_s: float | None = None  # event time of the first event ever counted
    clock_problem: str | None = None  # why no day becomes final by the clock; None if one may
    reopened: Mapping[str, Sequence[Reopening]] = field(default_factory=dict)  # by date

    def is_due(self, counts: DayCounts) -> bool:
        """Return True if the day must be finalised now."""
        return counts.record is None and bool(counts.fleet) and not self._open_note(counts.day)

    def show(self, counts: DayCounts) -> Day:
        """Return a day as the board shows it."""
        shown = self._show(counts)
        reopened = self.reopened.get(shown.date)
        if not reopened:
            return shown
        return replace(shown, note=text.both(text.reopening_note(reopened, self.zone), shown.note))

    def _show(self, counts: DayCounts) -> Day:
        day = counts.day
        # A final day never changes; differences to the slices are shown beside it.
        if counts.record is not None:
            final = counts.record.day
            if counts.fleet is None:
                return final
            # By the targets of that day: a later change of the policy is no correction.
            now = values_of(counts.fleet, counts.record.targets)
            return replace(final, corrections=corrections(final, now))
        # Not final yet: counted from the slices.
        state: DayState = "running" if self.now_s < day.to_s else "provisional"
        complete = counts.fleet is not None and self._is_complete(day)
        note = ""
        if counts.fleet is None:
            state, note = "absent", text.GONE if self.now_s >= day.to_s else text.NEVER
        elif state == "running":
            note = self._waiting_note(day)
        else:
            note = text.DAMAGED if counts.is_damaged else self._open_note(day)
            # A day without events is absent only once all events are read.
            if not counts.fleet and not note:
                state = "absent"
        if counts.fleet is not None:
            note = text.both(self._known_part_note(day, complete), note)
        return Day(
            date=day.date,
            from_s=day.from_s,
            to_s=day.to_s,
            state=state,
            complete=complete,
            values=values_of(counts.fleet or Counts(), self.targets),
            note=note,
            attempts=counts.attempts,
        )

    def final(self, counts: DayCounts) -> Day:
        """Return a day as it is stored now."""
        assert counts.fleet is not None
        day = counts.day
        complete = self._is_complete(day)
        return Day(
            date=day.date,
            from_s=day.from_s,
            to_s=day.to_s,
            state="sealed",
            complete=complete,
            values=values_of(counts.fleet, self.targets),
            sealed_at_s=int(self.now_s),
            note=self._known_part_note(day, complete),
            attempts=counts.attempts,
        )

    def _open_note(self, day: CalendarDay) -> str:
        """Return one sentence that says why a past day is not final yet; empty if it is final."""
        seal_at_s = day.to_s + self.seal_after_s
        if self.now_s < seal_at_s:
            return self._waiting_note(day) or text.early(seal_at_s, self.zone)
        if self.clock_problem is not None:
            return text.wrong_clock(self.clock_problem)
        if behind := self.behind(seal_at_s):
            return text.unread_partitions(behind, self.zone)
        return text.silent(seal_at_s, self.zone) if self.is_silent(day, seal_at_s) else ""

    def is_read(self, day: CalendarDay) -> bool:
        """Return False if events of a day, or of a running one up to now, wait to be counted."""
        return not self._waiting_note(day)

    def first_event_in(self, day: CalendarDay) -> float | None:
        """Return the time of the first event ever if it is later in this day than its first hour.

        Earlier, the day is as good as whole.
        """
        first_s = self.first_event_s
        is_inside = first_s is not None and day.from_s + HOUR_S <= first_s < day.to_s
        return first_s if is_inside else None

    def counting_began_in(self, history: Sequence[DayCounts]) -> int | None:
        """Return the time of the first event ever if counting began within one of these days."""
        begins_s = [self.first_event_in(counts.day) for counts in history]
        return next((int(begin_s) for begin_s in begins_s if begin_s is not None), None)

    def as_norms(self, history: Sequence[DayCounts], days: Sequence[Day]) -> list[Day]:
        """Return days to compare later ones with: that of the first event is incomplete.

        It is shown as complete, as no event of it is missing, but counting began within it.
        """
        return [
            day if self.first_event_in(counts.day) is None else replace(day, complete=False)
            for counts, day in zip(history, days, strict=True)
        ]

    def _waiting_note(self, day: CalendarDay) -> str:
        # Some records always wait, and the newest event may be some seconds old.
        behind = self.waiting(min(day.to_s, self.now_s) - BEHIND_AFTER_S)
        return text.unread_partitions(behind, self.zone) if behind else ""

    def _known_part_note(self, day: CalendarDay, complete: bool) -> str:
        """Return which part of a day the counts are of; empty if they are of all of it."""
        if not complete:
            return self._missing_note(day)
        first_s = self.first_event_in(day)
        return "" if first_s is None else text.first_event(first_s, self.zone)

    def _is_complete(self, day: CalendarDay) -> bool:
        return self.coverage.complete(day.from_s, min(day.to_s, int(self.now_s) + 1))

    def _missing_note(self, day: CalendarDay) -> str:
        end_ms = day.to_s * 1_000
        gaps = [
            gap
            for gap in self.coverage.gaps
            if gap.from_ms < end_ms and (gap.to_ms or end_ms) > day.from_s * 1_000
        ]
        return text.missing(gaps, self.coverage.since_ms, day.from_s, self.zone)


def traffic_of(
    days: Sequence[DayCounts],
    details: Mapping[str, tuple[Counts, Groups]],
    scopes: Mapping[str, Grouping],
) -> GroupTraffic:
    """Return the sums of some days.

    `details`: by date, the stored counts of days that the slices no longer cover.
    """
    # Days within the slices by their parts, days beyond them by their stored counts.
    parts = [part.summary for counts in days for part in counts.parts or ()]
    sums = add_up(parts, scopes)
    groups: Groups = {name: counts_of(sums[name], scopes[name]) for name in DIMENSIONS}
    stored = [details[counts.day.date] for counts in days if counts.parts is None]
    fleets = [counts.fleet for counts in days if counts.fleet is not None]
    stored_groups = [names for _, names in stored]
    return GroupTraffic(
        fleet=Counts.sum([*fleets, *(fleet for fleet, _ in stored)]),
        groups=add_groups([groups, *stored_groups]) if stored else groups,
        days=len(days),
        stored_names=_stored_names(stored_groups),
    )


def _stored_names(days: Sequence[Groups]) -> dict[str, frozenset[str]]:
    """Return the names that are stored apart on each day, by dimension, if names were added up."""
    common: dict[str, frozenset[str]] = {}
    for groups in days:
        for dimension, names in groups.items():
            if OTHER in names:
                apart = frozenset(names) - {OTHER}
                common[dimension] = common.get(dimension, apart) & apart
    return common


def causes_of(
    day: Day,
    now: GroupTraffic,
    before: GroupTraffic | None,
    base: Base | None,
    targets: BoardTargets,
    metrics: Sequence[Metric] = METRICS,
) -> tuple[MetricCause, ...]:
    """Return the causes of the changes of `metrics`; none without days to compare with."""
    if before is None or base is None or not before.days:
        return ()
    for names in (now.stored_names, before.stored_names):
        now, before = now.fold_names(names), before.fold_names(names)
    return causes(day, now, before, base, targets, metrics)
