"""The base of all sections of settings, and how a secret is read from a file."""

from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from pydantic import BaseModel, ConfigDict, SecretStr, field_validator

from streams.errors import ConfigError

ENV_PREFIX = "TOKENPULSE_"


class Section(BaseModel):
    """One group of settings. An unknown key is an error, as it is probably misspelt."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*")
    @classmethod
    def _has_no_nul(cls, value: Any) -> Any:
        # The system calls behind names of files, hosts and zones fail at this character.
        if isinstance(value, str | Path) and "\0" in str(value):
            raise ValueError("it has a NUL character; leave it out")
        return value


def split_address(url: str, fix: str) -> SplitResult:
    """Return the parts of a URL. Raises ValueError, without the URL, if it is none.

    `fix`: what to write instead.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises if it is no port
    except ValueError:
        raise ValueError(f"not an address; {fix}") from None
    return parts


def check_one_password(given: SecretStr | None, file: Path | None, prefix: str = "") -> None:
    """Raise ValueError if a password is given twice, as the two may differ.

    `prefix`: of the two settings' names.
    """
    if given is not None and file is not None:
        raise ValueError(f"give {prefix}password or {prefix}password_file, not both")


def read_secret(file: Path, setting: str) -> bytes:
    """Return the content of a file with a secret, without the white space around it.

    `setting`: the path of the setting, for the ConfigError if the file cannot be read.
    """
    try:
        # Editors end a file with a line break, which is no part of the secret.
        return file.read_bytes().strip()
    except OSError as error:
        raise ConfigError(
            f"{setting}: cannot read {file}: {error.strerror}; make it readable for this user"
        ) from error


def read_password(
    given: SecretStr | None, file: Path | None, section: str, prefix: str = ""
) -> str | None:
    """Return a password that is given, or in a file.

    `section` and the `prefix` of the setting's name: for the ConfigError.
    """
    if file is None:
        return None if given is None else given.get_secret_value()
    setting = f"{section}.{prefix}password_file"
    secret = read_secret(file, setting)
    if not secret:
        raise ConfigError(f"{setting}: {file} is empty; write the password into it")
    try:
        return secret.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{setting}: {file} is not text in UTF-8") from error
