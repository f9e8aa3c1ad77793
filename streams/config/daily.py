"""The settings of the daily board: when a day is finalised, and to which recipients it is sent."""

import re
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from streams.config.base import Section, read_secret
from streams.errors import ConfigError

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def _address(text: str) -> str:
    # Stricter than RFC 5322: such an address can carry no header and no second recipient.
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
    """The daily reliability board and its delivery. Its days are those of `exporter.time_zone`."""

    seal_after_h: float = Field(
        4,
        ge=0,
        le=72,
        description="Hours after the end of a day for late events; then the day is "
        "finalised. Use at most 5 if midnight of `exporter.time_zone` is not at "
        "a full hour of UTC: the slices that such a day needs are deleted 6 "
        "hours after its end.",
    )
    public_url: Annotated[str, AfterValidator(_page)] | None = Field(
        None,
        description="Address of the exporter's pages for readers. E-mails and Slack "
        "messages link to it.",
    )
    periods: tuple[Literal["day", "week", "month"], ...] = Field(
        ("day",),
        min_length=1,
        description="Boards that `tokenpulse daily --send` delivers: `day` each morning, `week` "
        "on Monday, `month` on the first.",
    )
    mail_from: Address | None = Field(None, description="Sender of the e-mail.")
    mail_to: tuple[Address, ...] = Field((), description="Recipients of the e-mail.")
    smtp_host: str | None = Field(None, description="Mail server that accepts the e-mail.")
    smtp_port: int = Field(
        587, ge=1, le=65_535, description="Port of the mail server; 465 is usual with `tls`."
    )
    smtp_tls: Literal["starttls", "tls", "none"] = Field(
        "starttls",
        description="Encryption: `starttls` after the greeting, `tls` from the start, or `none`.",
    )
    smtp_ca_file: Path | None = Field(
        None,
        description="CA certificates that sign the mail server's certificate; default: "
        "those of the system.",
    )
    smtp_username: str | None = Field(
        None, description="User name, if the mail server requires a login."
    )
    smtp_password_file: Path | None = Field(
        None, description="File that contains the password of the login."
    )
    slack_webhook_file: Path | None = Field(
        None,
        description="File that contains the URL of a Slack incoming webhook. The URL is a secret.",
    )

    @model_validator(mode="after")
    def _whole(self) -> Self:
        mail = {
            "smtp_host": self.smtp_host,
            "mail_from": self.mail_from,
            "mail_to": self.mail_to,
        }
        missing = [name for name, value in mail.items() if not value]
        # All or none: without e-mail the three stay unset.
        if 0 < len(missing) < len(mail):
            raise ValueError(f"e-mail needs {', '.join(mail)}; set {' and '.join(missing)}")
        if (self.smtp_username is None) != (self.smtp_password_file is None):
            raise ValueError("smtp_username and smtp_password_file go together; set both")
        if self.smtp_tls == "none" and (self.smtp_username or self.smtp_ca_file):
            raise ValueError("smtp_tls none would send the login unencrypted; set starttls")
        return self

    def smtp_password(self) -> str | None:
        """Return the password of the login. Raises ConfigError if its file cannot be used."""
        if self.smtp_password_file is None:
            return None
        return _text(self.smtp_password_file, "daily.smtp_password_file")

    def slack_webhook(self) -> str | None:
        """Return the URL of the webhook, or None if no file is set.

        Raises ConfigError, whose text never contains the URL, if the file cannot be used.
        """
        if self.slack_webhook_file is None:
            return None
        url = _text(self.slack_webhook_file, "daily.slack_webhook_file")
        try:
            parts = urlsplit(url)
            # Unencrypted only within this machine, for a test server or a proxy.
            fits = parts.scheme == "https" or (
                parts.scheme == "http" and parts.hostname in _LOOPBACK
            )
        except ValueError:
            fits = False
        # A blank or line break of the file would become a part of the address.
        if not fits or not url.isprintable() or " " in url:
            raise ConfigError(
                f"daily.slack_webhook_file: {self.slack_webhook_file} contains no https:// URL; "
                "write only the address that Slack gave for the webhook"
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
