"""A checkpoint as it is kept: the fields of a partition's state, their names and their encoding.

Pure. One partition's fields: `meta`, `index` (which slices there are), `totals` (counts since
ever), `series:N` and `cubes:N` (the names that the numbers in slices stand for), and one a slice.

Every field has a checksum: a slice and the meta their own, the remaining ones in the meta. Fields
that a program of before checksums wrote have none, and are read without the check.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from streams.checksums import DamagedError, check_array, checksum, seal_array
from streams.errors import Unavailable, one_line
from streams.events.watermark import Watermark
from streams.state.registry import CHUNK, CustomerKey, SeriesKey, padded_series
from streams.state.set_back import SetBack
from streams.state.slices import LEVELS, Aggregate, SliceId, Thresholds

# 2: duplicates in the slices, and what is known to be missing in the meta.
# 3: KNOWN columns and faults in the slices, latencies up to seven days.
# 4: the requested service tier and the class of input length in the names of series; counters and
#    a fourth latency in the slices; what the watermark's next move depends on.
# 5: columns without a value are left out of the tables of slices and totals.
# 2 to 4 are read.
SCHEMA = 5
SLICE_PREFIX = "s:"  # of the names of the fields with slices


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


class Generation(NamedTuple):
    """The checkpoints of one claim.

    A store that lost its latest writes gets checkpoints of the same numbers with other contents,
    but from another claim.
    """

    id: int
    first: int  # number of its first checkpoint


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
    offset: int | None = None  # the field `offset` of the same write
    checksums: dict[str, int] = {}  # of the other fields beside the slices, by name
    generations: tuple[Generation, ...] = ()  # the last ones, the present one at the end
    # By dimension and name: since when none of its events was counted as __other__. Names that are
    # or were reserved.
    reserved_since_ms: dict[str, dict[str, int]] = {}

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
    # CustomerTokens.unstored: hash -> token. Of the whole topic; written before the checkpoint.
    tokens: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stored:
    """A checkpoint as read back; `fields` has meta, index, totals and the registry, if any."""

    offset: int
    fields: Mapping[str, bytes] = field(default_factory=dict)
    generation: int = 0  # id of the claim that read it
    damage: DamagedError | None = None  # then `fields` may be incomplete


_GENERATIONS_KEPT = 8
_ARRAY_16 = 0xDC  # MessagePack's header of an array of 16 items and more

_meta_decoder = msgspec.msgpack.Decoder(Meta)
_index_decoder = msgspec.msgpack.Decoder(list[dict[int, int]])
_series_decoder = msgspec.msgpack.Decoder(list[tuple[str, ...]])
_customers_decoder = msgspec.msgpack.Decoder(list[CustomerKey])


def slice_field(of: SliceId) -> str:
    """Name of a slice's field in the store, e.g. `s:600:1700000400`."""
    return f"{SLICE_PREFIX}{LEVELS[of.level].step_s}:{of.start_s}"


def encode_meta(meta: Meta) -> bytes:
    """Return the bytes that `decode_meta` reads."""
    return seal_array("meta", msgspec.msgpack.encode(meta))


def decode_meta(data: bytes) -> Meta:
    """Read a stored meta; raises Unavailable for one of a newer schema, or DamagedError."""
    check_array("meta", data)
    try:
        schema = data[3] if data[0] == _ARRAY_16 else data[1]  # it comes first in the array
        if schema <= SCHEMA:
            return _meta_decoder.decode(data)
    except (ValueError, IndexError) as error:
        raise _unreadable("meta", error) from error
    raise Unavailable(
        f"state has schema {schema}, this program reads up to {SCHEMA}: upgrade the program"
    )


def check_fields(meta: Meta, offset: bytes | int, fields: Mapping[str, bytes]) -> None:
    """Compare fields beside the slices with the checksums in the meta. Raises DamagedError."""
    # A program without checksums stored no offset in the meta to compare with.
    if not (_text(offset).isascii() and _text(offset).isdigit()):
        raise DamagedError("offset", f"is {_text(offset)!r}, not a number")
    if meta.offset is not None and str(meta.offset) != _text(offset):
        raise DamagedError("offset", f"is {_text(offset)}, but was stored as {meta.offset}")
    for name, crc in meta.checksums.items():
        if name in fields and checksum(name, fields[name]) != crc:
            raise DamagedError(name, "its checksum is wrong")


