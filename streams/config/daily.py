"""The settings of the daily reliability board: when a day is final, and who gets it."""

import re
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from streams.config.sections import Section, read_secret
from streams.errors import ConfigError

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def _address(text: str) -> str:
    if not re.fullmatch(r"[^\s@<>,;:\"()\[\]\\]+@[A-Za-z0-9.-]+", text) or not text.isascii():
        raise ValueError("write a plain address, such as board@example.com")
    return text


def _page(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("write the address of the pages, such as https://board.example.com")
    return url.rstrip("/")


Address = Annotated[str, AfterValidator(_address)]


class Daily(Section):
    """The daily reliability board. Its days are those of `exporter.time_zone`."""

    seal_after_h: float = Field(
        4,
        ge=0,
        le=72,
        description="Hours that late events have after a day's end until the day is sealed. Above "
        "5 the days of zones whose midnight is not a full UTC hour are gone by then.",
    )
    public_url: Annotated[str, AfterValidator(_page)] | None = Field(
        None, description="Where readers find the exporter's pages; makes links in what is sent."
    )
    mail_from: Address | None = Field(None, description="Sender of the board's e-mail.")
    mail_to: tuple[Address, ...] = Field((), description="Who gets it.")
    smtp_host: str | None = Field(None, description="Mail server that takes it.")
    smtp_port: int = Field(587, ge=1, le=65_535, description="Its port; 465 goes with `tls`.")
    smtp_tls: Literal["starttls", "tls", "none"] = Field(
        "starttls",
        description="How it is spoken to: TLS after a greeting, TLS at once, or in plain text.",
    )
    smtp_ca_file: Path | None = Field(
        None, description="Authorities that sign its certificate; default the system's."
    )
    smtp_username: str | None = Field(None, description="User of the login, if it wants one.")
    smtp_password_file: Path | None = Field(None, description="File with the login's password.")
    slack_webhook_file: Path | None = Field(
        None, description="File with the URL of a Slack incoming webhook, which is a secret."
    )

    @model_validator(mode="after")
    def _whole(self) -> Self:
        mail = {
            "smtp_host": self.smtp_host,
            "mail_from": self.mail_from,
            "mail_to": self.mail_to,
        }
        missing = [name for name, value in mail.items() if not value]
        if 0 < len(missing) < len(mail):
            raise ValueError(f"e-mail needs {', '.join(mail)}; set {' and '.join(missing)}")
        if (self.smtp_username is None) != (self.smtp_password_file is None):
            raise ValueError("smtp_username and smtp_password_file go together; set both")
        if self.smtp_tls == "none" and (self.smtp_username or self.smtp_ca_file):
            raise ValueError("smtp_tls none would show the login to whoever listens; set starttls")
        return self

    def smtp_password(self) -> str | None:
        """The password of the login; ConfigError where its file cannot be used."""
        if self.smtp_password_file is None:
            return None
        return _text(self.smtp_password_file, "daily.smtp_password_file")

    def slack_webhook(self) -> str | None:
        """The webhook's URL; ConfigError, without it, where its file cannot be used."""
        if self.slack_webhook_file is None:
            return None
        url = _text(self.slack_webhook_file, "daily.slack_webhook_file")
        try:
            parts = urlsplit(url)
            fits = parts.scheme == "https" or (
                parts.scheme == "http" and parts.hostname in _LOOPBACK
            )
        except ValueError:
            fits = False
        if not fits or not url.isprintable() or " " in url:
            raise ConfigError(
                f"daily.slack_webhook_file: {self.slack_webhook_file} holds no https:// URL; write "
                "the address that Slack gave for the webhook, and nothing else"
            )
        return url


def _text(file: Path, setting: str) -> str:
    try:
        text = read_secret(file, setting).decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{setting}: {file} is not text in UTF-8") from error
    if not text:
        raise ConfigError(f"{setting}: {file} is empty; write the secret into it")
    return text
