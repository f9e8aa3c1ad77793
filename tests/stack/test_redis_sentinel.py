"""Redis behind sentinels: a worker, the exporter and commands find the primary, and again after a
failover, with no event lost or counted twice."""

import asyncio
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.config.settings import Redis
from streams.errors import Unavailable
from streams.store.contract import Answer
from streams.store.servers.check import check_redis
from tests.support.counting import agreed_offset
from tests.support.exporter_state import named, samples_of
from tests.support.recounted import TARGETS, assert_recounted, logs_of
from tests.support.redis_kinds import SERVICE, WatchedPrimary, flush_until_confirmed
from tests.support.redis_servers import opened, working
from tests.support.servers import Broker, wait_until
from tests.support.worker_process import (
    START_S,
    State,
    WorkerProcess,
    report,
    send,
    worker_settings,
)
from tests.support.worker_stories import events

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WatchedPrimary]:
    with WatchedPrimary(tmp_path_factory.mktemp("watched")) as found:
        found.wait_for_agreement()
        yield found


def fail_over(watched: WatchedPrimary, tail: bool) -> None:
    """Kill the primary, and return when the replica is the primary; it has the tail or not."""
    old = watched.primary()
    (new,) = (server for server in watched.servers if server is not old)
    old.kill()
    if not tail:
        new.signal(signal.SIGCONT)
    wait_until(lambda: watched.primary() is new, "the sentinels name the replica")


def cut_off(watched: WatchedPrimary) -> None:
    """The replica gets no more of what is written."""
    old = watched.primary()
    (replica,) = (server for server in watched.servers if server is not old)
    replica.signal(signal.SIGSTOP)
    with old.client() as client:
        # Else it would read what waits in its socket.
        client.execute_command("CLIENT", "KILL", "TYPE", "replica")


def restore(watched: WatchedPrimary) -> None:
    """The killed server starts again and becomes a replica of the other one."""
    (dead,) = (one for one in watched.servers if one.process.poll() is not None)
    dead.start()
    dead.follow(watched.primary().port)
    watched.wait_for_agreement()


def test_a_worker_counts_on_after_a_failover_that_lost_its_latest_writes(
    broker: Broker, watched: WatchedPrimary, tmp_path: Path
) -> None:
    settings = worker_settings(broker, watched.url, 2, **TARGETS)
    parts = [events(1_000, seed=seed) for seed in range(3)]
    with WorkerProcess(settings, tmp_path / "worker.log") as worker:
        with watched.primary().client() as client:
            State(settings, client).wait_for(send(settings.kafka, parts[0]))
            cut_off(watched)
            State(settings, client).wait_for(send(settings.kafka, parts[1]))
        ends = send(settings.kafka, parts[2])
        fail_over(watched, tail=False)
        with watched.primary().client() as client:
            State(settings, client).wait_for(ends)
            wait_until(
                lambda: (
                    sum(
                        named(
                            samples_of(settings, time.time()), "tokenpulse_state_rollbacks_total"
                        ).values()
                    )
                    > 0
                ),
                "the loss shows",
                START_S,
            )
            assert "the store went back to this offset" in worker.log
            assert worker.stop() == 0
            logs = logs_of(broker, settings, sum(ends.values()))
            assert_recounted(client, settings, logs)
    total = report(settings)["total"]
    assert (total["requests"], total["duplicates"]) == (3_000, 0)
    restore(watched)


def test_one_client_goes_on_with_the_new_primary(watched: WatchedPrimary) -> None:
    async def story() -> None:
        async with working(watched.url) as worker:
            for _ in range(5):
                assert await worker.count(10) is Answer.OK
            with watched.primary().client() as client:
                assert client.wait(1, 5_000) == 1
            await asyncio.to_thread(fail_over, watched, tail=True)
            await flush_until_confirmed(worker, 10)
            await worker.store.send_heartbeat(3, {"at_ms": 1})
            assert agreed_offset(watched.primary().content()) == worker.offset == 60

    asyncio.run(story())
    restore(watched)


def test_a_frozen_sentinel_is_passed_by(watched: WatchedPrimary) -> None:
    async def story() -> float:
        began_s = time.monotonic()
        async with opened(watched.url, timeout_s=0.5) as store:
            await store.check()
        return time.monotonic() - began_s

    watched.sentinels[0].signal(signal.SIGSTOP)
    try:
        assert asyncio.run(story()) < 5
        # A worker starts, too, for which the check must pass.
        asyncio.run(check_redis(Redis(url=watched.url), timeout_s=0.5))
    finally:
        watched.sentinels[0].signal(signal.SIGCONT)


def check(url: str, **settings: str) -> str:
    """What the check says of a Redis, or its error."""
    try:
        return asyncio.run(check_redis(Redis.model_validate({"url": url, **settings}))).describe()
    except Unavailable as error:
        return str(error)


def test_the_check_names_the_kind_and_what_is_wrong(watched: WatchedPrimary) -> None:
    assert check(watched.url).startswith("the primary that sentinels name, without TLS; version ")
    other = check(watched.url.replace(SERVICE, "other"))
    assert other.startswith("no Redis answers at 127.0.0.1:")
    assert "no sentinel answers with a primary `other` that is up" in other
    sentinel = watched.sentinels[0]
    assert "it is a sentinel; write redis+sentinel://" in check(
        f"redis://127.0.0.1:{sentinel.port}/0"
    )
    (replica,) = (one for one in watched.servers if one is not watched.primary())
    assert "it is a replica" in check(replica.url)


def test_the_check_says_whether_a_primary_without_replicas_stops(watched: WatchedPrimary) -> None:
    async def limitations() -> str:
        facts = await check_redis(Redis(url=watched.url))
        return "; ".join(facts.limitations())

    assert "set min-replicas-to-write 1" in asyncio.run(limitations())
    with watched.primary().client() as client:
        client.config_set("min-replicas-to-write", 1)
        try:
            found = asyncio.run(limitations())
        finally:
            client.config_set("min-replicas-to-write", 0)
    assert "min-replicas-to-write" not in found
    assert "a failover may lose the last writes" in found


def test_sentinels_with_a_password_get_their_own(watched: WatchedPrimary) -> None:
    for sentinel in watched.sentinels:
        with sentinel.client() as client:
            client.acl_setuser("default", enabled=True, reset_passwords=True, passwords=["+secret"])
    try:
        assert "set redis.sentinel_password_file" in check(watched.url)
        wrong = check(watched.url, sentinel_password="guessed")
        assert "set redis.sentinel_password_file" in wrong
        assert "guessed" not in wrong
        assert check(watched.url, sentinel_password="secret").startswith("the primary that")
    finally:
        for sentinel in watched.sentinels:
            with sentinel.client(password="secret") as client:
                client.acl_setuser("default", enabled=True, nopass=True)
