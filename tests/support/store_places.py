"""Where a checkpoint store may be, for tests that hold every store to one contract."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import cast

import pytest
import redis

from streams.store.contract import OperatorCommand, Store
from streams.store.keys import Keys
from streams.store.redis import enqueue_command
from tests.support.counting import GROUP, KEY, PARTITION, TOPIC
from tests.support.memory_store import MemoryRedis, MemoryStore
from tests.support.redis_kinds import Cluster
from tests.support.redis_servers import KINDS, RedisProcess, opened


class Memory:
    """The store in memory."""

    def __init__(self) -> None:
        self.empty()

    def empty(self) -> None:
        """Begin with nothing stored."""
        self._redis = MemoryRedis()

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Store]:
        """One worker's store."""
        yield MemoryStore(self._redis, GROUP, TOPIC)

    def content(self) -> dict[bytes, bytes]:
        """The partition's hash."""
        return self._redis.partition(PARTITION).content()

    def lose(self, field: str) -> None:
        """Damage the state."""
        del self._redis.partition(PARTITION).fields[field]

    def lose_all(self) -> None:
        """FLUSHALL."""
        self._redis.hashes.clear()

    def claimed(self) -> set[int]:
        """The partitions that were ever claimed."""
        return set(self._redis.hashes)

    async def order(self, order: OperatorCommand) -> None:
        """As an operator does."""
        self._redis.orders[PARTITION] = order

    def set_policy(self, policy: str) -> None:
        """What the server does when it is full."""
        self._redis.policy = policy


class Server:
    """The store in a real server."""

    def __init__(self, url: str, client: redis.Redis) -> None:
        self._url, self._client = url, client

    def empty(self) -> None:
        self._client.flushall()
        self.set_policy("noeviction")

    def opened(self) -> AbstractAsyncContextManager[Store]:
        return opened(self._url)

    def content(self) -> dict[bytes, bytes]:
        return cast(dict[bytes, bytes], self._client.hgetall(KEY))

    def lose(self, field: str) -> None:
        assert self._client.hdel(KEY, field) == 1

    def lose_all(self) -> None:
        self._client.flushall()

    def claimed(self) -> set[int]:
        return set(map(int, self._client.smembers(Keys(GROUP, TOPIC).partitions)))

    async def order(self, order: OperatorCommand) -> None:
        async with opened(self._url) as store:
            await enqueue_command(store._redis, GROUP, TOPIC, PARTITION, order)

    def set_policy(self, policy: str) -> None:
        self._client.config_set("maxmemory-policy", policy)


class SpreadServer(Server):
    """The store in a real cluster."""

    def __init__(self, cluster: Cluster, client: redis.RedisCluster) -> None:
        # Both have the commands that are used here.
        super().__init__(cluster.url, cast(redis.Redis, client))
        self._nodes = cluster.primaries

    def set_policy(self, policy: str) -> None:
        for node in self._nodes:
            node.ask("CONFIG", "SET", "maxmemory-policy", policy)


PLACES = ("memory", *KINDS, pytest.param("cluster", marks=pytest.mark.stack))


@contextmanager
def opened_place(kind: str, directory: Path) -> Iterator[Memory | Server]:
    """One of PLACES; a server ends with the block."""
    if kind == "memory":
        yield Memory()
    elif kind == "cluster":
        with Cluster(directory) as cluster, cluster.client() as spread:
            yield SpreadServer(cluster, spread)
    else:
        with RedisProcess(kind, directory) as process, process.client() as client:
            yield Server(process.url, client)
