"""Worker processes on Apache Kafka: what the embedded broker does, too, and what only Kafka does.

Every story ends in the same way: what Redis holds equals a recount of what was sent.
"""

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from streams.config.settings import Kafka
from streams.kafka.producer import Codec, EventProducer
from streams.kafka.topic_settings import UNLIMITED_MS
from tests.support.apache_kafka import ApacheKafka
from tests.support.feed import Feed
from tests.support.kafka_admin import add_partitions, configure_topic, delete_records
from tests.support.servers import Broker, RedisServer, wait_until
from tests.support.worker_process import (
    START_S,
    State,
    WorkerProcess,
    report,
    send,
    tokenpulse,
    worker_settings,
)

# The first line of tests: stories of the embedded broker, on this one.
from tests.support.worker_stories import (  # noqa: F401
    Record,
    assert_counted,
    events,
    test_a_worker_frozen_past_its_session_cannot_write_when_it_wakes_up,
    test_refused_records_arrive_byte_for_byte_with_headers_before_the_offset_passes_them,
    test_sigterm_writes_what_is_counted_and_the_next_worker_reads_nothing_twice,
    test_workers_that_join_and_leave_share_the_partitions_and_lose_nothing,
)

pytestmark = pytest.mark.stack

CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}  # as a batch's header says


@pytest.fixture
def broker(apache_kafka: ApacheKafka) -> Broker:
    return apache_kafka.broker


# --- what is in the log ---------------------------------------------------------------------------


def test_every_codec_is_read_from_our_producer_and_from_a_plain_one(
    apache_kafka: ApacheKafka,
    broker: Broker,
    redis_server: RedisServer,
    state_of: Any,
    tmp_path: Path,
) -> None:
    assert set(CODECS) == set(get_args(Codec))
    settings = worker_settings(broker, redis_server.url)
    state, sent = state_of(settings), []
    with WorkerProcess(settings, tmp_path / "worker.log") as worker:
        for number, codec in enumerate(CODECS):
            ours, plain = events(1_000, seed=number), events(1_000, seed=100 + number)
            state.wait_for(send_compressed(settings.kafka, codec, ours, plain))
            sent += [ours, plain]
        assert worker.stop() == 0
    assert_counted(settings, *sent)
    batches = apache_kafka.record_batches(settings.kafka.topic)
    assert {(one.codec, one.producer_id >= 0) for one in batches} == {
        (codec, ours) for codec in CODECS.values() for ours in (True, False)
    }


def send_compressed(
    kafka: Kafka, codec: Any, ours: Sequence[Record], plain: Sequence[Record]
) -> dict[int, int]:
    """Send a part with our producer, which numbers its batches, and one with aiokafka's."""

    async def run() -> dict[int, int]:
        async with EventProducer(kafka, compression=codec) as producer:
            await producer.send_many(ours)
        bare = AIOKafkaProducer(
            bootstrap_servers=kafka.bootstrap,
            compression_type=None if codec == "none" else codec,
            linger_ms=20,
        )
        await bare.start()
        sent = [await bare.send(kafka.topic, value, key=key) for key, value in plain]
        await bare.stop()
        return {one.result().partition: one.result().offset + 1 for one in sent}

    return asyncio.run(run())


def test_committed_transactions_count_aborted_ones_do_not_and_an_open_one_holds_its_partition(
    broker: Broker,
    redis_server: RedisServer,
    state_of: Any,
    tmp_path: Path,
) -> None:
    settings = worker_settings(broker, redis_server.url, partitions=2)
    state, parts = state_of(settings), [events(500, seed=seed) for seed in range(6)]
    with WorkerProcess(settings, tmp_path / "worker.log") as worker:
        asyncio.run(transactions(settings.kafka, state, parts))
        assert worker.stop() == 0
    committed = [part for number, part in enumerate(parts) if number != 1]
    assert_counted(settings, *committed)


