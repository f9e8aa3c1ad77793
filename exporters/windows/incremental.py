"""Windows that are kept up to date instead of added up anew.

Pure. A month is hundreds of slices a partition; between two exports a handful of them change. So a
window holds its sums and their parts: slices that left are subtracted, new ones added, in whole
numbers, and the result is the same as a recount.

A slice is not kept as it is stored, by series, but as sums by scope (fleet, per model, ...): a few
groups with shared histograms, a fraction of the memory.

    stored slice --summary--> {scope: Sums} --add, subtract--> window: Sums, of one scope
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Self

import numpy as np

from streams.state import histogram
from streams.state.measures import (
    GroupKey,
    by_histogram,
    measured_threshold_counts,
    without_apart_tiers,
)
from streams.state.slices import (
    CELL_BITS,
    COUNTER_BITS,
    CUSTOMER_COLUMNS,
    CUSTOMER_KNOWN_AT,
    CUSTOMER_TOKENS_AT,
    KNOWN,
    KNOWN_AT,
    SERIES_COLUMNS,
    THRESHOLD_COUNT_BITS,
    TOKENS,
    TOKENS_AT,
    Aggregate,
    SliceId,
)
from streams.state.tables import MAX_SUM, Ints, Table

FLEET = "fleet"
CUSTOMER = "customer"  # summed from customer rows; all other scopes from the series
# Scopes that are not shown: input tokens by what their price depends on. Customer
# rows, of which the second is summed, have no tiers.
MODEL_TIER, CUSTOMER_MODEL = PRICED = ("model_tier", "customer_model")
_INPUT_TOKENS = ("input", "cached_input", "cache_write")
# Columns of the rows that PRICED sums: _INPUT_TOKENS, and input whose cached part is known.
_SERIES_INPUT_AT, _CUSTOMER_INPUT_AT = (
    [tokens_at + TOKENS.index(name) for name in _INPUT_TOKENS]
    + [known_at + KNOWN.index("cached_input_of")]
    for tokens_at, known_at in ((TOKENS_AT, KNOWN_AT), (CUSTOMER_TOKENS_AT, CUSTOMER_KNOWN_AT))
)
_MERGED_AT_ONCE = 32  # summaries added up in one step, which bounds the memory of a first build

PartKey = tuple[int, SliceId]  # partition, slice
Change = tuple[str, tuple[int, ...]]  # scope, identities of what came and what left


@dataclass(frozen=True, slots=True)
class Sums:
    """Counts of slices by group of one scope; tables as in `Aggregate`, keyed by group number."""

    # The columns of Aggregate.series; of Aggregate.customers for customers; input tokens (PRICED).
    counts: Table
    cells: Table  # (group, latency, bucket)
    threshold_counts: Table  # (group, latency, threshold) -> [at or under it, measured with it]
    counters: Table  # (group, counter) -> amount; empty for most traffic, and for customers

    @classmethod
    def empty(cls, scope: str) -> Self:
        """Return sums without counts."""
        columns = CUSTOMER_COLUMNS if scope == CUSTOMER else SERIES_COLUMNS
        if scope in PRICED:
            columns = len(_SERIES_INPUT_AT)
        return cls(Table.empty(columns), Table.empty(), Table.empty(2), Table.empty())

    @classmethod
    def merge(cls, sums: Sequence["Sums"]) -> Self:
        """Return the sum of one or more parts; rows of zeros are left out."""
        return cls(
            *(
                _without_zeros(Table.merged([getattr(part, table.name) for part in sums]))
                for table in fields(cls)
            )
        )

    @property
    def is_limited(self) -> bool:
        """Return whether a sum is at its limit."""
        tables = (self.counts, self.counters)
        return any(int(table.values.max(initial=0)) >= MAX_SUM for table in tables)

    def negative(self) -> "Sums":
        """Return the sums that cancel these when added."""
        return Sums(*(_negative(getattr(self, table.name)) for table in fields(self)))


SliceSummary = Mapping[str, Sums]  # by scope


class UpToNow:
    """Base of all sums over time spans that end at each refresh."""

    _as_of_s = 0

    def begin(self, as_of_s: float) -> None:
        """Prepare for a refresh at `as_of_s`, the wall clock: the spans end there."""
        self._as_of_s = int(as_of_s)


class Grouping:
    """Groups of names that agree in some places. Group numbers stay; `keys` has their names."""

    def __init__(self, name: str, dimensions: Sequence[str], of: Sequence[str]) -> None:
        """Group by some of `of`, the dimensions that the names begin with."""
        self.name = name
        self._places = tuple(of.index(dimension) for dimension in dimensions)
        self.is_by_tier = "service_tier" in dimensions
        self.keys: list[GroupKey] = []
        self._numbers: dict[GroupKey, int] = {}
        self._group_of = np.empty(0, np.int64)
        self._is_same = True  # each name is a group, so that the numbers are the same

    def follow(self, names: Sequence[tuple[str, ...]]) -> None:
        """Assign groups to names (of series, or of (customer, model) rows) that are new."""
        # Names only grow, so those before are grouped already.
        known = len(self._group_of)
        if len(names) > known:
            added = [self._number(name) for name in names[known:]]
            self._group_of = np.append(self._group_of, np.array(added, np.int64))
            self._is_same = len(self.keys) == len(self._group_of)

    def _number(self, name: tuple[str, ...]) -> int:
        key = tuple(name[place] for place in self._places)
        number = self._numbers.setdefault(key, len(self.keys))
        if number == len(self.keys):
            self.keys.append(key)
        return number

    def groups_of(self, numbers: Ints) -> Ints:
        """Return the group of each of some names, which are given by their numbers."""
        return self._group_of[numbers]

    def regroup(self, table: Table, low_bits: int) -> Table:
        """Return a table keyed by group instead of by the names given to `follow`."""
        if self._is_same or not len(table):
            return table
        # The low bits of a key (latency, bucket) stay; its high bits, the number of the name,
        # become the number of the group.
        low = table.keys & ((1 << low_bits) - 1)
        return Table.summed(
            (self._group_of[table.keys >> low_bits] << low_bits) | low, table.values
        )


def summarise(
    aggregate: Aggregate,
    scopes: Iterable[Grouping],
    series: Sequence[tuple[str, ...]],
    apart_tiers: Collection[str],
) -> SliceSummary:
    """Return the sums of one stored slice by scope; `series`: the names of its series.

    Scopes that are not by tier are without the latencies of `apart_tiers`.
    """
    mixed = without_apart_tiers(aggregate, series, apart_tiers)
    within = {True: measured_threshold_counts(aggregate)}
    within[False] = within[True] if mixed is aggregate else measured_threshold_counts(mixed)
    summary = {}
    for scope in scopes:
        empty = Sums.empty(scope.name)
        if scope.name in PRICED:
            table, columns = (
                (aggregate.customers, _CUSTOMER_INPUT_AT)
                if scope.name == CUSTOMER_MODEL
                else (aggregate.series, _SERIES_INPUT_AT)
            )
            # Prices need input tokens only, so the columns of outcomes are left out.
            tokens = Table(table.keys, table.values[:, columns])
            summary[scope.name] = replace(empty, counts=_regroup(scope, tokens, 0, empty.counts))
        elif scope.name == CUSTOMER:
            summary[scope.name] = replace(
                empty, counts=_regroup(scope, aggregate.customers, 0, empty.counts)
            )
        else:
            part, limits = aggregate if scope.is_by_tier else mixed, within[scope.is_by_tier]
            summary[scope.name] = Sums(
                _regroup(scope, part.series, 0, empty.counts),
                _regroup(scope, part.cells, CELL_BITS, empty.cells),
                _regroup(scope, limits, THRESHOLD_COUNT_BITS, empty.threshold_counts),
                _regroup(scope, aggregate.counters, COUNTER_BITS, empty.counters),
            )
    return summary


def _regroup(scope: Grouping, table: Table, low_bits: int, empty: Table) -> Table:
    return scope.regroup(table, low_bits) if len(table) else empty


class Window:
    """Sums of one window by scope, and the parts they are made of."""

    def __init__(self, scopes: Sequence[str]) -> None:
        self.sums = {scope: Sums.empty(scope) for scope in scopes}
        self._parts: dict[PartKey, SliceSummary] = {}

    def update(self, parts: Mapping[PartKey, SliceSummary], deltas: "dict[Change, Sums]") -> None:
        """Replace the parts by `parts`, of which each has all scopes of this window.

        `deltas`: shared by windows with the same change; the caller passes an empty one for each
        round.
        """
        # A summary that was read anew is another object, so identity finds the changes.
        added = [summary for key, summary in parts.items() if self._parts.get(key) is not summary]
        removed = [summary for key, summary in self._parts.items() if parts.get(key) is not summary]
        self._parts = dict(parts)
        if not added and not removed:
            return
        # All parts are new (first refresh, or the window moved beyond its old parts): adding them
        # up costs less than the difference. From a sum at its limit nothing can be subtracted.
        if len(added) == len(parts) or any(sums.is_limited for sums in self.sums.values()):
            self.sums = {
                scope: _sum([part[scope] for part in parts.values()], scope) for scope in self.sums
            }
            return
        # Windows that end at the same time mostly gain and lose the same slices; the ids are valid
        # as long as the parts live, which is longer than `deltas`.
        change = (*map(id, added), 0, *map(id, removed))
        for scope, sums in self.sums.items():
            if (scope, change) not in deltas:
                negatives = [summary[scope].negative() for summary in removed]
                deltas[scope, change] = _sum(
                    [summary[scope] for summary in added] + negatives, scope
                )
            self.sums[scope] = Sums.merge([sums, deltas[scope, change]])


def _sum(sums: Sequence[Sums], scope: str) -> Sums:
    total = Sums.empty(scope)
    for at in range(0, len(sums), _MERGED_AT_ONCE):
        total = Sums.merge([total, *sums[at : at + _MERGED_AT_ONCE]])
    return total


def percentiles(sums: Sums, ratios: Sequence[float]) -> dict[tuple[int, int], tuple[int, Ints]]:
    """Return, by (group, latency), samples and nearest-rank percentiles in ns of all groups.

    As `histogram.percentiles`, which does one histogram.
    """
    cells = sums.cells
    keys, counts, ends = by_histogram(cells)
    if not len(keys):
        return {}
    # One cumulative sum over all histograms, so that a single search finds every rank: the rank
    # within a histogram is moved by the count of all cells before it.
    running = np.cumsum(cells.values)
    before = running[ends] - counts
    ranks = histogram.nearest_ranks(counts[:, None], ratios)
    at = np.searchsorted(running, before[:, None] + ranks)
    values = histogram.highest_in(cells.keys[at] & ((1 << histogram.BUCKET_BITS) - 1))
    latency_bits = CELL_BITS - histogram.BUCKET_BITS
    mask = (1 << latency_bits) - 1
    return {
        (key >> latency_bits, key & mask): (count, row)
        for key, count, row in zip(keys.tolist(), counts.tolist(), values, strict=True)
    }


def _without_zeros(table: Table) -> Table:
    # Cells of slices that left a window would otherwise stay with a count of 0 for ever.
    filled = table.values != 0 if table.values.ndim == 1 else table.values.any(axis=1)
    return table if filled.all() else Table(table.keys[filled], table.values[filled])


def _negative(table: Table) -> Table:
    return Table(table.keys, -table.values)
