"""The rejected records of one partition on their way to the dead-letter topic."""

import asyncio
from collections.abc import Iterable, Sequence

from streams.events.decoder import Rejection
from streams.kafka.fetch import Batch
from streams.logs.partition_log import PartitionLog
from streams.worker.context import DeadLetterQueue

DEAD_LETTERS_S = 2.0  # a checkpoint waits this long for dead letters, then for the next round

Deliveries = Sequence[asyncio.Future[object]]


class DeadLetterDeliveries:
    """Sends dead letters, and makes checkpoints wait for them.

    The stored offset must not pass a record that the broker does not have.
    """

    def __init__(self, queue: DeadLetterQueue, partition_log: PartitionLog) -> None:
        self._queue, self._log = queue, partition_log
        self._undelivered: list[asyncio.Future[object]] = []

    async def send(self, batch: Batch, rejections: Iterable[Rejection]) -> None:
        """Send the rejected records of a batch."""
        for rejection in rejections:
            delivery = await self._queue.send(
                batch, rejection.position, rejection.reason, rejection.detail
            )
            self._undelivered.append(asyncio.ensure_future(delivery))

    def take(self) -> Deliveries:
        """Return the deliveries that a checkpoint of this moment must wait for."""
        letters, self._undelivered = self._undelivered, []
        return letters

    async def wait(self, letters: Deliveries, stored_offset: int) -> bool:
        """Wait for dead letters. Return whether the broker has all of them.

        After `DEAD_LETTERS_S` they are left to the next checkpoint, so that no partition delays the
        rest for long. Raises the error of a delivery that failed.
        """
        if letters:
            await asyncio.wait(letters, timeout=DEAD_LETTERS_S)
        waiting = [letter for letter in letters if not letter.done()]
        if waiting:
            self._undelivered = [*letters, *self._undelivered]
            self._log.at(stored_offset).warning(
                "%d rejected records are not in the dead-letter topic yet: no checkpoint",
                len(waiting),
            )
            return False
        for letter in letters:
            letter.result()
        return True
