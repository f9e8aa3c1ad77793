"""Whatever becomes of the workers on the way, the state is the same bit for bit."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streams.config.settings import Settings
from streams.simulator.generator import Traffic, load_timeline
from streams.simulator.profile import Profile
from streams.sources.reading import load_mapping, read_rows
from streams.sources.rows import Row
from tests.support.answers import FILES, assert_counts
from tests.support.feed import Feed
from tests.support.servers import Broker, RedisServer
from tests.support.traces import TRACES, reference
from tests.support.worker_process import (
    State,
    WorkerProcess,
    dead_letters,
    make_topics,
    origin,
    regrouped,
    report,
    worker_settings,
)

pytestmark = pytest.mark.slow

KILLS = 5
SIMULATED_AT_MS = 1_735_866_000_000  # two days after the Claude sessions
COPIES = 3


PARTITIONS = 3


def flow() -> list[tuple[int, list[tuple[bytes, bytes]]]]:
    """All that is sent in the test below, in parts of about a thousand with their timestamps."""
    sessions, minutes = session_rows(), list(simulated_minutes())
    return [
        *((minutes[0][0], sessions[at : at + 1_000]) for at in range(0, len(sessions), 1_000)),
        *minutes,
    ]


def session_rows() -> list[tuple[bytes, bytes]]:
    """The Claude sessions as often as COPIES says, under other request ids; none without them."""
    trace = "claude_code_sessions"
    if not TRACES.is_dir():
        return []
    rows = list(read_rows(TRACES / trace / FILES[trace], load_mapping(trace)))
    return [
        (name.encode(), json.dumps(row.event | {"request_id": name}).encode())
        for copy in range(COPIES)
        for row in rows
        if isinstance(row, Row)
        for name in [f"{row.event['request_id']}-{copy}"]
    ]


def simulated_minutes() -> Iterator[tuple[int, list[tuple[bytes, bytes]]]]:
    """An hour of simulated traffic with late, doubled and broken records, minute by minute."""
    timeline = load_timeline("tour").beginning_at(SIMULATED_AT_MS)
    for kind, share in (("malformed", 0.02), ("duplicates", 0.05)):
        timeline = timeline.with_scenario(kind, SIMULATED_AT_MS, 3_600, share=share)
    traffic = Traffic(Profile.default(30), 11, timeline)
    for minute in range(60):
        at_ms = SIMULATED_AT_MS + minute * 60_000
        yield (
            at_ms + 60_000,
            [(one.key, one.value) for one in traffic.records(at_ms, at_ms + 60_000)],
        )


def stored(redis_server: RedisServer, settings: Settings) -> dict[int, dict[bytes, bytes]]:
    """The state, without what says who wrote it when."""
    with redis_server.client() as client:
        found: dict[int, dict[bytes, bytes]] = {}
        for partition in range(settings.kafka.partitions):
            fields: dict[bytes, bytes] = client.hgetall(State(settings, client).key(partition))
            for name in (b"owner", b"flush", b"meta", b"index"):
                del fields[name]
            found[partition] = fields
        return found


def test_a_worker_killed_five_times_while_events_flow_gives_the_identical_report(
    broker: Broker, redis_server: RedisServer, tmp_path: Path
) -> None:
    killed = worker_settings(
        *(broker, redis_server.url, PARTITIONS),
        kafka={"session_timeout_s": 1, "heartbeat_interval_s": 0.2},
        flush_interval_s=0.05,
    )
    undisturbed = with_dead_letters_of_its_own(regrouped(killed, "undisturbed"))
    partitions, dice = range(PARTITIONS), random.Random(20_261_122)
    feed = Feed(killed.kafka, flow())
    with (
        redis_server.client() as client,
        WorkerProcess(undisturbed, tmp_path / "undisturbed.log"),
    ):
        state, before = State(killed, client), 0
        for number in range(1, KILLS + 1):
            window = feed.total // (KILLS + 1)
            feed.allowed = number * window
            target = feed.allowed - dice.uniform(0.1, 0.9) * window
            with WorkerProcess(killed, tmp_path / "killed.log") as worker:
                state.wait_past(partitions, max(before, target))
                worker.kill()
            now = state.counted(partitions)
            assert before < now < feed.total
            before = now
        ends = feed.finish()
        assert sum(ends.values()) == feed.total
        with WorkerProcess(killed, tmp_path / "killed.log"):
            state.wait_for(ends)
        State(undisturbed, client).wait_for(ends)
    questions: list[dict[str, Any]] = [
        {},
        {"by": ("model", "region", "channel", "service_tier")},
        {"by": ("customer", "model")},
        {"from_s": SIMULATED_AT_MS // 1_000 + 3_000, "step_s": 10},
    ]
    for question in questions:
        assert report(killed, **question) == report(undisturbed, **question)
    assert stored(redis_server, killed) == stored(redis_server, undisturbed)
    # Every refused record is at the other topic, at least once; the kills made some of them double.
    refused = sum(report(killed)["total"]["refused"].values())
    assert refused > 1_000
    letters = [dead_letters(settings.kafka, refused) for settings in (killed, undisturbed)]
    assert {origin(one) for one in letters[0]} == {origin(one) for one in letters[1]}
    assert len(letters[1]) == refused <= len(letters[0])
    if TRACES.is_dir():
        day = report(killed, to_s=SIMULATED_AT_MS // 1_000 - 3_600, step_s=86_400)["total"]
        told = reference("claude_code_sessions")
        names = ("rows", "input_tokens", "cached_input_tokens", "output_tokens")
        assert_counts(day, {name: COPIES * told[name] for name in names})


def with_dead_letters_of_its_own(settings: Settings) -> Settings:
    kafka = settings.kafka.model_copy(update={"dlq_topic": f"{settings.kafka.group}.dlq"})
    settings = settings.model_copy(update={"kafka": kafka})
    make_topics(settings)
    return settings
