"""What a worker holds of each partition it owns, and the two things it is given to work with."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from streams.kafka.fetch import Batch
from streams.state.partition import PartitionState
from streams.worker.admission import OffsetAdmission
from streams.worker.circuit_breaker import Breaker
from streams.worker.deduplication import Reach, Seen
from streams.worker.exemplars import Exemplars

log = logging.getLogger(__name__)

DEAD_LETTERS_S = 2.0


class DeadLetters(Protocol):
    """Takes refused records."""

    async def send(
        self, batch: Batch, position: int, reason: str, detail: str
    ) -> Awaitable[object]:
        """Hand over one record; the result is done when the broker has it."""
        ...


class Flow(Protocol):
    """What is read of the partitions, and whose they are."""

    async def confirm(self, partitions: Iterable[int]) -> Mapping[int, int] | None:
        """The offsets that Kafka knows of partitions, 0 where none; None where the group has moved
        on without us, and they are not ours to claim."""
        ...

    async def seek(self, partition: int, offset: int) -> int:
        """Read on at `offset`; batches fetched from now on bear the epoch that is answered."""
        ...

    def pause(self, partition: int) -> None:
        """Read nothing more of a partition."""
        ...

    def resume(self, partition: int) -> None:
        """Read a paused partition again."""
        ...


@dataclass(slots=True)
class Owned:
    """A partition this worker owns."""

    custody: OffsetAdmission[PartitionState]
    breaker: Breaker
    seen: Seen | None  # None: duplicates are not looked for
    reach: Reach
    exemplars: Exemplars
    counting: asyncio.Lock = field(default_factory=asyncio.Lock)
    flushing: asyncio.Lock = field(default_factory=asyncio.Lock)
    reloading: asyncio.Lock = field(default_factory=asyncio.Lock)
    refused: list[asyncio.Future[object]] = field(default_factory=list)
    pass_all: bool = False  # an operator lets refused records through, to the log's present end
    pass_until: int = 0  # that end, once a batch has told it
    archive_after: float = 0.0  # not before, after a failure
    order: str = ""  # the last one obeyed
    standing_order: str | None = None  # the one that was there when the partition was halted
    consumed_at: float = field(default_factory=time.monotonic)
    seen_stored_at: float = field(default_factory=time.monotonic)
    flushed_at: float = field(default_factory=time.monotonic)
    flush_s: float = 0.0

    @property
    def partition(self) -> int:
        """Its number."""
        return self.custody.partition

    @property
    def state(self) -> PartitionState:
        """Its counts."""
        return self.custody.counts

    async def arrived(self, refused: list[asyncio.Future[object]]) -> bool:
        """Whether refused records are in Kafka, as they must be before the offset passes them. One
        partition's do not hold up the others for long: they are waited for again next time."""
        if refused:
            await asyncio.wait(refused, timeout=DEAD_LETTERS_S)
        waiting = [one for one in refused if not one.done()]
        if waiting:
            self.refused = refused + self.refused
            log.warning(
                "partition %d: %d refused records are not in the dead-letter topic yet",
                self.partition,
                len(waiting),
            )
            return False
        for one in refused:
            one.result()  # raises what went wrong
        return True


@dataclass(slots=True)
class Aggregates:
    """What happened in this process; for its sign of life and its log."""

    fenced: int = 0
    conflicts: int = 0
    rollbacks: int = 0
    reseeks: int = 0
    store_errors: int = 0
