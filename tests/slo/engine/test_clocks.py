"""Clocks that jump by minutes, days and months: the same numbers, and nothing closed too early."""

import asyncio
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from slo.engine.engine import Engine
from slo.engine.maintenance import SEAL_AFTER_S, Maintenance
from slo.engine.minute_status import Attainment
from streams.store.hash_fields import REACH
from tests.support.engine_world import MINUTES, NOON, World, judge, policy, traffic
from tests.support.exporter_state import event
from tests.support.servers import RedisServer

DAY_S = 86_400
DAYS = 4
JUMPS_S = [0, 120, -120, 3 * DAY_S, -3 * DAY_S, 70 * DAY_S, -70 * DAY_S]
FIRST_MIDNIGHT = NOON + DAY_S // 2


def policies() -> Any:
    return policy({"indicator": MINUTES}, {"scope": {"per": "region"}})


async def numbers_with(world: World, shifts_s: list[int]) -> dict[Any, Any]:
    """Return what is known after some days; on each, one refresh by a clock that is off."""
    engine = world.engine(policies())
    for day, shift_s in enumerate(shifts_s):
        begin_s = NOON + day * DAY_S
        await world.add(day % 2, traffic(day, 40, begin_s, begin_s + 3_000))
        for partition in range(2):
            await world.add(partition, [event(begin_s + 3_001 + partition)])
        await judge(engine, begin_s + 3_010 + shift_s)
        await judge(engine, begin_s + 3_020)
    found = await judge(engine, NOON + len(shifts_s) * DAY_S)
    return {
        key: (
            one.status,
            # All but the time at which it was closed.
            sorted((of.begin, of.end, of.attainment, of.causes) for of in one.closed),
        )
        for key, one in found.items()
    }


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(shifts_s=st.lists(st.sampled_from(JUMPS_S), min_size=DAYS, max_size=DAYS))
def test_jumping_clocks_give_the_same_numbers_and_close_the_same_periods(
    redis_server: RedisServer, redis_client: Redis, shifts_s: list[int]
) -> None:
    async def run(by_s: list[int]) -> dict[Any, Any]:
        redis_client.flushdb()
        world = World(redis_server.url)
        try:
            return await numbers_with(world, by_s)
        finally:
            await world.close()

    steady = asyncio.run(run([0] * DAYS))
    assert any(closed for _, closed in steady.values())
    assert asyncio.run(run(shifts_s)) == steady


def test_a_period_waits_for_every_partition_and_for_an_event_from_after_it(
    in_world: Callable[..., Any],
) -> None:
    over_s = FIRST_MIDNIGHT + SEAL_AFTER_S

    async def use(world: World) -> None:
        async def closed_at(now_s: float) -> int:
            found = await judge(world.engine(policy({})), now_s)
            return len(found["o0", ""].closed)

        for partition in range(2):
            await world.add(partition, [event(NOON + 60)])
        # However far the clock is, and although a worker has read all there is.
        for partition in range(2):
            end = (await world.writer.owned(partition))[1].next_offset
            await world.writer.send_heartbeat(partition, over_s + 40 * DAY_S, highwater=end)
        assert await closed_at(over_s + 40 * DAY_S) == 0
        # An event from after it, but the other partition has a backlog.
        await world.writer.send_heartbeat(1, over_s + 60)
        await world.add(0, [event(over_s + 60)])
        assert await closed_at(over_s + 60) == 0
        # It is read as well: by an event, or as its worker has read the log to its end.
        end = (await world.writer.owned(1))[1].next_offset
        await world.writer.send_heartbeat(1, over_s + 60, highwater=end, clock_agrees=0)
        assert await closed_at(over_s + 60) == 0
        await world.writer.send_heartbeat(1, over_s + 60, highwater=end, clock_agrees=1)
        # The log is there, but not the clock.
        assert await closed_at(over_s - 1) == 0
        assert await closed_at(over_s + 60) == 1

    in_world(use)


def test_every_day_with_requests_is_closed_once_events_come_after_a_pause(
    in_world: Callable[..., Any],
) -> None:
    of = policy({})
    back_s = FIRST_MIDNIGHT + 5 * DAY_S

    async def use(world: World) -> None:
        running = world.engine(of)
        for day in range(3):
            await world.add(0, [event(NOON + day * DAY_S)])
            await judge(running, NOON + day * DAY_S + 1)
        # No event shows that the last two of these days are over, until one comes after the pause.
        await world.add(0, [event(back_s)])
        for exporter in (world.engine(of), running):
            await judge(exporter, back_s + 1)
            closed = (await judge(exporter, back_s + 62))["o0", ""].closed
            days = [one.end * 60 for one in closed]
            assert days == [FIRST_MIDNIGHT + day * DAY_S for day in (2, 1, 0)]
            assert [one.counted for one in closed] == [1, 1, 1]

    in_world(use)


def test_after_a_clock_is_set_back_windows_are_obeyed_and_counts_stored_at_once(
    in_world: Callable[..., Any],
) -> None:
    async def stored_reach(world: World) -> list[object]:
        keys = sorted(await world.client.keys("*:ledger:*"))
        return [await world.client.hget(key, REACH) for key in keys]

    async def use(world: World) -> None:
        engine = world.engine(policy({}))
        await world.add(0, [event(NOON, outcome="overloaded"), event(NOON + 300)])
        await judge(engine, NOON + 310 + 40 * DAY_S)
        ahead = await stored_reach(world)
        await world.store.put_window(Maintenance("m-1", NOON, NOON + 60, "jo", "works", NOON))
        await world.add(0, [event(NOON + 312)])
        found = await judge(engine, NOON + 320)
        assert found["o0", ""].status.attainment == Attainment(Fraction(2), 2)
        assert await stored_reach(world) != ahead

    in_world(use)


def test_minutes_of_days_without_events_count_in_the_uptime_once_and_for_all(
    in_world: Callable[..., Any],
) -> None:
    of = policy({"indicator": MINUTES | {"unknown": "up"}})
    idle_days = 3

    async def use(world: World) -> None:
        async def minutes_up(engine: Engine, now_s: float) -> Attainment:
            return (await judge(engine, now_s))["o0", ""].status.attainment

        engine = world.engine(of)
        await world.add(0, [event(NOON)])
        end = (await world.writer.owned(0))[1].next_offset
        for half_day in range(1, 2 * idle_days + 1):
            now_s = NOON + half_day * DAY_S // 2
            await world.writer.send_heartbeat(0, now_s, highwater=end, clock_agrees=1)
            whole = half_day * DAY_S // 2 // 60
            assert await minutes_up(engine, now_s + 1) == Attainment(Fraction(whole), whole)
        # Slices of a minute are kept for 3 hours only: what was seen in the pause stays known.
        now_s = NOON + idle_days * DAY_S + 600
        await world.add(0, [event(now_s)])
        whole = now_s // 60 - NOON // 60
        for exporter in (engine, world.engine(of)):
            assert await minutes_up(exporter, now_s + 1) == Attainment(Fraction(whole), whole)

    in_world(use)
