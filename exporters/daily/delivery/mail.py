"""Compose the daily board as an e-mail (text, HTML and the PDF), and send it to the mail server.

Sending blocks. No error message contains a secret, not even if the server's answer does.
"""

import smtplib
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime

from exporters.daily.day.facts import DailyFacts
from exporters.daily.render.html import message as html_message
from exporters.daily.render.pdf import pdf
from exporters.daily.render.plain_text import plain_text
from exporters.daily.render.view import subject, view_of
from streams.config.settings import Daily
from streams.security.certificates import load_authorities

TIMEOUT_S = 15.0  # of one answer
_ANSWER_LONGEST = 120


class MailError(RuntimeError):
    """The mail server rejected the message: one line. `again`: a retry may succeed."""

    def __init__(self, words: str, again: bool) -> None:
        super().__init__(words)
        self.again = again


@dataclass(frozen=True, slots=True)
class RejectedRecipient:
    """One recipient that the server rejected while it accepted the message for the rest."""

    address: str
    words: str


def compose(facts: DailyFacts, daily: Daily, message_id: str, update: bool = False) -> EmailMessage:
    """Return the message; the same facts and settings give the same message.

    `update`: the recipients received different numbers before.
    """
    view = view_of(facts)
    link = None if daily.public_url is None else f"{daily.public_url}/daily?{view.query}"
    made = EmailMessage(policy=SMTP)
    made["Subject"] = subject(view, update)
    made["From"] = daily.mail_from
    made["To"] = ", ".join(daily.mail_to)
    made["Date"] = format_datetime(datetime.fromtimestamp(facts.made_at_s, UTC))
    made["Message-ID"] = message_id
    made["Auto-Submitted"] = "auto-generated"  # so that out-of-office replies are not sent
    made["Content-Language"] = "en"
    made.set_content(plain_text(facts, link))
    made.add_alternative(html_message(facts, link), subtype="html")
    made.add_attachment(
        pdf(facts), maintype="application", subtype="pdf", filename=f"daily-{view.date}.pdf"
    )
    return made


def send(made: EmailMessage, daily: Daily, to: Sequence[str]) -> list[RejectedRecipient]:
    """Send the message to these recipients; return those that the server rejected.

    Raises MailError if the server accepts no recipient, ConfigError if a file cannot be used.
    """
    password = daily.smtp_password()
    context = _context(daily)
    host, port = daily.smtp_host or "", daily.smtp_port
    where = f"{host}:{port}"
    try:
        with _connect(daily, context) as server:
            if daily.smtp_username is not None and password is not None:
                server.login(daily.smtp_username, password)
            rejected = server.send_message(made, daily.mail_from, list(to))
    except smtplib.SMTPAuthenticationError as error:
        # Not the server's answer: it may repeat the login.
        words = f"{where} rejects the login ({error.smtp_code}); check the user and its password"
        raise MailError(words, again=400 <= error.smtp_code < 500) from None
    except smtplib.SMTPRecipientsRefused as error:
        reasons = "; ".join(
            f"{address}: {_answer_text(*answer, password)}"
            for address, answer in error.recipients.items()
        )
        temporary = all(400 <= code < 500 for code, _ in error.recipients.values())
        raise MailError(f"{where} rejects all recipients: {reasons}", again=temporary) from None
    except smtplib.SMTPResponseException as error:
        answer_text = _answer_text(error.smtp_code, error.smtp_error, password)
        raise MailError(f"{where} answers {answer_text}", 400 <= error.smtp_code < 500) from None
    except smtplib.SMTPNotSupportedError as error:
        fix = "it offers no STARTTLS or no login; set daily.smtp_tls, daily.smtp_username"
        raise MailError(f"{where}: {error}: {fix}", again=False) from None
    except ssl.SSLError as error:
        why = getattr(error, "verify_message", "") or error.reason or "TLS failed"
        fix = "check daily.smtp_tls, daily.smtp_ca_file and the host's name"
        raise MailError(f"{where}: {why}; {fix}", again=False) from None
    except (smtplib.SMTPException, OSError) as error:
        why = getattr(error, "strerror", None) or _one_line(str(error)) or type(error).__name__
        fix = "check daily.smtp_host and daily.smtp_port"
        raise MailError(f"{where} does not accept it: {why}; {fix}", again=True) from None
    return [
        RejectedRecipient(address, _answer_text(*answer, password))
        for address, answer in rejected.items()
    ]


def _connect(daily: Daily, context: ssl.SSLContext | None) -> smtplib.SMTP:
    host, port = daily.smtp_host or "", daily.smtp_port
    if daily.smtp_tls == "tls":
        return smtplib.SMTP_SSL(host, port, timeout=TIMEOUT_S, context=context)
    server = smtplib.SMTP(host, port, timeout=TIMEOUT_S)
    if daily.smtp_tls == "starttls":
        try:
            server.starttls(context=context)
        # Also of a cancellation: the connection must not stay open.
        except BaseException:
            server.close()
            raise
    return server


def _context(daily: Daily) -> ssl.SSLContext | None:
    if daily.smtp_tls == "none":
        return None
    if daily.smtp_ca_file is None:
        return ssl.create_default_context()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # PROTOCOL_TLS_CLIENT trusts no authority yet: only those of the file are trusted.
    load_authorities(context, daily.smtp_ca_file, "daily.smtp_ca_file")
    return context


def _answer_text(code: int, answer: bytes | str, secret: str | None) -> str:
    text = answer.decode("utf-8", "replace") if isinstance(answer, bytes) else answer
    # A server may repeat the login in its answer.
    if secret:
        text = text.replace(secret, "(hidden)")
    return f"{code} {_one_line(text)}"


def _one_line(text: str) -> str:
    printable = "".join(char if char.isprintable() else " " for char in text)
    return " ".join(printable.split())[:_ANSWER_LONGEST]
