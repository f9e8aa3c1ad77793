"""The board by e-mail: content, logins, certificates and refusals."""

import ssl
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pypdf import PdfReader

from exporters.daily.delivery import deliver as delivery
from tests.support.certificates import Authority
from tests.support.checks import not_none
from tests.support.daily_samples import hostile_facts
from tests.support.mailboxes import MAILED, PASSWORD, TO, Mailbox, mailed, serve_mail


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
    yield from serve_mail(
        box,
        tls_context=_context(authority),
        require_starttls=True,
        authenticator=box.check,
        auth_required=True,
    )


@pytest.fixture
def logged_in(authority: Authority, tmp_path: Path) -> Callable[[Mailbox, str], dict[str, Any]]:
    """Settings that send over STARTTLS, after a login with the password in a file."""

    def settings(box: Mailbox, password: str) -> dict[str, Any]:
        secret = tmp_path / "password"
        secret.write_text(password)
        return mailed(
            box,
            smtp_tls="starttls",
            smtp_ca_file=authority.cert,
            smtp_username="board",
            smtp_password_file=secret,
        )

    return settings


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
    assert len(PdfReader(BytesIO(attached.get_content())).pages) == 2


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
    secure_mailbox: Mailbox, logged_in: Callable[..., Any], send: Callable[..., Any]
) -> None:
    found = send(logged_in(secure_mailbox, f"{PASSWORD}\n"))
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
    yield from serve_mail(box, at_once=_context(authority))


@pytest.mark.stack
def test_a_login_that_is_refused_is_told_without_the_password(
    secure_mailbox: Mailbox, logged_in: Callable[..., Any], send: Callable[..., Any]
) -> None:
    found = send(logged_in(secure_mailbox, "hunter2"))
    assert [failed for _, _, failed in found] == [True, True]
    for _, words, _ in found:
        assert "rejects the login (535)" in words
        assert "hunter2" not in words
    assert len(secure_mailbox.logins) == 2  # each of two ways once: more would lock accounts
    assert secure_mailbox.messages == []


@pytest.mark.stack
def test_what_a_server_repeats_of_the_password_is_not_told(
    secure_mailbox: Mailbox, logged_in: Callable[..., Any], send: Callable[..., Any]
) -> None:
    secure_mailbox.refused = dict.fromkeys(TO, f"550 not with {PASSWORD}")
    found = send(logged_in(secure_mailbox, PASSWORD))
    assert "rejects all recipients: cro@example.com: 550 not with (hidden); sre@" in found[0][1]


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
    assert f"127.0.0.1:{unused_port} does not accept it: Connection refused" in words
    assert "daily.smtp_host" in words
    assert "\n" not in words
