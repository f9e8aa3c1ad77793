"""The checkpoint store: claim a partition, load its state, write it back, against Redis.

One hash per partition holds the slices and the Kafka offset they include, so that the two cannot
disagree. Fields: `owner` (epoch:token), `offset` (of the first record not included), `flush` (id
of the last write), `meta`, `index`, `totals`, `series:N`, `cubes:N` and one per slice.
"""

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.resources import files
from typing import Any, cast

import redis.asyncio as aioredis
from redis.exceptions import NoScriptError, RedisError

from streams.checksums import DamagedError, checksum
from streams.clock import ClockReading, RedisClock
from streams.memory import MemoryUse
from streams.state.snapshot import Snapshot, Stored
from streams.store.contract import (
    Answer,
    Claimed,
    CommandError,
    HeartbeatFields,
    Lost,
    OperatorCommand,
    StoreError,
    StoreUnfitError,
)
from streams.store.hash_fields import TOKENS_CHANGE, pack_tokens, unpack_tokens
from streams.store.keys import Keys
from streams.store.servers.check import eviction_problem, primaries_info
from streams.store.servers.client import LOAD_DEADLINE_S
from streams.store.servers.cluster import ClusterClient
from streams.store.servers.reasons import redis_reason
from streams.store.stored import read_stored

FLUSH_DEADLINE_S = 10.0  # of a flush, which is one command
_PRIMARY_S = FLUSH_DEADLINE_S / 2  # of one primary, so that the others count if it is lost
_CRC = "crc"  # field of a command: the checksum of all others


async def enqueue_command(
    client: "aioredis.Redis", group: str, topic: str, partition: int, command: OperatorCommand
) -> None:
    """Enqueue a command for the worker that owns the partition, in place of any earlier one.

    Raises StoreError if Redis does not accept it.
    """
    key = Keys(group, topic).command(partition)
    fields: dict[str, str | int | None] = {
        "id": command.id,
        "kind": command.kind,
        "to": command.to,
        "reason": command.reason,
        "by": command.by,
        "at_ms": command.at_ms,
    }
    given = {name: str(value) for name, value in fields.items() if value is not None}
    sealed: dict[Any, Any] = {**given, _CRC: _command_crc(given)}
    try:
        async with asyncio.timeout(FLUSH_DEADLINE_S), client.pipeline(transaction=True) as pipe:
            pipe.delete(key)  # an earlier command's "to" must not stay
            pipe.hset(key, mapping=sealed)
            await pipe.execute()
    except (RedisError, OSError, TimeoutError) as error:
        raise StoreError(f"{key}: cannot write: {redis_reason(error)}") from error


class CustomerTokenTable:
    """The tokens that customers kept when the key of their ids was changed (`CustomerTokens`)."""

    def __init__(self, client: "aioredis.Redis", keys: Keys) -> None:
        self._redis, self._key = client, keys.customer_tokens
        self._change: bytes | None = None
        self._tokens: Mapping[str, str] = {}

    async def read(self) -> Mapping[str, str]:
        """Return all tokens by the hash of the id; the same object until one is written."""
        change = cast(bytes | None, await self._redis.hget(self._key, TOKENS_CHANGE))
        if change != self._change:
            stored = await self._redis.hgetall(self._key)
            self._tokens = unpack_tokens(self._key, cast(dict[bytes, bytes], stored))
            self._change = change
        return self._tokens

    async def write(self, tokens: Mapping[str, str]) -> None:
        """Add tokens by the hash of the id."""
        fields: dict[Any, Any] = {**pack_tokens(tokens, uuid.uuid4().hex)}
        await self._redis.hset(self._key, mapping=fields)


