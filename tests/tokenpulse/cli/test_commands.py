"""Commands that talk to servers: produce, simulate, topics, report, up."""

import json
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import redis

from exporters.daily.day.facts import BoardTargets
from streams.config.settings import Settings
from tests.support.command import assert_one_line, run
from tests.support.processes import gone, is_running, started_stack
from tests.support.servers import Broker, RedisServer, wait_until
from tests.support.worker_process import (
    State,
    WorkerProcess,
    send,
    worker_settings,
)
from tokenpulse.cli.report import print_measures

# --- produce, simulate, topics

EVENT = {
    "request_id": "r-1",
    "ended_at": 1_760_000_000_000,
    "model": "m",
    "outcome": "success",
    "input_tokens": 10,
    "cached_input_tokens": 4,
    "output_tokens": 2,
    "region": "here",
    "customer_id": "c",
}
LINES = (json.dumps(EVENT).encode(), b'{"request_id": 7}', b"not json", b"", b"  ")


@pytest.mark.parametrize("way", ["file", "stdin"])
def test_produce_sends_lines_as_they_are_keyed_by_request_id(
    broker: Broker, tmp_path: Path, way: str
) -> None:
    settings = Settings(kafka=broker.new_kafka())
    data = b"\n".join(LINES)
    file = tmp_path / "events.jsonl"
    file.write_bytes(data)
    arguments = ["produce", str(file)] if way == "file" else ["produce", "-"]
    done = run(*arguments, settings=settings, send_in=None if way == "file" else data)
    assert done.exit_code == 0, done.output
    assert done.stdout == "3 events sent\n"  # blank lines are no events
    [log] = broker.read(settings.kafka.topic, 3).values()
    assert [(one.key, one.value) for one in log] == [
        (b"r-1", LINES[0]),
        (b"7", LINES[1]),
        (None, LINES[2]),
    ]


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    for path in (tmp_path / "absent", tmp_path):
        assert_one_line(run("produce", path), str(path), "cannot be read")
        assert_one_line(run("replay", path, "--mapping", "azure_llm_2023"), str(path))
    broken = tmp_path / "broken.csv.gz"
    broken.write_bytes(b"\x1f\x8b no gzip")
    assert_one_line(run("replay", broken, "--mapping", "azure_llm_2023"), str(broken))
    assert_one_line(run("replay", broken, "--mapping", "nobody_made_this"), "nobody_made_this")


def test_simulate_for_a_while_ending_now_is_bounded_and_repeatable(
    broker: Broker, tmp_path: Path
) -> None:
    settings = Settings(kafka=broker.new_kafka())
    arguments = ("simulate", "--for", "10m", "--ending-now", "--rate", 5, "--seed", 3)
    done = run(*arguments, settings=settings)
    assert done.exit_code == 0, done.output
    found = re.fullmatch(r"(\d+) records sent\n", done.stdout)
    assert found
    sent = int(found[1])
    assert 1_000 < sent < 9_000  # 600 s at 5 a second, give or take the hour of the day
    [log] = broker.read(settings.kafka.topic, sent).values()
    ended_ms = [json.loads(one.value)["ended_at"] for one in log]
    assert max(ended_ms) <= log[-1].timestamp
    assert min(ended_ms) >= log[0].timestamp - 3_600_000
    # Live for one second: bounded as well.
    assert run("simulate", "--for", "1s", settings=settings).exit_code == 0
    assert run("simulate", "--ending-now").exit_code == 2


def test_topics_are_created_once_and_then_left_alone(broker: Broker) -> None:
    kafka = broker.new_kafka().model_copy(
        update={
            "topic": "of-the-cli",
            "dlq_topic": "of-the-cli.dlq",
            "archive_topic": "of-the-cli.state",
            "partitions": 8,
        }
    )
    settings = Settings(kafka=kafka)
    assert run("topics", "create", settings=settings).stdout.splitlines() == [
        "of-the-cli: created with 8 partitions",
        "of-the-cli.dlq: created with 2 partitions",
        "of-the-cli.state: created with 8 partitions",
    ]
    assert run("topics", "create", settings=settings).stdout.splitlines() == [
        "of-the-cli: already there with 8 partitions, left alone",
        "of-the-cli.dlq: already there with 2 partitions, left alone",
        "of-the-cli.state: already there with 8 partitions, left alone",
    ]


