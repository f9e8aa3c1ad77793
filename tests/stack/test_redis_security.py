"""Redis with the shipped settings and users, over TLS: what they need, and no more."""

import asyncio
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from exporters.daily.day.store import DayStore
from streams.config.settings import Kafka, Redis, Settings
from streams.errors import Unavailable
from streams.security.clients import redis_kwargs
from streams.store.contract import OperatorCommand
from streams.store.keys import Keys
from streams.store.redis import enqueue_command
from streams.store.servers.check import check_redis
from streams.store.servers.client import connect
from streams.store.source_counts import EVENTS, PendingCounts, SourceCount
from streams.store.source_store import SourceStore
from tests.support.certificates import Authority
from tests.support.checks import not_none
from tests.support.command import assert_one_line, run
from tests.support.event_samples import raw
from tests.support.guarded_redis import SHIPPED, GuardedRedis, as_user, password
from tests.support.paths import ROOT
from tests.support.redis_kinds import SERVICE, SentinelProcess
from tests.support.servers import Broker, wait_until
from tests.support.worker_process import State, WorkerProcess, send, tokenpulse, worker_settings
from tokenpulse.local.embedded import environment, free_port


def events(name: str, age_s: int) -> list[tuple[bytes | None, bytes]]:
    ended_ms = int((time.time() - age_s) * 1000)
    return [(None, raw(request_id=f"{name}-{one}", ended_at=ended_ms)) for one in range(50)]


