"""Worker processes against a real broker and a real Redis: join, leave, die, freeze, wait.

Every story ends in the same way: what Redis holds equals a recount of what was sent.
"""

from pathlib import Path
from typing import Any

import pytest
import redis

from tests.support.servers import Broker, RedisServer, wait_until
from tests.support.worker_process import (
    START_S,
    Cable,
    State,
    WorkerProcess,
    dead_letters,
    send,
    worker_settings,
)
from tests.support.worker_stories import (  # noqa: F401
    MARK,
    assert_counted,
    events,
    test_a_worker_frozen_past_its_session_cannot_write_when_it_wakes_up,
    test_refused_records_arrive_byte_for_byte_with_headers_before_the_offset_passes_them,
    test_sigterm_writes_what_is_counted_and_the_next_worker_reads_nothing_twice,
    test_workers_that_join_and_leave_share_the_partitions_and_lose_nothing,
)

# --- refused records ------------------------------------------------------------------------------


# --- stopping and sharing -------------------------------------------------------------------------


# --- Redis in trouble -----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("trouble", ["cut", "hold"])
def test_a_redis_that_is_away_for_a_while_costs_nothing(
    broker: Broker, redis_server: RedisServer, state_of: Any, tmp_path: Path, trouble: str
) -> None:
    port = int(redis_server.url.rpartition(":")[2].partition("/")[0])
    with Cable(port) as cable:
        near = worker_settings(broker, redis_server.url, timeout_s=0.3)
        far = near.model_copy(
            update={
                "redis": near.redis.model_copy(update={"url": f"redis://127.0.0.1:{cable.port}/0"})
            }
        )
        state, parts = state_of(near), [events(2_000, seed=seed) for seed in range(3)]
        with WorkerProcess(far, tmp_path / "worker.log") as worker:
            state.wait_for(send(near.kafka, parts[0]))
            getattr(cable, trouble)()
            ends = send(near.kafka, [*parts[1], MARK])
            dead_letters(near.kafka, 1)  # it goes on counting
            wait_until(lambda: worker.log.count("trying again") >= 2, "it tries", START_S)
            assert not state.has(ends)
            cable.mend()
            state.wait_for(ends)
            state.wait_for(send(near.kafka, parts[2]))
            assert worker.stop() == 0
    assert_counted(near, *parts)


def test_a_redis_that_may_evict_is_refused_in_one_line(
    broker: Broker, redis_server: RedisServer, redis_client: redis.Redis, tmp_path: Path
) -> None:
    settings = worker_settings(broker, redis_server.url)
    redis_client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        with WorkerProcess(settings, tmp_path / "worker.log") as worker:
            assert worker.ended() == 2
    finally:
        redis_client.config_set("maxmemory-policy", "noeviction")
    where = settings.redis.url.removeprefix("redis://").removesuffix("/0")
    assert worker.log == (
        f"tokenpulse: Redis at {where}: maxmemory-policy is allkeys-lru, which throws state away; "
        "run `CONFIG SET maxmemory-policy noeviction`\n"
    )


@pytest.mark.slow
def test_a_damaged_state_is_never_counted_on_but_counted_again_from_the_log(
    broker: Broker, redis_server: RedisServer, redis_client: redis.Redis, tmp_path: Path
) -> None:
    settings = worker_settings(broker, redis_server.url)
    state = State(settings, redis_client)
    parts = [events(100, seed=seed) for seed in range(2)]
    with WorkerProcess(settings, tmp_path / "one.log") as worker:
        state.wait_for(send(settings.kafka, parts[0]))
        assert worker.stop() == 0
    redis_client.hdel(state.key(0), "totals")
    ends = send(settings.kafka, parts[1])
    with WorkerProcess(settings, tmp_path / "two.log") as worker:
        state.wait_for(ends)
        assert worker.stop() == 0
        assert "the stored state is damaged: totals: is missing" in worker.log
        assert "dropped the damaged state: counting from offset 0" in worker.log
    assert_counted(settings, [*parts[0], *parts[1]])