async def transactions(kafka: Kafka, state: State, parts: Sequence[Sequence[Record]]) -> None:
    """Part 0 is committed, 1 aborted, 2 open for a while; the others know no transactions."""
    clients = {"bootstrap_servers": kafka.bootstrap, "linger_ms": 20}
    plain = AIOKafkaProducer(**clients)
    asking = AIOKafkaProducer(**clients, transactional_id=f"asks-{kafka.topic}")
    await plain.start()
    await asking.start()

    async def send_part(producer: AIOKafkaProducer, number: int, partition: int) -> int:
        sent = [
            await producer.send(kafka.topic, value, key=key, partition=partition)
            for key, value in parts[number]
        ]
        return int((await sent[0]).offset)

    async with asking.transaction():
        await send_part(asking, 0, 0)
    await asking.begin_transaction()
    await send_part(asking, 1, 0)
    await asking.abort_transaction()
    await asking.begin_transaction()
    open_from = await send_part(asking, 2, 0)
    await send_part(plain, 3, 0)
    await send_part(plain, 4, 1)
    await asyncio.to_thread(state.wait_for, {0: open_from, 1: 500})
    await send_part(plain, 5, 1)
    await asyncio.to_thread(state.wait_for, {0: open_from, 1: 1_000})
    await asking.commit_transaction()
    await asking.stop()
    await plain.stop()
    ends = await log_ends(kafka, 2)
    assert ends == {0: 4 * 500 + 3, 1: 1_000}  # with a marker for each transaction
    await asyncio.to_thread(state.wait_for, ends)


async def log_ends(kafka: Kafka, partitions: int) -> dict[int, int]:
    """Where the partitions' logs end, whatever is in them."""
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap)
    await consumer.start()
    try:
        tps = [TopicPartition(kafka.topic, number) for number in range(partitions)]
        return {tp.partition: end for tp, end in (await consumer.end_offsets(tps)).items()}
    finally:
        await consumer.stop()


def test_records_that_compaction_took_are_counted_as_lost_to_the_record(
    apache_kafka: ApacheKafka,
    broker: Broker,
    redis_server: RedisServer,
    state_of: Any,
    tmp_path: Path,
) -> None:
    settings = worker_settings(broker, redis_server.url)
    topic = settings.kafka.topic
    # Whatever comes a moment later begins another segment, and frees this one for compaction.
    often = {"segment.ms": "10", "min.cleanable.dirty.ratio": "0.0001"}
    configure_topic(settings.kafka, {"cleanup.policy": "compact", **often})
    dice = random.Random(4)
    records = [(b"%d" % dice.randrange(100), value) for _, value in events(2_000)]
    last = events(1_000, seed=2)
    assert send(settings.kafka, records) == {0: 2_000}
    ends = send(settings.kafka, last)
    wait_until(lambda: apache_kafka.compacted_until(topic) == 2_000, "the log is compacted")
    left = dict(records)  # of each key the last
    assert sum(batch.records for batch in apache_kafka.record_batches(topic)) == len(left) + 1_000
    with WorkerProcess(settings, tmp_path / "worker.log") as worker:
        state_of(settings).wait_for(ends)
        assert "were removed before they were counted, as by compaction" in worker.log
        assert worker.stop() == 0
    assert report(settings)["lost_records"] == 2_000 - len(left)
    assert_counted(settings, list(left.items()), last)


def test_config_check_warns_of_timestamps_of_senders_without_a_limit(
    broker: Broker, redis_server: RedisServer
) -> None:
    settings = worker_settings(broker, redis_server.url)
    created = {"message.timestamp.type": "CreateTime"}
    for configs, warns in (
        ({"message.timestamp.type": "LogAppendTime"}, False),
        (created | {"message.timestamp.after.max.ms": "3600000"}, False),
        (created | {"message.timestamp.after.max.ms": str(UNLIMITED_MS)}, True),
    ):
        configure_topic(settings.kafka, configs)
        done = tokenpulse("config", "check", settings=settings)
        assert done.returncode == 0, done.stderr
        warning = f"warning: {settings.kafka.topic}: senders stamp its records (CreateTime)"
        assert (warning in done.stderr) == warns, (configs, done.stderr)


def test_records_that_retention_took_are_said_to_be_lost_to_the_record(
    broker: Broker,
    redis_server: RedisServer,
    state_of: Any,
    tmp_path: Path,
) -> None:
    settings = worker_settings(broker, redis_server.url)
    state, parts = state_of(settings), [events(1_000, seed=seed) for seed in range(4)]
    with WorkerProcess(settings, tmp_path / "one.log") as worker:
        state.wait_for(send(settings.kafka, parts[0]))
        assert worker.stop() == 0
    send(settings.kafka, parts[1], parts[2])
    delete_records(settings.kafka, {0: 2_137})  # amid a record batch
    with WorkerProcess(settings, tmp_path / "two.log") as worker:
        state.wait_for({0: 3_000})
        assert "records 1000 to 2136 are gone from Kafka before they were counted" in worker.log
        assert report(settings)["lost_records"] == 1_137
        state.wait_for(send(settings.kafka, parts[3]))
        assert worker.stop() == 0
    assert report(settings)["lost_records"] == 1_137
    assert_counted(settings, parts[0], parts[2][137:], parts[3])


