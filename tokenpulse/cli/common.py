"""Option types and the Redis call that several commands share."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, TypeVar

import click
import redis.asyncio as aioredis

from streams.config.settings import Settings
from streams.store.redis import connected

T = TypeVar("T")
SECONDS_OF_UNIT = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}


class Span(click.ParamType):
    """A length of time: `10s`, `5m`, `1h`, `1d`, or a number of seconds. Converts to seconds."""

    name = "span"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return whole seconds, or fail with a usage error."""
        match = re.fullmatch(r"(\d+)([smhd]?)", str(value))
        if match is None:
            self.fail(f"{value!r} is not a span; write 10s, 5m, 1h or 1d", param, ctx)
        return int(match[1]) * SECONDS_OF_UNIT[match[2]]


class Instant(click.ParamType):
    """An instant: RFC 3339 with a zone, or seconds since the epoch. Converts to whole seconds."""

    name = "instant"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return whole seconds since the epoch, or fail with a usage error."""
        text = str(value)
        if re.fullmatch(r"\d+", text):
            return int(text)
        try:
            instant = datetime.fromisoformat(text)
        except ValueError:
            instant = None
        if instant is None or instant.tzinfo is None:
            self.fail(f"{text!r}: write 2026-01-31T12:00:00Z or seconds since 1970", param, ctx)
        return int(instant.timestamp())


def run_with_redis(settings: Settings, call: "Callable[[aioredis.Redis], Awaitable[T]]") -> T:
    """Run a coroutine function with a Redis client, close the client and return the result."""

    async def call_and_close() -> T:
        client = connected(settings.redis)
        try:
            return await call(client)
        finally:
            await client.aclose()

    return asyncio.run(call_and_close())
