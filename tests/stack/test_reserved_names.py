"""Names of policies have rows of their own in a worker whose other names are too many."""

from collections.abc import Callable
from pathlib import Path

import msgspec

from streams.config.settings import Settings
from streams.state.registry import OTHER
from tests.support.exporter_state import NOW_S, event
from tests.support.servers import Broker, RedisServer
from tests.support.worker_process import State, WorkerProcess, report, send, worker_settings

POLICY = """\
version: 1
name: acme
objectives:
  - name: large
    scope: {model: large}
    target: 99 %
    period: {rolling_days: 30}
    indicator: {kind: request_ratio, min_samples: 1}
"""
MODELS = ("a", "b", "c", "large", "a")


def test_a_model_of_a_policy_has_its_row_and_a_worker_without_the_file_counts_on(
    broker: Broker,
    redis_server: RedisServer,
    state_of: Callable[[Settings], State],
    tmp_path: Path,
) -> None:
    policy = tmp_path / "acme.yaml"
    policy.write_text(POLICY)
    counted = {}
    absent = tmp_path / "none.yaml"
    for name, paths in (("present", (absent, policy)), ("absent", (absent,))):
        settings = worker_settings(broker, redis_server.url, limits={"models": 2})
        exporter = settings.exporter.model_copy(update={"policies": tuple(map(str, paths))})
        settings = settings.model_copy(update={"exporter": exporter})
        records = [
            (b"k", msgspec.json.encode(event(NOW_S, model=model, request_id=f"{at}")))
            for at, model in enumerate(MODELS)
        ]
        with WorkerProcess(settings, tmp_path / f"{name}.log") as worker:
            state_of(settings).wait_for(send(settings.kafka, records))
            assert worker.running
        groups = report(settings, by=("model",))["groups"]
        counted[name] = {one["key"]["model"]: one["total"]["requests"] for one in groups}
    assert counted["present"] == {"a": 2, "large": 1, OTHER: 2}
    assert counted["absent"] == {"a": 2, "b": 1, OTHER: 2}
    for name in counted:
        log = (tmp_path / f"{name}.log").read_text()
        assert "exporter.policies cannot be read" in log
        assert "none.yaml: no such file" in log
