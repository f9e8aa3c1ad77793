"""Supervision of the store: whether it answers, and whether it keeps its state."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from streams.logs.partition_log import PartitionLog
from streams.memory import MemoryUse
from streams.store.contract import Store, StoreError, StoreUnfitError

log = logging.getLogger(__name__)

T = TypeVar("T")

RETRY_S = 0.5
CHECK_S = 15.0  # between two checks of the store's settings, and of the offset it holds


@dataclass(slots=True)
class WorkerCounters:
    """Events in this process since its start; each heartbeat reports them."""

    fenced: int = 0
    conflicts: int = 0
    rollbacks: int = 0
    reseeks: int = 0
    key_mismatches: int = 0  # of the records that were looked at
    store_errors: int = 0


class StoreSupervision:
    """Repeats calls that the store does not answer, and checks the store's settings."""

    def __init__(self, store: Store, counters: WorkerCounters) -> None:
        self._store, self._counters = store, counters
        # The first check follows at once, so that each heartbeat compares the clocks.
        self._checked_at = float("-inf")  # monotonic
        self.answers = True  # whether the store answered the last call
        self.heartbeat_answered = True  # and the last heartbeat, of any partition
        self.unfit_reason = ""  # why the store must not be written to
        self.store_memory: MemoryUse | None = None  # at the last check

    @property
    def is_fit(self) -> bool:
        """Return whether the store is set up to keep its state."""
        return not self.unfit_reason

    async def retry(self, partition_log: PartitionLog, call: Callable[[], Awaitable[T]]) -> T:
        """Repeat a call until the store answers, and return its answer.

        Every call of the store may be repeated: a claim only replaces this worker's own, and a
        flush bears an id.
        """
        while True:
            try:
                answer = await call()
                self.answers = True
                return answer
            except StoreError as error:
                self.answers = False
                self._counters.store_errors += 1
                partition_log.warning("%s: trying again", error)
                await asyncio.sleep(RETRY_S)

    async def check(self) -> None:
        """Check every `CHECK_S` whether the store may lose state by its settings, and its clock."""
        if time.monotonic() - self._checked_at < CHECK_S:
            return
        self._checked_at = time.monotonic()
        try:
            self.store_memory = await self._store.check()
            await self._store.read_clock()
            reason = ""
        except StoreUnfitError as error:
            reason = str(error)
        except StoreError:
            return  # no answer: the next checkpoint reports it
        if reason and self.is_fit:
            log.error("no checkpoint is written: %s", reason)
        elif not reason and not self.is_fit:
            log.warning("checkpoints are written again: the store keeps its state now")
        self.unfit_reason = reason
