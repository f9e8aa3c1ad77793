"""Counts, ratios and percentiles of each group of a window, from its sums.

Pure. The same sums and the same nearest-rank percentiles as in `tokenpulse report`; ratios are
None if their denominator is 0.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from exporters.windows.incremental import CUSTOMER, Sums, percentiles
from slo.policy.conditions import KNOWN_MIN_RATIO
from streams.events.decoder import ELIGIBLE, OUTCOMES
from streams.state import histogram
from streams.state.measures import EXPORTED_QUANTILES
from streams.state.slices import (
    CELL_BITS,
    COUNTER_BITS,
    CUSTOMER_KNOWN_AT,
    CUSTOMER_TOKENS_AT,
    FAILED_STREAMED_AT,
    FAILED_UNSTREAMED_AT,
    KNOWN,
    KNOWN_AT,
    LATENCIES,
    LATENCY_BITS,
    PROBES_AT,
    THRESHOLD_COUNT_BITS,
    TOKENS,
    TOKENS_AT,
)
from streams.state.tables import MAX_SUM, Ints, Table

ELIGIBLE_AT = [at for at, outcome in enumerate(OUTCOMES) if outcome in ELIGIBLE]
SUCCESS_AT = OUTCOMES.index("success")
INPUT_AT, CACHED_AT, OUTPUT_AT = map(TOKENS.index, ("input", "cached_input", "output"))
CACHED_OF_AT = KNOWN.index("cached_input_of")
TOKENS_KNOWN_AT, FROM_CACHE_AT, STREAMED_AT = map(
    KNOWN.index, ("tokens", "response_cache", "streamed")
)
# Failures of producers without the flag are unknown; a few may be.
_STREAM_KNOWN_MIN = 0.9


@dataclass(frozen=True, slots=True)
class Amounts:
    """Sums of some requests."""

    requests: int = 0  # without probes
    eligible: int = 0  # outcomes an SLA counts, probes included
    successes: int = 0
    input_tokens: int = 0  # cached ones included
    cached_tokens: int = 0
    cached_of_tokens: int = 0  # input tokens whose cached part is known
    output_tokens: int = 0
    answered: int = 0  # successes of a model: without probes and answers of a response cache
    tokens_known: int = 0  # of `answered`, those whose input tokens are known
    streamed: int = 0  # of `answered`, those that streamed, so that a TTFT is expected

    @classmethod
    def from_row(cls, scope: str, row: Sequence[int], **more: Any) -> Self:
        """Return the amounts of a row of `Sums.counts`; `more`: further fields of a subclass."""
        is_customer = scope == CUSTOMER  # customers have no probes
        both_at = (0,) if is_customer else (0, PROBES_AT)
        tokens_at = CUSTOMER_TOKENS_AT if is_customer else TOKENS_AT
        known_at = CUSTOMER_KNOWN_AT if is_customer else KNOWN_AT
        return cls(
            requests=sum(row[:PROBES_AT]),
            eligible=sum(row[first + at] for first in both_at for at in ELIGIBLE_AT),
            successes=sum(row[first + SUCCESS_AT] for first in both_at),
            input_tokens=row[tokens_at + INPUT_AT],
            cached_tokens=row[tokens_at + CACHED_AT],
            cached_of_tokens=row[known_at + CACHED_OF_AT],
            output_tokens=row[tokens_at + OUTPUT_AT],
            answered=row[SUCCESS_AT] - row[known_at + FROM_CACHE_AT],
            tokens_known=row[known_at + TOKENS_KNOWN_AT],
            # The latencies of customers are not counted, so no TTFT of them can be known.
            streamed=0 if is_customer else row[known_at + STREAMED_AT],
            **more,
        )

    @property
    def failed(self) -> int:
        """Return the eligible requests that did not succeed."""
        return self.eligible - self.successes

    @property
    def tokens(self) -> int:
        """Return input and output tokens."""
        return self.input_tokens + self.output_tokens

    @property
    def known_tokens(self) -> int | None:
        """Return `tokens`; None if requests were answered, but no token of them is known."""
        return None if self.answered and not self.tokens_known and not self.tokens else self.tokens

    @property
    def availability_ratio(self) -> float | None:
        """Return the successes of the eligible requests."""
        return self.successes / self.eligible if self.eligible else None

    @property
    def cache_hit_ratio(self) -> float | None:
        """Return the cached share of the input tokens whose cached part is known."""
        # Of a sum at its limit the true value is unknown.
        is_known = 0 < self.cached_of_tokens < MAX_SUM
        return self.cached_tokens / self.cached_of_tokens if is_known else None

    @property
    def tokens_known_ratio(self) -> float | None:
        """Return the share of the answered requests whose input tokens are known."""
        return self.tokens_known / self.answered if self.answered else None

    @property
    def cached_known_ratio(self) -> float | None:
        """Return the share of the input tokens whose cached part is known."""
        return self.cached_of_tokens / self.input_tokens if self.input_tokens else None


@dataclass(frozen=True, slots=True)
class Measured(Amounts):
    """One group over one window."""

    samples: Mapping[str, int] = field(default_factory=dict)  # by latency
    quantiles_s: Mapping[tuple[str, float], float] = field(default_factory=dict)

    def p95_s(self, latency: str) -> float | None:
        """Return the percentile that objectives and boards use, in seconds."""
        return self.quantiles_s.get((latency, 0.95))

    @property
    def ttft_known_ratio(self) -> float | None:
        """Return the share of the streamed requests whose TTFT is known; None for customers."""
        return self.samples.get("ttft", 0) / self.streamed if self.streamed else None


def is_weak(known_ratio: float | None) -> bool:
    """Return True if a measure is known for too small a share to be judged."""
    return known_ratio is not None and known_ratio < KNOWN_MIN_RATIO


def measure(scope: str, sums: Sums) -> dict[int, Measured]:
    """Return the figures of every group that has counts."""
    percentiles_ns = percentiles(sums, EXPORTED_QUANTILES)
    rows = sums.counts.values.tolist()
    return {
        group: _of(scope, group, row, percentiles_ns)
        for group, row in zip(sums.counts.keys.tolist(), rows, strict=True)
    }


def _of(
    scope: str,
    group: int,
    row: Sequence[int],
    percentiles_ns: Mapping[tuple[int, int], tuple[int, Ints]],
) -> Measured:
    latencies = {
        latency: percentiles_ns[group, number]
        for number, latency in enumerate(LATENCIES)
        if (group, number) in percentiles_ns
    }
    return Measured.from_row(
        scope,
        row,
        samples={latency: count for latency, (count, _) in latencies.items()},
        quantiles_s={
            (latency, ratio): value_ns / 1e9
            for latency, (_, values_ns) in latencies.items()
            for ratio, value_ns in zip(EXPORTED_QUANTILES, values_ns.tolist(), strict=True)
        },
    )


def regroup_sums(sums: Sums, group_of: Ints) -> Sums:
    """Return sums by new groups; `group_of`: old number -> new one, -1 to leave it out."""
    return Sums(
        _regroup_table(sums.counts, group_of, 0),
        _regroup_table(sums.cells, group_of, CELL_BITS),
        _regroup_table(sums.threshold_counts, group_of, THRESHOLD_COUNT_BITS),
        _regroup_table(sums.counters, group_of, COUNTER_BITS),
    )


def _regroup_table(table: Table, group_of: Ints, low_bits: int) -> Table:
    # The high bits of a key are the number of its group.
    groups = group_of[table.keys >> low_bits]
    kept = groups >= 0
    low = table.keys[kept] & ((1 << low_bits) - 1)
    return Table.summed((groups[kept] << low_bits) | low, table.values[kept])


# -- how many are bad, by group: arrays of (bad, all) with a row for each of `groups` groups -------


def failures(sums: Sums, groups: int) -> tuple[Ints, Ints]:
    """Count eligible requests that failed."""
    bad, total = _eligible(sums, groups, 0)
    probes_bad, probes = _eligible(sums, groups, PROBES_AT)
    # Probes count for availability.
    return bad + probes_bad, total + probes


def _eligible(sums: Sums, groups: int, first: int) -> tuple[Ints, Ints]:
    """Count eligible outcomes that failed; `first`: column of the first outcome."""
    counted = sums.counts.values[:, first : first + len(OUTCOMES)]
    eligible = counted[:, ELIGIBLE_AT].sum(axis=1)
    return _spread(sums.counts.keys, eligible - counted[:, SUCCESS_AT], eligible, groups)


def failing_customers(sums: Sums) -> int:
    """Return the number of customers with a failure; `sums`: of the scope customer."""
    return int((_failed(sums) > 0).sum())


def most_failures(sums: Sums, most: int) -> list[tuple[int, int]]:
    """Return the customers with the most failures, as (group, failures), the worst first.

    `sums`: of the scope customer. `most`: how many at most.
    """
    failed = _failed(sums)
    # Stable, so that equal ones do not change places at each refresh.
    worst = np.argsort(-failed, kind="stable")[:most]
    return [(int(sums.counts.keys[at]), int(failed[at])) for at in worst.tolist() if failed[at]]


def _failed(sums: Sums) -> Ints:
    rows = sums.counts.values
    failed: Ints = rows[:, ELIGIBLE_AT].sum(axis=1) - rows[:, SUCCESS_AT]
    return failed


def stream_failures(sums: Sums, groups: int) -> tuple[Ints, Ints] | None:
    """Count as `failures`, in rows: streamed requests, other requests, and probes.

    None if it is not known of too many failures whether they were streamed.
    """
    # Probes are apart, as their events mostly do not say whether they stream: if they were counted
    # with the other requests, probes that succeed would make streaming look guilty.
    bad, total = _eligible(sums, groups, 0)
    probes_bad, probes = _eligible(sums, groups, PROBES_AT)
    low = sums.counters.keys & ((1 << COUNTER_BITS) - 1)
    parts = []
    for counter in (FAILED_STREAMED_AT, FAILED_UNSTREAMED_AT):
        mine = low == counter
        part = np.zeros(groups, np.int64)
        np.add.at(part, sums.counters.keys[mine] >> COUNTER_BITS, sums.counters.values[mine])
        parts.append(part)
    streamed, unstreamed = parts
    if int(streamed.sum() + unstreamed.sum()) < _STREAM_KNOWN_MIN * int(bad.sum()):
        return None
    of_streams = streamed.copy()
    np.add.at(of_streams, sums.counts.keys, sums.counts.values[:, KNOWN_AT + STREAMED_AT])
    return (
        np.stack((streamed, bad - streamed, probes_bad)),
        np.stack((of_streams, total - of_streams, probes)),
    )


def outcome_counts(rows: Ints) -> dict[str, int]:
    """Count requests and probes by outcome over rows of counts; without outcomes of 0."""
    counted = (rows[:, :PROBES_AT] + rows[:, PROBES_AT:TOKENS_AT]).sum(axis=0).tolist()
    return {name: n for name, n in zip(OUTCOMES, counted, strict=True) if n}


def slow(sums: Sums, groups: int, latency: str, limit_us: int) -> tuple[Ints, Ints]:
    """Count measured requests over a limit, to the precision of the histogram."""
    keys = sums.cells.keys
    # A key is (group, latency, bucket) from the high bits to the low ones.
    mine = (keys >> histogram.BUCKET_BITS) & ((1 << LATENCY_BITS) - 1) == LATENCIES.index(latency)
    buckets = keys[mine] & ((1 << histogram.BUCKET_BITS) - 1)
    # A bucket counts as slow if its highest value is over the limit, as for percentiles.
    over = histogram.highest_in(buckets) > limit_us * 1_000
    counts = sums.cells.values[mine]
    return _spread(keys[mine] >> CELL_BITS, counts * over, counts, groups)


def cache_misses(sums: Sums, groups: int) -> tuple[Ints, Ints]:
    """Count input tokens that were not read from the cache, if that is known."""
    rows = sums.counts.values
    every = rows[:, KNOWN_AT + CACHED_OF_AT]
    return _spread(sums.counts.keys, every - rows[:, TOKENS_AT + CACHED_AT], every, groups)


def _spread(keys: Ints, bad: Ints, every: Ints, groups: int) -> tuple[Ints, Ints]:
    found = np.zeros((2, groups), np.int64)
    np.add.at(found[0], keys, bad)
    np.add.at(found[1], keys, every)
    return found[0], found[1]
