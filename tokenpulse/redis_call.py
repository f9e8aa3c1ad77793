"""One call to Redis from a command."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import redis.asyncio as aioredis

from streams.config.settings import Settings
from streams.store.servers.client import connected

T = TypeVar("T")


def run_with_redis(settings: Settings, call: "Callable[[aioredis.Redis], Awaitable[T]]") -> T:
    """Run a coroutine function with a Redis client, close the client and return the result."""

    async def call_and_close() -> T:
        client = connected(settings.redis)
        try:
            return await call(client)
        finally:
            await client.aclose()

    return asyncio.run(call_and_close())
