"""Kafka and Redis both away: what a worker writes into its log, and how fast it can be stopped."""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.config.settings import Logs, Settings
from streams.watchdog import EXIT_CODE
from tests.support.servers import Broker, RedisServer, start_servers, wait_until
from tests.support.worker_process import State, WorkerProcess, send, worker_settings
from tests.support.worker_stories import events
from tokenpulse.local.stack import LocalStack

PARTITIONS = 4
WATCHED_S = 20.0
# Ten lines of each message, and there are about four for each partition and ten in all.
MOST_LINES = 250
STOP_S = 5.0


@pytest.fixture
def doomed() -> Iterator[LocalStack]:
    """Servers of this test's own, which it stops."""
    stack = start_servers()
    yield stack
    stack.stop()


def counting(stack: LocalStack, log_format: str) -> Settings:
    """Settings of a worker, with its events in Kafka."""
    settings = worker_settings(Broker(stack.bootstrap), stack.redis_url, PARTITIONS)
    return settings.model_copy(update={"logs": Logs.model_validate({"format": log_format})})


@pytest.mark.slow
@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_worker_without_servers_says_so_in_few_lines_and_ends_in_5_s(
    doomed: LocalStack, tmp_path: Path, log_format: str
) -> None:
    settings = counting(doomed, log_format)
    with WorkerProcess(settings, tmp_path / "worker.log") as worker:
        with RedisServer(doomed.redis_url).client() as client:
            State(settings, client).wait_for(send(settings.kafka, events(2_000)))
        send(settings.kafka, events(2_000, seed=2))
        doomed.stop()
        written = len(worker.log.splitlines())
        time.sleep(WATCHED_S)
        lines = worker.log.splitlines()[written:]
        assert any("trying again" in line for line in lines)
        assert len(lines) < MOST_LINES, f"{len(lines) / WATCHED_S:.0f} lines a second"
        assert worker.running
        began_s = time.monotonic()
        assert worker.stop() == EXIT_CODE
        assert time.monotonic() - began_s < STOP_S
        ending = worker.log[-10_000:]
        assert "ending this worker: told to end" in ending
        assert re.search(r"repeated \d{3,} times in the last", ending)  # none is missing
        check_lines(worker.log, log_format)


@pytest.mark.slow
def test_a_worker_that_has_nothing_to_save_ends_in_5_s_too(
    doomed: LocalStack, tmp_path: Path
) -> None:
    settings = counting(doomed, "text")
    with WorkerProcess(settings, tmp_path / "worker.log") as worker:
        with RedisServer(doomed.redis_url).client() as client:
            State(settings, client).wait_for(send(settings.kafka, events(2_000)))
        doomed.stop()
        wait_until(lambda: "no heartbeat sent" in worker.log, "it misses Redis")
        began_s = time.monotonic()
        assert worker.stop() == EXIT_CODE
        assert time.monotonic() - began_s < STOP_S


def check_lines(log: str, log_format: str) -> None:
    """Check that Faust, aiokafka and our own code write the same format, and no frames."""
    assert re.search(r"[┌│└╭]", log) is None
    loggers = set()
    for line in log.splitlines():
        if log_format == "json":
            record = json.loads(line)
            assert {"time", "level", "logger", "message"} <= set(record)
            loggers.add(record["logger"].partition(".")[0])
        elif found := re.match(r"\d{4}-\d\d-\d\dT[\d:.]+Z [A-Z]+ (\w+)[.\w]*: ", line):
            loggers.add(found[1])
        else:  # of a traceback, and not of a logger that has its own format
            assert re.match(r"\W*\d{4}-\d\d-\d\d", line) is None, line
    assert {"streams", "aiokafka", "faust"} <= loggers
