"""A partition whose log was compacted before its records were counted."""

import asyncio
from dataclasses import replace

from streams.state.snapshot import Gap
from tests.support.memory_store import MemoryRedis
from tests.support.worker_bench import AT_MS, LogInMemory, WorkerBench, event, requests


def test_records_that_compaction_removed_leave_a_gap_around_their_batch(
    log: LogInMemory, redis: MemoryRedis
) -> None:
    async def run() -> None:
        bench = WorkerBench(log, redis)
        await bench.take_over()
        log.append(*[event(f"e-{at}", AT_MS + 1_000 * at) for at in range(5)])
        await bench.consume(until=1)
        whole = bench.batch(until=4)  # of its offsets 1 to 3, 2 is gone
        left = {name: getattr(whole, name)[::2] for name in ("timestamps_ms", "values", "records")}
        await bench.worker.consume(replace(whole, offsets=[1, 3], removed=[(2, 3)], **left))
        state = bench.state()
        assert (state.next_offset, state.lost_records) == (4, 1)
        assert state.gaps == [Gap(AT_MS, None, 1)]
        await bench.consume()
        assert state.gaps == [Gap(AT_MS, AT_MS + 4_001, 1)]
        await bench.worker.flush_all()
        assert requests(redis) == 4

    asyncio.run(run())
