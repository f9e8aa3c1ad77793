"""Redis forgets: all of it, or its latest writes. Kafka knows that there was something, and the
worker builds it again, from the archive where there is one.

In the end the state is that of a recount, or the archived one bit for bit.
"""

import asyncio
import re
import time
import zlib
from fractions import Fraction
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis

from exporters.daily.day.store import DayStore
from exporters.daily.delivery.sent import Sent, recipient_hash
from exporters.status_page.store import IncidentStore
from slo.engine.maintenance import ClosedPeriod, Maintenance
from slo.engine.minute_count_store import MinuteCountStore
from streams.config.settings import Settings
from streams.store.archive_topic import KafkaArchive
from streams.store.hash_archive import HashesPlace
from streams.store.keys import Keys
from streams.store.servers.client import connected
from tests.support.checks import not_none
from tests.support.exporter_state import named, samples_of
from tests.support.recounted import TARGETS, assert_recounted, logs_of, shelf_of
from tests.support.servers import Broker, RedisServer, wait_until
from tests.support.shelf import Shelf
from tests.support.status_pages import incident
from tests.support.worker_process import (
    START_S,
    State,
    WorkerProcess,
    report,
    send,
    worker_settings,
)
from tests.support.worker_stories import events

pytestmark = pytest.mark.slow


def total(settings: Settings, name: str) -> float:
    """A metric's sum over all partitions and workers."""
    return sum(named(samples_of(settings, time.time()), name).values())


def test_a_redis_emptied_under_a_running_worker_is_filled_again_to_the_same_numbers(
    broker: Broker, redis_server: RedisServer, redis_client: redis.Redis, tmp_path: Path
) -> None:
    settings = worker_settings(broker, redis_server.url, 2, **TARGETS)
    state, parts = State(settings, redis_client), [events(2_000, seed=seed) for seed in range(2)]
    ends = send(settings.kafka, parts[0])
    with WorkerProcess(settings, tmp_path / "worker.log") as worker:
        state.wait_for(ends)
        before = report(settings, by=("model",))
        redis_client.flushall()
        # One partition gets an event, the other one nothing: it must be noticed there as well.
        again = send(settings.kafka, [parts[0][-1]])
        [partition] = again
        ends |= again
        state.wait_for(ends)
        after = report(settings, by=("model",))
        assert after["total"].pop("duplicates") == before["total"].pop("duplicates") + 1
        for answer in (before, after):
            for step in answer["steps"]:
                del step["measures"]["duplicates"]
        assert after == before
        lost = rf"partition={partition} offset=\d+: state lost from the store, but this offset was "
        assert re.search(lost, worker.log)
        assert "rebuilt from the earliest record that Kafka still has" in worker.log
        assert total(settings, "tokenpulse_state_losses_total") == 2
        ends |= send(settings.kafka, parts[1])
        state.wait_for(ends)
        assert worker.stop() == 0
    assert_recounted(redis_client, settings, logs_of(broker, settings, sum(ends.values())))


def test_a_redis_emptied_while_no_worker_runs_is_filled_again_as_kafka_knows_better(
    broker: Broker, redis_server: RedisServer, redis_client: redis.Redis, tmp_path: Path
) -> None:
    settings = worker_settings(broker, redis_server.url, 2, **TARGETS)
    state = State(settings, redis_client)
    ends = send(settings.kafka, events(2_000))
    with WorkerProcess(settings, tmp_path / "one.log") as worker:
        state.wait_for(ends)
        assert worker.stop() == 0  # which commits
    before = report(settings)
    redis_client.flushall()
    with WorkerProcess(settings, tmp_path / "two.log") as worker:
        state.wait_for(ends)
        assert report(settings) == before
        for partition, end in ends.items():
            told = (
                f"partition={partition} offset={end}: state lost from the store, but this offset "
            )
            assert told in worker.log
        assert total(settings, "tokenpulse_state_losses_total") == 2
        ends = send(settings.kafka, events(500, seed=2))
        state.wait_for(ends)
        assert worker.stop() == 0
    assert_recounted(redis_client, settings, logs_of(broker, settings, sum(ends.values())))


def test_a_redis_set_back_under_a_running_worker_is_noticed_and_the_rest_counted_again(
    broker: Broker, redis_server: RedisServer, redis_client: redis.Redis, tmp_path: Path
) -> None:
    settings = worker_settings(broker, redis_server.url, 1, **TARGETS)
    state, parts = State(settings, redis_client), [events(1_000, seed=seed) for seed in range(3)]
    with WorkerProcess(settings, tmp_path / "worker.log") as worker:
        first = send(settings.kafka, parts[0])
        state.wait_for(first)
        old = not_none(redis_client.dump(state.key(0)))
        state.wait_for(send(settings.kafka, parts[1]))
        redis_client.restore(state.key(0), 0, old, replace=True)  # as a replica that lagged would
        last = send(settings.kafka, parts[2])
        state.wait_for(last)
        assert f"partition=0 offset={first[0]}: the store went back to this offset, " in worker.log
        wait_until(
            lambda: total(settings, "tokenpulse_state_rollbacks_total") == 1, "it says so", START_S
        )
        assert worker.stop() == 0
    assert_recounted(redis_client, settings, logs_of(broker, settings, sum(last.values())))
    assert report(settings)["total"]["duplicates"] == 0


# --- the archive ----------------------------------------------------------------------------------


