"""The incidents of the status page in Redis: a hash with a field an incident, and one an update."""

from typing import cast

import redis.asyncio as aioredis
from redis.exceptions import RedisError

from exporters.status_page.incidents import (
    IncidentBook,
    IncidentUpdate,
    PublicIncident,
    head_field,
    update_field,
)
from streams.store.contract import StoreError
from streams.store.hash_fields import whole_fields
from streams.store.keys import Keys
from streams.store.servers.reasons import redis_reason


class IncidentStore:
    """The incidents of one consumer group and topic. Every call raises StoreError."""

    def __init__(self, client: "aioredis.Redis", group: str, topic: str) -> None:
        self._redis = client
        self._key = Keys(group, topic).incidents

    async def read(self) -> IncidentBook:
        """Return all incidents."""
        try:
            stored = await self._redis.hgetall(self._key)
        except (RedisError, OSError) as error:
            raise StoreError(
                f"cannot read incidents: {redis_reason(error)}; see to Redis, or set redis.url"
            ) from error
        return IncidentBook.read(whole_fields(self._key, cast(dict[bytes, bytes], stored)))

    async def put(self, incident: PublicIncident, update: IncidentUpdate) -> None:
        """Store an incident's name, impact and components, and one of its updates.

        Other updates are not written, so that two operators cannot overwrite each other's.
        """
        head, body = head_field(incident), update_field(incident.id, update)
        try:
            await self._redis.hset(self._key, items=[*head, *body])
        except (RedisError, OSError) as error:
            raise StoreError(f"cannot write incidents: {redis_reason(error)}") from error
