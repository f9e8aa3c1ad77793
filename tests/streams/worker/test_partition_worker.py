"""One partition under claims of a worker: recreated logs, operator commands, takeovers."""

import asyncio
from dataclasses import replace

import pytest

from streams.state.slices import duplicates_of
from streams.store.contract import CommandError, OperatorCommand, StoreError
from streams.worker import partition_worker
from streams.worker.exemplars import load_exemplars
from streams.worker.field_samples import FieldSample, parse_samples
from tests.support.memory_store import MemoryRedis, MemoryStore
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

HALT_AFTER = WORKER.breaker_run


def test_after_a_recreated_log_a_restart_reads_the_ids_of_the_new_log_again(
    log: LogInMemory, redis: MemoryRedis
) -> None:
    async def run() -> None:
        first = WorkerBench(log, redis)
        await first.take_over()
        # In the old log the ids to remember begin after the offsets that the new log has.
        log.append(*[event(f"old-{at}", AT_MS - 3_600_000) for at in range(20)])
        log.append(*[event(f"old-{at}") for at in range(20, 40)])
        await first.consume()
        await first.recreate_log(*[event(f"new-{at}") for at in range(10)])
        await first.consume_all()
        await first.worker.flush_all()
        assert first.state().stored_offset == 10
        second = WorkerBench(log, redis)
        await second.take_over()
        log.append(event("new-3"))
        await second.consume_all()
        await second.worker.flush_all()
        assert requests(redis) == 50
        assert duplicates_of(totals(redis)) == 1

    asyncio.run(run())


def test_samples_of_a_recreated_log_do_not_name_offsets_of_the_old_one(
    log: LogInMemory, redis: MemoryRedis
) -> None:
    async def run() -> None:
        bench = WorkerBench(log, redis)
        await bench.take_over()
        log.append(event("a"), event("b", ttft_ms="fast"), event("c"), event("d"))
        await bench.consume()
        await bench.worker.flush_all()
        assert [sample.offset for sample in samples_of(redis)] == [1]
        await bench.recreate_log(event("e"))
        await bench.worker.flush_all()
        assert samples_of(redis) == []

    asyncio.run(run())


def samples_of(redis: MemoryRedis) -> list[FieldSample]:
    return parse_samples(redis.pulses[0]["field_samples"])


async def halt_on_rejected(bench: WorkerBench) -> None:
    """Take the partition over, count an event, and halt on rejected records after it."""
    bench.log.append(event("first"), *[BROKEN] * HALT_AFTER)
    await bench.take_over()
    await bench.consume(until=1)
    await bench.consume()
    assert bench.halt == "dead_letters"


def test_rejected_records_pass_only_up_to_the_end_that_the_operator_accepted(
    log: LogInMemory, redis: MemoryRedis
) -> None:
    async def run() -> None:
        bench = WorkerBench(log, redis)
        await halt_on_rejected(bench)
        await bench.command("resume")
        await bench.consume_all()
        assert bench.dead_letters == [1, 2, 3, 4]
        log.append(*[BROKEN] * HALT_AFTER)
        await bench.consume()
        assert bench.halt == "dead_letters"

    asyncio.run(run())


def test_rejected_records_accepted_in_one_log_halt_the_next_log(
    log: LogInMemory, redis: MemoryRedis
) -> None:
    async def run() -> None:
        bench = WorkerBench(log, redis)
        await halt_on_rejected(bench)
        await bench.command("resume")
        await bench.consume(until=2)
        await bench.recreate_log(event("other"))
        log.append(*[BROKEN] * HALT_AFTER)
        await bench.consume_all()
        assert bench.halt == "dead_letters"
        assert bench.dead_letters == [1]  # of the log that the operator looked at

    asyncio.run(run())


def test_a_resume_after_another_halt_accepts_no_rejected_records(
    log: LogInMemory, redis: MemoryRedis
) -> None:
    async def run() -> None:
        bench = WorkerBench(log, redis)
        await bench.take_over()
        log.append(event("first"))
        await bench.consume()
        await bench.worker.consume(bench.batch(unreadable="a damaged batch"))
        assert bench.halt == "unreadable"
        await bench.command("resume")  # the broker was repaired
        log.append(*[BROKEN] * HALT_AFTER)
        await bench.consume()
        assert bench.halt == "dead_letters"

    asyncio.run(run())


