"""Behaviour of workers that holds on every broker: the tests, and the events that they send."""

import json
import random
import re
import signal
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from streams.config.settings import Settings
from tests.support.servers import Broker, RedisServer, wait_until
from tests.support.worker_process import (
    START_S,
    WorkerProcess,
    dead_letters,
    headers,
    origin,
    report,
    send,
    send_raw,
    worker_settings,
)

AT_MS = 1_760_000_000_000


Record = tuple[bytes | None, bytes]


def events(count: int, seed: int = 1) -> list[Record]:
    """Events of three models over some ten minutes, not quite in order."""
    dice = random.Random(seed)
    found: list[Record] = []
    for number in range(count):
        request_id = f"r-{seed}-{number}"
        event = {
            "request_id": request_id,
            "ended_at": AT_MS + number * 600_000 // count - dice.randrange(5_000),
            "model": dice.choice(("small", "medium", "large")),
            "outcome": dice.choice(("success", "success", "success", "timeout")),
            "customer_id": f"customer-{dice.randrange(50)}",
            "input_tokens": dice.randrange(1, 2_000),
            "output_tokens": dice.randrange(500),
            "ttft_ms": dice.randrange(50, 900),
            "duration_ms": 5_000,
        }
        found.append((request_id.encode(), json.dumps(event).encode()))
    return found


def assert_counted(settings: Settings, *sent: Sequence[Record]) -> None:
    """Each event once: requests, outcomes and tokens per model, samples of a latency."""
    told = [json.loads(value) for part in sent for _, value in part]
    answer = report(settings, by=("model",))
    assert answer["total"]["requests"] == len(told)
    for group in answer["groups"]:
        found = group["total"]
        own = [event for event in told if event["model"] == group["key"]["model"]]
        outcomes = Counter(event["outcome"] for event in own)
        assert {name: n for name, n in found["outcomes"].items() if n} == outcomes
        for name in ("input", "output"):
            assert found["tokens"][name] == sum(event[f"{name}_tokens"] for event in own)
        assert found["ttft_seconds"]["count"] == outcomes["success"]
    assert len(answer["groups"]) == 3


GOOD = {
    "request_id": "good",
    "ended_at": AT_MS,
    "model": "m",
    "outcome": "success",
    "input_tokens": 1,
    "customer_id": "customer-of-secret-name",
}


BROKEN: list[tuple[bytes | None, bytes | None, str]] = [
    (b"k0", b"{", "not_json"),
    (None, b"\xff\xfe\x00", "not_json"),
    (b"k2", None, "empty"),  # a tombstone
    (b"k3", b"", "empty"),
    (b"\x00\xff", json.dumps(GOOD | {"outcome": None}).encode(), "missing_field"),
    (b"k5", json.dumps(GOOD | {"ended_at": "secret"}).encode(), "bad_type"),
    (b"k6", json.dumps(GOOD | {"ended_at": 4_070_908_800_000}).encode(), "from_the_future"),
    (b"k7", json.dumps(GOOD | {"ended_at": -1}).encode(), "out_of_range"),
    (b"k8", b" " * 300_000, "too_large"),
    (b"k9", b"[" * 300 + b"]" * 300, "too_deep"),
]


def test_refused_records_arrive_byte_for_byte_with_headers_before_the_offset_passes_them(
    broker: Broker, redis_server: RedisServer, state_of: Any, tmp_path: Path
) -> None:
    settings = worker_settings(broker, redis_server.url)
    good = (b"good", json.dumps(GOOD).encode())
    sent: list[tuple[bytes | None, bytes | None]] = [good]
    for key, value, _ in BROKEN:
        sent += [(key, value), good]
    ends = send_raw(settings.kafka, sent)
    with WorkerProcess(settings, tmp_path / "worker.log"):
        state_of(settings).wait_for(ends)
    # The offset is past them: they must be there, without any waiting.
    letters = dead_letters(settings.kafka, len(BROKEN), timeout_s=5)
    [log] = broker.read(settings.kafka.topic, len(sent)).values()
    assert [origin(one)[2] for one in letters] == list(range(1, len(sent), 2))
    for letter, (key, value, reason) in zip(letters, BROKEN, strict=True):
        told = headers(letter)
        offset = origin(letter)[2]
        assert (log[offset].key, log[offset].value) == (key, value)  # what was sent is in the log
        assert letter.key == key
        assert letter.value == (value or b"")
        assert (told.get("null_value") == "true") is (value is None)
        assert told.keys() - {"null_value"} == {
            *("topic", "partition", "offset", "timestamp_ms", "reason", "detail")
        }
        assert origin(letter)[:2] == (settings.kafka.topic, 0)
        assert told["timestamp_ms"] == str(log[offset].timestamp)
        assert told["reason"] == reason
        assert "secret" not in str(letter.headers)
    assert report(settings)["total"]["refused"] == Counter(reason for _, _, reason in BROKEN)
    assert "secret" not in (tmp_path / "worker.log").read_text()


