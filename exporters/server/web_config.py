"""TLS and users of the exporter's pages, in the form of Prometheus' web configuration file.

A subset of https://prometheus.io/docs/prometheus/latest/configuration/https/;
`promtool check web-config` accepts the same files. Unknown keys are an error, so that no guard that
the operator wrote down is silently missing. As with Prometheus' own exporters the guard covers
every page, the health checks too.
"""

import asyncio
import base64
import hashlib
import hmac
import re
import secrets
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, Self

import bcrypt
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from streams.config.security import load_authorities, load_certificate
from streams.config.validation import Location, findings
from streams.config.yaml_file import parse_document, read_text
from streams.errors import ConfigError

CHALLENGE = {"WWW-Authenticate": 'Basic realm="Tokenpulse", charset="UTF-8"'}
# Bcrypt is slow on purpose: guesses may take one processor, not all of them.
GUESSES_AT_A_TIME = 1
GUESSES_WAITING = 64

_TLS_VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
_CLIENT_AUTH = {
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
_BCRYPT = re.compile(r"\$2[aby]\$(0[4-9]|1\d|2\d|3[01])\$[./A-Za-z0-9]{53}")


class _ConfigPart(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


# Names and defaults are those of Prometheus' exporter toolkit, so that one file fits all exporters.
class _Tls(_ConfigPart):
    cert_file: Path
    key_file: Path
    client_auth_type: Literal[
        "NoClientCert", "VerifyClientCertIfGiven", "RequireAndVerifyClientCert"
    ] = "NoClientCert"
    client_ca_file: Path | None = None
    min_version: Literal["TLS12", "TLS13"] = "TLS12"

    @model_validator(mode="after")
    def _authorities(self) -> Self:
        if (self.client_ca_file is None) != (self.client_auth_type == "NoClientCert"):
            raise ValueError(
                "client_ca_file and a client_auth_type that verifies go together; set both or "
                "neither"
            )
        return self


def _check_hash(text: str) -> str:
    if _BCRYPT.fullmatch(text) is None:
        raise ValueError("not a bcrypt hash; make one with `htpasswd -nBC 10 USER`")
    return text


def _check_header(text: str) -> str:
    # A line break in a value would begin a further header.
    if "\r" in text or "\n" in text:
        raise ValueError("a header is one line")
    return text


class _Http(_ConfigPart):
    # The names that Prometheus allows.
    headers: dict[
        Literal[
            "Content-Security-Policy",
            "Strict-Transport-Security",
            "X-Content-Type-Options",
            "X-Frame-Options",
            "X-XSS-Protection",
        ],
        Annotated[str, AfterValidator(_check_header)],
    ] = Field(default_factory=dict)


class _File(_ConfigPart):
    tls_server_config: _Tls | None = None
    http_server_config: _Http = _Http()
    basic_auth_users: dict[str, Annotated[str, AfterValidator(_check_hash)]] = Field(
        default_factory=dict
    )


_UNKNOWN_KEY = "not supported here; docs/security.md lists what is"


def _is_public(location: Location) -> bool:
    """Return False for texts that may be hashes, or passwords in their place."""
    return len(location) > 1 and location[0] == "tls_server_config"


@dataclass(frozen=True, slots=True)
class WebConfig:
    """Users, TLS and headers of the pages; empty: plain text without logins."""

    tls: ssl.SSLContext | None = None
    users: Mapping[str, str] = field(default_factory=dict, repr=False)  # name -> bcrypt hash
    headers: Mapping[str, str] = field(default_factory=dict)  # added to each answer


def load_web_config(path: Path | None) -> WebConfig:
    """Read the file, if there is one. Raises ConfigError, one line per finding.

    Paths in it are relative to its folder.
    """
    if path is None:
        return WebConfig()
    text = read_text(
        path, f"exporter.web_config_file: {path}", fix="make it readable for this user"
    )
    content = parse_document(text, str(path), has_secrets=True)
    try:
        file = _File.model_validate({} if content is None else content)
    except ValidationError as error:
        raise ConfigError(
            "\n".join(
                findings(error.errors(), str(path), _UNKNOWN_KEY, content, is_public=_is_public)
            )
        ) from error
    tls = _context(file.tls_server_config, path) if file.tls_server_config else None
    headers = {str(name): text for name, text in file.http_server_config.headers.items()}
    return WebConfig(tls, file.basic_auth_users, headers)


def _context(tls: _Tls, path: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _TLS_VERSIONS[tls.min_version]
    beside = path.parent
    setting = f"{path}: tls_server_config"
    load_certificate(context, beside / tls.cert_file, beside / tls.key_file, f"{setting}.cert_file")
    if tls.client_ca_file is not None:
        load_authorities(context, beside / tls.client_ca_file, f"{setting}.client_ca_file")
    context.verify_mode = _CLIENT_AUTH[tls.client_auth_type]
    return context


class Guard:
    """Checks passwords; a password that was right is known again without bcrypt."""

    def __init__(self, users: Mapping[str, str]) -> None:
        self._users = {name: text.encode() for name, text in users.items()}
        self._key = secrets.token_bytes(32)
        self._known: dict[str, bytes] = {}  # name -> keyed hash of its password
        self._turn = asyncio.Semaphore(GUESSES_AT_A_TIME)
        self._waiting = 0

    async def admits(self, authorization: str | None) -> bool:
        """Return whether an Authorization header has a user's name and password."""
        login = _login(authorization or "")
        if login is None:
            return False
        name, password = login
        # bcrypt takes a tenth of a second, too long for every scrape; a keyed hash of a password
        # that was right is kept in memory only.
        seen = hmac.digest(self._key, password, hashlib.sha256)
        known = self._known.get(name)
        if known is not None and hmac.compare_digest(known, seen):
            return True
        # Guessing must not use up the threads that check real users.
        if self._waiting >= GUESSES_WAITING:
            return False
        self._waiting += 1
        try:
            async with self._turn:
                right = await asyncio.to_thread(self._is_right, name, password)
        finally:
            self._waiting -= 1
        if right:
            self._known[name] = seen
        return right

    def _is_right(self, name: str, password: bytes) -> bool:
        # An unknown name costs as much time as a known one.
        found = self._users.get(name)
        against = found if found is not None else next(iter(self._users.values()))
        try:
            return bcrypt.checkpw(password, against) and found is not None
        except ValueError:  # longer than bcrypt can tell apart
            return False


def _login(header: str) -> tuple[str, bytes] | None:
    """Return name and password of a Basic Authorization header (RFC 7617)."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
        # A user without a colon has no password.
        return (name.decode(), password) if colon else None
    except ValueError:
        return None


def middleware(config: WebConfig) -> Middleware:
    """Return the checks that run before every page."""
    guard = Guard(config.users) if config.users else None

    @web.middleware
    async def stand(request: web.Request, handler: Handler) -> web.StreamResponse:
        if guard is not None and not await guard.admits(request.headers.get("Authorization")):
            raise web.HTTPUnauthorized(headers={**CHALLENGE, **config.headers})
        try:
            answer = await handler(request)
        except web.HTTPException as refused:
            refused.headers.update(config.headers)
            raise
        answer.headers.update(config.headers)
        return answer

    return stand
