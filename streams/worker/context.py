"""Services that the partitions of one worker share: settings, store, Kafka, counters."""

from collections.abc import Awaitable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from streams.config.settings import Worker
from streams.events.decoder import EventLimits
from streams.events.watermark import Watermark
from streams.kafka.fetch import Batch
from streams.store.contract import Store
from streams.worker.metrics import WorkerMetrics
from streams.worker.recovery import Archive
from streams.worker.supervision import StoreSupervision, WorkerCounters


class DeadLetterQueue(Protocol):
    """Takes rejected records."""

    async def send(
        self, batch: Batch, position: int, reason: str, detail: str
    ) -> Awaitable[object]:
        """Send one record of a batch; the returned future is done once the broker has it."""
        ...


class ConsumerControl(Protocol):
    """Moves, pauses and resumes the consumer, and checks that partitions are still assigned."""

    async def confirm(self, partitions: Iterable[int]) -> Mapping[int, int] | None:
        """Return the committed offset of each partition, 0 if there is none.

        None if the group has assigned the partitions anew without this worker, which then must not
        claim them.
        """
        ...

    async def log_start(self, partition: int) -> int:
        """Return the first offset that Kafka still has of a partition."""
        ...

    async def seek(self, partition: int, offset: int) -> int:
        """Move to `offset`. Return the epoch of all batches that are fetched from now on."""
        ...

    def broker_silence_s(self) -> float | None:
        """Return the seconds since a broker last answered; None before the first answer."""
        ...

    def pause(self, partition: int) -> None:
        """Stop fetching a partition."""
        ...

    def resume(self, partition: int) -> None:
        """Fetch a paused partition again."""
        ...


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """The services of one worker, given to each of its partitions."""

    settings: Worker
    event_limits: EventLimits
    store: Store
    supervision: StoreSupervision
    dead_letters: DeadLetterQueue
    consumer: ConsumerControl
    archive: Archive | None
    counters: WorkerCounters
    metrics: WorkerMetrics

    def now_ms(self, watermark: Watermark) -> int:
        """Return the present time in ms since 1970: that of the wall clock, unless it is wrong.

        `watermark`: of a partition; it shows which clock is wrong if two differ.
        """
        log_s = (watermark.settled_ms or 0) / 1_000
        return round(self.store.clock().likely_s(log_s) * 1_000)
