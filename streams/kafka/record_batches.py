"""Kafka's record batches (message format v2), read from their bytes with every field checked.

A batch is read whole, or rejected with the reason before it takes more memory than the caller
allows, whatever a producer compressed, a disk damaged or a broker cut short.

    base offset 8 | length 4 | epoch 4 | magic 1 | checksum 4 | attributes 2 ... count 4 | records
                                                              |--- the checksum covers these ---->

No checksum covers the base offset. It is accepted if the batch lies inside the log and overlaps
none of its neighbours; in transit only TLS protects it.
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

# The shortest possible event has 75 bytes. Millions of smaller records would become objects of many
# times their size.
MIN_RECORD_BYTES = 64
# A header of 4 bytes in the batch becomes some 130 bytes of objects. Batches below LARGE_BYTES
# cannot have enough headers to matter.
HEADERS_MAX = 500_000
LARGE_BYTES = 2_000_000

HEADER_BYTES = 61
_PLACE = struct.Struct(">qi")  # base offset and length of the rest: the same in all formats
_OLD_PLACE = struct.Struct(">qiI")  # with the checksum of formats v0 and v1
_COUNT, _COUNT_AT = struct.Struct(">i"), 57
CREATE_TIME = 0  # timestamp type of a record that its sender stamped
_MAGIC_AT, _CODEC_AT = 16, 22  # the latter: low byte of the attributes


class UnreadableError(Exception):
    """A record batch that cannot be read: the reason on one line, and the next offset if known."""

    def __init__(self, why: str, skip_to: int | None) -> None:
        super().__init__(why)
        self.why, self.skip_to = why, skip_to


@dataclass(slots=True)
class RecordBatch:
    """One batch whose header was checked."""

    data: memoryview  # header and records
    reader: Any  # aiokafka's compiled one, of the same bytes
    base_offset: int
    next_offset: int  # after its last record, also after one that compaction removed

    @property
    def stamped_by_sender(self) -> bool:
        """Return whether its timestamps are the sender's (CreateTime), and not the broker's."""
        return bool(self.reader.timestamp_type == CREATE_TIME)

    def uncompressed(self, max_bytes: int) -> "RecordBatch":
        """Return the same batch without compression.

        Raises UnreadableError, also if its records have more than `max_bytes`.
        """
        # Checked before decompression: a count alone can ask for any amount of objects.
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
        # Now uncompressed. Length and checksum are wrong from here on, and are not read again.
        data[_CODEC_AT] &= ~self.reader.CODEC_MASK
        return RecordBatch(data, DefaultRecordBatch(data), self.base_offset, self.next_offset)

    def records(self) -> list[Any]:
        """Return the records of an uncompressed batch, from aiokafka's compiled reader.

        Raises UnreadableError.
        """
        if len(self.data) > LARGE_BYTES and _headers(self.data) > HEADERS_MAX:
            raise self._unreadable(f"its records have more than {HEADERS_MAX:,} headers")
        try:
            records = list(self.reader)
        # The last two errors: a record declares a length that exceeds the memory.
        except (CorruptRecordException, UnicodeDecodeError, OverflowError, MemoryError) as error:
            raise self._unreadable(f"its records do not parse: {error}") from error
        if not self._contains(records):
            raise self._unreadable("its records' offsets are out of order or outside of it")
        return records

    def aborts(self) -> bool:
        """Return whether this control batch aborts its transaction. Raises UnreadableError."""
        records = self.records()
        try:
            # Without a record, compaction kept the batch only to remember the producer.
            return bool(records) and ControlRecord.parse(records[0].key) == ABORT_MARKER
        except (struct.error, TypeError) as error:
            raise self._unreadable(f"its control record does not parse: {error}") from error

    def _contains(self, records: list[Any]) -> bool:
        """Return whether the offsets of `records` rise and lie inside this batch."""
        if not records:
            return True
        first, last = records[0].offset, records[-1].offset
        if not self.base_offset <= first <= last < self.next_offset:
            return False
        if last - first + 1 == len(records):
            return True  # compaction removed none, so it is not necessary to compare each
        return all(record.offset < after.offset for record, after in pairwise(records))

    def _unreadable(self, why: str) -> UnreadableError:
        """Return an error of a batch with the right checksum, so that its end is known."""
        return UnreadableError(why, self.next_offset)


class FetchedRecords(MemoryRecords):  # type: ignore[misc]  # compiled, without types
    """The records in one fetch response, in place of aiokafka's class, which hides the bytes.

    Any consumer can use it like aiokafka's class; ours uses `has_more`, `peek` and `skip`.
    """

    def __init__(self, data: bytes | None) -> None:
        self._data = memoryview(data or b"")
        self._position = 0  # of the next batch
        self._end = 0  # offset after the batches before it
        super().__init__(data or b"")
        self._cut = bool(data) and not super().has_next()

    def has_next(self) -> bool:
        """Return the same as aiokafka, but True if the broker cut even the first batch short.

        At False aiokafka's fetcher moves on by one offset, past a record that was not read.
        """
        return self._cut or bool(super().has_next())

    def next_batch(self) -> Any:
        """Return the same as aiokafka. Raises CorruptRecordException."""
        if self._cut:
            raise CorruptRecordException("the broker cut the record batch short")
        return super().next_batch()

    def has_more(self) -> bool:
        """Return whether `peek` has another batch to return, or an error to raise."""
        left = len(self._data) - self._position
        if self._cut or left < _PLACE.size:
            return self._cut
        _, length = _PLACE.unpack_from(self._data, self._position)
        return left >= _PLACE.size + int(length)

    def skip(self, batch: RecordBatch) -> None:
        """Move to the batch after this one."""
        self._position += len(batch.data)
        self._end = batch.next_offset

    def peek(self, offset: int, *, checksums: bool, log_end: int | None) -> RecordBatch | None:
        """Return the next batch, with format, checksum and place in the log checked.

        None after the last; a batch that is cut short at the end does not count. `offset` is that
        of the next record to read, `log_end` the end of the log, if known. Raises UnreadableError.
        """
        if self._cut:
            raise UnreadableError(
                f"only {len(self._data):,} bytes of it came: raise kafka.fetch_max_partition_bytes",
                None,
            )
        # A broker cuts its answer at a number of bytes, so the last batch is often incomplete.
        left = len(self._data) - self._position
        if left < _PLACE.size:
            return None
        base, length = _PLACE.unpack_from(self._data, self._position)
        size = _PLACE.size + length
        if left < size:
            return None
        data = self._data[self._position : self._position + max(size, 0)]
        if size < HEADER_BYTES or data[_MAGIC_AT] != 2:
            raise _format_error(data, log_end)
        reader = DefaultRecordBatch(data)
        next_offset = reader.next_offset
        following = None  # base offset of the batch after this one
        if left - size >= _PLACE.size:
            following, _ = _PLACE.unpack_from(self._data, self._position + size)
        in_place = (
            self._end <= base < next_offset
            # A batch with the next record may pass the end, which may be from an earlier answer.
            and (base <= offset < next_offset or log_end is None or next_offset <= log_end)
            # Of two batches that overlap, the one with the next record is right.
            and (following is None or next_offset <= following or base <= offset)
        )
        if checksums and not reader.validate_crc():
            [count] = _COUNT.unpack_from(data, _COUNT_AT)
            # The header may be damaged: its end is accepted only if a second number agrees.
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
    """Return the number of headers in an uncompressed batch, without building objects.

    Counting ends at a record that does not parse; reading it raises the error later.
    """
    [count] = _COUNT.unpack_from(data, _COUNT_AT)
    total, at = 0, HEADER_BYTES
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
            total, at = total + max(0, headers), end
    return total


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """Return a zigzag number and the index after it. Raises IndexError."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), at
        shift += 7
        if shift > 63:
            raise IndexError("too long for a number of Kafka")


def _format_error(data: memoryview, log_end: int | None) -> UnreadableError:
    """Return the error for a batch that is not of format v2."""
    magic = data[_MAGIC_AT] if len(data) > _MAGIC_AT else None
    if magic not in (0, 1):
        return UnreadableError(f"format {magic} in {len(data):,} bytes is no record batch", None)
    # A message of the old formats has its own offset, or that of the last message inside it.
    base, _, checksum = _OLD_PLACE.unpack_from(data)
    sound = zlib.crc32(data[_MAGIC_AT:]) == checksum and (log_end is None or base < log_end)
    return UnreadableError(
        f"message format v{magic}, from before Kafka 0.11; only v2 can be read",
        base + 1 if sound else None,
    )
