"""Faults round a worker's own process: its consumer breaks, its clock is wrong, nobody takes its
dead letters, the group moves on while it loads.
"""

import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import pytest
import redis

from streams.config.settings import Settings
from streams.store.keys import Keys
from streams.watchdog import EXIT_CODE
from tests.support.apache_kafka import ApacheKafka
from tests.support.event_samples import raw
from tests.support.kafka_admin import configure_topic
from tests.support.recounted import TARGETS, assert_recounted, logs_of
from tests.support.redis_proxy import Fate, RedisProxy
from tests.support.servers import Broker, RedisServer, wait_until
from tests.support.worker_process import (
    START_S,
    State,
    WorkerProcess,
    dead_letters,
    origin,
    report,
    send,
    worker_settings,
)
from tests.support.worker_stories import Record, assert_counted, events

pytestmark = pytest.mark.slow


@contextmanager
def altered(directory: Path, program: str) -> Iterator[None]:
    """Worker processes that are started meanwhile run this program first."""
    first, python = directory / "first.py", directory / "python"
    first.write_text(
        f"{textwrap.dedent(program)}\n"
        "import runpy, sys\n"
        "sys.argv = ['tokenpulse', 'worker']\n"
        "runpy.run_module('tokenpulse.cli.main', run_name='__main__')\n"
    )
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{first}"\n')
    python.chmod(0o755)
    with patch.object(sys, "executable", str(python)):
        yield


BREAKING = """
from streams.kafka.transport import BatchThread

fetched, before = BatchThread._next_batches, []

async def breaks(self, *arguments):
    found = await fetched(self, *arguments)
    if found and before:
        raise RuntimeError("the fault of the test")
    before.extend(found)
    return found

BatchThread._next_batches = breaks
"""


def test_a_worker_whose_consumer_thread_breaks_ends_and_the_next_one_counts_everything(
    broker: Broker, redis_server: RedisServer, state_of: Any, tmp_path: Path
) -> None:
    settings, parts = worker_settings(broker, redis_server.url), [events(500), events(500, seed=2)]
    state = state_of(settings)
    with altered(tmp_path, BREAKING), WorkerProcess(settings, tmp_path / "one.log") as worker:
        state.wait_for(send(settings.kafka, parts[0]))
        ends = send(settings.kafka, parts[1])
        assert worker.ended() > 0
        assert "the fault of the test" in worker.log
    assert not state.has(ends)
    with WorkerProcess(settings, tmp_path / "two.log") as worker:
        state.wait_for(ends)
        assert worker.stop() == 0
    assert_counted(settings, *parts)


CLOCK = """
import pathlib, time

told, real, real_ns = pathlib.Path({path!r}), time.time, time.time_ns
time.time = lambda: real() + int(told.read_text())
time.time_ns = lambda: real_ns() + int(told.read_text()) * 10**9
"""


HOUR_S = 3_600


def set_clock(clock: Path, shift_s: int) -> None:
    """At once: a worker that finds the file half written has no time at all."""
    fresh = clock.with_suffix(".new")
    fresh.write_text(f"{shift_s}")
    fresh.replace(clock)


def reports_clock(redis_client: redis.Redis, settings: Settings, shift_s: int) -> bool:
    """Whether the heartbeat has the worker's clock, and the right time all the same."""
    key = Keys(settings.kafka.group, settings.kafka.topic).heartbeat(0)
    fields = cast(dict[bytes, bytes], redis_client.hgetall(key))
    if not fields.get(b"clock_offset_s"):
        return False
    age_s = time.time() - int(fields[b"at_ms"]) / 1_000
    is_seen = abs(float(fields[b"clock_offset_s"]) - shift_s) < 5
    return is_seen and abs(age_s) < 30 and int(fields[b"clock_agrees"]) == (shift_s == 0)


