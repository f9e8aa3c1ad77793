"""Partitions that a worker refuses to count any further, and what an operator makes of them.

Real workers, the real commands, and in the end a recount of the log.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import redis
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.protocol.produce import ProduceRequest

from streams.config.settings import Settings
from streams.kafka.producer import partition_of
from streams.query.partitions import new_command
from streams.store.keys import Keys
from streams.store.redis import enqueue_command
from streams.store.servers.client import connect as connected
from tests.support.answers import seconds
from tests.support.exporter_state import samples_of, value
from tests.support.record_batch_samples import packed
from tests.support.recounted import TARGETS, Log, assert_recounted, logs_of
from tests.support.redis_servers import RedisProcess
from tests.support.servers import Broker, RedisServer, wait_until
from tests.support.worker_process import (
    START_S,
    State,
    WorkerProcess,
    dead_letters,
    origin,
    report,
    send,
    tokenpulse,
    worker_settings,
)
from tests.support.worker_stories import Record, events

pytestmark = pytest.mark.slow


def of_partition(partition: int, records: Sequence[Record], partitions: int = 2) -> list[Record]:
    """Those that a producer sends to one partition."""
    numbers = partition_of([key or b"" for key, _ in records], partitions)
    return [records[at] for at in np.flatnonzero(numbers == partition).tolist()]


def broken(count: int, seed: int) -> list[Record]:
    """What a broken producer sends."""
    return [(f"broken-{seed}-{number}".encode(), b"{") for number in range(count)]


def halt_of(client: redis.Redis, settings: Settings, partition: int) -> str:
    """Why a partition is halted, as its worker says; empty where it is not."""
    key = Keys(settings.kafka.group, settings.kafka.topic).heartbeat(partition)
    return (client.hget(key, "halted") or b"").decode()  # type: ignore[union-attr]


def wait_halted(client: redis.Redis, settings: Settings, partition: int, why: str) -> None:
    wait_until(lambda: halt_of(client, settings, partition) == why, f"halted for {why!r}", START_S)


def enqueue_resume(settings: Settings, partition: int) -> None:
    """As an operator's command does, but without a look at how the partition stands."""

    async def run() -> None:
        client = connected(settings.redis.url, 5)
        try:
            command = new_command("resume", None, "meant for something else")
            await enqueue_command(
                client, settings.kafka.group, settings.kafka.topic, partition, command
            )
        finally:
            await client.aclose()

    asyncio.run(run())


def exported(settings: Settings, name: str, **labels: str) -> float | None:
    return value(samples_of(settings, time.time()), name, **labels)


# --- a producer that is broken --------------------------------------------------------------------


def test_a_broken_producer_halts_its_partition_and_no_other_until_an_operator_lets_it_pass(
    broker: Broker, redis_server: RedisServer, redis_client: redis.Redis, tmp_path: Path
) -> None:
    settings = worker_settings(broker, redis_server.url, 2, **TARGETS)
    state, topic = State(settings, redis_client), settings.kafka.topic
    bad = of_partition(0, broken(1_400, seed=1))
    good = [events(1_000, seed=seed) for seed in range(3)]
    ends = send(settings.kafka, good[0])
    with WorkerProcess(settings, tmp_path / "worker.log") as worker:
        state.wait_for(ends)
        enqueue_resume(settings, 0)  # for a halt that is not there: it must not be applied later
        send(settings.kafka, bad)
        wait_halted(redis_client, settings, 0, "dead_letters")
        last = send(settings.kafka, good[1])
        state.wait_for({1: last[1]})  # the other partition goes on

        assert state.offset(0) == ends[0]  # and this one has neither counted nor dropped any
        halted = {"partition": "0", "reason": "dead_letters"}
        assert exported(settings, "tokenpulse_partition_halted", **halted) == 1
        assert exported(settings, "tokenpulse_partition_halted", partition="1") is None
        told = f"partition=0 offset={ends[0]}: halted (dead_letters): 500 records in a row "
        assert told in worker.log
        assert "`tokenpulse partitions resume` sends those in the log to" in worker.log
        listed = tokenpulse("partitions", "list", "--json", settings=settings)
        stands = json.loads(listed.stdout)
        assert [one["halted"] for one in stands] == ["dead_letters", None]
        assert stands[0]["offset"] == stands[0]["halted_at"] == ends[0]
        table = tokenpulse("partitions", "list", settings=settings).stdout
        assert f"dead_letters@{ends[0]}" in table

        done = tokenpulse(
            *("partitions", "resume", 0, "--reason", "the gateway is rolled back"),
            settings=settings,
        )
        assert done.returncode == 0, done.stderr
        state.wait_for(last)
        assert "the gateway is rolled back" in worker.log
        wait_halted(redis_client, settings, 0, "")
        again = tokenpulse("partitions", "resume", 0, "--reason", "again", settings=settings)
        assert again.returncode == 2
        assert "is not halted" in again.stderr
        last = send(settings.kafka, good[2])
        state.wait_for(last)
        assert worker.stop() == 0
    letters = dead_letters(settings.kafka, len(bad))
    assert {origin(one) for one in letters} == {
        (topic, 0, ends[0] + number) for number in range(len(bad))
    }
    assert report(settings)["total"]["refused"] == {"not_json": len(bad)}
    assert report(settings)["total"]["complete"] is True  # refused is not lost
    assert_recounted(redis_client, settings, logs_of(broker, settings, sum(last.values())))


