"""A checkpoint as it is kept: the fields of a partition's state, their names and their encoding.

Pure. One partition's fields: `meta`, `index` (which slices there are), `totals` (counts since
ever), `series:N` and `cubes:N` (the names that the numbers in slices stand for), and one a slice.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from streams.events.watermark import Watermark
from streams.state.registry import CHUNK, CustomerKey, SeriesKey, padded_series
from streams.state.set_back import SetBack
from streams.state.slices import LEVELS, SliceId, Thresholds

# 2: duplicates in the slices, and what is known to be missing in the meta.
# 3: KNOWN columns and faults in the slices, latencies up to seven days.
# 4: the requested service tier and the class of input length in the names of series; counters and
#    a fourth latency in the slices; what the watermark's next move depends on.
# 5: columns without a value are left out of the tables of slices and totals.
# 2 to 4 are read.
SCHEMA = 5


class LogFingerprint(NamedTuple):
    """The last record counted or rejected; distinguishes the log from another of its name."""

    offset: int
    timestamp_ms: int
    crc: int  # CRC-32 of its value; 0 for a null


class Gap(NamedTuple):
    """A stretch of event time [from_ms, to_ms) in which records of the log are missing."""

    from_ms: int
    to_ms: int | None  # None: no event has come since
    records: int


class Meta(msgspec.Struct, array_like=True, frozen=True):
    """The data stored beside the slices, in the same write."""

    schema: int
    sequence: int  # number of the checkpoint
    watermark_ms: int | None
    merged_until_s: tuple[int, ...]
    unplaced: dict[str, int]  # rejected before the first accepted event, by reason
    overflowed: dict[str, int]  # events counted as __other__, by dimension
    series: int  # names in the registry
    customers: int
    edges: Thresholds
    written_at_ms: int  # by the writer's clock; for people and freshness, never for decisions
    since_ms: int | None = None  # Watermark.since_ms: nothing is known before
    lost_records: int = 0  # gone from Kafka, or skipped by an operator, before they were counted
    gaps: tuple[Gap, ...] = ()  # where they are missing
    rebuilt: int = 0  # times this state was lost and built again
    begun_at: int = 0  # offset at which counting began; 0 is the log's beginning
    witness: LogFingerprint | None = None
    recent: dict[int, int] = {}  # smallest offset by time of event, for duplicates
    archived_at_ms: int = 0  # by the writer's clock, when it was last archived
    # Watermark.newest_ms and .anchor_ms. Without both, the watermark is its own anchor.
    newest_ms: tuple[int, ...] = ()
    anchor_ms: int | None = None
    set_back: SetBack | None = None  # the last time that an operator set the watermark back
    unconfirmed: tuple[int, ...] = ()  # of the watermark

    def watermark(self) -> Watermark:
        """Return the watermark with what its next move depends on."""
        anchor_ms = self.anchor_ms if self.newest_ms else self.anchor_ms or self.watermark_ms
        return Watermark(
            time_ms=self.watermark_ms,
            anchor_ms=anchor_ms,
            newest_ms=self.newest_ms,
            since_ms=self.since_ms,
            unconfirmed=self.unconfirmed,
        )


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One checkpoint to be written: absolute values, all or nothing."""

    sequence: int
    from_offset: int
    to_offset: int
    fields: Mapping[str, bytes]
    deletes: Sequence[str]


@dataclass(frozen=True, slots=True)
class Stored:
    """A checkpoint as read back; `fields` has meta, index, totals and the registry, if any."""

    offset: int
    fields: Mapping[str, bytes] = field(default_factory=dict)


_ARRAY_16 = 0xDC  # MessagePack's header of an array of 16 items and more

_meta_decoder = msgspec.msgpack.Decoder(Meta)
_index_decoder = msgspec.msgpack.Decoder(list[dict[int, int]])
_series_decoder = msgspec.msgpack.Decoder(list[tuple[str, ...]])
_customers_decoder = msgspec.msgpack.Decoder(list[CustomerKey])


def slice_field(of: SliceId) -> str:
    """Name of a slice's field in the store, e.g. `s:600:1700000400`."""
    return f"s:{LEVELS[of.level].step_s}:{of.start_s}"


def decode_meta(data: bytes) -> Meta:
    """Read a stored meta; raises ValueError for one of a newer schema."""
    schema = data[3] if data[0] == _ARRAY_16 else data[1]  # it comes first in the array
    if schema > SCHEMA:
        raise ValueError(
            f"state has schema {schema}, this program reads up to {SCHEMA}: upgrade the program"
        )
    return _meta_decoder.decode(data)


def decode_index(data: bytes) -> dict[SliceId, int]:
    """Return the stored slices, each with the checkpoint that last wrote it."""
    return {
        SliceId(level, start_s): sequence
        for level, starts in enumerate(_index_decoder.decode(data))
        for start_s, sequence in starts.items()
    }


def encode_index(index: Mapping[SliceId, int]) -> bytes:
    """Return the bytes that `decode_index` reads."""
    levels: list[dict[int, int]] = [{} for _ in LEVELS]
    for slice_id in sorted(index):
        levels[slice_id.level][slice_id.start_s] = index[slice_id]
    return msgspec.msgpack.encode(levels)


def encode_names(
    name: str, keys: Sequence[SeriesKey] | Sequence[CustomerKey], stored: int
) -> dict[str, bytes]:
    """Return the fields of a list of names that change, as its first `stored` are in the store."""
    if len(keys) <= stored:
        return {}
    return {
        f"{name}:{at // CHUNK}": msgspec.msgpack.encode(keys[at : at + CHUNK])
        for at in range(stored // CHUNK * CHUNK, len(keys), CHUNK)
    }


def registry_fields(meta: Meta) -> list[str]:
    """The store's fields that hold the names."""
    return [f"series:{at // CHUNK}" for at in range(0, meta.series, CHUNK)] + [
        f"cubes:{at // CHUNK}" for at in range(0, meta.customers, CHUNK)
    ]


def decode_names(
    meta: Meta, fields: Mapping[str, bytes]
) -> tuple[list[SeriesKey], list[CustomerKey]]:
    """Read the registry's fields back into lists."""
    series = [
        padded_series(name)
        for at in range(0, meta.series, CHUNK)
        for name in _series_decoder.decode(fields[f"series:{at // CHUNK}"])
    ]
    customers = [
        key
        for at in range(0, meta.customers, CHUNK)
        for key in _customers_decoder.decode(fields[f"cubes:{at // CHUNK}"])
    ]
    return series[: meta.series], customers[: meta.customers]


def remade(fields: Mapping[str, bytes]) -> dict[str, bytes]:
    """The fields of a state that is put back after it was lost: its meta says so."""
    meta = decode_meta(fields["meta"])
    meta = msgspec.structs.replace(meta, rebuilt=meta.rebuilt + 1)
    return {**fields, "meta": msgspec.msgpack.encode(meta)}
