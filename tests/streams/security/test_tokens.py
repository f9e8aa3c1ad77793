"""Tokens for Kafka's OAUTHBEARER: fetched once for many connections, and replaced in time."""

import asyncio
import json
from base64 import urlsafe_b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from streams.config.settings import Kafka, load_settings
from streams.errors import ConfigError, Unavailable
from streams.kafka.topics import check_broker
from streams.security.clients import client_kwargs
from streams.security.tokens import EndpointTokens, MskTokens, TokenProvider, TokenUnavailable
from tests.support.certificates import Authority
from tests.support.token_issuer import Issuer, token_issuer

OAUTH = {
    "security_protocol": "SASL_SSL",
    "sasl_mechanism": "OAUTHBEARER",
    "username": "worker",
    "password": "the secret of the client",
}


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with token_issuer() as running:
        yield running


def settings(issuer: Issuer, **changes: Any) -> Kafka:
    own = {"oauth_token_url": issuer.token_url, "allow_sasl_without_tls": True}
    return Kafka(**{**OAUTH, **own, **changes})


async def fetched(provider: TokenProvider, times: int = 1) -> list[str]:
    return list(await asyncio.gather(*(provider.token() for _ in range(times))))


def test_connections_at_the_same_time_share_one_token(issuer: Issuer) -> None:
    provider = EndpointTokens(settings(issuer, oauth_scope="kafka"))
    assert asyncio.run(fetched(provider, 5)) == ["token-1"] * 5
    assert issuer.asked == [{"grant_type": "client_credentials", "scope": "kafka"}]


@pytest.mark.parametrize(
    ("life_s", "kept"),
    [
        pytest.param(300, True, id="a long life"),
        pytest.param(0.1, False, id="over a moment later"),
        pytest.param(None, False, id="not said"),
    ],
)
def test_a_token_is_kept_while_it_is_valid(
    issuer: Issuer, life_s: float | None, kept: bool
) -> None:
    issuer.life_s = life_s

    async def two() -> tuple[str, str]:
        provider = EndpointTokens(settings(issuer))
        first = await provider.token()
        await asyncio.sleep(0.1)
        return first, await provider.token()

    assert asyncio.run(two()) == ("token-1", "token-1" if kept else "token-2")


def test_the_login_of_a_kafka_client_is_the_provider(issuer: Issuer) -> None:
    found = client_kwargs(settings(issuer))
    assert found["sasl_mechanism"] == "OAUTHBEARER"
    assert asyncio.run(fetched(found["sasl_oauth_token_provider"])) == ["token-1"]
    assert "sasl_plain_password" not in found


def test_ids_and_secrets_may_contain_any_character(issuer: Issuer) -> None:
    issuer.client = "api://tokenpulse", "50 % + a:b/ä"
    kafka = settings(issuer, username=issuer.client[0], password=issuer.client[1])
    assert asyncio.run(fetched(EndpointTokens(kafka))) == ["token-1"]


def failure(kafka: Kafka) -> str:
    with pytest.raises(TokenUnavailable) as caught:
        asyncio.run(fetched(EndpointTokens(kafka)))
    said = str(caught.value)
    assert said.startswith(f"kafka.oauth_token_url: {kafka.oauth_token_url}: ")
    assert "\n" not in said
    assert "secret" not in said
    return said


def test_a_refused_client_is_told_with_the_reason_of_the_endpoint(issuer: Issuer) -> None:
    said = failure(settings(issuer, password="another secret"))
    assert "answered 401 'invalid_client'; check kafka.username (the client id)" in said


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"<html>",
        b"\xff",
        b"[]",
        b'{"token": "x"}',
        b'{"access_token": 7}',
        b'{"access_token": "x", "expires_in": "soon"}',
    ],
)
def test_an_answer_without_a_token_is_told(issuer: Issuer, answer: bytes) -> None:
    issuer.answer = answer
    assert "answered without an access_token; " in failure(settings(issuer))


@pytest.mark.parametrize("answer", [b"", b"<html>", b"\xff", b"[]", b'{"error": 7}'])
def test_an_error_in_another_form_is_told_by_its_status(issuer: Issuer, answer: bytes) -> None:
    issuer.status, issuer.answer = 503, answer
    assert "answered 503; " in failure(settings(issuer))


def test_an_endpoint_that_is_down_is_told(unused_port: int) -> None:
    down = Issuer(f"http://127.0.0.1:{unused_port}")
    assert "check that the token endpoint runs" in failure(settings(down))


def test_a_redirect_is_not_followed_with_the_secret(issuer: Issuer) -> None:
    with token_issuer() as other:
        issuer.redirect = other.token_url
        assert "answered 302; " in failure(settings(issuer))
        assert other.asked == []


