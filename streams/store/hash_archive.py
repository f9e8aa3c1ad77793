"""The archive of the hashes beside the state, which neither Kafka's log nor the state can rebuild:
per-minute SLO counts, closed periods, maintenance windows, finalised days, deliveries, incidents of
the status page and of the live board, tokens of customers from before their key was changed.

They are copied to the archive topic field by field, under keys that no archive of a partition uses:

    group|topic|hashes|maintenance|w-17|0     part 0 of the field `w-17` of the hash `maintenance`
    group|topic|hashes||sequence|0            number of the last pass that found a change

Each pass that finds a change writes its number to Redis first, then to the archive. If Redis has a
lower number than the archive, or none, it has lost writes: the archive is then written back.
Fields that leave a hash by age leave the archive with the next pass.
"""

import logging
import zlib
from collections.abc import Awaitable, Mapping, Set
from dataclasses import dataclass
from typing import Any, cast

import msgspec
import redis.asyncio as aioredis
from redis.exceptions import RedisError, WatchError

from streams.checksums import DamagedError
from streams.store.archive import PART_BYTES, ArchivePlace, Record
from streams.store.archive_topic import KafkaArchive
from streams.store.contract import StoreError
from streams.store.hash_fields import check_field
from streams.store.keys import (
    BOARD_INCIDENTS,
    CUSTOMER_TOKENS,
    DAYS,
    INCIDENTS,
    LEDGER,
    MAINTENANCE,
    SENT,
    Keys,
)
from streams.store.servers.reasons import redis_reason

log = logging.getLogger(__name__)

# Hashes of the whole topic, by what follows its prefix; a colon marks a family of hashes.
KINDS = (DAYS, MAINTENANCE, INCIDENTS, BOARD_INCIDENTS, CUSTOMER_TOKENS, LEDGER, SENT)
EXPIRES = (LEDGER, SENT)
EXPIRE_S = 432 * 86_400  # as long as the writers keep them; they renew it with each write
_SCAN_COUNT = 1_000

Field = tuple[str, bytes]  # hash, without the prefix of the topic; field
Contents = Mapping[Field, bytes]
_SEQUENCE: Field = ("", b"sequence")


class FieldPart(msgspec.Struct, array_like=True, frozen=True):
    """One record of the archive: a part of a field's value."""

    parts: int
    crc: int  # CRC-32 of the whole value
    data: bytes


@dataclass(frozen=True, slots=True)
class HashesPlace(ArchivePlace):
    """The keys of the archived hashes, which lie in the partition of the topic's first one."""

    @property
    def prefix(self) -> str:
        return f"{self.group}|{self.topic}|hashes|"

    def owns(self, key: bytes | None) -> bool:
        return key is not None and key.startswith(self.prefix.encode())

    def records(self, field: Field, value: bytes) -> list[Record]:
        """Return the records that hold a field's value."""
        # An empty value needs a record too, or it would look deleted.
        pieces = [value[at : at + PART_BYTES] for at in range(0, len(value), PART_BYTES)] or [b""]
        crc = zlib.crc32(value)
        return [
            (self._key(field, at), msgspec.msgpack.encode(FieldPart(len(pieces), crc, piece)))
            for at, piece in enumerate(pieces)
        ]

    def tombstones(self, field: Field, parts: range) -> list[Record]:
        """Return the records that delete parts of a field."""
        return [(self._key(field, at), None) for at in parts]

    def contents(self, live: Mapping[bytes, bytes]) -> dict[Field, bytes]:
        """Return the fields that are whole in the archive, from the live records of the topic.

        A field is not whole if its writer died between two of its parts; it is then left out, as
        are records that this program cannot read.
        """
        parts: dict[Field, dict[int, FieldPart]] = {}
        for key, value in live.items():
            name, _, rest = key.removeprefix(self.prefix.encode()).partition(b"|")
            field, _, at = rest.rpartition(b"|")
            try:
                part = msgspec.msgpack.decode(value, type=FieldPart)
                parts.setdefault((name.decode(), field), {})[int(at)] = part
            except ValueError as error:  # msgspec's errors are of this class, too
                log.warning("%r: not a record of the archive, left out: %s", key, error)
        values = {field: _join_parts(pieces) for field, pieces in parts.items()}
        return {field: value for field, value in values.items() if value is not None}

    def _key(self, field: Field, part: int) -> bytes:
        name, of = field
        return f"{self.prefix}{name}|".encode() + of + f"|{part}".encode()


