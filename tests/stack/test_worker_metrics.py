"""A worker's own /metrics and /healthz, in a real process over real servers."""

from collections.abc import Callable
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from streams.config.settings import Settings
from tests.support.servers import Broker, RedisServer, wait_until
from tests.support.slow_clients import fetch
from tests.support.worker_process import State, WorkerProcess, send, tokenpulse, worker_settings
from tests.support.worker_stories import events
from tokenpulse.local.embedded import free_port

PREFIX = "tokenpulse_worker_process_"


def numbers(port: int) -> dict[str, float]:
    """The samples without labels."""
    page = fetch(port)[0].decode()
    families = text_string_to_metric_families(page)
    return {
        sample.name: sample.value
        for family in families
        for sample in family.samples
        if not sample.labels
    }


def test_a_worker_shows_what_it_counts_and_what_it_needs(
    broker: Broker,
    redis_server: RedisServer,
    state_of: Callable[[Settings], State],
    tmp_path: Path,
) -> None:
    port = free_port()
    settings = worker_settings(broker, redis_server.url, 2, metrics_port=port)
    with WorkerProcess(settings, tmp_path / "worker.log") as worker:
        state_of(settings).wait_for(send(settings.kafka, events(1_500)))
        found = numbers(port)
        assert found[PREFIX + "records_total"] == 1_500
        assert found[PREFIX + "partitions"] == 2
        assert found[PREFIX + "rebalances_total"] >= 1
        assert found[PREFIX + "unflushed_records"] == 0
        assert found[PREFIX + "batch_seconds_count"] >= 1
        assert 0 < found[PREFIX + "batch_seconds_sum"] < 60
        assert found["process_resident_memory_bytes"] > 20_000_000
        assert found["process_cpu_seconds_total"] > 0
        assert fetch(port, "/healthz")[0] == b"ok\n"
        state_of(settings).wait_for(send(settings.kafka, events(500, seed=2)))
        wait_until(lambda: numbers(port)[PREFIX + "records_total"] == 2_000, "they are counted")
        assert worker.stop() == 0


def test_a_port_in_use_is_one_line_and_none_is_open_by_default(
    broker: Broker, redis_server: RedisServer
) -> None:
    settings = worker_settings(broker, redis_server.url)
    assert settings.worker.metrics_port is None
    taken = int(redis_server.url.rpartition(":")[2].partition("/")[0])
    worker = settings.worker.model_copy(update={"metrics_port": taken})
    done = tokenpulse("worker", settings=settings.model_copy(update={"worker": worker}))
    [line] = done.stderr.splitlines()
    assert done.returncode == 2
    assert line.startswith(f"tokenpulse: worker.metrics_port: port {taken} on 127.0.0.1 is in use;")
