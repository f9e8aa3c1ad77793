"""Damaged fields of a state in Redis: readers show what is missing, and no wrong number."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import msgspec
import pytest
import redis

from streams.config.settings import Settings
from streams.state.measures import (
    SERIES_DIMENSIONS,
    by_customer_model,
    by_series,
    measures,
)
from streams.state.slices import Aggregate
from streams.state.snapshot import Meta, decode_meta
from streams.store.contract import OperatorCommand, StoreError
from streams.store.keys import Keys
from streams.store.reader import StateReader, StateSnapshot
from streams.store.redis import RedisStore, enqueue_command
from streams.store.servers.client import connect
from streams.store.slice_cache import SliceCache
from tests.support.command import run
from tests.support.exporter_state import NOW_S, StateWriter, event, some_events

FLIPS = 40


class MetaBefore(msgspec.Struct, array_like=True, frozen=True):
    """The first fields of the metadata, as a program of before checksums reads them."""

    schema: int
    sequence: int
    watermark_ms: int | None


@pytest.fixture
def settings(configured: Callable[..., Settings]) -> Settings:
    """Settings over a Redis with the states of two partitions."""
    written = configured()

    async def write() -> None:
        writer = StateWriter(written)
        for partition in (0, 1):
            await writer.write(partition, some_events(partition, 40, NOW_S - 900, NOW_S))
        await writer.close()

    asyncio.run(write())
    return written


def key_of(settings: Settings, partition: int = 0) -> str:
    return Keys(settings.kafka.group, settings.kafka.topic).partition(partition)


def readable(aggregate: Aggregate, snapshot: StateSnapshot) -> Any:
    """Return all measures by name: another reader numbers the names in another order."""
    by_name = by_series(aggregate, snapshot.series, SERIES_DIMENSIONS)
    by_customer = by_customer_model(aggregate, snapshot.customers, ("customer", "model"))
    return {key: measures(one) for key, one in {**by_name, **by_customer}.items()}


async def answer(snapshot: StateSnapshot, cache: SliceCache) -> dict[int, Any]:
    """Return what a reader says of each partition: all that is stored."""
    await snapshot.load([cache])
    return {
        view.partition: (
            view.offset,
            view.meta,
            view.index,
            readable(view.totals, snapshot),
            {
                one: readable(aggregate, snapshot)
                for one, aggregate in cache.aggregates(view).items()
            },
        )
        for view in snapshot.views
        if not view.damage
    }


def read(settings: Settings) -> tuple[dict[int, Any], list[str]]:
    """Return the answers about whole partitions, and what is said to be damaged."""

    async def story() -> tuple[dict[int, Any], list[str]]:
        client = connect(settings.redis.url, 5)
        reader = StateReader(client, settings.kafka.group, settings.kafka.topic)
        snapshot = await reader.snapshot()
        told = await answer(snapshot, SliceCache(lambda view: view.index))
        await client.aclose()
        return told, [str(one) for view in snapshot.views for one in view.damage]

    return asyncio.run(story())


@pytest.mark.parametrize(
    "seed", [15, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(16, 20))]
)
def test_any_wrong_bit_is_named_and_the_other_partition_is_read(
    settings: Settings, redis_client: redis.Redis, seed: int
) -> None:
    key, dice = key_of(settings), random.Random(seed)
    fields = cast(dict[bytes, bytes], redis_client.hgetall(key))
    whole, damage = read(settings)
    assert not damage
    assert set(whole) == {0, 1}
    kinds = {name.partition(b":")[0] for name in fields} - {b"owner", b"flush"}
    assert kinds == {b"offset", b"meta", b"index", b"totals", b"series", b"cubes", b"s"}
    for _ in range(FLIPS):
        # Each kind of field as often as any other.
        kind = dice.choice(sorted(kinds))
        name = dice.choice(sorted(one for one in fields if one.partition(b":")[0] == kind))
        wrong = bytearray(fields[name])
        bit = dice.randrange(8 * len(wrong))
        wrong[bit // 8] ^= 1 << bit % 8
        redis_client.hset(key, name, bytes(wrong))
        told, damage = read(settings)
        assert told[1] == whole[1], name
        # A wrong bit in the mark of a checksum may leave the value as it was.
        assert told.get(0, whole[0]) == whole[0], (name, bit)
        assert damage or 0 in told, (name, bit)
        redis_client.hset(key, name, fields[name])


@pytest.mark.parametrize("name", ["offset", "meta", "index", "totals", "series:0", "cubes:0"])
def test_a_missing_field_is_named(settings: Settings, redis_client: redis.Redis, name: str) -> None:
    redis_client.hdel(key_of(settings), name)
    told, damage = read(settings)
    assert set(told) == {1}
    assert damage == [f"{name}: is missing"]


def test_a_damaged_slice_is_a_gap_of_its_partition(
    settings: Settings, redis_client: redis.Redis
) -> None:
    key = key_of(settings)
    keys = cast(list[bytes], redis_client.hkeys(key))
    name = min(one for one in keys if one.startswith(b"s:10:"))

    async def story() -> None:
        client = connect(settings.redis.url, 5)
        reader = StateReader(client, settings.kafka.group, settings.kafka.topic)
        cache = SliceCache(lambda view: view.index)
        redis_client.hset(key, name, b"\x99 nothing of ours")
        start_ms = int(name.rpartition(b":")[2]) * 1_000
        for _ in range(2):  # the second reading finds the slice read
            snapshot = await reader.snapshot()
            await snapshot.load([cache])
            view = snapshot.views[0]
            assert [one.field for one in view.damage] == [name.decode()]
            assert [(gap.from_ms, gap.to_ms) for gap in view.meta.gaps] == [
                (start_ms, start_ms + 10_000)
            ]
            assert not snapshot.views[1].damage
        await client.aclose()

    asyncio.run(story())


def test_a_rollback_that_came_to_the_same_checkpoint_again_is_seen(
    settings: Settings, redis_client: redis.Redis
) -> None:
    """Redis loses two writes, and the next owner's checkpoints have passed their numbers."""
    key = key_of(settings)

    async def story() -> None:
        client = connect(settings.redis.url, 5)
        reader = StateReader(client, settings.kafka.group, settings.kafka.topic)
        cache = SliceCache(lambda view: [one for one in view.index if one.level == 0])

        async def requests() -> int:
            snapshot = await reader.snapshot()
            await snapshot.load([cache])
            slices = cache.aggregates(snapshot.views[0]).values()
            return sum(int(one.series.values[:, 0].sum()) for one in slices)

        first = StateWriter(settings)
        begun = await requests()
        before = cast(bytes, redis_client.dump(key))
        await first.write(0, [event(NOW_S)])
        await first.write(0, [event(NOW_S - 60)])
        assert await requests() == begun + 2
        redis_client.restore(key, 0, before, replace=True)
        second = StateWriter(settings)
        # The same slices by checkpoints of the same numbers, with other counts.
        await second.write(0, [event(NOW_S)] * 3)
        await second.write(0, [event(NOW_S - 60)] * 3)
        await second.write(0, [event(NOW_S - 120)])
        assert await requests() == begun + 7
        await client.aclose()

    asyncio.run(story())


