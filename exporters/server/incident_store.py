"""The incidents of the live board in Redis: a hash with a field for each incident."""

import logging
from typing import cast

import redis.asyncio as aioredis
from redis.exceptions import RedisError

from exporters.board.incidents.log import IncidentLog, IncidentRecord
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
            stored = cast(dict[bytes, bytes], await self._redis.hgetall(self._key))
        except (RedisError, OSError) as error:
            raise StoreError(f"cannot read the board's incidents: {one_line(error)}") from error
        records = map(IncidentRecord.decode, stored.values())
        return [record for record in records if record is not None]

    async def write(self, incidents: IncidentLog, now_s: float) -> None:
        """Write what changed. A failure is logged once: the board works without the store."""
        fields, deleted = incidents.changes(now_s)
        if not fields and not deleted:
            return
        try:
            if fields:
                pairs = [part for pair in fields.items() for part in pair]
                await self._redis.hset(self._key, items=pairs)
            if deleted:
                await self._redis.hdel(self._key, *deleted)
        except (RedisError, OSError) as error:
            if not self._fails:
                log.warning("cannot write the board's incidents: %s", one_line(error))
            self._fails = True
            return
        self._fails = False
        incidents.mark_written(now_s)