def _join_parts(pieces: Mapping[int, FieldPart]) -> bytes | None:
    if 0 not in pieces or any(at not in pieces for at in range(pieces[0].parts)):
        return None
    # Parts of two writes mix if a writer died between them; the CRC of the whole then differs.
    value = b"".join(pieces[at].data for at in range(pieces[0].parts))
    return value if zlib.crc32(value) == pieces[0].crc else None


@dataclass(slots=True)
class _Archived:
    """The archive as this process last wrote or read it."""

    sequence: int
    values: dict[Field, tuple[int, int]]  # CRC-32, parts


class HashArchive:
    """Copies the hashes of one topic to the archive, and back into a Redis that lost them.

    One process runs it at a time: the owner of partition 0. Two that overlap during a rebalance
    write the same values.
    """

    def __init__(
        self, archive: KafkaArchive, client: "aioredis.Redis", group: str, topic: str
    ) -> None:
        self._archive, self._redis = archive, client
        self._place = HashesPlace(group, topic, 0)
        keys = Keys(group, topic)
        self._prefix, self._marker = keys.prefix, keys.archived_hashes
        self._archived: _Archived | None = None
        # Damaged fields that the archive does not have, by their fingerprint.
        self._lost: dict[Field, tuple[int, int]] = {}

    def forget(self) -> None:
        """Read the archive anew in the next pass, as another process may write it meanwhile."""
        self._archived = None

    async def synchronise(self) -> int:
        """Archive what changed since the last pass; return how many fields were restored before.

        Raises StoreError if Redis or Kafka does not answer; the next pass then begins anew.
        """
        try:
            return await self._synchronise()
        except Exception:
            self.forget()
            raise

    async def _synchronise(self) -> int:
        restored = 0
        stored = await self._sequence()
        # A lower number than this process wrote means that Redis went back since the last pass.
        if self._archived is None or stored < self._archived.sequence:
            contents = self._place.contents(await self._archive.live(self._place))
            # The number is no field of a hash and must not be restored as one.
            sequence = int(contents.pop(_SEQUENCE, b"0"))
            self._archived = _Archived(
                sequence, {field: _fingerprint(value) for field, value in contents.items()}
            )
            if stored < sequence:
                await self._restore(contents, sequence)
                restored = len(contents)
                stored = sequence
        contents = await self._contents()
        # Archived values were checked before they were archived.
        damaged = {
            field: value
            for field, value in contents.items()
            if self._archived.values.get(field) != _fingerprint(value)
            and _is_damaged(*field, value)
        }
        new = {
            field: value
            for field, value in damaged.items()
            if self._lost.get(field) != _fingerprint(value)
        }
        if new:
            restored += await self._repair(new)
            contents = await self._contents()
        whole = {
            field: value
            for field, value in contents.items()
            if field not in damaged or not _is_damaged(*field, value)
        }
        await self._write(self._archived, whole, stored, set(contents))
        return restored

    async def _repair(self, damaged: Contents) -> int:
        """Restore damaged fields from the archive; return how many it had."""
        archived = self._place.contents(await self._archive.live(self._place))
        copies = {
            field: archived[field]
            for field in damaged
            if field in archived and not _is_damaged(*field, archived[field])
        }
        for name, field in damaged:
            state = "restored" if (name, field) in copies else "not in the archive either"
            log.error("%s%s: %r is damaged: %s", self._prefix, name, field, state)
        for (name, field), value in damaged.items():
            if (name, field) in copies:
                await self._replace(name, field, value, copies[name, field])
            else:
                self._lost[name, field] = _fingerprint(value)
        return len(copies)

    async def _replace(self, name: str, field: bytes, damaged: bytes, value: bytes) -> None:
        """Write a value in the place of the damaged one, unless another process has written."""
        key = self._prefix + name
        async with self._redis.pipeline(transaction=True) as pipe:
            await _answer(pipe.watch(key), key)
            if await _answer(pipe.hget(key, field), key) != damaged:
                return
            pipe.multi()  # type: ignore[no-untyped-call]
            pipe.hset(key, field, value)
            try:
                await pipe.execute()
            except WatchError:
                log.info("%s: %r: written meanwhile: the next pass looks again", key, field)
            except (RedisError, OSError) as error:
                raise _store_error(key, error) from error

    async def _write(
        self, archived: _Archived, contents: Contents, stored: int, present: Set[Field]
    ) -> None:
        """Archive `contents`; of `present` fields without a content, the archived ones stay."""
        current = {field: _fingerprint(value) for field, value in contents.items()}
        records: list[Record] = []
        for field, (crc, parts) in current.items():
            before = archived.values.get(field, (None, 0))
            # Unchanged fields are in the compacted topic already.
            if before != (crc, parts):
                records += self._place.records(field, contents[field])
                # A value that became shorter leaves parts behind that no new record replaces.
                records += self._place.tombstones(field, range(parts, before[1]))
        for field, (_, parts) in archived.values.items():
            if field not in present:
                records += self._place.tombstones(field, range(parts))
        if not records:
            return
        sequence = max(archived.sequence, stored) + 1
        # Redis first: if this process dies between the two, Redis is ahead and keeps its values.
        await _answer(self._redis.hset(self._marker, "sequence", str(sequence)), self._marker)
        await self._archive.send(
            self._place, [*records, *self._place.records(_SEQUENCE, str(sequence).encode())]
        )
        kept = {field: archived.values[field] for field in present & archived.values.keys()}
        self._archived = _Archived(sequence, kept | current)

    async def _restore(self, contents: Contents, sequence: int) -> None:
        # One transaction: the number must not arrive without the fields.
        async with self._redis.pipeline(transaction=True) as pipe:
            for (name, field), value in contents.items():
                pipe.hset(self._prefix + name, field, value)
            for name in {name for name, _ in contents if name.startswith(EXPIRES)}:
                pipe.expire(self._prefix + name, EXPIRE_S)
            pipe.hset(self._marker, "sequence", str(sequence))
            await _answer(pipe.execute(), self._marker)
        log.warning(
            "Redis has lost SLO counts, maintenance windows and finalised days; restored %d fields "
            "from the archive",
            len(contents),
        )

    async def _sequence(self) -> int:
        stored = await _answer(self._redis.hget(self._marker, "sequence"), self._marker)
        return int(stored or 0)

    async def _contents(self) -> dict[Field, bytes]:
        """Return all fields of the hashes, read at one moment."""
        keys: list[bytes] = []
        try:
            async for key in self._redis.scan_iter(
                f"{_escape_pattern(self._prefix)}*", _SCAN_COUNT
            ):
                # The pattern also matches hashes that are not archived, such as the scenarios.
                if key.decode().removeprefix(self._prefix).startswith(KINDS):
                    keys.append(key)
            async with self._redis.pipeline(transaction=True) as pipe:
                for key in keys:
                    pipe.hgetall(key)
                hashes = await pipe.execute()
        except (RedisError, OSError) as error:
            raise _store_error(self._prefix, error) from error
        return {
            (key.decode().removeprefix(self._prefix), field): value
            for key, fields in zip(keys, hashes, strict=True)
            for field, value in cast(dict[bytes, bytes], fields).items()
        }


def _is_damaged(name: str, field: bytes, value: bytes) -> bool:
    try:
        check_field(name, field, value)
    except DamagedError:
        return True
    return False


def _fingerprint(value: bytes) -> tuple[int, int]:
    """Return the CRC-32 of a value, and how many records hold it."""
    return zlib.crc32(value), max(1, -(-len(value) // PART_BYTES))


def _escape_pattern(prefix: str) -> str:
    """Return a prefix as a Redis pattern that matches only itself."""
    return "".join(f"\\{letter}" if letter in "*?[]\\" else letter for letter in prefix)


async def _answer(reply: Awaitable[Any] | Any, key: str) -> Any:
    try:
        return await reply
    except (RedisError, OSError) as error:
        raise _store_error(key, error) from error


def _store_error(key: str, error: Exception) -> StoreError:
    return StoreError(f"{key}: cannot archive or restore: {redis_reason(error)}")
