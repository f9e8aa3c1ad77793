"""Topics of Apache Kafka that someone sets up wrongly: the log and `config check` tell the fix."""

from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from streams.config.settings import Settings
from tests.support.apache_kafka import ApacheKafka
from tests.support.kafka_admin import configure_topic, log_starts
from tests.support.servers import RedisServer, wait_until
from tests.support.worker_process import (
    WorkerProcess,
    report,
    send,
    tokenpulse,
    worker_settings,
)
from tests.support.worker_stories import assert_counted, events
from tokenpulse.local.embedded import free_port

pytestmark = pytest.mark.stack

RUN = 7  # rejected records in a row that halt a partition


@pytest.fixture
def settings(apache_kafka: ApacheKafka, redis_server: RedisServer) -> Settings:
    """A worker looks at its topics once a second."""
    watchful = {"metadata_max_age_s": 1}
    return worker_settings(
        apache_kafka.broker, redis_server.url, kafka=watchful, dedup_window_s=60, breaker_run=RUN
    )


def warnings(settings: Settings) -> list[str]:
    """What `config check` warns of."""
    done = tokenpulse("config", "check", settings=settings)
    assert done.returncode == 0, done.stderr
    return [line.removeprefix("warning: ") for line in done.stderr.splitlines()]


def topic_risks(port: int) -> float:
    """The number of risks on the worker's own page."""
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        page = answer.read().decode()
    return float(page.partition("\ntokenpulse_worker_process_topic_risks ")[2].split()[0])


def test_compaction_by_mistake_is_told_while_the_worker_counts_on(
    settings: Settings, state_of: Any, tmp_path: Path
) -> None:
    kafka, parts = settings.kafka, [events(1_000, seed=seed) for seed in range(2)]
    port = free_port()
    worker_section = settings.worker.model_copy(update={"metrics_port": port})
    settings = settings.model_copy(update={"worker": worker_section})
    assert warnings(settings) == []
    with WorkerProcess(settings, tmp_path / "worker.log") as worker:
        state_of(settings).wait_for(send(kafka, parts[0]))
        assert "cleanup.policy" not in worker.log
        stamped = {"message.timestamp.type": "LogAppendTime"}
        configure_topic(kafka, {"cleanup.policy": "compact", **stamped})
        told = (
            f"{kafka.topic}: cleanup.policy is compact: Kafka removes each record that is followed "
            "by one with the same key, also before it is counted; run `kafka-configs "
            f"--bootstrap-server {kafka.bootstrap} --alter --topic {kafka.topic} --add-config "
            "cleanup.policy=delete`"
        )
        wait_until(lambda: told in worker.log, "the line is logged")
        assert warnings(settings) == [told]
        assert topic_risks(port) == 1
        state_of(settings).wait_for(send(kafka, parts[1]))
        configure_topic(kafka, {"cleanup.policy": "delete", **stamped})
        wait_until(lambda: topic_risks(port) == 0, "it is corrected")
        assert worker.stop() == 0
    assert worker.log.count("cleanup.policy is compact") == 1
    assert_counted(settings, *parts)


def test_a_retention_shorter_than_the_lag_is_told_before_it_loses_records(
    settings: Settings, state_of: Any, tmp_path: Path
) -> None:
    kafka, state = settings.kafka, state_of(settings)
    parts = [events(1_000, seed=seed) for seed in range(3)]
    with WorkerProcess(settings, tmp_path / "worker.log") as worker:
        state.wait_for(send(kafka, parts[0]))
        end = send(kafka, [(b"key", b"{")] * RUN, parts[1])[0]
        wait_until(lambda: "halted (dead_letters)" in worker.log, "its partition halts")
        # Longer than the lag by far: nothing to tell.
        configure_topic(kafka, {"retention.ms": "3600000"})
        assert "Kafka deletes them" not in worker.log
        configure_topic(kafka, {"retention.ms": "4000"})
        wait_until(
            lambda: "Kafka deletes them 0.0 h after they came" in worker.log, "the line is logged"
        )
        assert f"--alter --topic {kafka.topic} --add-config retention.ms=" in worker.log
        assert any("retention.ms is 4000, less than" in line for line in warnings(settings))
        wait_until(lambda: log_starts(kafka, 1) == {0: end}, "Kafka deletes the records")
        configure_topic(kafka, {"retention.ms": "3600000"})
        last = send(kafka, parts[2])
        resume = ("partitions", "resume", 0, "--reason", "the sender is corrected")
        assert tokenpulse(*resume, settings=settings).returncode == 0
        state.wait_for(last)
        assert worker.stop() == 0
    assert f"records 1000 to {end - 1} are gone from Kafka before they were counted" in worker.log
    assert report(settings)["lost_records"] == RUN + 1_000
    assert_counted(settings, parts[0], parts[2])