# --- who reads it ---------------------------------------------------------------------------------


def test_partitions_added_at_run_time_are_counted_from_their_beginning(
    broker: Broker,
    redis_server: RedisServer,
    state_of: Any,
    tmp_path: Path,
) -> None:
    settings = worker_settings(
        broker, redis_server.url, partitions=2, kafka={"metadata_max_age_s": 1}
    )
    state, parts = state_of(settings), [events(2_000, seed=seed) for seed in range(2)]
    with WorkerProcess(settings, tmp_path / "worker.log") as worker:
        ends = asyncio.run(send_before_and_after(settings.kafka, parts, state))
        assert set(ends) == {0, 1, 2, 3}
        state.wait_for(ends)
        told = f"{settings.kafka.topic}: has 4 partitions, 2 before: a request that is sent again"
        wait_until(lambda: told in worker.log, "the line is logged")
        assert worker.stop() == 0
    assert_counted(settings, *parts)
    done = tokenpulse("config", "check", settings=settings)
    assert "has 4 partitions, kafka.partitions is 2; set it to 4" in done.stderr


async def send_before_and_after(
    kafka: Kafka, parts: Sequence[Sequence[Record]], state: State
) -> dict[int, int]:
    """Send two parts with one producer, the second when it knows of two added partitions."""
    async with EventProducer(kafka) as producer:
        await producer.send_many(parts[0])
        await producer.flush()
        await asyncio.to_thread(state.wait_for, producer.end_offsets)
        await asyncio.to_thread(add_partitions, kafka, 4)
        cluster = producer._producer.client.cluster
        async with asyncio.timeout(30):
            while len(cluster.partitions_for_topic(kafka.topic)) < 4:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        await producer.send_many(parts[1])
        await producer.flush()
        return producer.end_offsets


def test_a_standby_worker_takes_over_when_the_owner_is_killed(
    broker: Broker,
    redis_server: RedisServer,
    state_of: Any,
    tmp_path: Path,
) -> None:
    settings = worker_settings(broker, redis_server.url)
    state, parts = state_of(settings), [events(2_000, seed=seed) for seed in range(3)]
    with WorkerProcess(settings, tmp_path / "one.log") as one:
        state.wait_for(send(settings.kafka, parts[0]))
        with WorkerProcess(settings, tmp_path / "other.log") as other:
            wait_until(lambda: "Worker ready" in other.log, "two workers", START_S)
            # The group may have given the partition to the one that came last.
            busy, idle = (one, other) if state.owner(0) in one.log else (other, one)
            state.wait_for(send(settings.kafka, parts[1]))
            busy.kill()
            state.wait_for(send(settings.kafka, parts[2]))
            assert state.owner(0) in idle.log
            assert idle.stop() == 0
    assert_counted(settings, *parts)


VISITS = 4


def test_workers_that_come_and_go_all_the_time_change_no_number(
    broker: Broker,
    redis_server: RedisServer,
    state_of: Any,
    tmp_path: Path,
) -> None:
    settings = worker_settings(broker, redis_server.url, partitions=3)
    state, parts = state_of(settings), [events(200, seed=seed) for seed in range(250)]
    feed = Feed(settings.kafka, [(None, part) for part in parts])
    with WorkerProcess(settings, tmp_path / "resident.log") as resident:
        feed.allowed = feed.total - len(parts[-1])
        wait_until(lambda: resident.log.count("claimed as") == 3, "it has all partitions", START_S)
        for visit in range(VISITS):
            claims = resident.log.count("claimed as")
            with WorkerProcess(settings, tmp_path / f"visitor-{visit}.log") as visitor:
                wait_until(lambda: "claimed as" in visitor.log, "it gets a share", START_S)
                if visit % 2:
                    visitor.kill()
                else:
                    assert visitor.stop() == 0
            # Its own share after the visitor came, and all three after it left.
            wanted = claims + 1 + 3
            wait_until(
                lambda: resident.log.count("claimed as") >= wanted,  # noqa: B023
                "it gets all of them back",
                START_S,
            )
        state.wait_for(feed.finish())
        last = events(1_000, seed=1_000)
        state.wait_for(send(settings.kafka, last))
        assert resident.stop() == 0
    assert_counted(settings, *parts, last)
