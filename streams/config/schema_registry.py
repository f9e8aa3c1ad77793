"""The settings of the schema registry, and of files in its place.

Pure, except that the password is read from a file.
"""

from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, model_validator

from streams.config.base import Section, check_one_password, read_password, split_address


def _address(url: str) -> str:
    """Return the URL. Raises ValueError, without the URL, if it is none of a registry."""
    fix = "write http://host:8081, or https://host for TLS"
    parts = split_address(url, fix)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"not an address of a registry; {fix}")
    if "@" in parts.netloc:
        raise ValueError("it has a login; write that into username and password_file")
    return url


class SchemaFile(Section):
    """A schema in a file, in place of the registry's answer."""

    id: int = Field(ge=0, lt=2**32)  # that the records name
    path: Path  # .avsc, or a .proto whose imports lie beside it


class SchemaRegistry(Section):
    """Where the intake finds the schemas of Avro and Protobuf records (schema-registry.md)."""

    url: Annotated[str, AfterValidator(_address)] | None = Field(
        None,
        description="Address of a registry with Confluent's REST API, such as `http://host:8081`.",
        # Unlike a valid address, one that is refused may contain a password.
        repr=False,
    )
    username: str | None = Field(None, description="User name or API key of the registry.")
    password: SecretStr | None = Field(None, description="Password or API secret.")
    password_file: Path | None = Field(None, description="File that contains the password.")
    allow_login_without_tls: bool = Field(
        False, description="Allow a login with `http://`, which sends it unencrypted."
    )
    ssl_ca_file: Path | None = Field(
        None,
        description="CA certificates that sign the registry's certificate; default: those of "
        "the system.",
    )
    timeout_s: float = Field(
        5, gt=0, le=60, description="Time limit for one schema with all that it refers to."
    )
    max_schemas: int = Field(
        1_000,
        ge=1,
        description="Schemas that are kept in memory. The one used least recently makes room.",
    )
    files: tuple[SchemaFile, ...] = Field(
        (),
        description="Schemas in files, each with the `id` that records name and its `path`. They "
        "are used before the registry, or without one.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_one_password(self.password, self.password_file)
        if bool(self.username) != bool(self.password or self.password_file):
            raise ValueError("username and a password go together; set both or neither")
        if self.url is not None and urlsplit(self.url).scheme == "http":
            if self.username and not self.allow_login_without_tls:
                raise ValueError(
                    "the url sends the login unencrypted; write https://, or set "
                    "allow_login_without_tls: true"
                )
            if self.ssl_ca_file is not None:
                raise ValueError(
                    "ssl_ca_file is given, but the url is not encrypted; write https://"
                )
        ids = [file.id for file in self.files]
        if len(set(ids)) < len(ids):
            raise ValueError("files has an id twice; give each schema one file")
        return self

    def login_password(self) -> str | None:
        """Return the password. Raises ConfigError if its file cannot be read."""
        return read_password(self.password, self.password_file, "schema_registry")
