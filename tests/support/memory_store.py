"""The checkpoint store in memory: the same contract as Redis, for simulations and as its oracle.

`MemoryHash` is one partition's hash and mirrors claim.lua and flush.lua line by line; it is plain
and synchronous, so that a simulation can make millions of calls. `MemoryStore` is the `Store` of a
worker on top of it: several workers share one `MemoryRedis`, as they would share a server.
"""

import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from streams.checksums import DamagedError
from streams.clock import ClockReading
from streams.memory import MemoryUse
from streams.state.snapshot import Snapshot, Stored
from streams.store.contract import (
    Answer,
    Claimed,
    HeartbeatFields,
    Lost,
    OperatorCommand,
    StoreUnfitError,
)
from streams.store.keys import Keys
from streams.store.servers.check import eviction_problem
from streams.store.stored import read_stored

GUARDS = frozenset({"owner", "offset", "flush_id"})


class MemoryHash:
    """One partition's hash. `guards` are the checks that a flush makes: a test that takes one away
    must see something break."""

    __slots__ = ("fields", "flush_id", "guards", "offset", "owner")

    def __init__(self, guards: frozenset[str] = GUARDS) -> None:
        self.guards = guards
        self.owner: str | None = None
        self.offset: int | None = None
        self.flush_id: str | None = None
        self.fields: dict[str, bytes] = {}

    def claim(self, token: str) -> tuple[str, int | None]:
        """claim.lua: the new owner, and the stored offset, if any."""
        owner = self.owner or "0:"
        epoch = int(owner[: owner.index(":")]) + 1
        self.owner = f"{epoch}:{token}"
        return self.owner, self.offset

    def flush(
        self,
        owner: str,
        from_offset: int,
        to_offset: int,
        flush_id: str,
        deletes: Iterable[str],
        fields: Mapping[str, bytes],
    ) -> Answer:
        """flush.lua: all of it, or nothing."""
        guards = self.guards
        if self.owner != owner and "owner" in guards:
            return Answer.FENCED
        if (self.flush_id, self.offset) == (flush_id, to_offset) and "flush_id" in guards:
            return Answer.ALREADY
        if (self.offset or 0) != from_offset and "offset" in guards:
            return Answer.CONFLICT

        for name in deletes:
            self.fields.pop(name, None)
        self.fields.update(fields)
        self.offset, self.flush_id = to_offset, flush_id
        return Answer.OK

    def replace(
        self, owner: str, offset: int, flush_id: str, fields: Mapping[str, bytes]
    ) -> Answer:
        """replace.lua: the whole state."""
        if self.owner != owner:
            return Answer.FENCED
        self.fields, self.offset, self.flush_id = dict(fields), offset, flush_id
        return Answer.OK

    def look(self, owner: str, names: Iterable[str]) -> dict[str, bytes]:
        """HMGET, as `RedisStore` judges it: those fields that there are; Lost for another owner."""
        if self.owner is None:
            raise Lost("the state is gone")
        if self.owner != owner:
            raise Lost("another worker claimed it")
        held, own = self.fields, self._own()
        found = {name: own.get(name) or held.get(name) for name in names}
        return {name: value for name, value in found.items() if value is not None}

    def read(self, owner: str, names: Sequence[str]) -> dict[str, bytes]:
        """`look`, but raise DamagedError for a missing field."""
        found = self.look(owner, names)
        if missing := [name for name in names if name not in found]:
            raise DamagedError(missing[0], "is missing")
        return found

    def copy(self) -> "MemoryHash":
        """A backup; also what a replica has that lags behind."""
        other = MemoryHash(self.guards)
        other.restore(self)
        return other

    def restore(self, backup: "MemoryHash") -> None:
        """Become what `backup` is: a server that lost its latest writes, or (empty) all of them."""
        self.owner, self.offset, self.flush_id = backup.owner, backup.offset, backup.flush_id
        self.fields = dict(backup.fields)

    def content(self) -> dict[bytes, bytes]:
        """What HGETALL would say."""
        return {name.encode(): value for name, value in {**self.fields, **self._own()}.items()}

    def _own(self) -> dict[str, bytes]:
        own = {"owner": self.owner, "offset": self.offset, "flush": self.flush_id}
        return {name: str(value).encode() for name, value in own.items() if value is not None}


