"""The live board over HTTP: the page, its static files, the event stream, and the facts as JSON.

All clients share one rendering of each state. A client of the stream gets the whole board once,
then only the parts that changed. A slow client skips states, and one that reads no data for
SLOW_AFTER_S is dropped, so the server has no queue for each client. Addresses in the page are
relative: it works below a path of a reverse proxy, if that path ends with a slash.
"""

import asyncio
import hashlib
import json
import logging
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files

from aiohttp import web

from exporters.board.facts import LiveState
from exporters.board.live.page import FRAGMENTS, fragments, page, title
from exporters.static_files import SAFE_HEADERS, Asset, static_files, static_route
from streams.http.connections import client_of

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.25  # for a new state; only while streams are open
HEARTBEAT_S = 3.0
RETRY_MS = 2_000
SLOW_AFTER_S = 10.0  # without taking what was sent
CLIENTS_MAX = 500

_PACKAGE = "exporters.board"


def assets() -> Mapping[str, Asset]:
    """Return all static files of the page by name."""
    return static_files(_PACKAGE)


@cache
def build() -> str:
    """Return a digest of all files of the page, which differs between versions."""
    summed = hashlib.sha256()
    for folder in ("static", "templates"):
        for file in sorted(files(_PACKAGE).joinpath(folder).iterdir(), key=str):
            summed.update(file.read_bytes())
    return summed.hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Rendering:
    """One state as it is sent, made once for all clients."""

    state: LiveState
    parts: Mapping[str, str]
    number: int
    whole: bytes  # as an event
    changed: bytes  # the same for a client with the rendering before; empty without a difference


def event(name: str, data: str) -> bytes:
    """Return a server-sent event. Line breaks in `data` cannot end it or begin a field."""
    # \r\n, \n and \r all end a line of the protocol; other separators do not.
    lines = data.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return "".join([f"event: {name}\n", *(f"data: {line}\n" for line in lines), "\n"]).encode()


def news(state: LiveState, parts: Mapping[str, str]) -> bytes:
    """Return parts of the page as an event."""
    return event("board", json.dumps({"build": build(), "title": title(state), "parts": parts}))


class Board:
    """Renders the current state on request, and notifies open streams of a new one."""

    def __init__(self, source: Callable[[], LiveState]) -> None:
        self._source = source
        self._rendering: Rendering | None = None
        self._listeners: Counter[str] = Counter()  # by client
        self._watching: asyncio.Task[None] | None = None
        self._news = asyncio.Event()  # set, and replaced, by the next rendering

    @property
    def listeners(self) -> int:
        return self._listeners.total()

    def listeners_of(self, client: str) -> int:
        return self._listeners[client]

    def rendering(self) -> Rendering:
        """Return the current state, rendered at the first request for it."""
        state, last = self._source(), self._rendering
        if last is not None and not _differs(state, last.state):
            return last
        parts = fragments(state)
        before = last.parts if last is not None else {}
        changed = {name: parts[name] for name in FRAGMENTS if parts[name] != before.get(name)}
        self._rendering = Rendering(
            state,
            parts,
            last.number + 1 if last is not None else 0,
            news(state, parts),
            news(state, changed) if changed else b"",
        )
        # A new event for the next rendering; those who wait on the old one wake up.
        waiting, self._news = self._news, asyncio.Event()
        waiting.set()
        return self._rendering

    async def events(self, client: str = "") -> AsyncGenerator[bytes, None]:
        """Yield the events for one client, without end."""
        self._listeners[client] += 1
        # Without open streams the state is rendered only on request.
        if self._watching is None:
            self._watching = asyncio.create_task(self._watch())
        try:
            sent = self.rendering()
            yield f"retry: {RETRY_MS}\n\n".encode() + sent.whole
            while True:
                now = await self._after(sent.number)
                if now is None:
                    yield event("alive", "")
                    continue
                # Changes build on each other, so a client that skipped a rendering gets all.
                data = now.changed if now.number == sent.number + 1 else now.whole
                sent = now
                yield data or event("alive", "")
        finally:
            # Without the entry of a client that is gone, names of clients need no memory.
            self._listeners -= Counter([client])
            if not self._listeners and self._watching is not None:
                self._watching.cancel()
                self._watching = None

    async def _after(self, number: int) -> Rendering | None:
        """Return the newest rendering as soon as it is newer than `number`.

        None after HEARTBEAT_S without one.
        """
        if self._newest() <= number:
            try:
                async with asyncio.timeout(HEARTBEAT_S):
                    await self._news.wait()
            except TimeoutError:
                return None
        return self._rendering

    def _newest(self) -> int:
        return self._rendering.number if self._rendering is not None else -1

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                self.rendering()
            except Exception:
                # The page would fail in the same way; open streams get heartbeats only.
                log.exception("the live board cannot be rendered")


