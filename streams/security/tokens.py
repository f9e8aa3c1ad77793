"""Access tokens for Kafka's OAUTHBEARER: from a token endpoint, or signed for Amazon MSK.

aiokafka asks for a token at each connection. A token is kept until a fifth of its life is left.
"""

import asyncio
import time
from abc import abstractmethod
from http import HTTPStatus
from importlib import import_module
from urllib.parse import quote_plus

import msgspec
from aiohttp import ClientError, ClientSession, ClientTimeout, encode_basic_auth
from aiokafka.abc import AbstractTokenProvider
from aiokafka.errors import KafkaConnectionError

from streams.config.settings import Kafka
from streams.errors import ConfigError, one_line
from streams.security.certificates import trust

_KEPT_RATIO = 0.8
_TIMEOUT_S = 10.0
_MOST_ANSWER_BYTES = 1_048_576


class TokenUnavailable(KafkaConnectionError):  # type: ignore[misc]  # aiokafka has no types
    """There is no token now; the message names setting, reason and fix.

    To aiokafka this is a connection that failed, which it tries again.
    """

    def __str__(self) -> str:
        return str(self.args[0])


class TokenProvider(AbstractTokenProvider):  # type: ignore[misc]  # aiokafka has no types
    """Keeps one token and replaces it in time; connections at the same time share a request."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._token = ""
        self._replace_at_s = 0.0  # of the monotonic clock

    async def token(self) -> str:
        """Return a valid token. Raises TokenUnavailable."""
        async with self._lock:
            if time.monotonic() >= self._replace_at_s:
                asked_at_s = time.monotonic()
                self._token, life_s = await self._fetch()
                self._replace_at_s = asked_at_s + life_s * _KEPT_RATIO
            return self._token

    @abstractmethod
    async def _fetch(self) -> tuple[str, float]:
        """Return a new token and its life in seconds. Raises TokenUnavailable."""


class _Answer(msgspec.Struct):
    """The answer of a token endpoint (RFC 6749, section 5.1)."""

    access_token: str
    # The RFC allows an endpoint to leave it out: the token then serves one connection.
    expires_in: float = 0


class EndpointTokens(TokenProvider):
    """Tokens of a token endpoint, by client credentials (RFC 6749, section 4.4)."""

    def __init__(self, kafka: Kafka) -> None:
        """Raises ConfigError if a file of the settings cannot be read."""
        super().__init__()
        self._url = str(kafka.oauth_token_url)
        # Encoded as in a form first (RFC 6749, section 2.3.1): an id may contain a colon.
        user, secret = quote_plus(kafka.username or ""), quote_plus(kafka.login_password() or "")
        login = encode_basic_auth(user, secret)
        self._headers = {"Accept": "application/json", "Authorization": login}
        self._form = {"grant_type": "client_credentials"}
        if kafka.oauth_scope is not None:
            self._form["scope"] = kafka.oauth_scope
        self._tls = trust(kafka.oauth_ca_file, "kafka.oauth_ca_file")

    async def _fetch(self) -> tuple[str, float]:
        try:
            async with (
                ClientSession(timeout=ClientTimeout(total=_TIMEOUT_S)) as client,
                client.post(
                    self._url,
                    data=self._form,
                    headers=self._headers,
                    ssl=self._tls,
                    # A redirect would send the client's secret to another server.
                    allow_redirects=False,
                ) as answer,
            ):
                status, body = answer.status, b""
                async for part in answer.content.iter_chunked(65_536):
                    body += part
                    if len(body) > _MOST_ANSWER_BYTES:
                        raise self._unavailable(
                            f"answered more than {_MOST_ANSWER_BYTES:,} bytes; set it to the token "
                            "endpoint of the issuer"
                        )
        except (ClientError, TimeoutError, OSError) as error:
            reason = one_line(error) or f"no answer within {_TIMEOUT_S:g} s"
            raise self._unavailable(
                f"{reason}; check that the token endpoint runs, and kafka.oauth_ca_file"
            ) from error
        if status != HTTPStatus.OK:
            raise self._unavailable(
                f"answered {status}{_reason(body)}; check kafka.username (the client id), its "
                "password, and kafka.oauth_scope"
            )
        try:
            read = msgspec.json.decode(body, type=_Answer, strict=False)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise self._unavailable(
                "answered without an access_token; set it to the token endpoint of the issuer"
            ) from error
        return read.access_token, read.expires_in

    def _unavailable(self, reason: str) -> TokenUnavailable:
        return TokenUnavailable(f"kafka.oauth_token_url: {self._url}: {reason}")


def _reason(body: bytes) -> str:
    """Return the error of an answer (RFC 6749, section 5.2), which contains no secret."""
    try:
        read = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ""
    if not isinstance(read, dict) or not isinstance(read.get("error"), str):
        return ""
    return f" {read['error'][:100]!r}"


class MskTokens(TokenProvider):
    """Tokens for IAM access to Amazon MSK, signed with the credentials that AWS's SDK finds."""

    def __init__(self, kafka: Kafka) -> None:
        """Raises ConfigError if the package that signs is not installed."""
        super().__init__()
        self._region = kafka.aws_region
        try:
            # Only if it is used: AWS's SDK is large, and no other user of Tokenpulse needs it.
            self._sign = import_module("aws_msk_iam_sasl_signer.MSKAuthTokenProvider")
        except ImportError as error:
            raise ConfigError(
                "kafka.sasl_mechanism: AWS_MSK_IAM needs a package that is not installed; run "
                "`pip install 'tokenpulse[msk]'`"
            ) from error

    async def _fetch(self) -> tuple[str, float]:
        try:
            # AWS's SDK may ask a server for the credentials, and blocks while it does.
            token, ends_at_ms = await asyncio.to_thread(
                self._sign.generate_auth_token, self._region
            )
        except Exception as error:  # each credential source has errors of its own
            raise TokenUnavailable(
                f"kafka.sasl_mechanism: AWS_MSK_IAM: {one_line(error)}; give this process AWS "
                "credentials (a role, a profile, or AWS_ACCESS_KEY_ID)"
            ) from error
        return str(token), ends_at_ms / 1000 - time.time()