def test_a_replaced_partition_worker_drops_the_batch_that_waited(
    log: LogInMemory, redis: MemoryRedis
) -> None:
    async def run() -> None:
        bench = WorkerBench(log, redis)
        log.append(event("a"), BROKEN)
        await bench.take_over()
        replaced = bench.partition()
        async with replaced._counting:
            waiting = asyncio.ensure_future(bench.consume())
            await asyncio.sleep(0)
            await bench.take_over()
        await waiting
        assert replaced.state.next_offset == 0
        assert bench.dead_letters == []

    asyncio.run(run())


def test_a_replaced_partition_worker_applies_no_command(
    log: LogInMemory, redis: MemoryRedis
) -> None:
    async def run() -> None:
        bench = WorkerBench(log, redis)
        await halt_on_rejected(bench)
        await bench.worker.flush_all()
        replaced, seeks = bench.partition(), len(bench.seeks)
        async with replaced._counting:
            command = OperatorCommand("1", "resume", None, "a test", "me")
            waiting = asyncio.ensure_future(replaced.apply(command))
            await asyncio.sleep(0)
            await bench.worker.revoke()
        await waiting
        assert len(bench.seeks) == seeks

    asyncio.run(run())


class Clock:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def monotonic(self) -> float:
        return self.now_s

    def time_ns(self) -> int:
        return AT_MS * 1_000_000


@pytest.mark.parametrize("blocked", [True, False])
def test_the_time_in_which_a_worker_takes_no_batch_is_no_silence_of_the_log(
    log: LogInMemory, redis: MemoryRedis, monkeypatch: pytest.MonkeyPatch, blocked: bool
) -> None:
    clock, flushes = Clock(), 0

    async def delay(moment: str) -> None:
        nonlocal flushes
        if moment == "flushed" and blocked:
            flushes += 1
            clock.now_s += partition_worker.REFETCH_AFTER_S  # a slow store

    async def run() -> int:
        settings = WORKER.model_copy(update={"backlog_max_events": 1})
        bench = WorkerBench(log, redis, settings, MemoryStore(redis, "g", "t", delay))
        log.append(event("a"), event("b"), event("c"))
        await bench.take_over()
        clock.now_s = 1_000.0
        seeks, waiting = len(bench.seeks), asyncio.ensure_future(bench.consume(until=2))
        await asyncio.sleep(0.01)
        assert not waiting.done()  # two records are not in the store
        await bench.worker.flush_all()
        await waiting
        if not blocked:
            clock.now_s += partition_worker.REFETCH_AFTER_S
        await bench.worker.flush_all()
        return len(bench.seeks) - seeks

    monkeypatch.setattr(partition_worker, "time", clock)
    monkeypatch.setattr("streams.worker.worker.time", clock)
    assert asyncio.run(run()) == (0 if blocked else 1)
    assert flushes == (1 if blocked else 0)


def test_the_first_heartbeat_of_a_new_owner_replaces_exemplars_and_samples_of_the_old_one(
    log: LogInMemory, redis: MemoryRedis
) -> None:
    async def run() -> None:
        first = WorkerBench(log, redis)
        log.append(event("a", trace_id="trace-a", duration_ms=100, stream="yes"))
        await first.take_over()
        await first.consume()
        await first.worker.flush_all()
        assert len(load_exemplars(redis.pulses[0]["exemplars"])) == 1
        assert len(samples_of(redis)) == 1
        second = WorkerBench(log, redis)
        await second.take_over()
        await second.worker.flush_all()
        assert load_exemplars(redis.pulses[0]["exemplars"]) == []
        assert samples_of(redis) == []

    asyncio.run(run())


def test_a_load_that_fails_leaves_no_claim_running(log: LogInMemory, redis: MemoryRedis) -> None:
    claims: list[str] = []

    class SlowStore(MemoryStore):
        """Answers nothing about partition 0, and late about partition 1."""

        async def claim(self, partition: int):  # type: ignore[no-untyped-def]
            if partition == 0:
                raise StoreError("no answer")
            await asyncio.sleep(0.05)
            claims.append("claimed")
            return await super().claim(partition)

    async def run() -> None:
        bench = WorkerBench(log, redis, store=SlowStore(redis, "g", "t"))
        with pytest.raises(StoreError):
            await bench.take_over((0, 1))
        before = len(claims)
        await asyncio.sleep(0.1)
        assert len(claims) == before

    asyncio.run(run())


