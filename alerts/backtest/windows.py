"""The samples of rolling windows at many instants at once.

Pure. The exporter's own functions sum the slices and name the samples; only the sums of a window
come from running sums. Samples belong to the end of a slice: at 12:00:10 all that ended before is
counted. The two seconds that the pipeline takes are not included.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alerts.backtest.prefix_sums import PrefixSums, StretchPercentiles
from alerts.backtest.stack import STEP_S, Stack, StackGrouping
from alerts.evaluation.matrix import Bools, Floats, Matrix
from alerts.rules.model import Read
from exporters.catalogue import requests as catalogue
from exporters.catalogue.latencies import OPTIONAL_LATENCIES, WINDOW_QUANTILES, WINDOW_SAMPLES
from exporters.catalogue.spec import SCOPE_LABELS, Spec
from exporters.metrics.exposition import Page, join, label_text
from exporters.metrics.requests import add_counts
from exporters.metrics.sample_sheet import parse_labels
from exporters.windows.incremental import CUSTOMER, Grouping, Sums, summarise
from exporters.windows.plan import scope_grouping
from slo.alert_state import SampleKey
from streams.config.settings import Settings
from streams.state import histogram
from streams.state.measures import EXPORTED_QUANTILES
from streams.state.registry import Registry
from streams.state.slices import (
    CELL_BITS,
    CLOCKS,
    CUSTOMER_KNOWN_AT,
    CUSTOMER_TOKENS_AT,
    KNOWN,
    KNOWN_AT,
    LATENCIES,
    LATENCY_BITS,
    LEVELS,
    PROBES_AT,
    SUMS_AT,
    THRESHOLD_BITS,
    THRESHOLD_COUNT_BITS,
    TOKENS_AT,
)
from streams.state.tables import Ints, Table
from streams.state.windows import ROLLING_S

_LIMIT_BITS = 16
_SHIFTS = (0, CELL_BITS, _LIMIT_BITS)  # of the keys of counts, cells and thresholds
Wants = Callable[[str, SampleKey], bool]  # whether some rule reads a sample of a metric


class ColumnSheet(Page):
    """A page of which each value is an array: one number for each instant."""

    def __init__(self, wants: Wants) -> None:
        super().__init__()
        self._wants = wants
        self._present = np.empty(0, np.bool_)
        self._rows: dict[str, dict[SampleKey, tuple[Floats, Bools]]] = {}

    def begin(self, present: Bools) -> None:
        """Begin the samples of a group, which exists at those instants only."""
        self._present = present

    def wants(self, spec: Spec, labels: str) -> bool:
        """Return whether some rule reads the sample."""
        return self._wants(spec.name, parse_labels(labels))

    def add(self, spec: Spec, labels: str, value: Any) -> None:
        """Keep the samples that are read."""
        self.add_where(spec, labels, value, True)

    def add_ratio(self, spec: Spec, labels: str, part: Any, whole: Any) -> None:
        """Keep part / whole at the instants at which the whole is not 0."""
        is_known = whole != 0
        self.add_where(spec, labels, part / np.where(is_known, whole, 1), is_known)

    def add_if_any(self, spec: Spec, labels: str, value: Any) -> None:
        """Keep the samples at the instants at which they are not 0."""
        self.add_where(spec, labels, value, value != 0)

    def add_where(self, spec: Spec, labels: str, value: Any, present: Any) -> None:
        """Keep the samples at some instants."""
        values = np.asarray(value, np.float64)
        self.put(spec.name, parse_labels(labels), values, self._present & present)

    def put(self, metric: str, key: SampleKey, values: Floats, present: Bools) -> None:
        """Keep the samples of one label set, if they are read."""
        if self._wants(metric, key):
            self._rows.setdefault(metric, {})[key] = values, present

    def families(self) -> dict[str, Matrix]:
        """Return the samples by metric."""
        return {
            metric: Matrix(
                tuple(rows),
                np.stack([values for values, _ in rows.values()]),
                np.stack([present for _, present in rows.values()]),
            )
            for metric, rows in self._rows.items()
        }


def begin_slots(span_s: int, ends: Ints, origin_s: int) -> Ints:
    """Return the first slot of a rolling window for each of its ends, as `rolling` does.

    Slots count from `origin_s`.
    """
    ends_s = ends * STEP_S + origin_s
    begins_s = ends_s - span_s
    steps_s = np.full(len(ends), LEVELS[-1].step_s)
    # A window begins at a multiple of the length of the finest slices that are still kept there.
    for step_s, keep_s in reversed(LEVELS):
        is_kept = begins_s // step_s * step_s + step_s > ends_s - 1 - keep_s
        steps_s = np.where(is_kept, step_s, steps_s)
    slots: Ints = (-(-begins_s // steps_s) * steps_s - origin_s) // STEP_S
    return slots


class RollingWindows:
    """Rolling windows by scope, over slots that rise from call to call."""

    def __init__(
        self,
        reads: Iterable[Read],
        registry: Registry,
        settings: Settings,
        origin_s: int,
        wants: Wants,
    ) -> None:
        """`origin_s`: start of slot 0, in seconds since 1970."""
        self._registry, self._origin_s, self._wants = registry, origin_s, wants
        self._top = settings.exporter.customers_top
        self._apart_tiers = settings.latency.apart_tiers
        plan: dict[str, set[str]] = {}
        for scope, window in reads:
            plan.setdefault(scope, set()).add(window)
        self._scopes = {}
        for scope, windows in sorted(plan.items()):
            grouping = scope_grouping(scope)
            grouping.follow(registry.customers if scope == CUSTOMER else registry.series)
            spans_s = {window: ROLLING_S[window] for window in sorted(windows)}
            self._scopes[scope] = _Scope(grouping, spans_s)

    @property
    def most_groups(self) -> int:
        """Groups of the finest scope, at least 1."""
        return max([1, *(len(scope.grouping.keys) for scope in self._scopes.values())])

    def add(self, part: Stack) -> None:
        """Count further slices."""
        first = int(part.slots[0])
        names = self._registry.series
        series = [names[number] for number in part.series.tolist()]
        stacked = {
            name: StackGrouping(
                scope.grouping,
                *(
                    (part.customer_slots - first, part.customers)
                    if name == CUSTOMER
                    else (part.slots - first, part.series)
                ),
            )
            for name, scope in self._scopes.items()
        }
        sums = summarise(part.counts, stacked.values(), series, self._apart_tiers)
        for name, scope in self._scopes.items():
            scope.add(sums[name], first)

    def sheet(self, ends: Ints) -> ColumnSheet:
        """Return the samples at the ends of slots, given as the slots after them."""
        sheet = ColumnSheet(self._wants)
        for scope in self._scopes.values():
            scope.drop_before(int(ends[0]))
            for window, span_s in scope.spans_s.items():
                scope.show(
                    sheet, window, begin_slots(span_s, ends, self._origin_s), ends, self._top
                )
        return sheet


class _Scope:
    """The slices of the longest window of one scope, by group."""

    def __init__(self, grouping: Grouping, spans_s: Mapping[str, int]) -> None:
        self.grouping, self.spans_s = grouping, spans_s
        # Keys are stacked groups (slot * groups + group), with what `_SHIFTS` has below them.
        empty = Sums.empty(grouping.name)
        self._tables = [empty.counts, empty.cells, empty.threshold_counts]
        self._limits: dict[int, int] = {}  # (latency, threshold) -> its number
        self._forget()

    def _forget(self) -> None:
        # Running sums of `_tables`, made when they are read.
        self._counts: PrefixSums | None = None
        self._cells: StretchPercentiles | None = None
        self._within: PrefixSums | None = None

    def add(self, sums: Sums, first: int) -> None:
        """Add sums by stacked group, whose slots count from `first` on; slots rise."""
        shift = first * len(self.grouping.keys)
        limit_keys = sums.threshold_counts.keys
        low = limit_keys & ((1 << THRESHOLD_COUNT_BITS) - 1)
        numbers = np.zeros(len(low), np.int64)
        for limit in np.unique(low).tolist():
            numbers[low == limit] = self._limits.setdefault(limit, len(self._limits))
        # Thresholds are long: with slots of a month above them, they would not fit into 64 bits.
        limit_keys = ((limit_keys >> THRESHOLD_COUNT_BITS) << _LIMIT_BITS) | numbers
        added = (
            sums.counts,
            sums.cells,
            Table(limit_keys, sums.threshold_counts.values),
        )
        self._tables = [
            Table(
                np.concatenate((table.keys, more.keys + (shift << bits))),
                np.concatenate((table.values, more.values)),
            )
            for table, more, bits in zip(self._tables, added, _SHIFTS, strict=True)
        ]
        self._forget()

    def drop_before(self, slot: int) -> None:
        """Drop the slots that no window of `slot` and later reads."""
        first = (slot - 1 - max(self.spans_s.values()) // STEP_S) * len(self.grouping.keys)
        starts = [
            int(np.searchsorted(table.keys >> bits, first))
            for table, bits in zip(self._tables, _SHIFTS, strict=True)
        ]
        self._tables = [
            Table(table.keys[start:], table.values[start:])
            for table, start in zip(self._tables, starts, strict=True)
        ]
        self._forget()

    def show(self, sheet: ColumnSheet, window: str, begins: Ints, ends: Ints, top: int) -> None:
        """Add the samples of one window."""
        if not len(self._tables[0]):
            return
        if self._counts is None:
            slots, groups = self._split(self._tables[0].keys)
            self._counts = PrefixSums(groups, slots, self._tables[0].values)
        if self.grouping.name == CUSTOMER:
            self._show_customers(sheet, window, begins, ends, top)
            return
        for group, key in enumerate(self.grouping.keys):
            pairs = dict(zip(SCOPE_LABELS[self.grouping.name], key, strict=True))
            base = label_text({"scope": self.grouping.name, "window": window, **pairs})
            rows = self._counts.between(group, begins, ends)
            sheet.begin(np.any(rows, axis=1))
            columns = rows.T
            counted = columns[:PROBES_AT] + columns[PROBES_AT:TOKENS_AT]
            tokens, known = columns[TOKENS_AT:SUMS_AT], columns[KNOWN_AT:]
            _add_counts(sheet, base, columns[:PROBES_AT], counted, tokens, known)
            streamed = columns[KNOWN_AT + KNOWN.index("streamed")]
            self._show_latencies(sheet, base, group, begins, ends, streamed)
            self._show_limits(sheet, base, group, begins, ends)

    def _split(self, numbers: Ints) -> tuple[Ints, Ints]:
        """Return the slots and groups of stacked group numbers."""
        slots, groups = np.divmod(numbers, len(self.grouping.keys))
        return slots, groups

    def _show_customers(
        self, sheet: ColumnSheet, window: str, begins: Ints, ends: Ints, top: int
    ) -> None:
        assert self._counts is not None
        # In the order in which the exporter ranks customers of equal counts.
        groups = sorted(range(len(self.grouping.keys)), key=lambda at: self.grouping.keys[at])
        requests = np.stack(
            [
                self._counts.between(group, begins, ends)[:, :PROBES_AT].sum(axis=1)
                for group in groups
            ]
        )
        rank = np.empty_like(requests)
        order = np.argsort(-requests, axis=0, kind="stable")
        np.put_along_axis(rank, order, np.arange(len(groups))[:, None], axis=0)
        for place in np.flatnonzero(((rank < top) & (requests > 0)).any(axis=1)).tolist():
            (token,) = self.grouping.keys[groups[place]]
            rows = self._counts.between(groups[place], begins, ends)
            sheet.begin((rank[place] < top) & np.any(rows, axis=1))
            columns = rows.T
            base = label_text({"scope": CUSTOMER, "window": window, CUSTOMER: token})
            requests_by = columns[:PROBES_AT]
            tokens = columns[CUSTOMER_TOKENS_AT:CUSTOMER_KNOWN_AT]
            _add_counts(sheet, base, requests_by, requests_by, tokens, columns[CUSTOMER_KNOWN_AT:])

    def _show_latencies(
        self, sheet: ColumnSheet, base: str, group: int, begins: Ints, ends: Ints, streamed: Ints
    ) -> None:
        ttft_known = join(base, label_text({"measure": "ttft"}))
        for number, latency in enumerate(LATENCIES):
            quantiles = [
                (ratio, join(base, label_text({"quantile": str(ratio)})))
                for ratio in EXPORTED_QUANTILES
            ]
            read = [at for at in quantiles if sheet.wants(WINDOW_QUANTILES[latency], at[1])]
            knows_ttft = latency == "ttft" and sheet.wants(catalogue.KNOWN_RATIO, ttft_known)
            if not read and not knows_ttft and not sheet.wants(WINDOW_SAMPLES[latency], base):
                continue
            if self._cells is None:
                cells = self._tables[1]
                slots, groups = self._split(cells.keys >> CELL_BITS)
                low = (cells.keys >> histogram.BUCKET_BITS) & ((1 << LATENCY_BITS) - 1)
                buckets = cells.keys & ((1 << histogram.BUCKET_BITS) - 1)
                self._cells = StretchPercentiles(
                    (groups << LATENCY_BITS) | low, slots, buckets, cells.values
                )
            low, high = self._cells.range((group << LATENCY_BITS) | number, begins, ends)
            counts = self._cells.sums[high] - self._cells.sums[low]
            is_shown = counts > 0 if latency in OPTIONAL_LATENCIES else True
            sheet.add_where(WINDOW_SAMPLES[latency], base, counts, is_shown)
            if knows_ttft:
                sheet.add_ratio(catalogue.KNOWN_RATIO, ttft_known, counts, streamed)
            filled = counts > 0
            for ratio, labels in read:
                seconds = np.zeros(len(counts))
                ranks = histogram.nearest_ranks(counts[filled], ratio)
                seconds[filled] = self._cells.at(low[filled], high[filled], ranks) / 1e9
                sheet.add_where(WINDOW_QUANTILES[latency], labels, seconds, filled)

    def _show_limits(
        self, sheet: ColumnSheet, base: str, group: int, begins: Ints, ends: Ints
    ) -> None:
        if self._within is None:
            table = self._tables[2]
            slots, groups = self._split(table.keys >> _LIMIT_BITS)
            numbers = table.keys & ((1 << _LIMIT_BITS) - 1)
            self._within = PrefixSums((groups << _LIMIT_BITS) | numbers, slots, table.values)
        for limit, number in self._limits.items():
            latency = CLOCKS[limit >> THRESHOLD_BITS]
            target_s = f"{(limit & ((1 << THRESHOLD_BITS) - 1)) / 1e6:g}"
            labels = join(base, label_text({"latency": latency, "target_seconds": target_s}))
            if sheet.wants(catalogue.WITHIN_TARGET_RATIO, labels):
                key = (group << _LIMIT_BITS) | number
                good, measured = self._within.between(key, begins, ends).T
                sheet.add_ratio(catalogue.WITHIN_TARGET_RATIO, labels, good, measured)


def _add_counts(sheet: ColumnSheet, base: str, *amounts: "NDArray[Any]") -> None:
    """Add the sums of requests: arrays in place of the numbers that the exporter has."""
    add_counts(sheet, base, *amounts)  # type: ignore[arg-type]
