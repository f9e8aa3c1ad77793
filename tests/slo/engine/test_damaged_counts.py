"""Damaged per-minute counts, closed periods and maintenance windows: no other number, ever."""

import random
from collections.abc import Callable
from fractions import Fraction
from typing import Any, cast

import msgspec
import pytest
from redis import Redis

from slo.engine.engine import STORE_EVERY_S
from slo.engine.maintenance import ClosedPeriod, Maintenance
from slo.engine.minute_count_store import MinuteCountStore
from slo.engine.minute_counts import DAY, MinuteCounts
from streams.store.contract import StoreError
from streams.store.hash_fields import pack_reach, unpack_reach
from tests.support.engine_world import NOON, World, judge, policy, recount, traffic

FIRST = 20_000  # the day of BEGIN
BEGIN = FIRST * DAY
REACH = {0: (0, 5), 1: (1, 70_000)}
WINDOW = Maintenance("w-1", BEGIN * 60, BEGIN * 60 + 600, "ann", "a move", BEGIN * 60)
CLOSED = ClosedPeriod(BEGIN, BEGIN + DAY, Fraction(10**30, 7), 5, 100, ("m1",))


def counted() -> MinuteCounts:
    counts = MinuteCounts(FIRST, 2)
    counts.count(BEGIN, {"": (9, 2)})
    counts.count(BEGIN + DAY, {"": (7, 1)})
    counts.see(BEGIN, BEGIN + 2 * DAY)
    return counts


async def write(store: MinuteCountStore) -> None:
    counts = counted()
    days = {(kind, name, day): counts.pack(name, day) for kind, name in (("c", ""), ("s", None))
            for day in (FIRST, FIRST + 1)}  # fmt: skip
    assert await store.write("o", REACH, days, {("eu", BEGIN): CLOSED})
    await store.put_window(WINDOW)