@dataclass(slots=True)
class Lineage:
    """The checksums and generations in the metas of one claim."""

    generation: int  # id
    _generations: tuple[Generation, ...] = ()
    _checksums: dict[str, int] = field(default_factory=dict)

    def follow(self, meta: Meta, fields: Mapping[str, bytes]) -> None:
        """Continue a stored state; `fields`: as in `Stored`."""
        self._generations = meta.generations
        # Of the fields, not of the meta: an earlier program may have written them.
        self._note(fields)

    def seal(self, fields: Mapping[str, bytes], meta: Meta) -> bytes:
        """Return the field `meta` of the checkpoint that writes `fields`."""
        self._note(fields)
        if not self._generations or self._generations[-1].id != self.generation:
            self._generations += (Generation(self.generation, meta.sequence),)
        return encode_meta(
            msgspec.structs.replace(
                meta,
                checksums=dict(sorted(self._checksums.items())),
                generations=self._generations[-_GENERATIONS_KEPT:],
            )
        )

    def _note(self, fields: Mapping[str, bytes]) -> None:
        for name, data in fields.items():
            # Slices and the meta have checksums of their own.
            if not name.startswith(SLICE_PREFIX) and name != "meta":
                self._checksums[name] = checksum(name, data)


def _text(offset: bytes | int) -> str:
    return str(offset) if isinstance(offset, int) else offset.decode(errors="replace")


def _unreadable(name: str, error: Exception) -> DamagedError:
    return DamagedError(name, f"cannot be read: {one_line(error)}")


def descends(meta: Meta, earlier: Meta) -> bool:
    """Return whether a checkpoint may have followed an earlier one of the same state.

    Only then do the numbers of checkpoints in their indexes mean the same.
    """
    # A store that lost its last write gets another checkpoint of the same number.
    if meta.sequence < earlier.sequence or meta.rebuilt != earlier.rebuilt:
        return False
    if meta.sequence == earlier.sequence:
        return meta == earlier
    if not earlier.generations:
        return not meta.generations or earlier.sequence < meta.generations[0].first
    # A program without generations wrote the later one: nothing shows what it followed.
    if earlier.generations[-1] not in meta.generations:
        return False
    later = meta.generations[meta.generations.index(earlier.generations[-1]) + 1 :]
    return not later or earlier.sequence < later[0].first


def encode_slice(slice_id: SliceId, aggregate: Aggregate) -> bytes:
    """Return the bytes that `decode_slice` reads."""
    return seal_array(slice_field(slice_id), aggregate.pack())


def decode_slice(slice_id: SliceId, data: bytes) -> Aggregate:
    """Read a stored slice. Raises DamagedError."""
    return _decode_aggregate(slice_field(slice_id), data)


def check_slice(name: str, data: bytes) -> None:
    """Check a stored slice, given the name of its field. Raises DamagedError."""
    if not check_array(name, data):
        _decode_aggregate(name, data)


def decode_totals(data: bytes) -> Aggregate:
    """Read the stored totals. Raises DamagedError."""
    return _decode_aggregate("totals", data)


def _decode_aggregate(name: str, data: bytes) -> Aggregate:
    check_array(name, data)
    try:
        return Aggregate.unpack(data)
    # Arrays of one size with another in a value without a checksum.
    except (ValueError, IndexError, OverflowError, MemoryError) as error:
        raise _unreadable(name, error) from error


def decode_index(data: bytes) -> dict[SliceId, int]:
    """Return the stored slices, each with the checkpoint that last wrote it.

    Raises DamagedError.
    """
    try:
        levels = _index_decoder.decode(data)
        return {
            SliceId(level, start_s): sequence
            for level, starts in enumerate(levels)
            for start_s, sequence in starts.items()
        }
    except ValueError as error:
        raise _unreadable("index", error) from error


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
    """Read the registry's fields back into lists. Raises DamagedError."""
    series: list[SeriesKey] = []
    customers: list[CustomerKey] = []
    for name in registry_fields(meta):
        try:
            if name.startswith("series:"):
                series += map(padded_series, _series_decoder.decode(fields[name]))
            else:
                customers += _customers_decoder.decode(fields[name])
        except ValueError as error:
            raise _unreadable(name, error) from error
        except KeyError as error:
            raise DamagedError(name, "is missing") from error
    if len(series) < meta.series or len(customers) < meta.customers:
        raise DamagedError("series, cubes", "have fewer names than the meta counts")
    return series[: meta.series], customers[: meta.customers]


def remade(fields: Mapping[str, bytes], times: int = 0) -> dict[str, bytes]:
    """The fields of a state that is put back after it was lost: its meta says so.

    `times`: how often the lost state had been, if that is known.
    """
    meta = decode_meta(fields["meta"])
    meta = msgspec.structs.replace(meta, rebuilt=max(meta.rebuilt, times) + 1)
    return {**fields, "meta": encode_meta(meta)}
