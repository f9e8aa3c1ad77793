"""Build the facts of the daily board, and finalise the days that are over.

The order of one board: read the days (day/source.py), finalise those that are due, explain the
board's day, add up its month, compute the status of the objectives. The time comes as an argument.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date as Date
from zoneinfo import ZoneInfo

import redis.asyncio as aioredis

from exporters.daily.commercial.cache_margin import cache_margin, with_week_before
from exporters.daily.commercial.contracts import contracts_of, month_counts
from exporters.daily.commercial.names import CustomerNames
from exporters.daily.commercial.token_days import growth_of
from exporters.daily.day import text
from exporters.daily.day.calendar import CalendarDay, day_at, day_of
from exporters.daily.day.causes import with_customer_name
from exporters.daily.day.facts import (
    BoardTargets,
    CacheMargin,
    Contract,
    DailyFacts,
    Day,
    GrowthRow,
    MetricCause,
    PeriodKind,
    Risk,
)
from exporters.daily.day.final import (
    VERSION,
    FinalCounts,
    FinalDay,
    is_silent,
    pack_counts,
    partitions_behind,
    partitions_waiting,
)
from exporters.daily.day.history import BoardContext, DayCounts, Explanation, causes_of
from exporters.daily.day.metrics import board_targets, counts_by_segment, segments_of, values_of
from exporters.daily.day.risks import RiskReader, risks_that_differ, risks_to_store
from exporters.daily.day.source import MONTH_LONGEST, DaySource
from exporters.daily.day.stretches import StretchSums
from exporters.daily.day.trends import HISTORY_DAYS, base_of, trends
from exporters.daily.day.verdict import headline
from exporters.daily.editions.build import BoardDays, EditionBuilder
from exporters.daily.editions.periods import Period, default_period, period_at, read_period
from exporters.formatting import minute
from exporters.reference.customers import Customer, follow_tokens
from exporters.reference.prices import cache_target, load_price_book
from exporters.windows.incremental import CUSTOMER
from slo.policy.policy import Policy
from slo.policy.targets import targets_of
from streams.clock import RedisClock
from streams.config.settings import Settings
from streams.errors import RequestError
from streams.state.coverage import Coverage
from streams.store.contract import StoreError
from streams.store.reader import StateSnapshot

CLOSED_DAYS = 30
# Late events and maintenance windows change the status of a running day's objectives. It is
# computed again this often only, as a month of minutes takes seconds.
_RISKS_EVERY_S = 600
# A day that is finalised later is stored without objectives, for the same reason.
_RISKS_STORED_WITHIN_S = 3 * 86_400


class DailyBoardBuilder:
    """Builds the boards of one consumer group and topic, in the time zone of the settings."""

    def __init__(
        self,
        settings: Settings,
        policies: Sequence[Policy],
        client: "aioredis.Redis",
        customers: Mapping[str, Customer],
    ) -> None:
        """Prepare the builder; `customers`: by the token under which the state counts them."""
        self._settings, self._customers = settings, customers
        self._names = CustomerNames(customers)
        self._zone = ZoneInfo(settings.exporter.time_zone)
        targets, book = targets_of(policies), settings.exporter.price_book
        self._targets = board_targets(targets)
        self._book = None if book is None else load_price_book(book)
        self._cache_target = cache_target(targets)
        kafka = settings.kafka
        self._source = DaySource(
            client,
            kafka.group,
            kafka.topic,
            self._zone,
            settings.latency.apart_tiers,
            is_priced=self._book is not None,
        )
        self._editions = EditionBuilder(self._source, customers, self._zone, self._margin)
        self._risks = RiskReader(settings, policies, client, customers)
        self._lock = asyncio.Lock()
        # The explanation of the last board, and the versions of the counts it was computed from.
        self._explanation: tuple[object, Explanation] | None = None

    async def facts(
        self, clock: RedisClock, date: str | None = None, kind: PeriodKind = "day"
    ) -> DailyFacts | None:
        """Return the board of a day, week or month; None as `date` means the last closed one.

        `date`: as read_period takes it. `clock`: asked for the time; no day becomes final unless it
        agrees. Before the first day (week, month) is closed, the running one is the default. Return
        None if no event was ever counted. Cheap if the state did not change since the last call.
        Raises StoreError if Redis does not answer, RequestError for a date that has no board.
        """
        async with self._lock:
            try:
                snapshot = await self._source.snapshot()
                follow_tokens(self._customers, snapshot.tokens)
                reading = await clock.read()
                now_s = reading.likely_s(snapshot.watermark_s)
                requested = None if date is None else self._requested(date, kind, now_s)
                context = replace(
                    self._context(now_s, snapshot, reading.problem()),
                    reopened=await self._source.reopenings(),
                )
                return await self._facts(snapshot, context, requested, kind)
            except StoreError:
                # Redis may come back with another state under the same version numbers.
                self._source.forget()
                self._risks.forget()
                self._explanation = None
                raise

    def _requested(self, date: str, kind: PeriodKind, now_s: float) -> Period:
        period = read_period(date, kind)
        running = period_at(Date.fromisoformat(day_at(now_s, self._zone).date), kind)
        if period.first > running.first:
            raise RequestError(
                f"date: {date} lies in the future; the running {kind} is {running.label}"
            )
        return period

    async def _facts(
        self,
        snapshot: StateSnapshot,
        context: BoardContext,
        requested: Period | None,
        kind: PeriodKind,
    ) -> DailyFacts | None:
        first = await self._source.first_date(snapshot)
        if first is None:
            return None
        today = day_at(context.now_s, self._zone)
        yesterday = day_at(today.from_s - 1, self._zone)
        period = requested or default_period(Date.fromisoformat(today.date), first, kind)
        if period.last.isoformat() < first:
            raise RequestError(
                f"date: no data is stored of {period.label}; the first day is {first}"
            )
        board = min(day_of(period.last, self._zone), today, key=lambda day: day.from_s)
        last_closed = min(board, yesterday, key=lambda day: day.from_s)
        history = await self._source.days(snapshot, first, last_closed, today, yesterday)
        days = [context.show(counts) for counts in history]
        # Oldest first, so that a day is compared with the days before it as they are stored.
        for at, counts in enumerate(history):
            if not context.is_due(counts):
                continue
            # The final data was published, so other data must not take its place.
            if await self._source.is_damaged(counts.day):
                history[at] = counts._replace(is_damaged=True)
            else:
                record = await self._finalise(at, context, history, days, snapshot)
                history[at] = counts._replace(record=record)
        days = [context.show(counts) for counts in history]
        facts = await self._board(board, history, days, snapshot, context)
        if kind == "day":
            return facts
        end = 1 + next(at for at, counts in enumerate(history) if counts.day == board)
        read = BoardDays(history[:end], days[:end], snapshot, context, first)
        return await self._editions.facts(facts, period, read)

    def _context(
        self, now_s: float, snapshot: StateSnapshot, clock_problem: str | None
    ) -> BoardContext:
        views, heartbeats = snapshot.views, snapshot.heartbeats
        return BoardContext(
            now_s=now_s,
            zone=self._zone,
            targets=self._targets,
            coverage=Coverage.of(view.meta for view in views),
            seal_after_s=self._settings.daily.seal_after_h * 3_600,
            behind=lambda until_s: partitions_behind(until_s, views, heartbeats),
            waiting=lambda until_s: partitions_waiting(until_s, views, heartbeats),
            is_silent=lambda day, seal_at_s: is_silent(day, seal_at_s, views),
            first_event_s=min(
                (view.meta.since_ms / 1_000 for view in views if view.meta.since_ms), default=None
            ),
            clock_problem=clock_problem,
        )

    async def _finalise(
        self,
        at: int,
        context: BoardContext,
        history: Sequence[DayCounts],
        days: Sequence[Day],
        snapshot: StateSnapshot,
    ) -> FinalDay:
        """Store the day at `at`; return the one that another exporter may have stored before."""
        counts = history[at]
        final = context.final(counts)
        traffic = await self._source.traffic([counts])
        risks = growth = None
        norms = context.as_norms(history[: at + 1], [*days[:at], final])
        if context.now_s < counts.day.to_s + _RISKS_STORED_WITHIN_S:
            growth = await self._growth(norms, history[: at + 1])
            risks = risks_to_store(await self._risks.compute(snapshot, counts.day.to_s - 1))
        record = FinalDay(
            version=VERSION,
            zone=self._settings.exporter.time_zone,
            day=final,
            targets=self._targets,
            causes=await self._causes(final, counts, history, norms),
            segments=segments_of(traffic.groups[CUSTOMER], self._customers),
            risks=risks,
            growth=growth,
            cache=None if counts.parts is None else self._margin(counts.parts),
            fleet=pack_counts(traffic.fleet),
            by_segment={
                name: pack_counts(one)
                for name, one in counts_by_segment(
                    traffic.groups[CUSTOMER], self._customers
                ).items()
            },
        )
        return await self._source.store(record, FinalCounts.of(traffic.fleet, traffic.groups))

    # -- explanation -------------------------------------------------------------------------------

    async def _causes(
        self, day: Day, counts: DayCounts, history: Sequence[DayCounts], days: Sequence[Day]
    ) -> tuple[MetricCause, ...]:
        base = base_of([earlier for earlier in days if earlier.to_s <= counts.day.from_s])
        if base is None:
            return ()
        dates = {earlier.date for earlier in base.days}
        now = await self._source.traffic([counts])
        before = await self._source.traffic(
            [earlier for earlier in history if earlier.day.date in dates]
        )
        return causes_of(day, now, before, base, self._targets)

    async def _explain(
        self, at: int, history: Sequence[DayCounts], days: Sequence[Day]
    ) -> Explanation:
        """Return causes, segments and growth of the day at `at`: as stored, or as they are now."""
        counts = history[at]
        record = counts.record
        if record is not None and record.growth is not None:
            return Explanation(record.causes, record.segments, record.growth, record.cache)
        if record is None and not counts.fleet:
            return Explanation()
        versions = tuple(earlier.versions for earlier in history[: at + 1])
        if self._explanation is None or self._explanation[0] != versions:
            growth = await self._growth(days[: at + 1], history[: at + 1])
            if record is not None:
                explanation = Explanation(record.causes, record.segments, growth, record.cache)
            else:
                traffic = await self._source.traffic([counts])
                causes = await self._causes(days[at], counts, history, days)
                segments = segments_of(traffic.groups[CUSTOMER], self._customers)
                cache = None if counts.parts is None else self._margin(counts.parts)
                explanation = Explanation(causes, segments, growth, cache)
            self._explanation = versions, explanation
        return self._explanation[1]

    def _margin(self, parts: Sequence[StretchSums]) -> CacheMargin | None:
        """Return the margin of the cache in these sums; None without prices."""
        if self._book is None:
            return None
        return cache_margin(parts, self._source.scopes, self._book, self._cache_target)

    async def _growth(
        self, days: Sequence[Day], history: Sequence[DayCounts]
    ) -> tuple[GrowthRow, ...]:
        """Return the growth at the last of these days."""
        history = history[-HISTORY_DAYS:]
        details = await self._source.details(history)
        groups = {date: names for date, (_, names) in details.items()}
        return growth_of(
            days[-HISTORY_DAYS:], history, groups, self._source.scopes, self._customers
        )

    async def _contracts(
        self,
        board: CalendarDay,
        month: Sequence[DayCounts],
        risks: Sequence[Risk],
        targets: BoardTargets,
    ) -> tuple[Contract, ...]:
        """Return the contracts; `month`: the days from the first of the month to the board's."""
        if not any(customer.renewal for customer in self._customers.values()):
            return ()
        details = await self._source.details(month)
        groups = {date: names for date, (_, names) in details.items()}
        counts = month_counts(month, groups, self._source.scopes[CUSTOMER], self._customers)
        on = Date.fromisoformat(board.date)
        return contracts_of(self._customers, risks, counts, on, targets)

    # -- the board ---------------------------------------------------------------------------------

    async def _board(
        self,
        board: CalendarDay,
        history: Sequence[DayCounts],
        days: Sequence[Day],
        snapshot: StateSnapshot,
        context: BoardContext,
    ) -> DailyFacts:
        now_s = context.now_s
        at = next(at for at, counts in enumerate(history) if counts.day == board)
        day, record = days[at], history[at].record
        targets = self._targets if record is None else record.targets
        stored_risks = None if record is None else record.risks
        # The month up to the board's day, which may lie in the past.
        month = board.date[:7]
        in_month = [at for at in range(at + 1) if days[at].date.startswith(month)]
        total = await self._source.fleet([history[at] for at in in_month])
        holes = (
            len(in_month)
            - total.days
            + sum(
                # Absent days are counted already, and the trust sentence says more about the
                # board's own day.
                not days[at].complete and history[at].has_data and days[at].date != board.date
                for at in in_month
            )
        )
        norms = context.as_norms(history, days)
        explanation = await self._explain(at, history, norms)
        same_weekday = history[at - 7].record if at >= 7 else None
        week_before = None if same_weekday is None else same_weekday.cache
        risks = await self._current_risks(board, history, snapshot, now_s)
        first_s = context.first_event_in(board)
        shown_risks = self._names.risks(risks if stored_risks is None else stored_risks)
        return DailyFacts(
            made_at_s=int(now_s),
            zone=self._settings.exporter.time_zone,
            date=board.date,
            headline=headline(
                day,
                targets,
                shown_risks,
                part="" if first_s is None else f"From {minute(first_s, self._zone)} on: ",
                is_read=record is not None or context.is_read(board),
            ),
            trust=text.trust(day, now_s, self._zone, holes),
            days=tuple(days[-CLOSED_DAYS - 1 :]),
            targets=targets,
            trends=trends(day, norms[:at]),
            month=month,
            month_to_date=values_of(total.fleet, targets),
            risks=shown_risks,
            causes=tuple(
                with_customer_name(cause, self._names.name_of) for cause in explanation.causes
            ),
            segments=explanation.segments,
            cache=self._names.margin(with_week_before(explanation.cache, week_before)),
            contracts=await self._contracts(
                board, [history[at] for at in in_month], stored_risks or risks, targets
            ),
            growth=tuple(self._names.growth(row) for row in explanation.growth),
            risks_corrected=self._names.risks(risks_that_differ(stored_risks or (), risks)),
            counting_began_s=context.counting_began_in(history[: at + 1][-HISTORY_DAYS:]),
        )

    async def _current_risks(
        self,
        board: CalendarDay,
        history: Sequence[DayCounts],
        snapshot: StateSnapshot,
        now_s: float,
    ) -> tuple[Risk, ...]:
        """Return the objectives' status at the end of the board's day, or now if it runs."""
        is_running = now_s < board.to_s
        closed = [counts for counts in history[-MONTH_LONGEST - 1 :] if counts.day.to_s <= now_s]
        versions = (
            int(now_s) // _RISKS_EVERY_S if is_running else board.date,
            tuple(counts.versions for counts in closed),
        )
        # The last second of the day: the next one belongs to the next day, and perhaps month.
        return await self._risks.at(snapshot, min(now_s, board.to_s - 1), versions)
