"""Apache Kafka in trouble, with clusters of their own: brokers die, topics are made again."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import redis

from streams.config.settings import Settings
from tests.support.apache_kafka import ApacheKafka
from tests.support.feed import Feed
from tests.support.kafka_admin import coordinator, delete_records, delete_topic, in_sync
from tests.support.servers import RedisServer, wait_until
from tests.support.worker_process import (
    State,
    WorkerProcess,
    make_topics,
    report,
    send,
    worker_settings,
)
from tests.support.worker_stories import assert_counted, events

pytestmark = pytest.mark.stack


def test_a_broker_killed_twice_under_load_costs_nothing_and_no_worker(
    redis_server: RedisServer,
    state_of: Any,
    tmp_path: Path,
) -> None:
    parts = [events(200, seed=seed) for seed in range(150)]
    with ApacheKafka(tmp_path / "kafka") as cluster:
        settings = worker_settings(cluster.broker, redis_server.url, partitions=3)
        state, partitions = state_of(settings), range(3)
        feed = Feed(settings.kafka, [(None, part) for part in parts])
        with WorkerProcess(settings, tmp_path / "worker.log") as worker:
            for kill in (1, 2):
                feed.allowed = kill * feed.total // 3
                state.wait_past(partitions, feed.allowed - feed.total / 5)
                cluster.kill()
                cluster.start()
            state.wait_for(feed.finish())
            assert worker.stop() == 0
        assert sum(feed.ends.values()) == feed.total
    assert_counted(settings, *parts)


def test_a_group_whose_coordinator_dies_goes_on_with_another(
    redis_server: RedisServer,
    state_of: Any,
    tmp_path: Path,
) -> None:
    parts = [events(200, seed=seed) for seed in range(200)]
    with ApacheKafka(tmp_path / "kafka", nodes=2) as cluster:
        found = worker_settings(cluster.broker, redis_server.url, partitions=4)
        settings = coordinated_by(2, replicated(found, 2))
        state, partitions = state_of(settings), range(4)
        feed = Feed(settings.kafka, [(None, part) for part in parts])
        with (
            WorkerProcess(settings, tmp_path / "one.log") as one,
            WorkerProcess(settings, tmp_path / "two.log") as two,
        ):
            feed.allowed = feed.total // 2
            state.wait_past(partitions, feed.total / 4)
            cluster.kill(2)
            wait_until(lambda: coordinator(settings.kafka) == 1, "the other one coordinates")
            state.wait_for(feed.finish())
            # Both are still in the group: what leaves is given to the one that stays.
            assert two.stop() == 0
            last = events(1_000, seed=1_000)
            state.wait_for(send(settings.kafka, last))
            assert one.stop() == 0
    assert_counted(settings, *parts, last)


def test_a_rolling_restart_of_three_brokers_costs_nothing_and_no_worker(
    redis_server: RedisServer,
    state_of: Any,
    tmp_path: Path,
) -> None:
    parts = [events(200, seed=seed) for seed in range(150)]
    # As an operator does it: each broker first gives its partitions away, and the next one follows
    # when all replicas are in sync again.
    orderly = {"controlled.shutdown.enable": "true"}
    with ApacheKafka(tmp_path / "kafka", nodes=3, properties=orderly) as cluster:
        found = worker_settings(cluster.broker, redis_server.url, partitions=6)
        settings = replicated(found, 3)
        state, partitions = state_of(settings), range(6)
        feed = Feed(settings.kafka, [(None, part) for part in parts])
        with (
            WorkerProcess(settings, tmp_path / "one.log") as one,
            WorkerProcess(settings, tmp_path / "two.log") as two,
        ):
            for number in (1, 2, 3):
                feed.allowed = number * feed.total // 4
                state.wait_past(partitions, feed.allowed - feed.total / 8)
                cluster.restart(number)
                wait_until(lambda: in_sync(settings.kafka), "all replicas are in sync")
            state.wait_for(feed.finish())
            assert one.stop() == 0
            assert two.stop() == 0
        assert sum(feed.ends.values()) == feed.total
    assert_counted(settings, *parts)


def replicated(settings: Settings, replicas: int) -> Settings:
    """The same with topics of so many replicas."""
    kafka = settings.kafka
    own = {name: f"replicated-{getattr(kafka, name)}" for name in ("topic", "dlq_topic")}
    settings = settings.model_copy(
        update={"kafka": kafka.model_copy(update={**own, "replication": replicas})}
    )
    make_topics(settings)
    return settings


def coordinated_by(node: int, settings: Settings) -> Settings:
    """The same with a group that a node coordinates."""

    for number in itertools.count():
        name = f"{settings.kafka.group}-{number}"
        kafka = settings.kafka.model_copy(update={"group": name})
        # The cluster makes its topic of groups when it is asked for the first time.
        wait_until(lambda: coordinator(kafka) is not None, "the group has a coordinator")  # noqa: B023
        if coordinator(kafka) == node:
            return settings.model_copy(update={"kafka": kafka})
    raise AssertionError


@pytest.mark.parametrize("running", [True, False], ids=["running", "stopped"])
@pytest.mark.parametrize("records", [500, 3_000], ids=["shorter", "longer"])
def test_a_topic_made_again_halts_the_partition_and_is_not_counted(
    apache_kafka: ApacheKafka,
    redis_server: RedisServer,
    state_of: Any,
    tmp_path: Path,
    running: bool,
    records: int,
) -> None:
    settings = worker_settings(
        apache_kafka.broker, redis_server.url, kafka={"metadata_max_age_s": 1}
    )
    state, first = state_of(settings), events(1_000)
    with WorkerProcess(settings, tmp_path / "worker.log") as worker:
        state.wait_for(send(settings.kafka, first))
        if not running:
            assert worker.stop() == 0
        delete_topic(settings.kafka)
        make_topics(settings)
        send(settings.kafka, events(records, seed=2))
        if running:
            wait_until(lambda: "offset=1000: halted" in worker.log, "it is noticed")
    if not running:
        with WorkerProcess(settings, tmp_path / "next.log") as worker:
            wait_until(lambda: "offset=1000: halted" in worker.log, "it is noticed")
    assert state.offset(0) == 1_000
    assert_counted(settings, first)


def test_a_state_that_redis_lost_comes_back_from_the_archive_and_what_kafka_still_has(
    apache_kafka: ApacheKafka, redis_server: RedisServer, redis_client: redis.Redis, tmp_path: Path
) -> None:
    settings = worker_settings(apache_kafka.broker, redis_server.url, archive_interval_s=1)
    state, parts = State(settings, redis_client), [events(1_000, seed=seed) for seed in range(3)]
    with WorkerProcess(settings, tmp_path / "one.log") as worker:
        state.wait_for(send(settings.kafka, parts[0]))
        wait_until(lambda: "offset=1000: archived" in worker.log, "it is archived")
        state.wait_for(send(settings.kafka, parts[1]))
        assert worker.stop() == 0
    redis_client.flushdb()
    delete_records(settings.kafka, {0: 1_000})  # so that only the archive knows of the first part
    with WorkerProcess(settings, tmp_path / "two.log") as worker:
        state.wait_for({0: 2_000})
        state.wait_for(send(settings.kafka, parts[2]))
        assert worker.stop() == 0
    assert report(settings)["lost_records"] == 0
    assert_counted(settings, *parts)
