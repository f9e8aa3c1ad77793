"""Build the facts of a week or month from the daily board of its last day.

A shell: days before those of that board are read from Redis. Objectives, credits and contracts are
those of the last day's board; all else is that of the whole period.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from zoneinfo import ZoneInfo

from exporters.daily.commercial.cache_margin import stored_margin
from exporters.daily.commercial.names import CustomerNames
from exporters.daily.day import text
from exporters.daily.day.calendar import day_of
from exporters.daily.day.causes import GroupTraffic, with_customer_name
from exporters.daily.day.counts import Counts
from exporters.daily.day.facts import (
    METRICS,
    BoardTargets,
    CacheMargin,
    DailyFacts,
    Day,
    Edition,
    MetricCause,
    Segment,
    Span,
)
from exporters.daily.day.history import BoardContext, DayCounts, causes_of
from exporters.daily.day.metrics import segments_of
from exporters.daily.day.source import DaySource
from exporters.daily.day.stretches import StretchSums
from exporters.daily.day.trends import HISTORY_DAYS, Base
from exporters.daily.day.verdict import headline
from exporters.daily.editions.changes import changes_of, growth_of_period
from exporters.daily.editions.periods import SHOWN, SPANS, Period
from exporters.daily.editions.totals import PeriodDays, bounds, final_counts, period_day
from exporters.reference.customers import Customer
from exporters.windows.incremental import CUSTOMER
from streams.store.reader import StateSnapshot

# Sums of the slices of some days -> the margin of the cache; None without prices.
Margin = Callable[[Sequence[StretchSums]], CacheMargin | None]


@dataclass(frozen=True, slots=True)
class BoardDays:
    """The days that the board of a period's last day has read, oldest first, that day the last."""

    history: Sequence[DayCounts]
    days: Sequence[Day]
    snapshot: StateSnapshot
    context: BoardContext
    first: str  # the first date with data


