"""The daily board over HTTP: its formats, its rejections, and that it never hurts anything else."""

import asyncio
import csv
import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from io import BytesIO, StringIO
from typing import Any, Never

import pytest
from aiohttp.test_utils import TestClient, TestServer
from multidict import CIMultiDictProxy
from pypdf import PdfReader
from redis import Redis

from exporters.daily import cache as caches
from exporters.daily.build import DailyBoardBuilder
from exporters.daily.cache import BoardCache, BusyError, date_of
from exporters.daily.day.facts import DailyFacts, PeriodKind
from exporters.daily.render.data import json_text
from exporters.daily.render.html import content_security_policy, html
from exporters.server.http import create_app
from exporters.server.refresher import Refresher
from streams.clock import RedisClock
from streams.config.settings import Settings
from streams.errors import ConfigError, RequestError
from streams.store.contract import StoreError
from tests.support.daily_samples import DATE, hostile_facts, some_facts
from tests.support.exporter_state import settings_for, some_events, write_state
from tests.support.servers import RedisServer

PATHS = ("/daily", "/daily.json", "/api/v1/daily", "/daily.csv", "/daily.pdf")


def asked(source: Callable[..., Any], path: str) -> tuple[int, CIMultiDictProxy[str], bytes]:
    """(status, headers, body) of an exporter that has these boards."""

    async def ask() -> tuple[int, CIMultiDictProxy[str], bytes]:
        app = create_app(Refresher(settings_for("redis://127.0.0.1:1/0"), {}), None, source)
        async with TestClient(TestServer(app)) as client:
            answer = await client.get(path)
            return answer.status, answer.headers, await answer.read()

    return asyncio.run(ask())


def always(found: DailyFacts | Exception | None) -> Callable[..., Any]:
    async def source(date: str, kind: str) -> DailyFacts | None:
        if isinstance(found, Exception):
            raise found
        return found

    return source


def test_every_format_is_the_same_board() -> None:
    facts = some_facts()
    bodies = {path: asked(always(facts), path) for path in PATHS}
    assert {status for status, _, _ in bodies.values()} == {200}
    assert bodies["/daily"][2].decode() == html(facts, served=True)
    assert bodies["/daily.json"][2] == bodies["/api/v1/daily"][2] == json_text(facts).encode()
    assert json.loads(bodies["/daily.json"][2])["date"] == DATE
    assert len(list(csv.reader(StringIO(bodies["/daily.csv"][2].decode())))) == 32
    assert len(PdfReader(BytesIO(bodies["/daily.pdf"][2])).pages) == 2
    types = {path: headers["Content-Type"] for path, (_, headers, _) in bodies.items()}
    assert types == {
        "/daily": "text/html; charset=utf-8",
        "/daily.json": "application/json",
        "/api/v1/daily": "application/json",
        "/daily.csv": "text/csv; charset=utf-8",
        "/daily.pdf": "application/pdf",
    }
    disposition = bodies["/daily.csv"][1]["Content-Disposition"]
    assert disposition == 'attachment; filename="daily-2026-11-03.csv"'


@pytest.mark.parametrize("path", PATHS)
def test_no_answer_lets_a_browser_do_more_than_show_it(path: str) -> None:
    for found in (hostile_facts(), RequestError("no such day"), None):
        _, headers, _ = asked(always(found), path)
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cache-Control"] == "no-store"
        if path == "/daily":
            policy = headers["Content-Security-Policy"]
            assert policy == f"{content_security_policy()}; frame-ancestors 'none'"
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy


