"""Delivery of the daily board: a real mail server, a real webhook, each day once."""

import asyncio
import email
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from email.policy import default
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from pypdf import PdfReader
from redis import Redis

from exporters.daily.day.facts import DailyFacts
from exporters.daily.delivery import deliver as delivery
from exporters.daily.delivery.deliver import Outcome, deliver
from exporters.daily.delivery.sent import LEASE_S, Sent
from exporters.daily.delivery.slack import payload
from streams.config.settings import Daily
from streams.errors import ConfigError, RequestError
from streams.store.contract import StoreError
from streams.store.redis import connect
from tests.support.certificates import Authority
from tests.support.checks import not_none
from tests.support.command import run
from tests.support.daily_samples import DATE, hostile_facts, some_facts
from tests.support.exporter_state import settings_for, some_events, write_state
from tests.support.servers import RedisServer
from tokenpulse.local.embedded import free_port

PASSWORD = "correct horse battery staple"
TO = ("cro@example.com", "sre@example.com")


# -- servers ---------------------------------------------------------------------------------------


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


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    yield from _serve_mail(Mailbox())


def _serve_mail(
    box: Mailbox, at_once: ssl.SSLContext | None = None, **how: Any
) -> Iterator[Mailbox]:
    box.port = free_port()
    controller = Controller(
        box, hostname="127.0.0.1", port=box.port, ssl_context=at_once, **how
    )  # fmt: skip
    controller.start()
    yield box
    controller.stop()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "certificates")


def _context(authority: Authority, name: str = "mail") -> ssl.SSLContext:
    issued = authority.issue(name)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued.cert, issued.key)
    return context


@pytest.fixture
def secure_mailbox(authority: Authority) -> Iterator[Mailbox]:
    """STARTTLS and a login, both required."""
    box = Mailbox()
    yield from _serve_mail(
        box,
        tls_context=_context(authority),
        require_starttls=True,
        authenticator=box.check,
        auth_required=True,
    )


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


@pytest.fixture
def channel() -> Iterator[Channel]:
    found = Channel()
    loop = asyncio.new_event_loop()
    app = web.Application()
    app.add_routes([web.post("/services/T0/B0/hunter2", found.take)])
    runner = web.AppRunner(app)

    async def begin() -> None:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        found.url = f"http://127.0.0.1:{runner.addresses[0][1]}/services/T0/B0/hunter2"

    loop.run_until_complete(begin())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield found
    asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(delivery, "WAIT_MAX_S", 0.02)


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


@pytest.fixture
def webhook_file(tmp_path: Path, channel: Channel) -> Path:
    file = tmp_path / "webhook"
    file.write_text(f"{channel.url}\n")
    return file


@pytest.fixture
def send(redis_server: RedisServer, redis_client: Redis) -> Callable[..., Any]:
    """Delivers some facts as settings say; (recipient, words, failed) of each."""

    def call(
        daily: dict[str, Any], facts: DailyFacts | None = None, again: bool = False
    ) -> list[tuple[str, str, bool]]:
        settings = settings_for(redis_server.url).model_copy(update={"daily": Daily(**daily)})

        async def go() -> list[Outcome]:
            client = connect(settings.redis.url, 5)
            try:
                return await deliver(settings, client, facts or some_facts(), again)
            finally:
                await client.aclose()

        return [(one.recipient, one.words, one.failed) for one in asyncio.run(go())]

    return call


MAILED = [(f"e-mail to {address}", "delivered", False) for address in TO]


# -- e-mail ----------------------------------------------------------------------------------------


def test_the_mail_has_the_board_as_text_as_a_page_and_as_a_pdf(
    mailbox: Mailbox, send: Callable[..., Any]
) -> None:
    found = send(mailed(mailbox, public_url="https://board.example.com/tp/"))
    assert found == MAILED
    [(to, message)] = mailbox.messages
    assert to == list(TO)
    assert message["Subject"] == (
        "Reliability 2026-11-03: missed P95 TTFT, Error budget, Credits at risk (provisional)"
    )
    assert message["From"] == "board@example.com"
    assert message["To"] == ", ".join(TO)
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Message-ID"].startswith("<daily.2026-11-03.")
    link = "https://board.example.com/tp/daily?date=2026-11-03"
    text = not_none(message.get_body(("plain",))).get_content()
    page = not_none(message.get_body(("html",))).get_content().replace("\u00a0", " ")
    for body in (text, page):
        assert link in body
        for number in ("12.4 B", "314 ms", "36.2 ms", "99.953 %", "46.2 %", "overdrawn by 29 %"):
            assert number in body
    assert "<script" not in page
    [attached] = list(message.iter_attachments())
    assert attached.get_filename() == "daily-2026-11-03.pdf"
    assert len(PdfReader(BytesIO(attached.get_content())).pages) == 1