@dataclass(slots=True)
class MemoryRedis:
    """What a server holds for one group and topic; shared by the workers' stores."""

    guards: frozenset[str] = GUARDS
    policy: str = "noeviction"
    hashes: dict[int, MemoryHash] = field(default_factory=dict)
    pulses: dict[int, dict[Any, Any]] = field(default_factory=dict)
    orders: dict[int, OperatorCommand] = field(default_factory=dict)

    def partition(self, number: int) -> MemoryHash:
        """The hash of a partition; an empty one where nobody has claimed it yet."""
        if number not in self.hashes:
            self.hashes[number] = MemoryHash(self.guards)
        return self.hashes[number]


async def _at_once(moment: str) -> None:
    """A network that takes no time."""


class MemoryStore:
    """One worker's way to a `MemoryRedis`.

    `delay` is awaited before and after each call has its effect: with "claim" and "claimed", "load"
    and "loaded", "flush" and "flushed", "pulse" and "pulsed", "check" and "checked". It may wait,
    so that calls overtake each other, or raise StoreError: after the effect, that is a lost reply.
    """

    def __init__(
        self,
        redis: MemoryRedis,
        group: str,
        topic: str,
        delay: Callable[[str], Awaitable[None]] = _at_once,
    ) -> None:
        self._redis, self._group, self._topic, self._delay = redis, group, topic, delay

    async def claim(self, partition: int) -> Claimed:
        """See `Store`."""
        at = self._redis.partition(partition)
        await self._delay("claim")
        owner, offset = at.claim(uuid.uuid4().hex)
        await self._delay("claimed")
        claimed = Claimed(Keys(self._group, self._topic).partition(partition), owner, Stored(0))
        stored_offset = None if offset is None else str(offset).encode()
        claimed.stored = await read_stored(owner, stored_offset, partial(self.look, claimed))
        return claimed

    async def load(self, claim: Claimed, fields: Sequence[str]) -> dict[str, bytes]:
        """See `Store`."""
        return await self._asked(claim, fields, MemoryHash.read)

    async def look(self, claim: Claimed, fields: Sequence[str]) -> dict[str, bytes]:
        """See `Store`."""
        return await self._asked(claim, fields, MemoryHash.look)

    async def _asked(
        self,
        claim: Claimed,
        fields: Sequence[str],
        ask: Callable[[MemoryHash, str, Sequence[str]], dict[str, bytes]],
    ) -> dict[str, bytes]:
        await self._delay("load")
        try:
            found = ask(self._of(claim), claim.owner, fields)
        except Lost as error:
            raise Lost(f"{claim.key}: {error}") from None
        await self._delay("loaded")
        return found

    async def flush(self, claim: Claimed, snapshot: Snapshot) -> Answer:
        """See `Store`."""
        await self._delay("flush")
        answer = self._of(claim).flush(
            claim.owner,
            snapshot.from_offset,
            snapshot.to_offset,
            f"{claim.owner}:{snapshot.sequence}",
            snapshot.deletes,
            snapshot.fields,
        )
        await self._delay("flushed")
        return answer

    async def replace(self, claim: Claimed, snapshot: Snapshot) -> Answer:
        """See `Store`."""
        await self._delay("replace")
        answer = self._of(claim).replace(
            claim.owner,
            snapshot.to_offset,
            f"{claim.owner}:{snapshot.sequence}",
            snapshot.fields,
        )
        await self._delay("replaced")
        return answer

    async def send_heartbeat(
        self, partition: int, values: HeartbeatFields
    ) -> OperatorCommand | None:
        """See `Store`."""
        await self._delay("pulse")
        self._redis.pulses.setdefault(partition, {}).update(values)
        order = self._redis.orders.get(partition)
        await self._delay("pulsed")
        return order

    async def read_clock(self) -> None:
        """See `Store`."""
        await self._delay("clock")

    def clock(self) -> ClockReading:
        """See `Store`."""
        return ClockReading(time.time(), time.time(), 0.0, 5.0)

    async def check(self) -> MemoryUse | None:
        """See `Store`."""
        await self._delay("check")
        problem = eviction_problem(self._redis.policy)
        await self._delay("checked")
        if problem:
            raise StoreUnfitError(f"Redis: {problem}")
        return None

    def _of(self, claim: Claimed) -> MemoryHash:
        return self._redis.partition(int(claim.key.rpartition(":")[2].rstrip("}")))