def test_the_day_that_is_asked_for_reaches_the_source() -> None:
    seen = []

    async def source(date: str, kind: str) -> DailyFacts:
        seen.append((date, kind))
        return some_facts()

    for path in (
        "/daily",
        "/daily?date=2026-11-01",
        "/daily.pdf?date=today",
        "/daily?x=1",
        "/daily?period=week&date=2026-W45",
        "/daily.csv?period=month",
    ):
        assert asked(source, path)[0] == 200
    days = [("yesterday", "day"), ("2026-11-01", "day"), ("today", "day"), ("yesterday", "day")]
    assert seen == [*days, ("2026-W45", "week"), ("yesterday", "month")]
    status, _, body = asked(source, "/daily?period=fortnight")
    assert status == 404
    assert "write day, week or month" in body.decode()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("found", "status", "words"),
    [
        (RequestError('date: got "<b>x</b>"; write YYYY-MM-DD'), 404, "write YYYY-MM-DD"),
        (StoreError("Redis at 127.0.0.1:1 does not answer"), 503, "does not answer"),
        (BusyError("too many days"), 503, "too many days"),
        (None, 503, "Nothing was counted yet"),
    ],
)
def test_a_board_that_cannot_be_had_is_told_why_in_the_format_that_was_asked_for(
    path: str, found: StoreError | BusyError | RequestError | None, status: int, words: str
) -> None:
    got, headers, body = asked(always(found), path)
    text = body.decode()
    assert got == status
    assert words in text
    assert ("Retry-After" in headers) == (status == 503)
    if path == "/daily":
        assert "<b>" not in text
        assert "<!doctype html>" in text
    elif "json" in path or "api" in path:
        assert set(json.loads(text)) == {"error"}
    else:
        assert headers["Content-Type"].startswith("text/plain")


def test_today_and_yesterday_are_days_of_the_zone() -> None:
    at_s = datetime(2026, 11, 3, 23, 30, tzinfo=UTC).timestamp()
    assert date_of("today", "UTC", at_s) == "2026-11-03"
    assert date_of("today", "Asia/Tokyo", at_s) == "2026-11-04"
    assert date_of("yesterday", "Asia/Tokyo", at_s) is None
    assert date_of("2026-01-01", "UTC", at_s) == "2026-01-01"


# -- the thread that makes the boards --------------------------------------------------------------


@pytest.fixture
def running() -> Iterator[Callable[..., Any]]:
    """Starts caches and ends them."""
    started = []

    def start(settings: Settings) -> BoardCache:
        boards = BoardCache(settings, {})
        boards.thread.start()
        started.append(boards)
        return boards

    yield start
    for boards in started:
        boards.thread.stop()
        assert boards.thread.loop is None


def two_days(url: str) -> Settings:
    """Settings of a state with events of the last 48 hours."""
    settings = settings_for(url)
    now_s = time.time()
    write_state(settings, {0: some_events(1, 400, now_s - 2 * 86_400, now_s)}, now_s)
    return settings


def test_the_boards_of_a_running_exporter_come_from_the_state(
    redis_server: RedisServer, redis_client: Redis, running: Callable[..., Any]
) -> None:
    boards = running(two_days(redis_server.url))
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    yesterday = f"{datetime.now(UTC) - timedelta(days=1):%Y-%m-%d}"
    told = json.loads(asked(boards.facts, "/daily.json")[2])
    assert told["date"] == yesterday
    day = next(day for day in told["days"] if day["date"] == yesterday)
    assert day["values"]["requests"] > 0
    for date in ("today", today):
        told = json.loads(asked(boards.facts, f"/daily.json?date={date}")[2])
        assert told["date"] == today
        assert told["days"][-1]["state"] == "running"
    assert asked(boards.facts, f"/daily?date={yesterday}")[0] == 200
    for wrong in ("2999-01-01", "2001-01-01", "01.01.2026", "2026-13-01", "x" * 5_000):
        assert asked(boards.facts, f"/daily?date={wrong}")[0] == 404