def test_names_cannot_add_headers_or_markup(mailbox: Mailbox, send: Callable[..., Any]) -> None:
    send(mailed(mailbox), hostile_facts())
    [(to, message)] = mailbox.messages
    assert to == list(TO)
    assert message["Bcc"] is None
    page = not_none(message.get_body(("html",))).get_content()
    assert "<script" not in page
    assert "<img" not in page


@pytest.mark.stack
def test_with_starttls_and_a_login(
    secure_mailbox: Mailbox, authority: Authority, tmp_path: Path, send: Callable[..., Any]
) -> None:
    secret = tmp_path / "password"
    secret.write_text(f"{PASSWORD}\n")
    found = send(
        mailed(
            secure_mailbox,
            smtp_tls="starttls",
            smtp_ca_file=authority.cert,
            smtp_username="board",
            smtp_password_file=secret,
        )
    )
    assert found == MAILED
    assert secure_mailbox.encrypted == [True]
    assert secure_mailbox.logins == [b"board"]


@pytest.mark.stack
def test_with_tls_at_once(authority: Authority, send: Callable[..., Any]) -> None:
    box = Mailbox()
    serving = _serve_tls(box, authority)
    next(serving)
    try:
        daily = mailed(box, smtp_tls="tls", smtp_ca_file=authority.cert)
        assert send(daily) == MAILED  # the server understands nothing but TLS
    finally:
        next(serving, None)


def _serve_tls(box: Mailbox, authority: Authority) -> Iterator[Mailbox]:
    yield from _serve_mail(box, at_once=_context(authority))


@pytest.mark.stack
def test_a_login_that_is_refused_is_told_without_the_password(
    secure_mailbox: Mailbox, authority: Authority, tmp_path: Path, send: Callable[..., Any]
) -> None:
    secret = tmp_path / "password"
    secret.write_text("hunter2")
    found = send(
        mailed(
            secure_mailbox,
            smtp_tls="starttls",
            smtp_ca_file=authority.cert,
            smtp_username="board",
            smtp_password_file=secret,
        )
    )
    assert [failed for _, _, failed in found] == [True, True]
    for _, words, _ in found:
        assert "refuses the login (535)" in words
        assert "hunter2" not in words
    assert len(secure_mailbox.logins) == 2  # each of two ways once: more would lock accounts
    assert secure_mailbox.messages == []


@pytest.mark.stack
def test_what_a_server_repeats_of_the_password_is_not_told(
    secure_mailbox: Mailbox, authority: Authority, tmp_path: Path, send: Callable[..., Any]
) -> None:
    secret = tmp_path / "password"
    secret.write_text(PASSWORD)
    secure_mailbox.refused = dict.fromkeys(TO, f"550 not with {PASSWORD}")
    found = send(
        mailed(
            secure_mailbox,
            smtp_tls="starttls",
            smtp_ca_file=authority.cert,
            smtp_username="board",
            smtp_password_file=secret,
        )
    )
    assert "takes it for nobody: cro@example.com: 550 not with (hidden); sre@" in found[0][1]


@pytest.mark.stack
def test_a_certificate_of_nobody_we_trust_is_refused(
    secure_mailbox: Mailbox, tmp_path: Path, send: Callable[..., Any]
) -> None:
    other = Authority(tmp_path / "others", "other")
    found = send(mailed(secure_mailbox, smtp_tls="starttls", smtp_ca_file=other.cert))
    assert all(failed for _, _, failed in found)
    assert "certificate" in found[0][1]
    assert "daily.smtp_ca_file" in found[0][1]
    assert secure_mailbox.messages == []


@pytest.mark.stack
def test_a_server_without_starttls_gets_nothing(
    mailbox: Mailbox, authority: Authority, send: Callable[..., Any]
) -> None:
    found = send(mailed(mailbox, smtp_tls="starttls", smtp_ca_file=authority.cert))
    assert all(failed for _, _, failed in found)
    assert "STARTTLS" in found[0][1]
    assert mailbox.messages == []