def lasting(shelf: Shelf) -> dict[str, object]:
    """A state without what says when it was written, archived and put back."""
    meta = msgspec.structs.replace(
        shelf.meta, sequence=0, written_at_ms=0, archived_at_ms=0, rebuilt=0
    )
    return {**shelf.fields, "meta": meta, "offset": shelf.offset}


def wait_archived(worker: WorkerProcess, offset: int) -> None:
    line = re.compile(rf"offset={offset}: archived\b")
    wait_until(lambda: line.search(worker.log) is not None, "it is archived", START_S)


RESTORED = ": state lost from the store: restored from the archive"


def test_a_lost_state_comes_back_from_the_archive_bit_for_bit_and_goes_on(
    broker: Broker, redis_server: RedisServer, redis_client: redis.Redis, tmp_path: Path
) -> None:
    settings = worker_settings(broker, redis_server.url, 1, archive_interval_s=1, **TARGETS)
    state, parts = State(settings, redis_client), [events(1_500, seed=seed) for seed in range(3)]
    with WorkerProcess(settings, tmp_path / "one.log") as worker:
        ends = send(settings.kafka, parts[0])
        wait_archived(worker, ends[0])
        assert worker.stop() == 0
    before = lasting(shelf_of(redis_client, state.key(0)))
    redis_client.flushall()
    with WorkerProcess(settings, tmp_path / "two.log") as worker:
        state.wait_for(ends)
        assert worker.log.count(RESTORED) == worker.log.count(f"offset={ends[0]}{RESTORED}") == 1
        assert lasting(shelf_of(redis_client, state.key(0))) == before
        assert total(settings, "tokenpulse_state_losses_total") == 1
        # It knows what came before the state was lost, also when that happens while it runs.
        state.wait_for(send(settings.kafka, [*parts[1], *parts[0][-100:]]))
        redis_client.flushall()
        ends = send(settings.kafka, [*parts[2], *parts[1][-100:]])
        state.wait_for(ends)
        assert worker.log.count(RESTORED) == 2
        assert worker.stop() == 0
    assert report(settings)["total"]["duplicates"] == 200
    assert_recounted(redis_client, settings, logs_of(broker, settings, sum(ends.values())))


def test_a_redis_lost_whole_gets_back_what_neither_log_nor_state_can_rebuild(
    broker: Broker, redis_server: RedisServer, redis_client: redis.Redis, tmp_path: Path
) -> None:
    settings = worker_settings(broker, redis_server.url, 1, archive_interval_s=1, **TARGETS)
    state = State(settings, redis_client)
    prefix = Keys(settings.kafka.group, settings.kafka.topic).prefix
    window = Maintenance("w-1", 1_764_288_000, 1_764_291_600, "ann", "upgrade", 1_764_280_000)
    closed = ClosedPeriod(29_000_000, 29_001_440, Fraction(1_439, 2), 1_440, 1_764_280_000, ())
    minutes, opened = zlib.compress(bytes(range(256))), incident("investigating")

    async def write() -> None:
        client = connected(settings.redis)
        group, topic = settings.kafka.group, settings.kafka.topic
        store = MinuteCountStore(client, group, topic)
        await store.put_window(window)
        await store.write("p1", {0: (0, 1)}, {("c", None, 20_420): minutes}, {("eu", 7): closed})
        await DayStore(client, group, topic, "UTC").write_once("2026-11-27", b"day", b"detail")
        sent = Sent(client, group, topic, "2026-11-27")
        await sent.claim(1_764_280_000)
        incidents = IncidentStore(client, group, topic)
        await incidents.put(opened, opened.updates[0])
        await sent.note(recipient_hash("cro@example.com"), 1_764_280_000, "")
        await client.aclose()

    def hashes() -> dict[bytes, dict[bytes, bytes]]:
        client: Any = redis_client  # its answers are bytes
        keys = [key for key in client.keys(f"{prefix}*") if not key.endswith(b":hashes")]
        return {key: client.hgetall(key) for key in keys if client.type(key) == b"hash"}

    ends = send(settings.kafka, events(200))
    with WorkerProcess(settings, tmp_path / "worker.log") as worker:
        state.wait_for(ends)
        asyncio.run(write())
        before = hashes()
        assert len(before) == 6
        fields = sum(len(found) for found in before.values())
        wait_until(lambda: archived(settings) == fields + 1, "the hashes are archived", START_S)
        redis_client.flushall()
        wait_until(lambda: hashes() == before, "the hashes are restored", START_S)
        state.wait_for(ends)
        assert f"restored {fields} fields from the archive" in worker.log
        assert worker.stop() == 0


def archived(settings: Settings) -> int:
    """Return how many fields of hashes are in the archive, its sequence number included."""

    async def read() -> int:
        place = HashesPlace(settings.kafka.group, settings.kafka.topic, 0)
        return len(place.contents(await KafkaArchive(settings.kafka).live(place)))

    return asyncio.run(read())


def test_a_worker_without_the_archive_topic_it_needs_says_so_in_one_line(
    broker: Broker, redis_server: RedisServer, tmp_path: Path
) -> None:
    settings = worker_settings(
        broker, redis_server.url, kafka={"archive_topic": "nowhere"}, archive_interval_s=60
    )
    with WorkerProcess(settings, tmp_path / "worker.log") as worker:
        assert worker.ended() == 2
    [line] = worker.log.splitlines()
    assert "nowhere" in line
    assert "tokenpulse topics create" in line
