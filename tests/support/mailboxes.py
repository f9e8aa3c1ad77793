"""Mail servers and a Slack webhook that keep what they receive."""

import email
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.policy import default
from typing import Any

from aiohttp import web
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from tokenpulse.local.embedded import free_port

PASSWORD = "correct horse battery staple"
TO = ("cro@example.com", "sre@example.com")


@dataclass
class Mailbox:
    """A mail server that keeps what it takes, and refuses as it is told to."""

    messages: list[tuple[list[str], email.message.EmailMessage]] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)  # recipient -> answer
    answers: list[str] = field(default_factory=list)  # to the next messages, before it takes one
    tried: int = 0
    logins: list[bytes] = field(default_factory=list)
    encrypted: list[bool] = field(default_factory=list)
    port: int = 0

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[Any]
    ) -> str:
        if address in self.refused:
            return self.refused[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        self.tried += 1
        if self.answers:
            return self.answers.pop(0)
        self.encrypted.append(session.ssl is not None)
        assert isinstance(envelope.content, bytes)
        read = email.message_from_bytes(envelope.content, policy=default)
        self.messages.append((list(envelope.rcpt_tos), read))
        return "250 OK"

    def check(
        self,
        server: SMTP,
        session: Session,
        envelope: Envelope,
        mechanism: str,
        auth_data: LoginPassword,
    ) -> AuthResult:
        assert isinstance(auth_data, LoginPassword)
        self.logins.append(auth_data.login)
        # As bad servers do: it says what it was told.
        said = f"535 no such login: {auth_data.password.decode()}"
        fits = auth_data.password == PASSWORD.encode()
        return AuthResult(success=fits, handled=fits, message=None if fits else said)


def serve_mail(
    box: Mailbox, at_once: ssl.SSLContext | None = None, **how: Any
) -> Iterator[Mailbox]:
    box.port = free_port()
    controller = Controller(
        box, hostname="127.0.0.1", port=box.port, ssl_context=at_once, **how
    )  # fmt: skip
    controller.start()
    yield box
    controller.stop()


@dataclass
class Channel:
    """A Slack that keeps what it takes."""

    url: str = ""
    messages: list[dict[str, Any]] = field(default_factory=list)
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    tried: int = 0

    async def take(self, request: web.Request) -> web.Response:
        self.tried += 1
        if self.answers:
            status, headers = self.answers.pop(0)
            return web.Response(status=status, headers=headers, text=f"no: {request.url}")
        self.messages.append(await request.json())
        return web.Response(text="ok")


def mailed(box: Mailbox, **changes: Any) -> dict[str, Any]:
    """Settings of delivery to this mail server."""
    return {
        "smtp_host": "127.0.0.1",
        "smtp_port": box.port,
        "smtp_tls": "none",
        "mail_from": "board@example.com",
        "mail_to": TO,
        **changes,
    }


MAILED = [(f"e-mail to {address}", "delivered", False) for address in TO]