def test_a_refusal_that_may_pass_is_tried_again_and_one_that_will_not_is_not(
    mailbox: Mailbox, send: Callable[..., Any]
) -> None:
    mailbox.answers = ["451 try later", "451 try later"]
    assert send(mailed(mailbox)) == MAILED
    assert mailbox.tried == 3
    mailbox.answers = ["554 no boards here"]
    found = send(mailed(mailbox), again=True)
    assert found[0] == (
        "e-mail to cro@example.com",
        f"127.0.0.1:{mailbox.port} answers 554 no boards here",
        True,
    )
    assert mailbox.tried == 4
    mailbox.answers = ["451 try later"] * 9
    assert all(failed for _, _, failed in send(mailed(mailbox), again=True))
    assert mailbox.tried == 4 + delivery.ATTEMPTS


def test_no_mail_server_is_told_in_one_line(unused_port: int, send: Callable[..., Any]) -> None:
    box = Mailbox(port=unused_port)
    [(_, words, failed), _] = send(mailed(box))
    assert failed
    assert f"127.0.0.1:{unused_port} does not take it: Connection refused" in words
    assert "daily.smtp_host" in words
    assert "\n" not in words


# -- each day once ---------------------------------------------------------------------------------


def test_a_day_is_delivered_once_unless_asked_again(
    mailbox: Mailbox, channel: Channel, webhook_file: Path, send: Callable[..., Any]
) -> None:
    daily = mailed(mailbox, slack_webhook_file=webhook_file)
    assert send(daily) == [*MAILED, ("Slack", "delivered", False)]
    for _ in range(2):
        found = send(daily)
        assert [failed for _, _, failed in found] == [False] * 3
        assert all(words.startswith("delivered before, on 20") for _, words, _ in found)
    assert (len(mailbox.messages), len(channel.messages)) == (1, 1)
    assert send(daily, again=True) == [*MAILED, ("Slack", "delivered", False)]
    assert (len(mailbox.messages), len(channel.messages)) == (2, 2)
    first, second = (message["Message-ID"] for _, message in mailbox.messages)
    assert first != second
    other = some_facts(on="2026-11-04")
    assert send(daily, other) == [*MAILED, ("Slack", "delivered", False)]


def final(facts: DailyFacts, **changed: Any) -> DailyFacts:
    """The same day, sealed, with these metrics."""
    found = replace(facts.day, state="sealed", note="", values=replace(facts.day.values, **changed))
    return replace(
        facts, days=tuple(found if one.date == facts.date else one for one in facts.days)
    )


def test_who_was_told_other_numbers_before_the_day_was_final_is_told_the_final_ones(
    mailbox: Mailbox, channel: Channel, webhook_file: Path, send: Callable[..., Any]
) -> None:
    daily = mailed(mailbox, slack_webhook_file=webhook_file)
    facts = some_facts()
    worse = replace(facts.day.values.availability_ratio, value=0.9981, mark="missed")
    send({**daily, "mail_to": TO[:1]}, facts)
    # While it may change again, and when it is final as it was told, nobody needs to know.
    for same in (final(facts), facts):
        found = send({**daily, "mail_to": TO[:1]}, same)
        assert all(words.startswith("delivered before, on 20") for _, words, _ in found)
    found = send(daily, final(facts, availability_ratio=worse))
    assert sorted(found) == sorted([*MAILED, ("Slack", "delivered", False)])
    told = {to[0]: message for to, message in mailbox.messages[1:]}
    assert told[TO[0]]["Subject"].startswith("Update: Reliability 2026-11-03: missed P95 TTFT, Up")
    assert told[TO[1]]["Subject"].startswith("Reliability 2026-11-03: missed")
    assert told[TO[0]]["Message-ID"] != mailbox.messages[0][1]["Message-ID"]
    assert channel.messages[1]["text"].startswith("Update: Reliability 2026-11-03")
    found = send(daily, final(facts))  # final is final: later numbers are corrections on the page
    assert all(words.startswith("delivered before, on 20") for _, words, _ in found)


def test_who_was_not_reached_is_tried_again_and_nobody_else(
    mailbox: Mailbox, channel: Channel, webhook_file: Path, send: Callable[..., Any]
) -> None:
    daily = mailed(mailbox, slack_webhook_file=webhook_file)
    mailbox.refused = {TO[1]: "450 greylisted"}
    channel.answers = [(404, {})]
    found = send(daily)
    assert found == [
        MAILED[0],
        ("e-mail to sre@example.com", "refused: 450 greylisted", True),
        ("Slack", "the webhook answers with status 404; the webhook is gone, make another", True),
    ]
    mailbox.refused = {}
    found = send(daily)
    assert found[0][1].startswith("delivered before")
    assert found[1:] == [MAILED[1], ("Slack", "delivered", False)]
    assert [to for to, _ in mailbox.messages] == [[TO[0]], [TO[1]]]
    first, second = (message["Message-ID"] for _, message in mailbox.messages)
    assert first == second