# Read after all events of a part: once its letter is there, the worker has counted the part.
MARK: Record = (b"mark", b"{")


NEVER_S = 60  # no checkpoint by itself within a test


def test_sigterm_writes_what_is_counted_and_the_next_worker_reads_nothing_twice(
    broker: Broker, redis_server: RedisServer, state_of: Any, tmp_path: Path
) -> None:
    settings = worker_settings(broker, redis_server.url, flush_interval_s=NEVER_S)
    state, first = state_of(settings), events(3_000)
    ends = send(settings.kafka, [*first, MARK])
    with WorkerProcess(settings, tmp_path / "one.log") as worker:
        dead_letters(settings.kafka, 1)
        assert state.counted(ends) == 0
        worker.signal(signal.SIGTERM)
        assert worker.ended(timeout_s=10) == 0
        assert list(worker.directory.iterdir()) == []  # all it has to keep is in Redis
    assert state.has(ends)
    assert_counted(settings, first)
    second = events(500, seed=2)
    later = send(settings.kafka, second)
    with WorkerProcess(settings, tmp_path / "two.log") as worker:
        send(settings.kafka, [MARK])
        dead_letters(settings.kafka, 2)
        assert re.search(rf"offset={ends[0]}: claimed as 2:\w+", worker.log)
        assert worker.stop() == 0
    assert state.has({0: later[0] + 1})
    assert_counted(settings, first, second)


@pytest.mark.slow
def test_workers_that_join_and_leave_share_the_partitions_and_lose_nothing(
    broker: Broker, redis_server: RedisServer, state_of: Any, tmp_path: Path
) -> None:
    settings = worker_settings(broker, redis_server.url, partitions=4)
    state, partitions = state_of(settings), range(4)
    parts = [events(4_000, seed=seed) for seed in range(5)]
    with (
        WorkerProcess(settings, tmp_path / "one.log"),
        WorkerProcess(settings, tmp_path / "two.log"),
    ):
        send(settings.kafka, parts[0])
        wait_until(lambda: len(state.workers(partitions) - {""}) == 2, "two share", START_S)
        send(settings.kafka, parts[1])
        with WorkerProcess(settings, tmp_path / "three.log") as third:
            send(settings.kafka, parts[2])
            wait_until(lambda: len(state.workers(partitions)) == 3, "three share", START_S)
            send(settings.kafka, parts[3])
            assert third.stop() == 0
        ends = send(settings.kafka, parts[4])
        state.wait_for(ends)
        wait_until(lambda: len(state.workers(partitions)) == 2, "two share again", START_S)
    assert_counted(settings, *parts)


@pytest.mark.slow
def test_a_worker_frozen_past_its_session_cannot_write_when_it_wakes_up(
    broker: Broker, redis_server: RedisServer, state_of: Any, tmp_path: Path
) -> None:
    # The zombie has counted everything and written nothing; then it sleeps, and is replaced.
    zombie_s = worker_settings(broker, redis_server.url, flush_interval_s=NEVER_S)
    living_s = zombie_s.model_copy(
        update={"worker": zombie_s.worker.model_copy(update={"flush_interval_s": 0.1})}
    )
    state, first, second = state_of(zombie_s), events(3_000), events(1_000, seed=2)
    ends = send(zombie_s.kafka, [*first, MARK])
    with WorkerProcess(zombie_s, tmp_path / "zombie.log") as zombie:
        dead_letters(zombie_s.kafka, 1)
        zombie.signal(signal.SIGSTOP)
        assert state.counted(ends) == 0
        with WorkerProcess(living_s, tmp_path / "living.log") as living:
            state.wait_for(ends)
            ends = send(zombie_s.kafka, second)
            zombie.signal(signal.SIGCONT)
            wait_until(lambda: "FENCED" in zombie.log, "its checkpoint is refused", START_S)
            state.wait_for(ends)
            assert zombie.stop() == 0
            third = events(1_000, seed=3)
            state.wait_for(send(zombie_s.kafka, third))
            assert living.stop() == 0
    assert_counted(zombie_s, first, second, third)
