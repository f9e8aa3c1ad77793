"""Builds the page for Prometheus from a state that is read. Pure."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain

from exporters.board.incidents.failures import USUAL_WINDOW
from exporters.metrics import pipeline as pipeline_samples
from exporters.metrics import records as record_samples
from exporters.metrics import requests as request_samples
from exporters.metrics import sources as source_samples
from exporters.metrics.cost import CacheMoney
from exporters.metrics.exposition import Page
from exporters.metrics.group_shares import Shares, least_share, shares_of, shares_of_totals
from exporters.metrics.objectives import ObjectiveSamples
from exporters.reference.customers import Customer
from exporters.reference.prices import PriceBook, cache_target
from exporters.windows.incremental import CUSTOMER, CUSTOMER_MODEL, MODEL_TIER, PRICED, Grouping
from exporters.windows.plan import window_plan
from exporters.windows.tracker import WindowTracker
from slo.engine.report import ObjectiveResult
from slo.policy.policy import Policy
from slo.policy.targets import targets_of
from streams.config.settings import Settings
from streams.state.coverage import Coverage
from streams.state.limits import thresholds_of
from streams.state.measures import SERIES_DIMENSIONS, without_apart_tiers
from streams.state.slices import Aggregate, Thresholds
from streams.state.windows import extent
from streams.store.reader import StateSnapshot
from streams.store.source_counts import SourceHistory
from streams.worker.exemplars import load_exemplars


class PageBuilder:
    """The samples that the settings of one exporter publish, with the names of its customers."""

    def __init__(
        self,
        settings: Settings,
        policies: Sequence[Policy],
        customers: Mapping[str, Customer],
        book: PriceBook | None,
    ) -> None:
        """`customers`: by the token that the state has for them. `book`: None without prices."""
        self._settings, self._customers = settings, customers
        self._targets = thresholds_of(settings.worker)
        self._objectives = ObjectiveSamples(customers)
        self._series_grouping = Grouping("series", SERIES_DIMENSIONS, SERIES_DIMENSIONS)
        self._histogram_grouping = Grouping("histograms", ("model", "region"), SERIES_DIMENSIONS)
        self._money: CacheMoney | None = None
        self.plan = window_plan(settings)  # by window, the scopes that are published
        if book is not None:
            self._money = CacheMoney(book, cache_target(targets_of(policies)))
            self.plan = CacheMoney.extend_plan(self.plan)

    @property
    def price_groupings(self) -> dict[str, Grouping]:
        """Groupings of the sums that have prices; empty without prices."""
        return {} if self._money is None else self._money.groupings

    def build(
        self,
        snapshot: StateSnapshot,
        tracker: WindowTracker,
        lags: Mapping[int, int],
        freshness_s: Mapping[int, float],
        results: Sequence[ObjectiveResult] | None,
        sources: SourceHistory,
        now_s: float,
    ) -> Page:
        """Return the page of a snapshot and of windows that are up to date with it.

        `lags`: records that wait, by partition. `freshness_s`: age of the newest event of each
        partition when it was written. `results`: of the objectives; None until they are known.
        `now_s`: the wall clock, for the sources of the intake.
        """
        self._series_grouping.follow(snapshot.series)
        self._histogram_grouping.follow(snapshot.series)
        totals = Aggregate.merged([view.totals for view in snapshot.views])
        # The board's sums by series, which are always tracked.
        recent = tracker.windows[USUAL_WINDOW].sums["series"].counts
        shares = {
            grouping.name: shares_of_totals(grouping.regroup(totals.series, 0), recent, grouping)
            for grouping in (self._series_grouping, self._histogram_grouping)
        }
        page = Page(self._least_share(shares.values(), tracker))
        # Without a partition a total of 0 would look like traffic that stopped.
        if snapshot.views:
            # A total of fewer partitions would look like a counter that began again.
            if all(view.is_readable for view in snapshot.views):
                self._add_totals(page, snapshot, totals, shares)
            self._add_windows(page, tracker)
            self._add_completeness(page, snapshot, tracker)
            self._objectives.add(page, results or ())
            pipeline_samples.add_archive_interval(page, self._settings.worker.archive_interval_s)
        for view in snapshot.views:
            if view.is_readable:
                pipeline_samples.add_state(page, view, freshness_s.get(view.partition))
        for heartbeat in snapshot.heartbeats:
            pipeline_samples.add_heartbeat(page, heartbeat, lags.get(heartbeat.partition))
        pipeline_samples.add_workers(page, snapshot.heartbeats)
        source_samples.add_sources(page, sources, now_s)
        return page

    def _least_share(self, of_totals: Iterable[Shares], tracker: WindowTracker) -> float:
        """Return the share of the requests below which no group can be on the page."""
        of_windows = (
            shares_of(sums.counts)
            for name, window in tracker.windows.items()
            for scope, sums in window.sums.items()
            if scope not in PRICED and scope != CUSTOMER and scope in self.plan.get(name, ())
        )
        return least_share(self._settings.exporter.max_samples, [*of_totals, *of_windows])

    def _add_totals(
        self,
        page: Page,
        snapshot: StateSnapshot,
        totals: Aggregate,
        shares: Mapping[str, Shares],
    ) -> None:
        # An edge that a partition does not count would miss its requests.
        edges = _common_edges([view.meta.edges for view in snapshot.views])
        overflowed: dict[str, int] = {}
        for view in snapshot.views:
            for dimension, count in view.meta.overflowed.items():
                overflowed[dimension] = overflowed.get(dimension, 0) + count
        exporter = self._settings.exporter
        request_samples.add_totals(
            page,
            totals,
            shares[self._series_grouping.name],
            self._series_grouping,
            self._targets,
            edges,
        )
        record_samples.add_records(page, totals, overflowed)
        request_samples.add_histograms(
            page,
            # It keeps all requests, so the shares are the same.
            without_apart_tiers(totals, snapshot.series, self._settings.latency.apart_tiers),
            shares[self._histogram_grouping.name],
            self._histogram_grouping,
            edges,
            exporter.operation_name,
            exporter.provider_name,
            chain.from_iterable(
                load_exemplars(heartbeat.text("exemplars")) for heartbeat in snapshot.heartbeats
            ),
        )

    def _add_windows(self, page: Page, tracker: WindowTracker) -> None:
        groupings = tracker.groupings
        for name, window in tracker.windows.items():
            shown: dict[str, Collection[str]] = {}  # labels, by scope
            for scope, sums in window.sums.items():
                # The tracker also sums for prices and for the board; only the plan is published.
                if scope in PRICED or scope not in self.plan.get(name, ()):
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
                    shown[scope] = request_samples.add_window(page, name, groupings[scope], sums)
            if name in self.plan and CUSTOMER in window.sums:
                request_samples.add_failing_customers(page, name, window.sums[CUSTOMER])
            if self._money is not None and MODEL_TIER in window.sums:
                self._money.add_window(page, name, window.sums[MODEL_TIER], shown.get("model"))

    def _add_completeness(
        self, page: Page, snapshot: StateSnapshot, tracker: WindowTracker
    ) -> None:
        # A coarse slice may begin long before the first event in it.
        first_s = [
            max(extent(view.index)[0], (view.meta.since_ms or 0) // 1_000)
            for view in snapshot.views
            if view.index
        ]
        if first_s:
            spans = tracker.spans(snapshot)
            exported = {name: spans[name] for name in self.plan}
            coverage = Coverage.of(view.meta for view in snapshot.views)
            pipeline_samples.add_completeness(page, min(first_s), exported, coverage)


def _common_edges(edges: Sequence[Thresholds]) -> Thresholds:
    """Return the bucket edges that all partitions count: while a target changes they differ."""
    return Thresholds(
        *(
            tuple(sorted(set.intersection(*map(set, latency))))
            for latency in zip(*edges, strict=True)
        )
    )