def test_what_is_halted_stays_halted_for_the_next_worker_and_what_comes_later_is_judged_anew(
    broker: Broker, redis_server: RedisServer, redis_client: redis.Redis, tmp_path: Path
) -> None:
    settings = worker_settings(broker, redis_server.url, 1, **TARGETS)
    state, good = State(settings, redis_client), events(300)
    first = send(settings.kafka, good)
    ends = send(settings.kafka, broken(600, seed=1))
    with WorkerProcess(settings, tmp_path / "one.log") as worker:
        wait_halted(redis_client, settings, 0, "dead_letters")
        worker.kill()
    redis_client.delete(Keys(settings.kafka.group, settings.kafka.topic).heartbeat(0))
    with WorkerProcess(settings, tmp_path / "two.log") as worker:
        wait_halted(redis_client, settings, 0, "dead_letters")
        assert state.offset(0) <= first[0]
        done = tokenpulse("partitions", "resume", 0, "--reason", "known", settings=settings)
        assert done.returncode == 0, done.stderr
        state.wait_for(ends)
        later = send(settings.kafka, broken(600, seed=2))
        wait_halted(redis_client, settings, 0, "dead_letters")  # the order was for the log so far
        assert state.has(ends)
        done = tokenpulse("partitions", "resume", 0, "--reason", "known", settings=settings)
        assert done.returncode == 0, done.stderr
        state.wait_for(later)
        assert worker.stop() == 0
    assert_recounted(redis_client, settings, logs_of(broker, settings, sum(later.values())))


# --- a record batch that cannot be read -----------------------------------------------------------

BOMB_BYTES = 3_000_000


async def send_bomb(producer: AIOKafkaProducer, topic: str) -> int:
    """A record that takes no room in Kafka and much in memory; its offset."""
    sent = await producer.send_and_wait(topic, bytes(BOMB_BYTES), partition=0)
    return int(sent.offset)


async def send_damaged(producer: AIOKafkaProducer, topic: str) -> int:
    """A record batch with one wrong bit; its offset. The embedded broker does not look."""
    await producer.partitions_for(topic)
    batch = bytearray(packed(0, [b"some event"]))
    batch[-1] ^= 1
    node = producer.client.cluster.leader_for_partition(TopicPartition(topic, 0))
    request = ProduceRequest(
        transactional_id=None,
        required_acks=-1,
        timeout=5_000,
        topics=[(topic, [(0, bytes(batch))])],
    )
    [(_, [(_, error, offset, *_)])] = (await producer.client.send(node, request)).topics
    assert error == 0
    return int(offset)


UNREADABLE: dict[str, tuple[Callable[[AIOKafkaProducer, str], Awaitable[int]], str]] = {
    "bomb": (send_bomb, "do not decompress within 1,000,000 bytes (worker.max_batch_mb)"),
    "wrong bit": (send_damaged, "wrong checksum: damaged on the broker's disk or on the way"),
}


def send_unreadable(settings: Settings, kind: str) -> int:
    async def run() -> int:
        producer = AIOKafkaProducer(
            bootstrap_servers=settings.kafka.bootstrap,
            compression_type="zstd",
            max_batch_size=2 * BOMB_BYTES,
            max_request_size=2 * BOMB_BYTES,
        )
        await producer.start()
        try:
            return await UNREADABLE[kind][0](producer, settings.kafka.topic)
        finally:
            await producer.stop()

    return asyncio.run(run())


