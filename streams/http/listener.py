"""Accepts the connections of an HTTP server, and goes on after every error of the system.

asyncio's own server counts no connections, and none before the end of its TLS handshake.
"""

import asyncio
import contextlib
import errno
import logging
import socket
import ssl
from typing import Any

from aiohttp import web

from streams.errors import ConfigError
from streams.http.connections import Connection, ConnectionPool, client_of

log = logging.getLogger(__name__)

BACKLOG = 256
ACCEPT_AGAIN_S = 0.2


class Listener:
    """Listens at one address for the server of an application runner."""

    def __init__(
        self,
        pool: ConnectionPool,
        app: web.Application,
        *,
        tls: ssl.SSLContext | None = None,
        auto_decompress: bool = True,
        shutdown_s: float = 1.0,
    ) -> None:
        """`auto_decompress`: of bodies. `shutdown_s`: for requests that are served at the end."""
        self._pool, self._tls, self._auto_decompress = pool, tls, auto_decompress
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=shutdown_s)
        self._sockets: list[socket.socket] = []
        self._tasks: set[asyncio.Task[None]] = set()  # the loop itself keeps only weak references

    async def start(
        self, host: str, port: int, section: str, setting: str = "port", host_setting: str = "host"
    ) -> None:
        """Begin to listen.

        `section`, `setting`, `host_setting`: where the settings have the address, for the
        ConfigError if it cannot be used.
        """
        await self._runner.setup()
        try:
            self._sockets = await _bind(host, port)
        except OSError as error:
            raise _cannot_listen(error, host, port, (section, setting, host_setting)) from error
        for listening in self._sockets:
            self._run(self._accept(listening))
        self._run(self._pool.sweep())

    @property
    def address(self) -> tuple[str, int]:
        """Host and port at which it listens."""
        host, port = self._sockets[0].getsockname()[:2]
        return str(host), int(port)

    async def stop(self) -> None:
        """Accept no more, and end the requests that are being served."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for listening in self._sockets:
            listening.close()
        await self._runner.cleanup()

    def _run(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connected, address = await loop.sock_accept(listening)
            except OSError as error:
                # No file or no memory left, or the client has gone: none of these is final.
                log.warning("cannot accept a connection: %s: trying again", error.strerror)
                await asyncio.sleep(ACCEPT_AGAIN_S)
                continue
            client = client_of(str(address[0]))
            if self._pool.has_room(client):
                self._open(connected, client)
            else:
                connected.close()
            # A flood of connections must not keep the loop from serving those that are open.
            await asyncio.sleep(0)

    def _open(self, connected: socket.socket, client: str) -> None:
        server = self._runner.server
        assert server is not None
        connection = Connection(self._pool, server, client, self._auto_decompress)
        self._pool.add(connection)

        def close_unopened(_: object) -> None:
            if not connection.has_opened:
                self._pool.remove(connection)
                connected.close()

        connection.opening = self._run(self._attach(connection, connected))
        connection.opening.add_done_callback(close_unopened)

    async def _attach(self, connection: Connection, connected: socket.socket) -> None:
        """Hand a connection over to the loop; with TLS after its handshake."""
        limit_s = self._pool.limits.header_timeout_s
        try:
            connected.setblocking(False)
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: connection,
                connected,
                ssl=self._tls,
                ssl_handshake_timeout=limit_s if self._tls is not None else None,
            )
        except (OSError, ssl.SSLError, TimeoutError) as error:
            log.debug("a connection did not open: %r", error)


async def check_address(
    host: str, port: int, section: str, setting: str, host_setting: str
) -> None:
    """Raise ConfigError if no server can listen at an address. See `Listener.start`."""
    try:
        for listening in await _bind(host, port):
            listening.close()
    except OSError as error:
        raise _cannot_listen(error, host, port, (section, setting, host_setting)) from error


async def _bind(host: str, port: int) -> list[socket.socket]:
    """Return listening sockets of all addresses that a host has. Raises OSError."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except UnicodeError as error:  # an empty label, or one of more than 63 characters
        raise OSError(f"{host!r} is no host name") from error
    with contextlib.ExitStack() as opened:
        sockets = []
        for family, kind, protocol, _, address in dict.fromkeys(found):
            listening = opened.enter_context(socket.socket(family, kind, protocol))
            listening.setblocking(False)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                # IPv4 has a socket of its own, if the host has such an address.
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listening.bind(address)
            listening.listen(BACKLOG)
            sockets.append(listening)
        opened.pop_all()
        return sockets


def _cannot_listen(
    error: OSError, host: str, port: int, settings: tuple[str, str, str]
) -> ConfigError:
    section, setting, host_setting = settings
    if error.errno == errno.EADDRINUSE:
        # The usual cause has a message of its own, with the fix.
        return ConfigError(
            f"{section}.{setting}: port {port} on {host} is in use; end the process that uses it, "
            f"or set TOKENPULSE_{section.upper()}__{setting.upper()} to another port (0 takes a "
            "free one)"
        )
    reason = error.strerror or str(error)
    return ConfigError(
        f"{section}.{host_setting}: cannot listen on {host}, port {port}: {reason}; give an "
        "address of this machine and a port that this user may open"
    )
