"""When a day is finalised."""

import json
from collections.abc import Callable
from typing import Any

from tests.support.daily_state import DAY_S, HOUR_S, World, at, recount, some_traffic
from tests.support.exporter_state import event
from tests.support.final_days import BEGIN, DATE, END, one_day
from tests.support.two_clocks import TwoClocks


def test_a_day_is_provisional_until_late_events_had_their_time_and_all_is_read(
    in_world: Callable[..., Any],
) -> None:
    #        END        +2 h              +4 h
    # ---------|----------|-----------------|---------------->  now
    #   day    | provisional: late ones count     | sealed, if
    #                                             | everything up to +4 h is read
    async def use(world: World) -> None:
        await one_day(world, partitions=2)
        builder = world.builder()
        facts = await builder.facts(END + 2 * HOUR_S)
        assert facts.day.state == "provisional"
        assert facts.day.note == "Late events count until 2026-11-09 04:00."
        assert await world.stored() == {}

        await world.tell(END + 5 * HOUR_S, 0)  # partition 1 stays silent
        facts = await builder.facts(END + 5 * HOUR_S)
        assert facts.day.state == "provisional"
        assert facts.day.note.startswith(
            "Not all events are read yet: partition 1 is read up to 2026-11-08 23:"
        )
        assert "Provisional" in facts.trust

        await world.tell(END + 5 * HOUR_S, 1)
        facts = await builder.facts(END + 5 * HOUR_S)
        assert (facts.day.state, facts.day.sealed_at_s) == ("sealed", END + 5 * HOUR_S)
        assert facts.trust == ("Final since 2026-11-09 05:00; no records are known to be missing.")

    in_world(use)


def test_an_exporter_whose_clock_is_behind_does_not_seal_early(
    in_world: Callable[..., Any],
) -> None:
    async def use(world: World) -> None:
        await one_day(world)
        await world.tell(END + 5 * HOUR_S)
        assert (await world.builder().facts(END + 3 * HOUR_S)).day.state == "provisional"

    in_world(use)


def test_an_exporter_whose_clock_differs_from_that_of_redis_seals_nothing_until_they_agree(
    in_world: Callable[..., Any],
) -> None:
    async def use(world: World) -> None:
        await one_day(world)
        now_s = END + 5 * HOUR_S
        await world.tell(now_s)
        unknown = (await world.builder().facts(TwoClocks(now_s, None), DATE)).day
        assert unknown.state == "provisional"
        assert "Redis does not give its time" in unknown.note
        for shift_s in (6, -6, 40 * DAY_S, -40 * DAY_S):
            wrong = TwoClocks(now_s + shift_s, now_s)
            day = (await world.builder().facts(wrong, DATE)).day
            assert day.state == "provisional", shift_s
            side = "ahead of" if shift_s > 0 else "behind"
            assert f"clock of this process is {abs(shift_s)}.0 s {side} that of Redis" in day.note
        assert await world.stored() == {}
        right = TwoClocks(now_s, now_s + 4)
        assert (await world.builder().facts(right, DATE)).day.state == "sealed"

    in_world(use)


def test_a_partition_that_reads_its_backlog_is_waited_for(in_world: Callable[..., Any]) -> None:
    async def use(world: World) -> None:
        await one_day(world)
        # It went on after an hour's outage: what came since midnight is not counted yet.
        await world.add(0, [event(END + 60)])
        await world.writer.send_heartbeat(0, END + 5 * HOUR_S)  # its log goes on
        assert (await world.builder().facts(END + 5 * HOUR_S)).day.state == "provisional"
        await world.add(0, [event(END - 30), event(END + 4 * HOUR_S + 1)])
        facts = await world.builder().facts(END + 5 * HOUR_S)
        assert facts.day.state == "sealed"
        assert facts.day.values.requests == recount(world.within(BEGIN, END))["requests"]

    in_world(use)


def test_a_partition_that_has_counted_nothing_of_its_log_is_waited_for(
    in_world: Callable[..., Any],
) -> None:
    async def use(world: World) -> None:
        await one_day(world)
        await world.add(0, [event(END + 6 * HOUR_S)])
        await world.writer.send_heartbeat(1, END + 6 * HOUR_S, highwater=12)
        facts = await world.builder().facts(END + 6 * HOUR_S)
        assert facts.day.note == "Not all events are read yet: partition 1 is not read at all."
        await world.writer.send_heartbeat(1, END + 6 * HOUR_S, highwater=0)  # an empty log is read
        assert (await world.builder().facts(END + 6 * HOUR_S)).day.state == "sealed"

    in_world(use)


