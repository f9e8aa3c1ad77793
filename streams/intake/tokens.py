"""The bearer tokens of the senders, from a YAML file."""

import hashlib
import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from streams.config.settings import Intake
from streams.config.validation import findings
from streams.config.yaml_file import parse_document, read_text
from streams.errors import ConfigError

SHORTEST_TOKEN = 16  # characters: shorter ones can be guessed
_SETTING = "intake.tokens_file"


class Sender(BaseModel):
    """One sender: its name in the metrics, and the source that its records come from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tenant: str = Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")
    source: str | None = None  # profile or mapping; None: recognised from the records


class _Entry(Sender):
    token: Annotated[SecretStr, Field(min_length=SHORTEST_TOKEN)]


class _TokensFile(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    senders: tuple[_Entry, ...] = Field(min_length=1)


ANONYMOUS = Sender(tenant="anonymous")


class Tokens:
    """Recognises senders by their tokens. Only hashes of the tokens stay in memory."""

    def __init__(self, senders: Mapping[bytes, Sender] | None) -> None:
        """`senders`: by the SHA-256 hash of their token; None if no token is needed."""
        self._senders = senders

    def __len__(self) -> int:
        return len(self._senders or {})

    def replace(self, fresh: "Tokens") -> None:
        """Take the senders of tokens that were read later."""
        self._senders = fresh._senders

    def sources(self) -> set[str]:
        """Return the sources that senders name."""
        senders = (self._senders or {}).values()
        return {sender.source for sender in senders if sender.source is not None}

    def tenants(self) -> set[str]:
        """Return the names of the senders."""
        return {sender.tenant for sender in (self._senders or {}).values()}

    def sender_of(self, authorization: str) -> Sender | None:
        """Return the sender of a request by its `Authorization` header; None if it has none.

        The time of the look-up depends on the hash only, so that it reveals no part of a token.
        """
        if self._senders is None:
            return ANONYMOUS
        scheme, _, token = authorization.partition(" ")
        # Schemes are compared without case (RFC 9110).
        if scheme.lower() != "bearer":
            return None
        return self._senders.get(_hash(token.strip()))


def load_tokens(settings: Intake) -> Tokens:
    """Read the file of the tokens.

    Raises ConfigError if it cannot be used, or if there is none although other machines can reach
    the intake.
    """
    path = settings.tokens_file
    if path is None:
        if not _is_loopback(settings.host):
            raise ConfigError(
                f"{_SETTING}: needed, as other machines reach {settings.host}; give a file with "
                "the tokens of the senders (docs/intake.md)"
            )
        return Tokens(None)
    return Tokens(_read_senders(path))


def _read_senders(path: Path) -> dict[bytes, Sender]:
    document = parse_document(read_text(path, f"{_SETTING}: {path}"), str(path), has_secrets=True)
    try:
        entries = _TokensFile.model_validate(document or {}).senders
    except ValidationError as error:
        fix = "write a list `senders` of `token`, `tenant` and `source` (docs/intake.md)"
        lines = findings(error.errors(), str(path), fix, is_public=lambda location: False)
        # The cause would repeat the content of the file.
        raise ConfigError("\n".join(lines)) from None
    # A hash in memory: a dump of the process reveals no token.
    senders = {
        _hash(entry.token.get_secret_value()): Sender(tenant=entry.tenant, source=entry.source)
        for entry in entries
    }
    if len(senders) < len(entries):
        raise ConfigError(f"{path}: two senders have the same token; give each its own")
    return senders


def _hash(token: str) -> bytes:
    # A header may have bytes that are not UTF-8: they match no token, and raise no error.
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
