"""Final days in Redis: written once, never changed, stored for 400 days.

One hash beside the state. A day has two fields, written together in one transaction and only if
they do not exist: the data of the board, and the counts by model, region and so on, with which
later days are compared. The counts expire after 40 days.
"""

from collections.abc import Iterable
from datetime import date, timedelta
from typing import cast

import redis.asyncio as aioredis
from redis.exceptions import RedisError

from streams.store.contract import StoreError
from streams.store.keys import Keys

KEPT_DAYS = 400
DETAIL_DAYS = 40


class DayStore:
    """The sealed days of one consumer group and topic in one zone. Every call raises StoreError
    where Redis does not answer."""

    def __init__(self, client: "aioredis.Redis", group: str, topic: str, zone: str) -> None:
        self._redis, self._zone = client, zone
        self.key = Keys(group, topic).days

    async def read(self, dates: Iterable[str]) -> dict[str, bytes]:
        """Return the stored data of those dates that are final."""
        return await self._read("day", list(dates))

    async def details(self, dates: Iterable[str]) -> dict[str, bytes]:
        """Return the counts of those dates, if still stored."""
        return await self._read("detail", list(dates))

    async def first(self) -> str | None:
        """The earliest sealed date."""
        return min(await self._dates("day"), default=None)

    async def seal(self, of: str, day: bytes, detail: bytes) -> bytes:
        """Write a day if it is not stored yet; return the stored data."""
        try:
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.hsetnx(self.key, self._field("day", of), day)
                pipe.hsetnx(self.key, self._field("detail", of), detail)
                pipe.hget(self.key, self._field("day", of))
                stored = (await pipe.execute())[2]
        except (RedisError, OSError) as error:
            raise self._error("seal a day", error) from error
        await self._expire(date.fromisoformat(of))
        return cast(bytes, stored)

    async def _expire(self, newest: date) -> None:
        old = [
            self._field(kind, one)
            for kind, days in (("day", KEPT_DAYS), ("detail", DETAIL_DAYS))
            for one in await self._dates(kind)
            if one < (newest - timedelta(days=days)).isoformat()
        ]
        if not old:
            return
        try:
            await self._redis.hdel(self.key, *old)
        except (RedisError, OSError) as error:
            raise self._error("drop old days", error) from error

    async def _dates(self, kind: str) -> list[str]:
        try:
            fields = await self._redis.hkeys(self.key)
        except (RedisError, OSError) as error:
            raise self._error("read", error) from error
        prefix = self._field(kind, "").encode()
        return [
            field.removeprefix(prefix).decode()
            for field in cast(list[bytes], fields)
            if field.startswith(prefix)
        ]

    async def _read(self, kind: str, dates: list[str]) -> dict[str, bytes]:
        if not dates:
            return {}
        try:
            found = await self._redis.hmget(self.key, [self._field(kind, one) for one in dates])
        except (RedisError, OSError) as error:
            raise self._error("read", error) from error
        stored = zip(dates, cast(list[bytes | None], found), strict=True)
        return {one: data for one, data in stored if data is not None}

    def _field(self, kind: str, of: str) -> str:
        return f"{kind} {self._zone} {of}"

    def _error(self, what: str, error: Exception) -> StoreError:
        return StoreError(f"{self.key}: cannot {what}: {' '.join(str(error).split())}")
