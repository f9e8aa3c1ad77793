"""Ids of events at the limit of age: known or unknown alike with and without a restart."""

import asyncio

import pytest

from streams.events.watermark import BEGIN
from streams.state.slices import HORIZON_S, duplicates_of
from tests.support.memory_store import MemoryRedis
from tests.support.worker_bench import AT_MS, LogInMemory, WorkerBench, event, requests, totals

OLD_MS = AT_MS - HORIZON_S * 1_000 - 86_400_000
HONEST = [event(f"honest-{at}", AT_MS + at) for at in range(BEGIN + 4)]


def counts_of(values: list[bytes], is_restarted: bool, *rest: bytes) -> tuple[int, int]:
    """Return requests and duplicates of a log that senders stamp; a restart comes before `rest`."""
    redis, log = MemoryRedis(), LogInMemory()

    async def run() -> None:
        bench = WorkerBench(log, redis)
        bench.by_sender = True
        await bench.take_over()
        log.append(*values)
        await bench.consume()
        await bench.worker.flush_all()
        if is_restarted:
            bench = WorkerBench(log, redis)
            bench.by_sender = True
            await bench.take_over()
        log.append(*rest)
        await bench.consume_all()
        await bench.worker.flush_all()

    asyncio.run(run())
    return requests(redis), duplicates_of(totals(redis))


@pytest.mark.parametrize("is_restarted", [False, True])
def test_an_old_event_before_the_watermark_was_settled_is_known(is_restarted: bool) -> None:
    values = [event("old", OLD_MS), *HONEST]
    found = counts_of(values, is_restarted, event("old", AT_MS))
    assert found == (len(values), 1)


@pytest.mark.parametrize("is_restarted", [False, True])
def test_an_event_that_was_too_late_is_not_known(is_restarted: bool) -> None:
    values = [*HONEST, event("old", OLD_MS)]
    found = counts_of(values, is_restarted, event("old", AT_MS))
    assert found == (len(values), 0)


@pytest.mark.parametrize("is_restarted", [False, True])
def test_an_event_accepted_at_the_very_limit_takes_no_part_in_deduplication(
    is_restarted: bool,
) -> None:
    values = [*HONEST, event("old", AT_MS + BEGIN - HORIZON_S * 1_000 + 5_000)]
    found = counts_of(values, is_restarted, event("old", AT_MS))
    assert found == (len(values) + 1, 0)
