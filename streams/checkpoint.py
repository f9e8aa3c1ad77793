"""The checkpoint store: claim a partition, load its state, write it back, against Redis.

One hash per partition holds the slices and the Kafka offset they include, so that the two cannot
disagree. Fields: `owner` (epoch:token), `offset` (of the first record not included), `flush` (id
of the last write), `meta`, `index`, `totals`, `series:N`, `cubes:N` and one per slice.
"""

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib.resources import files
from typing import Protocol, cast

import redis.asyncio as aioredis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import NoScriptError, RedisError

from streams.partition import Snapshot, Stored, decode_meta, registry_fields

FLUSH_DEADLINE_S = 10.0
LOAD_DEADLINE_S = 20.0


class StoreError(RuntimeError):
    """The store did not answer or refused: one line with what to do."""


class Lost(RuntimeError):
    """Another worker owns the partition, or its state is not what we built on: memory of it must
    be dropped and the state claimed and loaded again."""


class Answer(StrEnum):
    """What the store says to a flush."""

    OK = "OK"
    ALREADY = "ALREADY"
    FENCED = "FENCED"
    CONFLICT = "CONFLICT"


@dataclass(slots=True)
class Claimed:
    """One partition's state as we found it, ours until somebody else claims it."""

    key: str
    owner: str  # the token under which we write
    stored: Stored


# Field -> value; keys are as wide as the client's own signature wants them.
Pulse = Mapping[str | bytes | bytearray | memoryview | int | float, str | int | float]


class Store(Protocol):
    """Where checkpoints are kept. All calls end within their deadline or raise StoreError."""

    async def claim(self, partition: int) -> Claimed:
        """Own a partition and read its state."""
        ...

    async def load(self, claim: Claimed, fields: Sequence[str]) -> dict[str, bytes]:
        """Read slices; raises Lost when we no longer own the partition."""
        ...

    async def flush(self, claim: Claimed, snapshot: Snapshot) -> Answer:
        """Write a checkpoint. A StoreError means: it is not known whether it was written."""
        ...

    async def pulse(self, partition: int, values: Pulse) -> None:
        """Leave a sign of life; nothing depends on it but what people look at."""
        ...


def partition_key(group: str, topic: str, partition: int) -> str:
    """The partition's hash; the braces keep its helpers on the same node of a cluster."""
    return f"tp:{{{group}:{topic}:{partition}}}"


def pulse_key(group: str, topic: str, partition: int) -> str:
    """A worker's sign of life for a partition, written even when nothing arrives."""
    return partition_key(group, topic, partition) + ":pulse"


def partitions_key(group: str, topic: str) -> str:
    """Set of the partitions that were ever claimed."""
    return f"tp:{{{group}:{topic}}}:partitions"


def connect(url: str, timeout_s: float) -> "aioredis.Redis":
    """A client whose calls end soon: its defaults could hold a call for a minute, longer than
    a worker may be silent."""
    client: aioredis.Redis = aioredis.Redis.from_url(
        url,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=Retry(ExponentialWithJitterBackoff(base=0.05, cap=0.5), 2),
        health_check_interval=15,
        max_connections=16,
    )
    return client


class RedisStore:
    """Checkpoints of one consumer group and topic in Redis."""

    def __init__(self, client: "aioredis.Redis", group: str, topic: str) -> None:
        self._redis, self._group, self._topic = client, group, topic
        self._scripts = {
            name: (files("streams") / f"{name}.lua").read_text() for name in ("claim", "flush")
        }
        self._loaded: dict[str, str] = {}

    async def claim(self, partition: int) -> Claimed:
        """See `Store`."""
        key = partition_key(self._group, self._topic, partition)
        try:
            async with asyncio.timeout(LOAD_DEADLINE_S):
                return await self._claim(key, partition)
        except (RedisError, OSError, TimeoutError) as error:
            raise StoreError(f"{key}: cannot claim: {_told(error)}") from error

    async def _claim(self, key: str, partition: int) -> Claimed:
        owner, offset = cast(list[bytes | None], await self._run("claim", key, [uuid.uuid4().hex]))
        assert owner is not None
        partitions = partitions_key(self._group, self._topic)
        await self._redis.sadd(partitions, str(partition))
        claimed = Claimed(key, owner.decode(), Stored(int(offset or 0)))
        if offset is None:
            return claimed
        fields = await self._read(claimed, ["meta", "index", "totals"])
        fields |= await self._read(claimed, registry_fields(decode_meta(fields["meta"])))
        claimed.stored = Stored(int(offset), fields)
        return claimed

    async def load(self, claim: Claimed, fields: Sequence[str]) -> dict[str, bytes]:
        """See `Store`."""
        try:
            async with asyncio.timeout(LOAD_DEADLINE_S):
                return await self._read(claim, fields)
        except (RedisError, OSError, TimeoutError) as error:
            raise StoreError(f"{claim.key}: cannot load: {_told(error)}") from error

    async def _read(self, claim: Claimed, fields: Sequence[str]) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for at in range(0, len(fields), 500):
            part = list(fields[at : at + 500])
            owner, *values = cast(
                list[bytes | None],
                await self._redis.hmget(claim.key, ["owner", *part]),
            )
            if owner is None or owner.decode() != claim.owner:
                raise Lost(f"{claim.key}: another worker claimed it")
            for name, value in zip(part, values, strict=True):
                if value is None:
                    raise Lost(f"{claim.key}: field {name} is gone: the state was damaged")
                found[name] = value
        return found

    async def flush(self, claim: Claimed, snapshot: Snapshot) -> Answer:
        """See `Store`."""
        arguments: list[str | bytes | int] = [
            claim.owner,
            snapshot.from_offset,
            snapshot.to_offset,
            f"{claim.owner}:{snapshot.sequence}",
            len(snapshot.deletes),
            *snapshot.deletes,
        ]
        for name, value in snapshot.fields.items():
            arguments += (name, value)
        try:
            async with asyncio.timeout(FLUSH_DEADLINE_S):
                answer = await self._run("flush", claim.key, arguments)
        except (RedisError, OSError, TimeoutError) as error:
            raise StoreError(f"{claim.key}: cannot write: {_told(error)}") from error
        return Answer(cast(bytes, answer).decode())

    async def pulse(
        self,
        partition: int,
        values: Pulse,
    ) -> None:
        """See `Store`."""
        key = pulse_key(self._group, self._topic, partition)
        try:
            await self._redis.hset(key, mapping={**values})
        except (RedisError, OSError) as error:
            raise StoreError(f"{key}: cannot write: {_told(error)}") from error

    async def _run(self, name: str, key: str, arguments: Sequence[str | bytes | int]) -> object:
        if name not in self._loaded:
            self._loaded[name] = await self._redis.script_load(self._scripts[name])
        try:
            return await self._redis.evalsha(self._loaded[name], 1, key, *arguments)
        except NoScriptError:  # Redis was restarted, or its script cache flushed
            self._loaded[name] = await self._redis.script_load(self._scripts[name])
            return await self._redis.evalsha(self._loaded[name], 1, key, *arguments)


def _told(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
