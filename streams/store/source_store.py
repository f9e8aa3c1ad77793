"""The counts of the sources in Redis: a hash for each slot, which expires.

After an outage of Redis, an intake writes old slots. So each write also sets a new mark for its
slot, in a hash for each day, and a reader reads only the slots whose mark changed since its last
read.
"""

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from typing import cast

import redis.asyncio as aioredis
from redis.exceptions import RedisError

from streams.store.contract import StoreError
from streams.store.keys import Keys
from streams.store.servers.reasons import redis_reason
from streams.store.source_counts import (
    DAY_S,
    KEEP_S,
    SLOT_S,
    SourceHistory,
    SourceReport,
    slot_of,
)

_DEADLINE_S = 10.0
_Hash = dict[bytes, bytes]


class SourceStore:
    """The counts of the sources of one consumer group and topic."""

    def __init__(self, client: "aioredis.Redis", group: str, topic: str) -> None:
        self._redis, self._keys = client, Keys(group, topic)
        # Each intake writes its last event to a field of its own; the newest of them counts.
        self._intake = secrets.token_hex(4)
        self._history = SourceHistory()
        # The mark of each slot, as it was read. None before the first read, which reads all slots:
        # versions before the marks wrote none.
        self._seen: dict[int, bytes] | None = None

    async def add(self, reports: Mapping[int, SourceReport]) -> None:
        """Add counts to their slots, all or none.

        Raises StoreError. Redis may have added them even then, and they count twice if they are
        added again.
        """
        try:
            async with asyncio.timeout(_DEADLINE_S), self._redis.pipeline(transaction=True) as pipe:
                for slot, report in reports.items():
                    key = self._keys.source_counts(slot)
                    for field, count in report.counts.items():
                        pipe.hincrby(key, field, count)
                    for field, at_ms in report.fields(self._intake).items():
                        pipe.hset(key, field, str(at_ms))
                    pipe.expire(key, KEEP_S + SLOT_S)
                    changes = self._keys.source_changes(slot // DAY_S)
                    # A mark never repeats, also if Redis lost writes and counts start again.
                    pipe.hset(changes, str(slot), secrets.token_hex(8))
                    pipe.expire(changes, KEEP_S + DAY_S)
                await pipe.execute()
        except (RedisError, OSError, TimeoutError) as error:
            raise StoreError(
                f"cannot write the counts of the sources: {redis_reason(error)}"
            ) from error

    async def read(self, now_s: float) -> SourceHistory:
        """Return all kept counts; only slots that changed since the last call are read again.

        Raises StoreError.
        """
        # One slot more, as the clocks of intakes may be ahead.
        oldest, newest = slot_of(now_s - KEEP_S), slot_of(now_s) + SLOT_S
        days = range(oldest // DAY_S, newest // DAY_S + 1)
        # Marks first: a slot that changes meanwhile is read once more at the next call.
        marks = {
            slot: mark
            for hashes in await self._hashes([self._keys.source_changes(day) for day in days])
            for slot, mark in ((int(field), mark) for field, mark in hashes.items())
            if oldest <= slot <= newest
        }
        # A slot whose mark is gone was lost with Redis' data: its counts are read as empty.
        seen, slots = self._seen, range(oldest, newest + 1, SLOT_S)
        changed = [slot for slot in slots if seen is None or marks.get(slot) != seen.get(slot)]
        stored = await self._hashes([self._keys.source_counts(slot) for slot in changed])
        for slot, fields in zip(changed, stored, strict=True):
            self._history.put(slot, {field.decode(): int(count) for field, count in fields.items()})
        self._history.forget_before(oldest)
        self._seen = marks
        return self._history

    async def _hashes(self, keys: Sequence[str]) -> list[_Hash]:
        """Return the hashes of these keys. Raises StoreError."""
        if not keys:
            return []
        try:
            async with (
                asyncio.timeout(_DEADLINE_S),
                self._redis.pipeline(transaction=False) as pipe,
            ):
                for key in keys:
                    pipe.hgetall(key)
                return cast(list[_Hash], await pipe.execute())
        except (RedisError, OSError, TimeoutError) as error:
            raise StoreError(
                f"cannot read the counts of the sources: {redis_reason(error)}"
            ) from error