@pytest.mark.parametrize("kind", UNREADABLE)
def test_a_batch_that_cannot_be_read_halts_its_partition_and_is_counted_as_lost_once_skipped(
    broker: Broker, redis_server: RedisServer, redis_client: redis.Redis, tmp_path: Path, kind: str
) -> None:
    settings = worker_settings(broker, redis_server.url, 2, max_batch_mb=1, **TARGETS)
    state, parts = State(settings, redis_client), [events(2_000, seed=seed) for seed in (1, 2)]
    # Ten minutes of events before the bad batch, and ten from an hour later on after it.
    parts[1] = [(key, moved(record, 3_600_000)) for key, record in parts[1]]
    first = send(settings.kafka, parts[0])
    with WorkerProcess(settings, tmp_path / "worker.log") as worker:
        state.wait_for(first)
        bad = send_unreadable(settings, kind)
        assert bad == first[0]
        last = send(settings.kafka, parts[1])
        wait_halted(redis_client, settings, 0, "unreadable")
        state.wait_for({1: last[1]})
        assert state.offset(0) == bad
        assert f"offset={bad}: halted (unreadable)" in worker.log
        assert UNREADABLE[kind][1] in worker.log
        assert "`tokenpulse partitions move` resumes after it" in worker.log
        halted = {"partition": "0", "reason": "unreadable"}
        assert exported(settings, "tokenpulse_partition_halted", **halted) == 1

        refused = tokenpulse(
            *("partitions", "move", 0, "--to", bad, "--reason", "no", "--yes"), settings=settings
        )
        assert refused.returncode == 2
        assert f"--to: got {bad}" in refused.stderr
        done = tokenpulse(
            *("partitions", "move", 0, "--to", bad + 1, "--reason", "nothing in it", "--yes"),
            settings=settings,
        )
        assert done.returncode == 0, done.stderr
        state.wait_for(last)
        assert exported(settings, "tokenpulse_lost_records_total", partition="0") == 1
        assert worker.stop() == 0
    logs = {partition: sent(partition, *parts) for partition in range(2)}
    assert_recounted(redis_client, settings, logs)
    answer = report(settings, step_s=600)
    assert answer["lost_records"] == 1
    assert [gap["records"] for gap in answer["gaps"]] == [1]
    assert answer["total"]["complete"] is False
    # Not complete is what lies between the last event before it and the first one after it.
    times_ms = [[event["ended_at"] for event, _ in sent(0, part)] for part in parts]
    from_ms, to_ms = max(times_ms[0]), times_ms[1][0]
    complete = {seconds(step["start"]): step["measures"]["complete"] for step in answer["steps"]}
    assert complete == {
        start_s: to_ms < start_s * 1_000 or (start_s + 600) * 1_000 <= from_ms
        for start_s in complete
    }
    assert {*complete.values()} == {True, False}


def sent(partition: int, *parts: Sequence[Record]) -> Log:
    """The log of a partition, without the record that cannot be read."""
    now_ms = time.time_ns() // 1_000_000
    return [
        (json.loads(value), now_ms) for part in parts for _, value in of_partition(partition, part)
    ]


def moved(record: bytes, by_ms: int) -> bytes:
    event = json.loads(record)
    return json.dumps(event | {"ended_at": event["ended_at"] + by_ms}).encode()


# --- a Redis that would throw state away ----------------------------------------------------------


def test_a_redis_set_to_evict_is_not_written_to_until_it_is_set_right_again(
    broker: Broker, tmp_path: Path
) -> None:
    with RedisProcess("embedded", tmp_path / "redis") as server, server.client() as client:
        settings = worker_settings(broker, server.url, 1, **TARGETS)
        state, parts = State(settings, client), [events(1_000, seed=seed) for seed in range(2)]
        with WorkerProcess(settings, tmp_path / "worker.log") as worker:
            first = send(settings.kafka, parts[0])
            state.wait_for(first)
            client.config_set("maxmemory-policy", "allkeys-lru")
            wait_halted(client, settings, 0, "store_policy")
            before = client.hgetall(state.key(0))
            last = send(settings.kafka, [*parts[1], (b"mark", b"{")])
            dead_letters(settings.kafka, 1)  # counted, all of it
            assert client.hgetall(state.key(0)) == before
            assert "run `CONFIG SET maxmemory-policy noeviction`" in worker.log
            detail = client.hget(
                Keys(settings.kafka.group, settings.kafka.topic).heartbeat(0), "halted_detail"
            )
            assert b"allkeys-lru" in detail
            client.config_set("maxmemory-policy", "noeviction")
            state.wait_for(last)
            wait_halted(client, settings, 0, "")
            assert worker.stop() == 0
        assert worker.log.count("claimed as") == 1
        assert_recounted(client, settings, logs_of(broker, settings, sum(last.values())))
