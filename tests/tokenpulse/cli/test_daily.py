"""`tokenpulse daily` as a person meets it."""

import json
import time
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pypdf import PdfReader
from redis import Redis

from streams.config.settings import Daily, Settings
from tests.support.command import assert_one_line, run
from tests.support.exporter_state import settings_for, some_events, write_state
from tests.support.servers import RedisServer

TODAY = f"{datetime.now(UTC):%Y-%m-%d}"
YESTERDAY = f"{datetime.now(UTC) - timedelta(days=1):%Y-%m-%d}"


@pytest.fixture
def settings(redis_server: RedisServer, redis_client: Redis) -> Settings:
    """Of a state with events of the last 48 hours."""
    found = settings_for(redis_server.url)
    now_s = time.time()
    write_state(found, {0: some_events(1, 400, now_s - 2 * 86_400, now_s)}, now_s)
    return found


def test_it_prints_the_last_closed_day_as_plain_text(settings: Settings) -> None:
    done = run("daily", settings=settings)
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("Daily reliability board, ")
    assert "P95 TTFT" in done.stdout
    named = run("daily", "--date", YESTERDAY, settings=settings)
    assert done.stdout.splitlines()[:-1] == named.stdout.splitlines()[:-1]  # the last: when made


def test_it_prints_weeks_and_months(settings: Settings) -> None:
    for kind, words in (("week", "Weekly reliability board, Week "), ("month", "Monthly rel")):
        done = run("daily", "--period", kind, "--date", TODAY, settings=settings)
        assert done.exit_code == 0, done.output
        assert done.stdout.startswith(words)
        assert f"this {kind}" in done.stdout
    assert_one_line(
        run("daily", "--period", "week", "--date", "2026-W99", settings=settings), "2026-W46"
    )
    assert run("daily", "--period", "year", settings=settings).exit_code == 2


@pytest.mark.parametrize("format_", ["text", "html", "pdf", "csv", "json"])
def test_it_writes_every_format_by_option_or_by_the_name_of_the_file(
    settings: Settings, tmp_path: Path, format_: str
) -> None:
    by_name = tmp_path / f"board.{format_.upper()}"
    done = run("daily", "--date", YESTERDAY, "--output", by_name, settings=settings)
    assert done.exit_code == 0, done.output
    assert done.stdout == ""
    content = by_name.read_bytes()
    begins = {
        "html": b"<!doctype html>",
        "pdf": b"%PDF-",
        "csv": b"date,from,to,",
        "json": b'{\n "made_at_s"',
        "text": b"Daily reliability board",
    }
    assert content.startswith(begins[format_])
    if format_ == "pdf":
        assert len(PdfReader(BytesIO(content)).pages) == 2
    if format_ == "json":
        assert json.loads(content)["date"] == YESTERDAY
    printed = run("daily", "--date", "today", "--format", format_, settings=settings)
    assert printed.exit_code == 0
    assert printed.stdout_bytes.startswith(begins[format_])


def test_a_day_that_is_not_there_is_one_line(settings: Settings) -> None:
    assert_one_line(run("daily", "--date", "2999-01-01", settings=settings), "2999-01-01")
    assert_one_line(run("daily", "--date", "2001-01-01", settings=settings), "2001-01-01")
    assert_one_line(run("daily", "--date", "tomorrow", settings=settings), "tomorrow")


def test_a_state_without_an_event_is_one_line(
    redis_server: RedisServer, redis_client: Redis
) -> None:
    done = run("daily", settings=settings_for(redis_server.url))
    assert_one_line(done, "no event was counted yet")


def test_a_file_that_cannot_be_written_is_one_line(settings: Settings, tmp_path: Path) -> None:
    done = run("daily", "--output", tmp_path / "absent" / "board.pdf", settings=settings)
    assert_one_line(done, "--output: cannot write", "absent")


def test_no_redis_is_one_line(unused_port: int) -> None:
    done = run("daily", settings=settings_for(f"redis://127.0.0.1:{unused_port}/0"))
    assert_one_line(done, str(unused_port))


def test_sending_to_nobody_is_one_line_that_says_what_to_set(unused_port: int) -> None:
    done = run("daily", "--send", settings=settings_for(f"redis://127.0.0.1:{unused_port}/0"))
    assert_one_line(done, "no recipient of the board", "smtp_host", "slack_webhook_file")
    assert run("daily", "--again").exit_code == 2


@pytest.mark.parametrize("shift_s", [60, -60, 40 * 86_400])
def test_by_a_wrong_clock_nothing_is_sent(
    settings: Settings, redis_client: Redis, monkeypatch: pytest.MonkeyPatch, shift_s: int
) -> None:
    # Nothing listens there: a run that sent would name the server.
    daily = Daily(
        smtp_host="127.0.0.1",
        smtp_port=1,
        smtp_tls="none",
        mail_from="a@example.com",
        mail_to=["b@example.com"],
    )
    sending = settings.model_copy(update={"daily": daily})
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + shift_s)
    side = "ahead of" if shift_s > 0 else "behind"
    assert_one_line(
        run("daily", "--send", settings=sending), "nothing is sent", f"{side} that of Redis"
    )
    assert redis_client.keys("*:sent:*") == []


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"SMTP_HOST": "mail"}, "e-mail needs smtp_host, mail_from, mail_to; set mail_from and"),
        ({"MAIL_TO": '["a@b.c, d@e.f"]'}, "plain address"),
        ({"MAIL_FROM": "Board\r\nBcc: x@y.z"}, "plain address"),
        ({"SMTP_USERNAME": "me"}, "go together"),
        (
            {"SMTP_USERNAME": "me", "SMTP_PASSWORD_FILE": "/x", "SMTP_TLS": "none"},
            "would send the login",
        ),
        ({"PUBLIC_URL": "javascript:alert(1)"}, "write the address of the pages"),
        ({"PUBLIC_URL": "https://x.example/?a=b"}, "write the address of the pages"),
    ],
)
def test_settings_that_do_not_fit_are_one_line(variables: dict[str, str], words: str) -> None:
    named: dict[str, Any] = {
        f"TOKENPULSE_DAILY__{name}": value for name, value in variables.items()
    }
    assert_one_line(run("daily", "--send", **named), words)
