"""Clients that are slow, silent or many, over plain sockets."""

import contextlib
import os
import resource
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

HEADERS = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n"

# What a client of each kind sends, and then nothing more.
KINDS = {
    "idle": b"",
    "headers": HEADERS + b"X-Slow: ",
    "body": b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Content-Length: 20000000\r\n\r\n[",
    # Several answers, as one fits into the buffers of the system.
    "reader": (HEADERS + b"\r\n") * 30,
    "stream": b"GET /board/events HTTP/1.1\r\nHost: localhost\r\n\r\n",
}


def allow_files(number: int) -> None:
    """Let this process have so many files open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < number:
        resource.setrlimit(resource.RLIMIT_NOFILE, (number, hard))


@contextmanager
def slow_clients(port: int, kind: str, count: int) -> Iterator[None]:
    """So many clients of one kind, until the end of the block."""
    allow_files(4_096)
    with contextlib.ExitStack() as opened:
        for _ in range(count):
            client = opened.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            client.settimeout(5)
            # A server that closes old connections may also close one before it has sent anything.
            with contextlib.suppress(ConnectionError):
                client.connect(("127.0.0.1", port))
                client.sendall(KINDS[kind])
        yield


def fetch(port: int, path: str = "/metrics", timeout_s: float = 20) -> tuple[bytes, float]:
    """Return the body of a page, and the seconds that it took."""
    began_s = time.monotonic()
    opener = build_opener(ProxyHandler({}))
    with opener.open(f"http://127.0.0.1:{port}{path}", timeout=timeout_s) as answer:
        return answer.read(), time.monotonic() - began_s


def slowest(ask: Callable[[], float], times: int) -> float:
    """Return the most seconds that a request takes."""
    return max(ask() for _ in range(times))


def open_files(pid: int) -> int:
    """Return how many files a process has open."""
    return len(os.listdir(Path("/proc") / str(pid) / "fd"))
