"""The connections of HTTP servers, within limits of number and time.

A connection waits for its client while headers, a body or the taking of an answer are missing. Each
of these has a time limit. At a limit of number a new connection takes the place of the one that
has waited longest, of the client with the most: so neither idle nor slow clients can keep new
ones out, and a connection on whose request this process works is never closed.
"""

import asyncio
import ipaddress
import logging
import resource
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import NamedTuple

from aiohttp import web
from aiohttp.typedefs import Handler

from streams.config.connections import Connections

log = logging.getLogger(__name__)

SWEEP_S = 0.5
# Files of the process besides those of clients: Redis, Kafka, event loops, what it reads.
OTHER_FILES = 96
FEWEST = 16
_TIMED_OUT = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class Wait(NamedTuple):
    """What a connection waits for, since when, and how long it may."""

    what: str
    since_s: float  # monotonic
    limit_s: float


def client_of(address: str) -> str:
    """Return the client of an address: the address itself, or its /64 network of IPv6."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip)
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    # One client can use all addresses of such a network.
    return str(ipaddress.ip_network((ip, 64), strict=False))


def allowed_connections(wanted: int) -> int:
    """Return how many connections may be open, and ask the system for as many files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < needed:
        more = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        if more > soft:
            resource.setrlimit(resource.RLIMIT_NOFILE, (more, hard))
            soft = more
    if soft == resource.RLIM_INFINITY:
        return wanted
    return min(wanted, max(FEWEST, soft - OTHER_FILES))


class ConnectionPool:
    """All connections of the servers of one process."""

    def __init__(self, limits: Connections) -> None:
        self.limits = limits
        self.max_open = allowed_connections(limits.max_open)
        self._by_client: dict[str, set[Connection]] = defaultdict(set)
        self._open = 0

    def __len__(self) -> int:
        return self._open

    def add(self, connection: "Connection") -> None:
        """Count a connection that was accepted."""
        self._by_client[connection.client].add(connection)
        self._open += 1

    def remove(self, connection: "Connection") -> None:
        """Remove a connection; a second call does nothing."""
        connections = self._by_client.get(connection.client, set())
        if connection in connections:
            connections.remove(connection)
            self._open -= 1
        if not connections:
            self._by_client.pop(connection.client, None)

    def has_room(self, client: str) -> bool:
        """Return whether a client may have one more connection; close another one for it."""
        own = self._by_client.get(client, ())
        if len(own) >= self.limits.max_per_client:
            return self._close_longest(own, f"{client} has {len(own)} open")
        if self._open >= self.max_open:
            most = max(self._by_client.values(), key=len)
            return self._close_longest(most, f"{self._open} are open")
        return True

    def _close_longest(self, candidates: "Iterable[Connection]", reason: str) -> bool:
        now_s = time.monotonic()
        waits = [(connection.wait(), connection) for connection in candidates]
        waiting = [(wait.since_s, wait.what, victim) for wait, victim in waits if wait is not None]
        if not waiting:
            log.warning("refuse a connection: %s, and all of them are served", reason)
            return False
        since_s, what, victim = min(waiting, key=lambda found: found[0])
        waited_s = now_s - since_s
        log.info("close a connection for another: %s; waited %.1f s %s", reason, waited_s, what)
        victim.abort()
        return True

    async def sweep(self) -> None:
        """Run for ever: close connections that have waited for their clients for too long."""
        while True:
            await asyncio.sleep(SWEEP_S)
            now_s = time.monotonic()
            for connections in list(self._by_client.values()):
                for connection in list(connections):
                    wait = connection.wait()
                    if wait is not None and now_s - wait.since_s > wait.limit_s:
                        log.info("close a connection: waited %.0f s %s", wait.limit_s, wait.what)
                        connection.time_out()


class Connection(web.RequestHandler):
    """One connection: its present wait, and its end."""

    def __init__(
        self, pool: ConnectionPool, server: web.Server, client: str, auto_decompress: bool
    ) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=pool.limits.idle_timeout_s,
            lingering_time=pool.limits.header_timeout_s,
            access_log=None,  # type: ignore[arg-type]  # as aiohttp's own runner has it
            auto_decompress=auto_decompress,
        )
        self.client = client
        self._pool = pool
        self.opening: asyncio.Task[None] | None = None  # with TLS until the end of its handshake
        self._wire: asyncio.Transport | None = None  # kept until the end, unlike `transport`
        self._request: web.Request | None = None  # that is being served
        self._since_s = self._paused_since_s = time.monotonic()
        self._expects_headers = True  # of the first request, or of one that has begun
        self._timed_out = False

    @property
    def has_opened(self) -> bool:
        return self._wire is not None

    def wait(self) -> Wait | None:
        """Return the wait of the connection; None while this process works on its request."""
        limits = self._pool.limits
        if self.writing_paused:
            return Wait("for its client to read", self._paused_since_s, limits.send_timeout_s)
        if self._request is not None:
            if self._request.content.is_eof():
                return None
            return Wait("for a body", self._since_s, limits.body_timeout_s)
        if self._expects_headers:
            return Wait("for headers", self._since_s, limits.header_timeout_s)
        return Wait("for a request", self._since_s, limits.idle_timeout_s)

    def begin(self, request: web.Request) -> None:
        """Note that a request is served from now on."""
        self._request, self._since_s, self._expects_headers = request, time.monotonic(), False

    def finish(self) -> None:
        """Note that the request was answered, perhaps not yet sent."""
        self._request, self._since_s = None, time.monotonic()

    def time_out(self) -> None:
        """Tell a client that its headers did not arrive in time; close the connection."""
        may_tell = self._expects_headers and self._request is None and not self.writing_paused
        if self._wire is None or self._timed_out or not may_tell:
            self.abort()
            return
        self._timed_out = True  # if the client does not read, the next sweep aborts
        self._wire.write(_TIMED_OUT)
        self._wire.close()

    def abort(self) -> None:
        """Close the connection now, without sending the rest."""
        self._pool.remove(self)
        if self._wire is not None:
            self._wire.abort()
        elif self.opening is not None:
            self.opening.cancel()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start to serve."""
        assert isinstance(transport, asyncio.Transport)
        self._wire, self._since_s = transport, time.monotonic()
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """End."""
        self._pool.remove(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes of the client."""
        if data and self._request is None and not self._expects_headers:
            self._expects_headers, self._since_s = True, time.monotonic()
        super().data_received(data)

    def pause_writing(self) -> None:
        """Note that the client does not read as fast as this process writes."""
        self._paused_since_s = time.monotonic()
        super().pause_writing()


@asynccontextmanager
async def _serving(request: web.Request) -> AsyncIterator[None]:
    connection = request.protocol
    if not isinstance(connection, Connection):  # of a server of aiohttp's own
        yield
        return
    connection.begin(request)
    try:
        yield
    finally:
        connection.finish()


@web.middleware
async def track_requests(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Tell the connection which request it serves. Must be the first middleware."""
    async with _serving(request):
        return await handler(request)
