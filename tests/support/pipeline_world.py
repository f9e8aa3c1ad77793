"""A made-up world for whole lives of the real pipeline: two workers, a group, a log, a store."""

import asyncio
import json
import random
import time
from collections.abc import Coroutine, Iterable
from contextlib import suppress
from random import Random
from types import SimpleNamespace
from typing import Any, Never

from streams.config.settings import Worker
from streams.kafka.fetch import Batch
from streams.state.set_back import SetBack
from streams.store.contract import Lost, StoreError
from streams.worker.worker import StreamWorker
from tests.support.memory_store import MemoryHash, MemoryRedis, MemoryStore

EVENTS = 400
NOON_MS = 1_700_049_600_000
WORKER = Worker(
    customer_key="a key of the tests, 24 b",
    flush_interval_s=0.5,
    dedup_window_s=120,
    archive_interval_s=0,
    breaker_run=0,
    breaker_ratio=1,
)


class MadeUpTime(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to whatever is to happen next."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0

    def time(self) -> float:
        return self._now

    def _run_once(self) -> None:
        inner: Any = self
        if not inner._ready and inner._scheduled:
            self._now = max(self._now, inner._scheduled[0].when())
        base: Any = super()
        base._run_once()


def made_up_log(dice: Random) -> tuple[list[bytes | None], list[int]]:
    """Values and timestamps; some are late, some broken, and every fifth came before."""
    values: list[bytes | None] = []
    at_ms = NOON_MS
    for number in range(EVENTS):
        at_ms += dice.choice([0, 300, 2_000, 15_000])
        event = {
            "request_id": f"r{number}",
            "ended_at": at_ms - dice.choice([0, 0, 0, 45_000, 200_000]),
            "model": dice.choice("ab"),
            "outcome": "success",
            "input_tokens": 10,
            "output_tokens": 5,
            "ttft_ms": dice.randint(1, 900),
            "duration_ms": 1_000,
            "customer_id": dice.choice(["ann", "bob"]),
        }
        value = json.dumps(event).encode()
        if dice.random() < 0.1:
            value = b"{" + value
        elif dice.random() < 0.2 and values:
            values.append(dice.choice(values[-40:]))
            continue
        values.append(value)
    return values, [at_ms] * EVENTS


class World:
    """A log, a group and a store; and what goes wrong with them while `calm` is false."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.values, self.timestamps_ms = made_up_log(self.dice)
        self.end = 0  # of the log
        self.redis = MemoryRedis()
        self.generation, self.committed = 0, 0
        self.owner: Member
        self.calm, self.away = False, False
        self.backups: list[MemoryHash] = []
        self.command_at = EVENTS + 1  # the operator waits until so many records are in the log
        self.set_back: SetBack | None = None  # what an undisturbed worker repeats
        # Of commands. Not of the import: workers refuse commands that are minutes old.
        self.commanded_ms = time.time_ns() // 1_000_000
        self.damage_dice: Random | None = None  # apart from `dice`, so that no life changes
        self.damaged = 0

    @property
    def hash(self) -> MemoryHash:
        return self.redis.partition(0)

    async def delay(self, moment: str) -> None:
        """A store behind a network."""
        if self.calm:
            return
        dice = self.dice.random()
        if dice < 0.3:
            await asyncio.sleep(self.dice.random() * 3)
        if dice > 0.93 or self.away:
            raise StoreError(f"no answer to {moment}")


class Member:
    """One worker: pipeline, consumer, and the tasks that keep both going."""

    def __init__(self, world: World) -> None:
        self.world, self.position, self.epoch, self.generation = world, 0, 0, -1
        self.paused = self.asleep = False
        store = MemoryStore(world.redis, "g", "t", world.delay)
        self.worker = StreamWorker(WORKER, store, self, self)
        self.lost_heart: Exception | None = None  # what ended a task
        self.tasks = [self._kept(self.worker.write_checkpoints()), self._kept(self.consume())]

    def _kept(self, work: Coroutine[Any, Any, Any]) -> Any:
        async def keep() -> None:
            try:
                await work
            except Exception as error:
                self.lost_heart = error
                raise

        return asyncio.ensure_future(keep())

    async def end(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    # what the pipeline is given: dead letters and flow

    async def send(self, batch: Batch, position: int, reason: str, detail: str) -> Any:
        sent = asyncio.get_running_loop().create_future()
        sent.set_result(None)
        return sent

    async def confirm(self, partitions: Iterable[int]) -> dict[int, int] | None:
        if self.generation != self.world.generation:
            return None
        return dict.fromkeys(partitions, self.world.committed)

    async def seek(self, partition: int, offset: int) -> int:
        await asyncio.sleep(self.world.dice.random() * 0.1)
        self.position, self.epoch = offset, self.epoch + 1
        return self.epoch

    async def log_start(self, partition: int) -> int:
        return 0

    def broker_silence_s(self) -> float:
        return 0.0

    def pause(self, partition: int) -> Never:
        raise AssertionError("nothing in this world is a reason to halt")

    def resume(self, partition: int) -> None:
        self.paused = False

    # what Faust does

    async def assigned(self, generation: int) -> None:
        await self.worker.revoke()
        self.generation = generation
        for _ in range(20):
            with suppress(StoreError, Lost):  # as the app does
                offsets = await self.worker.load([0], generation)
                break
            await asyncio.sleep(0.5)
            self.world.away = False
        else:
            raise AssertionError("the store never answered")
        if offsets:
            self.worker.note_seeks({0: await self.seek(0, offsets[0])})

    async def consume(self) -> None:
        queue: list[Batch] = []
        world = self.world
        while True:
            await asyncio.sleep(world.dice.random() * 0.5)
            if self.asleep:
                continue
            if len(queue) < 3 and self.position < world.end and self.generation >= 0:
                until = min(world.end, self.position + world.dice.randint(1, 30))
                queue.append(self.fetched(until))
                self.position = until
            if queue and world.dice.random() < 0.8:
                await self.worker.consume(queue.pop(0))

    def fetched(self, until: int) -> Batch:
        begin = self.position
        return Batch(
            topic="t",
            partition=0,
            generation=self.generation,
            fetch_offset=begin,
            next_offset=until,
            highwater=self.world.end,
            readable=self.world.end,
            offsets=range(begin, until),
            timestamps_ms=self.world.timestamps_ms[begin:until],
            values=self.world.values[begin:until],
            records=[SimpleNamespace(key=None)] * (until - begin),
            epoch=self.epoch,
        )