def _differs(state: LiveState, last: LiveState) -> bool:
    without_facts = (state.problem, state.starting) != (last.problem, last.starting)
    return state.facts is not last.facts or without_facts


def board_routes(
    source: Callable[[], LiveState], max_per_client: int = CLIENTS_MAX
) -> list[web.RouteDef]:
    """Return the routes of the live board; `source` returns the current state without blocking.

    `max_per_client`: most open streams of one client.
    """
    board = Board(source)

    async def show(request: web.Request) -> web.Response:
        found = board.rendering()
        addresses = {name: asset.address for name, asset in assets().items()}
        return web.Response(
            text=page(found.parts, found.state, addresses, build()),
            content_type="text/html",
            headers={**SAFE_HEADERS, "Cache-Control": "no-store"},
        )

    async def stream(request: web.Request) -> web.StreamResponse:
        return await _stream(request, board, max_per_client)

    async def live(request: web.Request) -> web.Response:
        state = source()
        return web.json_response(
            text=live_json(state),
            status=503 if state.facts is None else 200,
            headers={**SAFE_HEADERS, "Cache-Control": "no-store"},
        )

    return [
        web.get("/", show),
        web.get("/board/events", stream, allow_head=False),
        static_route(_PACKAGE),
        web.get("/api/v1/live", live),
    ]


def live_json(state: LiveState) -> str:
    """Return the facts as JSON: `{"problem": null, "facts": {...}}`; one of the two is null."""
    facts = None if state.facts is None else asdict(state.facts)
    if facts is not None:  # two keys keep the spelling under which they were first published
        facts["troubles"], facts["strips"] = facts.pop("incidents"), facts.pop("history")
    return json.dumps({"problem": state.problem, "facts": facts}, allow_nan=False)


async def _stream(request: web.Request, board: Board, max_per_client: int) -> web.StreamResponse:
    client = client_of(request.remote or "")
    is_many = board.listeners_of(client) >= max_per_client
    if is_many or board.listeners >= CLIENTS_MAX:
        number = f"{max_per_client} pages of {client}" if is_many else f"{CLIENTS_MAX} pages"
        return web.Response(
            text=f"{number} are open already; close some, or open the page later\n",
            status=503,
            headers={**SAFE_HEADERS, "Retry-After": "30"},
        )
    response = web.StreamResponse(
        headers={
            **SAFE_HEADERS,
            "Content-Type": "text/event-stream; charset=utf-8",
            "Cache-Control": "no-store",
            "X-Accel-Buffering": "no",  # nginx would hold events back
        }
    )
    await response.prepare(request)
    async with aclosing(board.events(client)) as events:
        async for data in events:
            began = time.monotonic()
            try:
                await asyncio.wait_for(response.write(data), SLOW_AFTER_S)
            except TimeoutError:
                log.info(
                    "dropped a stream whose client read no data for %.0f s",
                    time.monotonic() - began,
                )
                if request.transport is not None:
                    request.transport.abort()
                break
            except ConnectionError:
                break
    return response
