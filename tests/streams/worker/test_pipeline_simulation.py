"""Whole lives of the real pipeline in a made-up world: two workers, a group, a log, a store.

The pipeline is the worker's own, with decoding, duplicates, slices and checkpoints; the store is
the one in memory, which may be slow, lose answers, go back to an older state or lose everything;
the group moves the partition whenever it likes, also behind a sleeping owner's back. Time is made
up, too, so that a life of minutes takes a fraction of a second. In the end the stored state must be
that of a worker to whom nothing ever happened, bit for bit. If an operator sets the watermark back,
that worker gets the command at the offset at which the stored state says that it was applied.
"""

import asyncio
import json
import random
import time
from collections.abc import Coroutine, Iterable
from contextlib import suppress
from random import Random
from types import SimpleNamespace
from typing import Any, Never

import msgspec
import pytest

from streams.config.settings import Worker
from streams.kafka.fetch import Batch
from streams.state.set_back import SetBack
from streams.state.slices import PROBES_AT, Aggregate, duplicates_of, rejections_by_reason
from streams.state.snapshot import decode_meta
from streams.store.contract import Lost, OperatorCommand, StoreError
from streams.worker.worker import StreamWorker
from tests.support.memory_store import MemoryHash, MemoryRedis, MemoryStore
from tests.support.shelf import Shelf

LIVES, QUICK_LIVES = 60, 24
LIVES_WITH_A_COMMAND = (*range(7), 24)
WILD_AT = 90  # number of a record with a wrong clock, in those lives
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


async def live(world: World, troubles: bool) -> None:
    members = [Member(world) for _ in range(2)]
    try:
        world.owner = members[0]
        await members[0].assigned(0)
        while world.end < EVENTS:
            world.end = min(EVENTS, world.end + world.dice.randint(0, 12))
            if world.set_back is not None:
                await repeat_command(world, world.set_back)
            await asyncio.sleep(1)
            give_command(world)
            if troubles:
                await trouble(world, members)
            await restart(world, members)
        world.calm, world.away = True, False
        for member in members:
            member.asleep = False
        world.generation += 1
        await world.owner.assigned(world.generation)
        async with asyncio.timeout(600):
            while world.hash.offset != EVENTS:
                await asyncio.sleep(1)
                await restart(world, members)
    finally:
        for member in members:
            await member.end()


def give_command(world: World) -> None:
    """Enqueue a command for a time up to half an hour before the stored watermark, if it is due."""
    if world.end < world.command_at or world.redis.orders or not world.hash.fields:
        return
    watermark_ms = decode_meta(world.hash.fields["meta"]).watermark_ms or 0
    to_ms = watermark_ms - world.dice.randint(1, 1_800_000)
    world.redis.orders[0] = OperatorCommand("1", "set-watermark", to_ms, "", "", world.commanded_ms)


async def repeat_command(world: World, set_back: SetBack) -> None:
    """Let the log end where the command is to be applied, until that is stored."""
    if world.end < set_back.offset or world.redis.orders:
        return
    world.end = set_back.offset
    while world.hash.offset != set_back.offset:  # noqa: ASYNC110 (time is made up)
        await asyncio.sleep(1)
    world.redis.orders[0] = OperatorCommand(
        set_back.command, "set-watermark", set_back.to_ms, "", "", world.commanded_ms
    )
    while decode_meta(world.hash.fields["meta"]).set_back is None:  # noqa: ASYNC110
        await asyncio.sleep(1)


async def restart(world: World, members: list[Member]) -> None:
    """A worker from whom the partition was claimed again and again ends, and is started again."""
    for place, member in enumerate(members):
        if member.lost_heart is None:
            continue
        assert isinstance(member.lost_heart, Lost), member.lost_heart
        await member.end()
        members[place] = Member(world)
        if world.owner is member:
            world.owner, world.generation = members[place], world.generation + 1
            await members[place].assigned(world.generation)


async def trouble(world: World, members: list[Member]) -> None:
    what = world.dice.random()
    world.away = world.dice.random() < 0.05
    if world.hash.offset and world.dice.random() < 0.5:
        world.committed = world.hash.offset
    if what < 0.08:
        world.owner.asleep = world.dice.random() < 0.5  # it does not hear of what follows
        world.generation += 1
        if not world.owner.asleep:
            await world.owner.worker.revoke()
        world.owner = world.dice.choice(members)
        world.owner.asleep = False
        await world.owner.assigned(world.generation)
    elif what < 0.16:
        world.backups = [*world.backups[-2:], world.hash.copy()]
    elif what < 0.20 and world.backups:
        world.hash.restore(world.dice.choice(world.backups))
    elif what < 0.21:
        world.hash.restore(MemoryHash())
    elif what < 0.3:
        world.dice.choice(members).asleep = False


def lasting(seed: int, troubles: bool) -> dict[str, Any]:
    """What is stored in the end, but for how often the state was lost."""
    return stored_after(World(seed), troubles)


def stored_after(world: World, troubles: bool) -> dict[str, Any]:
    loop = MadeUpTime()
    world.calm = not troubles
    try:
        loop.run_until_complete(live(world, troubles))
    finally:
        loop.close()
    shelf = Shelf()
    shelf.fields, shelf.offset = world.hash.fields, world.hash.offset or 0
    stored = shelf.lasting()
    return stored | {"meta": msgspec.structs.replace(stored["meta"], rebuilt=0)}


def assert_undisturbed(seed: int) -> None:
    assert lasting(seed, troubles=True) == lasting(seed, troubles=False)


@pytest.mark.parametrize("seed", range(QUICK_LIVES))
def test_whatever_happens_the_state_is_that_of_an_undisturbed_worker(seed: int) -> None:
    assert_undisturbed(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(QUICK_LIVES, LIVES))
def test_the_state_of_further_lives_is_that_of_an_undisturbed_worker(seed: int) -> None:
    assert_undisturbed(seed)


def poisoned(seed: int) -> World:
    """A world in whose log one event lies half an hour ahead of the others."""
    world = World(seed)
    event = {"request_id": "wild", "ended_at": world.timestamps_ms[0], "model": "a"}
    world.values[WILD_AT] = json.dumps({**event, "outcome": "success"}).encode()
    return world


@pytest.mark.parametrize("seed", LIVES_WITH_A_COMMAND)
def test_a_watermark_set_back_takes_effect_once_whatever_happens(seed: int) -> None:
    disturbed, calm = poisoned(seed), poisoned(seed)
    disturbed.command_at = WILD_AT + seed * 10
    stored = stored_after(disturbed, troubles=True)
    calm.set_back, calm.commanded_ms = stored["meta"].set_back, disturbed.commanded_ms
    assert stored == stored_after(calm, troubles=False)


def test_every_record_of_the_made_up_log_is_counted_refused_or_a_duplicate() -> None:
    world, shelf = World(3), Shelf()
    shelf.fields = lasting(3, troubles=False)
    meta: Any = shelf.fields["meta"]
    totals = Aggregate.unpack(shelf.fields["totals"])
    good = [value for value in world.values if value and not value.startswith(b"{{")]
    refused = sum(rejections_by_reason(totals).values())
    assert refused == EVENTS - len(good) > 20
    assert int(totals.series.values[:, :PROBES_AT].sum()) + duplicates_of(totals) == len(good)
    assert duplicates_of(totals) > 20
    assert meta.lost_records == 0
