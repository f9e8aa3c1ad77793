"""Record the deliveries of the daily board in Redis, so that each day is delivered once.

One hash per day, `tp:{group:topic}:sent:DATE`; DATE of a week is `2026-W46`, of a month `2026-11`.
Field `sending`: the end (Unix time) of the lease of the delivering run, and its token. One field
per recipient, named by a hash of the address: the time of delivery and, if the day was not final, a
hash of its numbers.
"""

import hashlib
import uuid
from collections.abc import Mapping
from typing import cast

import redis.asyncio as aioredis
from redis.exceptions import WatchError

from exporters.daily.day.store import store_errors
from streams.config.servers import LARGEST_CLOCK_OFFSET_S
from streams.store.keys import Keys

LEASE_S = 600  # longer than a delivery takes, retries and time-outs included
# As another host sees it: two clocks that are accepted may both be off, to different sides, and the
# end of the lease is rounded.
_LEASE_MAX_S = LEASE_S + 2 * LARGEST_CLOCK_OFFSET_S + 1
KEPT_S = 400 * 86_400
_SENDING = "sending"


def recipient_hash(recipient: str) -> str:
    """Return the field of a recipient: a hash, so that Redis stores no address."""
    return hashlib.sha256(recipient.encode()).hexdigest()[:32]


class Sent:
    """The deliveries of one day. Every call raises StoreError if Redis does not answer."""

    def __init__(self, client: "aioredis.Redis", group: str, topic: str, date: str) -> None:
        self._redis = client
        self.key = Keys(group, topic).sent(date)
        self._token = uuid.uuid4().hex

    async def claim(self, now_s: float) -> Mapping[str, str] | None:
        """Take the lease of this day's delivery; return field -> when it was delivered.

        Return None if another run has the lease.
        """
        with store_errors(self.key, "read"):
            try:
                async with self._redis.pipeline(transaction=True) as pipe:
                    await pipe.watch(self.key)
                    fields = await self._fields(pipe)
                    until_s = float(fields.pop(_SENDING, "").partition(" ")[0] or 0)
                    # A run that died keeps its lease until it ends. A longer one is of a clock that
                    # was wrong, and would last until that time.
                    if now_s < until_s <= now_s + _LEASE_MAX_S:
                        return None
                    pipe.multi()  # type: ignore[no-untyped-call]
                    pipe.hset(self.key, _SENDING, f"{now_s + LEASE_S:.0f} {self._token}")
                    pipe.expire(self.key, KEPT_S)
                    await pipe.execute()
            # Another run changed the hash between WATCH and EXEC: it has the lease.
            except WatchError:
                return None
        return fields

    async def note(self, field: str, now_s: float, numbers: str) -> None:
        """Record a delivery; `numbers`: their digest if they may change, else empty."""
        with store_errors(self.key, "write"):
            await self._redis.hset(self.key, field, f"{now_s:.0f} {numbers}".strip())

    async def release(self) -> None:
        """Give the lease back, unless another run has taken it since."""
        with store_errors(self.key, "write"):
            try:
                async with self._redis.pipeline(transaction=True) as pipe:
                    await pipe.watch(self.key)
                    fields = await self._fields(pipe)
                    # Only the own lease: another run may have taken it after its end.
                    if fields.get(_SENDING, "").endswith(f" {self._token}"):
                        pipe.multi()  # type: ignore[no-untyped-call]
                        pipe.hset(self.key, _SENDING, "")
                        await pipe.execute()
            except WatchError:
                return

    async def _fields(self, pipe: "aioredis.client.Pipeline") -> dict[str, str]:
        stored = cast(dict[bytes, bytes], await pipe.hgetall(self.key))
        return {name.decode(): value.decode() for name, value in stored.items()}
