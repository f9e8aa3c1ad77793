"""One refresh of the exporter: reads the state, updates the windows, fills a page.

A shell around the pure modules: Redis is read here, the time comes as an argument.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from zoneinfo import ZoneInfo

import redis.asyncio as aioredis

from exporters.board.alerts import ActiveAlerts, AlertRules, NoAlertRules, samples_for
from exporters.board.build import LiveBoard, board_sums
from exporters.board.facts import LiveFacts
from exporters.board.incidents import NEWEST_S, OUTAGE_WINDOW
from exporters.board.input import Reading
from exporters.board.objectives import HISTORY_DAYS, history_objectives
from exporters.catalogue.requests import SCOPE_LABELS
from exporters.metrics import pipeline as pipeline_samples
from exporters.metrics import requests as request_samples
from exporters.metrics.cost import CacheMoney
from exporters.metrics.exposition import Page
from exporters.metrics.objectives import Objectives
from exporters.reference.customers import Customer, Customers
from exporters.reference.prices import cache_target, load_price_book
from exporters.windows.incremental import CUSTOMER, CUSTOMER_MODEL, MODEL_TIER, PRICED, Grouping
from exporters.windows.minutes import Minutes
from exporters.windows.plan import window_plan
from exporters.windows.tracker import WindowTracker
from slo.engine.report import ObjectiveResult
from slo.policy.loading import load_policies
from slo.policy.targets import targets_of
from streams.config.settings import Settings
from streams.state.coverage import Coverage
from streams.state.limits import thresholds_of
from streams.state.measures import SERIES_DIMENSIONS
from streams.state.slices import Aggregate, Thresholds
from streams.state.windows import extent
from streams.store.reader import StateReader, StateSnapshot
from streams.worker import exemplars


@dataclass(frozen=True, slots=True)
class Collected:
    """The outcome of one refresh."""

    page: Page
    partitions: int  # that have state; 0 before the first event
    newest_pulse_s: float | None  # time of the newest heartbeat of any worker
    live: LiveFacts | None  # None before the first event


class Collector:
    """Turns the state of one consumer group into pages, refresh after refresh."""

    def __init__(
        self,
        settings: Settings,
        client: "aioredis.Redis",
        customers: Mapping[str, Customer],
        rules: AlertRules | None = None,
    ) -> None:
        """`customers`: by the token that the state has for them. `rules`: evaluate the alert rules
        for the board; without them it shows no alert about requests. Raises ConfigError.
        """
        self._rules = rules or NoAlertRules()
        self._settings, self._client, self._customers = settings, client, customers
        self._targets = thresholds_of(settings.worker)
        self._policies = load_policies(settings.exporter.policies)
        self._plan = window_plan(settings)
        book = settings.exporter.price_book
        self._book = None if book is None else load_price_book(book)
        if self._book is not None:
            self._plan = CacheMoney.planned(self._plan)
        # The board needs sums of windows and scopes that are not exported.
        self._tracked = {name: list(scopes) for name, scopes in self._plan.items()}
        for name, scopes in board_sums(self._policies, self._rules).items():
            tracked = self._tracked.setdefault(name, [])
            tracked += [scope for scope in sorted(scopes) if scope not in tracked]
        self.forget()

    def forget(self) -> None:
        """Drop all that was read, as after a failed refresh: when Redis comes back it may have
        another state under the same numbers."""
        kafka = self._settings.kafka
        self._reader = StateReader(self._client, kafka.group, kafka.topic)
        self._objectives = Objectives(self._settings, self._policies, self._client, self._customers)
        groupings = {
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
            groupings.update(self._money.groupings)
        self._histogram_grouping = Grouping("histograms", ("model", "region"), SERIES_DIMENSIONS)
        zone = ZoneInfo(self._settings.exporter.time_zone)
        self._tracker = WindowTracker(self._tracked, groupings, zone)
        self._minutes = Minutes()
        self._board = LiveBoard(
            self._policies,
            Customers(self._customers).name_of,
            self._settings.exporter.stale_after_s,
        )
        self._versions: dict[int, tuple[int, int]] = {}  # partition -> generation, checkpoint
        self._freshness_s: dict[int, float] = {}

    async def collect(self, now_s: float) -> Collected:
        """Read the state and fill a page with all that is known at `now_s`, the wall clock.

        Raises StoreError if the state cannot be read.
        """
        snapshot = await self._reader.snapshot()
        self._tracker.begin(now_s)
        self._minutes.begin(now_s)
        await self._objectives.begin(now_s)
        await snapshot.load([self._tracker, self._minutes, self._objectives.consumer])
        page, live = Page(), None
        lags = self._lags(snapshot, now_s)
        if snapshot.views:
            self._tracker.update(snapshot)
            self._add_totals(page, snapshot)
            self._add_windows(page)
            self._add_completeness(page, snapshot)
            found = await self._objectives.add(page, snapshot, now_s)
        self._add_pipeline(page, snapshot, lags, now_s)
        if snapshot.views:
            live = self._board.facts(self._reading(page, snapshot, lags, found, now_s))
        pulsed_ms = [
            at_ms for sign in snapshot.heartbeats if (at_ms := sign.number("at_ms")) is not None
        ]
        newest_pulse_s = max(pulsed_ms) / 1_000 if pulsed_ms else None
        return Collected(page, len(snapshot.views), newest_pulse_s, live)

    # -- samples ---------------------------------------------------------------------------------

    def _add_totals(self, page: Page, snapshot: StateSnapshot) -> None:
        totals = Aggregate.merged([view.totals for view in snapshot.views])
        edges = _common_edges([view.meta.edges for view in snapshot.views])
        overflowed: dict[str, int] = {}
        for view in snapshot.views:
            for dimension, count in view.meta.overflowed.items():
                overflowed[dimension] = overflowed.get(dimension, 0) + count
        self._histogram_grouping.follow(snapshot.series)
        exporter = self._settings.exporter
        request_samples.add_totals(page, totals, snapshot.series, self._targets, edges)
        request_samples.add_refused(page, totals, overflowed)
        request_samples.add_histograms(
            page,
            totals,
            self._histogram_grouping,
            edges,
            exporter.operation_name,
            exporter.provider_name,
            chain.from_iterable(
                exemplars.read(sign.text("exemplars")) for sign in snapshot.heartbeats
            ),
        )

    def _add_windows(self, page: Page) -> None:
        groupings = self._tracker.groupings
        for name, window in self._tracker.windows.items():
            for scope, sums in window.sums.items():
                if scope in PRICED or scope not in self._plan.get(name, ()):
                    continue
                if scope == CUSTOMER:
                    exported = request_samples.add_customers(
                        page,
                        name,
                        groupings[scope],
                        sums,
                        self._settings.exporter.customers_top,
                        self._customers,
                    )
                    if self._money is not None:
                        self._money.add_customers(page, exported, window.sums[CUSTOMER_MODEL])
                else:
                    request_samples.add_window(page, name, groupings[scope], sums)
            if self._money is not None and MODEL_TIER in window.sums:
                self._money.add_window(page, name, window.sums[MODEL_TIER])

    def _add_completeness(self, page: Page, snapshot: StateSnapshot) -> None:
        # A coarse slice may begin long before the first event in it.
        first_s = [
            max(extent(view.index)[0], (view.meta.since_ms or 0) // 1_000)
            for view in snapshot.views
            if view.index
        ]
        if first_s:
            spans = self._tracker.spans(snapshot)
            exported = {name: spans[name] for name in self._plan}
            coverage = Coverage.of(view.meta for view in snapshot.views)
            pipeline_samples.add_completeness(page, min(first_s), exported, coverage)

    def _add_pipeline(
        self, page: Page, snapshot: StateSnapshot, lags: Mapping[int, int], now_s: float
    ) -> None:
        for view in snapshot.views:
            version = (view.generation, view.meta.sequence)
            known = self._versions.get(view.partition)
            watermark_ms = view.meta.watermark_ms
            # Unknown for the first checkpoint: this exporter did not see when it was written.
            if known not in (None, version) and watermark_ms is not None:
                self._freshness_s[view.partition] = max(0.0, now_s - watermark_ms / 1_000)
            self._versions[view.partition] = version
            pipeline_samples.add_state(page, view, self._freshness_s.get(view.partition))
        for sign in snapshot.heartbeats:
            pipeline_samples.add_heartbeat(page, sign, lags.get(sign.partition))
        pipeline_samples.add_workers(page, snapshot.heartbeats)

    # -- the live board --------------------------------------------------------------------------

    def _reading(
        self,
        page: Page,
        snapshot: StateSnapshot,
        lags: Mapping[int, int],
        found: Sequence[ObjectiveResult] | None,
        now_s: float,
    ) -> Reading:
        spans = self._tracker.spans(snapshot)
        newest_s = spans[OUTAGE_WINDOW][1] - NEWEST_S
        tracker = self._tracker
        return Reading(
            now_s=now_s,
            names={name: grouping.keys for name, grouping in tracker.groupings.items()},
            windows={name: window.sums for name, window in tracker.windows.items()},
            spans=spans,
            newest=tracker.newest(newest_s),
            newest_s=newest_s,
            views=snapshot.views,
            heartbeats=snapshot.heartbeats,
            coverage=Coverage.of(view.meta for view in snapshot.views),
            lags=lags,
            freshness_s=self._freshness_s,
            minutes=self._minutes.last_hour(snapshot, now_s),
            results=found,
            alerts=self._alerts(page, found or (), now_s),
            days=self._objectives.by_day(history_objectives(found or ()), HISTORY_DAYS, now_s),
        )

    def _alerts(self, page: Page, results: Sequence[ObjectiveResult], now_s: float) -> ActiveAlerts:
        """Evaluate the alert rules over the page, the board's windows and the objectives."""
        windows = {name: window.sums for name, window in self._tracker.windows.items()}
        samples = samples_for(self._rules, windows, self._tracker.groupings, results, page)
        return ActiveAlerts(self._rules.evaluate(samples, now_s))

    def _lags(self, snapshot: StateSnapshot, now_s: float) -> dict[int, int]:
        """Return the records that wait, by partition; only those whose worker is alive."""
        offsets = {view.partition: view.offset for view in snapshot.views}
        stale_after_s = self._settings.exporter.stale_after_s
        return {
            sign.partition: lag
            for sign in snapshot.heartbeats
            if sign.partition in offsets
            and (lag := sign.lag(offsets[sign.partition], now_s, stale_after_s)) is not None
        }


def _common_edges(edges: Sequence[Thresholds]) -> Thresholds:
    """Return the bucket edges that all partitions count: while a target changes they differ."""
    return Thresholds(
        *(
            tuple(sorted(set.intersection(*map(set, latency))))
            for latency in zip(*edges, strict=True)
        )
    )
