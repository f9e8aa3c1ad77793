"""An operator sets a watermark back: once, whatever happens to the worker."""

import asyncio
import time

import pytest

from streams.events.watermark import Watermark
from streams.state.slices import duplicates_of, rejections_by_reason
from streams.store.contract import OperatorCommand
from tests.support.memory_store import MemoryRedis
from tests.support.worker_bench import (
    AT_MS,
    BROKEN,
    WORKER,
    LogInMemory,
    WorkerBench,
    event,
    requests,
    totals,
)

YEAR_2100_MS = 4_102_444_800_000


async def poisoned(log: LogInMemory, redis: MemoryRedis) -> WorkerBench:
    """A worker of a partition whose watermark an older version moved to the year 2100."""
    bench = WorkerBench(log, redis)
    await bench.take_over()
    log.append(event("before"))
    await bench.consume()
    bench.state().watermark = Watermark.at(YEAR_2100_MS)
    log.append(event("rejected"))
    await bench.consume()
    await bench.worker.flush_all()
    assert rejections_by_reason(totals(redis)) == {"too_late": 1}
    return bench


def command(to_ms: int = AT_MS, age_s: int = 0) -> OperatorCommand:
    # Read the clock here: a command expires while a long run of tests is on its way.
    at_ms = time.time_ns() // 1_000_000 - age_s * 1_000
    return OperatorCommand("set", "set-watermark", to_ms, "wrong clocks", "me", at_ms)


async def count_more(bench: WorkerBench, *ids: str) -> None:
    bench.log.append(*[event(request_id, AT_MS + 1_000) for request_id in ids])
    await bench.consume_all()
    await bench.worker.flush_all()


def test_events_that_were_too_late_count_after_it(log: LogInMemory, redis: MemoryRedis) -> None:
    async def run() -> None:
        bench = await poisoned(log, redis)
        redis.orders[0] = command()
        await bench.worker.flush_all()
        assert bench.state().watermark.time_ms == AT_MS
        # One that was rejected is no duplicate when it is sent again.
        await count_more(bench, "rejected", "after", "after")
        assert requests(redis) == 3
        assert duplicates_of(totals(redis)) == 1
        assert bench.state().watermark.time_ms == AT_MS + 1_000

    asyncio.run(run())


def test_it_is_acknowledged_once_it_is_stored(log: LogInMemory, redis: MemoryRedis) -> None:
    async def run() -> None:
        bench = await poisoned(log, redis)
        redis.orders[0] = command()
        await bench.worker.flush_all()
        assert redis.pulses[0]["order"] == ""
        await bench.worker.flush_all()
        assert redis.pulses[0]["order"] == "set"

    asyncio.run(run())


@pytest.mark.parametrize("is_stored", [False, True])
def test_a_worker_killed_before_or_after_the_checkpoint_applies_it_once(
    log: LogInMemory, redis: MemoryRedis, is_stored: bool
) -> None:
    async def run() -> None:
        first = await poisoned(log, redis)
        redis.orders[0] = command()
        await first.worker.flush_all()
        if is_stored:
            await count_more(first, "counted")
        second = WorkerBench(log, redis)
        await second.take_over()
        await second.consume_all()
        await second.worker.flush_all()
        await second.worker.flush_all()
        assert second.state().watermark.time_ms == (AT_MS + 1_000 if is_stored else AT_MS)
        assert redis.pulses[0]["order"] == "set"
        await count_more(second, "after", "counted")
        third = WorkerBench(log, redis)
        await third.take_over()
        await third.worker.flush_all()
        assert third.state().watermark.time_ms == AT_MS + 1_000
        assert requests(redis) == 3

    asyncio.run(run())


@pytest.mark.parametrize(
    "refused",
    [
        command(to_ms=YEAR_2100_MS),
        command(to_ms=YEAR_2100_MS + 1),
        command(age_s=OperatorCommand.VALID_S + 60),
    ],
)
def test_a_refused_command_changes_no_state_and_is_acknowledged(
    log: LogInMemory, redis: MemoryRedis, refused: OperatorCommand
) -> None:
    async def run() -> None:
        bench = await poisoned(log, redis)
        redis.orders[0] = refused
        for _ in range(3):
            await bench.worker.flush_all()
        assert bench.state().watermark.time_ms == YEAR_2100_MS
        assert bench.state().last_set_back is None
        assert redis.pulses[0]["order"] == "set"

    asyncio.run(run())


def test_a_halted_partition_takes_it_and_stays_halted(log: LogInMemory, redis: MemoryRedis) -> None:
    async def run() -> None:
        bench = await poisoned(log, redis)
        log.append(*[BROKEN] * WORKER.breaker_run)
        await bench.consume()
        assert bench.halt == "dead_letters"
        redis.orders[0] = command()
        for _ in range(2):
            await bench.worker.flush_all()
        assert bench.state().watermark.time_ms == AT_MS
        assert bench.halt == "dead_letters"
        await bench.command("resume")
        assert not bench.halt

    asyncio.run(run())


def test_ids_of_a_slightly_wrong_watermark_are_still_known_also_after_a_restart(
    log: LogInMemory, redis: MemoryRedis
) -> None:
    """Events that were counted before the command are duplicates when they are sent again."""

    async def run() -> None:
        first = WorkerBench(log, redis)
        await first.take_over()
        log.append(event("a"), event("b", AT_MS + 200_000))
        await first.consume()
        redis.orders[0] = command(AT_MS + 10_000)
        await first.worker.flush_all()
        await count_more(first, "a")
        assert (requests(redis), duplicates_of(totals(redis))) == (2, 1)
        second = WorkerBench(log, redis)
        await second.take_over()
        await count_more(second, "b", "c")
        assert (requests(redis), duplicates_of(totals(redis))) == (3, 2)

    asyncio.run(run())


def test_after_a_move_to_a_recreated_log_the_ids_of_the_old_log_are_forgotten(
    log: LogInMemory, redis: MemoryRedis
) -> None:
    async def run() -> None:
        bench = WorkerBench(log, redis)
        await bench.take_over()
        log.append(event("a"), event("b"), event("c"))
        await bench.consume()
        await bench.recreate_log(event("a"))
        await bench.consume_all()
        await bench.worker.flush_all()
        assert (requests(redis), duplicates_of(totals(redis))) == (4, 0)

    asyncio.run(run())
