"""A world and a store for the tests of the engine."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from redis import Redis

from slo.engine.minute_count_store import MinuteCountStore
from streams.store.servers.client import connect
from tests.support.engine_world import World
from tests.support.servers import RedisServer


@pytest.fixture
def in_world(redis_server: RedisServer, redis_client: Redis) -> Callable[..., Any]:
    def run(use: Callable[[World], Awaitable[None]]) -> None:
        async def go() -> None:
            world = World(redis_server.url)
            try:
                await use(world)
            finally:
                await world.close()

        asyncio.run(go())

    return run


@pytest.fixture
def store_of(redis_server: RedisServer, redis_client: Redis) -> Callable[..., Any]:
    async def with_store(use: Callable[..., Any]) -> Any:
        client = connect(redis_server.url, 2)
        try:
            return await use(MinuteCountStore(client, "g", "t"))
        finally:
            await client.aclose()

    return lambda use: asyncio.run(with_store(use))
