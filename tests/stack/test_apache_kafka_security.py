"""Apache Kafka with logins over TLS, and users that may do what they must and no more."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streams.config.settings import Settings
from streams.errors import Unavailable
from streams.kafka.topics import check_sources, check_topics
from streams.watchdog import EXIT_CODE
from tests.support.apache_kafka import ApacheKafka
from tests.support.certificates import Authority
from tests.support.kafka_admin import Of, To, grant, revoke, rights_of_worker
from tests.support.servers import RedisServer, wait_until
from tests.support.worker_process import WorkerProcess, report, send, tokenpulse, worker_settings
from tests.support.worker_stories import MARK, assert_counted, events

pytestmark = pytest.mark.stack

PASSWORDS = {"worker": "a secret of the worker", "gateway": "a secret of the gateway"}


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApacheKafka]:
    with ApacheKafka(tmp_path_factory.mktemp("secured"), users=PASSWORDS) as cluster:
        yield cluster


class Users:
    """Settings of one topic as its three users have them."""

    def __init__(self, cluster: ApacheKafka, redis_url: str, directory: Path) -> None:
        self.admin = worker_settings(cluster.broker, redis_url, archive_interval_s=1)
        self._cluster, self._directory = cluster, directory

    def settings(self, user: str, **kafka: Any) -> Settings:
        """As this user, the password in a file."""
        login = self._cluster.login(user)
        file = self._directory / f"{user}.password"
        file.write_text(login.pop("password") + "\n")
        login |= {"password": None, "password_file": file, **kafka}
        return self.admin.model_copy(update={"kafka": self.admin.kafka.model_copy(update=login)})

    def allow(self) -> None:
        """What the worker and the gateway need, as docs/security.md says."""
        kafka = self.admin.kafka
        grant(kafka, "gateway", (Of.TOPIC, kafka.topic, To.WRITE))
        grant(kafka, "worker", *rights_of_worker(kafka))


@pytest.fixture
def users(secured: ApacheKafka, redis_server: RedisServer, tmp_path: Path) -> Users:
    return Users(secured, redis_server.url, tmp_path)


def test_with_no_more_rights_than_they_need_the_gateway_sends_and_the_worker_counts(
    users: Users, state_of: Any, tmp_path: Path
) -> None:
    users.allow()
    part = events(1_000)
    ends = send(users.settings("gateway").kafka, [*part, MARK])  # one for the dead-letter topic
    with WorkerProcess(users.settings("worker"), tmp_path / "worker.log") as worker:
        state_of(users.admin).wait_for(ends)
        wait_until(lambda: "offset=1001: archived" in worker.log, "it is archived")
        assert worker.stop() == 0
    assert_counted(users.admin, part)
    assert report(users.admin)["total"]["refused"] == {"not_json": 1}
    for password in PASSWORDS.values():
        assert password not in worker.log


@pytest.mark.parametrize("missing", ["topic", "dlq_topic", "archive_topic"])
def test_a_worker_that_may_not_see_a_topic_says_so_in_one_line(
    users: Users, tmp_path: Path, missing: str
) -> None:
    kafka = users.admin.kafka
    name = getattr(kafka, missing)
    rights = [right for right in rights_of_worker(kafka) if right[1] != name]
    grant(kafka, "worker", *rights)
    with WorkerProcess(users.settings("worker"), tmp_path / "worker.log") as worker:
        assert worker.ended() == 2
    assert worker.log == (
        f"tokenpulse: {name}: no such topic at {kafka.bootstrap}, or this user may not see it; "
        f"run `tokenpulse topics create`, or set kafka.{missing}\n"
    )


def denial(settings: Settings, user: str, to: To, name: str, option: str = "topic") -> str:
    """The line that names a missing permission, with the command that grants it."""
    operation = {To.READ: "Read", To.WRITE: "Write", To.DESCRIBE_CONFIGS: "DescribeConfigs"}[to]
    return (
        f"{name}: this user has no permission {operation} on the {option}; run `kafka-acls "
        f"--bootstrap-server {settings.kafka.bootstrap} --add --allow-principal User:{user} "
        f"--operation {operation} --{option} {name}`"
    )


def test_each_operation_that_a_worker_is_denied_is_one_line_with_its_fix(
    users: Users, tmp_path: Path
) -> None:
    kafka, settings = users.admin.kafka, users.settings("worker")
    needed = rights_of_worker(kafka)
    grant(kafka, "worker", *((of, name, To.DESCRIBE) for of, name, _ in needed))
    lines = [
        denial(settings, "worker", to, name, "topic" if of is Of.TOPIC else "group")
        for of, name, to in needed
    ]
    required = [line for line in lines if "DescribeConfigs" not in line]
    with WorkerProcess(settings, tmp_path / "worker.log") as worker:
        assert worker.ended() == 2
    assert worker.log == "".join(f"tokenpulse: {line}\n" for line in required)
    check = ("config", "check", "--role", "worker")
    told = tokenpulse(*check, settings=settings).stderr.splitlines()
    assert [
        line.removeprefix("tokenpulse: ") for line in told if "policies" not in line
    ] == required
    for number, right in enumerate(needed[: len(required)], start=1):
        grant(kafka, "worker", right)
        if required[number:]:
            with pytest.raises(Unavailable) as refused:
                asyncio.run(check_topics(settings))
            assert str(refused.value).splitlines() == required[number:]
    asyncio.run(check_topics(settings))
    told = tokenpulse(*check, settings=settings).stderr.splitlines()
    assert [line.removeprefix("warning: ") for line in told] == lines[len(required) :]


@pytest.mark.parametrize("lost", ["group", "topic", "dlq_topic"])
def test_a_worker_that_is_denied_an_operation_while_it_runs_ends_and_nothing_is_lost(
    users: Users, state_of: Any, tmp_path: Path, lost: str
) -> None:
    users.allow()
    parts = [events(1_000, seed=seed) for seed in range(2)]
    kafka, state, settings = users.admin.kafka, state_of(users.admin), users.settings("worker")
    gateway = users.settings("gateway").kafka
    of, name, to = right = {
        "group": (Of.GROUP, kafka.group, To.READ),
        "topic": (Of.TOPIC, kafka.topic, To.READ),
        "dlq_topic": (Of.TOPIC, kafka.dlq_topic, To.WRITE),
    }[lost]
    with WorkerProcess(settings, tmp_path / "one.log") as worker:
        state.wait_for(send(gateway, parts[0]))
        grant(kafka, "worker", (of, name, To.DESCRIBE))
        revoke(kafka, "worker", *right)
        ends = send(gateway, [*parts[1], MARK])
        assert worker.ended() == EXIT_CODE
    told = denial(settings, "worker", to, name, "topic" if of is Of.TOPIC else "group")
    assert sum(told in line for line in worker.log.splitlines()) == 1
    if lost != "group":  # of that one, aiokafka shows where a commit of its own failed
        assert "Traceback" not in worker.log
    assert state.offset(0) < ends[0]  # the rejected record is not passed
    grant(kafka, "worker", right)
    with WorkerProcess(settings, tmp_path / "two.log") as worker:
        state.wait_for(ends)
        assert worker.stop() == 0
    assert_counted(users.admin, *parts)
    assert report(users.admin)["total"]["refused"] == {"not_json": 1}


@pytest.mark.parametrize("to", [To.READ, To.WRITE])
def test_a_worker_that_is_denied_its_archive_says_so_and_counts_on(
    users: Users, state_of: Any, tmp_path: Path, to: To
) -> None:
    users.allow()
    kafka, settings = users.admin.kafka, users.settings("worker")
    gateway, right = users.settings("gateway").kafka, (Of.TOPIC, kafka.archive_topic, to)
    parts = [events(1_000, seed=seed) for seed in range(2)]
    with WorkerProcess(settings, tmp_path / "worker.log") as worker:
        state_of(users.admin).wait_for(send(gateway, parts[0]))
        revoke(kafka, "worker", *right)
        told = denial(settings, "worker", to, kafka.archive_topic)
        wait_until(lambda: told in worker.log, "it says so")
        ends = send(gateway, parts[1])
        state_of(users.admin).wait_for(ends)
        assert worker.stop() == 0
    assert_counted(users.admin, *parts)


def test_each_operation_that_an_intake_is_denied_is_one_line_with_its_fix(users: Users) -> None:
    kafka, settings = users.admin.kafka, users.settings("gateway")
    source, group = kafka.archive_topic, f"{kafka.group}-intake"  # any other topic that exists
    needed = [
        (Of.TOPIC, kafka.topic, To.WRITE),
        (Of.TOPIC, kafka.dlq_topic, To.WRITE),
        (Of.TOPIC, source, To.READ),
        (Of.GROUP, group, To.READ),
    ]
    grant(kafka, "gateway", *((of, name, To.DESCRIBE) for of, name, _ in needed))
    lines = [
        denial(settings, "gateway", to, name, "topic" if of is Of.TOPIC else "group")
        for of, name, to in needed
    ]
    for number, right in enumerate(needed):
        with pytest.raises(Unavailable) as refused:
            asyncio.run(check_sources(settings.kafka, [source]))
        assert str(refused.value).splitlines() == lines[number:]
        grant(kafka, "gateway", right)
    asyncio.run(check_sources(settings.kafka, [source]))


def test_commands_that_are_denied_an_operation_say_so_in_one_line(users: Users) -> None:
    kafka = users.admin.kafka
    grant(
        kafka,
        "gateway",
        *((Of.TOPIC, name, To.DESCRIBE) for name in (kafka.topic, kafka.dlq_topic)),
    )
    gateway = users.settings("gateway")
    with pytest.raises(Unavailable, match="did not take a batch of 10 records") as refused:
        send(gateway.kafka, events(10))
    assert str(refused.value).endswith(denial(gateway, "gateway", To.WRITE, kafka.topic))
    send(kafka, [MARK])
    done = tokenpulse("rejected", settings=gateway)
    assert done.returncode == 2
    assert done.stderr.endswith(f"{denial(gateway, 'gateway', To.READ, kafka.dlq_topic)}\n")
    done = tokenpulse("topics", "create", settings=gateway)  # it does not see the third one
    assert done.returncode == 2
    assert f"--operation Create --topic {kafka.archive_topic}`" in done.stderr


@pytest.mark.parametrize(
    ("wrong", "why"),
    [("password", "Authentication failed"), ("authority", "certificate verify failed")],
)
def test_a_wrong_password_and_a_broker_of_another_authority_are_refused_with_the_reason(
    users: Users, tmp_path: Path, wrong: str, why: str
) -> None:
    settings = users.settings("worker")
    if wrong == "password":
        (tmp_path / "worker.password").write_text("not this one")
    else:
        settings = users.settings("worker", ssl_ca_file=Authority(tmp_path / "other").cert)
    done = tokenpulse("worker", settings=settings)
    assert done.returncode == 2
    assert why in done.stderr
    assert "not this one" not in done.stderr
    assert "Traceback" not in done.stderr
