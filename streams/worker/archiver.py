"""Writes the state of one partition to the archive when it is due."""

import logging
import time
from functools import partial

from streams.logs.partition_log import PartitionLog
from streams.state.partition import PartitionState
from streams.store.contract import Claimed, Lost, StoreError
from streams.worker.context import WorkerContext

log = logging.getLogger(__name__)

RETRY_AFTER_S = 60.0


class Archiver:
    """Archives one claimed partition."""

    def __init__(self, context: WorkerContext, partition: int, claim: Claimed) -> None:
        self._archive, self._store, self._now_ms = context.archive, context.store, context.now_ms
        self._interval_ms = context.settings.archive_interval_s * 1_000
        self._partition, self._claim = partition, claim
        self._not_before = 0.0  # monotonic time, set after a failure
        self._log = PartitionLog(log, partition)

    async def archive_if_due(self, state: PartitionState) -> int | None:
        """Write the stored state to the archive if the last archived one is too old.

        Return the time in milliseconds, None if the archive is not due or could not be written.
        """
        # No monotonic time, as the next owner continues from the time that the state holds.
        now_ms = self._now_ms(state.watermark)
        # Negative if a clock was ahead when the state was archived, and was corrected since.
        is_recent = 0 <= now_ms - state.archived_at_ms < self._interval_ms
        # Before the first checkpoint the store has no state to archive.
        if self._archive is None or state.stored_offset == 0 or is_recent:
            return None
        if time.monotonic() < self._not_before:
            return None
        try:
            offset = await self._archive.write(
                self._partition, self._claim.owner, partial(self._store.look, self._claim)
            )
        except (StoreError, Lost) as error:
            self._log.warning("not archived: %s: next attempt in %.0f s", error, RETRY_AFTER_S)
            self._not_before = time.monotonic() + RETRY_AFTER_S
            return None
        if offset is not None:
            self._log.at(offset).info("archived")
        return now_ms