# --- report


def test_report_as_json_has_exactly_the_documented_keys(
    broker: Broker, redis_server: RedisServer, redis_client: redis.Redis, tmp_path: Path
) -> None:
    settings = worker_settings(broker, redis_server.url)
    with WorkerProcess(settings, tmp_path / "worker.log"):
        ends = send(settings.kafka, [(b"r-1", LINES[0]), (None, LINES[2])])
        State(settings, redis_client).wait_for(ends)
    done = run("report", "--json", "--by", "model,region", settings=settings)
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    zero = dict.fromkeys(
        (
            *("success", "server_error", "timeout", "overloaded"),
            *("stream_error", "rate_limited", "client_error", "cancelled"),
        ),
        0,
    )
    tokens = {
        "input": 10,
        "cached_input": 4,
        "cache_write": 0,
        "output": 2,
        "reasoning": 0,
        "total": 12,
    }
    measures = {
        "requests": 1,
        "outcomes": zero | {"success": 1},
        "tokens": tokens,
        "provider": {
            "attempts": 1,
            "outcomes": zero | {"success": 1},
            "tokens": tokens,
            "availability_ratio": 1.0,
        },
        "failures": {"streamed": 0, "unstreamed": 0, "unknown": 0},
        "client_errors": {},
        "endings": {},
        "tier_changed": 0,
        "known": {"tokens": 1, "cached_input": 1, "cached_input_of": 10},
        "known_ratio": {"tokens": 1.0, "cached_input": 1.0},
        "estimated": {"requests": 0, "tokens": 0},
        "response_cache": 0,
        "cache_hit_ratio": 0.4,
        "ttft_seconds": {"count": 0},
        "tpot_seconds": {"count": 0},
        "duration_seconds": {"count": 0},
        "first_visible_seconds": {"count": 0},
        "availability_ratio": 1.0,
    }
    whole = measures | {"refused": {"not_json": 1}, "duplicates": 0, "complete": True}
    whole["field_faults"] = {}
    start = "2025-10-09T08:50:00Z"
    assert seconds_of(EVENT["ended_at"]) == "2025-10-09T08:53:20Z"
    assert answer == {
        "from": start,
        "to": "2025-10-09T08:55:00Z",
        "step_s": 300,
        "as_of": "2025-10-09T08:53:20Z",
        "settled_until": "2025-10-09T08:55:00Z",
        "later": None,
        "gaps": [],
        "lost_records": 0,
        "total": whole,
        "steps": [{"start": start, "measures": whole}],
        "groups": [
            {
                "key": {"model": "m", "region": "here"},
                "total": measures,
                "steps": [{"start": start, "measures": measures}],
            }
        ],
    }
    told = run("report", settings=settings).stdout
    assert "\n\n" not in told
    by = run("report", "--by", "model,region", "--step", "5m", settings=settings).stdout
    assert by.removeprefix(told).splitlines() == [
        "",
        f"start{' ' * 15}  model  region  requests  tokens  cache hit  available  ttft p95  "
        "tpot p95  duration p95",
        f"{start}  m      here    1         12      40 %       100 %      unknown   "
        "unknown   unknown",
    ]
    assert "requests    1\n" in told
    assert "cache hit   40 %\n" in told
    assert "ttft        unknown\n" in told
    # Only names of customers need the key of their ids, which a client may lack.
    directory = tmp_path / "customers.yaml"
    directory.write_text("- {id: acme, name: Acme}\n")
    exporter = settings.exporter.model_copy(update={"customer_directory": directory})
    worker = settings.worker.model_copy(update={"customer_key": None})
    keyless = settings.model_copy(update={"worker": worker, "exporter": exporter})
    assert run("report", settings=keyless).stdout == told
    by_customer = run("report", "--by", "customer", settings=keyless)
    assert_one_line(by_customer, "worker.customer_key")
    assert "requests" not in by_customer.stdout
    assert_one_line(
        run("report", "--from", "2030-01-01T00:00:00Z", settings=settings), "no data to report"
    )