def test_a_program_of_before_checksums_reads_the_metadata(
    settings: Settings, redis_client: redis.Redis
) -> None:
    data = redis_client.hget(key_of(settings), "meta")
    assert isinstance(data, bytes)
    meta = decode_meta(data)
    before = msgspec.msgpack.decode(data, type=MetaBefore)
    assert before == MetaBefore(meta.schema, meta.sequence, meta.watermark_ms)
    # A field that it writes has no checksum, and is read without the check.
    older = msgspec.structs.replace(meta, offset=None, checksums={}, generations=())
    written = msgspec.msgpack.encode(msgspec.structs.astuple(older)[:-3])
    redis_client.hset(key_of(settings), "meta", written)
    told, damage = read(settings)
    assert not damage
    assert isinstance(told[0][1], Meta)


def test_all_partitions_damaged_is_one_line(settings: Settings, redis_client: redis.Redis) -> None:
    for partition in (0, 1):
        redis_client.hset(key_of(settings, partition), "totals", b"")
    done = run("report", settings=settings)
    assert done.exit_code == 2
    assert "totals: its checksum is wrong" in done.output


def test_a_report_names_what_it_leaves_out(settings: Settings, redis_client: redis.Redis) -> None:
    redis_client.hset(key_of(settings), "index", b"\x00")
    done = run("report", settings=settings)
    assert done.exit_code == 0, done.output
    assert "left out, as it is damaged: partition 0: index: its checksum" in done.output
    assert "INCOMPLETE" in done.output or "NOT COMPLETE" in done.output


def test_a_damaged_name_in_the_set_of_partitions_is_written_again(
    settings: Settings, redis_client: redis.Redis
) -> None:
    kafka = settings.kafka
    key = Keys(kafka.group, kafka.topic).partitions
    redis_client.srem(key, "0")
    redis_client.sadd(key, b"p\xff")
    assert set(read(settings)[0]) == {1}

    async def check() -> None:
        client = connect(settings.redis.url, 5)
        store = RedisStore(client, kafka.group, kafka.topic)
        await store.claim(0)
        redis_client.srem(key, "0")
        await store.check()
        await client.aclose()

    asyncio.run(check())
    assert set(read(settings)[0]) == {0, 1}


def test_a_damaged_command_is_not_applied(settings: Settings, redis_client: redis.Redis) -> None:
    kafka = settings.kafka
    key = Keys(kafka.group, kafka.topic).command(0)
    command = OperatorCommand("c1", "move", 1_200, "a test", "ann", 7)

    async def story() -> None:
        client = connect(settings.redis.url, 5)
        store = RedisStore(client, kafka.group, kafka.topic)
        await enqueue_command(client, kafka.group, kafka.topic, 0, command)
        assert await store.send_heartbeat(0, {"at_ms": 1}) == command
        redis_client.hset(key, "to", "1201")
        with pytest.raises(StoreError, match="whose checksum is wrong; repeat the command"):
            await store.send_heartbeat(0, {"at_ms": 2})
        # A version without checksums wrote it.
        redis_client.hdel(key, "crc")
        assert await store.send_heartbeat(0, {"at_ms": 3}) == replace(command, to=1_201)
        await client.aclose()

    asyncio.run(story())
