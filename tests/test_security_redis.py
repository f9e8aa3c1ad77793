"""Redis with the shipped settings and users, over TLS: what they need, and no more."""

import asyncio
import hashlib
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from exporters.daily.day.store import DayStore
from streams.config.security import redis_kwargs
from streams.config.settings import Kafka, Redis, Settings
from streams.errors import ServerError
from streams.kafka.topics import check_redis
from streams.store.contract import Order
from streams.store.redis import connect, leave_order
from tests.certificates import Authority
from tests.event_samples import raw
from tests.redis_servers import program
from tests.servers import Broker, wait_until
from tests.worker_process import ROOT, State, WorkerProcess, send, tokenpulse, worker_settings
from tokenpulse.local.embedded import environment, free_port

pytestmark = pytest.mark.stack

SHIPPED = ROOT / "deploy/redis"
USERS = ("admin", "worker", "exporter", "operator", "simulator", "health")


def password(user: str) -> str:
    return f"the password of {user}"


@dataclass
class GuardedRedis:
    """A server with deploy/redis: its users, over TLS or (the embedded one has none) without."""

    port: int
    authority: Authority | None
    directory: Path

    def settings(self, user: str, **changes: object) -> Redis:
        file = self.directory / f"{user}.password"
        file.write_text(password(user) + "\n")
        scheme, ca = ("redis", None) if self.authority is None else ("rediss", self.authority.cert)
        fields = {
            "url": f"{scheme}://127.0.0.1:{self.port}/0",
            "username": user,
            "password_file": file,
            "ssl_ca_file": ca,
        }
        return Redis(**{**fields, **changes})

    def client(self, user: str) -> redis.Redis:
        own = self.settings(user)
        tls = {"ssl_ca_certs": str(own.ssl_ca_file)} if self.authority else {}
        return redis.Redis.from_url(
            own.url, username=user, password=password(user), driver_info=None, **tls
        )

    def answers(self) -> bool:
        try:
            with self.client("admin") as admin:
                return bool(admin.ping())
        except redis.ConnectionError:
            return False

    def refused(self) -> list[str]:
        """What users asked for and may not do."""
        with self.client("admin") as admin:
            return [
                f"{one['username']}: {one['reason']} {one['object']}" for one in admin.acl_log()
            ]


@pytest.fixture(scope="module", params=["debian", "embedded"])
def guarded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator:
    kind, directory = request.param, tmp_path_factory.mktemp("redis")
    users = (SHIPPED / "users.acl").read_text()
    for user in USERS:
        digest = hashlib.sha256(password(user).encode()).hexdigest()
        users = users.replace(f"#SHA256-OF-THE-{user.upper()}-PASSWORD", f"#{digest}")
    (directory / "users.acl").write_text(users)
    port = free_port()
    changed: dict[str, object] = {"bind": "127.0.0.1", "dir": directory}
    changed["aclfile"] = directory / "users.acl"
    conf = SHIPPED / "redis.conf"
    authority = None
    if kind == "debian":
        authority = Authority(directory / "ca")
        own = authority.issue("redis")
        changed |= {"tls-port": port, "tls-cert-file": own.cert, "tls-key-file": own.key}
        changed["tls-ca-cert-file"] = authority.cert
    else:  # built without TLS: it does not know these settings
        lines = [one for one in conf.read_text().splitlines() if not one.startswith("tls-")]
        conf = directory / "redis.conf"
        conf.write_text("\n".join(lines) + "\n")
        changed["port"] = port
    arguments = [part for name, value in changed.items() for part in (f"--{name}", str(value))]
    with (directory / "server.log").open("wb") as log:
        process = subprocess.Popen([program(kind), conf, *arguments], stdout=log, stderr=log)
    server = GuardedRedis(port, authority, directory)
    try:
        wait_until(server.answers, f"Redis answers: {directory / 'server.log'}")
        yield server
    finally:
        process.kill()
        process.wait()


def as_user(settings: Settings, redis_settings: Redis) -> Settings:
    return settings.model_copy(update={"redis": redis_settings})


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
    base = worker_settings(broker, "redis://127.0.0.1:1/1")
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
        assert worker.stop() == 0
    done = tokenpulse("config", "check", settings=as_worker)
    assert done.returncode == 0, done.stderr
    assert guarded.refused() == []
    with guarded.client("admin") as admin:
        called = {name.removeprefix("cmdstat_") for name in admin.info("commandstats")}
    # UNWATCH is for an exporter that leaves a ledger to another one.
    needed = called | {"select", "unwatch"}
    assert allowed("worker") | allowed("exporter") | allowed("operator") <= needed


def allowed(user: str) -> set[str]:
    """The commands that the shipped file lets a user give."""
    lines = (SHIPPED / "users.acl").read_text().splitlines()
    [line] = [one for one in lines if one.startswith(f"user {user} ")]
    return {word[1:] for word in line.split() if word.startswith("+")}


async def give_order(operator: Redis, kafka: Kafka) -> None:
    client = connect(operator.url, operator.timeout_s, **redis_kwargs(operator))
    try:
        await leave_order(client, kafka.group, kafka.topic, 0, Order("1", "resume", None, "", ""))
    finally:
        await client.aclose()


async def seal_days(exporter: Redis, kafka: Kafka) -> None:
    client = connect(exporter.url, exporter.timeout_s, **redis_kwargs(exporter))
    days = DayStore(client, kafka.group, kafka.topic, "UTC")
    try:
        await days.seal("2024-01-01", b"old", b"")
        await days.seal("2026-01-01", b"new", b"")
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


def test_nobody_comes_in_without_a_name_and_a_password(guarded: GuardedRedis) -> None:
    for fields in (
        {"username": None, "password_file": None},
        {"password_file": None, "password": "guessed"},
        {"username": "nobody"},
    ):
        own = guarded.settings("worker", **fields)
        with pytest.raises(ServerError, match=r"refuses the login.*redis\.password_file") as caught:
            asyncio.run(check_redis(own.url, **redis_kwargs(own)))
        assert "guessed" not in str(caught.value)


@pytest.mark.parametrize("guarded", ["debian"], indirect=True)  # the other is built without TLS
def test_a_server_with_another_certificate_is_not_spoken_to(
    guarded: GuardedRedis, tmp_path: Path
) -> None:
    asyncio.run(answer(guarded.settings("worker")))
    stranger = guarded.settings("worker", ssl_ca_file=Authority(tmp_path, "stranger").cert)
    other_host = guarded.settings("worker", url=f"rediss://localhost:{guarded.port}/0")
    for untrusted in (stranger, other_host):
        with pytest.raises(ServerError, match="certificate verify failed"):
            asyncio.run(answer(untrusted))


async def answer(own: Redis) -> int:
    return await check_redis(own.url, **redis_kwargs(own))
