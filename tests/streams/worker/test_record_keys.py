"""Records whose key is not their request id."""

import json
from pathlib import Path

import redis

from exporters.catalogue.pipeline import WORKER_KEY_MISMATCHES
from tests.support.event_samples import EVENT
from tests.support.exporter_state import samples_of
from tests.support.servers import Broker, RedisServer
from tests.support.worker_process import State, WorkerProcess, send, worker_settings

NOW_MS = 1_795_000_000_000


def record(
    key: bytes | None, request_id: object, outcome: str = "success"
) -> tuple[bytes | None, bytes]:
    event = EVENT | {"request_id": request_id, "ended_at": NOW_MS, "outcome": outcome}
    return key, json.dumps(event).encode()


def test_other_keys_are_counted_and_named_once(
    broker: Broker, redis_server: RedisServer, redis_client: redis.Redis, tmp_path: Path
) -> None:
    settings = worker_settings(broker, redis_server.url, 1)
    right = [record(b"a", "a"), record(b"7", 7), record(b"b", "b", "timeout")]
    wrong = [record(None, "c"), record(b"acme", "d"), record(b"acme", "e", "timeout")]
    with WorkerProcess(settings, tmp_path / "worker.log") as worker:
        State(settings, redis_client).wait_for(send(settings.kafka, right))
        assert "another key" not in worker.log
        for part in (wrong[:2], wrong[2:]):
            State(settings, redis_client).wait_for(send(settings.kafka, part))
        assert worker.log.count("records have another key than their request_id") == 1
        assert worker.stop() == 0
    samples = samples_of(settings, NOW_MS / 1_000)
    counts = [value for (name, _), value in samples.items() if name == WORKER_KEY_MISMATCHES.name]
    assert counts == [3]
