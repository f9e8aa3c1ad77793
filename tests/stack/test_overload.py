"""More than was meant for one worker: a silent Redis under full input, floods of names, a backlog
of a week. Memory stays bounded, and nothing is lost or counted in the wrong place.
"""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
import redis

from bench.pipeline import make_events
from streams.config.settings import Settings
from streams.kafka.producer import EventProducer
from tests.support.exporter_state import export
from tests.support.kafka_admin import delete_topic
from tests.support.recounted import TARGETS, assert_recounted, logs_of
from tests.support.redis_proxy import RedisProxy
from tests.support.servers import Broker, RedisServer, wait_until
from tests.support.worker_process import (
    START_S,
    State,
    WorkerProcess,
    report,
    send,
    worker_settings,
)
from tests.support.worker_stories import AT_MS, Record

pytestmark = pytest.mark.slow

MB = 1_048_576


def peak_bytes(state: State) -> int:
    """Most memory that the one worker ever had; its name ends in its process id."""
    [worker] = state.workers([0])
    status = Path(f"/proc/{worker.rpartition(':')[2]}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1_024


# --- a silent Redis under full input --------------------------------------------------------------

BACKLOG, CHUNK = 1_100_000, 100_000  # beyond worker.backlog_max_events


class Told(msgspec.Struct):
    """What is recounted of an event."""

    model: str
    outcome: str
    input_tokens: int
    output_tokens: int


async def send_backlog(settings: Settings) -> tuple[dict[int, int], dict[str, Counter[str]]]:
    """The ends of the partitions, and what is told of each model."""
    told: dict[str, Counter[str]] = {}
    decode = msgspec.json.Decoder(Told).decode
    async with EventProducer(settings.kafka, compression="none") as producer:
        for first in range(0, BACKLOG, CHUNK):
            part = make_events(first, CHUNK, BACKLOG, AT_MS)
            await producer.send_many(part)
            for _, event in part:
                one = decode(event)
                count = told.setdefault(one.model, Counter())
                count[one.outcome] += 1
                count["input"] += one.input_tokens
                count["output"] += one.output_tokens
        await producer.flush()
        return dict(producer.end_offsets), told


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_a_silent_redis_under_full_input_costs_neither_memory_nor_a_record_nor_the_partitions(
    broker: Broker, redis_server: RedisServer, redis_client: redis.Redis, tmp_path: Path
) -> None:
    port = urlsplit(redis_server.url).port
    assert port is not None
    with RedisProxy(port) as proxy:
        near = worker_settings(broker, redis_server.url, 4, flush_interval_s=1)
        far = near.model_copy(update={"redis": near.redis.model_copy(update={"url": proxy.url})})
        state = State(near, redis_client)
        with WorkerProcess(far, tmp_path / "worker.log") as worker:
            wait_until(lambda: worker.log.count("claimed as 1:") == 4, "it begins", START_S)
            proxy.hold()
            ends, told = asyncio.run(send_backlog(near))
            wait_until(lambda: worker.log.count("trying again") >= 2, "it tries", 60)
            assert state.counted(ends) == 0
            proxy.mend()
            state.wait_for(ends)
            assert peak_bytes(state) < 500 * MB
            assert worker.stop() == 0
    # In all this time, many times the session's, it was in the group, and claimed nothing again.
    assert worker.log.count("Joined group") == 1
    assert worker.log.count("claimed as") == 4
    answer = report(near, by=("model",))
    assert sum(ends.values()) == answer["total"]["requests"] == BACKLOG
    for group in answer["groups"]:
        found, own = group["total"], told.pop(group["key"]["model"])
        assert found["tokens"]["input"] == own.pop("input")
        assert found["tokens"]["output"] == own.pop("output")
        assert {name: count for name, count in found["outcomes"].items() if count} == own
    assert not told
    delete_topic(near.kafka)  # half a gigabyte of the broker's memory


# --- a flood of names -----------------------------------------------------------------------------

NAMES = 200_000


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_a_flood_of_names_folds_into_one_and_leaves_memory_and_redis_small(
    broker: Broker, redis_server: RedisServer, redis_client: redis.Redis, tmp_path: Path
) -> None:
    settings = worker_settings(broker, redis_server.url)
    flood = [
        (
            b"%d" % number,
            b'{"request_id":"%d","ended_at":%d,"model":"model-%d","outcome":"success",'
            b'"customer_id":"customer-%d","input_tokens":7}' % (number, AT_MS, number, number),
        )
        for number in range(NAMES)
    ]
    state = State(settings, redis_client)
    with WorkerProcess(settings, tmp_path / "worker.log") as worker:
        state.wait_for(send(settings.kafka, flood))
        assert peak_bytes(state) < 400 * MB
        assert worker.stop() == 0
    assert int(redis_client.memory_usage(state.key(0), samples=0)) < 20 * MB  # type: ignore[arg-type]
    limits = settings.worker.limits
    lines = export(settings, AT_MS / 1_000).page.text(openmetrics=False).decode().splitlines()
    for by, limit in (("model", limits.models), ("customer", limits.customers)):
        assert f'tokenpulse_folded_total{{dimension="{by}"}} {NAMES - limit}' in lines
        answer = report(settings, by=(by,))
        assert answer["total"]["requests"] == NAMES
        groups = {group["key"][by]: group["total"]["requests"] for group in answer["groups"]}
        assert len(groups) == limit + 1
        assert groups["__other__"] == NAMES - limit


# --- a backlog of a week --------------------------------------------------------------------------

DAY_MS = 86_400_000
MIDNIGHT_MS = AT_MS // DAY_MS * DAY_MS
WEEK = 6_000


def week() -> Iterator[dict[str, Any]]:
    """Events of seven days, some of them late by minutes, hours or a day."""
    dice = random.Random(7)
    for number in range(WEEK):
        late_ms = dice.choice((0, 0, 0, 60_000, 1_800_000, 4 * 3_600_000, DAY_MS))
        at_ms = MIDNIGHT_MS + number * 7 * DAY_MS // WEEK
        yield {
            "request_id": f"w-{number}",
            "ended_at": max(MIDNIGHT_MS, at_ms - dice.randrange(late_ms + 1)),
            "model": dice.choice(("small", "large")),
            "outcome": dice.choice(("success", "success", "timeout")),
            "input_tokens": dice.randrange(1, 2_000),
            "ttft_ms": dice.randrange(50, 900),
            "duration_ms": 5_000,
        }


def test_a_backlog_of_a_week_is_counted_into_the_days_it_is_about(
    broker: Broker, redis_server: RedisServer, redis_client: redis.Redis, tmp_path: Path
) -> None:
    settings = worker_settings(
        broker, redis_server.url, 2, {"fetch_max_partition_bytes": 65_536}, **TARGETS
    )
    told = list(week())
    backlog: list[Record] = [
        (event["request_id"].encode(), json.dumps(event).encode()) for event in told
    ]
    ends: dict[int, int] = {}
    for at in range(0, WEEK, WEEK // 14):  # nobody reads it for a week
        ends |= send(settings.kafka, backlog[at : at + WEEK // 14])
    state = State(settings, redis_client)
    with WorkerProcess(settings, tmp_path / "worker.log") as worker:
        state.wait_for(ends)
        assert worker.stop() == 0
    answer = report(settings, from_s=MIDNIGHT_MS // 1_000, step_s=86_400)
    assert len(answer["steps"]) == 7
    for day, step in enumerate(answer["steps"]):
        own = [event for event in told if (event["ended_at"] - MIDNIGHT_MS) // DAY_MS == day]
        found = step["measures"]
        assert found["requests"] == len(own) > 0
        assert found["tokens"]["input"] == sum(event["input_tokens"] for event in own)
        outcomes = Counter(event["outcome"] for event in own)
        assert found["outcomes"]["timeout"] == outcomes["timeout"]
        assert found["ttft_seconds"]["count"] == outcomes["success"]
        assert found["complete"] is True
    assert_recounted(redis_client, settings, logs_of(broker, settings, WEEK))
