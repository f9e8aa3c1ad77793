"""Makes the facts of the daily board from the state, and seals the days that are final.

A shell around the pure modules: Redis is read and written here, the time comes as an argument.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date as Date
from datetime import timedelta
from zoneinfo import ZoneInfo

import redis.asyncio as aioredis

from exporters.daily.day import text as words
from exporters.daily.day.calendar import (
    CalendarDay,
    Stretch,
    by_hour,
    can_be_cut,
    day_at,
    day_of,
    days_until,
    read_date,
)
from exporters.daily.day.causes import Traffic, named
from exporters.daily.day.counts import Counts, Groups
from exporters.daily.day.facts import Cause, DailyFacts, Day, Risk, Segment
from exporters.daily.day.history import Known, Scene, causes_of, known, traffic
from exporters.daily.day.metrics import board_targets, values_of
from exporters.daily.day.reader import DayReader, StretchSums
from exporters.daily.day.risks import corrected, to_seal
from exporters.daily.day.seal import VERSION, Detail, Record, behind, silent_until_s
from exporters.daily.day.segments import segments_of
from exporters.daily.day.standing import Standing
from exporters.daily.day.store import DayStore
from exporters.daily.day.text import with_names
from exporters.daily.day.trends import MONTH, base_of, trends
from exporters.reference.customers import Customer, Customers
from exporters.windows.incremental import CUSTOMER
from slo.policy.policy import Policy
from slo.policy.targets import targets_of
from streams.config.settings import Settings
from streams.errors import RequestError
from streams.state.coverage import Coverage
from streams.state.windows import extent
from streams.store.contract import StoreError
from streams.store.heartbeat import Heartbeat
from streams.store.reader import PartitionView, StateSnapshot

CLOSED_DAYS = 30
_MONTH_LONGEST = 31
# Objectives are judged as at the end of the board's day, so they change with what comes late and
# with what people decide; that is looked at this often.
_RISKS_EVERY_S = 600
# A day that is sealed later has no word on its objectives: to judge a month of them takes its time.
_RISKS_SEALED_WITHIN_S = 3 * 86_400


class DailyKeeper:
    """The days of one consumer group and topic, in the zone of the settings."""

    def __init__(
        self,
        settings: Settings,
        policies: Sequence[Policy],
        client: "aioredis.Redis",
        customers: Mapping[str, Customer],
    ) -> None:
        """`customers`: by the token that the state knows them by."""
        self._settings, self._customers = settings, customers
        self._name_of = Customers(customers).name_of
        self._zone = ZoneInfo(settings.exporter.time_zone)
        self._targets = board_targets(targets_of(policies))
        kafka = settings.kafka
        self._store = DayStore(client, kafka.group, kafka.topic, settings.exporter.time_zone)
        self._standing = Standing(settings, policies, client, customers)
        self._reader = DayReader(client, kafka.group, kafka.topic)
        self._lock = asyncio.Lock()  # askers share what was read
        self._records: dict[str, Record] = {}  # of the board that is being made
        self._explained: tuple[object, tuple[tuple[Cause, ...], tuple[Segment, ...]]] | None = None

    async def facts(self, now_s: float, date: str | None = None) -> DailyFacts | None:
        """Return the board of `date` (YYYY-MM-DD); None as `date` means the last closed day.

        Before the first day is closed, that is the running day. Return None if no event was ever
        counted. Cheap if the state did not change since the last call. Days that became final are
        finalised on the way. Raises StoreError if Redis does not answer, RequestError for a date
        that has no board.
        """
        asked = None if date is None else self._requested_day(date, now_s)
        async with self._lock:
            try:
                return await self._facts(now_s, asked)
            except StoreError:
                self._reader.forget()
                self._standing.forget()
                self._explained = None
                raise

    def _requested_day(self, date: str, now_s: float) -> CalendarDay:
        found = read_date(date)
        if found is None:
            raise RequestError(f"date: got {date[:40]!r}; write a day as YYYY-MM-DD")
        today = day_at(now_s, self._zone)
        if date > today.date:
            raise RequestError(f"date: {date} lies in the future; the running day is {today.date}")
        return day_of(found, self._zone)

    async def _facts(self, now_s: float, asked: CalendarDay | None) -> DailyFacts | None:
        snapshot = await self._reader.snapshot()
        views, signs = snapshot.views, snapshot.heartbeats
        self._records = {}  # what Redis has is what counts: it may have been lost or set back
        first = await self._first(views)
        if first is None:
            return None
        today = day_at(now_s, self._zone)
        yesterday = day_at(today.from_s - 1, self._zone)
        # On the first day of all, nobody is served by an empty page about the one before.
        board = asked or (yesterday if first <= yesterday.date else today)
        if asked is not None and asked.date < first:
            raise RequestError(f"date: nothing is kept of {asked.date}; the first day is {first}")
        last_closed = min(board, yesterday, key=lambda one: one.from_s)
        scene = self._scene(now_s, views, signs)
        found = await self._known(snapshot, scene, last_closed, today, yesterday)
        days = {one.of.date: scene.day(one) for one in found}
        for one in found:
            if scene.due(one):
                await self._seal(one, scene, found, days, snapshot)
        found = [self._with_record(one) for one in found]
        days = {one.of.date: scene.day(one) for one in found}
        return await self._board(board, found, days, snapshot, now_s)

    def _scene(
        self, now_s: float, views: Sequence[PartitionView], signs: Sequence[Heartbeat]
    ) -> Scene:
        return Scene(
            now_s=now_s,
            zone=self._zone,
            targets=self._targets,
            coverage=Coverage.of(view.meta for view in views),
            seal_after_s=self._settings.daily.seal_after_h * 3_600,
            behind=lambda until_s: behind(until_s, views, signs),
            silent_until_s=lambda of, seal_at_s: silent_until_s(of, seal_at_s, views),
        )

    # -- reading -----------------------------------------------------------------------------------

    async def _first(self, views: Sequence[PartitionView]) -> str | None:
        """Return the first date with data, or None if there is none."""
        starts = [extent(view.index)[0] for view in views if view.index]
        dates = [day_at(min(starts), self._zone).date] if starts else []
        sealed = await self._store.first()
        return min([*dates, *([sealed] if sealed else [])], default=None)

    async def _known(
        self,
        snapshot: StateSnapshot,
        scene: Scene,
        last_closed: CalendarDay,
        today: CalendarDay,
        yesterday: CalendarDay,
    ) -> list[Known]:
        """The closed days up to `last_closed`, as many as are needed, and the running one."""
        last = Date.fromisoformat(last_closed.date)
        closed = days_until(last, _MONTH_LONGEST, self._zone)
        await self._read_records(closed)
        unsealed = [one for one in closed if one.date not in self._records]
        if unsealed:  # what is sealed now is compared with the days before it
            oldest = Date.fromisoformat(unsealed[0].date) - timedelta(days=MONTH)
            count = max(_MONTH_LONGEST, (last - oldest).days + 1)
            closed = days_until(last, count, self._zone)
            await self._read_records(closed)
        watermarks_s = [view.watermark_s for view in snapshot.views]
        stretches: dict[str, list[Stretch]] = {
            one.date: by_hour(one.stretch) if one in (today, yesterday) else [one.stretch]
            for one in (*closed, today)
            if watermarks_s and all(can_be_cut(one.stretch, at_s) for at_s in watermarks_s)
        }
        read = await self._reader.read(snapshot, [one for cut in stretches.values() for one in cut])

        def parts(of: CalendarDay) -> list[StretchSums] | None:
            cut = stretches.get(of.date)
            return None if cut is None else [read[stretch] for stretch in cut]

        return [
            known(one, parts(one), self._records.get(one.date), self._reader.scopes)
            for one in (*closed, today)
        ]

    async def _read_records(self, days: Sequence[CalendarDay]) -> None:
        unread = [one.date for one in days if one.date not in self._records]
        for date, data in (await self._store.read(unread)).items():
            self._records[date] = Record.unpack(data)

    def _with_record(self, one: Known) -> Known:
        return Known(one.of, one.parts, one.fleet, self._records.get(one.of.date))

    # -- explaining and sealing --------------------------------------------------------------------

    async def _seal(
        self,
        one: Known,
        scene: Scene,
        found: Sequence[Known],
        days: Mapping[str, Day],
        snapshot: StateSnapshot,
    ) -> None:
        sealed = scene.sealed(one)
        now = await self._traffic([one])
        reasons = await self._causes(sealed, one, now, found, days)
        segments = segments_of(now.groups[CUSTOMER], self._customers)
        zone = self._settings.exporter.time_zone
        risks = None
        if scene.now_s < one.of.to_s + _RISKS_SEALED_WITHIN_S:
            risks = to_seal(await self._standing.judge(snapshot, one.of.to_s - 1))
        record = Record(VERSION, zone, sealed, self._targets, reasons, segments, risks)
        stored = await self._store.seal(
            one.of.date, record.pack(), Detail.of(now.fleet, now.groups).pack()
        )
        self._records[one.of.date] = Record.unpack(stored)

    async def _traffic(self, days: Sequence[Known]) -> Traffic:
        """Return the sums of some days; days without data are not part of it."""
        gone = [one.of.date for one in days if one.parts is None]
        details: dict[str, tuple[Counts, Groups]] = {
            date: Detail.unpack(data) for date, data in (await self._store.details(gone)).items()
        }
        left = [one for one in days if one.parts is not None or one.of.date in details]
        return traffic(left, details, self._reader.scopes)

    async def _causes(
        self,
        day: Day,
        one: Known,
        now: Traffic,
        found: Sequence[Known],
        days: Mapping[str, Day],
    ) -> tuple[Cause, ...]:
        base = base_of([days[of.of.date] for of in found if of.of.to_s <= one.of.from_s])
        if base is None:
            return ()
        dates = {of.date for of in base.days}
        before = await self._traffic([of for of in found if of.of.date in dates])
        return causes_of(day, now, before, base)

    async def _why(
        self, one: Known, day: Day, found: Sequence[Known], days: Mapping[str, Day]
    ) -> tuple[tuple[Cause, ...], tuple[Segment, ...]]:
        """Causes and segments of the board's day: as sealed, or as they are now."""
        if one.record is not None:
            return one.record.causes, one.record.segments
        if not one.fleet:
            return (), ()
        compared = [of for of in found if of.of.from_s <= one.of.from_s][-MONTH - 1 :]
        same = tuple(of.versions for of in compared)
        if self._explained is None or self._explained[0] != same:
            now = await self._traffic([one])
            reasons = await self._causes(day, one, now, found, days)
            self._explained = same, (reasons, segments_of(now.groups[CUSTOMER], self._customers))
        return self._explained[1]

    # -- the board ---------------------------------------------------------------------------------

    async def _board(
        self,
        board: CalendarDay,
        found: Sequence[Known],
        days: Mapping[str, Day],
        snapshot: StateSnapshot,
        now_s: float,
    ) -> DailyFacts:
        at = next(place for place, one in enumerate(found) if one.of == board)
        day, one = days[board.date], found[at]
        month = board.date[:7]
        in_month = [of for of in found[: at + 1] if of.of.date.startswith(month)]
        total = await self._fleet(in_month)
        reasons, segments = await self._why(one, day, found, days)
        # Of the board's own day the trust sentence tells more.
        holes = len(in_month) - total.days
        holes += sum(
            not days[of.of.date].complete
            for of in in_month
            if of.of != board and (of.fleet is not None or of.record is not None)
        )
        targets = self._targets if one.record is None else one.record.targets
        risks = await self._risks(board, found, snapshot, now_s)
        sealed_risks = None if one.record is None else one.record.risks
        return DailyFacts(
            made_at_s=int(now_s),
            zone=self._settings.exporter.time_zone,
            date=board.date,
            headline=words.headline(day),
            trust=words.trust(day, now_s, self._zone, holes),
            days=tuple(days[of.of.date] for of in found[-CLOSED_DAYS - 1 :]),
            targets=targets,
            trends=trends(day, [days[of.of.date] for of in found[:at]]),
            month=month,
            month_to_date=values_of(total.fleet, targets),
            risks=self._named(risks if sealed_risks is None else sealed_risks),
            causes=tuple(named(cause, self._name_of) for cause in reasons),
            segments=segments,
            risks_corrected=self._named(corrected(sealed_risks or (), risks)),
        )

    async def _fleet(self, days: Sequence[Known]) -> Traffic:
        gone = [one.of.date for one in days if one.parts is None]
        written = [Detail.unpack(data)[0] for data in (await self._store.details(gone)).values()]
        fleets = [*(one.fleet for one in days if one.fleet is not None), *written]
        return Traffic(Counts.merged(fleets), {}, len(fleets))

    async def _risks(
        self,
        board: CalendarDay,
        found: Sequence[Known],
        snapshot: StateSnapshot,
        now_s: float,
    ) -> tuple[Risk, ...]:
        """The objectives as they stand at the end of the board's day, or now if it runs."""
        running = now_s < board.to_s
        versions = (
            int(now_s) // _RISKS_EVERY_S if running else board.date,
            tuple(one.versions for one in found[-_MONTH_LONGEST - 1 :] if one.of.to_s <= now_s),
        )
        # Its last second, as the next one belongs to the next day, and perhaps month.
        return await self._standing.at(snapshot, min(now_s, board.to_s - 1), versions)

    def _named(self, risks: Sequence[Risk]) -> tuple[Risk, ...]:
        return tuple(replace(one, scope=with_names(one.scope, self._name_of)) for one in risks)