class EditionBuilder:
    """Builds weekly and monthly editions of the boards of one time zone."""

    def __init__(
        self,
        source: DaySource,
        customers: Mapping[str, Customer],
        zone: ZoneInfo,
        margin: Margin,
    ) -> None:
        """Prepare the builder; `customers`: by the token under which the state counts them."""
        self._source, self._customers, self._zone = source, customers, zone
        self._names, self._margin = CustomerNames(customers), margin

    async def facts(self, board: DailyFacts, period: Period, read: BoardDays) -> DailyFacts:
        """Return the edition of `period`; `board`: the board of its last day, or the running one.

        Raises StoreError if Redis does not answer.
        """
        shown = [period.step(-back) for back in reversed(range(SHOWN))]
        compared = {span: period.step(-back) for span, back in SPANS[period.kind].items()}
        wanted = {*shown, *compared.values()}
        selected = await self._select(wanted, read)
        stored = await self._stored_counts(selected)

        def added_up(one: Period) -> Day:
            now_s = read.context.now_s
            return period_day(selected[one], stored, board.targets, self._zone, now_s)

        totals = {one: added_up(one) for one in wanted}
        day, before = totals[period], [totals[one] for one in shown[:-1]]
        earlier = {
            span: totals[one] for span, one in compared.items() if totals[one].values.requests
        }
        in_period = selected[period]
        now = await self._traffic(in_period, stored)
        details = await self._source.details(read.history[-HISTORY_DAYS:])
        growth = growth_of_period(
            period,
            read.context.as_norms(read.history, read.days),
            read.history,
            {date: groups for date, (_, groups) in details.items()},
            self._source.scopes,
            self._customers,
            selected[compared["year"]].days,
        )
        over = sum(counts.day.to_s <= read.context.now_s for counts in in_period.history)
        so_far = f"{over} of {len(period.days)} days"
        known = [date for date in period.days if date.isoformat() >= read.first]
        part = ""
        if len(known) < len(period.days):
            over_known = over - (len(period.days) - len(known))
            part = f"Data of {max(over_known, 0)} of {len(period.days)} days: "
        return replace(
            board,
            period=period.kind,
            date=day.date,
            headline=headline(
                day,
                board.targets,
                board.risks,
                part or f"So far, {so_far}: ",
                part,
                is_read=day.state == "sealed" or read.context.is_read(bounds(period, self._zone)),
            ),
            trust=text.trust(
                day, read.context.now_s, self._zone, noun=period.kind, progress=f" ({so_far})"
            ),
            days=tuple(totals[one] for one in shown),
            trends=(),
            causes=await self._causes(day, now, selected, stored, compared, before, board.targets),
            segments=await self._segments(in_period.history),
            growth=tuple(self._names.growth(row) for row in growth),
            cache=self._names.margin(self._period_margin(in_period.history)),
            edition=Edition(
                days=len(period.days),
                days_over=over,
                changes=changes_of(day, earlier, before, growth),
            ),
        )

    async def _select(self, periods: set[Period], read: BoardDays) -> dict[Period, PeriodDays]:
        """Return the days of some periods up to the board's last day."""
        known = {counts.day.date: counts for counts in read.history}
        shown = {day.date: day for day in read.days}
        last = read.days[-1].date
        dates = sorted({date for one in periods for date in one.days})
        unread = [
            day_of(date, self._zone)
            for date in dates
            if date.isoformat() not in known and date.isoformat() <= last
        ]
        for counts in await self._source.earlier_days(read.snapshot, read.first, unread):
            known[counts.day.date] = counts
            shown[counts.day.date] = read.context.show(counts)
        selected = {}
        for period in periods:
            begun = [date.isoformat() for date in period.days if date.isoformat() <= last]
            selected[period] = PeriodDays(
                period,
                [known[date] for date in begun],
                # A day before the first event is no day without traffic.
                [
                    replace(shown[date], complete=shown[date].complete and date >= read.first)
                    for date in begun
                ],
            )
        return selected

    async def _stored_counts(self, selected: Mapping[Period, PeriodDays]) -> dict[str, Counts]:
        """Return the counts, by date, of final days that an earlier version stored apart."""
        apart = [
            # Without its slices, so that the stored counts are read in place of them.
            counts._replace(parts=None)
            for days in selected.values()
            for counts in days.history
            if counts.record is not None and counts.record.fleet is None
        ]
        details = await self._source.details(apart)
        return {date: fleet for date, (fleet, _) in details.items()}

    async def _traffic(self, days: PeriodDays, stored: Mapping[str, Counts]) -> GroupTraffic:
        """Return the traffic of a period by group, in total as the board shows it."""
        traffic = await self._source.traffic(days.history)
        parts = [final_counts(counts, stored) for counts in days.history]
        return replace(traffic, fleet=Counts.sum(part for part in parts if part is not None))

    async def _causes(
        self,
        day: Day,
        now: GroupTraffic,
        selected: Mapping[Period, PeriodDays],
        stored: Mapping[str, Counts],
        compared: Mapping[Span, Period],
        before: Sequence[Day],
        targets: BoardTargets,
    ) -> tuple[MetricCause, ...]:
        """Return the causes of the changes against the period before.

        Tokens are left out: their growth is shown by name.
        """
        previous = await self._traffic(selected[next(iter(compared.values()))], stored)
        if not previous.fleet or not now.fleet:
            return ()
        base = Base(tuple(one for one in before if one.values.requests))
        causes = causes_of(day, now, previous, base, targets, METRICS[1:])
        return tuple(with_customer_name(cause, self._names.name_of) for cause in causes)

    async def _segments(self, history: Sequence[DayCounts]) -> tuple[Segment, ...]:
        """Return the segments of a period; none if those of one of its days are not known."""
        stored, by_customer = [], []
        for counts in history:
            record = counts.record if counts.parts is None else None
            by_segment = None if record is None else record.segment_counts
            if by_segment:
                stored.append(by_segment)
            elif counts.has_data:
                by_customer.append(counts)
        traffic = await self._source.traffic(by_customer)
        # Counts by customer expire, and smaller customers of stored days were added up.
        if traffic.days < len(by_customer) or CUSTOMER in traffic.stored_names:
            return ()
        return segments_of(traffic.groups[CUSTOMER], self._customers, stored)

    def _period_margin(self, history: Sequence[DayCounts]) -> CacheMargin | None:
        """Return the margin of the cache: by name if all days have their slices, else in total."""
        parts = [part for counts in history for part in counts.parts or ()]
        if all(counts.parts is not None for counts in history):
            return self._margin(parts)
        records = [counts.record for counts in history if counts.record is not None]
        return stored_margin([record.cache for record in records])