def test_a_clock_an_hour_fast_or_slow_or_set_while_it_counts_changes_no_number(
    broker: Broker, redis_server: RedisServer, redis_client: redis.Redis, tmp_path: Path
) -> None:
    settings = worker_settings(broker, redis_server.url, **TARGETS)
    state, now_ms = State(settings, redis_client), time.time_ns() // 1_000_000
    clock = tmp_path / "clock"
    set_clock(clock, HOUR_S)
    total = 0
    with (
        altered(tmp_path, CLOCK.format(path=str(clock))),
        WorkerProcess(settings, tmp_path / "worker.log") as worker,
    ):
        for part, shift_s in enumerate((HOUR_S, -HOUR_S, 0)):
            # Just within and just beyond what may lie ahead of the record's own time; and late.
            ahead_ms = [0, 299_000, 301_000, -700_000, HOUR_S * 1_000, -HOUR_S * 1_000] * 50
            records: list[Record] = [
                (None, raw(request_id=f"{part}-{number}", ended_at=now_ms + by_ms))
                for number, by_ms in enumerate(ahead_ms)
            ]
            set_clock(clock, shift_s)
            total += len(records)
            state.wait_for(send(settings.kafka, records, timestamps_ms=[now_ms]))
            wait_until(partial(reports_clock, redis_client, settings, shift_s), "its clock", 30)
        assert worker.stop() == 0
    assert report(settings)["total"]["refused"] == {"from_the_future": 3 * 2 * 50}
    assert_recounted(redis_client, settings, logs_of(broker, settings, total))


@pytest.mark.stack
def test_while_the_broker_does_not_take_the_dead_letters_no_checkpoint_passes_them(
    apache_kafka: ApacheKafka, redis_server: RedisServer, state_of: Any, tmp_path: Path
) -> None:
    settings = worker_settings(apache_kafka.broker, redis_server.url)
    state, parts = state_of(settings), [events(500), events(500, seed=2)]
    dlq = settings.kafka.model_copy(update={"topic": settings.kafka.dlq_topic})
    configure_topic(dlq, {"max.message.bytes": "1"})
    with WorkerProcess(settings, tmp_path / "one.log") as worker:
        state.wait_for(send(settings.kafka, parts[0]))
        ends = send(settings.kafka, [(b"bad", b"{"), *parts[1]])
        assert worker.ended(60) == EXIT_CODE
        assert "ending this worker: an unexpected error while writing a checkpoint" in worker.log
    assert state.offset(0) == 500
    configure_topic(dlq, {})
    with WorkerProcess(settings, tmp_path / "two.log") as worker:
        state.wait_for(ends)
        assert worker.stop() == 0
    assert {origin(one) for one in dead_letters(settings.kafka, 1)} == {
        (settings.kafka.topic, 0, 500)
    }
    assert_counted(settings, *parts)


def test_a_rebalance_while_a_worker_loads_moves_what_it_had_not_begun_to_count(
    broker: Broker, redis_server: RedisServer, state_of: Any, tmp_path: Path
) -> None:
    near = worker_settings(broker, redis_server.url, partitions=2)
    state, parts = state_of(near), [events(1_000), events(1_000, seed=2)]
    with RedisProxy(int(redis_server.url.rpartition(":")[2].partition("/")[0])) as proxy:
        far = near.model_copy(update={"redis": near.redis.model_copy(update={"url": proxy.url})})
        send(near.kafka, parts[0])
        claims = [proxy.next("CLAIM", Fate.HELD) for _ in range(2)]
        with WorkerProcess(far, tmp_path / "slow.log") as slow:
            wait_until(lambda: proxy.seen["CLAIM"] >= 2, "it loads", START_S)
            with WorkerProcess(near, tmp_path / "other.log") as other:
                wait_until(lambda: "claimed as" in other.log, "the other has a share", START_S)
                ends = send(near.kafka, parts[1])
                for claim in claims:
                    claim.release()
                state.wait_for(ends)
                assert {slow.stop(), other.stop()} == {0}
    assert_counted(near, *parts)
