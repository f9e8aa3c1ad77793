"""The live board over HTTP: what each answer promises, and that no client can cost much."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.client import ClientSession
from aiohttp.streams import StreamReader

from exporters.board.facts import LiveFacts, LiveState
from exporters.board.live import routes
from exporters.board.live.page import FRAGMENTS
from exporters.board.live.routes import Board, assets, board_routes
from exporters.formatting import unbroken
from tests.support.board_samples import WELL, WITH_INCIDENTS

WAIT_S = 10


class Source:
    """What the exporter knows, as a test sets it."""

    def __init__(self, facts: LiveFacts = WELL) -> None:
        self.now = LiveState(facts, None, 1.0)

    def __call__(self) -> LiveState:
        return self.now

    def tell(self, facts: LiveFacts | None, problem: str | None = None) -> None:
        self.now = LiveState(facts, problem, self.now.made_at + 1)


@asynccontextmanager
async def served(source: Source, under: str = "") -> AsyncIterator[tuple[str, ClientSession]]:
    """The board behind a real socket; its address, and a client."""
    app = web.Application()
    app.add_routes(board_routes(source))
    if under:
        outer = web.Application()
        outer.add_subapp(under, app)
        app = outer
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    try:
        async with aiohttp.ClientSession() as client:
            yield f"http://{host}:{port}{under}", client
    finally:
        await runner.cleanup()


async def next_event(content: StreamReader) -> tuple[str, dict[str, Any]]:
    """Name and data of the next event of a stream."""
    found: dict[str, str] = {}
    while True:
        line = (await asyncio.wait_for(content.readline(), WAIT_S)).decode()
        assert line, "the stream has ended"
        field, _, value = line.rstrip("\n").partition(": ")
        if line == "\n" and "event" in found:
            return found["event"], json.loads(found["data"] or "{}")
        if line != "\n":
            found[field] = value


async def events(board: Board, number: int) -> list[bytes]:
    """The first so many events of one listener, as bytes."""
    stream = board.events()
    try:
        return [await asyncio.wait_for(anext(stream), WAIT_S) for _ in range(number)]
    finally:
        await stream.aclose()


def test_every_answer_forbids_what_the_page_does_not_need() -> None:
    async def check() -> None:
        async with served(Source()) as (base, client):
            paths = ["/", "/api/v1/live", *(f"/{one.address}" for one in assets().values())]
            for path in [*paths, "/board/events"]:
                async with client.get(base + path) as answer:
                    assert answer.status == 200, path
                    policy = answer.headers["Content-Security-Policy"]
                    assert policy.startswith("default-src 'none'; ")
                    assert "unsafe" not in policy
                    assert answer.headers["X-Content-Type-Options"] == "nosniff"
                    assert answer.headers["Referrer-Policy"] == "no-referrer"

    asyncio.run(check())


def test_a_static_file_is_kept_for_ever_and_has_another_address_when_it_changes() -> None:
    async def check() -> None:
        async with served(Source()) as (base, client):
            asset = assets()["board.css"]
            async with client.get(f"{base}/{asset.address}") as answer:
                assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
                assert answer.content_type == "text/css"
                assert await answer.read() == asset.body
                tag = answer.headers["ETag"]
            again = {"If-None-Match": tag}
            async with client.get(f"{base}/{asset.address}", headers=again) as answer:
                assert (answer.status, await answer.read()) == (304, b"")
            for path in (
                f"/board/static/{'0' * 16}/board.css",
                f"/board/static/{asset.digest}/board.js",
                f"/board/static/{asset.digest}/..%2Froutes.py",
            ):
                async with client.get(base + path) as answer:
                    assert answer.status == 404

    asyncio.run(check())


def test_the_json_is_the_facts_and_503_where_there_are_none() -> None:
    async def check() -> None:
        source = Source(WITH_INCIDENTS)
        async with served(source) as (base, client):
            async with client.get(f"{base}/api/v1/live") as answer:
                assert answer.status == 200
                assert answer.headers["Cache-Control"] == "no-store"
                assert (await answer.json())["facts"]["headline"] == WITH_INCIDENTS.headline
            source.tell(None, "Redis does not answer")
            async with client.get(f"{base}/api/v1/live") as answer:
                assert answer.status == 503
                assert await answer.json() == {"problem": "Redis does not answer", "facts": None}

    asyncio.run(check())


def test_a_listener_gets_the_whole_board_and_then_only_what_changed() -> None:
    async def check() -> None:
        source = Source()
        async with (
            served(source) as (base, client),
            client.get(f"{base}/board/events") as answer,
        ):
            assert answer.content_type == "text/event-stream"
            name, first = await next_event(answer.content)
            assert name == "board"
            assert set(first["parts"]) == set(FRAGMENTS)
            source.tell(replace(WELL, regions=WITH_INCIDENTS.regions))
            name, second = await next_event(answer.content)
            assert name == "board"
            assert set(second["parts"]) == {"regions"}
            assert "59.2" in second["parts"]["regions"]

    asyncio.run(check())


def test_a_page_that_is_asked_for_meanwhile_does_not_swallow_the_news() -> None:
    async def check() -> None:
        source = Source()
        async with (
            served(source) as (base, client),
            client.get(f"{base}/board/events") as answer,
        ):
            await next_event(answer.content)
            source.tell(WITH_INCIDENTS)
            async with client.get(base + "/") as shown:
                assert unbroken("eu-west-1 fails 41 %") in await shown.text()
            _, told = await next_event(answer.content)
            assert unbroken("eu-west-1 fails 41 %") in told["parts"]["status"]

    asyncio.run(check())


def test_a_listener_hears_that_the_server_lives_while_nothing_is_new(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(routes, "HEARTBEAT_S", 0.05)

    async def check() -> None:
        _, *rest = await events(Board(Source()), 3)
        assert rest == [b"event: alive\ndata: \n\n"] * 2

    asyncio.run(check())


def test_all_listeners_share_one_rendering() -> None:
    async def check() -> None:
        source = Source()
        board = Board(source)
        streams = [board.events() for _ in range(50)]
        for stream in streams:
            await anext(stream)
        assert board.listeners == 50
        source.tell(WITH_INCIDENTS)
        heard = [await asyncio.wait_for(anext(stream), WAIT_S) for stream in streams]
        assert len({id(data) for data in heard}) == 1
        for stream in streams:
            await stream.aclose()
        assert board.listeners == 0

    asyncio.run(check())


def test_one_that_was_slow_gets_the_newest_board_whole() -> None:
    async def check() -> None:
        source = Source()
        board = Board(source)
        stream = board.events()
        await anext(stream)
        for facts in (replace(WELL, headline="one"), replace(WELL, headline="two")):
            source.tell(facts)
            newest = board.rendering()
        assert await asyncio.wait_for(anext(stream), WAIT_S) == newest.whole
        await stream.aclose()

    asyncio.run(check())


def test_more_listeners_than_are_allowed_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "CLIENTS_MAX", 1)

    async def check() -> None:
        async with (
            served(Source()) as (base, client),
            client.get(f"{base}/board/events") as first,
        ):
            await next_event(first.content)
            async with client.get(f"{base}/board/events") as second:
                assert second.status == 503
                assert int(second.headers["Retry-After"]) > 0

    asyncio.run(check())


def test_one_that_takes_nothing_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "SLOW_AFTER_S", 0.2)
    monkeypatch.setattr(routes, "LOOK_EVERY_S", 0.01)
    boards: list[Board] = []

    def watched_board(source: Source) -> Board:
        boards.append(Board(source))
        return boards[0]

    monkeypatch.setattr(routes, "Board", watched_board)

    async def check() -> None:
        source = Source()
        async with served(source) as (base, _):
            port = int(base.rpartition(":")[2])
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
            writer.write(b"GET /board/events HTTP/1.1\r\nHost: x\r\n\r\n")
            await reader.readline()
            transport = writer.transport
            assert isinstance(transport, asyncio.Transport)
            transport.pause_reading()
            assert boards[0].listeners == 1
            async with asyncio.timeout(60):
                number = 0
                while boards[0].listeners:
                    number += 1
                    source.tell(replace(WELL, headline=f"{number} " + "x" * 1_000_000))
                    await asyncio.sleep(0.02)
            writer.close()

    asyncio.run(check())


def test_nobody_looks_for_news_when_nobody_listens() -> None:
    async def check() -> None:
        board = Board(Source())
        await events(board, 1)
        await asyncio.sleep(0)
        names = [getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks()]
        assert "Board._watch" not in names

    asyncio.run(check())


@pytest.mark.parametrize("under", ["", "/ops/tokenpulse"])
def test_the_page_works_below_the_path_of_a_proxy(under: str) -> None:
    async def check() -> None:
        async with served(Source(), under) as (base, client):
            async with client.get(f"{base}/") as answer:
                assert answer.status == 200
            async with client.get(f"{base}/{assets()['board.js'].address}") as answer:
                assert answer.status == 200

    asyncio.run(check())
