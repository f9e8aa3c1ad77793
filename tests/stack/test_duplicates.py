"""Requests that are sent again are counted once, whatever becomes of the workers meanwhile."""

import json
import random
from pathlib import Path

import pytest
import redis

from tests.support.exporter_state import samples_of, value
from tests.support.oracle_counts import DUPLICATE
from tests.support.recounted import TARGETS, assert_recounted, logs_of, recounted
from tests.support.servers import Broker, RedisServer, wait_until
from tests.support.worker_process import (
    START_S,
    State,
    WorkerProcess,
    regrouped,
    report,
    send,
    worker_settings,
)
from tests.support.worker_stories import AT_MS, Record

pytestmark = pytest.mark.slow

MINUTES = 50
REQUESTS = 5_000


def traffic(seed: int) -> list[Record]:
    """Requests of almost an hour. Every fourth record is an earlier one sent again, up to a quarter
    of an hour later: half of these byte for byte, half with the time at which they are sent."""
    dice = random.Random(seed)
    sent: list[dict[str, object]] = []
    for number in range(REQUESTS):
        at_ms = AT_MS + number * MINUTES * 60_000 // REQUESTS
        event: dict[str, object] = {
            "request_id": f"r-{seed}-{number}",
            "ended_at": at_ms - dice.randrange(3_000),
            "model": dice.choice(("small", "large")),
            "outcome": "success",
            "input_tokens": dice.randrange(1, 2_000),
            "output_tokens": dice.randrange(500),
            "ttft_ms": dice.randrange(50, 900),
            "duration_ms": 5_000,
        }
        if sent and dice.random() < 0.25:
            event = dict(dice.choice(sent[-REQUESTS * 15 // MINUTES :]))
            if dice.random() < 0.5:
                event["ended_at"] = at_ms
        sent.append(event)
    return [(str(one["request_id"]).encode(), json.dumps(one).encode()) for one in sent]


def test_what_is_sent_again_counts_once_over_kills_stops_and_rebalances(
    broker: Broker, redis_server: RedisServer, redis_client: redis.Redis, tmp_path: Path
) -> None:
    settings = worker_settings(broker, redis_server.url, 2, dedup_window_s=600, **TARGETS)
    every = regrouped(settings, "counts-all")
    every = every.model_copy(
        update={"worker": every.worker.model_copy(update={"dedup_window_s": 0})}
    )
    state, partitions, flow = State(settings, redis_client), range(2), traffic(seed=1)
    fifth = REQUESTS // 5
    parts = [flow[at : at + fifth] for at in range(0, REQUESTS, fifth)]
    with WorkerProcess(every, tmp_path / "every.log") as counts_all:
        with WorkerProcess(settings, tmp_path / "killed.log") as worker:
            send(settings.kafka, parts[0][: fifth // 2])
            state.wait_past(partitions, fifth // 4)
            send(settings.kafka, parts[0][fifth // 2 :])
            worker.kill()
        with WorkerProcess(settings, tmp_path / "stopped.log") as worker:
            state.wait_for(send(settings.kafka, parts[1]))
            assert worker.stop() == 0
        with WorkerProcess(settings, tmp_path / "first.log") as first:
            state.wait_for(send(settings.kafka, parts[2]))
            with WorkerProcess(settings, tmp_path / "second.log") as second:
                ends = send(settings.kafka, parts[3])
                wait_until(lambda: len(state.workers(partitions)) == 2, "two share", START_S)
                state.wait_for(ends)
                assert first.stop() == 0
                ends = send(settings.kafka, parts[4])
                state.wait_for(ends)
                assert second.stop() == 0
        State(every, redis_client).wait_for(ends)
        assert counts_all.stop() == 0
    logs = logs_of(broker, settings, REQUESTS)
    assert_recounted(redis_client, settings, logs)
    assert_recounted(redis_client, every, logs)
    found = [recounted(settings, log).count.everything()["refused"] for log in logs.values()]
    twice = sum(refused[DUPLICATE] for refused in found)
    ids = len({key for key, _ in flow})
    assert 0 < twice < REQUESTS - ids  # those sent again after the window count again
    total = report(settings)["total"]
    assert (total["duplicates"], total["requests"]) == (twice, REQUESTS - twice)
    assert value(samples_of(settings, AT_MS / 1_000), "tokenpulse_duplicates_total") == twice
    total = report(every)["total"]
    assert (total["duplicates"], total["requests"]) == (0, REQUESTS)
