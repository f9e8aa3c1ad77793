"""One export: reads the state, keeps the windows up to date, fills a page.

A shell around the pure modules: Redis is read here, the time comes as an argument. All work is in
proportion to what changed since the last export, not to how long the windows are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from zoneinfo import ZoneInfo

import redis.asyncio as aioredis

from exporters.board.build import LiveBoard, sums_needed
from exporters.board.facts import LiveFacts
from exporters.board.incidents import NEWEST_S, OUTAGE_WINDOW
from exporters.board.input import Reading
from exporters.board.objectives import HISTORY_DAYS, history_objectives
from exporters.board.sparkline_minutes import FLEET, Minutes
from exporters.catalogue import pipeline as catalogue_health
from exporters.catalogue import requests as catalogue
from exporters.catalogue.requests import SCOPE_LABELS
from exporters.metrics import pipeline as health
from exporters.metrics import requests as samples
from exporters.metrics.cost import CacheMoney
from exporters.metrics.exposition import Page, label_text
from exporters.metrics.objectives import Customers, Objectives
from exporters.reference.customers import Customer
from exporters.reference.prices import cache_target, load_price_book
from exporters.windows.incremental import (
    CUSTOMER,
    CUSTOMER_MODEL,
    MODEL_TIER,
    PRICED,
    Change,
    Grouping,
    PartKey,
    SliceSummary,
    Sums,
    Window,
    summarise,
)
from slo.engine.report import ObjectiveResult
from slo.policy.loading import load_policies
from slo.policy.targets import targets_of
from streams.config.settings import Settings
from streams.state.coverage import Coverage
from streams.state.limits import thresholds_of
from streams.state.measures import SERIES_DIMENSIONS
from streams.state.slices import Aggregate, SliceId, Thresholds
from streams.state.windows import ROLLING_S, calendar, cover, extent, rolling
from streams.store.contract import StoreError
from streams.store.heartbeat import Heartbeat
from streams.store.reader import PartitionView, StateReader
from streams.worker import exemplars

CALENDAR = ("day", "month")
# A day of 100 series is some megabytes a partition before it is digested; a few at a time.
SLICES_A_ROUND = 16
ROUNDS = 500

Read = Sequence[tuple[PartitionView, Mapping[SliceId, Aggregate]]]


@dataclass(frozen=True, slots=True)
class Collected:
    """What one reading of the state came to."""

    page: Page
    partitions: int  # that have state; 0 before the first event
    newest_pulse_s: float | None  # newest sign of life of any worker
    live: LiveFacts | None  # None before the first event


class Collector:
    """Turns the state of one consumer group into pages, again and again."""

    def __init__(
        self, settings: Settings, client: "aioredis.Redis", customers: Mapping[str, Customer]
    ) -> None:
        self._settings, self._client, self._customers = settings, client, customers
        self._zone = ZoneInfo(settings.exporter.time_zone)
        self._targets = thresholds_of(settings.worker)
        self._policies = load_policies(settings.exporter.policies)
        self._plan = window_plan(settings)
        book = settings.exporter.price_book
        self._book = None if book is None else load_price_book(book)
        if self._book is not None:
            self._plan = CacheMoney.planned(self._plan)
        # What is summed but not exported is for the board.
        self._held = {name: list(scopes) for name, scopes in self._plan.items()}
        for name, scopes in sums_needed(self._policies).items():
            held = self._held.setdefault(name, [])
            held += [scope for scope in sorted(scopes) if scope not in held]
        self.forget()

    def forget(self) -> None:
        """Begin again from nothing, as after a failed reading: what Redis holds when it comes back
        may be another state under the same numbers."""
        kafka = self._settings.kafka
        self._objectives = Objectives(self._settings, self._policies, self._client, self._customers)
        self._reader = StateReader(self._client, kafka.group, kafka.topic, remember=False)
        self._scopes = {
            name: Grouping(
                name,
                labels if name != CUSTOMER else (CUSTOMER,),
                SERIES_DIMENSIONS if name != CUSTOMER else (CUSTOMER, "model"),
            )
            for name, labels in SCOPE_LABELS.items()
        }
        self._money: CacheMoney | None = None
        if self._book is not None:
            self._money = CacheMoney(self._book, cache_target(targets_of(self._policies)))
            self._scopes.update(self._money.scopes)
        self._histogram_scope = Grouping("histograms", ("model", "region"), SERIES_DIMENSIONS)
        self._windows = {name: Window(scopes) for name, scopes in self._held.items()}
        self._minutes = Minutes()
        self._board = LiveBoard(
            self._policies,
            Customers(self._customers).name_of,
            self._settings.exporter.stale_after_s,
        )
        self._digests: dict[PartKey, tuple[int, SliceSummary]] = {}  # with the version of the slice
        self._sequences: dict[int, int] = {}
        self._freshness_s: dict[int, float] = {}

    async def collect(self, now_s: float) -> Collected:
        """Read the state and fill a page with everything known at `now_s`, the wall clock.

        Raises StoreError where the state cannot be read.
        """
        views, covers = await self._read(int(now_s))
        signs = await self._reader.signs()
        page, found = Page(), None
        if views:
            self._update(covers)
            self._add_totals(page, views, signs)
            self._add_windows(page, views, int(now_s))
            found = await self._objectives.add(page, now_s)
        self._add_health(page, views, signs, now_s)
        live = self._board.facts(self._reading(views, signs, found, now_s)) if views else None
        pulsed_ms = [at_ms for sign in signs if (at_ms := sign.number("at_ms")) is not None]
        newest_pulse_s = max(pulsed_ms) / 1_000 if pulsed_ms else None
        return Collected(page, len(views), newest_pulse_s, live)

    # -- reading ---------------------------------------------------------------------------------

    async def _read(
        self, as_of_s: int
    ) -> tuple[list[PartitionView], dict[int, dict[str, list[SliceId]]]]:
        """All partitions, and per partition and window the slices that are its parts; these are
        digested, at the version of the view, when this returns."""
        covers: dict[int, dict[str, list[SliceId]]] = {}
        unread: dict[int, int] = {}

        def wanted(view: PartitionView) -> list[SliceId]:
            partition = view.partition
            if view.meta.sequence < self._sequences.get(partition, 0):  # the state was set back
                self._drop(partition)
            covers[partition] = self._covers(view, as_of_s)
            missing = [
                of
                for of, scopes in self._needs(covers[partition]).items()
                if not self._has(partition, of, view.index[of], scopes)
            ]
            known = set(missing)
            missing += [of for of in self._minutes.missing(view, as_of_s) if of not in known]
            unread[partition] = max(0, len(missing) - SLICES_A_ROUND)
            return missing[:SLICES_A_ROUND]

        for _ in range(ROUNDS):
            read = await self._reader.read(wanted)
            self._digest(read, covers)
            if not any(unread[view.partition] for view, _ in read):
                break
        else:
            raise StoreError("the state is rewritten faster than it can be read")
        views = [view for view, _ in read]
        covers = {view.partition: covers[view.partition] for view in views}
        kept = {(partition, of) for partition in covers for of in self._needs(covers[partition])}
        self._digests = {key: held for key, held in self._digests.items() if key in kept}
        return views, covers

    def _covers(self, view: PartitionView, as_of_s: int) -> dict[str, list[SliceId]]:
        if not view.index:
            return {name: [] for name in self._held}
        watermark_s = (view.meta.watermark_ms or 0) // 1_000
        reach_s = extent(view.index)
        return {
            name: cover(
                view.index,
                view.meta.merged_until_s,
                *self._span(name, as_of_s, watermark_s),
                reach_s,
            )
            for name in self._held
        }

    def _span(self, window: str, as_of_s: int, watermark_s: int) -> tuple[int, int]:
        if window in CALENDAR:
            return calendar(window, as_of_s, self._zone, watermark_s)
        return rolling(ROLLING_S[window], as_of_s, watermark_s)

    def _needs(self, covers: Mapping[str, Sequence[SliceId]]) -> dict[SliceId, set[str]]:
        """Scopes that each slice must be digested for."""
        needs: dict[SliceId, set[str]] = {}
        for name, scopes in self._held.items():
            for of in covers[name]:
                needs.setdefault(of, set()).update(scopes)
        return needs

    def _has(self, partition: int, of: SliceId, version: int, scopes: set[str]) -> bool:
        held = self._digests.get((partition, of))
        return held is not None and held[0] == version and held[1].keys() >= scopes

    def _digest(self, read: Read, covers: Mapping[int, Mapping[str, Sequence[SliceId]]]) -> None:
        for name, scope in self._scopes.items():
            cubes = name in (CUSTOMER, CUSTOMER_MODEL)
            scope.follow(self._reader.cubes if cubes else self._reader.series)
        for view, aggregates in read:
            needs = self._needs(covers[view.partition]) if aggregates else {}
            for of, aggregate in aggregates.items():
                names = needs.get(of, set())
                if self._minutes.wants(view.partition, of):
                    names = names | {FLEET}
                digested = summarise(aggregate, [self._scopes[name] for name in sorted(names)])
                self._digests[view.partition, of] = (view.index[of], digested)
                self._minutes.take(view.partition, of, view.index[of], digested)

    def _drop(self, partition: int) -> None:
        self._digests = {key: held for key, held in self._digests.items() if key[0] != partition}
        self._minutes.drop(partition)

    def _update(self, covers: Mapping[int, Mapping[str, Sequence[SliceId]]]) -> None:
        deltas: dict[Change, Sums] = {}
        for name, window in self._windows.items():
            window.update(
                {
                    (partition, of): self._digests[partition, of][1]
                    for partition, by_window in covers.items()
                    for of in by_window[name]
                },
                deltas,
            )

    # -- samples ---------------------------------------------------------------------------------

    def _add_totals(
        self, page: Page, views: Sequence[PartitionView], signs: Sequence[Heartbeat]
    ) -> None:
        totals = Aggregate.merged([view.totals for view in views])
        edges = _common_edges([view.meta.edges for view in views])
        folded: dict[str, int] = {}
        for view in views:
            for dimension, count in view.meta.folded.items():
                folded[dimension] = folded.get(dimension, 0) + count
        names = self._reader.series
        self._histogram_scope.follow(names)
        exporter = self._settings.exporter
        samples.add_totals(page, totals, names, self._targets, edges)
        samples.add_refused(page, totals, folded)
        samples.add_histograms(
            page,
            totals,
            self._histogram_scope,
            edges,
            exporter.operation_name,
            exporter.provider_name,
            chain.from_iterable(exemplars.read(sign.text("exemplars")) for sign in signs),
        )

    def _add_windows(self, page: Page, views: Sequence[PartitionView], as_of_s: int) -> None:
        for name, window in self._windows.items():
            for scope, sums in window.sums.items():
                if scope in PRICED or scope not in self._plan.get(name, ()):
                    continue
                if scope == CUSTOMER:
                    shown = samples.add_customers(
                        page,
                        name,
                        self._scopes[scope],
                        sums,
                        self._settings.exporter.customers_top,
                        self._customers,
                    )
                    if self._money is not None:
                        self._money.add_customers(page, shown, window.sums[CUSTOMER_MODEL])
                else:
                    samples.add_window(page, name, self._scopes[scope], sums)
            if self._money is not None and MODEL_TIER in window.sums:
                self._money.add_window(page, name, window.sums[MODEL_TIER])
        watermark_s = max((view.meta.watermark_ms or 0) // 1_000 for view in views)
        # A coarse slice may begin long before the first event in it.
        reached = [
            max(extent(view.index)[0], (view.meta.since_ms or 0) // 1_000)
            for view in views
            if view.index
        ]
        if not reached:
            return
        since_s = min(reached)
        coverage = Coverage.of(view.meta for view in views)
        page.add(catalogue_health.STATE_SINCE, "", since_s)
        for name in self._plan:
            from_s, to_s = self._span(name, as_of_s, watermark_s)
            covered_s = min(max(to_s - max(from_s, since_s), 0), to_s - from_s)
            label = label_text({"window": name})
            page.add(catalogue.WINDOW_START, label, from_s)
            page.add(catalogue.WINDOW_COVERAGE, label, covered_s / (to_s - from_s))
            page.add(catalogue.WINDOW_COMPLETE, label, int(coverage.complete(from_s, to_s)))

    def _reading(
        self,
        views: Sequence[PartitionView],
        signs: Sequence[Heartbeat],
        found: Sequence[ObjectiveResult] | None,
        now_s: float,
    ) -> Reading:
        """What the board is made of."""
        watermark_s = max((view.meta.watermark_ms or 0) // 1_000 for view in views)
        spans = {name: self._span(name, int(now_s), watermark_s) for name in self._held}
        newest_s = spans[OUTAGE_WINDOW][1] - NEWEST_S
        newest = [
            digested["series"]
            for (_, of), (_, digested) in self._digests.items()
            if of.level == 0 and of.start_s >= newest_s
        ]
        return Reading(
            now_s=now_s,
            names={name: scope.keys for name, scope in self._scopes.items()},
            windows={name: window.sums for name, window in self._windows.items()},
            spans=spans,
            newest=Sums.merged([Sums.empty("series"), *newest]),
            newest_s=newest_s,
            views=views,
            signs=signs,
            coverage=Coverage.of(view.meta for view in views),
            lags=self._lags(views, signs, now_s),
            freshness_s=self._freshness_s,
            minutes=self._minutes.of({view.partition for view in views}, now_s),
            found=found,
            days=self._objectives.by_day(history_objectives(found or ()), HISTORY_DAYS, now_s),
        )

    def _lags(
        self, views: Sequence[PartitionView], signs: Sequence[Heartbeat], now_s: float
    ) -> dict[int, int]:
        """Records that wait, by partition; only where a live worker says so."""
        offsets = {view.partition: view.offset for view in views}
        stale_after_s = self._settings.exporter.stale_after_s
        return {
            sign.partition: lag
            for sign in signs
            if sign.partition in offsets
            and (lag := sign.lag(offsets[sign.partition], now_s, stale_after_s)) is not None
        }

    def _add_health(
        self, page: Page, views: Sequence[PartitionView], signs: Sequence[Heartbeat], now_s: float
    ) -> None:
        for view in views:
            known = self._sequences.get(view.partition)
            watermark_ms = view.meta.watermark_ms
            if known not in (None, view.meta.sequence) and watermark_ms is not None:
                self._freshness_s[view.partition] = max(0.0, now_s - watermark_ms / 1_000)
            self._sequences[view.partition] = view.meta.sequence
            health.add_state(page, view, self._freshness_s.get(view.partition))
        lags = self._lags(views, signs, now_s)
        for sign in signs:
            health.add_sign(page, sign, lags.get(sign.partition))
        health.add_workers(page, signs)


def window_plan(settings: Settings) -> dict[str, list[str]]:
    """Window -> scopes it is summed by."""
    exporter = settings.exporter
    shared = [scope for scope in SCOPE_LABELS if scope not in ("series", CUSTOMER)]
    plan: dict[str, list[str]] = {}
    for name in (*exporter.windows, *CALENDAR):
        plan[name] = list(shared)
    for name in exporter.series_windows:
        plan.setdefault(name, []).append("series")
    for name in exporter.customer_windows if exporter.customers_top else ():
        plan.setdefault(name, []).append(CUSTOMER)
    return plan


def _common_edges(edges: Sequence[Thresholds]) -> Thresholds:
    """Edges that all partitions count: while a target changes, they do not all have the same."""
    return Thresholds(
        *(tuple(sorted(set.intersection(*map(set, one)))) for one in zip(*edges, strict=True))
    )
