"""Store final days in Redis: each stays as it is for 400 days, or until an operator reopens it.

One hash beside the state. A day has two fields, written together in one transaction and only if
they do not exist: the data of the board, and the counts by model, region and so on, with which
later days are compared. The counts expire after 100 days. Reopening deletes both, and writes a
field `reopened ZONE DATE SECONDS` that is kept for ever.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import date as Date
from datetime import timedelta
from typing import cast

import msgspec
import redis.asyncio as aioredis
from redis.exceptions import RedisError, WatchError

from exporters.daily.day.facts import Reopening
from streams.checksums import DamagedError, open_json, seal_json
from streams.store.contract import StoreError
from streams.store.hash_fields import whole_fields
from streams.store.keys import Keys
from streams.store.servers.reasons import redis_reason

KEPT_DAYS = 400
DETAIL_DAYS = 100


# Kept for ever. Versions without it leave such fields alone.
_REOPENED = "reopened"


class DayStore:
    """The final days of one consumer group and topic in one time zone.

    Every call raises StoreError if Redis does not answer.
    """

    def __init__(self, client: "aioredis.Redis", group: str, topic: str, zone: str) -> None:
        self._redis, self._zone = client, zone
        self.key = Keys(group, topic).days

    async def read(self, dates: Iterable[str]) -> dict[str, bytes]:
        """Return the stored data of those dates that are final."""
        return await self._read_dates("day", list(dates))

    async def is_damaged(self, date: str) -> bool:
        """Return whether a date is final, and its stored data cannot be read."""
        field = self._field("day", date)
        with store_errors(self.key, "read"):
            data = cast(bytes | None, await self._redis.hget(self.key, field))
        return data is not None and not whole_fields(self.key, {field.encode(): data})

    async def details(self, dates: Iterable[str]) -> dict[str, bytes]:
        """Return the counts of those dates, if still stored."""
        return await self._read_dates("detail", list(dates))

    async def first(self) -> str | None:
        """Return the earliest final date, or None if there is none."""
        return min(await self._dates("day"), default=None)

    async def write_once(self, date: str, day: bytes, detail: bytes) -> bytes:
        """Write a day if it is not stored yet; return the stored data."""
        with store_errors(self.key, "finalise a day"):
            async with self._redis.pipeline(transaction=True) as pipe:
                # HSETNX: of several exporters the first writes, and all read the same day.
                for kind, data in (("day", day), ("detail", detail)):
                    field = self._field(kind, date)
                    pipe.hsetnx(self.key, field, seal_json(field, data))
                pipe.hget(self.key, self._field("day", date))
                stored = cast(bytes, (await pipe.execute())[2])
        try:
            stored = open_json(self._field("day", date), stored)
        except DamagedError as error:
            raise StoreError(
                f"{self.key}: {error}; a worker restores it from the archive within a minute"
            ) from error
        # Here, once a day, so that no reader has to.
        await self._expire(Date.fromisoformat(date))
        return stored

    async def reopen(self, date: str, at_s: int, author: str, reason: str) -> bool:
        """Take back that a date is final; return False if it is not final.

        Who did it, and why, stays with the day.
        """
        kinds = [self._field(kind, date) for kind in ("day", "detail")]
        field = f"{self._field(_REOPENED, date)} {at_s}"
        record = msgspec.json.encode(Reopening(at_s, author, reason))
        with store_errors(self.key, "reopen a day"):
            try:
                async with self._redis.pipeline(transaction=True) as pipe:
                    await pipe.watch(self.key)
                    if await pipe.hget(self.key, kinds[0]) is None:
                        return False
                    pipe.multi()  # type: ignore[no-untyped-call]
                    pipe.hset(self.key, field, seal_json(field, record))
                    pipe.hdel(self.key, *kinds)
                    await pipe.execute()
            except WatchError as error:
                raise StoreError(f"{self.key}: written meanwhile; try again") from error
        return True

    async def reopenings(self) -> dict[str, list[Reopening]]:
        """Return by date when days were opened again, oldest first."""
        prefix = self._field(_REOPENED, "")
        with store_errors(self.key, "read"):
            names = cast(list[bytes], await self._redis.hkeys(self.key))
            fields = sorted(name for name in names if name.startswith(prefix.encode()))
            values = (
                cast(list[bytes | None], await self._redis.hmget(self.key, fields))
                if fields
                else []
            )
        found: dict[str, list[Reopening]] = {}
        stored = zip(fields, values, strict=True)
        whole = whole_fields(self.key, {field: data for field, data in stored if data is not None})
        for field, data in whole.items():
            date = field.decode().removeprefix(prefix).partition(" ")[0]
            found.setdefault(date, []).append(msgspec.json.decode(data, type=Reopening))
        return found

    async def _expire(self, newest: Date) -> None:
        old = [
            self._field(kind, date)
            for kind, days in (("day", KEPT_DAYS), ("detail", DETAIL_DAYS))
            for date in await self._dates(kind)
            # ISO dates are ordered as text.
            if date < (newest - timedelta(days=days)).isoformat()
        ]
        if old:
            with store_errors(self.key, "drop old days"):
                await self._redis.hdel(self.key, *old)

    async def _dates(self, kind: str) -> list[str]:
        with store_errors(self.key, "read"):
            fields = cast(list[bytes], await self._redis.hkeys(self.key))
        prefix = self._field(kind, "").encode()
        return [field.removeprefix(prefix).decode() for field in fields if field.startswith(prefix)]

    async def _read_dates(self, kind: str, dates: list[str]) -> dict[str, bytes]:
        if not dates:
            return {}
        fields = [self._field(kind, date) for date in dates]
        with store_errors(self.key, "read"):
            values = cast(list[bytes | None], await self._redis.hmget(self.key, fields))
        stored = zip(fields, values, strict=True)
        whole = whole_fields(
            self.key, {field.encode(): data for field, data in stored if data is not None}
        )
        return {
            date: whole[field.encode()]
            for date, field in zip(dates, fields, strict=True)
            if field.encode() in whole
        }

    def _field(self, kind: str, date: str) -> str:
        return f"{kind} {self._zone} {date}"


@contextmanager
def store_errors(key: str, action: str) -> Iterator[None]:
    """Raise StoreError with key and action in place of an error of Redis or the connection."""
    try:
        yield
    except (RedisError, OSError) as error:
        raise StoreError(f"{key}: cannot {action}: {redis_reason(error)}") from error
