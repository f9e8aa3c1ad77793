"""What a window's sums say of each group: counts, ratios, percentiles.

Pure. The same sums and the same nearest-rank percentiles as in `tokenpulse report`; ratios are
None without anything behind them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from exporters.windows.amounts import CACHED_AT, ELIGIBLE_AT, INPUT_AT, SUCCESS_AT, Amounts
from exporters.windows.incremental import Sums, percentiles
from streams.events.decoder import OUTCOMES
from streams.state import histogram
from streams.state.measures import EXPORTED_QUANTILES
from streams.state.slices import (
    CELL_BITS,
    LATENCIES,
    LATENCY_BITS,
    PROBES_AT,
    TOKENS_AT,
    WITHIN_BITS,
)
from streams.state.tables import Ints, Table


@dataclass(frozen=True, slots=True)
class Measured(Amounts):
    """One group over one window."""

    samples: Mapping[str, int] = field(default_factory=dict)  # by latency
    quantiles_s: Mapping[tuple[str, float], float] = field(default_factory=dict)

    def p95_s(self, latency: str) -> float | None:
        """The percentile that everything is judged by."""
        return self.quantiles_s.get((latency, 0.95))


def measured(scope: str, sums: Sums) -> dict[int, Measured]:
    """Of every group that has counts."""
    found = percentiles(sums, EXPORTED_QUANTILES)
    rows = sums.counts.values.tolist()
    return {
        group: _of(scope, group, row, found)
        for group, row in zip(sums.counts.keys.tolist(), rows, strict=True)
    }


def _of(
    scope: str,
    group: int,
    row: Sequence[int],
    found: Mapping[tuple[int, int], tuple[int, Ints]],
) -> Measured:
    latencies = {
        latency: found[group, number]
        for number, latency in enumerate(LATENCIES)
        if (group, number) in found
    }
    return Measured.read(
        scope,
        row,
        samples={latency: count for latency, (count, _) in latencies.items()},
        quantiles_s={
            (latency, ratio): value_ns / 1e9
            for latency, (_, values_ns) in latencies.items()
            for ratio, value_ns in zip(EXPORTED_QUANTILES, values_ns.tolist(), strict=True)
        },
    )


def regrouped(sums: Sums, group_of: Ints) -> Sums:
    """Other groups in place of these; `group_of`: old number -> new one, -1 to leave it out."""
    return Sums(
        _regrouped(sums.counts, group_of, 0),
        _regrouped(sums.cells, group_of, CELL_BITS),
        _regrouped(sums.within, group_of, WITHIN_BITS),
    )


def _regrouped(table: Table, group_of: Ints, low_bits: int) -> Table:
    groups = group_of[table.keys >> low_bits]
    kept = groups >= 0
    low = table.keys[kept] & ((1 << low_bits) - 1)
    return Table.summed((groups[kept] << low_bits) | low, table.values[kept])


# -- how many are bad, by group: arrays of (bad, all) with a row for each of `groups` groups -------


def failures(sums: Sums, groups: int) -> tuple[Ints, Ints]:
    """Eligible requests that failed."""
    counted = sums.counts.values[:, :PROBES_AT] + sums.counts.values[:, PROBES_AT:TOKENS_AT]
    eligible = counted[:, ELIGIBLE_AT].sum(axis=1)
    return _spread(sums.counts.keys, eligible - counted[:, SUCCESS_AT], eligible, groups)


def outcome_counts(rows: Ints) -> dict[str, int]:
    """Requests and probes by outcome, of some rows of counts; those that occurred."""
    counted = (rows[:, :PROBES_AT] + rows[:, PROBES_AT:TOKENS_AT]).sum(axis=0).tolist()
    return {name: n for name, n in zip(OUTCOMES, counted, strict=True) if n}


def slow(sums: Sums, groups: int, latency: str, limit_us: int) -> tuple[Ints, Ints]:
    """Measured requests over a limit, to the precision of the histogram."""
    keys = sums.cells.keys
    mine = (keys >> histogram.BUCKET_BITS) & ((1 << LATENCY_BITS) - 1) == LATENCIES.index(latency)
    buckets = keys[mine] & ((1 << histogram.BUCKET_BITS) - 1)
    over = histogram.highest_in(buckets) > limit_us * 1_000
    counts = sums.cells.values[mine]
    return _spread(keys[mine] >> CELL_BITS, counts * over, counts, groups)


def uncached(sums: Sums, groups: int) -> tuple[Ints, Ints]:
    """Input tokens that were not read from the cache."""
    tokens = sums.counts.values[:, TOKENS_AT:]
    every = tokens[:, INPUT_AT]
    return _spread(sums.counts.keys, every - tokens[:, CACHED_AT], every, groups)


def _spread(keys: Ints, bad: Ints, every: Ints, groups: int) -> tuple[Ints, Ints]:
    found = np.zeros((2, groups), np.int64)
    np.add.at(found[0], keys, bad)
    np.add.at(found[1], keys, every)
    return found[0], found[1]
