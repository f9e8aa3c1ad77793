"""A world for the tests of the engine."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from redis import Redis

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
