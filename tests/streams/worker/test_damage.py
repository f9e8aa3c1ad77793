"""Damaged fields of the stored state: a worker repairs them, or halts only their partition."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from streams.state.snapshot import decode_index, decode_meta, slice_field
from streams.store.contract import OperatorCommand
from streams.store.stored import FieldCheck
from streams.worker import partition_worker
from tests.support.memory_store import MemoryRedis
from tests.support.worker_bench import (
    AT_MS,
    ArchiveInMemory,
    LogInMemory,
    WorkerBench,
    event,
    requests,
)

EVENTS = 60
HEAD = ("offset", "meta", "index", "totals", "series:0", "cubes:0")


def a_log() -> LogInMemory:
    """A log of two partitions, an event every 10 s."""
    log = LogInMemory()
    for partition in (0, 1):
        values = [
            event(f"{partition}-{at}", AT_MS - (EVENTS - at) * 10_000, customer_id="ann")
            for at in range(EVENTS)
        ]
        log.append(*values, partition=partition)
    return log


def flip(redis: MemoryRedis, name: str, at: int = -1) -> None:
    """Damage one byte of a field of partition 0."""
    stored = redis.partition(0)
    if name == "offset":
        stored.offset = (stored.offset or 0) ^ 1
        return
    data = bytearray(stored.fields[name])
    data[at] ^= 1
    stored.fields[name] = bytes(data)


def oldest_slice(redis: MemoryRedis) -> str:
    return slice_field(min(decode_index(redis.partition(0).fields["index"])))


async def counted(
    log: LogInMemory, redis: MemoryRedis, archive: ArchiveInMemory | None = None
) -> WorkerBench:
    """A worker that has counted both partitions and written a checkpoint."""
    bench = WorkerBench(log, redis, archive=archive)
    await bench.take_over((0, 1))
    for partition in (0, 1):
        await bench.consume_all(partition)
    await bench.worker.flush_all()
    if archive is not None:
        claim = bench.partition(0).admission.claim

        async def look(names: object) -> dict[str, bytes]:
            return await bench.store.look(claim, list(names))  # type: ignore[call-overload]

        await archive.write(0, claim.owner, look)
    return bench


async def recounted(bench: WorkerBench) -> None:
    """Let a worker read both logs to their ends, and write checkpoints."""
    for partition in (0, 1):
        await bench.consume_all(partition)
    await bench.worker.flush_all()


@contextmanager
def checks_at_once() -> Iterator[None]:
    """Let each round check all stored fields."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(partition_worker, "CHECK_S", -1.0)
        patch.setattr(partition_worker, "FIELDS_AT_ONCE", 10_000)
        yield


@pytest.mark.parametrize("name", HEAD)
@pytest.mark.parametrize("is_archived", [True, False])
def test_a_damaged_state_is_restored_at_the_next_claim(name: str, is_archived: bool) -> None:
    async def story() -> None:
        log, redis = a_log(), MemoryRedis()
        archive = ArchiveInMemory() if is_archived else None
        await counted(log, redis, archive)
        flip(redis, name)
        bench = WorkerBench(log, redis, archive=archive)
        await bench.take_over((0, 1))
        await recounted(bench)
        assert requests(redis) == EVENTS
        assert decode_meta(redis.partition(0).fields["meta"]).rebuilt == 1
        assert decode_meta(redis.partition(1).fields["meta"]).rebuilt == 0

    asyncio.run(story())


@pytest.mark.parametrize("name", HEAD)
def test_without_archive_and_log_only_its_partition_halts(name: str) -> None:
    async def story() -> None:
        log, redis = a_log(), MemoryRedis()
        await counted(log, redis)
        flip(redis, name)
        damaged = dict(redis.partition(0).fields)
        bench = WorkerBench(log, redis)
        bench.log_begin = 7
        await bench.take_over((0, 1))
        assert bench.halt == "damaged"
        assert bench.paused == {0}
        halt = bench.partition(0).admission.halted
        assert halt is not None
        assert halt.detail.startswith(f"{name}: ")
        log.append(event("later"), partition=1)
        await recounted(bench)
        assert redis.partition(0).fields == damaged  # nothing was written over it
        assert redis.partition(1).offset == EVENTS + 1
        assert redis.pulses[0]["halted"] == "damaged"
        # Only a repair that accepts the loss brings the partition back.
        await bench.command("resume")
        assert bench.halt == "damaged"
        await bench.command("repair", 0)
        assert bench.halt == "damaged"
        await bench.command("repair", 1)
        assert not bench.halt
        await bench.consume_all()
        await bench.worker.flush_all()
        assert redis.pulses[0]["order"].startswith("repair")
        assert requests(redis) == EVENTS

    asyncio.run(story())


