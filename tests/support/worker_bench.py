"""One worker over a log in memory, batch by batch, without Faust, Kafka and Redis."""

import asyncio
import json
import time
from collections.abc import Iterable, Sequence
from types import SimpleNamespace
from typing import Any

from streams.config.settings import Worker
from streams.kafka.fetch import Batch, Unreadable
from streams.state.partition import PartitionState
from streams.state.slices import PROBES_AT, Aggregate
from streams.store.archive import (
    Archived,
    ArchivePlace,
    Ledger,
    Look,
    Record,
    keep,
    restored,
    write,
)
from streams.store.contract import OperatorCommand
from streams.worker.partition_worker import PartitionWorker
from streams.worker.worker import StreamWorker
from tests.support.memory_store import MemoryRedis, MemoryStore

AT_MS = 1_700_049_600_000
WORKER = Worker(
    customer_key="a key of the tests, 24 b", archive_interval_s=0, breaker_ratio=0.5, breaker_run=4
)
BROKEN = b"{"


def event(request_id: str, at_ms: int = AT_MS, **fields: Any) -> bytes:
    """A success of one model."""
    base = {"request_id": request_id, "ended_at": at_ms, "model": "m", "outcome": "success"}
    return json.dumps({**base, **fields}).encode()


def totals(redis: MemoryRedis) -> Aggregate:
    """Return the stored totals of partition 0."""
    return Aggregate.unpack(redis.partition(0).fields["totals"])


def requests(redis: MemoryRedis) -> int:
    """Return the requests in the stored totals of partition 0, without probes."""
    return int(totals(redis).series.values[:, :PROBES_AT].sum())


class LogInMemory:
    """The log of each partition, from which batches are cut."""

    def __init__(self) -> None:
        self.values: dict[int, list[bytes | None]] = {}

    def append(self, *values: bytes | None, partition: int = 0) -> None:
        self.values.setdefault(partition, []).extend(values)

    def recreate(self, *values: bytes | None, partition: int = 0) -> None:
        """Delete the log and begin another one under its name."""
        self.values[partition] = list(values)


class ArchiveInMemory:
    """The archive topic of one partition, as a list of records."""

    def __init__(self) -> None:
        self._place = ArchivePlace("g", "t", 0)
        self._live: dict[bytes, bytes] = {}

    async def read(self, partition: int) -> Archived | None:
        return restored(self._place, self._live)[0]

    async def write(self, partition: int, owner: str, look: Look) -> int | None:
        async def send(records: Sequence[Record]) -> None:
            for key, value in records:
                keep(self._live, key, value)

        ledger = Ledger(self._place, owner, owner[-8:], set(self._live))
        return await write(ledger, look, send, AT_MS)


class WorkerBench:
    """A worker with its consumer, dead letters and store, all of them in memory."""

    def __init__(
        self,
        log: LogInMemory,
        redis: MemoryRedis,
        settings: Worker = WORKER,
        store: MemoryStore | None = None,
        archive: ArchiveInMemory | None = None,
    ) -> None:
        self.log, self.redis = log, redis
        self.store = store or MemoryStore(redis, "g", "t")
        self.worker = StreamWorker(settings, self.store, self, self, archive)
        self.log_begin = 0  # the first record that is not deleted yet
        self.silence_s: float | None = 0.0  # since a broker answered; None: none has yet
        self.positions: dict[int, int] = {}
        self.epochs: dict[int, int] = {}
        self.seeks: list[tuple[int, int]] = []  # partition, offset
        self.dead_letters: list[int] = []  # offsets
        self.paused: set[int] = set()
        self.by_sender = False  # whether senders gave the timestamps of the records

    # The consumer and the dead-letter queue of the worker.

    async def confirm(self, partitions: Iterable[int]) -> dict[int, int] | None:
        return dict.fromkeys(partitions, 0)

    async def seek(self, partition: int, offset: int) -> int:
        self.positions[partition] = offset
        self.epochs[partition] = self.epochs.get(partition, 0) + 1
        self.seeks.append((partition, offset))
        return self.epochs[partition]

    async def log_start(self, partition: int) -> int:
        return self.log_begin

    def broker_silence_s(self) -> float | None:
        return self.silence_s

    def pause(self, partition: int) -> None:
        self.paused.add(partition)

    def resume(self, partition: int) -> None:
        self.paused.discard(partition)

    async def send(
        self, batch: Batch, position: int, reason: str, detail: str
    ) -> asyncio.Future[object]:
        self.dead_letters.append(batch.offsets[position])
        delivery: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        delivery.set_result(None)
        return delivery

    # What a test does with the worker.

    async def take_over(self, partitions: Sequence[int] = (0,)) -> None:
        """Claim partitions, as after an assignment."""
        offsets = await self.worker.load(partitions, 0)
        self.worker.note_seeks({at: await self.seek(at, offset) for at, offset in offsets.items()})

    def batch(self, partition: int = 0, until: int | None = None, unreadable: str = "") -> Batch:
        """Cut the next batch of a partition's log, and move the consumer past it."""
        values, begin = self.log.values.get(partition, []), self.positions[partition]
        end = begin if unreadable else min(len(values), until or len(values))
        end = max(begin, end)
        self.positions[partition] = end
        return Batch(
            topic="t",
            partition=partition,
            generation=0,
            fetch_offset=begin,
            next_offset=end,
            highwater=len(values),
            readable=len(values),
            offsets=range(begin, end),
            timestamps_ms=[AT_MS] * (end - begin),
            values=values[begin:end],
            by_sender=[True] * (end - begin) if self.by_sender else [],
            records=[SimpleNamespace(key=None)] * (end - begin),
            unreadable=Unreadable(unreadable, None) if unreadable else None,
            epoch=self.epochs[partition],
        )

    async def consume(self, partition: int = 0, until: int | None = None) -> None:
        """Give the worker the next batch of a partition."""
        await self.worker.consume(self.batch(partition, until))

    async def consume_all(self, partition: int = 0) -> None:
        """Give the worker batches until it has read the log or halted."""
        for _ in range(20):
            if partition in self.paused or self.positions[partition] >= len(
                self.log.values[partition]
            ):
                return
            await self.consume(partition)

    async def command(self, kind: str, to: int | None = None, partition: int = 0) -> None:
        """Enqueue an operator command, and let the worker apply it."""
        await self.worker.flush_all()  # the heartbeat that shows which command was there before
        number = len(self.seeks)
        self.redis.orders[partition] = OperatorCommand(
            f"{kind}-{number}", kind, to, "a test", "me", time.time_ns() // 1_000_000
        )
        await self.worker.flush_all()

    async def recreate_log(self, *values: bytes | None) -> None:
        """Delete the topic, create it again with these values, and move the worker to its begin."""
        self.log.recreate(*values)
        self.positions[0] = 0
        for _ in range(3):  # one answer may come from a broker that lags behind
            await self.consume()
        assert self.halt == "log_truncated"
        await self.command("move", 0)
        assert not self.halt

    def partition(self, number: int = 0) -> PartitionWorker:
        """The worker of one partition."""
        return self.worker._partitions[number]

    def state(self, number: int = 0) -> PartitionState:
        """The counts of one partition."""
        return self.partition(number).state

    @property
    def halt(self) -> str:
        """The reason for which partition 0 is halted; an empty text if it is not."""
        halted = self.partition().admission.halted
        return "" if halted is None else halted.reason