def test_a_board_is_made_once_a_minute_however_many_ask(
    redis_server: RedisServer,
    redis_client: Redis,
    running: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = []
    real = DailyBoardBuilder.facts

    async def counted(
        self: Any, clock: RedisClock, date: str | None, kind: PeriodKind
    ) -> DailyFacts | None:
        made.append(date)
        return await real(self, clock, date, kind)

    monkeypatch.setattr(DailyBoardBuilder, "facts", counted)
    boards = running(two_days(redis_server.url))
    today = f"{datetime.now(UTC):%Y-%m-%d}"

    async def many() -> None:
        for _ in range(3):
            await asyncio.gather(*(boards.facts(today) for _ in range(caches.WAITING_MAX)))
            await asyncio.gather(*(boards.facts("yesterday") for _ in range(4)))

    asyncio.run(many())
    assert sorted(made, key=str) == sorted([None, today], key=str)


def test_boards_are_made_one_at_a_time_and_only_so_many_wait(
    redis_server: RedisServer,
    redis_client: Redis,
    running: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = two_days(redis_server.url)
    at_work, most = 0, 0
    began, go_on = threading.Event(), asyncio.Event()

    async def slow(self: Any, clock: RedisClock, date: str | None, kind: PeriodKind) -> DailyFacts:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        began.set()
        try:
            await go_on.wait()
        finally:
            at_work -= 1
        return some_facts()

    monkeypatch.setattr(DailyBoardBuilder, "facts", slow)
    boards = running(settings)

    async def many() -> None:
        asks = [
            asyncio.create_task(boards.facts(f"2026-10-{day:02}"))
            for day in range(1, caches.WAITING_MAX + 1)
        ]
        await asyncio.sleep(0)
        with pytest.raises(BusyError):
            await boards.facts("2026-10-31")
        await asyncio.to_thread(began.wait)
        boards.thread.loop.call_soon_threadsafe(go_on.set)
        assert len(await asyncio.gather(*asks)) == caches.WAITING_MAX
        assert boards._waiting == 0

    asyncio.run(many())
    assert most == 1
    assert len(boards._boards) <= caches.BOARDS_MAX


def test_a_board_that_is_there_does_not_wait_for_one_that_is_being_made(
    redis_server: RedisServer,
    redis_client: Redis,
    running: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    go_on = asyncio.Event()

    async def slow(self: Any, clock: RedisClock, date: str | None, kind: PeriodKind) -> DailyFacts:
        if date is not None:
            await go_on.wait()
        return some_facts()

    monkeypatch.setattr(DailyBoardBuilder, "facts", slow)
    boards = running(two_days(redis_server.url))

    async def both() -> None:
        assert await boards.facts("yesterday") is not None
        asking = asyncio.create_task(boards.facts("2026-10-01"))
        await asyncio.sleep(0)
        assert await asyncio.wait_for(boards.facts("yesterday"), 10) is not None
        assert not asking.done()
        boards.thread.loop.call_soon_threadsafe(go_on.set)
        assert await asking is not None

    asyncio.run(both())


def test_a_store_that_is_gone_fails_the_board_and_nothing_else(
    unused_port: int, running: Callable[..., Any]
) -> None:
    boards = running(settings_for(f"redis://127.0.0.1:{unused_port}/0"))
    status, _, body = asked(boards.facts, "/daily")
    assert status == 503
    assert str(unused_port) in body.decode()
    assert asked(boards.facts, "/metrics")[0] == 200


def test_a_board_that_breaks_is_told_once_and_tried_again(
    running: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: object) -> Never:
        raise ZeroDivisionError("a mistake of ours")

    monkeypatch.setattr(DailyBoardBuilder, "facts", broken)
    monkeypatch.setattr(caches, "REFRESH_S", 0.01)
    boards = running(settings_for("redis://127.0.0.1:1/0"))
    assert asked(boards.facts, "/daily")[0] == 500
    time.sleep(0.1)
    told = [one for one in caplog.records if one.name == "exporters.daily.cache"]
    assert [one.getMessage() for one in told] == ["daily board: a mistake of ours: trying again"]
    assert boards.thread.loop is not None


def test_a_mistake_in_the_settings_is_told_before_anything_runs() -> None:
    settings = settings_for("redis://127.0.0.1:1/0", policies=["nobody-wrote-this"])
    with pytest.raises(ConfigError, match="nobody-wrote-this"):
        BoardCache(settings, {})
    gone = settings_for("rediss://127.0.0.1:1/0")
    redis = gone.redis.model_copy(update={"ssl_ca_file": "/nowhere/ca.pem"})
    with pytest.raises(ConfigError, match="nowhere"):
        BoardCache(gone.model_copy(update={"redis": redis}), {})