def flips(client: Redis, key: str, field: str, count: int = 40) -> Any:
    """Store a field with one wrong bit at a time, and the right one in the end."""
    whole, dice = cast(bytes, client.hget(key, field)), random.Random(field)
    for _ in range(count):
        wrong = bytearray(whole)
        bit = dice.randrange(8 * len(wrong))
        wrong[bit // 8] ^= 1 << bit % 8
        client.hset(key, field, bytes(wrong))
        yield bit
    client.hset(key, field, whole)


def test_a_damaged_maintenance_window_is_one_line(
    store_of: Callable[..., Any], redis_client: Redis
) -> None:
    async def use(store: MinuteCountStore) -> None:
        await write(store)
        for _ in flips(redis_client, "tp:{g:t}:maintenance", "w-1"):
            with pytest.raises(StoreError, match=r"w-1: .*; a worker restores it"):
                await store.windows()
        assert await store.windows() == [WINDOW]

    store_of(use)


def test_a_damaged_closed_period_is_left_out_and_never_replaced(
    store_of: Callable[..., Any], redis_client: Redis
) -> None:
    key, field = "tp:{g:t}:ledger:o", f"closed:{BEGIN}:eu"

    async def use(store: MinuteCountStore) -> None:
        await write(store)
        for _ in flips(redis_client, key, field):
            damaged = redis_client.hget(key, field)
            assert (await store.head("o")).closed_periods == {}
            other = ClosedPeriod(BEGIN, BEGIN + DAY, Fraction(1), 5, 200, ())
            await store.write("o", REACH, {}, {("eu", BEGIN): other})
            assert redis_client.hget(key, field) == damaged
            # Nor does this exporter publish its own figures for it.
            written = await store.write("o", REACH, {}, {("eu", BEGIN): other})
            assert written is not None
            assert written.closed_periods == {}
        assert (await store.head("o")).closed_periods == {("eu", BEGIN): CLOSED}

    store_of(use)


def test_a_damaged_reach_lets_all_slices_be_counted_again(
    store_of: Callable[..., Any], redis_client: Redis
) -> None:
    async def use(store: MinuteCountStore) -> None:
        await write(store)
        for _ in flips(redis_client, "tp:{g:t}:ledger:o", "reach"):
            assert (await store.head("o")).reach in ({}, REACH)
        assert (await store.head("o")).reach == REACH

    store_of(use)


def test_damaged_counts_make_their_day_unknown_and_no_other(
    store_of: Callable[..., Any], redis_client: Redis
) -> None:
    key = "tp:{g:t}:ledger:o:2024-10"

    async def filled(store: MinuteCountStore) -> tuple[list[int], list[int]]:
        found = MinuteCounts(FIRST, 2)
        await store.fill("o", found)
        span = [found.span("", BEGIN + day * DAY, BEGIN + (day + 1) * DAY) for day in (0, 1)]
        seen = [int((one.seen == 1).sum()) for one in span]
        return [int(one.counts[:, 0].sum()) for one in span], seen

    async def use(store: MinuteCountStore) -> None:
        await write(store)
        whole = await filled(store)
        assert whole[0] == [9, 7]
        assert min(whole[1]) > 0
        for field in (f"c:{FIRST}:", f"s:{FIRST}:"):
            for bit in flips(redis_client, key, field):
                counts, seen = await filled(store)
                # Bits of the header of a stream may have no meaning.
                assert (counts, seen) == whole or seen[0] == 0, bit
                assert (counts[1], seen[1]) == (whole[0][1], whole[1][1])
        assert await filled(store) == whole

    store_of(use)


def test_no_objective_is_judged_while_a_maintenance_window_is_damaged(
    in_world: Callable[..., Any], redis_client: Redis
) -> None:
    async def use(world: World) -> None:
        engine = world.engine(policy({}))
        await world.add(0, traffic(1, 80, NOON, NOON + 100))
        await world.store.put_window(Maintenance("w-1", NOON, NOON + 60, "ann", "a move", NOON))
        (key,) = cast(list[bytes], redis_client.keys("*:maintenance"))
        whole = cast(bytes, redis_client.hget(key, "w-1"))
        before = await judge(engine, NOON + 100)
        redis_client.hset(key, "w-1", whole.replace(b"ann", b"bob"))
        later_s = NOON + 100 + STORE_EVERY_S
        with pytest.raises(StoreError, match=r"w-1: .*; a worker restores it"):
            await judge(engine, later_s)
        with pytest.raises(StoreError, match=r"w-1: .*; a worker restores it"):
            await judge(engine, later_s + 1)
        redis_client.hset(key, "w-1", whole)
        again = await judge(engine, later_s + STORE_EVERY_S)
        assert again["o0", ""].status.attainment == before["o0", ""].status.attainment

    in_world(use)


def test_a_restored_day_is_read_again_and_never_replaced_by_less(
    in_world: Callable[..., Any], redis_client: Redis
) -> None:
    async def use(world: World) -> None:
        of = policy({})
        await world.add(0, traffic(1, 80, NOON, NOON + 100))
        first = world.engine(of)
        await judge(first, NOON + 100)
        (key,) = [
            name
            for name in cast(list[bytes], redis_client.keys("*ledger*"))
            if name.endswith(b"2026-11")
        ]
        (field,) = [
            name for name in cast(list[bytes], redis_client.hkeys(key)) if name[:2] == b"c:"
        ]
        whole = cast(bytes, redis_client.hget(key, field))
        redis_client.hset(key, field, whole[:-1] + bytes([whole[-1] ^ 1]))
        # The slices of the stored counts are older than the damage, and are not read again.
        engine = world.engine(of)
        damaged = redis_client.hget(key, field)
        await judge(engine, NOON + 200)
        await world.add(0, traffic(2, 80, NOON + 200, NOON + 300))
        await judge(engine, NOON + 200 + STORE_EVERY_S)
        assert redis_client.hget(key, field) == damaged
        redis_client.hset(key, field, whole)
        found = await judge(engine, NOON + 200 + 2 * STORE_EVERY_S)
        assert found["o0", ""].status.attainment == recount(world.events)
        await judge(engine, NOON + 200 + 3 * STORE_EVERY_S)
        assert redis_client.hget(key, field) not in (whole, damaged)

    in_world(use)


def test_a_version_without_checksums_reads_the_reach_as_before() -> None:
    stored = {int(key): tuple(value) for key, value in msgspec.msgpack.decode(
        pack_reach(REACH), strict=False).items()}  # fmt: skip
    ours = {**REACH, 7: (2, 1)}
    # Its comparison: no partition may include more than it has read.
    assert all(at <= ours.get(partition, (-1, -1)) for partition, at in stored.items())
    assert {partition: at for partition, at in stored.items() if partition >= 0} == REACH
    assert unpack_reach(msgspec.msgpack.encode(REACH)) == REACH
