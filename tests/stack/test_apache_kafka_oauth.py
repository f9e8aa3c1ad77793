"""Apache Kafka with OAUTHBEARER: workers and producers log in with tokens of a token endpoint."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streams.config.settings import Settings
from tests.support.apache_kafka import ApacheKafka
from tests.support.kafka_admin import Of, To, grant, rights_of_worker
from tests.support.servers import RedisServer, wait_until
from tests.support.token_issuer import Issuer, signing_key, token_issuer
from tests.support.worker_process import WorkerProcess, send, tokenpulse, worker_settings
from tests.support.worker_stories import assert_counted, events

pytestmark = pytest.mark.stack

HANDLER = "org.apache.kafka.common.security.oauthbearer.OAuthBearerValidatorCallbackHandler"
MODULE = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule"
LISTENER = "listener.name.clients.oauthbearer"
# The broker ends connections whose token has ended; clients then log in again.
REAUTHENTICATION = "listener.name.clients.oauthbearer.connections.max.reauth.ms"


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Issuer]:
    with token_issuer(key=signing_key(tmp_path_factory.mktemp("issuer"))) as running:
        yield running


@pytest.fixture(scope="module")
def cluster(issuer: Issuer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApacheKafka]:
    properties = {
        "sasl.enabled.mechanisms": "SCRAM-SHA-512,OAUTHBEARER",
        f"{LISTENER}.sasl.server.callback.handler.class": HANDLER,
        f"{LISTENER}.sasl.jaas.config": f"{MODULE} required;",
        "sasl.oauthbearer.jwks.endpoint.url": issuer.keys_url,
        REAUTHENTICATION: "3600000",
    }
    options = (f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={issuer.keys_url}",)
    directory = tmp_path_factory.mktemp("oauth")
    with ApacheKafka(directory, properties=properties, users={}, java_options=options) as running:
        yield running


class Logins:
    """Settings of one topic for the administrator and for the client of the issuer."""

    def __init__(self, cluster: ApacheKafka, issuer: Issuer, redis_url: str) -> None:
        self.admin = worker_settings(cluster.broker, redis_url, archive_interval_s=1)
        kafka = self.admin.kafka
        user, secret = issuer.client
        login = {
            "sasl_mechanism": "OAUTHBEARER",
            "username": user,
            "password": secret,
            "oauth_token_url": issuer.token_url,
            "allow_sasl_without_tls": True,  # of the token endpoint
        }
        given = {**self.admin.model_dump(), "kafka": {**kafka.model_dump(), **login}}
        self.client = Settings(**given)
        grant(kafka, user, (Of.TOPIC, kafka.topic, To.WRITE), *rights_of_worker(kafka))


@pytest.fixture
def logins(cluster: ApacheKafka, issuer: Issuer, redis_server: RedisServer) -> Logins:
    return Logins(cluster, issuer, redis_server.url)


def test_producer_and_worker_log_in_with_tokens_and_again_when_these_end(
    logins: Logins, issuer: Issuer, state_of: Any, tmp_path: Path
) -> None:
    issuer.life_s = 6
    parts = [events(1_000, seed=seed) for seed in range(2)]
    state = state_of(logins.admin)
    with WorkerProcess(logins.client, tmp_path / "worker.log") as worker:
        state.wait_for(send(logins.client.kafka, parts[0]))
        asked = len(issuer.asked)
        wait_until(lambda: len(issuer.asked) > asked + 1, "tokens are replaced", 60)
        state.wait_for(send(logins.client.kafka, parts[1]))
        assert worker.stop() == 0
    assert_counted(logins.admin, [*parts[0], *parts[1]])
    assert issuer.client[1] not in worker.log


def test_a_client_that_the_issuer_refuses_is_told_in_one_line(
    logins: Logins, tmp_path: Path
) -> None:
    file = tmp_path / "secret"
    file.write_text("another secret\n")
    login = {"password": None, "password_file": file}
    kafka = logins.client.kafka.model_copy(update=login)
    settings = logins.client.model_copy(update={"kafka": kafka})
    done = tokenpulse("config", "check", settings=settings)
    assert done.returncode != 0
    assert "answered 401 'invalid_client'; check kafka.username (the client id)" in done.stderr
    assert "Traceback" not in done.stderr
    assert "another secret" not in done.stdout + done.stderr
