"""What let a worker in is taken away while it runs, and given back: it says so, stays and loses
nothing.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis import Redis

from streams.config.settings import Settings
from tests.support.certificates import Authority, Certificate
from tests.support.guarded_redis import GuardedRedis, as_user
from tests.support.servers import Broker, wait_until
from tests.support.worker_process import (
    START_S,
    State,
    WorkerProcess,
    dead_letters,
    send,
    worker_settings,
)
from tests.support.worker_stories import MARK, events


@contextmanager
def counting(
    server: GuardedRedis, broker: Broker, log: Path
) -> Iterator[tuple[Settings, State, Redis, WorkerProcess]]:
    """A worker of the shipped user that has counted something."""
    base = worker_settings(broker, "redis://127.0.0.1:1/1")
    settings = as_user(base, server.settings("worker"))
    with server.client("worker") as reader, server.client("admin") as admin:
        state = State(base, reader)
        with WorkerProcess(settings, log) as worker:
            state.wait_for(send(base.kafka, events(200)))
            yield base, state, admin, worker
            assert worker.stop() == 0
        assert worker.log.count("claimed as") == 1


def test_a_worker_whose_redis_user_may_no_longer_write_says_so_and_goes_on_once_it_may(
    guarded: GuardedRedis,
    broker: Broker,
    tmp_path: Path,
) -> None:
    with counting(guarded, broker, tmp_path / "worker.log") as (settings, state, admin, worker):
        admin.acl_setuser("worker", enabled=True, commands=["-evalsha"], reset=False)
        before = state.offset(0)
        ends = send(settings.kafka, [*events(200, seed=2), MARK])
        dead_letters(settings.kafka, 1)
        wait_until(lambda: worker.log.count("has no permissions") >= 2, "it says so", START_S)
        assert state.offset(0) == before
        admin.acl_load()
        with guarded.client("worker") as reader:  # the server may hang up on those who were there
            State(settings, reader).wait_for(ends)


@pytest.mark.stack
@pytest.mark.parametrize("guarded", ["debian"], indirect=True)  # the other is built without TLS
def test_a_redis_that_shows_a_wrong_certificate_is_left_until_it_shows_a_renewed_one(
    guarded: GuardedRedis,
    broker: Broker,
    tmp_path: Path,
) -> None:
    assert guarded.authority is not None
    stranger = Authority(tmp_path / "other", "stranger").issue("redis")
    renewed = guarded.authority.issue("renewed")
    with counting(guarded, broker, tmp_path / "worker.log") as (settings, state, admin, worker):
        before = state.offset(0)
        show(admin, stranger)
        ends = send(settings.kafka, [*events(200, seed=2), MARK])
        dead_letters(settings.kafka, 1)
        wait_until(lambda: worker.log.count("verify failed") >= 2, "it says so", START_S)
        show(admin, renewed)
        state.wait_for(ends)
        assert state.offset(0) > before


def show(admin: Redis, certificate: Certificate) -> None:
    """Have the server show this one, and all others connect again."""
    admin.config_set(
        *("tls-cert-file", str(certificate.cert)), *("tls-key-file", str(certificate.key))
    )
    admin.client_kill_filter(_type="normal", skipme=True)
