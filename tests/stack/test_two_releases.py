"""A rolling deployment of the version before this one and of this one, forward and back."""

import json
import random
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import pytest
import redis

from streams.config.settings import Settings
from tests.support.earlier_release import install_earlier_release
from tests.support.feed import Feed
from tests.support.paths import ROOT
from tests.support.recounted import TARGETS, assert_recounted, logs_of
from tests.support.servers import Broker, RedisServer, wait_until
from tests.support.worker_process import START_S, State, WorkerProcess, worker_settings
from tests.support.worker_stories import Record, events
from tokenpulse.local.embedded import environment

pytestmark = pytest.mark.slow

PARTITIONS = 3
RECORDS = 6_000
PART = 50


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory with the installed version before this one."""
    return install_earlier_release(tmp_path_factory.mktemp("earlier"))


def traffic() -> list[Record]:
    """Events of ten minutes, of which some come twice, and records that are no events."""
    dice, sent = random.Random(15), list[Record]()
    for record in events(RECORDS, seed=15):
        sent.append(record)
        if dice.random() < 0.1:
            sent.append(dice.choice(sent[-500:]))
        if dice.random() < 0.02:
            sent.append((b"broken", b"{"))
    return sent


class Deployment:
    """The workers of one group, some of which run the one version and some the other.

    Those that still run at the end of its block are killed.
    """

    def __init__(self, settings: Settings, state: State, directory: Path) -> None:
        self._settings, self._state, self._directory = settings, state, directory
        self._workers: list[WorkerProcess] = []
        self._started = 0
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def add(self, program: Path) -> None:
        """Start a worker of one version; return when each worker has a partition."""
        self._started += 1
        log = self._directory / f"worker-{self._started}.log"
        worker = WorkerProcess(self._settings, log, program)
        self._workers.append(self._stack.enter_context(worker))
        self._wait_until_shared()

    def end_oldest(self, number: signal.Signals) -> None:
        """End the worker that started first, by a signal; return when the others have its work."""
        worker = self._workers.pop(0)
        worker.signal(number)
        assert worker.ended() == (-number if number is signal.SIGKILL else 0)
        self._wait_until_shared()

    def _wait_until_shared(self) -> None:
        count = len(self._workers)
        wait_until(
            lambda: len(self._state.workers(range(PARTITIONS)) - {""}) == count,
            f"{count} workers share the partitions",
            START_S,
        )


def answer(settings: Settings, program: Path) -> dict[Any, Any]:
    """What one version reports of the stored state: measures of each model and customer."""
    done = subprocess.run(
        [
            *(sys.executable, "-P", "-m", "tokenpulse.cli.main", "report", "--json"),
            *("--by", "customer,model"),
        ],
        env={**environment(settings), "PYTHONPATH": str(program)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    totals = {tuple(one["key"].values()): one["total"] for one in report["groups"]}
    return {
        key: {name: total[name] for name in ("requests", "outcomes", "tokens")}
        for key, total in [("all", report["total"]), *totals.items()]
    }


def test_workers_of_two_versions_replace_each_other_forward_and_back_and_each_event_counts_once(
    broker: Broker,
    redis_server: RedisServer,
    redis_client: redis.Redis,
    earlier: Path,
    tmp_path: Path,
) -> None:
    settings = worker_settings(broker, redis_server.url, PARTITIONS, **TARGETS)
    state, flow = State(settings, redis_client), traffic()
    parts = [(None, flow[at : at + PART]) for at in range(0, len(flow), PART)]
    feed = Feed(settings.kafka, parts)
    with Deployment(settings, state, tmp_path) as deployment:
        feed.allowed = 20 * PART
        deployment.add(earlier)
        feed.allowed = 60 * PART
        deployment.add(ROOT)  # both versions
        deployment.end_oldest(signal.SIGTERM)
        wait_until(lambda: state.counted(range(PARTITIONS)) == feed.allowed, "all is counted")
        assert answer(settings, earlier) == answer(settings, ROOT)
        feed.allowed = 100 * PART
        deployment.add(earlier)  # both versions
        deployment.end_oldest(signal.SIGKILL)
        state.wait_for(feed.finish())
        assert answer(settings, earlier) == answer(settings, ROOT)
    assert_recounted(redis_client, settings, logs_of(broker, settings, feed.total))
