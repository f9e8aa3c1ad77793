"""Damaged fields of the state, under a worker process that runs and one that starts."""

from pathlib import Path
from typing import cast

import pytest
import redis

from streams.store.keys import Keys
from tests.support.command import run
from tests.support.servers import Broker, RedisServer, wait_until
from tests.support.worker_process import State, WorkerProcess, report, send, worker_settings
from tests.support.worker_stories import events

pytestmark = pytest.mark.slow


def test_a_running_worker_repairs_by_command_and_no_number_changes(
    broker: Broker, redis_server: RedisServer, redis_client: redis.Redis, tmp_path: Path
) -> None:
    settings = worker_settings(broker, redis_server.url, 2)
    state, key = State(settings, redis_client), Keys(settings.kafka.group, settings.kafka.topic)

    def damage(kind: bytes) -> str:
        fields = cast(list[bytes], redis_client.hkeys(key.partition(0)))
        name = min(one for one in fields if one.startswith(kind))
        data = bytearray(cast(bytes, redis_client.hget(key.partition(0), name)))
        data[len(data) // 2] ^= 4
        redis_client.hset(key.partition(0), name, bytes(data))
        return name.decode()

    ends = send(settings.kafka, events(2_000, seed=15))
    with WorkerProcess(settings, tmp_path / "worker.log") as worker:
        state.wait_for(ends)
        before = report(settings, by=("model",))
        name = damage(b"s:60:")
        checked = run("state", "check", settings=settings)
        assert checked.exit_code == 1
        assert f"partition 0: DAMAGED: {name}: its checksum is wrong" in checked.output
        repaired = run("state", "repair", "--reason", "a test", settings=settings)
        assert repaired.exit_code == 0, repaired.output + worker.log
        # Without an archive the whole log is counted again.
        wait_until(lambda: report(settings, by=("model",)) == before, "the same numbers")
        assert run("state", "check", settings=settings).exit_code == 0
        assert f"the stored state is damaged: {name}: its checksum is wrong" in worker.log
        assert worker.stop() == 0
    damage(b"totals")
    with WorkerProcess(settings, tmp_path / "second.log") as worker:
        wait_until(lambda: report(settings, by=("model",)) == before, "the same numbers")
        assert run("state", "check", settings=settings).exit_code == 0
        assert "the stored state is damaged: totals: its checksum is wrong" in worker.log
        assert worker.stop() == 0