class RedisStore:
    """Checkpoints of one consumer group and topic in Redis."""

    def __init__(
        self, client: "aioredis.Redis", group: str, topic: str, max_clock_offset_s: float = 5
    ) -> None:
        """`max_clock_offset_s`: of `redis.max_clock_offset_s`."""
        self._redis, self._keys = client, Keys(group, topic)
        self._tokens = CustomerTokenTable(client, self._keys)
        self._clock = RedisClock(client, max_clock_offset_s)
        self._scripts = {
            name: (files("streams.store") / f"{name}.lua").read_text()
            for name in ("claim", "flush", "replace")
        }
        self._loaded: dict[str, str] = {}
        self._claimed: set[int] = set()

    async def claim(self, partition: int) -> Claimed:
        """See `Store`."""
        key = self._keys.partition(partition)
        try:
            async with asyncio.timeout(LOAD_DEADLINE_S):
                return await self._claim(key, partition)
        except (RedisError, OSError, TimeoutError) as error:
            raise StoreError(f"{key}: cannot claim: {redis_reason(error)}") from error

    async def _claim(self, key: str, partition: int) -> Claimed:
        owner, offset = cast(list[bytes | None], await self._run("claim", key, [uuid.uuid4().hex]))
        assert owner is not None
        # Before any state is written, so that readers list the partition with its heartbeat.
        partitions = self._keys.partitions
        await self._redis.sadd(partitions, str(partition))
        self._claimed.add(partition)
        claimed = Claimed(key, owner.decode(), Stored(0), await self._tokens.read())
        claimed.stored = await read_stored(claimed.owner, offset, partial(self._look, claimed))
        return claimed

    async def load(self, claim: Claimed, fields: Sequence[str]) -> dict[str, bytes]:
        """See `Store`."""
        try:
            async with asyncio.timeout(LOAD_DEADLINE_S):
                return await self._load_fields(claim, fields)
        except (RedisError, OSError, TimeoutError) as error:
            raise StoreError(f"{claim.key}: cannot load: {redis_reason(error)}") from error

    async def look(self, claim: Claimed, fields: Sequence[str]) -> dict[str, bytes]:
        """See `Store`."""
        try:
            async with asyncio.timeout(LOAD_DEADLINE_S):
                return await self._look(claim, fields)
        except (RedisError, OSError, TimeoutError) as error:
            raise StoreError(f"{claim.key}: cannot read: {redis_reason(error)}") from error

    async def _look(self, claim: Claimed, fields: Sequence[str]) -> dict[str, bytes]:
        # The owner comes with the fields: a claim between two commands would go unnoticed.
        owner, *values = cast(
            list[bytes | None],
            await self._redis.hmget(claim.key, ["owner", *fields]),
        )
        if owner is None:
            raise Lost(f"{claim.key}: the state is gone")
        if owner.decode() != claim.owner:
            raise Lost(f"{claim.key}: another worker claimed it")
        found = zip(fields, values, strict=True)
        return {name: value for name, value in found if value is not None}

    async def _load_fields(self, claim: Claimed, fields: Sequence[str]) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        # In parts: Redis runs one command at a time, and a long reply holds up its other clients.
        for at in range(0, len(fields), 500):
            part = fields[at : at + 500]
            found |= await self._look(claim, part)
            # The metadata or the index names each field: a missing one was evicted or deleted.
            if missing := [name for name in part if name not in found]:
                raise DamagedError(missing[0], "is missing")
        return found

    async def flush(self, claim: Claimed, snapshot: Snapshot) -> Answer:
        """See `Store`."""
        # First: if this process dies between the two, a token is stored that no row has yet.
        await self._write_tokens(claim, snapshot)
        arguments: list[str | bytes | int] = [
            claim.owner,
            snapshot.from_offset,
            snapshot.to_offset,
            f"{claim.owner}:{snapshot.sequence}",
            len(snapshot.deletes),
            *snapshot.deletes,
        ]
        return await self._write("flush", claim, arguments, snapshot)

    async def replace(self, claim: Claimed, snapshot: Snapshot) -> Answer:
        """See `Store`."""
        flush_id = f"{claim.owner}:{snapshot.sequence}"
        arguments: list[str | bytes | int] = [claim.owner, snapshot.to_offset, flush_id]
        return await self._write("replace", claim, arguments, snapshot)

    async def _write_tokens(self, claim: Claimed, snapshot: Snapshot) -> None:
        if not snapshot.tokens:
            return
        try:
            async with asyncio.timeout(FLUSH_DEADLINE_S):
                await self._tokens.write(snapshot.tokens)
        except (RedisError, OSError, TimeoutError) as error:
            raise StoreError(f"{claim.key}: cannot write tokens: {redis_reason(error)}") from error

    async def _write(
        self,
        script: str,
        claim: Claimed,
        arguments: list[str | bytes | int],
        snapshot: Snapshot,
    ) -> Answer:
        for name, value in snapshot.fields.items():
            arguments += (name, value)
        try:
            async with asyncio.timeout(FLUSH_DEADLINE_S):
                answer = await self._run(script, claim.key, arguments)
        except (RedisError, OSError, TimeoutError) as error:
            raise StoreError(f"{claim.key}: cannot write: {redis_reason(error)}") from error
        return Answer(cast(bytes, answer).decode())

    async def send_heartbeat(
        self, partition: int, values: HeartbeatFields
    ) -> OperatorCommand | None:
        """See `Store`."""
        key = self._keys.heartbeat(partition)
        command_key = self._keys.command(partition)
        try:
            # One round trip; heartbeat and command need not be of the same moment.
            async with (
                asyncio.timeout(FLUSH_DEADLINE_S),
                self._redis.pipeline(transaction=False) as pipe,
            ):
                pipe.hset(key, mapping={**values})
                pipe.hgetall(command_key)
                _, command = await pipe.execute()
        except (RedisError, OSError, TimeoutError) as error:
            raise StoreError(f"{key}: cannot write: {redis_reason(error)}") from error
        return _parse_command(command_key, cast(dict[bytes, bytes], command))

    async def check(self) -> MemoryUse | None:
        """See `Store`."""
        try:
            async with asyncio.timeout(FLUSH_DEADLINE_S):
                found = await primaries_info(self._redis, "memory", within_s=_PRIMARY_S)
                # Readers would miss a partition whose name in the set is damaged.
                if self._claimed:
                    await self._redis.sadd(self._keys.partitions, *map(str, self._claimed))
        except (RedisError, OSError, TimeoutError) as error:
            raise StoreError(f"cannot ask Redis for its settings: {redis_reason(error)}") from error
        for memory in found.answers:
            if problem := eviction_problem(memory.get("maxmemory_policy")):
                raise StoreUnfitError(f"Redis: {problem}")
        return _fullest(found.answers)

    async def read_clock(self) -> None:
        """See `Store`."""
        await self._clock.read()

    def clock(self) -> ClockReading:
        """See `Store`."""
        return self._clock.reading()

    async def _run(self, name: str, key: str, arguments: Sequence[str | bytes | int]) -> object:
        # EVALSHA sends the hash of a script instead of its text.
        if name not in self._loaded:
            await self._load_script(name, key)
        try:
            return await self._redis.evalsha(self._loaded[name], 1, key, *arguments)
        # Redis was restarted, or the key is at another primary than that of the first use.
        except NoScriptError:
            await self._load_script(name, key)
            return await self._redis.evalsha(self._loaded[name], 1, key, *arguments)

    async def _load_script(self, name: str, key: str) -> None:
        client: object = self._redis
        text = self._scripts[name]
        if isinstance(client, ClusterClient):
            self._loaded[name] = await client.load_script(text, key)
        else:
            self._loaded[name] = await self._redis.script_load(text)


