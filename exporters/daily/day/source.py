"""Read the days of one consumer group and topic: from the state's slices, or as they were stored.

A shell: it reads Redis, and writes days that became final.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import date as Date
from datetime import timedelta
from zoneinfo import ZoneInfo

import redis.asyncio as aioredis

from exporters.daily.day.calendar import (
    CalendarDay,
    Stretch,
    by_hour,
    day_at,
    day_of,
    days_until,
    fits_slices,
)
from exporters.daily.day.causes import GroupTraffic
from exporters.daily.day.counts import Counts, Groups
from exporters.daily.day.facts import Reopening
from exporters.daily.day.final import FinalCounts, FinalDay
from exporters.daily.day.history import DayCounts, day_counts, traffic_of
from exporters.daily.day.store import DayStore
from exporters.daily.day.stretches import StretchReader
from exporters.daily.day.trends import HISTORY_DAYS, MONTH
from exporters.windows.incremental import Grouping
from streams.errors import RequestError
from streams.state.windows import extent
from streams.store.reader import StateSnapshot

MONTH_LONGEST = 31
_DETAILS_KNOWN_MAX = 200  # days


class DaySource:
    """The days in one time zone. Every call raises StoreError if Redis does not answer."""

    def __init__(
        self,
        client: "aioredis.Redis",
        group: str,
        topic: str,
        zone: ZoneInfo,
        apart_tiers: Collection[str],
        is_priced: bool = False,
    ) -> None:
        """Prepare to read; `is_priced`: also the sums that prices need."""
        self._zone = zone
        self._store = DayStore(client, group, topic, zone.key)
        self._reader = StretchReader(client, group, topic, apart_tiers, is_priced)
        # Stored counts change only if a day is opened again; a board needs those of a month.
        self._known_details: dict[str, tuple[Counts, Groups]] = {}
        self._reopenings: Mapping[str, Sequence[Reopening]] = {}

    @property
    def scopes(self) -> Mapping[str, Grouping]:
        """Return the groups of each dimension, whose numbers the sums have as keys."""
        return self._reader.scopes

    def forget(self) -> None:
        """Drop all sums, as after a failed reading."""
        self._reader.forget()
        self._known_details.clear()

    async def snapshot(self) -> StateSnapshot:
        """Read how far every partition is."""
        return await self._reader.snapshot()

    async def first_date(self, snapshot: StateSnapshot) -> str | None:
        """Return the first date with data, or None if there is none."""
        starts = [extent(view.index)[0] for view in snapshot.views if view.index]
        dates = [day_at(min(starts), self._zone).date] if starts else []
        # A final day is kept longer than its slices.
        stored = await self._store.first()
        return min([*dates, *([stored] if stored else [])], default=None)

    async def days(
        self,
        snapshot: StateSnapshot,
        first: str,
        last_closed: CalendarDay,
        today: CalendarDay,
        yesterday: CalendarDay,
    ) -> list[DayCounts]:
        """Return the days up to `last_closed` that a board needs, oldest first, then `today`.

        `first`: the first date with data.
        """
        last = Date.fromisoformat(last_closed.date)
        closed = days_until(last, HISTORY_DAYS, self._zone)
        records = await self._records(closed)
        open_days = [day for day in closed if day.date >= first and day.date not in records]
        if open_days:
            # A day that is finalised now is compared with the days before it: read those as well.
            oldest = Date.fromisoformat(open_days[0].date) - timedelta(days=MONTH)
            closed = days_until(last, max(HISTORY_DAYS, (last - oldest).days + 1), self._zone)
            records = await self._records(closed)
        # Older final days are read as they are stored: the board shows no corrections of them.
        shown = closed[-MONTH_LONGEST:]
        counted = [
            day
            for day in (*closed, today)
            if day in shown or day is today or day.date not in records
        ]
        # Today and yesterday hour by hour: late events change their last hours only.
        return await self._count(
            snapshot, [*closed, today], records, counted, by_hours=(today, yesterday)
        )

    async def earlier_days(
        self, snapshot: StateSnapshot, first: str, days: Sequence[CalendarDay]
    ) -> list[DayCounts]:
        """Return days that may lie before those of a board, oldest first; none is finalised.

        Days whose counts are stored are read as they are stored. `first`: the first date with data.
        """
        records = await self._records(days)
        counted = [
            day
            for day in days
            if day.date >= first
            and ((record := records.get(day.date)) is None or record.fleet is None)
        ]
        return await self._count(snapshot, days, records, counted)

    async def _count(
        self,
        snapshot: StateSnapshot,
        days: Sequence[CalendarDay],
        records: Mapping[str, FinalDay],
        counted: Sequence[CalendarDay],
        by_hours: Collection[CalendarDay] = (),
    ) -> list[DayCounts]:
        """Return some days; those `counted` from their slices, if the slices still cover them."""
        watermarks_s = [view.watermark_s for view in snapshot.views]
        stretches: dict[str, list[Stretch]] = {
            day.date: by_hour(day.stretch) if day in by_hours else [day.stretch]
            for day in counted
            if watermarks_s and all(fits_slices(day.stretch, at_s) for at_s in watermarks_s)
        }
        sums = await self._reader.read(
            snapshot, [stretch for parts in stretches.values() for stretch in parts]
        )
        return [
            day_counts(
                day,
                None
                if day.date not in stretches
                else [sums[stretch] for stretch in stretches[day.date]],
                records.get(day.date),
                self._reader.scopes,
            )
            for day in days
        ]

    async def traffic(self, days: Sequence[DayCounts]) -> GroupTraffic:
        """Return the sums of some days by group; days without data are left out."""
        details = await self.details(days)
        present = [
            counts for counts in days if counts.parts is not None or counts.day.date in details
        ]
        return traffic_of(present, details, self._reader.scopes)

    async def fleet(self, days: Sequence[DayCounts]) -> GroupTraffic:
        """Return the sum of some days' fleets without groups; its `days` are those with data."""
        details = await self.details(days)
        fleets = [counts.fleet for counts in days if counts.fleet is not None]
        fleets += [fleet for fleet, _ in details.values()]
        return GroupTraffic(Counts.sum(fleets), {}, len(fleets))

    async def store(self, record: FinalDay, counts: FinalCounts) -> FinalDay:
        """Store a final day; return the stored one, as another process may have been faster."""
        stored = await self._store.write_once(record.day.date, record.pack(), counts.pack())
        return FinalDay.unpack(stored)

    async def reopen(
        self, snapshot: StateSnapshot, date: str, at_s: int, author: str, reason: str
    ) -> None:
        """Take back that a date is final. Raises RequestError if it is not, or must stay final."""
        day = day_of(Date.fromisoformat(date), self._zone)
        # Without its slices a day could never become final again.
        if not all(fits_slices(day.stretch, view.watermark_s) for view in snapshot.views):
            raise RequestError(
                f"date: the counts of {date} are no longer kept; it stays as it was finalised"
            )
        if not await self._store.reopen(date, at_s, author, reason):
            raise RequestError(f"date: {date} is not final in the time zone {self._zone.key}")

    async def reopenings(self) -> Mapping[str, Sequence[Reopening]]:
        """Return by date when days were opened again, oldest first.

        Counts that were read before a new one are dropped, so ask before each board.
        """
        reopenings = await self._store.reopenings()
        if reopenings != self._reopenings:
            self._known_details.clear()
            self._reopenings = reopenings
        return reopenings

    async def is_damaged(self, day: CalendarDay) -> bool:
        """Return whether a day is final, and its stored data cannot be read."""
        return await self._store.is_damaged(day.date)

    async def _records(self, days: Sequence[CalendarDay]) -> dict[str, FinalDay]:
        stored = await self._store.read([day.date for day in days])
        return {date: FinalDay.unpack(data) for date, data in stored.items()}

    async def details(self, days: Sequence[DayCounts]) -> dict[str, tuple[Counts, Groups]]:
        """Return the stored counts of the days that the slices no longer cover, by date."""
        dates = [counts.day.date for counts in days if counts.parts is None]
        known = self._known_details
        stored = await self._store.details([date for date in dates if date not in known])
        known.update((date, FinalCounts.unpack(data)) for date, data in stored.items())
        details = {date: known[date] for date in dates if date in known}
        while len(known) > _DETAILS_KNOWN_MAX:
            del known[next(iter(known))]
        return details