@pytest.mark.parametrize("name", HEAD[1:])
def test_a_running_worker_writes_what_is_damaged_beside_the_slices_again(name: str) -> None:
    async def story() -> None:
        log, redis = a_log(), MemoryRedis()
        bench = await counted(log, redis)
        before = dict(redis.partition(0).fields)
        with checks_at_once():
            await bench.worker.flush_all()  # names the fields that the next rounds check
            flip(redis, name)
            await bench.worker.flush_all()
            await bench.worker.flush_all()
            after = redis.partition(0).fields
            # The metadata has the time of its checkpoint.
            assert {**after, "meta": b""} == {**before, "meta": b""}
            assert decode_meta(after["meta"]).rebuilt == 0
            look = partial(bench.store.look, bench.partition(0).admission.claim)
            check = FieldCheck(look)
            for _ in range(2):
                assert await check.check_next(10_000) == EVENTS
        assert len(bench.seeks) == 2  # it was not loaded again

    asyncio.run(story())


def test_a_repair_by_a_clock_that_is_wrong_is_refused_once_in_words_and_not_acknowledged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def story() -> None:
        log, redis = a_log(), MemoryRedis()
        bench = await counted(log, redis)
        old_ms = time.time_ns() // 1_000_000 - 3_600_000
        redis.orders[0] = OperatorCommand("r1", "repair", 0, "a test", "me", old_ms)
        for _ in range(3):
            await bench.worker.flush_all()
        assert redis.pulses[0]["order"] == ""

    asyncio.run(story())
    [line] = [line for line in caplog.messages if "not repaired" in line]
    assert "differs from this worker's clock by more than 600 s" in line


def test_a_damaged_slice_is_restored_alone_if_the_archive_has_it() -> None:
    async def story() -> None:
        log, redis, archive = a_log(), MemoryRedis(), ArchiveInMemory()
        bench = await counted(log, redis, archive)
        before = dict(redis.partition(0).fields)
        name = oldest_slice(redis)
        flip(redis, name)
        with checks_at_once():
            for _ in range(4):
                await bench.worker.flush_all()
        assert redis.partition(0).fields[name] == before[name]
        meta = decode_meta(redis.partition(0).fields["meta"])
        assert (meta.rebuilt, meta.gaps) == (0, ())
        assert requests(redis) == EVENTS

    asyncio.run(story())


def test_a_damaged_slice_that_nothing_can_rebuild_is_given_up_by_command_only() -> None:
    async def story() -> None:
        log, redis = a_log(), MemoryRedis()
        bench = await counted(log, redis)
        bench.log_begin = 7
        name = oldest_slice(redis)
        flip(redis, name)
        with checks_at_once():
            for _ in range(4):
                await bench.worker.flush_all()
        assert bench.halt == "damaged"
        await bench.command("repair", 1)
        await bench.worker.flush_all()
        assert not bench.halt
        [gap] = decode_meta(redis.partition(0).fields["meta"]).gaps
        assert gap.from_ms == int(name.rpartition(":")[2]) * 1_000
        assert name not in redis.partition(0).fields
        assert requests(redis) == EVENTS  # the totals have all

    asyncio.run(story())


def test_a_damaged_slice_is_counted_again_from_the_log() -> None:
    async def story() -> None:
        log, redis = a_log(), MemoryRedis()
        bench = await counted(log, redis)
        before = dict(redis.partition(0).fields)
        name = oldest_slice(redis)
        del redis.partition(0).fields[name]
        with checks_at_once():
            for _ in range(4):
                await bench.worker.flush_all()
        await recounted(bench)
        assert redis.partition(0).fields[name] == before[name]
        assert requests(redis) == EVENTS

    asyncio.run(story())


def test_a_halted_partition_counts_again_by_a_repair_after_its_backup_was_put_back() -> None:
    async def story() -> None:
        log, redis = a_log(), MemoryRedis()
        await counted(log, redis)
        whole = dict(redis.partition(0).fields)
        flip(redis, "totals")
        bench = WorkerBench(log, redis)
        bench.log_begin = 7
        await bench.take_over((0, 1))
        assert bench.halt == "damaged"
        redis.partition(0).fields.update(whole)
        await bench.command("repair", 0)
        assert not bench.halt
        await recounted(bench)
        assert requests(redis) == EVENTS

    asyncio.run(story())


def test_a_repair_of_a_whole_state_changes_no_number() -> None:
    async def story() -> None:
        log, redis = a_log(), MemoryRedis()
        bench = await counted(log, redis)
        await bench.command("repair", 0)
        await recounted(bench)
        assert requests(redis) == EVENTS
        assert decode_meta(redis.partition(0).fields["meta"]).rebuilt == 0
        assert redis.pulses[0]["order"].startswith("repair")

    asyncio.run(story())
