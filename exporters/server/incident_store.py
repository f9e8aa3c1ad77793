"""The incidents of the live board in Redis: a hash with a field for each incident."""

import logging
from typing import cast

import redis.asyncio as aioredis
from redis.exceptions import RedisError

from exporters.board.incidents.log import KEEP_S, IncidentLog, IncidentRecord
from streams.errors import one_line
from streams.store.contract import StoreError
from streams.store.keys import Keys

log = logging.getLogger(__name__)


class BoardIncidentStore:
    """The stored incidents of one consumer group and topic."""

    def __init__(self, client: "aioredis.Redis", group: str, topic: str) -> None:
        self._redis = client
        self._key = Keys(group, topic).board_incidents
        self._fails = False

    async def read(self) -> list[IncidentRecord]:
        """Return the stored incidents. Raises StoreError."""
        try:
            records, _ = await self._read(0.0)
        except (RedisError, OSError) as error:
            raise StoreError(f"cannot read the board's incidents: {one_line(error)}") from error
        return records

    async def write(self, incidents: IncidentLog, now_s: float) -> None:
        """Agree with other exporters and write what changed.

        A failure is logged once: the board works without the store.
        """
        if not incidents.is_due(now_s):
            return
        try:
            stored, unreadable = await self._read(now_s - KEEP_S)
            # Another exporter may have seen the same incident first: one record of it remains.
            incidents.agree(stored, now_s)
            fields, deleted = incidents.changes(now_s)
            if fields:
                pairs = [part for pair in fields.items() for part in pair]
                await self._redis.hset(self._key, items=pairs)
            if gone := [*deleted, *unreadable]:
                await self._redis.hdel(self._key, *gone)
        except (RedisError, OSError) as error:
            if not self._fails:
                log.warning("cannot write the board's incidents: %s", one_line(error))
            self._fails = True
            return
        self._fails = False
        incidents.mark_written(now_s)

    async def _read(self, before_s: float) -> tuple[list[IncidentRecord], list[str]]:
        """Return the stored incidents, and unreadable fields of before `before_s`.

        Another version wrote the unreadable ones; the newer of them may still be in use.
        """
        stored = cast(dict[bytes, bytes], await self._redis.hgetall(self._key))
        records, old = [], []
        for field, value in stored.items():
            record = IncidentRecord.decode(value)
            if record is not None:
                records.append(record)
                continue
            # The field begins with the start, which can be read whatever the content is.
            start_ms = field.partition(b"|")[0]
            if not start_ms.isdigit() or int(start_ms) < before_s * 1_000:
                old.append(field.decode(errors="surrogateescape"))
        return records, old
