"""Kafka's record batches (message format v2), read from their bytes and never on trust.

Whatever a producer compressed, a disk damaged or a broker cut short: a batch is read whole, or
refused with the reason before it has taken more memory than the caller allows.

    base offset 8 | length 4 | epoch 4 | magic 1 | checksum 4 | attributes 2 ... count 4 | records
                                                              |--- the checksum covers these ---->

The base offset is under no checksum. It is believed where the batch lies inside the log and runs
into none of its neighbours; on the way here only TLS protects it.
"""

import struct
import zlib
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from aiokafka.errors import CorruptRecordException
from aiokafka.record.control_record import ABORT_MARKER, ControlRecord
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.memory_records import MemoryRecords

from streams.kafka.decompression import DecompressionError, decompress

# The shortest event there can be has 75 bytes. Smaller ones by the million would be a flood of
# objects, each many times the size of what it was read from.
MIN_RECORD_BYTES = 64
# A header becomes some 130 bytes of objects for the 4 it may take in the batch. In batches below
# LARGE_BYTES there cannot be enough of them to hurt.
HEADERS_MAX = 500_000
LARGE_BYTES = 2_000_000

HEADER_BYTES = 61
_PLACE = struct.Struct(">qi")  # base offset, and length of what follows: the same in all formats
_OLD_PLACE = struct.Struct(">qiI")  # with the checksum of formats v0 and v1
_COUNT, _COUNT_AT = struct.Struct(">i"), 57
_MAGIC_AT, _CODEC_AT = 16, 22  # the latter: low byte of the attributes


class UnreadableError(Exception):
    """A record batch that cannot be read: why, on one line, and the offset after it, if known."""

    def __init__(self, why: str, skip_to: int | None) -> None:
        super().__init__(why)
        self.why, self.skip_to = why, skip_to