def test_a_partition_revoked_while_it_is_loaded_again_is_not_claimed(
    log: LogInMemory, redis: MemoryRedis
) -> None:
    """The store does not answer, the group moves the partition back and forth, the store answers:
    the claim made meanwhile stays."""

    async def run() -> None:
        down = False

        async def delay(moment: str) -> None:
            if down and moment == "claim":
                raise StoreError("no answer")

        bench = WorkerBench(log, redis, store=MemoryStore(redis, "g", "t", delay))
        log.append(event("a"))
        await bench.take_over()
        await bench.consume()
        redis.partition(0).owner = "9:another"  # it has claimed the partition
        down = True
        reloading = asyncio.ensure_future(bench.worker.flush_all())
        await asyncio.sleep(0.1)
        await bench.worker.revoke()
        down = False
        await bench.take_over()
        owner = redis.partition(0).owner
        await reloading
        assert redis.partition(0).owner == owner

    asyncio.run(run())


def test_a_worker_whose_partition_was_claimed_away_ends_as_one_that_wrote_all(
    log: LogInMemory, redis: MemoryRedis
) -> None:
    async def run() -> None:
        first, second = WorkerBench(log, redis), WorkerBench(log, redis)
        await first.take_over()
        log.append(event("a"))
        await first.consume()
        await second.take_over()
        assert await first.worker.revoke(ending=True)

    asyncio.run(run())


def test_a_worker_that_is_told_to_end_before_its_first_fetch_may_take_its_time(
    log: LogInMemory, redis: MemoryRedis
) -> None:
    async def run() -> None:
        bench = WorkerBench(log, redis)
        bench.silence_s = None
        await bench.take_over()
        assert await bench.worker.revoke(ending=True)
        # Without a partition no broker has shown yet that it answers.
        assert not await bench.worker.revoke(ending=True)

    asyncio.run(run())


def test_a_worker_that_could_not_write_ends_as_one_that_did_not(
    log: LogInMemory, redis: MemoryRedis
) -> None:
    async def away(moment: str) -> None:
        if moment == "flush":
            raise StoreError("no answer")

    async def run() -> None:
        bench = WorkerBench(log, redis, store=MemoryStore(redis, "g", "t", away))
        await bench.take_over()
        log.append(event("a"))
        await bench.consume()
        assert not await bench.worker.revoke(ending=True)

    asyncio.run(run())


def test_a_damaged_command_is_no_missing_answer_of_the_store(
    log: LogInMemory, redis: MemoryRedis, caplog: pytest.LogCaptureFixture
) -> None:
    async def damaged(moment: str) -> None:
        if moment == "pulsed":
            raise CommandError("order: got {}; repeat the command")

    async def run() -> None:
        bench = WorkerBench(log, redis, store=MemoryStore(redis, "g", "t", damaged))
        await bench.take_over()
        log.append(event("a", ttft_ms=5))
        await bench.consume()
        await bench.worker.flush_all()
        assert bench.worker.store_answers
        assert bench.partition().exemplars.due  # as after every heartbeat that was sent

    asyncio.run(run())
    assert any("operator command ignored: order" in line for line in caplog.messages)


def test_metrics_of_a_process_have_its_records_and_none_that_kafka_deleted_uncounted(
    log: LogInMemory, redis: MemoryRedis
) -> None:
    async def run() -> None:
        bench = WorkerBench(log, redis)
        await bench.take_over()
        log.append(*[event(f"{at}") for at in range(20)])
        await bench.consume(until=5)
        while bench.state().next_offset == 5:  # the worker asks again before it is certain
            bench.positions[0] = 12  # 5 to 11 are gone
            await bench.consume()
        metrics = bench.worker.metrics.registry
        assert bench.state().next_offset == 20
        assert metrics.get_sample_value("tokenpulse_worker_process_records_total") == 13
        count = "tokenpulse_worker_process_batch_seconds_count"
        assert metrics.get_sample_value(count) == 2
        await bench.consume()  # without records
        bench.positions[0] = 10
        await bench.worker.consume(replace(bench.batch(), epoch=0))  # from before a seek
        assert metrics.get_sample_value(count) == 2

    asyncio.run(run())
