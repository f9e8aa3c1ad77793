"""Record batches read below aiokafka's ConsumerRecord: four lists for a whole fetch response.

Building one ConsumerRecord a record costs more than all our counting. This module walks the
compiled record readers directly; what it leaves out of aiokafka's own loop, it says.
"""

from dataclasses import dataclass

from aiokafka.consumer.fetcher import FetchResult, PartitionRecords
from aiokafka.errors import CorruptRecordException


@dataclass(frozen=True, slots=True)
class Batch:
    """Records of one partition as fetched together, in log order; four equal-long lists.

    The log has been read completely from `fetch_offset` to `next_offset`: offsets missing in
    between belong to no record we are to count (compacted, aborted, control records).
    """

    topic: str
    partition: int
    generation: int  # of the consumer group, taken before the fetch
    fetch_offset: int
    next_offset: int
    highwater: int  # end of the partition's log when fetched
    offsets: list[int]
    timestamps_ms: list[int]
    keys: list[bytes | None]
    values: list[bytes | None]


def take(result: FetchResult, generation: int) -> Batch | None:
    """Take everything a fetch response holds and move the consumer's position past it.

    None where the response no longer fits the consumer's position (after a seek or a rebalance).
    Raises CorruptRecordException where a checksum is wrong; the position then stays.
    """
    tp = result._topic_partition
    if not result.has_more() or not result.check_assignment(tp):
        return None
    records: PartitionRecords = result._partition_records
    state = result._assignment.state_value(tp)
    fetch_offset: int = records.next_fetch_offset
    offsets: list[int] = []
    timestamps_ms: list[int] = []
    keys: list[bytes | None] = []
    values: list[bytes | None] = []
    next_offset = fetch_offset
    memory = records._records
    while memory.has_next():
        batch = memory.next_batch()
        if records._check_crcs and not batch.validate_crc():
            raise CorruptRecordException(
                f"{tp.topic}-{tp.partition}: wrong checksum in the batch at offset {next_offset}"
            )
        if not _counts(records, batch):
            next_offset = batch.next_offset
            continue
        for record in batch:
            offset = record.offset
            if offset < next_offset:
                continue  # the fetch began inside a compressed batch
            offsets.append(offset)
            timestamps_ms.append(record.timestamp)
            keys.append(record.key)
            values.append(record.value)
            next_offset = offset + 1
        # A batch keeps its last offset even where compaction removed the last record.
        next_offset = max(next_offset, batch.next_offset)
    records.next_fetch_offset = next_offset
    result._update_position()
    result._partition_records = None
    # Its own iterator, which we do not use, refers back to it: together they would keep the whole
    # response in memory until the garbage collector comes by.
    records._records_iterator = None
    return Batch(
        topic=tp.topic,
        partition=tp.partition,
        generation=generation,
        fetch_offset=fetch_offset,
        next_offset=next_offset,
        highwater=state.highwater or next_offset,
        offsets=offsets,
        timestamps_ms=timestamps_ms,
        keys=keys,
        values=values,
    )


def _counts(records: PartitionRecords, batch: object) -> bool:
    """Whether a batch holds events: control batches and aborted transactions do not."""
    isolated = records._isolation_level == 1  # READ_COMMITTED
    if isolated and batch.producer_id is not None:  # type: ignore[attr-defined]
        records._consume_aborted_up_to(batch.base_offset)  # type: ignore[attr-defined]
        if batch.is_control_batch and records._contains_abort_marker(batch):  # type: ignore[attr-defined]
            records._aborted_producers.discard(batch.producer_id)  # type: ignore[attr-defined]
        if (
            batch.is_transactional  # type: ignore[attr-defined]
            and batch.producer_id in records._aborted_producers  # type: ignore[attr-defined]
        ):
            return False
    return not batch.is_control_batch  # type: ignore[attr-defined]
