"""Reads a whole fetch response into lists, without aiokafka's ConsumerRecord.

To build one ConsumerRecord a record costs more than all our counting. This module reads the
batches itself (record_batches.py) and uses only the compiled reader of their records.
"""

import zlib
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from aiokafka.consumer import fetcher
from aiokafka.consumer.fetcher import FetchResult, PartitionRecords

from streams.kafka.record_batches import FetchedRecords, RecordBatch, UnreadableError
from streams.state.snapshot import LogFingerprint

Stretch = tuple[int, int]  # first offset, and the one after the last
# A broker may answer with far more than was asked for. Compressed, it takes little of the memory.
ENOUGH_RECORDS = 4_096


@dataclass(frozen=True, slots=True)
class Unreadable:
    """The reason that the record batch at the consumer's position cannot be read."""

    why: str  # one line for people
    skip_to: int | None  # the offset after it; None if its header cannot be trusted


@dataclass(frozen=True, slots=True)
class Batch:
    """Records of one partition that were fetched together, in log order; sequences of one length.

    The log has been read completely from `fetch_offset` to `next_offset`: offsets missing in
    between belong to no record that counts (aborted, control records), or were `removed`.
    """

    topic: str
    partition: int
    generation: int  # of the consumer group, taken before the fetch
    fetch_offset: int
    next_offset: int
    highwater: int  # end of the partition's log when fetched
    readable: int  # end of the readable part: before the first open transaction
    offsets: Sequence[int]
    timestamps_ms: list[int]
    values: list[bytes | None]
    records: list[Any]  # aiokafka's compiled records, for the few whose key is needed
    # Set: the batch holds no records, and next_offset = fetch_offset.
    unreadable: Unreadable | None = None
    epoch: int = 0  # seeks made in this partition before the fetch
    # Which timestamps the sender gave (CreateTime); empty if the broker gave all of them.
    by_sender: Sequence[bool] = ()
    # First offset and end of each stretch that the log does not have: compaction removed it.
    removed: Sequence[Stretch] = ()

    def key(self, position: int) -> bytes | None:
        """Return the key of one record."""
        key: bytes | None = self.records[position].key
        return key

    def since(self, offset: int) -> "Batch":
        """Return the part from `offset` on."""
        skip = bisect_left(self.offsets, offset)
        rest = self if skip == 0 else self._part(slice(skip, None))
        if not self.removed:
            return rest
        removed = [(max(first, offset), end) for first, end in self.removed if end > offset]
        return replace(rest, removed=removed)

    def until(self, offset: int) -> "Batch":
        """Return the part before `offset`."""
        return self._part(slice(bisect_left(self.offsets, offset)))

    def _part(self, part: slice) -> "Batch":
        return replace(
            self,
            offsets=self.offsets[part],
            timestamps_ms=self.timestamps_ms[part],
            values=self.values[part],
            records=self.records[part],
            by_sender=self.by_sender[part],
        )

    @property
    def removed_records(self) -> int:
        """Return the number of offsets that the log does not have."""
        return sum(end - first for first, end in self.removed)

    def offsets_at(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the offsets of the records at some positions."""
        if isinstance(self.offsets, range):
            return positions + self.offsets.start
        return np.array(self.offsets, np.int64)[positions]

    def last(self) -> LogFingerprint | None:
        """Return the fingerprint of the last record; None without records."""
        return self._fingerprint_at(len(self.offsets) - 1) if self.offsets else None

    def fingerprint(self, offset: int) -> LogFingerprint | None:
        """Return the fingerprint of the record at `offset`; None if there is no such record."""
        position = bisect_left(self.offsets, offset)
        if position == len(self.offsets) or self.offsets[position] != offset:
            return None
        return self._fingerprint_at(position)

    def _fingerprint_at(self, position: int) -> LogFingerprint:
        crc = zlib.crc32(self.values[position] or b"")
        return LogFingerprint(self.offsets[position], self.timestamps_ms[position], crc)


def keep_bytes() -> None:
    """Make aiokafka keep the bytes of fetch responses, for `take`, in this whole process.

    Its fetcher builds records with a class that hides the bytes; ours replaces that class.
    """
    fetcher.MemoryRecords = FetchedRecords


def take(result: FetchResult, generation: int, max_batch_bytes: int) -> Batch | None:
    """Take the next records of a fetch response and move the consumer's position past them.

    Whole record batches, until ENOUGH_RECORDS or `max_batch_bytes` are read; `result.has_more()`
    tells whether any are left. Return None if the response no longer fits the consumer's position
    (after a seek or a rebalance).

    A record batch that cannot be read, or has more than `max_batch_bytes` when decompressed, is
    returned as a Batch of its own, with `unreadable`, after all records before it. The position
    then stays.
    """
    tp = result._topic_partition
    if not result.has_more() or not result.check_assignment(tp):
        return None
    records: PartitionRecords = result._partition_records
    state = result._assignment.state_value(tp)
    fetched: FetchedRecords = records._records
    fetch_offset: int = records.next_fetch_offset
    next_offset = fetch_offset
    taken: list[Any] = []
    removed: list[Stretch] = []
    by_sender: list[bool] = []
    taken_bytes = 0
    fault = None
    while len(taken) < ENOUGH_RECORDS and taken_bytes < max_batch_bytes:
        try:
            batch = fetched.peek(
                next_offset, checksums=records._check_crcs, log_end=state.highwater
            )
            if batch is None:
                break
            # A control batch, or one of an aborted transaction, is there whole.
            present: Sequence[int] = range(max(next_offset, batch.base_offset), batch.next_offset)
            if _counts(records, batch, max_batch_bytes):
                plain = batch.uncompressed(max_batch_bytes)
                taken_bytes += len(plain.data)
                read = _since(plain.records(), next_offset)
                taken += read
                by_sender += [batch.stamped_by_sender] * len(read)
                present = _offsets(read)
        except UnreadableError as error:
            fault = error
            break
        # Only now: a batch that cannot be read stays the next one.
        fetched.skip(batch)
        removed += _removed(next_offset, batch.next_offset, present)
        # A batch keeps its last offset even where compaction removed the last record.
        next_offset = max(next_offset, batch.next_offset)
    more = fetched.has_more()
    if not more and next_offset == fetch_offset:  # a repeated fetch would return the same, for ever
        fault = UnreadableError("the broker answered with older ones only", None)
    unreadable = None
    if fault is not None and next_offset == fetch_offset:
        place = f"{tp.topic}-{tp.partition}: record batch at offset {fetch_offset}"
        forward = fault.skip_to is not None and fault.skip_to > fetch_offset
        after = f"; the log continues at offset {fault.skip_to}" if forward else ""
        why = f"{place}: {fault.why}{after}"
        unreadable = Unreadable(why, fault.skip_to if forward else None)
    records.next_fetch_offset = next_offset
    result._update_position()
    if not more and unreadable is None:
        result._partition_records = None
        # Its own iterator, which we do not use, refers back to it: this cycle would keep the whole
        # response in memory until the next garbage collection.
        records._records_iterator = None
    # A broker may determine the end of the log before it reads the records of its answer.
    highwater = max(state.highwater or 0, next_offset)
    # With read_committed the readable part ends at the last stable offset.
    stable = state.lso if records._isolation_level == 1 and (state.lso or -1) >= 0 else highwater
    return Batch(
        topic=tp.topic,
        partition=tp.partition,
        generation=generation,
        fetch_offset=fetch_offset,
        next_offset=next_offset,
        highwater=highwater,
        readable=min(max(stable, next_offset), highwater),
        offsets=_offsets(taken),
        timestamps_ms=[record.timestamp for record in taken],
        values=[record.value for record in taken],
        records=taken,
        unreadable=unreadable,
        by_sender=by_sender if True in by_sender else (),
        removed=removed,
    )


def _since(records: list[Any], offset: int) -> list[Any]:
    """Return the records from `offset` on: the fetch may have begun inside their batch."""
    if not records or records[0].offset >= offset:
        return records
    return [record for record in records if record.offset >= offset]


def _removed(first: int, end: int, present: Sequence[int]) -> list[Stretch]:
    """Return the stretches between two offsets without the offsets that are `present`."""
    if len(present) == end - first:  # nearly always
        return []
    edges = [first - 1, *present, end]
    return [(before + 1, after) for before, after in pairwise(edges) if after > before + 1]


def _offsets(records: list[Any]) -> Sequence[int]:
    """Return the offsets, as a range if none is missing in between, as is nearly always so."""
    if not records:
        return ()
    first, last = records[0].offset, records[-1].offset
    if last - first + 1 == len(records):
        return range(first, last + 1)
    return [record.offset for record in records]


def _counts(records: PartitionRecords, batch: RecordBatch, max_batch_bytes: int) -> bool:
    """Return whether a batch holds events: control batches and aborted transactions do not.

    Raises UnreadableError.
    """
    if records._isolation_level == 1:  # READ_COMMITTED
        records._consume_aborted_up_to(batch.base_offset)
        if batch.reader.is_control_batch and batch.uncompressed(max_batch_bytes).aborts():
            records._aborted_producers.discard(batch.reader.producer_id)
        if batch.reader.is_transactional and batch.reader.producer_id in records._aborted_producers:
            return False
    return not batch.reader.is_control_batch
