"""Apache Kafka with logins over TLS, and users that may do what they must and no more."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streams.config.settings import Settings
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


def test_a_worker_that_may_not_join_the_group_ends(users: Users, tmp_path: Path) -> None:
    kafka = users.admin.kafka
    grant(kafka, "worker", *(right for right in rights_of_worker(kafka) if right[0] != Of.GROUP))
    with WorkerProcess(users.settings("worker"), tmp_path / "worker.log") as worker:
        assert worker.ended() == EXIT_CODE
        assert "GroupAuthorizationFailed" in worker.log


def test_a_worker_whose_group_right_is_taken_away_ends_and_nothing_is_lost(
    users: Users, state_of: Any, tmp_path: Path
) -> None:
    users.allow()
    parts = [events(1_000, seed=seed) for seed in range(2)]
    kafka, state = users.admin.kafka, state_of(users.admin)
    gateway, right = users.settings("gateway").kafka, (Of.GROUP, kafka.group, To.READ)
    with WorkerProcess(users.settings("worker"), tmp_path / "one.log") as worker:
        state.wait_for(send(gateway, parts[0]))
        revoke(kafka, "worker", *right)
        assert worker.ended() != 0
        assert "GroupAuthorizationFailed" in worker.log
    ends = send(gateway, parts[1])
    grant(kafka, "worker", right)
    with WorkerProcess(users.settings("worker"), tmp_path / "two.log") as worker:
        state.wait_for(ends)
        assert worker.stop() == 0
    assert_counted(users.admin, *parts)


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
