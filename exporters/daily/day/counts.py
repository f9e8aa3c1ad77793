"""Counts of a stretch of time, in total or for one group, and the five metrics of them.

Pure. Whole numbers that add up exactly; latencies as histograms in HdrHistogram's buckets. The
metrics are those of the report (streams/state/measures.py): ratios of sums, nearest-rank
percentiles of merged histograms; probes count for availability alone.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

from exporters.windows.incremental import CUSTOMER, Grouping, Sums
from exporters.windows.measured import Amounts
from streams.state import histogram
from streams.state.slices import LATENCIES, LATENCY_BITS
from streams.state.tables import MAX_SUM, Table

DIMENSIONS = ("model", "region", "channel", "service_tier", CUSTOMER)
P95 = 0.95


@dataclass(frozen=True, slots=True)
class Counts(Amounts):
    """Sums of some requests, with their latencies."""

    ttft: Table = field(default_factory=Table.empty)  # bucket -> requests
    tpot: Table = field(default_factory=Table.empty)

    @classmethod
    def sum(cls, parts: Iterable["Counts"]) -> Self:
        """Return the sum of any number of counts."""
        # Begins with an empty one, so that the sum of none is zero.
        parts = [cls(), *parts]
        return cls(
            requests=sum(one.requests for one in parts),
            eligible=sum(one.eligible for one in parts),
            successes=sum(one.successes for one in parts),
            input_tokens=min(MAX_SUM, sum(one.input_tokens for one in parts)),
            cached_tokens=min(MAX_SUM, sum(one.cached_tokens for one in parts)),
            cached_of_tokens=min(MAX_SUM, sum(one.cached_of_tokens for one in parts)),
            output_tokens=min(MAX_SUM, sum(one.output_tokens for one in parts)),
            answered=sum(one.answered for one in parts),
            tokens_known=sum(one.tokens_known for one in parts),
            streamed=sum(one.streamed for one in parts),
            ttft=Table.merged([one.ttft for one in parts]),
            tpot=Table.merged([one.tpot for one in parts]),
        )

    @property
    def ttft_known_ratio(self) -> float | None:
        """Return the share of the streamed requests whose TTFT is known; None for customers."""
        return samples(self.ttft) / self.streamed if self.streamed else None

    def __bool__(self) -> bool:
        return bool(self.requests or self.eligible)


Groups = Mapping[str, Mapping[str, Counts]]  # dimension -> name -> counts


def p95_s(buckets: Table) -> float | None:
    """Return the nearest-rank P95 of a histogram in seconds; None if it is empty."""
    if not len(buckets):
        return None
    return histogram.percentiles(buckets.keys, buckets.values, [P95])[0] / 1e9


def samples(buckets: Table) -> int:
    """Return the number of requests in a histogram."""
    return int(buckets.values.sum())


def counts_of(sums: Sums, scope: Grouping) -> dict[str, Counts]:
    """Return the counts of each group of a scope by name; the fleet's name is empty."""
    histograms: dict[int, dict[str, Table]] = {}
    # Split into one histogram for each group and latency.
    for key, table in sums.cells.split(histogram.BUCKET_BITS):
        latency = LATENCIES[key & ((1 << LATENCY_BITS) - 1)]
        histograms.setdefault(key >> LATENCY_BITS, {})[latency] = table
    counts = {}
    for group, row in zip(sums.counts.keys.tolist(), sums.counts.values.tolist(), strict=True):
        latencies = histograms.get(group, {})
        counts["".join(scope.keys[group][:1])] = Counts.from_row(
            scope.name,
            row,
            ttft=latencies.get("ttft", Table.empty()),
            tpot=latencies.get("tpot", Table.empty()),
        )
    return counts


def without_durations(sums: Sums) -> Sums:
    """Return only the fields that the board reads: no request durations, no thresholds."""
    # A cell's key is group, latency, bucket, from the highest bits down.
    latency = (sums.cells.keys >> histogram.BUCKET_BITS) & ((1 << LATENCY_BITS) - 1)
    read = latency != LATENCIES.index("duration")
    cells = Table(sums.cells.keys[read], sums.cells.values[read])
    return replace(sums, cells=cells, threshold_counts=Table.empty(2))


def add_groups(days: Sequence[Groups]) -> dict[str, dict[str, Counts]]:
    """Return the sum of several days' groups."""
    parts: dict[str, dict[str, list[Counts]]] = {}
    for groups in days:
        for dimension, names in groups.items():
            for name, counts in names.items():
                parts.setdefault(dimension, {}).setdefault(name, []).append(counts)
    return {
        dimension: {name: Counts.sum(counts) for name, counts in names.items()}
        for dimension, names in parts.items()
    }