def _fullest(memories: Sequence[Mapping[str, object]]) -> MemoryUse | None:
    """Return the memory of the primary that will be full first; None if none reports it."""
    known = [
        # A maxmemory of 0 is no limit.
        MemoryUse(int(str(memory["used_memory"])), int(str(memory.get("maxmemory", 0))) or None)
        for memory in memories
        if "used_memory" in memory
    ]
    return max(
        known,
        key=lambda use: (
            use.used / use.limit if use.limit else 0,
            use.used,
        ),
        default=None,
    )


def _command_crc(fields: Mapping[str, str]) -> str:
    return str(checksum("command", repr(sorted(fields.items())).encode()))


def _parse_command(key: str, stored: Mapping[bytes, bytes]) -> OperatorCommand | None:
    if not stored:
        return None
    fields = {
        # Bytes that are not UTF-8 must not end the worker: the error below shows them.
        str(name, "utf-8", "replace"): str(value, "utf-8", "replace")
        for name, value in stored.items()
    }
    # A version without checksums wrote a command that has none.
    if fields.pop(_CRC, None) not in (None, _command_crc(fields)):
        raise CommandError(f"{key}: got {fields}, whose checksum is wrong; repeat the command")
    try:
        to = int(fields["to"]) if "to" in fields else None
        return OperatorCommand(
            *(fields["id"], fields["kind"], to, fields["reason"], fields["by"]),
            at_ms=int(fields.get("at_ms", 0)),
        )
    except (KeyError, ValueError) as error:
        raise CommandError(f"{key}: got {fields}; repeat the command") from error
