"""Record batches read below aiokafka's ConsumerRecord: lists for a whole fetch response.

Building one ConsumerRecord a record costs more than all our counting. This module walks the
compiled record readers directly; what it leaves out of aiokafka's own loop, it says.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from aiokafka.consumer.fetcher import FetchResult, PartitionRecords
from aiokafka.errors import CorruptRecordException

# A broker may answer with far more than was asked for; unread it takes a fraction of the memory.
ENOUGH_RECORDS = 4_096


@dataclass(frozen=True, slots=True)
class Batch:
    """Records of one partition as fetched together, in log order; equal-long sequences.

    The log has been read completely from `fetch_offset` to `next_offset`: offsets missing in
    between belong to no record we are to count (compacted, aborted, control records).
    """

    topic: str
    partition: int
    generation: int  # of the consumer group, taken before the fetch
    fetch_offset: int
    next_offset: int
    highwater: int  # end of the partition's log when fetched
    offsets: Sequence[int]
    timestamps_ms: list[int]
    values: list[bytes | None]
    records: list[Any]  # aiokafka's compiled records, for the few whose key is wanted

    def key(self, position: int) -> bytes | None:
        """The key of one record."""
        found: bytes | None = self.records[position].key
        return found

    def since(self, offset: int) -> "Batch":
        """The part that begins at `offset`."""
        skip = bisect_left(self.offsets, offset)
        if skip == 0:
            return self
        return replace(
            self,
            offsets=self.offsets[skip:],
            timestamps_ms=self.timestamps_ms[skip:],
            values=self.values[skip:],
            records=self.records[skip:],
        )


def take(result: FetchResult, generation: int) -> Batch | None:
    """Take the next records of a fetch response and move the consumer's position past them.

    Whole record batches, until ENOUGH_RECORDS are read; `result.has_more()` then says whether any
    are left. None where the response no longer fits the consumer's position (after a seek or a
    rebalance).
    Raises CorruptRecordException where a checksum is wrong; the position then stays.
    """
    tp = result._topic_partition
    if not result.has_more() or not result.check_assignment(tp):
        return None
    records: PartitionRecords = result._partition_records
    state = result._assignment.state_value(tp)
    fetch_offset: int = records.next_fetch_offset
    found: list[Any] = []
    next_offset = fetch_offset
    memory = records._records
    while memory.has_next() and len(found) < ENOUGH_RECORDS:
        batch = memory.next_batch()
        if records._check_crcs and not batch.validate_crc():
            raise CorruptRecordException(
                f"{tp.topic}-{tp.partition}: wrong checksum in the batch at offset {next_offset}"
            )
        if not _counts(records, batch):
            next_offset = batch.next_offset
            continue
        read = list(batch)
        if read and read[0].offset < next_offset:  # the fetch began inside a batch
            read = [record for record in read if record.offset >= next_offset]
        found += read
        # A batch keeps its last offset even where compaction removed the last record.
        next_offset = max(next_offset, batch.next_offset)
    records.next_fetch_offset = next_offset
    result._update_position()
    if not memory.has_next():
        result._partition_records = None
        # Its own iterator, which we do not use, refers back to it: together they would keep the
        # whole response in memory until the garbage collector comes by.
        records._records_iterator = None
    return Batch(
        topic=tp.topic,
        partition=tp.partition,
        generation=generation,
        fetch_offset=fetch_offset,
        next_offset=next_offset,
        highwater=state.highwater or next_offset,
        offsets=_offsets(found),
        timestamps_ms=[record.timestamp for record in found],
        values=[record.value for record in found],
        records=found,
    )


def _offsets(records: list[Any]) -> Sequence[int]:
    """A range where nothing is missing in between, which is nearly always."""
    if not records:
        return ()
    first, last = records[0].offset, records[-1].offset
    if last - first + 1 == len(records):
        return range(first, last + 1)
    return [record.offset for record in records]


def _counts(records: PartitionRecords, batch: Any) -> bool:
    """Whether a batch holds events: control batches and aborted transactions do not."""
    isolated = records._isolation_level == 1  # READ_COMMITTED
    if isolated and batch.producer_id is not None:
        records._consume_aborted_up_to(batch.base_offset)
        if batch.is_control_batch and records._contains_abort_marker(batch):
            records._aborted_producers.discard(batch.producer_id)
        if batch.is_transactional and batch.producer_id in records._aborted_producers:
            return False
    return not batch.is_control_batch
