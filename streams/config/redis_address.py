"""The address of Redis: one server, the sentinels that name a primary, or the nodes of a cluster.

Pure. Every form may contain a login, and each is encrypted if its scheme begins with `rediss`:

    redis://host:6379/0                                    one server
    unix:///path/of/the/socket                             one server
    redis+sentinel://host:26379,host:26379/mymaster/0      the primary that the sentinels name
    redis+cluster://host:6379,host:6379                    a cluster, from which any node is asked
"""

import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote, urlsplit

from streams.config.base import split_address

Kind = Literal["server", "sentinel", "cluster"]
Node = tuple[str, int]

_FORMS: dict[str, tuple[Kind, bool]] = {
    "redis": ("server", False),
    "rediss": ("server", True),
    "unix": ("server", False),
    "redis+sentinel": ("sentinel", False),
    "rediss+sentinel": ("sentinel", True),
    "redis+cluster": ("cluster", False),
    "rediss+cluster": ("cluster", True),
}
_FIXES: dict[Kind, str] = {
    "server": "write redis://host:6379/0, rediss://host:6379/0 for TLS, redis+sentinel://, "
    "redis+cluster://, or unix:///path/of/the/socket",
    "sentinel": "write redis+sentinel://host:26379,host:26379/mymaster/0, or rediss+sentinel:// "
    "for TLS",
    "cluster": "write redis+cluster://host:6379,host:6379, or rediss+cluster:// for TLS",
}
_PORTS: dict[Kind, int] = {"server": 6379, "sentinel": 26379, "cluster": 6379}
_DATABASE = "[0-9]{1,9}"
# An IPv6 address stands in brackets.
_NODE = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^][:@/,\s]+)(:(?P<port>[0-9]{1,5}))?")


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """The parts of an address. Of one server only what a message shows, as redis-py reads it."""

    kind: Kind
    encrypted: bool
    nodes: tuple[Node, ...]  # that are asked first; empty for a socket
    service: str = ""  # the name of the primary, for sentinels
    database: int = 0
    username: str | None = None
    password: str | None = None
    socket: str = ""

    def __str__(self) -> str:
        """Return hosts and ports, or the path of the socket, without the login."""
        return self.socket or ", ".join(f"{host}:{port}" for host, port in self.nodes)


def parse_redis_address(url: str) -> RedisAddress:
    """Return the parts of `redis.url`. Raises ValueError, without the URL, if it is no address."""
    scheme, separator, _ = url.partition("://")
    # urlsplit also accepts `redis:host`, without the slashes.
    if not separator or scheme not in _FORMS:
        # A text that is no address gets that error, not one about its scheme.
        split_address(url, _FIXES["server"])
        raise ValueError(f"not an address of Redis; {_FIXES['server']}")
    kind, encrypted = _FORMS[scheme]
    if kind == "server":
        return _parse_server(url, encrypted)
    return _parse_nodes(url, kind, encrypted)


def _parse_server(url: str, encrypted: bool) -> RedisAddress:
    fix = _FIXES["server"]
    parts = split_address(url, fix)
    if parts.scheme == "unix":
        if not parts.path:
            raise ValueError(f"the path of the socket is missing; {fix}")
        return RedisAddress("server", False, (), socket=parts.path)
    database = parts.path.strip("/")
    if database and not re.fullmatch(_DATABASE, database):
        raise ValueError(f"the number of the database is no number; {fix}")
    node = parts.hostname or "localhost", parts.port or _PORTS["server"]
    return RedisAddress("server", encrypted, (node,), database=int(database or 0))


def _parse_nodes(url: str, kind: Kind, encrypted: bool) -> RedisAddress:
    fix = _FIXES[kind]
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError(f"not an address; {fix}") from None
    if parts.query or parts.fragment:
        raise ValueError(f"it takes no options after a `?` or `#`; {fix}")
    login, at, hosts = parts.netloc.rpartition("@")
    nodes = tuple(_parse_node(node, kind) for node in hosts.split(","))
    username, _, password = login.partition(":")
    if at and not password:
        raise ValueError(f"its login has no password; {fix}")
    service, database = _parse_path(parts.path, kind)
    return RedisAddress(
        *(kind, encrypted, nodes, service, database),
        username=unquote(username) or None,
        password=unquote(password) or None,
    )


def _parse_node(node: str, kind: Kind) -> Node:
    match = _NODE.fullmatch(node)
    if match is None or not 0 < int(match["port"] or _PORTS[kind]) < 65_536:
        raise ValueError(f"one of its hosts is no `host:port`; {_FIXES[kind]}")
    return match["host"].strip("[]"), int(match["port"] or _PORTS[kind])


def _parse_path(path: str, kind: Kind) -> tuple[str, int]:
    """Return the name of the primary and the number of the database."""
    first, *rest = path.strip("/").split("/")
    if kind == "cluster":
        if rest or first not in ("", "0"):
            raise ValueError(f"a cluster has database 0 only; {_FIXES[kind]}")
        return "", 0
    if not first:
        raise ValueError(f"the name of the primary is missing; {_FIXES[kind]}")
    database = "/".join(rest)
    if database and not re.fullmatch(_DATABASE, database):
        raise ValueError(f"the number of the database is no number; {_FIXES[kind]}")
    return unquote(first), int(database or 0)
