"""The facts of a batch that are read before it is counted: its events, their request ids, the keys.

The same request id in two partitions counts twice; the key of a record decides its partition.
"""

from dataclasses import replace

import numpy as np
from xxhash import xxh3_128_digest

from streams.events.columns import Columns
from streams.events.decoder import Decoded, EventLimits, decode
from streams.events.watermark import Watermark
from streams.kafka.fetch import Batch
from streams.logs.partition_log import PartitionLog
from streams.state.partition import PartitionState
from streams.worker.deduplication import Deduplicator, deduplicate
from streams.worker.supervision import WorkerCounters

LOOK_RECORDS = 100  # of a fetched batch: a look at each record would slow the worker
_NEVER_LATE_MS = 1 << 60


def decode_batch(batch: Batch, watermark: Watermark, limits: EventLimits) -> Decoded:
    """Return the events and rejections of a batch."""
    timestamps_ms = np.array(batch.timestamps_ms, np.int64)
    by_sender = np.array(batch.by_sender, np.bool_) if batch.by_sender else None
    return decode(batch.values, timestamps_ms, watermark, limits, by_sender)


def mark_duplicates(batch: Batch, decoded: Decoded, deduplicator: Deduplicator) -> Decoded:
    """Return a decoded batch whose duplicates are set apart."""
    # All valid records, with the duplicates: a later one may be a duplicate of a duplicate.
    columns = decoded.columns
    offsets = batch.offsets_at(columns.position)
    return deduplicate(decoded, deduplicator.find_duplicates(offsets, columns))


def apply_to(
    state: PartitionState, batch: Batch, decoded: Decoded, partition_log: PartitionLog
) -> None:
    """Count a decoded batch, and as lost the records that compaction removed from it."""
    since_ms = state.watermark.settled_ms or 0
    state.apply(decoded, batch.next_offset, batch.last())
    if batch.removed:
        partition_log.at(batch.fetch_offset).error(
            "%d records before offset %d were removed before they were counted, as by compaction: "
            "counted as lost; set cleanup.policy of the topic to delete",
            *(batch.removed_records, batch.next_offset),
        )
        # Where in the batch they were is known, but not when: until the next events.
        state.miss(batch.removed_records, since_ms)


def remember_ids(
    batch: Batch, deduplicator: Deduplicator, settled_ms: int | None, limits: EventLimits
) -> None:
    """Read the request ids of records that the state counts already."""
    # No record is late now: the deduplicator leaves out those that were too late then.
    limits = replace(limits, horizon_ms=_NEVER_LATE_MS)
    timestamps_ms = np.array(batch.timestamps_ms, np.int64)
    columns = decode(batch.values, timestamps_ms, None, limits).columns
    deduplicator.remember(batch.offsets_at(columns.position), columns, settled_ms)


class KeyCheck:
    """Counts the records of a partition whose key is not their request id, and warns once."""

    def __init__(self, log: PartitionLog, counters: WorkerCounters) -> None:
        self._log, self._counters = log, counters
        self._has_warned = False

    def check(self, batch: Batch, columns: Columns) -> None:
        """Look at the first valid records of a batch."""
        mismatches = count_mismatches(batch, columns)
        self._counters.key_mismatches += mismatches
        if mismatches and not self._has_warned:
            self._has_warned = True
            self._log.at(batch.fetch_offset).warning(
                "%d records have another key than their request_id: a request that is sent again "
                "to another partition counts twice; let the producer set the key",
                mismatches,
            )


def count_mismatches(batch: Batch, columns: Columns) -> int:
    """Return how many of the first valid records of a batch have another key than their id."""
    mismatches = 0
    # The second half of an identity is that of the request id's hash alone.
    halves = columns.request[:LOOK_RECORDS, 1].tolist()
    for position, half in zip(columns.position[:LOOK_RECORDS].tolist(), halves, strict=True):
        key = batch.key(position)
        if key is None or int.from_bytes(xxh3_128_digest(key)[8:], "little") != half:
            mismatches += 1
    return mismatches
