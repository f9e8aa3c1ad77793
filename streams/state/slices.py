"""The counts of one slice of event time, and their addition.

Pure. A slice holds seven tables; all of them are sums, so slices of any cut of a stream add up to
the same numbers:

    series            (model, region, channel, tier)  -> requests by outcome, tokens, latency
                                                         sums, of how many requests what is known
    cells             (series, latency, bucket)       -> requests in that HdrHistogram bucket
    threshold_counts  (series, latency, threshold)    -> requests at or under it, exactly
    customers         (customer, model)               -> requests by outcome, tokens, known
    rejected          reason                          -> rejected records; duplicates under 255;
                                                         faults of fields, from 256 on
    counters          (series, counter)               -> amounts that most events do not have
    customer_counters (customer row, counter)         -> the same amounts by customer

`series` and `customers` count what the customer got: each request once, by its final attempt. The
other attempts are in the counters. The latencies are those of all attempts.

The partition's registry (registry.py) gives series and customer rows small numbers; a key of
`cells`, `threshold_counts` and the counters has the number in its upper bits.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import NamedTuple, Self

import msgspec
import numpy as np

from streams.events.faults import Fault
from streams.events.fields import (
    CLIENT_CLASSES,
    ENDINGS,
    FIELD_REASONS,
    FIELDS,
    OUTCOMES,
    REASONS,
)
from streams.state import histogram
from streams.state.tables import Ints, Table

# Latencies with a histogram and a sum. Places are stored: only ever append.
LATENCIES = ("ttft", "tpot", "duration", "first_visible")
# Those with thresholds. `output_speed` is (duration - TTFT) / output tokens, of the same requests
# as TPOT, the inverse of the tokens per second of some contracts. It has no histogram.
CLOCKS = (*LATENCIES, "output_speed")
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

# Columns of `series`: requests by outcome, probes by outcome, tokens, sums of the first three
# latencies in microseconds (nanoseconds would overflow 64 bits within a busy year), KNOWN, and the
# sums of the other latencies. Columns are stored: a new amount is a counter.
PROBES_AT = len(OUTCOMES)
TOKENS_AT = 2 * len(OUTCOMES)
SUMS_AT = TOKENS_AT + len(TOKENS)
KNOWN_AT = SUMS_AT + 3
KNOWN_END = KNOWN_AT + len(KNOWN)
SUM_COLUMNS = (*range(SUMS_AT, KNOWN_AT), *range(KNOWN_END, KNOWN_END + len(LATENCIES) - 3))
SERIES_COLUMNS = KNOWN_AT + len(KNOWN) + len(LATENCIES) - 3

# Columns of `customers`: requests by outcome, tokens, KNOWN. Stored, as those of `series`.
CUSTOMER_TOKENS_AT = len(OUTCOMES)
CUSTOMER_KNOWN_AT = CUSTOMER_TOKENS_AT + len(TOKENS)
CUSTOMER_COLUMNS = CUSTOMER_KNOWN_AT + len(KNOWN)

# Key of `rejected` for duplicates. Not a reason: REASONS, indexed below it, may grow up to it.
DUPLICATE_KEY = 255
# Keys of `rejected` for faults begin here; they hold the places of field and reason.
FAULTS_AT = 256
_REASON_BITS = 4

# Counters: of attempts that were not final, requests by outcome and tokens; of final requests,
# client errors by class, endings, the output tokens of each ending, and changed tiers; of the
# attempts, client errors by class; of final requests, failures that an SLA counts, if they were
# streamed and if they were not (neither if that is not known); probes that were not final, by
# outcome; client errors by class of final probes, and of those that were not final. A place is
# stored: only append.
COUNTERS = (
    *(f"attempt_{outcome}" for outcome in OUTCOMES),
    *(f"attempt_{name}" for name in TOKENS),
    *(f"client_{name}" for name in CLIENT_CLASSES),
    *(f"ending_{ending}" for ending in ENDINGS),
    *(f"output_tokens_{ending}" for ending in ENDINGS),
    "tier_changed",
    *(f"attempt_client_{name}" for name in CLIENT_CLASSES),
    "failed_streamed",
    "failed_unstreamed",
    *(f"probe_attempt_{outcome}" for outcome in OUTCOMES),
    *(f"probe_client_{name}" for name in CLIENT_CLASSES),
    *(f"probe_attempt_client_{name}" for name in CLIENT_CLASSES),
)
ATTEMPTS_AT, ATTEMPT_TOKENS_AT = 0, len(OUTCOMES)
CLIENT_AT = COUNTERS.index(f"client_{CLIENT_CLASSES[0]}")
ENDINGS_AT = COUNTERS.index(f"ending_{ENDINGS[0]}")
ENDING_TOKENS_AT = COUNTERS.index(f"output_tokens_{ENDINGS[0]}")
TIER_CHANGED_AT = COUNTERS.index("tier_changed")
ATTEMPT_CLIENT_AT = COUNTERS.index(f"attempt_client_{CLIENT_CLASSES[0]}")
FAILED_STREAMED_AT = COUNTERS.index("failed_streamed")
FAILED_UNSTREAMED_AT = COUNTERS.index("failed_unstreamed")
PROBE_ATTEMPTS_AT = COUNTERS.index(f"probe_attempt_{OUTCOMES[0]}")
PROBE_CLIENT_AT = COUNTERS.index(f"probe_client_{CLIENT_CLASSES[0]}")
PROBE_ATTEMPT_CLIENT_AT = COUNTERS.index(f"probe_attempt_client_{CLIENT_CLASSES[0]}")
COUNTER_BITS = 8

LATENCY_BITS = 3
CELL_BITS = LATENCY_BITS + histogram.BUCKET_BITS
THRESHOLD_BITS = 37  # thresholds are whole microseconds, at most a day: below 2**37
THRESHOLD_COUNT_BITS = LATENCY_BITS + THRESHOLD_BITS
_LATENCY_BITS_BEFORE = 2  # of state schema 3


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
    """Latency limits in whole microseconds, rising, that are counted exactly; one tuple a clock
    in the order of CLOCKS."""

    ttft_us: tuple[int, ...]
    tpot_us: tuple[int, ...]
    duration_us: tuple[int, ...]
    first_visible_us: tuple[int, ...] = ()
    output_speed_us: tuple[int, ...] = ()

    @classmethod
    def of_seconds(cls, *limits_s: Iterable[float]) -> Self:
        """Return the thresholds for limits in seconds, in any order; one argument a clock."""
        return cls(
            *(tuple(sorted({round(limit_s * 1e6) for limit_s in limits})) for limits in limits_s)
        )


@dataclass(frozen=True, slots=True)
class Aggregate:
    """The content of one slice, or of any sum of slices."""

    series: Table
    cells: Table
    threshold_counts: Table
    customers: Table
    rejected: Table
    counters: Table
    customer_counters: Table

    @classmethod
    def empty(cls) -> Self:
        """Return an aggregate without counts."""
        return cls(
            Table.empty(SERIES_COLUMNS),
            Table.empty(),
            Table.empty(),
            Table.empty(CUSTOMER_COLUMNS),
            Table.empty(),
            Table.empty(),
            Table.empty(),
        )

    @classmethod
    def merged(cls, aggregates: Sequence["Aggregate"]) -> Self:
        """Return the sum of any number of aggregates."""
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
                counters=self.counters.pack(),
                customer_counters=self.customer_counters.pack(),
            )
        )

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """Read the bytes of `pack`."""
        packed = _unpacker.decode(data)
        groups = packed.histogram_groups()
        index, buckets, counts = histogram.decode(packed.histograms)
        cells = Table((groups[index] << histogram.BUCKET_BITS) | buckets, counts)
        series = _with_known(Table.unpack(packed.series), KNOWN_AT, TOKENS_AT, cells)
        return cls(
            series=_widened(series, SERIES_COLUMNS),
            cells=cells,
            threshold_counts=packed.unpack_threshold_counts(),
            customers=_widened(
                _with_known(Table.unpack(packed.customers), CUSTOMER_KNOWN_AT, CUSTOMER_TOKENS_AT),
                CUSTOMER_COLUMNS,
            ),
            rejected=Table.unpack(packed.rejected),
            counters=_unpack_counters(packed.counters),
            customer_counters=_unpack_counters(packed.customer_counters),
        )


class _Packed(msgspec.Struct, array_like=True):
    series: bytes
    histogram_of: bytes  # keys (series, latency), one for each of `histograms`
    histograms: list[bytes]
    threshold_counts: bytes
    customers: bytes
    rejected: bytes
    # Added by state schema 4, together with a third bit for the latency in keys.
    counters: bytes | None = None
    customer_counters: bytes | None = None

    def histogram_groups(self) -> Ints:
        """Return the keys of `histogram_of` with LATENCY_BITS."""
        keys = Table.unpack(self.histogram_of).keys
        return keys if self.counters is not None else _with_latency_bits(keys, 0)

    def unpack_threshold_counts(self) -> Table:
        """Return `threshold_counts`, its keys with LATENCY_BITS and THRESHOLD_BITS."""
        table = Table.unpack(self.threshold_counts)
        if self.counters is not None:
            return table
        keys = _with_latency_bits(table.keys, THRESHOLD_BITS + 1)
        row = keys >> THRESHOLD_BITS + 1
        limit_us = keys & ((1 << THRESHOLD_BITS) - 1)
        return Table((row << THRESHOLD_BITS) | limit_us, table.values)


_unpacker = msgspec.msgpack.Decoder(_Packed)


def _with_known(table: Table, known_at: int, tokens_at: int, cells: Table | None = None) -> Table:
    """Return a table of state schema 2, which has no KNOWN columns, with these columns.

    Schema 2 counted no success without its tokens, and read absent cached tokens as none, so that
    all were known. `cells`: to count the streamed successes, of which those with a TTFT remain.
    """
    if table.values.shape[1] != known_at:
        return table
    known = np.zeros((len(table), len(KNOWN)), np.int64)
    successes = table.values[:, OUTCOMES.index("success")]
    known[:, KNOWN.index("tokens")] = known[:, KNOWN.index("cached_input")] = successes
    input_tokens = table.values[:, tokens_at + TOKENS.index("input")]
    known[:, KNOWN.index("cached_input_of")] = input_tokens
    if cells is not None and len(cells):
        ttft = (cells.keys >> histogram.BUCKET_BITS) & ((1 << LATENCY_BITS) - 1) == 0
        rows = np.searchsorted(table.keys, cells.keys[ttft] >> CELL_BITS)
        np.add.at(known[:, KNOWN.index("streamed")], rows, cells.values[ttft])
    return Table(table.keys, np.hstack((table.values, known)))


def _widened(table: Table, columns: int) -> Table:
    """Return a table with zeros in the columns that were appended since it was stored."""
    missing = columns - table.values.shape[1]
    if missing <= 0:
        return table
    return Table(table.keys, np.pad(table.values, ((0, 0), (0, missing))))


def _with_latency_bits(keys: Ints, low_bits: int) -> Ints:
    """Return keys of state schema 3, which have the latency above `low_bits`, with LATENCY_BITS."""
    low = keys & ((1 << low_bits + _LATENCY_BITS_BEFORE) - 1)
    return (keys >> low_bits + _LATENCY_BITS_BEFORE << low_bits + LATENCY_BITS) | low


def _unpack_counters(data: bytes | None) -> Table:
    return Table.empty() if data is None else Table.unpack(data)


def unpack_histograms(data: bytes) -> dict[tuple[int, str], bytes]:
    """Return the stored histograms of a packed aggregate: (series number, latency) -> bytes."""
    packed = _unpacker.decode(data)
    groups = packed.histogram_groups().tolist()
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


def restart_histograms(totals: Aggregate) -> Aggregate:
    """Return totals whose exported histograms restart at zero, as a counter reset.

    A new edge cannot be given the past, and a histogram must stay cumulative.
    """
    series = totals.series.values.copy()
    series[:, SUM_COLUMNS] = 0
    return replace(totals, series=Table(totals.series.keys, series), threshold_counts=Table.empty())
