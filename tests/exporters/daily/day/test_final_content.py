"""What a finalised day holds, and how later corrections stand beside it."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from exporters.daily.day.calendar import CalendarDay
from exporters.daily.day.counts import Counts
from exporters.daily.day.facts import Risk
from exporters.daily.day.final import NAMES_MAX, VERSION, FinalCounts, FinalDay
from exporters.daily.day.risks import STORED_MAX, risks_to_store
from exporters.daily.day.store import DETAIL_DAYS, KEPT_DAYS, DayStore
from exporters.reference.customers import Customer
from streams.checksums import open_json
from streams.state.snapshot import Gap
from streams.store.keys import Keys
from tests.support.checks import not_none
from tests.support.daily_state import DAY_S, HOUR_S, World, at, recount, some_traffic
from tests.support.daily_state import day_of as on
from tests.support.exporter_state import event, token_of
from tests.support.final_days import BEGIN, DATE, END, one_day

# -- what ------------------------------------------------------------------------------------------


def test_late_events_after_the_seal_are_corrections_and_the_sealed_bytes_stay(
    in_world: Callable[..., Any],
) -> None:
    async def use(world: World) -> None:
        await one_day(world)
        await world.tell(END + 5 * HOUR_S)
        builder = world.builder()
        sealed = (await builder.facts(END + 5 * HOUR_S)).day
        assert sealed.corrections == ()
        before = await world.stored()

        late = [event(END - 60 - one, ttft_ms=4_000, duration_ms=9_000) for one in range(12)]
        probe = [event(END - 90, probe=True, outcome="timeout")]
        await world.add(0, [*late, *probe, event(END + 6 * HOUR_S)])
        for facts in (
            await builder.facts(END + 6 * HOUR_S),
            await world.builder().facts(END + 6 * HOUR_S),
        ):
            assert replace(facts.day, corrections=()) == sealed
            found = {one.metric: one for one in facts.day.corrections}
            expected = recount(world.within(BEGIN, END))
            assert found["tokens"].now == expected["tokens"]
            assert found["tokens"].sealed == sealed.values.tokens.value
            assert found["availability_ratio"].now == expected["availability_ratio"]
            assert not_none(found["ttft_p95_s"].now) > 3.9
            assert found["tokens"].words == "late events: 12 requests more"
            assert f"{len(found)} numbers would read otherwise today" in facts.trust
            assert facts.month_to_date.requests == recount(world.within(BEGIN, END))["requests"]
        assert await world.stored() == before

    in_world(use)


def test_a_damaged_final_day_is_provisional_and_other_boards_are_built(
    in_world: Callable[..., Any],
) -> None:
    async def use(world: World) -> None:
        await one_day(world)
        await world.tell(END + 5 * HOUR_S)
        sealed = (await world.builder().facts(END + 5 * HOUR_S)).day
        kafka, field = world.settings.kafka, f"day UTC {DATE}"
        key = Keys(kafka.group, kafka.topic).days
        whole = (await world.stored())[field.encode()]
        damaged = whole.replace(b'"version"', b'"vers1on"')
        assert damaged != whole
        await world.client.hset(key, field, damaged)
        await world.tell(END + DAY_S + 5 * HOUR_S)
        builder = world.builder()
        day = (await builder.facts(END + 5 * HOUR_S, DATE)).day
        assert (day.state, day.values) == ("provisional", sealed.values)
        assert "is damaged in Redis" in day.note
        # The next day is closed, is finalised, and has its board.
        assert (await builder.facts(END + DAY_S + 5 * HOUR_S)).day.state == "sealed"
        assert (await world.stored())[field.encode()] == damaged
        await world.client.hset(key, field, whole)
        assert (await builder.facts(END + DAY_S + 5 * HOUR_S, DATE)).day == sealed

    in_world(use)


def test_a_late_probe_corrects_the_availability_alone(in_world: Callable[..., Any]) -> None:
    async def use(world: World) -> None:
        await one_day(world)
        await world.tell(END + 5 * HOUR_S)
        await world.builder().facts(END + 5 * HOUR_S)
        await world.add(0, [event(END - 90, probe=True, outcome="timeout")], END + 6 * HOUR_S)
        [one] = (await world.builder().facts(END + 6 * HOUR_S)).day.corrections
        assert one.metric == "availability_ratio"
        assert one.words == "late events: 1 synthetic check more"

    in_world(use)


def test_two_keepers_that_race_seal_once_and_say_the_same(in_world: Callable[..., Any]) -> None:
    async def use(world: World) -> None:
        await one_day(world)
        await world.tell(END + 5 * HOUR_S)
        builders = [world.builder() for _ in range(4)]
        boards = await asyncio.gather(
            *(one.facts(END + (5 + at) * HOUR_S) for at, one in enumerate(builders))
        )
        assert len({board.day.sealed_at_s for board in boards}) == 1
        assert all(board.day == boards[0].day for board in boards)
        stored = await world.stored()
        assert sorted(stored) == [b"day UTC 2026-11-08", b"detail UTC 2026-11-08"]

    in_world(use)


def test_the_first_to_seal_wins(in_world: Callable[..., Any]) -> None:
    async def use(world: World) -> None:
        kafka = world.settings.kafka
        store = DayStore(world.client, kafka.group, kafka.topic, "UTC")
        assert await store.write_once(DATE, b"first", b"a") == b"first"
        assert await store.write_once(DATE, b"second", b"b") == b"first"
        assert await store.details([DATE]) == {DATE: b"a"}
        other = DayStore(world.client, kafka.group, kafka.topic, "Europe/Berlin")
        assert await other.read([DATE]) == {}  # the days of another zone are other days

    in_world(use)


def test_sealed_days_are_kept_for_400_days_and_their_details_for_100(
    in_world: Callable[..., Any],
) -> None:
    async def use(world: World) -> None:
        kafka = world.settings.kafka
        store = DayStore(world.client, kafka.group, kafka.topic, "UTC")
        assert (KEPT_DAYS, DETAIL_DAYS) == (400, 100)
        for date in ("2025-10-03", "2025-10-04", "2026-07-30", "2026-07-31", "2026-11-08"):
            await store.write_once(date, b"d", b"x")
        kept = set(await world.stored())
        assert b"day UTC 2025-10-03" not in kept
        assert b"day UTC 2025-10-04" in kept
        assert b"detail UTC 2026-07-30" not in kept
        assert b"detail UTC 2026-07-31" in kept
        assert await store.first() == "2025-10-04"

    in_world(use)


def test_targets_and_marks_are_those_of_the_time_it_was_sealed(
    in_world: Callable[..., Any], tmp_path: Path
) -> None:
    async def use(world: World) -> None:
        await one_day(world)
        await world.tell(END + 5 * HOUR_S)
        sealed = await world.builder().facts(END + 5 * HOUR_S)
        assert sealed.targets.ttft_p95_s == 0.3
        strict = tmp_path / "strict.yaml"
        strict.write_text(
            "version: 1\nname: strict\nobjectives:\n"
            "  - name: ttft\n    indicator: {kind: rolling_percentile, measure: ttft, "
            "percentile: 95}\n    levels: [{severity: page, above: 1ms}]\n"
        )
        exporter = world.settings.exporter.model_copy(update={"policies": (str(strict),)})
        world.settings = world.settings.model_copy(update={"exporter": exporter})
        later = await world.builder().facts(END + 6 * HOUR_S)
        assert later.day == sealed.day
        assert later.targets == sealed.targets
        running = await world.builder().facts(END + 6 * HOUR_S, "2026-11-09")
        assert running.targets.ttft_p95_s == 0.001

    in_world(use)


def test_an_incomplete_day_says_so_also_when_it_is_sealed(in_world: Callable[..., Any]) -> None:
    async def use(world: World) -> None:
        await world.add(0, some_traffic(1, 20, BEGIN, BEGIN + 3 * HOUR_S))
        _, state = await world.writer.owned(0)
        state.lose(state.next_offset + 120)
        await world.add(0, some_traffic(2, 20, BEGIN + 9 * HOUR_S, END))
        await world.tell(END + 5 * HOUR_S)
        [gap] = state.gaps
        assert isinstance(gap, Gap)
        facts = await world.builder().facts(END + HOUR_S)
        assert not facts.day.complete
        assert facts.day.note.startswith("Incomplete: 120 records are missing between 2026-11-08")
        assert facts.day.note.endswith("late events count until 2026-11-09 04:00.")
        facts = await world.builder().facts(END + 5 * HOUR_S)
        assert (facts.day.state, facts.day.complete) == ("sealed", False)
        assert facts.day.note.startswith("Incomplete: 120 records are missing between")
        assert "incomplete: 120 records" in facts.trust

    in_world(use)


def test_a_state_that_is_younger_than_the_day_makes_it_incomplete(
    in_world: Callable[..., Any],
) -> None:
    async def use(world: World) -> None:
        _, state = await world.writer.owned(0)
        state.begin_at(7_000)
        await world.add(0, some_traffic(1, 20, BEGIN + 9 * HOUR_S, END))
        facts = await world.builder().facts(END + HOUR_S)
        assert not facts.day.complete
        assert facts.day.note.startswith("Incomplete: counting began at 2026-11-08 09:")

    in_world(use)


def test_after_everything_was_lost_a_day_that_can_be_counted_is_sealed_again(
    in_world: Callable[..., Any],
) -> None:
    async def use(world: World) -> None:
        await one_day(world)
        await world.tell(END + 5 * HOUR_S)
        first = (await world.builder().facts(END + 5 * HOUR_S)).day
        kafka = world.settings.kafka
        await world.client.delete(f"tp:{{{kafka.group}:{kafka.topic}}}:days")
        again = (await world.builder().facts(END + 9 * HOUR_S)).day
        assert again.sealed_at_s == END + 9 * HOUR_S
        assert again.values == first.values

    in_world(use)


def test_an_exporter_forgets_sealed_days_that_redis_lost(in_world: Callable[..., Any]) -> None:
    async def use(world: World) -> None:
        await one_day(world)
        await world.tell(END + 5 * HOUR_S)
        builder = world.builder()
        await builder.facts(END + 5 * HOUR_S)
        kafka = world.settings.kafka
        await world.client.delete(f"tp:{{{kafka.group}:{kafka.topic}}}:days")
        for one in (builder, world.builder()):  # both say what is stored now
            facts = await one.facts(END + 9 * HOUR_S)
            assert facts.day.sealed_at_s == END + 9 * HOUR_S

    in_world(use)


def test_error_budgets_and_credits_are_sealed_too_and_what_they_would_be_stands_beside(
    in_world: Callable[..., Any],
) -> None:
    async def use(world: World) -> None:
        await one_day(world)
        await world.tell(END + 5 * HOUR_S)
        sealed = await world.builder().facts(END + 5 * HOUR_S)
        assert sealed.risks
        assert sealed.risks_corrected == ()
        late = [event(END - 60 - one, outcome="server_error") for one in range(12)]
        await world.add(0, late, END + 6 * HOUR_S)
        later = await world.builder().facts(END + 6 * HOUR_S)
        assert later.risks == sealed.risks
        assert later.risks_corrected
        was = {(one.policy, one.objective, one.scope): one for one in sealed.risks}
        one = later.risks_corrected[0]
        before = was[one.policy, one.objective, one.scope]
        assert not_none(one.budget_left_ratio) < not_none(before.budget_left_ratio)

    in_world(use)


def test_of_many_objectives_the_worst_are_sealed_and_all_that_cost_something() -> None:
    def risk(left: float, credit: str | None) -> Risk:
        return Risk("p", "o", "fleet", 0.99, 0.99, left, credit, credit, False)

    fine = [risk(0.5 + at / 10_000, "0.00 USD") for at in range(STORED_MAX + 50)]
    costly, overdrawn = risk(0.9, "12.00 USD"), risk(-0.1, None)
    sealed = risks_to_store([*fine, costly, overdrawn])
    assert sealed == (*fine[:STORED_MAX], costly, overdrawn)


def test_redis_is_not_told_the_names_of_customers(in_world: Callable[..., Any]) -> None:
    # Acme's cache stops working; its name comes from the directory and stays there.
    acme = token_of("acme")
    directory = {acme: Customer("Acme Corp", "smb")}

    async def use(world: World) -> None:
        for number in range(4):
            start = BEGIN + (number - 3) * DAY_S
            events = [
                one | {"cached_input_tokens": one["input_tokens"] // 2}
                for one in some_traffic(number, 60, start, start + DAY_S)
            ]
            for one in events:
                if number == 3 and one["customer_id"] == "acme":
                    one["cached_input_tokens"] = 0
            await world.add(0, events)
        await world.tell(END + 5 * HOUR_S)
        facts = await world.builder(**directory).facts(END + 5 * HOUR_S)
        [cause] = [one for one in facts.causes if one.metric == "cache_hit_ratio"][:1]
        assert (facts.day.state, cause.name) == ("sealed", "Acme Corp")
        assert "customer Acme Corp took" in cause.words
        stored = b"".join((await world.stored()).values())
        assert b"Acme Corp" not in stored
        assert acme.encode() in stored
        nameless = await world.builder().facts(END + 5 * HOUR_S)
        assert acme in {one.name for one in nameless.causes}

    in_world(use)


def test_the_month_says_that_days_of_it_are_incomplete(in_world: Callable[..., Any]) -> None:
    async def use(world: World) -> None:
        await world.add(0, some_traffic(1, 20, BEGIN - DAY_S, BEGIN - 9 * HOUR_S))
        _, state = await world.writer.owned(0)
        state.lose(state.next_offset + 5)
        await world.add(0, some_traffic(2, 20, BEGIN - 5 * HOUR_S, BEGIN))
        await one_day(world)
        await world.tell(END + 5 * HOUR_S)
        facts = await world.builder().facts(END + 5 * HOUR_S)
        assert facts.day.complete
        assert facts.trust.endswith("; 1 day of the month is incomplete or without data.")

    in_world(use)


# -- as it is stored -------------------------------------------------------------------------------


def test_a_sealed_day_is_readable_json_with_a_version(in_world: Callable[..., Any]) -> None:
    async def use(world: World) -> None:
        await one_day(world)
        await world.tell(END + 5 * HOUR_S)
        facts = await world.builder().facts(END + 5 * HOUR_S)
        data = (await world.stored())[b"day UTC 2026-11-08"]
        found = json.loads(data)
        assert (found["version"], found["zone"], found["day"]["date"]) == (1, "UTC", DATE)
        assert found["targets"]["ttft_p95_s"] == 0.3
        assert found["day"]["values"]["requests"] == facts.day.values.requests
        assert FinalDay.unpack(data).pack() == open_json("day UTC 2026-11-08", data)

    in_world(use)


def test_what_a_newer_program_sealed_is_not_guessed_at(in_world: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match="version 2, this program reads 1: upgrade"):
        FinalDay.unpack(b'{"version": 2, "day": "something else"}')
    assert VERSION == 1


def test_details_keep_the_largest_names_and_the_sum_of_all() -> None:
    names = {f"m{at}": Counts(requests=at, eligible=at, successes=at) for at in range(80)}
    fleet = Counts.sum(names.values())
    read, groups = FinalCounts.unpack(FinalCounts.of(fleet, {"model": names}).pack())
    assert read.requests == fleet.requests
    assert len(groups["model"]) == NAMES_MAX
    assert groups["model"]["m79"].requests == 79
    assert "m1" not in groups["model"]
    assert sum(one.requests for one in groups["model"].values()) == fleet.requests


def test_the_day_is_the_one_of_the_zone(in_world: Callable[..., Any]) -> None:
    async def use(world: World) -> None:
        start = at("2026-11-08 00:00", "America/New_York")
        await world.add(0, [event(start - 1), event(start), event(start + DAY_S - 1)])
        await world.add(0, [event(start + DAY_S + 5 * HOUR_S)])
        facts = await world.builder().facts(start + DAY_S + 5 * HOUR_S)
        assert facts.day.values.requests == 2
        assert on(facts, "2026-11-07").values.requests == 1
        assert CalendarDay(DATE, start, start + DAY_S).stretch == (
            facts.day.from_s,
            facts.day.to_s,
        )

    in_world(use, zone="America/New_York")