def seconds_of(at_ms: Any) -> str:
    return datetime.fromtimestamp(at_ms / 1_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--by", "tenant"], "--by: got 'tenant'; choose from channel, customer, model"),
        (["--by", "customer,region"], "--by: customers are counted by model only"),
        (["--step", "7s"], "--step: got 7 s; give 10s up to 1d"),
        (["--step", "2d"], "--step: got 172800 s; give 10s up to 1d"),
        (["--step", "70s"], "--step: 70 s does not divide a day"),
        ([], "no state of group 'nobody'"),
    ],
)
def test_a_question_that_cannot_be_answered_is_one_line(
    redis_server: RedisServer, options: list[str], told: str
) -> None:
    variables: dict[str, Any] = {
        "TOKENPULSE_REDIS__URL": redis_server.url,
        "TOKENPULSE_KAFKA__GROUP": "nobody",
    }
    assert_one_line(run("report", *options, **variables), told)


@pytest.mark.parametrize(
    "options", [["--step", "often"], ["--from", "yesterday"], ["--to", "2026-01-01T00:00:00"]]
)
def test_an_option_that_cannot_be_read_shows_how_to_write_it(options: list[str]) -> None:
    done = run("report", *options)
    assert done.exit_code == 2
    assert "; write" in done.stderr or ": write" in done.stderr


# --- everything at once


@contextmanager
def up(temporary: Path, **variables: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """`tokenpulse up`, running; and what it printed."""
    command = ["-m", "tokenpulse.cli.main", "up"]
    with started_stack(command, temporary, **variables) as (process, printed):
        assert process.poll() is None, printed
        yield process, printed


def children_of(pid: int) -> list[int]:
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True)
    return [int(one) for one in found.stdout.split()]


def metrics(url: str) -> Mapping[str, float]:
    with urllib.request.urlopen(url, timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    return {
        name: float(value)
        for name, _, value in (line.rpartition(" ") for line in lines if not line.startswith("#"))
    }


@pytest.mark.skipif(sys.platform != "linux", reason="lists processes as on Linux")
def test_up_runs_everything_and_leaves_nothing_after_sigterm(tmp_path: Path) -> None:
    # A short past: an hour of it is counted for seconds, and shows no more here.
    own = {"TOKENPULSE_EXPORTER__PORT": "0", "TOKENPULSE_LOCAL__HISTORY_S": "60"}
    with up(tmp_path, **own) as (process, printed):
        pids = children_of(process.pid)
        assert len(pids) == 6  # broker, redis, worker, intake, exporter, simulator
        found = re.search(r"http://127\.0\.0\.1:\d+/metrics", printed)
        assert found, printed
        assert re.search(r"Kafka +127\.0\.0\.1:\d+, topic inference\.requests", printed)
        assert re.search(r"Redis +redis://127\.0\.0\.1:\d+/0", printed)
        # Simulated traffic comes out at the other end.
        wait_until(
            lambda: any(
                value > 0
                for name, value in metrics(found[0]).items()
                if name.startswith("tokenpulse_requests_total")
            ),
            "requests are counted",
            60,
        )
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
        assert gone(pids)()
        assert not is_running(process.pid)
    assert list(tmp_path.iterdir()) == []


def test_report_shows_attempts_classes_endings_and_known_shares(
    capsys: pytest.CaptureFixture[str],
) -> None:
    total = {
        "complete": True,
        "requests": 2,
        "duplicates": 0,
        "tokens": {"total": 12},
        "known_ratio": {"tokens": 0.5, "cached_input": 1.0},
        "cache_hit_ratio": 0.4,
        "availability_ratio": 1.0,
        "provider": {"attempts": 4, "availability_ratio": 0.5},
        "failures": {"streamed": 2, "unstreamed": 0, "unknown": 1},
        "client_errors": {"not_found": 3},
        "endings": {"cut": {"requests": 1, "output_tokens": 5}},
        "tier_changed": 1,
        "field_faults": {},
        "first_visible_seconds": {"count": 2, "p95": 1.5},
    }
    print_measures(
        {"from": "a", "to": "b", "settled_until": "b", "later": None, "steps": [], "total": total},
        BoardTargets(None, None, None, None, None),
    )
    printed = capsys.readouterr().out
    for line in (
        "tokens      12, known for 50 % of requests",
        "cache hit   40 %",
        "attempts    4, 50 % available of the provider",
        "failed      3: 2 streamed, 1 with unknown stream",
        "client      not_found 3",
        "endings     cut 1",
        "tiers       1 request served at another tier than requested",
        "first visible  P95 1.5 s of 2",
    ):
        assert f"  {line}" + chr(10) in printed
