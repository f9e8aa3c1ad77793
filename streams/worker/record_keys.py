"""Compares the keys of records with their request ids.

The same request id in two partitions counts twice; the key of a record decides its partition.
"""

from xxhash import xxh3_128_digest

from streams.events.columns import Columns
from streams.kafka.fetch import Batch
from streams.logs.partition_log import PartitionLog
from streams.worker.supervision import WorkerCounters

LOOK_RECORDS = 100  # of a fetched batch: a look at each record would slow the worker


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
