"""Servers for all tests, and an honest list of the checks that did not run."""

import gc
import os
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from typing import Any

import hypothesis
import pytest
import redis

from streams.config.settings import ENV_PREFIX, Settings
from tests.support.apache_kafka import CACHE_VARIABLE, ApacheKafka
from tests.support.exporter_http import OwnRedis
from tests.support.exporter_state import settings_for
from tests.support.programs import begin_test
from tests.support.servers import Broker, RedisServer, start_servers
from tests.support.worker_process import State
from tokenpulse.local.embedded import free_port
from tokenpulse.local.stack import LocalStack

# A shell that is set up for some Tokenpulse must not steer the tests.
for _name in [name for name in os.environ if name.startswith(ENV_PREFIX)]:
    if _name != CACHE_VARIABLE:
        del os.environ[_name]


# How long an example takes says more of the machine than of the code.
hypothesis.settings.register_profile("ci", deadline=None)
# A third of the examples, so that `make test` takes minutes on a laptop too.
hypothesis.settings.register_profile("laptop", deadline=None, max_examples=35)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "laptop")


@pytest.fixture(scope="session", autouse=True)
def user_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Commands of the tests find no stack that the user runs, and leave it no link."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("runtime")))
        yield


@pytest.fixture(scope="session")
def servers() -> Iterator[LocalStack]:
    stack = start_servers()
    yield stack
    stack.stop()


@pytest.fixture(scope="session")
def broker(servers: LocalStack) -> Broker:
    return Broker(servers.bootstrap)


@pytest.fixture(scope="session")
def apache_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApacheKafka]:
    """One node for all tests that leave it running; every test makes topics of its own."""
    with ApacheKafka(tmp_path_factory.mktemp("kafka")) as kafka:
        yield kafka


@pytest.fixture(scope="session")
def redis_server(servers: LocalStack) -> RedisServer:
    return RedisServer(servers.redis_url)


@pytest.fixture
def redis_client(redis_server: RedisServer) -> Iterator[redis.Redis]:
    """A client of an empty database."""
    with redis_server.client() as client:
        client.flushdb()
        yield client
        client.flushdb()


@pytest.fixture
def state_of(redis_server: RedisServer) -> Iterator[Callable[[Settings], State]]:
    """What Redis holds for some settings."""
    with redis_server.client() as client:
        yield lambda settings: State(settings, client)


@pytest.fixture
def own_redis() -> Iterator[OwnRedis]:
    """A Redis of the test's own, which it may kill and start again."""
    server = OwnRedis()
    server.start()
    yield server
    server.kill()


@pytest.fixture
def configured(redis_server: RedisServer, redis_client: redis.Redis) -> Callable[..., Settings]:
    """Settings of an exporter over an empty store."""
    return partial(settings_for, redis_server.url)


@pytest.fixture
def unused_port() -> int:
    """A loopback port at which nobody listens."""
    return free_port()


# Why `make test` leaves out the tests of a mark, and what runs them.
LEFT_OUT = {
    "engine": "run docker-compose.yml on a container engine: `make test-engine`, on Debian as root",
    "stack": "start programs beyond PyPI: `make test-all`, after `bash tests/provision.sh`",
    "slow": "take too long for `make test`: `make test-all`",
}
QUICK = "not stack and not slow"
RUN_BY = {
    "": "make test",
    "engine": "make test-engine",
    "slow": "make test-slow",
    "stack": "make test-stack",
}
_deselected: Counter[str] = Counter()


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep modules and collected tests out of garbage collection: they live to the end anyway,
    and visiting them again and again takes a tenth of a run."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the tests of the command first: with `--dist loadfile` a file is one process's, and
    while the longest one runs last, the other processes are idle."""
    items.sort(key=lambda item: not item.nodeid.startswith("tests/tokenpulse/"))


def pytest_runtest_setup(item: pytest.Item) -> None:
    begin_test(item.get_closest_marker("stack") is not None)


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    for item in items:
        _deselected[next((name for name in LEFT_OUT if item.get_closest_marker(name)), "")] += 1


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    # Every process collects, and deselects, the same tests: the last one's count is that of all.
    _deselected.clear()
    _deselected.update(getattr(node, "workeroutput", {}).get("deselected", {}))


def _skipped(config: pytest.Config) -> list[str]:
    """Return a line for each skipped test, with the reason."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    lines = []
    for report in reporter.stats.get("skipped", []) if reporter is not None else []:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        lines.append(f"{report.nodeid}: {str(reason).removeprefix('Skipped: ')}")
    return lines


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    measured = [
        str(text)
        for report in terminalreporter.stats.get("passed", [])
        for name, text in report.user_properties
        if name == "told"
    ]
    if measured:
        terminalreporter.section("what was measured")
        for line in measured:
            terminalreporter.write_line(line)
    lines = _skipped(terminalreporter.config)
    if terminalreporter.config.option.markexpr == QUICK:
        lines += [f"{_deselected[name]} tests {reason}" for name, reason in LEFT_OUT.items()]
    elif terminalreporter.config.option.markexpr:
        lines += [
            f"{count} tests that `{RUN_BY[name]}` runs" for name, count in _deselected.items()
        ]
    if lines:
        terminalreporter.section("what did not run, and why")
        for line in lines:
            terminalreporter.write_line(line)


def pytest_sessionfinish(session: pytest.Session) -> None:
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["deselected"] = dict(_deselected)
    # CI has all programs, so there a check that did not run is a failure.
    if os.environ.get("CI") == "true" and _skipped(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