@contextmanager
def exporter(settings: Settings, log: Path) -> Iterator[str]:
    """A running exporter; the address of its pages."""
    port = free_port()
    own = settings.model_copy(
        update={"exporter": settings.exporter.model_copy(update={"port": port})}
    )
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "tokenpulse.cli.main", "exporter"],
            env={**environment(own), "PYTHONPATH": str(ROOT)},
            stdout=output,
            stderr=output,
        )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def shows(url: str, text: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return text in answer.read().decode()
    except OSError:
        return False


def test_worker_exporter_and_commands_need_no_more_than_their_users_may(
    guarded: GuardedRedis, broker: Broker, tmp_path: Path
) -> None:
    with guarded.client("admin") as admin:
        admin.acl_log_reset()
    base = worker_settings(broker, "redis://127.0.0.1:1/1", archive_interval_s=1)
    kafka = base.kafka
    as_worker = as_user(base, guarded.settings("worker"))
    as_exporter = as_user(base, guarded.settings("exporter"))
    with WorkerProcess(as_worker, tmp_path / "worker.log") as worker:
        with guarded.client("worker") as client:
            State(base, client).wait_for(send(kafka, events("first", 7_200)))
        done = tokenpulse("report", "--json", settings=as_exporter)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["total"]["requests"] == 50
        with exporter(as_exporter, tmp_path / "exporter.log") as address:
            wait_until(
                lambda: shows(f"{address}/metrics", "\ntokenpulse_state_readable 1"), "state shown"
            )
        with guarded.client("admin") as admin:
            admin.script_flush()  # the worker has to load its scripts again
        with guarded.client("worker") as client:
            # So much later that the slices before are merged and deleted.
            State(base, client).wait_for(send(kafka, events("second", 0)))
        asyncio.run(give_order(guarded.settings("operator"), kafka))
        asyncio.run(seal_days(guarded.settings("exporter"), kafka))
        asyncio.run(report_source(guarded.settings("intake"), kafka))
        with guarded.client("worker") as client:
            archived = Keys(kafka.group, kafka.topic).archived_hashes
            wait_until(lambda: client.hget(archived, "sequence") is not None, "days are archived")
        assert worker.stop() == 0
    done = tokenpulse("config", "check", settings=as_worker)
    assert done.returncode == 0, done.stderr
    assert guarded.refused() == []
    with guarded.client("admin") as admin:
        called = {name.removeprefix("cmdstat_") for name in admin.info("commandstats")}
    # UNWATCH is for an exporter that leaves a ledger to another one.
    needed = called | {"select", "unwatch"}
    users = ("worker", "exporter", "operator", "intake")
    assert set().union(*map(allowed, users)) <= needed


def test_a_redis_that_crashed_reads_back_what_workers_stored(
    guarded: GuardedRedis, broker: Broker, tmp_path: Path
) -> None:
    base = worker_settings(broker, "redis://127.0.0.1:1/1")
    with (
        WorkerProcess(as_user(base, guarded.settings("worker")), tmp_path / "worker.log") as worker,
        guarded.client("worker") as client,
    ):
        State(base, client).wait_for(send(base.kafka, events("kept", 60)))
        assert worker.stop() == 0
    guarded.kill()
    guarded.start()
    done = tokenpulse("report", "--json", settings=as_user(base, guarded.settings("exporter")))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["total"]["requests"] == 50


def allowed(user: str) -> set[str]:
    """The commands that the shipped file lets a user give."""
    lines = (SHIPPED / "users.acl").read_text().splitlines()
    [line] = [one for one in lines if one.startswith(f"user {user} ")]
    return {word[1:] for word in line.split() if word.startswith("+")}


async def give_order(operator: Redis, kafka: Kafka) -> None:
    client = connect(operator.url, operator.timeout_s, **redis_kwargs(operator))
    try:
        await enqueue_command(
            client, kafka.group, kafka.topic, 0, OperatorCommand("1", "resume", None, "", "")
        )
    finally:
        await client.aclose()


async def report_source(intake: Redis, kafka: Kafka) -> None:
    client = connect(intake.url, intake.timeout_s, **redis_kwargs(intake))
    pending = PendingCounts()
    pending.add({SourceCount(EVENTS, "gateway"): 1}, time.time())
    try:
        await SourceStore(client, kafka.group, kafka.topic).add(pending.take())
    finally:
        await client.aclose()


async def seal_days(exporter: Redis, kafka: Kafka) -> None:
    client = connect(exporter.url, exporter.timeout_s, **redis_kwargs(exporter))
    days = DayStore(client, kafka.group, kafka.topic, "UTC")
    try:
        await days.write_once("2024-01-01", b"old", b"")
        await days.write_once("2026-01-01", b"new", b"")
        assert await days.first() == "2026-01-01"
    finally:
        await client.aclose()


KEY = "tp:{group:topic:0}"
FORBIDDEN = [
    ("worker", "FLUSHALL"),
    ("worker", "CONFIG", "SET", "maxmemory-policy", "allkeys-lru"),
    ("worker", "DEL", KEY),
    ("worker", "KEYS", "*"),
    ("worker", "EVAL", "return 1", "0"),
    ("worker", "ACL", "LIST"),
    ("worker", "HSET", "another", "a", "1"),
    ("exporter", "HSET", KEY, "a", "1"),
    ("exporter", "HSET", "tp:{group:topic}:maintenance", "a", "1"),
    ("exporter", "DEL", "tp:{group:topic}:ledger:a"),
    ("exporter", "SADD", KEY, "a"),
    ("exporter", "EVALSHA", "0" * 40, "0"),
    ("exporter", "SCRIPT", "LOAD", "return 1"),
    ("exporter", "HGETALL", "another"),
    ("intake", "HSET", KEY, "offset", "0"),
    ("intake", "HGETALL", "tp:{group:topic}:source-counts:0"),
    ("operator", "HSET", KEY, "offset", "0"),
    ("operator", "HSET", "tp:{group:topic}:ledger:a", "a", "1"),
    ("operator", "DEL", KEY),
    ("operator", "EVALSHA", "0" * 40, "0"),
]


@pytest.mark.parametrize(("user", "command"), [(one[0], one[1:]) for one in FORBIDDEN])
def test_a_user_may_not_do_what_others_do(
    guarded: GuardedRedis, user: str, command: tuple[str, ...]
) -> None:
    with guarded.client(user) as client, pytest.raises(redis.exceptions.NoPermissionError):
        client.execute_command(*command)


def test_what_is_denied_is_one_line_with_the_fix(guarded: GuardedRedis, broker: Broker) -> None:
    base = worker_settings(broker, "redis://127.0.0.1:1/1")
    as_exporter = as_user(base, guarded.settings("exporter"))
    done = run("config", "check", "--role", "exporter", settings=as_exporter)
    assert done.exit_code == 0, done.stderr
    assert "the user may not ask for more (INFO)" in done.stdout
    fix = "give the user what docs/security.md lists for this process"
    done = run("worker", settings=as_exporter)
    assert_one_line(done, "a worker cannot ask whether Redis evicts state: ", "'info' command", fix)
    window = ("--from", "2026-01-31T22:00Z", "--to", "2026-01-31T23:00Z", "--reason", "racks")
    assert_one_line(run("maintenance", "add", *window, settings=as_exporter), fix)
    assert_one_line(run("report", settings=as_user(base, guarded.settings("intake"))), fix)


def test_nobody_comes_in_without_a_name_and_a_password(guarded: GuardedRedis) -> None:
    for fields in (
        {"username": None, "password_file": None},
        {"password_file": None, "password": "guessed"},
        {"username": "nobody"},
    ):
        own = guarded.settings("worker", **fields)
        with pytest.raises(Unavailable, match=r"refuses the login.*redis\.password_file") as caught:
            asyncio.run(check_redis(own))
        assert "guessed" not in str(caught.value)


@pytest.mark.stack
@pytest.mark.parametrize("guarded", ["debian"], indirect=True)  # the other is built without TLS
def test_a_server_with_another_certificate_is_not_spoken_to(
    guarded: GuardedRedis, tmp_path: Path
) -> None:
    asyncio.run(answer(guarded.settings("worker")))
    stranger = guarded.settings("worker", ssl_ca_file=Authority(tmp_path, "stranger").cert)
    other_host = guarded.settings("worker", url=f"rediss://localhost:{guarded.port}/0")
    for untrusted in (stranger, other_host):
        with pytest.raises(Unavailable, match="certificate verify failed"):
            asyncio.run(answer(untrusted))


async def answer(own: Redis) -> int:
    return (await check_redis(own)).process_id


@pytest.mark.stack
@pytest.mark.parametrize("guarded", ["debian"], indirect=True)  # the other is built without TLS
def test_sentinels_are_asked_with_tls_too(guarded: GuardedRedis, tmp_path: Path) -> None:
    authority = not_none(guarded.authority)
    own = authority.issue("sentinel")
    settings = {
        "tls-cert-file": own.cert,
        "tls-key-file": own.key,
        "tls-ca-cert-file": authority.cert,
        "tls-auth-clients": "no",
        f"sentinel auth-user {SERVICE}": "admin",
        f"sentinel auth-pass {SERVICE}": f'"{password("admin")}"',
        "requirepass": "secret",
    }
    with SentinelProcess(tmp_path / "sentinel", guarded.port, **settings) as sentinel:
        url = f"rediss+sentinel://127.0.0.1:{sentinel.port}/{SERVICE}/0"
        found = guarded.settings("worker", url=url, sentinel_password="secret")
        wait_until(lambda: sentinel.log.count("+monitor") > 0, "the sentinel runs")
        facts = asyncio.run(check_redis(found))
        assert facts.describe().startswith("the primary that sentinels name, with TLS; ")
        stranger = Authority(tmp_path, "stranger").cert
        untrusted = found.model_copy(update={"ssl_ca_file": stranger})
        with pytest.raises(Unavailable, match="no sentinel answers"):
            asyncio.run(check_redis(untrusted))
