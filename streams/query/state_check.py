"""Checks every stored field of all partitions, and finds the source to rebuild a damaged one."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

import redis.asyncio as aioredis
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from redis.exceptions import RedisError

from streams.checksums import DamagedError
from streams.config.settings import Kafka
from streams.errors import Unavailable, reason
from streams.security.clients import client_kwargs
from streams.state.slices import SliceId
from streams.state.snapshot import (
    Stored,
    check_slice,
    decode_index,
    decode_meta,
    registry_fields,
    slice_field,
)
from streams.store.archive_topic import KafkaArchive
from streams.store.contract import StoreError
from streams.store.keys import Keys
from streams.store.rebuilding import DamagedState, RebuildSource, check_archived
from streams.store.servers.reasons import redis_reason
from streams.store.stored import HEAD, check_state, required

FIELDS_AT_ONCE = 100
KAFKA_DEADLINE_S = 30.0
_ROUNDS = 20

Look = Callable[[Sequence[str]], Awaitable[Mapping[str, bytes]]]


@dataclass(frozen=True, slots=True)
class PartitionCheck:
    """The stored fields of one partition: how many were checked, and which are damaged."""

    partition: int
    fields: int
    stored: Stored
    damage: tuple[DamagedError, ...] = ()
    slices: tuple[SliceId, ...] = ()  # damaged slices, if all other fields are whole
    source: RebuildSource | None = None  # what can rebuild it


async def check_states(
    client: "aioredis.Redis", kafka: Kafka, archived: bool
) -> list[PartitionCheck]:
    """Check the state of every partition. `archived`: whether workers write an archive.

    Raises StoreError or Unavailable if Redis or Kafka does not answer.
    """
    keys = Keys(kafka.group, kafka.topic)
    try:
        members = await cast(Awaitable[set[bytes]], client.smembers(keys.partitions))
        partitions = sorted(int(member) for member in members if member.isdigit())
        checks = [
            await check_partition(one, partial(_look, client, keys.partition(one)))
            for one in partitions
        ]
    except (RedisError, OSError) as error:
        raise StoreError(f"cannot read the state: {redis_reason(error)}") from error
    return [await _with_source(check, kafka, archived) for check in checks]


async def check_partition(partition: int, look: Look) -> PartitionCheck:
    """Check all fields of a partition; `look` reads fields, all at the same moment."""
    head: Mapping[str, bytes] = {}
    for _ in range(_ROUNDS):
        head = await look(["offset", *HEAD])
        if not head.keys() & set(HEAD):  # claimed, but nothing counted yet
            return PartitionCheck(partition, 0, Stored(0))
        try:
            meta = decode_meta(required(head, "meta"))
            names = await look(["meta", *registry_fields(meta)])
            if names.get("meta") != head["meta"]:
                continue  # a worker wrote a checkpoint
            fields = {**head, **names}
            offset = check_state(meta, head.get("offset"), fields)
            break
        except DamagedError as error:
            return PartitionCheck(partition, len(head), Stored(0, head), (error,))
    else:
        raise StoreError(f"partition {partition}: written faster than it can be read")
    found: dict[SliceId, DamagedError] = {}
    slice_ids = sorted(decode_index(head["index"]))
    for at in range(0, len(slice_ids), FIELDS_AT_ONCE):
        part = slice_ids[at : at + FIELDS_AT_ONCE]
        stored = await look(["index", *map(slice_field, part)])
        # A worker replaces the whole state, or Redis was emptied.
        if "index" not in stored:
            return await check_partition(partition, look)
        # A worker may have deleted slices since.
        index = decode_index(stored["index"])
        for slice_id in part:
            try:
                if slice_id in index:
                    check_slice(slice_field(slice_id), required(stored, slice_field(slice_id)))
            except DamagedError as error:
                found[slice_id] = error
    return PartitionCheck(
        partition,
        len(fields) + len(slice_ids),
        Stored(offset, fields),
        tuple(found.values()),
        tuple(found),
    )


async def _look(client: "aioredis.Redis", key: str, names: Sequence[str]) -> Mapping[str, bytes]:
    values = cast(list[bytes | None], await client.hmget(key, list(names)))
    return {name: value for name, value in zip(names, values, strict=True) if value is not None}


async def _with_source(check: PartitionCheck, kafka: Kafka, archived: bool) -> PartitionCheck:
    if not check.damage:
        return check
    archive = await KafkaArchive(kafka).read(check.partition) if archived else None
    if archive is not None:
        try:
            check_archived(archive)
        except DamagedError:
            archive = None
    log_start = await _log_start(kafka, check.partition)
    damaged = DamagedState(check.stored, check.damage[0], check.slices)
    return replace(check, source=damaged.source(archive, log_start))


async def _log_start(kafka: Kafka, partition: int) -> int:
    """Return the first offset that Kafka still has of a partition of the events."""
    wanted = TopicPartition(kafka.topic, partition)
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap, **client_kwargs(kafka))
    try:
        async with asyncio.timeout(KAFKA_DEADLINE_S):
            await consumer.start()
            return int((await consumer.beginning_offsets([wanted]))[wanted])
    except (KafkaError, OSError, TimeoutError) as error:
        raise Unavailable(
            f"{kafka.topic}: cannot ask {kafka.bootstrap} where the log of partition {partition} "
            f"begins: {reason(error)}"
        ) from error
    finally:
        await consumer.stop()
