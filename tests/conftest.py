"""Servers for all tests, and an honest list of the checks that did not run."""

import os
from collections.abc import Callable, Iterator
from functools import partial

import hypothesis
import pytest
import redis

from streams.config.settings import ENV_PREFIX, Settings
from tests.support.apache_kafka import CACHE_VARIABLE, ApacheKafka
from tests.support.exporter_state import settings_for
from tests.support.servers import Broker, RedisServer, start_servers
from tests.support.worker_process import State
from tokenpulse.local.embedded import free_port
from tokenpulse.local.stack import LocalStack

# A shell that is set up for some Tokenpulse must not steer the tests.
for _name in [name for name in os.environ if name.startswith(ENV_PREFIX)]:
    if _name != CACHE_VARIABLE:
        del os.environ[_name]


# How long an example takes says more of the machine than of the code.
hypothesis.settings.register_profile("tokenpulse", deadline=None)
hypothesis.settings.load_profile("tokenpulse")


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
def configured(redis_server: RedisServer, redis_client: redis.Redis) -> Callable[..., Settings]:
    """Settings of an exporter over an empty store."""
    return partial(settings_for, redis_server.url)


@pytest.fixture
def unused_port() -> int:
    """A loopback port at which nobody listens."""
    return free_port()


def _not_run(config: pytest.Config) -> list[str]:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    lines = []
    for report in reporter.stats.get("skipped", []) if reporter is not None else []:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        lines.append(f"{report.nodeid}: {str(reason).removeprefix('Skipped: ')}")
    return lines


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    told = [
        str(text)
        for report in terminalreporter.stats.get("passed", [])
        for name, text in report.user_properties
        if name == "told"
    ]
    if told:
        terminalreporter.section("what was measured")
        for line in told:
            terminalreporter.write_line(line)
    if terminalreporter.config.option.markexpr == "not stack":
        terminalreporter.section("tests with real servers and worker processes did not run")
        terminalreporter.write_line("`make test-all` runs them; `bash tests/provision.sh` first")
    skipped = _not_run(terminalreporter.config)
    if skipped:
        terminalreporter.section("checks that did not run")
        for line in skipped:
            terminalreporter.write_line(line)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where everything is expected to be there, a check that did not run is a failure."""
    if os.environ.get("CI") == "true" and _not_run(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
