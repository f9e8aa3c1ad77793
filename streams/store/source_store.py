"""The counts of the sources in Redis: a hash for each slot, which expires."""

import asyncio
from collections.abc import Mapping
from typing import cast

import redis.asyncio as aioredis
from redis.exceptions import RedisError

from streams.errors import one_line
from streams.store.contract import StoreError
from streams.store.keys import Keys
from streams.store.source_counts import KEEP_S, SLOT_S, SourceHistory, SourceReport, slot_of

_DEADLINE_S = 10.0
# Slots that may still change: intakes report every few seconds, and later after an outage of Redis.
_OPEN_S = 3_600


class SourceStore:
    """The counts of the sources of one consumer group and topic."""

    def __init__(self, client: "aioredis.Redis", group: str, topic: str) -> None:
        self._redis, self._keys = client, Keys(group, topic)
        self._history = SourceHistory()
        self._read: set[int] = set()  # slots that need not be read again

    async def add(self, reports: Mapping[int, SourceReport]) -> None:
        """Add counts to their slots, all or none.

        Raises StoreError; Redis may then have them all the same, and they count twice if they are
        added again.
        """
        try:
            async with asyncio.timeout(_DEADLINE_S), self._redis.pipeline(transaction=True) as pipe:
                for slot, report in reports.items():
                    key = self._keys.source_counts(slot)
                    for field, count in report.counts.items():
                        pipe.hincrby(key, field, count)
                    for field, at_ms in report.last_events_ms.items():
                        pipe.hset(key, field, str(at_ms))
                    pipe.expire(key, KEEP_S + SLOT_S)
                await pipe.execute()
        except (RedisError, OSError, TimeoutError) as error:
            raise StoreError(
                f"cannot write the counts of the sources: {one_line(error)}"
            ) from error

    async def read(self, now_s: float) -> SourceHistory:
        """Return all kept counts; only slots that may still change are read again.

        Raises StoreError.
        """
        oldest, open_from = slot_of(now_s - KEEP_S), slot_of(now_s - _OPEN_S)
        # One slot more, as the clocks of intakes may be ahead.
        wanted = [
            slot
            for slot in range(oldest, slot_of(now_s) + 2 * SLOT_S, SLOT_S)
            if slot not in self._read
        ]
        try:
            async with (
                asyncio.timeout(_DEADLINE_S),
                self._redis.pipeline(transaction=False) as pipe,
            ):
                for slot in wanted:
                    pipe.hgetall(self._keys.source_counts(slot))
                answers = cast(list[dict[bytes, bytes]], await pipe.execute())
        except (RedisError, OSError, TimeoutError) as error:
            raise StoreError(f"cannot read the counts of the sources: {one_line(error)}") from error
        for slot, fields in zip(wanted, answers, strict=True):
            self._history.put(slot, {field.decode(): int(count) for field, count in fields.items()})
        self._history.forget_before(oldest)
        self._read = {slot for slot in (*self._read, *wanted) if oldest <= slot < open_from}
        return self._history