def test_a_day_is_not_sealed_while_nothing_of_after_it_has_come(
    in_world: Callable[..., Any],
) -> None:
    # The producers are cut off from 23:00 on, or an hour of theirs is loaded bit by bit: the log
    # is read to its end again and again, and the day is not whole.
    async def use(world: World) -> None:
        await world.add(0, some_traffic(1, 60, BEGIN, END - HOUR_S))
        await world.quiet(END + 5 * HOUR_S)
        facts = await world.builder().facts(END + 5 * HOUR_S)
        assert facts.day.state == "provisional"
        assert facts.day.note == (
            "No event from after 2026-11-09 04:00 has arrived, so earlier ones may be on their "
            "way; the day becomes final once one arrives."
        )
        await world.add(0, some_traffic(2, 60, END - HOUR_S, END), END + 6 * HOUR_S)
        assert (await world.builder().facts(END + 6 * HOUR_S)).day.state == "provisional"
        await world.tell(END + 7 * HOUR_S)
        facts = await world.builder().facts(END + 7 * HOUR_S)
        assert (facts.day.state, facts.day.corrections) == ("sealed", ())
        assert facts.day.values.requests == recount(world.within(BEGIN, END))["requests"]

    in_world(use)


def test_silence_makes_no_day_final_however_far_the_clock_is_and_an_event_does(
    in_world: Callable[..., Any],
) -> None:
    async def use(world: World) -> None:
        await one_day(world)
        for after_s in (5 * HOUR_S, DAY_S, 30 * DAY_S):
            await world.quiet(END + after_s)
            facts = await world.builder().facts(END + after_s, DATE)
            assert facts.day.state == "provisional", after_s
        await world.tell(END + 30 * DAY_S)
        assert (await world.builder().facts(END + 30 * DAY_S, DATE)).day.state == "sealed"

    in_world(use)


def test_where_a_day_could_not_be_counted_later_it_does_not_wait_in_silence(
    in_world: Callable[..., Any],
) -> None:
    zone = "Asia/Kolkata"

    async def use(world: World) -> None:
        start = at("2026-11-08 00:00", zone)
        await world.add(0, some_traffic(1, 20, start, start + DAY_S))
        await world.quiet(start + DAY_S + 5 * HOUR_S)
        facts = await world.builder().facts(start + DAY_S + 5 * HOUR_S)
        assert facts.day.state == "sealed"

    in_world(use, zone=zone)


def test_a_halted_worker_has_not_read_its_log_to_the_end(in_world: Callable[..., Any]) -> None:
    async def use(world: World) -> None:
        await one_day(world, partitions=2)
        await world.tell(END + 5 * HOUR_S, 0, 1)
        _, state = await world.writer.owned(1)
        halted = {"highwater": state.next_offset, "halted": "log_recreated"}
        await world.writer.send_heartbeat(1, END + 5 * HOUR_S, **halted)
        facts = await world.builder().facts(END + 5 * HOUR_S)
        assert facts.day.note.startswith(
            "Not all events are read yet: partition 1 is read up to 2026-11-08 23:"
        )

    in_world(use)


def test_a_day_whose_events_are_not_read_yet_is_not_one_without_events(
    in_world: Callable[..., Any],
) -> None:
    async def use(world: World) -> None:
        await world.add(0, some_traffic(1, 20, BEGIN - DAY_S, BEGIN))
        await world.writer.send_heartbeat(0, BEGIN)  # and then the workers stood still
        facts = await world.builder().facts(END + 5 * HOUR_S)
        assert (facts.date, facts.day.state) == (DATE, "provisional")
        assert facts.trust.startswith("Provisional: the numbers may still change; not all events")
        await world.tell(END + 5 * HOUR_S)
        facts = await world.builder().facts(END + 5 * HOUR_S)
        assert facts.day.state == "absent"
        assert facts.trust == "No event of this day was counted."

    in_world(use)


def test_the_wait_is_a_setting(in_world: Callable[..., Any]) -> None:
    async def use(world: World) -> None:
        await one_day(world)
        await world.tell(END + HOUR_S)
        assert (await world.builder().facts(END + HOUR_S)).day.state == "sealed"

    in_world(use, seal_after_h=1)


def test_all_closed_days_are_sealed_that_nobody_looked_at(in_world: Callable[..., Any]) -> None:
    async def use(world: World) -> None:
        for number in range(5):
            start = BEGIN + number * DAY_S
            await world.add(0, some_traffic(number, 20, start, start + DAY_S))
        facts = await world.builder().facts(BEGIN + 5 * DAY_S)
        states = [day.state for day in facts.days[-6:]]
        assert states == [*["sealed"] * 4, "provisional", "running"]
        assert {day.state for day in facts.days[:-6]} == {"absent"}
        stored = [json.loads(data) for key, data in sorted((await world.stored()).items())]
        budgets = [one["risks"] is not None for one in stored if "day" in one]
        assert budgets == [False, False, True, True]  # to judge all of a month takes too long

    in_world(use)