def test_a_mail_server_that_is_gone_does_not_keep_the_board_from_slack(
    unused_port: int, channel: Channel, webhook_file: Path, send: Callable[..., Any]
) -> None:
    found = send(mailed(Mailbox(port=unused_port), slack_webhook_file=webhook_file))
    assert [failed for _, _, failed in found] == [True, True, False]
    assert len(channel.messages) == 1


def test_two_runs_at_once_deliver_once(
    mailbox: Mailbox, redis_server: RedisServer, redis_client: Redis
) -> None:
    settings = settings_for(redis_server.url).model_copy(update={"daily": Daily(**mailed(mailbox))})

    async def go() -> list[list[Outcome] | BaseException]:
        client = connect(settings.redis.url, 5)
        try:
            return await asyncio.gather(
                *(deliver(settings, client, some_facts(), False) for _ in range(4)),
                return_exceptions=True,
            )
        finally:
            await client.aclose()

    found = asyncio.run(go())
    delivered = [one for one in found if isinstance(one, list)]
    assert len(delivered) == 1
    for other in found:
        if not isinstance(other, list):
            assert isinstance(other, RequestError)
            assert "another run is sending 2026-11-03" in str(other)
    assert len(mailbox.messages) == 1


def test_a_run_that_died_does_not_keep_the_day_for_ever(
    redis_server: RedisServer, redis_client: Redis
) -> None:
    async def go() -> None:
        client = connect(redis_server.url, 5)
        try:
            dead, late = (Sent(client, "g", "t", DATE) for _ in range(2))
            assert await dead.claim(1_000) == {}
            assert await late.claim(1_000 + LEASE_S - 1) is None
            assert await late.claim(1_000 + LEASE_S) == {}
            await dead.release()  # it is not his any more
            assert await Sent(client, "g", "t", DATE).claim(1_001 + LEASE_S) is None
            await late.release()
            assert await Sent(client, "g", "t", DATE).claim(1_001 + LEASE_S) == {}
        finally:
            await client.aclose()

    asyncio.run(go())


def test_redis_keeps_no_address_and_forgets(
    mailbox: Mailbox, redis_server: RedisServer, redis_client: Redis, send: Callable[..., Any]
) -> None:
    send(mailed(mailbox))
    [key] = redis_client.keys("*:sent:*")
    assert b"{tokenpulse:inference.requests}:sent:2026-11-03" in key
    stored: Any = redis_client.hgetall(key)
    assert len(stored) == len(TO) + 1
    assert b"example.com" not in b"".join((*stored, *stored.values()))
    assert 0 < redis_client.ttl(key) <= 400 * 86_400


def test_without_redis_nothing_is_sent(mailbox: Mailbox, unused_port: int) -> None:
    settings = settings_for(f"redis://127.0.0.1:{unused_port}/0").model_copy(
        update={"daily": Daily(**mailed(mailbox))}
    )

    async def go() -> None:
        client = connect(settings.redis.url, 1)
        try:
            await deliver(settings, client, some_facts(), False)
        finally:
            await client.aclose()

    with pytest.raises(StoreError, match="sent:2026-11-03"):
        asyncio.run(go())
    assert mailbox.messages == []


def test_a_day_that_is_not_over_is_not_sent(mailbox: Mailbox, send: Callable[..., Any]) -> None:
    facts = some_facts()
    with pytest.raises(RequestError, match="2026-11-04 is not over"):
        send(mailed(mailbox), replace(facts, date=facts.days[-1].date))


# -- Slack -----------------------------------------------------------------------------------------


def test_slack_gets_headline_numbers_and_link(
    channel: Channel, webhook_file: Path, send: Callable[..., Any]
) -> None:
    daily = {"slack_webhook_file": webhook_file, "public_url": "https://board.example.com"}
    assert send(daily) == [("Slack", "delivered", False)]
    [message] = channel.messages
    assert message["text"].startswith("Reliability 2026-11-03: missed P95 TTFT")
    told = json.dumps(message, ensure_ascii=False)
    for words in (
        "P95 TTFT at 314 ms, error budget (overdrawn by 29 %)",
        "✕ missed, under 300 ms",
        "99.953 %",
    ):
        assert words in told
    link = "<https://board.example.com/daily?date=2026-11-03|Open the board of this day>"
    assert message["blocks"][-1] == {
        "type": "section",
        "text": {"type": "mrkdwn", "text": link},
    }


