"""The counts of one slice of event time, and their addition.

Pure. A slice holds five tables; all of them are sums, so slices of any cut of a stream add up to
the same numbers:

    series            (model, region, channel, tier)  -> requests by outcome, tokens, latency
                                                         sums, of how many requests what is known
    cells             (series, latency, bucket)       -> requests in that HdrHistogram bucket
    threshold_counts  (series, latency, threshold)    -> requests at or under it, exactly
    customers         (customer, model)               -> requests by outcome, tokens, known
    rejected          reason                          -> rejected records; duplicates under 255;
                                                         faults of fields, from 256 on

The partition's registry (registry.py) gives series and customer rows small numbers; a key of
`cells` and `threshold_counts` has the number in its upper bits.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import NamedTuple, Self

import msgspec
import numpy as np

from streams.events.faults import Fault
from streams.events.fields import FIELD_REASONS, FIELDS, OUTCOMES, REASONS
from streams.state import histogram
from streams.state.tables import Table

LATENCIES = ("ttft", "tpot", "duration")
TOKENS = ("input", "cached_input", "cache_write", "output", "reasoning")
# What is known of how many requests, and what is counted apart; probes have none of it.
KNOWN = (
    "tokens",  # successes whose input tokens are known
    "cached_input",  # successes whose cached input tokens are known
    "cached_input_of",  # input tokens of all requests whose cached input tokens are known
    "estimated",  # requests whose tokens are estimates
    "estimated_tokens",  # their input and output tokens
    "response_cache",  # successes answered from a gateway's response cache
    "streamed",  # successes that streamed: those that have a TTFT
)

# Columns of `series`: requests by outcome, probes by outcome, tokens, sums of latency in
# microseconds (nanoseconds would overflow 64 bits within a busy year), and KNOWN. Columns are
# stored: only ever append.
PROBES_AT = len(OUTCOMES)
TOKENS_AT = 2 * len(OUTCOMES)
SUMS_AT = TOKENS_AT + len(TOKENS)
KNOWN_AT = SUMS_AT + len(LATENCIES)
SERIES_COLUMNS = KNOWN_AT + len(KNOWN)

# Columns of `customers`: requests by outcome, tokens, KNOWN.
CUSTOMER_TOKENS_AT = len(OUTCOMES)
CUSTOMER_KNOWN_AT = CUSTOMER_TOKENS_AT + len(TOKENS)
CUSTOMER_COLUMNS = CUSTOMER_KNOWN_AT + len(KNOWN)

# Key of `rejected` for duplicates. Not a reason: REASONS, indexed below it, may grow up to it.
DUPLICATE_KEY = 255
# Keys of `rejected` for faults begin here; they hold the places of field and reason.
FAULTS_AT = 256
_REASON_BITS = 4

LATENCY_BITS = 2
CELL_BITS = LATENCY_BITS + histogram.BUCKET_BITS
THRESHOLD_BITS = 38  # thresholds are whole microseconds, at most a day: below 2**38
THRESHOLD_COUNT_BITS = LATENCY_BITS + THRESHOLD_BITS


class Level(NamedTuple):
    """One resolution: the length of its slices and how long they are kept, by event time."""

    step_s: int
    keep_s: int


LEVELS = (
    Level(10, 15 * 60),
    Level(60, 3 * 3_600),
    Level(600, 30 * 3_600),
    Level(3_600, 35 * 86_400),
    Level(86_400, 400 * 86_400),
)
HORIZON_S = LEVELS[-1].keep_s


class SliceId(NamedTuple):
    """The slice [start_s, start_s + LEVELS[level].step_s)."""

    level: int
    start_s: int

    @property
    def end_s(self) -> int:
        """First second after the slice."""
        return self.start_s + LEVELS[self.level].step_s


class Thresholds(NamedTuple):
    """Latency limits in whole microseconds, rising, that are counted exactly; one tuple a latency
    in the order of LATENCIES."""

    ttft_us: tuple[int, ...]
    tpot_us: tuple[int, ...]
    duration_us: tuple[int, ...]

    @classmethod
    def of_seconds(
        cls, ttft_s: Iterable[float], tpot_s: Iterable[float], duration_s: Iterable[float]
    ) -> Self:
        """Return the thresholds for limits in seconds, in any order."""
        return cls(
            *(
                tuple(sorted({round(limit_s * 1e6) for limit_s in limits}))
                for limits in (ttft_s, tpot_s, duration_s)
            )
        )


@dataclass(frozen=True, slots=True)
class Aggregate:
    """The content of one slice, or of any sum of slices."""

    series: Table
    cells: Table
    threshold_counts: Table
    customers: Table
    rejected: Table

    @classmethod
    def empty(cls) -> Self:
        """Return an aggregate without counts."""
        return cls(
            Table.empty(SERIES_COLUMNS),
            Table.empty(),
            Table.empty(),
            Table.empty(CUSTOMER_COLUMNS),
            Table.empty(),
        )

    @classmethod
    def merged(cls, aggregates: Sequence["Aggregate"]) -> Self:
        """The sum of any number of aggregates."""
        if not aggregates:
            return cls.empty()
        return cls(
            *(
                Table.merged([getattr(aggregate, field.name) for aggregate in aggregates])
                for field in fields(cls)
            )
        )

    @property
    def size_bytes(self) -> int:
        """Memory its arrays take."""
        return sum(
            getattr(self, field.name).keys.nbytes + getattr(self, field.name).values.nbytes
            for field in fields(self)
        )

    def pack(self) -> bytes:
        """Return the bytes for the store. Histograms are in the standard HdrHistogram encoding."""
        groups, histograms = histogram.encode(
            self.cells.keys >> histogram.BUCKET_BITS,
            self.cells.keys & ((1 << histogram.BUCKET_BITS) - 1),
            self.cells.values,
        )
        return msgspec.msgpack.encode(
            _Packed(
                series=self.series.pack(),
                histogram_of=Table(groups, np.zeros(len(groups), np.int64)).pack(),
                histograms=histograms,
                threshold_counts=self.threshold_counts.pack(),
                customers=self.customers.pack(),
                rejected=self.rejected.pack(),
            )
        )

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """Read the bytes of `pack`."""
        packed = _unpacker.decode(data)
        groups = Table.unpack(packed.histogram_of).keys
        index, buckets, counts = histogram.decode(packed.histograms)
        cells = Table((groups[index] << histogram.BUCKET_BITS) | buckets, counts)
        return cls(
            series=_with_known(Table.unpack(packed.series), KNOWN_AT, TOKENS_AT, cells),
            cells=cells,
            threshold_counts=Table.unpack(packed.threshold_counts),
            customers=_with_known(
                Table.unpack(packed.customers), CUSTOMER_KNOWN_AT, CUSTOMER_TOKENS_AT
            ),
            rejected=Table.unpack(packed.rejected),
        )


class _Packed(msgspec.Struct, array_like=True):
    series: bytes
    histogram_of: bytes  # keys (series, latency), one for each of `histograms`
    histograms: list[bytes]
    threshold_counts: bytes
    customers: bytes
    rejected: bytes


_unpacker = msgspec.msgpack.Decoder(_Packed)


def _with_known(table: Table, known_at: int, tokens_at: int, cells: Table | None = None) -> Table:
    """Return a table of state schema 2, which has no KNOWN columns, with these columns.

    Schema 2 counted no success without its tokens, and read absent cached tokens as none, so that
    all were known. `cells`: to count the streamed successes, of which those with a TTFT remain.
    """
    missing = known_at + len(KNOWN) - table.values.shape[1]
    if missing <= 0:
        return table
    known = np.zeros((len(table), len(KNOWN)), np.int64)
    if missing == len(KNOWN):
        successes = table.values[:, OUTCOMES.index("success")]
        known[:, KNOWN.index("tokens")] = known[:, KNOWN.index("cached_input")] = successes
        input_tokens = table.values[:, tokens_at + TOKENS.index("input")]
        known[:, KNOWN.index("cached_input_of")] = input_tokens
        if cells is not None and len(cells):
            ttft = (cells.keys >> histogram.BUCKET_BITS) & ((1 << LATENCY_BITS) - 1) == 0
            rows = np.searchsorted(table.keys, cells.keys[ttft] >> CELL_BITS)
            np.add.at(known[:, KNOWN.index("streamed")], rows, cells.values[ttft])
    return Table(table.keys, np.hstack((table.values[:, :known_at], known)))


def unpack_histograms(data: bytes) -> dict[tuple[int, str], bytes]:
    """Return the stored histograms of a packed aggregate: (series number, latency) -> bytes."""
    packed = _unpacker.decode(data)
    groups = Table.unpack(packed.histogram_of).keys.tolist()
    mask = (1 << LATENCY_BITS) - 1
    return {
        (group >> LATENCY_BITS, LATENCIES[group & mask]): encoded
        for group, encoded in zip(groups, packed.histograms, strict=True)
    }


def rejection_counts(by_reason: Mapping[str, int], duplicates: int = 0) -> Aggregate:
    """Return an aggregate of rejected records and of duplicates."""
    counts = {REASONS.index(reason): count for reason, count in by_reason.items()}
    if duplicates:
        counts[DUPLICATE_KEY] = duplicates
    if not counts:
        return Aggregate.empty()
    keys, values = np.array(list(counts.items()), np.int64).T
    return replace(Aggregate.empty(), rejected=Table.summed(keys, values))


def rejections_by_reason(aggregate: Aggregate) -> dict[str, int]:
    """Return the rejected records by reason; reasons that did not occur are absent."""
    return {
        REASONS[key]: count
        for key, count in zip(
            aggregate.rejected.keys.tolist(), aggregate.rejected.values.tolist(), strict=True
        )
        if key < DUPLICATE_KEY
    }


def duplicates_of(aggregate: Aggregate) -> int:
    """Return the number of deduplicated records: in no other table, and in no reason."""
    return int(aggregate.rejected.values[aggregate.rejected.keys == DUPLICATE_KEY].sum())


_FIELD_NAMES = tuple(field.name for field in FIELDS)


def fault_key(fault: Fault) -> int:
    """Return the key of `rejected` under which a fault is counted."""
    field, reason = fault
    place = _FIELD_NAMES.index(field) << _REASON_BITS
    return FAULTS_AT + (place | FIELD_REASONS.index(reason))


def faults_by_field(aggregate: Aggregate) -> dict[Fault, int]:
    """Return the counted records with a fault, by (field, reason); those without are absent."""
    return {
        (
            _FIELD_NAMES[key - FAULTS_AT >> _REASON_BITS],
            FIELD_REASONS[key - FAULTS_AT & (1 << _REASON_BITS) - 1],
        ): count
        for key, count in zip(
            aggregate.rejected.keys.tolist(), aggregate.rejected.values.tolist(), strict=True
        )
        if key >= FAULTS_AT
    }


# Bucket edges of the OpenTelemetry GenAI server metrics, in seconds. Source: OpenTelemetry semantic
# conventions v1.41.1, docs/gen-ai/gen-ai-metrics.md.
OTEL_EDGES_S: dict[str, tuple[float, ...]] = {
    "ttft": (
        *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1),
        *(0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
    ),
    "tpot": (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5),
    "duration": (
        *(0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64),
        *(1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92),
    ),
}
# Edges added around a target: a percentile read through the histogram near the target would
# otherwise be off by half a bucket (a true 280 ms reads 321-378 ms through the conventional edges).
AROUND_TARGET = (0.8, 0.9, 1.0, 1.1, 1.25)
EVERYTHING_US = 86_400 * 10**6  # stands for +Inf: longer latencies are counted under it


def export_edges(targets: Thresholds) -> Thresholds:
    """Edges of the exported histograms: the convention's, some around each target, and all."""
    return Thresholds(
        *(
            tuple(
                sorted(
                    {round(edge_s * 1e6) for edge_s in OTEL_EDGES_S[latency]}
                    | {round(limit * factor) for limit in limits for factor in AROUND_TARGET}
                    | {EVERYTHING_US}
                )
            )
            for latency, limits in zip(LATENCIES, targets, strict=True)
        )
    )
