"""The uptime engine over a real Redis: whatever happens on the way, the same as a recount."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from redis import Redis

from exporters.reference.customers import Customer
from slo.engine.engine import STORE_EVERY_S
from slo.engine.maintenance import Maintenance
from slo.engine.minute_status import Attainment, MinuteStatus
from streams.state.slices import HORIZON_S
from tests.support.checks import not_none
from tests.support.engine_world import (
    MINUTES,
    NOON,
    World,
    judge,
    policy,
    recount,
    traffic,
)
from tests.support.exporter_state import (
    StateWriter,
    event,
    samples_of,
    settings_for,
    token_of,
    value,
)
from tests.support.policy_files import acme_contract
from tests.support.servers import RedisServer

HOUR_S, DAY_S = 3_600, 86_400


def test_attainment_equals_a_recount_by_fleet_by_name_and_by_customer(
    in_world: Callable[..., Any],
) -> None:
    async def use(world: World) -> None:
        of = policy(
            {},
            {"scope": {"per": "region", "model": "opus"}},
            {"scope": {"customer": "acme"}},
            {"indicator": {"kind": "latency_ratio", "measure": "ttft", "limit": "300ms"}},
        )
        engine = world.engine(of)
        for step in range(4):
            for partition in range(2):
                begin = NOON + step * 100
                await world.add(partition, traffic(step * 2 + partition, 80, begin, begin + 100))
            found = await judge(engine, NOON + step * 100 + 100)
            assert found["o0", ""].status.attainment == recount(world.events)
            for region in ("eu", "us"):
                expected = recount(world.events, region=region, model="opus")
                assert found["o1", region].status.attainment == expected
            expected = recount(world.events, customer_id="acme")
            assert found["o2", ""].status.attainment == expected
            done = [one for one in world.events if one["outcome"] == "success"]
            within = sum(one["ttft_ms"] <= 300 for one in done)
            assert found["o3", ""].status.attainment == Attainment(Fraction(within), len(done))

    in_world(use)


def test_probes_speak_where_there_is_no_traffic_and_cancelling_is_nobodys_fault(
    in_world: Callable[..., Any],
) -> None:
    async def use(world: World) -> None:
        of = policy({"indicator": MINUTES}, {"indicator": MINUTES | {"probes": False}})
        await world.add(
            0,
            [
                event(NOON + 1, probe=True),
                event(NOON + 61, probe=True, outcome="timeout"),
                event(NOON + 121, outcome="cancelled"),
                event(NOON + 181, outcome="stream_error"),
                event(NOON + 241),
                event(NOON + 301),
            ],
        )
        found = await judge(world.engine(of), NOON + 310)
        with_probes, without = (found[name, ""].status for name in ("o0", "o1"))
        assert with_probes.attainment == Attainment(Fraction(2), 4)
        assert without.attainment == Attainment(Fraction(1), 2)
        assert with_probes.verdicts[MinuteStatus.DOWN] == 2

    in_world(use)


def test_a_late_event_changes_the_verdict_of_its_minute(in_world: Callable[..., Any]) -> None:
    async def use(world: World) -> None:
        engine = world.engine(policy({"indicator": MINUTES}))
        await world.add(0, [event(NOON - 60), event(NOON + 5), event(NOON + 600)])
        found = await judge(engine, NOON + 601)
        assert found["o0", ""].status.attainment == Attainment(Fraction(2), 2)
        await world.add(0, [event(NOON + 30, outcome="server_error"), event(NOON + 602)])
        found = await judge(engine, NOON + 603)
        assert found["o0", ""].status.attainment == Attainment(Fraction(1), 2)

    in_world(use)


def test_two_exporters_and_one_that_comes_later_say_the_same(in_world: Callable[..., Any]) -> None:
    async def use(world: World) -> None:
        of = policy({"indicator": MINUTES}, {"scope": {"per": "region"}})
        first, second = world.engine(of), world.engine(of)
        for step in range(6):
            begin = NOON + step * 3_000
            await world.add(0, traffic(step, 200, begin, begin + 2_999))
            await world.add(0, [event(begin + 3_000)])  # the minutes before it are over
            for engine in (first, second):
                last = await judge(engine, begin + 3_000)
        later = await judge(world.engine(of), NOON + 18_000)
        for key, one in last.items():
            assert later[key].status == one.status
        # Five hours later most minutes are kept in the minute_counts alone.
        by_minute = {
            minute: recount([one for one in world.events if one["ended_at"] // 60_000 == minute])
            for minute in range(NOON // 60, NOON // 60 + 300)
        }
        judged = [one for one in by_minute.values() if one.counted]
        up = sum(one.good >= one.counted * Fraction(95, 100) for one in judged)
        assert later["o0", ""].status.attainment == Attainment(Fraction(up), len(judged))

    in_world(use)


def test_what_no_exporter_watched_still_counts_to_the_event(in_world: Callable[..., Any]) -> None:
    async def use(world: World) -> None:
        of = policy({}, {"indicator": MINUTES})
        await judge(world.engine(of), NOON)
        for hour in range(40):  # no exporter runs for 40 hours
            begin = NOON + hour * 3_600
            await world.add(hour % 2, traffic(hour, 30, begin, begin + 3_600))
        now_s = NOON + 40 * 3_600
        found = await judge(world.engine(of), now_s)
        assert found["o0", ""].status.attainment == recount(world.events)
        assert found["o1", ""].status.attainment.counted <= 180

    in_world(use)


def test_an_event_that_is_hours_late_still_counts(in_world: Callable[..., Any]) -> None:
    async def use(world: World) -> None:
        engine = world.engine(policy({}))
        for hour in range(8):
            begin = NOON + hour * 3_600
            await world.add(0, traffic(hour, 30, begin, begin + 3_600))
            await judge(engine, begin + 3_600)
        now_s = NOON + 8 * 3_600
        await world.add(0, [event(NOON + 70, outcome="timeout"), event(now_s + 1)])
        for one in (engine, world.engine(policy({}))):
            found = await judge(one, now_s + 1 + STORE_EVERY_S)
            assert found["o0", ""].status.attainment == recount(world.events)

    in_world(use)


@pytest.mark.slow
@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
@given(
    jumps_s=st.lists(
        st.integers(1_200, 6 * HOUR_S) | st.integers(HOUR_S, 60 * DAY_S), min_size=1, max_size=2
    ),
    hours=st.tuples(*[st.integers(0, 7)] * 3),
    back_s=st.sampled_from([0, 0, 300, 1_500]),
    watched=st.sets(st.integers(0, 40)),
    seed=st.integers(0, 1 << 16),
)
@example(jumps_s=[85_264, 42 * DAY_S], hours=(4, 3, 0), back_s=300, watched=set(), seed=10_905)
@example(jumps_s=[HORIZON_S - DAY_S], hours=(2, 1, 1), back_s=0, watched={1, 4}, seed=1)
@example(jumps_s=[HORIZON_S - 6 * HOUR_S], hours=(2, 1, 1), back_s=0, watched={1, 4}, seed=1)
def test_a_watermark_set_back_counts_no_request_twice_and_loses_none(
    in_world: Callable[..., Any],
    redis_client: Redis,
    jumps_s: list[int],
    hours: tuple[int, int, int],
    back_s: int,
    watched: set[int],
    seed: int,
) -> None:
    async def use(world: World) -> None:
        step_s, now_s, steps = 1_800, NOON, 0
        engines = [world.engine(policy({})) for _ in range(2)]

        async def live(hours: int) -> None:
            nonlocal now_s, steps
            for _ in range(2 * hours + 1):
                for partition in range(2):
                    events = traffic(seed + steps * 2 + partition, 9, now_s, now_s + step_s)
                    await world.add(partition, events)
                now_s, steps = now_s + step_s, steps + 1
                await judge(engines[0], now_s)  # one exporter sees all, the other some
                if steps in watched:
                    await judge(engines[1], now_s)

        await live(hours[0])
        for jump_s in jumps_s:
            await world.add(0, [event(now_s + jump_s)])
            await live(hours[1])
            _, state = await world.writer.owned(0)
            if not_none(state.watermark.settled_ms) > now_s * 1_000:
                await world.writer.set_watermark(0, (now_s - back_s) * 1_000, now_s)
            await judge(engines[0], now_s)
        await live(hours[2])
        now_s += STORE_EVERY_S
        # The jump's own events count once their time has come. A jump of weeks merges slices into
        # days: then they count from the beginning of their day on.
        due = [one for one in world.events if one["ended_at"] <= now_s * 1_000]
        merged = [one for one in world.events if one["ended_at"] // 1_000 // DAY_S * DAY_S <= now_s]
        for engine in (*engines, world.engine(policy({}))):
            for later_s in (0, 1):
                found = await judge(engine, now_s + later_s)
            assert found["o0", ""].status.attainment in (recount(due), recount(merged))

    redis_client.flushdb()
    in_world(use)


def test_an_objective_added_after_a_set_back_leaves_the_counts_of_the_others_right(
    in_world: Callable[..., Any],
) -> None:
    async def use(world: World) -> None:
        engine, now_s = world.engine(policy({})), NOON
        for step in range(16):
            await world.add(0, traffic(step, 20, now_s, now_s + 900))
            now_s += 900
            if step == 8:
                await world.add(0, [event(now_s + 40 * HOUR_S)])
            await judge(engine, now_s)
        await world.writer.set_watermark(0, now_s * 1_000, now_s)
        await world.add(0, traffic(99, 20, now_s, now_s + 900))
        now_s += 900 + STORE_EVERY_S
        found = await judge(world.engine(policy({}, {"target": "90%"})), now_s)
        expected = recount([one for one in world.events if one["ended_at"] <= now_s * 1_000])
        assert [found[of, ""].status.attainment for of in ("o0", "o1")] == [expected] * 2

    in_world(use)


def test_lost_records_make_their_minutes_unknown_and_never_up(in_world: Callable[..., Any]) -> None:
    async def use(world: World) -> None:
        of = policy({"indicator": MINUTES | {"unknown": "up"}})
        await world.add(0, [event(NOON - 60), event(NOON + 30)])
        _, state = await world.writer.owned(0)
        state.lose(state.next_offset + 9)
        await world.add(0, [event(NOON + 150), event(NOON + 250)])
        found = (await judge(world.engine(of), NOON + 260))["o0", ""].status
        # 12:00, 12:01 and 12:02 lie in the gap; 11:59 and 12:03 are whole.
        assert found.attainment == Attainment(Fraction(2), 2)

    in_world(use)


def test_maintenance_after_the_close_stands_beside_the_closed_figure(
    in_world: Callable[..., Any],
) -> None:
    async def use(world: World) -> None:
        month = {"calendar": "month"}
        engine = world.engine(policy({"period": month}))
        end = int(datetime(2026, 12, 1, tzinfo=UTC).timestamp())
        await world.add(0, [event(end - 3_600 * 4, outcome="overloaded"), event(end - 10)])
        await judge(engine, end + 3_600)
        await world.add(0, [event(end + 2 * 86_400)])
        found = (await judge(engine, end + 2 * 86_400))["o0", ""]
        [closed_period] = found.closed
        assert closed_period.attainment == Attainment(Fraction(1), 2)
        assert found.adjustments == ()
        begin = end - 3_600 * 5
        window = Maintenance("m-1", begin, begin + 7_200, "jo", "forgotten", end + 2 * 86_400)
        await world.store.put_window(window)
        for _ in range(2):
            found = (await judge(world.engine(policy({"period": month})), end + 3 * 86_400))[
                "o0", ""
            ]
            assert found.closed == (closed_period,)
            [change] = found.adjustments
            assert change.now == Attainment(Fraction(1), 1)
            assert change.because == ("m-1 by jo: forgotten",)
        await world.store.put_window(window.cancel("al", "not agreed", end + 3 * 86_400))
        found = (await judge(world.engine(policy({"period": month})), end + 3 * 86_400))["o0", ""]
        assert found.adjustments == ()

    in_world(use)


def test_a_promise_is_exported_with_its_credit_in_dollars(
    redis_server: RedisServer, redis_client: Redis, tmp_path: Path
) -> None:
    file = tmp_path / "acme.yaml"
    file.write_text(yaml.safe_dump(acme_contract()))
    settings = settings_for(redis_server.url, policies=[str(file)])

    async def write() -> None:
        writer = StateWriter(settings)
        await writer.write(0, [event(NOON), event(NOON + 1, outcome="timeout")], NOON + 2)
        await writer.close()

    asyncio.run(write())
    directory = {token_of("acme"): Customer("Acme", "enterprise", None, 1_234.5)}
    found = samples_of(settings, NOON + 2, **directory)
    labels = {"policy": "acme", "objective": "uptime", "customer": "Acme"}
    name = "tokenpulse_objective_"
    assert value(found, f"{name}attainment_ratio", **labels) == 0.5
    assert value(found, f"{name}target_ratio", **labels) == 0.999
    assert value(found, f"{name}error_budget_left_ratio", **labels) == -499
    assert value(found, f"{name}burn_rate", **labels, window="5m") == 500
    assert value(found, f"{name}eligible", **labels, window="3d") == 2
    assert value(found, f"{name}credit_share_ratio", **labels) == 0.1
    assert value(found, f"{name}credit_due_usd", **labels) == 123.45
    assert value(found, f"{name}credit_projected_usd", **labels) == 123.45