def test_slack_reads_no_markup_in_names_and_nothing_is_too_long_for_it() -> None:
    message = payload(replace(hostile_facts(), headline="long " * 1_000), None)
    assert len(message["blocks"]) <= 50
    assert "<!" not in message["text"]

    def texts(node: Any) -> Iterator[dict[str, Any]]:
        if isinstance(node, dict):
            if "text" in node and isinstance(node["text"], str) and "type" in node:
                yield node
            for one in node.values():
                yield from texts(one)
        elif isinstance(node, list):
            for one in node:
                yield from texts(one)

    found = list(texts(message["blocks"]))
    assert len(found) > 8
    for one in found:
        assert one["type"] == "plain_text"  # mrkdwn would mention a channel
        assert 0 < len(one["text"]) <= 3_000
    for block in message["blocks"]:
        if block["type"] == "header":
            assert len(block["text"]["text"]) <= 150
        assert len(block.get("fields", [])) <= 10


def test_slack_is_asked_again_only_where_that_may_help(
    channel: Channel, webhook_file: Path, send: Callable[..., Any]
) -> None:
    daily = {"slack_webhook_file": webhook_file}
    channel.answers = [(429, {"Retry-After": "1"}), (503, {})]
    assert send(daily) == [("Slack", "delivered", False)]
    assert channel.tried == 3
    for status, tries in ((403, 1), (302, 1), (500, delivery.ATTEMPTS)):
        channel.tried, channel.answers = 0, [(status, {"Location": channel.url})] * 9
        [(_, words, failed)] = send(daily, again=True)
        assert failed
        assert words.startswith(f"the webhook answers with status {status}")
        assert channel.tried == tries
        assert "hunter2" not in words


def test_no_error_says_the_webhook(
    tmp_path: Path, unused_port: int, send: Callable[..., Any]
) -> None:
    file = tmp_path / "webhook"
    file.write_text(f"http://127.0.0.1:{unused_port}/services/hunter2")
    [(_, words, failed)] = send({"slack_webhook_file": file})
    assert failed
    assert "cannot be reached" in words
    assert "hunter2" not in words
    for text in (
        "http://example.com/hunter2",
        "hunter2",
        "https://[hunter2",
        "https://a/hunter2 b",
    ):
        file.write_text(text)
        with pytest.raises(ConfigError) as refused:
            send({"slack_webhook_file": file})
        assert "hunter2" not in str(refused.value)
        assert "contains no https:// URL" in str(refused.value)
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(ConfigError, match=r"daily\.slack_webhook_file: cannot read"):
            send({"slack_webhook_file": path})


# -- the command -----------------------------------------------------------------------------------


def test_the_command_delivers_the_last_closed_day_and_says_who_did_not_get_it(
    mailbox: Mailbox,
    channel: Channel,
    webhook_file: Path,
    redis_server: RedisServer,
    redis_client: Redis,
    tmp_path: Path,
) -> None:
    now_s = time.time()
    base = settings_for(redis_server.url)
    write_state(base, {0: some_events(1, 400, now_s - 2 * 86_400, now_s)}, now_s)
    daily = Daily(**mailed(mailbox, slack_webhook_file=webhook_file))
    settings = base.model_copy(update={"daily": daily})
    channel.answers = [(403, {})]
    done = run("daily", "--send", settings=settings)
    assert done.exit_code == 1, done.output
    day = time.strftime("%Y-%m-%d", time.gmtime(now_s - 86_400))
    assert done.stdout.splitlines() == [f"{day}: e-mail to {address}: delivered" for address in TO]
    assert done.stderr.startswith(f"{day}: Slack: the webhook answers with status 403")
    assert "hunter2" not in done.output
    [(_, message)] = mailbox.messages
    assert f"Reliability {day}" in message["Subject"]
    file = tmp_path / "board.html"
    done = run("daily", "--send", "--output", file, settings=settings)
    assert done.exit_code == 0, done.output
    assert file.read_text().startswith("<!doctype html>")
    assert "Slack: delivered" in done.stdout
    assert done.stdout.count("delivered before") == 2
    assert len(mailbox.messages) == 1
    done = run("daily", "--send", "--date", "today", settings=settings)
    assert done.exit_code == 2
    assert "is not over" in done.stderr
