"""TLS and users of the exporter's pages, in the form of Prometheus' web configuration file.

A subset of https://prometheus.io/docs/prometheus/latest/configuration/https/;
`promtool check web-config` accepts the same files. Unknown keys are an error, so that no guard that
the operator wrote down is silently missing. The logins are for every page but the health checks.
"""

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, Self

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from exporters.server.hosts import AllowedHosts
from exporters.server.login import Guard, TooManyGuesses
from streams.config.validation import Location, findings
from streams.config.yaml_file import parse_document, read_text
from streams.errors import ConfigError
from streams.http.connections import client_of
from streams.security.certificates import load_authorities, load_certificate

CHALLENGE = {"WWW-Authenticate": 'Basic realm="Tokenpulse", charset="UTF-8"'}
HEALTH_PATHS = frozenset({"/healthz", "/readyz"})

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


def middleware(config: WebConfig, hosts: AllowedHosts | None = None) -> Middleware:
    """Return the checks that run before every page; without `hosts` for loopback names only."""
    hosts = hosts or AllowedHosts("localhost")
    guard = Guard(config.users) if config.users else None

    async def check(request: web.Request) -> None:
        if not hosts.allow(request.headers.get("Host", "")):
            raise web.HTTPForbidden(
                text=f"Host {request.headers.get('Host', '')[:100]!r} is no name of this exporter; "
                "if it is, add it to exporter.allowed_hosts\n"
            )
        if guard is None:
            return
        try:
            client = client_of(request.remote or "")
            if not await guard.admits(request.headers.get("Authorization"), client):
                raise web.HTTPUnauthorized(headers=CHALLENGE)
        except TooManyGuesses:
            raise web.HTTPTooManyRequests(headers={"Retry-After": "1"}) from None

    @web.middleware
    async def stand(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            # Orchestrators ask by address, without a login; the answer has no content of the state.
            if request.path not in HEALTH_PATHS:
                await check(request)
            answer = await handler(request)
        except web.HTTPException as refused:
            refused.headers.update(config.headers)
            raise
        answer.headers.update(config.headers)
        return answer

    return stand