@dataclass(slots=True)
class RecordBatch:
    """One batch whose header is right."""

    data: memoryview  # header and records
    reader: Any  # aiokafka's compiled one, of the same bytes
    base_offset: int
    next_offset: int  # after its last record, also after one that compaction removed

    def uncompressed(self, max_bytes: int) -> "RecordBatch":
        """The same batch without compression.

        Raises UnreadableError, also where its records have more than `max_bytes`.
        """
        [count] = _COUNT.unpack_from(self.data, _COUNT_AT)
        if not 0 <= count <= max(max_bytes // MIN_RECORD_BYTES, 1):
            raise self._unreadable(f"{count:,} records are too many for worker.max_batch_mb")
        codec = self.reader.compression_type
        if codec == 0:
            if len(self.data) - HEADER_BYTES > max_bytes:
                raise self._unreadable(
                    f"{len(self.data):,} bytes are more than worker.max_batch_mb"
                )
            return self
        try:
            data = decompress(codec, self.data[:HEADER_BYTES], self.data[HEADER_BYTES:], max_bytes)
        except DecompressionError as error:
            raise self._unreadable(str(error)) from error
        data[_CODEC_AT] &= ~self.reader.CODEC_MASK  # length and checksum nobody reads again
        return RecordBatch(data, DefaultRecordBatch(data), self.base_offset, self.next_offset)

    def records(self) -> list[Any]:
        """The records of an uncompressed batch, as aiokafka's compiled reader gives them.

        Raises UnreadableError.
        """
        if len(self.data) > LARGE_BYTES and _headers(self.data) > HEADERS_MAX:
            raise self._unreadable(f"its records have more than {HEADERS_MAX:,} headers")
        try:
            found = list(self.reader)
        # The last two: a record of a length that no memory holds.
        except (CorruptRecordException, UnicodeDecodeError, OverflowError, MemoryError) as error:
            raise self._unreadable(f"its records do not parse: {error}") from error
        if not self._holds(found):
            raise self._unreadable("its records' offsets are out of order or outside of it")
        return found

    def aborts(self) -> bool:
        """Whether this control batch ends its transaction by aborting it.

        Raises UnreadableError.
        """
        found = self.records()
        try:
            # None is left where compaction kept the batch only to remember the producer.
            return bool(found) and ControlRecord.parse(found[0].key) == ABORT_MARKER
        except (struct.error, TypeError) as error:
            raise self._unreadable(f"its control record does not parse: {error}") from error

    def _holds(self, found: list[Any]) -> bool:
        if not found:
            return True
        first, last = found[0].offset, found[-1].offset
        if not self.base_offset <= first <= last < self.next_offset:
            return False
        if last - first + 1 == len(found):
            return True  # none was removed by compaction: no need to look at each
        return all(one.offset < other.offset for one, other in pairwise(found))

    def _unreadable(self, why: str) -> UnreadableError:
        """An error past the checksum: the header can be trusted."""
        return UnreadableError(why, self.next_offset)


class FetchedRecords(MemoryRecords):  # type: ignore[misc]  # compiled, without types
    """The records in one fetch response, in place of aiokafka's class, which hides the bytes.

    Any consumer can use it as it would aiokafka's; ours uses `has_more`, `peek` and `skip`.
    """

    def __init__(self, data: bytes | None) -> None:
        self._data = memoryview(data or b"")
        self._position = 0  # of the next batch
        self._end = 0  # offset after the batches before it
        super().__init__(data or b"")
        self._cut = bool(data) and not super().has_next()

    def has_next(self) -> bool:
        """As in aiokafka, but True where the broker cut even the first batch short.

        At False aiokafka's fetcher moves on by one offset, past a record that nobody has seen.
        """
        return self._cut or bool(super().has_next())

    def next_batch(self) -> Any:
        """As in aiokafka. Raises CorruptRecordException."""
        if self._cut:
            raise CorruptRecordException("the broker cut the record batch short")
        return super().next_batch()

    def has_more(self) -> bool:
        """Whether `peek` has another batch to show, or to complain about."""
        left = len(self._data) - self._position
        if self._cut or left < _PLACE.size:
            return self._cut
        _, length = _PLACE.unpack_from(self._data, self._position)
        return left >= _PLACE.size + int(length)

    def skip(self, batch: RecordBatch) -> None:
        """Go on to the batch after this one."""
        self._position += len(batch.data)
        self._end = batch.next_offset

    def peek(self, offset: int, *, checksums: bool, log_end: int | None) -> RecordBatch | None:
        """The next batch; format, checksum and place in the log are right. None after the last;
        one that is cut short at the end is none.

        `offset`: of the next record wanted. `log_end`: the offset after the last one of the log,
        if known. Raises UnreadableError.
        """
        if self._cut:
            raise UnreadableError(
                f"only {len(self._data):,} bytes of it came: raise kafka.fetch_max_partition_bytes",
                None,
            )
        left = len(self._data) - self._position
        if left < _PLACE.size:
            return None
        base, length = _PLACE.unpack_from(self._data, self._position)
        size = _PLACE.size + length
        if left < size:
            return None
        data = self._data[self._position : self._position + max(size, 0)]
        if size < HEADER_BYTES or data[_MAGIC_AT] != 2:
            raise _of_other_format(data, log_end)
        reader = DefaultRecordBatch(data)
        next_offset = reader.next_offset
        following = None
        if left - size >= _PLACE.size:
            following, _ = _PLACE.unpack_from(self._data, self._position + size)
        in_place = (
            self._end <= base < next_offset
            # What goes on where we are may pass the end, which may have been asked for before.
            and (base <= offset < next_offset or log_end is None or next_offset <= log_end)
            # Two that overlap: the one that goes on where the last one ended is right.
            and (following is None or next_offset <= following or base <= offset)
        )
        if checksums and not reader.validate_crc():
            [count] = _COUNT.unpack_from(data, _COUNT_AT)
            confirmed = in_place and next_offset in (base + count, following)
            raise UnreadableError(
                "wrong checksum: damaged on the broker's disk or on the way",
                next_offset if confirmed else None,
            )
        if not in_place:
            raise UnreadableError(
                f"offsets {base} to {next_offset - 1} overlap those before {self._end} or from "
                f"{following} on, or pass the end of the log at {log_end}",
                None,
            )
        return RecordBatch(data, reader, base, next_offset)


def _headers(data: memoryview) -> int:
    """Headers of all records of an uncompressed batch, without making anything of them; what does
    not parse has none here, and is found later."""
    [count] = _COUNT.unpack_from(data, _COUNT_AT)
    found, at = 0, HEADER_BYTES
    with suppress(IndexError):
        for _ in range(count):
            length, at = _varint(data, at)
            end = at + length
            at += 1  # attributes
            for _ in ("timestamp", "offset"):
                _, at = _varint(data, at)
            for _ in ("key", "value"):
                length, at = _varint(data, at)
                at += max(0, length)
            headers, _ = _varint(data, at)
            found, at = found + max(0, headers), end
    return found


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """A zigzag number and where it ends. Raises IndexError."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), at
        shift += 7
        if shift > 63:
            raise IndexError("no number of Kafka's is as long")


def _of_other_format(data: memoryview, log_end: int | None) -> UnreadableError:
    """What to say of a batch that is not one of format v2."""
    magic = data[_MAGIC_AT] if len(data) > _MAGIC_AT else None
    if magic not in (0, 1):
        return UnreadableError(f"format {magic} in {len(data):,} bytes is no record batch", None)
    # A message of the old formats bears its own offset, or that of the last one packed in it.
    base, _, checksum = _OLD_PLACE.unpack_from(data)
    sound = zlib.crc32(data[_MAGIC_AT:]) == checksum and (log_end is None or base < log_end)
    return UnreadableError(
        f"message format v{magic}, from before Kafka 0.11; only v2 can be read",
        base + 1 if sound else None,
    )
