"""Figures of equal steps of time, for the charts: the remains of the slices after their reading.

Pure. A consumer of slices (streams/store/reader.py), as the windows are. A step is added up from
the slices of all partitions; then its histograms are replaced by the percentiles of each group. So
a day of ten-minute steps takes little memory, and a page is made from it without a read. A step is
read again only if one of its slices changed.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from exporters.drill.ranges import ChartRange
from exporters.windows.incremental import FLEET, Grouping, PartKey, Sums, UpToNow, percentiles
from exporters.windows.measured import ELIGIBLE_AT, SUCCESS_AT
from streams.events.fields import OUTCOMES
from streams.state import histogram
from streams.state.coverage import Coverage
from streams.state.measures import SERIES_DIMENSIONS, GroupKey, without_apart_tiers
from streams.state.registry import CustomerKey, SeriesKey
from streams.state.slices import CELL_BITS, Aggregate, SliceId
from streams.state.tables import Table
from streams.state.windows import cover, extent, rolling
from streams.store.reader import PartitionView, StateSnapshot, Version
from streams.worker.exemplars import Exemplar

STEPS_AT_ONCE = 8  # read in one refresh, which bounds its time and memory
SETTLED_S = 600  # after its end, a step seldom changes: its sums are dropped, its figures stay
QUANTILES = (0.5, 0.95, 0.99)
# Customer rows (customer and model) that a step keeps, besides those of the customers with an open
# page. With 20,000 customers all rows of a day would take 1 GB.
CUSTOMER_ROWS_MAX = 1_000
ASKED_MAX = 100  # customers
# Upper ends of the bands of latency in the heatmap, in seconds; the last band has no end.
BAND_ENDS_S = (0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0)
BAND_BITS = 4
_BAND_ENDS_NS = np.array([round(end_s * 1e9) for end_s in BAND_ENDS_S], np.int64)
_PARTS_MAX = 32

_Versions = dict[PartKey, Version]


@dataclass(frozen=True, slots=True)
class StepFigures:
    """The counts of one step of time, and the percentiles of its groups."""

    start_s: int
    end_s: int
    series: Table  # as in Aggregate
    customers: Table  # as in Aggregate
    # By dimension: (group, latency) -> [samples, percentiles in ns], in the order of QUANTILES.
    percentiles: Mapping[str, Table]
    # By dimension: (group, latency, band) -> requests.
    bands: Mapping[str, Table]
    # Customers whose rows are all in `customers`; None if the rows of all customers are.
    exact_customers: frozenset[str] | None = None

    def is_exact(self, customer: str) -> bool:
        """Return whether all rows of a customer are kept."""
        return self.exact_customers is None or customer in self.exact_customers


@dataclass(slots=True)
class _LevelSum:
    """The slices of one level that were added up."""

    versions: _Versions = field(default_factory=dict)
    parts: list[Aggregate] = field(default_factory=list)  # few; they are added up from time to time

    def add(self, aggregate: Aggregate) -> None:
        """Add a slice."""
        self.parts.append(aggregate)
        if len(self.parts) > _PARTS_MAX:
            self.parts = [self.total()]

    def total(self) -> Aggregate:
        """Return the sum of the slices."""
        return Aggregate.merged(self.parts)


class StepHistory(UpToNow):
    """The steps of one length up to now, brought up to date from snapshots of the state."""

    def __init__(self, step_s: int, span_s: int, apart_tiers: Collection[str]) -> None:
        """`apart_tiers`: their latencies are in no group of several tiers."""
        self.step_s, self._span_s, self._apart_tiers = step_s, span_s, apart_tiers
        self.groupings = {
            dimension: Grouping(dimension, (dimension,), SERIES_DIMENSIONS)
            for dimension in SERIES_DIMENSIONS
        }
        self.groupings[FLEET] = Grouping(FLEET, (), SERIES_DIMENSIONS)
        self._figures: dict[int, StepFigures] = {}
        self._versions: dict[int, _Versions] = {}  # of the slices behind the figures
        self._sums: dict[int, dict[int, _LevelSum]] = {}  # step -> level; of unsettled steps
        self._working: list[int] | None = None  # the steps of this refresh; None: not chosen yet
        self._extents: dict[int, tuple[PartitionView, tuple[int, int]]] = {}
        self._asked: dict[str, None] = {}  # customers with an open page, the newest last
        self._newly_asked: list[str] = []  # by other threads
        self.unread = 0  # steps that are not up to date after the last refresh

    def begin(self, as_of_s: float) -> None:
        """Prepare for a refresh at `as_of_s`, the wall clock."""
        super().begin(as_of_s)
        self._working = None
        asked, self._newly_asked = self._newly_asked, []
        for customer in asked:
            self._asked[customer] = None
            for start_s, step in self._figures.items():
                if not step.is_exact(customer):
                    self._versions.pop(start_s, None)  # so that it is read again
        for customer in list(self._asked)[:-ASKED_MAX]:
            del self._asked[customer]

    def ask(self, customer: str) -> None:
        """Keep all rows of a customer from the next refresh on; called by any thread."""
        if customer not in self._asked:
            self._newly_asked.append(customer)

    def figures(self) -> tuple[StepFigures, ...]:
        """Return the steps that were read, oldest first."""
        return tuple(self._figures[start_s] for start_s in sorted(self._figures))

    # -- slices ----------------------------------------------------------------------------------

    def missing(self, snapshot: StateSnapshot) -> Mapping[int, Sequence[SliceId]]:
        """Return the slices of the newest steps that changed, of STEPS_AT_ONCE at most."""
        if self._working is None:
            self._working = self._choose(snapshot)
        missing: dict[int, list[SliceId]] = {view.partition: [] for view in snapshot.views}
        for start_s in self._working:
            sums = self._sums.setdefault(start_s, {})
            for level, versions in _by_level(self._cover(snapshot, start_s)).items():
                level_sum = sums.setdefault(level, _LevelSum())
                # A slice that changed or left cannot be taken out of the sum.
                if not level_sum.versions.items() <= versions.items():
                    level_sum = sums[level] = _LevelSum()
                for partition, slice_id in versions:
                    if (partition, slice_id) not in level_sum.versions:
                        missing[partition].append(slice_id)
        return missing

    def take(
        self,
        snapshot: StateSnapshot,
        view: PartitionView,
        slice_id: SliceId,
        aggregate: Aggregate,
    ) -> None:
        """Add a slice to its step."""
        start_s = slice_id.start_s // self.step_s * self.step_s
        level_sum = self._sums[start_s][slice_id.level]
        level_sum.add(aggregate)
        level_sum.versions[view.partition, slice_id] = view.version(slice_id)

    def settle(self, snapshot: StateSnapshot) -> None:
        """Make the figures of the steps that were read; their slices must have been loaded."""
        for grouping in self.groupings.values():
            grouping.follow(snapshot.series)
        for start_s in self._working or ():
            covered = self._cover(snapshot, start_s)
            sums = self._sums[start_s]
            present = set(_by_level(covered))
            # The slices of a level are merged into the next one: then the finer sum is obsolete.
            for level in sums.keys() - present:
                del sums[level]
            total = Aggregate.merged([level_sum.total() for level_sum in sums.values()])
            self._figures[start_s] = self._make_figures(start_s, total, snapshot)
            self._versions[start_s] = covered
        starts = set(self._starts(snapshot))
        settled_s = snapshot.watermark_s - SETTLED_S
        self._figures = {at: made for at, made in self._figures.items() if at in starts}
        self._versions = {at: read for at, read in self._versions.items() if at in starts}
        self._sums = {
            at: sums
            for at, sums in self._sums.items()
            if at in starts and at + self.step_s > settled_s
        }
        self.unread = len(self._outdated(snapshot))

    def _choose(self, snapshot: StateSnapshot) -> list[int]:
        return self._outdated(snapshot)[:STEPS_AT_ONCE]

    def _outdated(self, snapshot: StateSnapshot) -> list[int]:
        """Return the starts of the steps whose slices changed, newest first."""
        return [
            start_s
            for start_s in reversed(self._starts(snapshot))
            if self._versions.get(start_s) != self._cover(snapshot, start_s)
        ]

    def _starts(self, snapshot: StateSnapshot) -> range:
        from_s, to_s = rolling(self._span_s, self._as_of_s, snapshot.watermark_s)
        return range(-(-from_s // self.step_s) * self.step_s, to_s, self.step_s)

    def _cover(self, snapshot: StateSnapshot, start_s: int) -> _Versions:
        """Return the slices of a step, of all partitions, with their versions."""
        return {
            (view.partition, slice_id): view.version(slice_id)
            for view in snapshot.views
            if view.index
            for slice_id in cover(
                view.index,
                view.meta.merged_until_s,
                start_s,
                start_s + self.step_s,
                self._extent(view),
            )
        }

    def _extent(self, view: PartitionView) -> tuple[int, int]:
        # Of a view it is needed for every step.
        known = self._extents.get(view.partition)
        if known is None or known[0] is not view:
            known = self._extents[view.partition] = view, extent(view.index)
        return known[1]

    # -- figures ---------------------------------------------------------------------------------

    def _make_figures(self, start_s: int, total: Aggregate, snapshot: StateSnapshot) -> StepFigures:
        mixed = without_apart_tiers(total, snapshot.series, self._apart_tiers)
        quantiles, bands = {}, {}
        for dimension, grouping in self.groupings.items():
            part = total if grouping.is_by_tier else mixed
            cells = grouping.regroup(part.cells, CELL_BITS)
            quantiles[dimension] = _percentile_table(cells)
            bands[dimension] = _band_table(cells)
        customers, exact_customers = self._bounded(total.customers, snapshot.customers)
        return StepFigures(
            start_s,
            start_s + self.step_s,
            total.series,
            customers,
            quantiles,
            bands,
            exact_customers,
        )

    def _bounded(
        self, customers: Table, names: Sequence[CustomerKey]
    ) -> tuple[Table, frozenset[str] | None]:
        """Return the rows to keep: those of open pages, with most failures, with most requests."""
        if len(customers) <= CUSTOMER_ROWS_MAX:
            return customers, None
        outcomes = customers.values[:, : len(OUTCOMES)]
        requests = outcomes.sum(axis=1)
        failed = outcomes[:, ELIGIBLE_AT].sum(axis=1) - outcomes[:, SUCCESS_AT]
        numbers = [number for number, key in enumerate(names) if key[0] in self._asked]
        chosen = np.isin(customers.keys, np.array(numbers, np.int64))
        # lexsort orders by its last key first.
        for order in ((-requests, -failed), (-failed, -requests)):
            chosen[np.lexsort(order)[: CUSTOMER_ROWS_MAX // 2]] = True
        return Table(customers.keys[chosen], customers.values[chosen]), frozenset(self._asked)


def _by_level(covered: _Versions) -> dict[int, _Versions]:
    levels: dict[int, _Versions] = {}
    for (partition, slice_id), version in covered.items():
        levels.setdefault(slice_id.level, {})[partition, slice_id] = version
    return levels


def _percentile_table(cells: Table) -> Table:
    """Return (group, latency) -> [samples, percentiles in ns]."""
    found = percentiles(replace(Sums.empty(FLEET), cells=cells), QUANTILES)
    latency_bits = CELL_BITS - histogram.BUCKET_BITS
    keys = [group << latency_bits | latency for group, latency in found]
    rows = [(samples, *values.tolist()) for samples, values in found.values()]
    return Table(
        np.array(keys, np.int64), np.array(rows, np.int64).reshape(len(rows), 1 + len(QUANTILES))
    )


def _band_table(cells: Table) -> Table:
    """Return (group, latency, band) -> requests; a few bands instead of hundreds of buckets."""
    values_ns = histogram.highest_in(cells.keys & ((1 << histogram.BUCKET_BITS) - 1))
    bands = np.searchsorted(_BAND_ENDS_NS, values_ns)
    keys = (cells.keys >> histogram.BUCKET_BITS) << BAND_BITS | bands
    return Table.summed(keys, cells.values)


@dataclass(frozen=True, slots=True)
class RangeHistory:
    """The steps of one range as last read."""

    range: ChartRange
    steps: Sequence[StepFigures]  # oldest first
    unread: int  # steps that are still to be read after a start
    watermark_s: int  # the last step is not over before this
    coverage: Coverage
    series: Sequence[SeriesKey]
    customers: Sequence[CustomerKey]
    # By dimension: the names of the groups of `StepFigures.percentiles`.
    groups: Mapping[str, Sequence[GroupKey]]
    exemplars: Sequence[Exemplar] = ()  # recent requests with a trace id, of all partitions


def steps_within(figures: Sequence[StepFigures], from_s: int, to_s: int) -> Iterator[StepFigures]:
    """Yield the steps inside [from_s, to_s)."""
    return (step for step in figures if from_s <= step.start_s and step.start_s < to_s)
