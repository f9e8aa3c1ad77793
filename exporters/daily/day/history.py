"""The data of each day: from the slices, or as it was finalised.

Pure.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from zoneinfo import ZoneInfo

from exporters.daily.day import text as words
from exporters.daily.day.calendar import CalendarDay
from exporters.daily.day.causes import Traffic, causes
from exporters.daily.day.counts import DIMENSIONS, Counts, Groups, added, counts_of
from exporters.daily.day.facts import BoardTargets, Cause, Day, DayState
from exporters.daily.day.metrics import values_of
from exporters.daily.day.reader import StretchSums, summed
from exporters.daily.day.seal import Record, corrections
from exporters.daily.day.trends import Base
from exporters.windows.incremental import FLEET, Grouping
from streams.state.coverage import Coverage
from streams.state.registry import OTHER


@dataclass(frozen=True, slots=True)
class Known:
    """One day as the state and the sealed days have it."""

    of: CalendarDay
    parts: tuple[StretchSums, ...] | None  # None: it cannot be cut out of the slices that are kept
    fleet: Counts | None
    record: Record | None  # if it is sealed

    @property
    def versions(self) -> object:
        """Return a value that changes with any count of the day."""
        return self.of.date, None if self.parts is None else tuple(one.key for one in self.parts)


def known(
    of: CalendarDay,
    parts: Sequence[StretchSums] | None,
    record: Record | None,
    scopes: Mapping[str, Grouping],
) -> Known:
    """Add up the fleet of a day."""
    if parts is None:
        return Known(of, None, None, record)
    sums = summed([one.summary for one in parts], (FLEET,))
    fleet = counts_of(sums[FLEET], scopes[FLEET]).get("", Counts())
    return Known(of, tuple(parts), fleet, record)


@dataclass(frozen=True, slots=True)
class Scene:
    """The context shared by all days."""

    now_s: float
    zone: ZoneInfo
    targets: BoardTargets
    coverage: Coverage
    seal_after_s: float
    behind: Callable[[float], Sequence[tuple[int, int]]]  # partitions not read up to a moment
    # Until when a day waits for an event of after a moment; None where it does not.
    silent_until_s: Callable[[CalendarDay, float], float | None]

    def due(self, one: Known) -> bool:
        """Return True if the day must be finalised now."""
        return one.record is None and bool(one.fleet) and not self._open(one.of)

    def _open(self, of: CalendarDay) -> str:
        """Return one sentence that says why a past day is not final yet; empty if it is final."""
        seal_at_s = of.to_s + self.seal_after_s
        if self.now_s < seal_at_s:
            return words.early(seal_at_s, self.zone)
        if behind := self.behind(seal_at_s):
            return words.unread(behind, self.zone)
        until_s = self.silent_until_s(of, seal_at_s)
        if until_s is not None and self.now_s < until_s:
            return words.silent(seal_at_s, until_s, self.zone)
        return ""

    def day(self, one: Known) -> Day:
        """A day as it is shown."""
        if one.record is not None:
            sealed = one.record.day
            if one.fleet is None:
                return sealed
            now = values_of(one.fleet, one.record.targets)
            return replace(sealed, corrections=corrections(sealed, now))
        fleet = one.fleet or Counts()
        state: DayState = "running" if self.now_s < one.of.to_s else "provisional"
        complete = one.fleet is not None and self._complete(one.of)
        note = ""
        if one.fleet is None:
            state, note = "absent", words.GONE if self.now_s >= one.of.to_s else words.NEVER
        elif state == "provisional":
            note = self._open(one.of)
            if not one.fleet and not note:  # with events that are not read yet it is no such day
                state = "absent"
        if one.fleet is not None and not complete:
            note = words.both(self._missing(one.of), note)
        return Day(
            date=one.of.date,
            from_s=one.of.from_s,
            to_s=one.of.to_s,
            state=state,
            complete=complete,
            values=values_of(fleet, self.targets),
            note=note,
        )

    def sealed(self, one: Known) -> Day:
        """A day as it is written down now."""
        assert one.fleet is not None
        complete = self._complete(one.of)
        return Day(
            date=one.of.date,
            from_s=one.of.from_s,
            to_s=one.of.to_s,
            state="sealed",
            complete=complete,
            values=values_of(one.fleet, self.targets),
            sealed_at_s=int(self.now_s),
            note="" if complete else self._missing(one.of),
        )

    def _complete(self, of: CalendarDay) -> bool:
        return self.coverage.complete(of.from_s, min(of.to_s, int(self.now_s) + 1))

    def _missing(self, of: CalendarDay) -> str:
        gaps = [
            gap
            for gap in self.coverage.gaps
            if gap.from_ms < of.to_s * 1_000 and (gap.to_ms or of.to_s * 1_000) > of.from_s * 1_000
        ]
        return words.missing(gaps, self.coverage.since_ms, of.from_s, self.zone)


def traffic(
    days: Sequence[Known],
    details: Mapping[str, tuple[Counts, Groups]],
    scopes: Mapping[str, Grouping],
) -> Traffic:
    """Return the sums of some days.

    `details`: by date, the stored counts of days that the slices no longer cover.
    """
    parts = [part.summary for one in days for part in one.parts or ()]
    sums = summed(parts, scopes)
    cut: Groups = {name: counts_of(sums[name], scopes[name]) for name in DIMENSIONS}
    written = [details[one.of.date] for one in days if one.parts is None]
    fleets = [one.fleet for one in days if one.fleet is not None]
    return Traffic(
        Counts.merged([*fleets, *(fleet for fleet, _ in written)]),
        added([cut, *(groups for _, groups in written)]) if written else cut,
        len(days),
        _told([groups for _, groups in written]),
    )


def _told(written: Sequence[Groups]) -> dict[str, frozenset[str]]:
    found: dict[str, frozenset[str]] = {}
    for groups in written:
        for dimension, names in groups.items():
            if OTHER in names:
                kept = frozenset(names) - {OTHER}
                found[dimension] = found.get(dimension, kept) & kept
    return found


def causes_of(
    day: Day, now: Traffic, before: Traffic | None, base: Base | None
) -> tuple[Cause, ...]:
    """The causes of a day's change; none without days to compare it with."""
    if before is None or base is None or not before.days:
        return ()
    return causes(day, now.as_told(before.told), before.as_told(before.told), base)