@pytest.mark.stack
def test_an_endpoint_with_a_certificate_of_another_authority_is_left(tmp_path: Path) -> None:
    authority, other = Authority(tmp_path / "one"), Authority(tmp_path / "other")
    with token_issuer(authority.issue("issuer")) as issuer:
        trusted = settings(issuer, oauth_ca_file=authority.cert)
        assert asyncio.run(fetched(EndpointTokens(trusted))) == ["token-1"]
        said = failure(settings(issuer, oauth_ca_file=other.cert))
    assert "kafka.oauth_ca_file" in said
    assert len(issuer.asked) == 1


def test_a_command_without_a_token_says_why_and_not_that_the_broker_is_away(
    issuer: Issuer, broker: Any
) -> None:
    kafka = settings(issuer, password="another secret", bootstrap=broker.bootstrap)
    with pytest.raises(Unavailable, match=r"^kafka\.oauth_token_url: .* answered 401 "):
        asyncio.run(check_broker(kafka.bootstrap, **client_kwargs(kafka)))


# -- Amazon MSK ------------------------------------------------------------------------------------

MSK = {"security_protocol": "SASL_SSL", "sasl_mechanism": "AWS_MSK_IAM", "aws_region": "eu-west-1"}


def test_msk_receives_a_url_signed_for_its_region(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a secret of the tests")
    found = client_kwargs(Kafka(**MSK))
    assert found["sasl_mechanism"] == "OAUTHBEARER"
    first, second = asyncio.run(fetched(found["sasl_oauth_token_provider"], 2))
    assert first == second
    url = urlsplit(urlsafe_b64decode(first + "=" * (-len(first) % 4)).decode())
    query = parse_qs(url.query)
    assert url.hostname == "kafka.eu-west-1.amazonaws.com"
    assert query["Action"] == ["kafka-cluster:Connect"]
    assert query["X-Amz-Credential"][0].startswith("AKIDEXAMPLE/")
    assert "a secret" not in json.dumps(query)


def test_msk_without_credentials_says_so_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    with pytest.raises(TokenUnavailable) as caught:
        asyncio.run(fetched(MskTokens(Kafka(**MSK))))
    assert str(caught.value).startswith("kafka.sasl_mechanism: AWS_MSK_IAM: ")
    assert "AWS credentials" in str(caught.value)


# -- settings --------------------------------------------------------------------------------------

URL = "https://login.example.com/oauth2/token"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (OAUTH, "OAUTHBEARER needs an oauth_token_url; set it"),
        ({**OAUTH, "oauth_token_url": URL, "username": None}, "OAUTHBEARER needs a username"),
        ({**OAUTH, "oauth_token_url": URL, "password": None}, "OAUTHBEARER needs a password"),
        (
            {**OAUTH, "oauth_token_url": "http://login.example.com/token"},
            "oauth_token_url sends the client's secret unencrypted; write https://",
        ),
        (
            {**OAUTH, "oauth_token_url": "HTTP://login.example.com/token"},
            "oauth_token_url sends the client's secret unencrypted; write https://",
        ),
        ({**OAUTH, "oauth_token_url": "login.example.com"}, "not the address of a token endpoint"),
        (
            {**OAUTH, "oauth_token_url": "https://me:hunter2@login.example.com/token"},
            "write https://host/path, and the login into username and password",
        ),
        (
            {**OAUTH, "oauth_token_url": URL, "aws_region": "eu-west-1"},
            "aws_region is for sasl_mechanism AWS_MSK_IAM; set that, or leave it out",
        ),
        (
            {
                "security_protocol": "SASL_PLAINTEXT",
                "allow_sasl_without_tls": True,
                **{name: OAUTH[name] for name in ("sasl_mechanism", "username", "password")},
                "oauth_token_url": "http://127.0.0.1/token",
                "oauth_ca_file": "ca.pem",
            },
            "oauth_ca_file is given, but oauth_token_url is not encrypted",
        ),
        ({"oauth_scope": "kafka"}, "oauth_scope and oauth_ca_file are for a token endpoint"),
        ({"oauth_token_url": URL}, "oauth_token_url is for sasl_mechanism OAUTHBEARER; set that"),
        (
            {**OAUTH, "oauth_token_url": URL, "sasl_mechanism": "PLAIN"},
            "oauth_token_url is for sasl_mechanism OAUTHBEARER; set that, or leave it out",
        ),
        ({**MSK, "aws_region": None}, "AWS_MSK_IAM needs an aws_region; set it"),
        ({**MSK, "username": "me"}, "AWS_MSK_IAM uses no username; leave it out"),
    ],
)
def test_logins_that_contradict_themselves_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(overrides={"kafka": given})
    assert message in str(caught.value)
    assert "hunter2" not in str(caught.value)
