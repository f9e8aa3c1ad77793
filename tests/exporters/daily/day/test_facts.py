"""The facts of a day: which day, its causes, and errors of the store."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Never

import pytest

from exporters.daily.build import DailyBoardBuilder
from exporters.daily.day.facts import METRICS
from exporters.daily.render.view import view_of
from streams.errors import RequestError
from streams.store.contract import StoreError
from tests.support.daily_state import DAY_S, HOUR_S, World
from tests.support.daily_state import day_of as on
from tests.support.exporter_state import event
from tests.support.steady_days import DIRECTORY, MIDNIGHT, steady
from tests.support.two_clocks import right_clock

# -- which day -------------------------------------------------------------------------------------


def test_where_nothing_was_ever_counted_there_is_no_board(in_world: Callable[..., Any]) -> None:
    async def use(world: World) -> None:
        assert await DailyBoardBuilder.facts(world.builder(), right_clock(MIDNIGHT)) is None
        await world.writer.send_heartbeat(0, MIDNIGHT)  # claimed, but nothing counted
        assert await DailyBoardBuilder.facts(world.builder(), right_clock(MIDNIGHT)) is None

    in_world(use)


def test_the_board_is_about_the_last_closed_day_or_the_one_asked_for(
    in_world: Callable[..., Any],
) -> None:
    async def use(world: World) -> None:
        for number in range(3):
            await world.add(0, steady(number))
        now_s = MIDNIGHT + 2 * DAY_S + 12 * HOUR_S
        builder = world.builder()
        facts = await builder.facts(now_s)
        assert facts.date == facts.day.date == "2026-11-11"
        assert len(facts.days) == 31
        assert [day.date for day in facts.days[-3:]] == ["2026-11-10", "2026-11-11", "2026-11-12"]
        assert facts.days[-1].state == "running"
        running = await builder.facts(now_s, "2026-11-12")
        assert running.day == facts.days[-1]
        assert running.days == facts.days
        earlier = await builder.facts(now_s, "2026-11-10")
        assert earlier.day == on(facts, "2026-11-10")
        assert [day.date for day in earlier.days[-2:]] == ["2026-11-10", "2026-11-12"]

    in_world(use)


def test_on_the_first_day_of_all_the_board_is_about_that_day(in_world: Callable[..., Any]) -> None:
    async def use(world: World) -> None:
        await world.add(0, steady(0)[:30])
        facts = await world.builder().facts(MIDNIGHT + 13 * HOUR_S)
        assert (facts.date, facts.day.state) == ("2026-11-10", "running")
        view = view_of(facts)
        assert view.previous is None  # there is no board of the days before
        assert [day.date for day in view.days if day.linked] == ["2026-11-10"]
        facts = await world.builder().facts(MIDNIGHT + DAY_S + HOUR_S)
        assert (facts.date, facts.day.state) == ("2026-11-10", "provisional")

    in_world(use)


@pytest.mark.parametrize(
    ("date", "cure"),
    [
        ("2026-11-13", "lies in the future; the running day is 2026-11-12"),
        ("2026-11-09", "no data is stored of 2026-11-09; the first day is 2026-11-10"),
        ("yesterday", "got 'yesterday'; write a day as YYYY-MM-DD"),
        ("2026-02-30", "got '2026-02-30'; write a day as YYYY-MM-DD"),
    ],
)
def test_a_day_that_is_not_known_is_an_error_with_its_cure(
    in_world: Callable[..., Any], date: str, cure: str
) -> None:
    async def use(world: World) -> None:
        for number in range(3):
            await world.add(0, steady(number))
        with pytest.raises(RequestError, match=f"^date: .*{cure}"):
            await world.builder().facts(MIDNIGHT + 2 * DAY_S + HOUR_S, date)

    in_world(use)


def test_a_day_without_an_event_is_absent_and_no_zero(in_world: Callable[..., Any]) -> None:
    async def use(world: World) -> None:
        await world.add(0, steady(0))
        await world.add(0, steady(2))
        facts = await world.builder().facts(MIDNIGHT + 2 * DAY_S + 23 * HOUR_S)
        assert facts.date == "2026-11-11"
        assert facts.day.state == "absent"
        assert all(getattr(facts.day.values, metric).value is None for metric in METRICS)
        assert facts.headline == "No event was counted."
        assert facts.causes == ()

    in_world(use)


# -- what is said ----------------------------------------------------------------------------------


def test_a_bad_day_is_told_with_what_made_it_bad(in_world: Callable[..., Any]) -> None:
    # Four calm weeks; then large in eu fails for a day, and small is as always.
    async def use(world: World) -> None:
        for number in range(28):
            await world.add(number % 2, steady(number))
        bad = steady(28)
        for one in bad:
            if one["model"] == "large":
                one["ttft_ms"] += 400
                one["duration_ms"] += 400
        await world.add(0, bad)
        end_s = MIDNIGHT + 29 * DAY_S
        await world.tell(end_s + 5 * HOUR_S, 0, 1)
        facts = await world.builder(**DIRECTORY).facts(end_s + 5 * HOUR_S)
        assert facts.headline.startswith("P95 TTFT at 5")
        assert facts.headline.endswith("missed its target; 4 of 5 targets met.")
        [cause] = facts.causes
        assert (cause.metric, cause.dimension, cause.name) == ("ttft_p95_s", "model", "large")
        assert cause.mix == 0
        assert cause.rate == pytest.approx(0.4, rel=0.02)
        assert cause.words.startswith("P95 TTFT rose by ")
        assert "model large added 398 ms, all by rate (its own P95 TTFT rose from" in cause.words
        found = {one.metric: one for one in facts.trends}
        assert found["ttft_p95_s"].better is False
        assert found["ttft_p95_s"].change_28d == pytest.approx(0.4, rel=0.02)
        assert found["tokens"].change_28d == 0
        assert found["tokens"].better is None
        # As it was explained when it was sealed, it is told for ever.
        await world.add(0, [event(end_s + 6 * HOUR_S)])
        later = await world.builder().facts(end_s + 2 * DAY_S, "2026-12-08")
        assert later.causes == facts.causes
        assert later.segments == facts.segments != ()

    in_world(use)


def test_a_calm_day_has_no_cause(in_world: Callable[..., Any]) -> None:
    async def use(world: World) -> None:
        for number in range(9):
            await world.add(0, steady(number))
        facts = await world.builder().facts(MIDNIGHT + 9 * DAY_S)
        assert facts.causes == ()
        assert "All 5 targets met" in facts.headline
        assert "best in class" in facts.headline

    in_world(use)


def test_the_running_day_is_told_as_such(in_world: Callable[..., Any]) -> None:
    async def use(world: World) -> None:
        await world.add(0, [one for one in steady(0) if one["ended_at"] < 1e3 * (MIDNIGHT + 7_200)])
        facts = await world.builder().facts(MIDNIGHT + 7_200, "2026-11-10")
        assert facts.headline.startswith("So far: ")
        assert facts.trust == (
            "Running: the day is not over, the numbers reach to 2026-11-10 02:00; "
            "no records are known to be missing."
        )

    in_world(use)


def test_a_backlog_is_no_day_without_traffic(in_world: Callable[..., Any]) -> None:
    #  the worker has counted two hours of the day, and most of its records wait
    async def use(world: World) -> None:
        now_s = MIDNIGHT + DAY_S + 7_200
        await world.add(0, [one for one in steady(0) if one["ended_at"] < 1e3 * (MIDNIGHT + 7_200)])
        await world.writer.send_heartbeat(0, now_s, highwater=50_000)
        facts = await world.builder().facts(now_s)
        assert facts.headline.startswith("Not all events are counted yet: ")
        assert facts.trust.startswith(
            "Provisional: the numbers may still change; not all events are read yet: partition 0 "
            "is read up to 2026-11-10 01:"
        )
        today = await world.builder().facts(now_s, "2026-11-11")
        assert today.headline == "No event is counted yet."

    in_world(use)


def test_a_first_day_says_when_its_data_begin(in_world: Callable[..., Any]) -> None:
    async def use(world: World) -> None:
        late = [one for one in steady(0) if one["ended_at"] >= 1e3 * (MIDNIGHT + 72_000)]
        await world.add(0, late)
        facts = await world.builder().facts(MIDNIGHT + DAY_S + 7_200)
        assert facts.headline.startswith("From 2026-11-10 20:")
        assert "; the first event ever counted is from 2026-11-10 20:" in facts.trust
        month = await world.builder().facts(MIDNIGHT + 30 * DAY_S, "2026-11-10", "month")
        assert month.headline.startswith("Data of 21 of 30 days: ")

    in_world(use)


@pytest.mark.parametrize(("begin_h", "change"), [(0, 0.0), (15, None)])
def test_a_day_that_counting_began_within_is_no_norm_of_tokens(
    in_world: Callable[..., Any], begin_h: int, change: float | None
) -> None:
    async def use(world: World) -> None:
        begin_ms = 1e3 * (MIDNIGHT + begin_h * HOUR_S)
        await world.add(0, [one for one in steady(0) if one["ended_at"] >= begin_ms])
        for number in range(1, 8):
            await world.add(0, steady(number))
        facts = await world.builder().facts(MIDNIGHT + 8 * DAY_S + 12 * HOUR_S)
        assert facts.date == "2026-11-17"
        assert on(facts, "2026-11-10").complete
        tokens = next(one for one in facts.trends if one.metric == "tokens")
        assert tokens.change_7d == change

    in_world(use)


def test_the_board_is_plain_data(in_world: Callable[..., Any]) -> None:
    async def use(world: World) -> None:
        for number in range(3):
            await world.add(0, steady(number))
        facts = await world.builder(**DIRECTORY).facts(MIDNIGHT + 3 * DAY_S)
        assert json.loads(json.dumps(asdict(facts)))["date"] == "2026-11-12"

    in_world(use)


# -- trouble ---------------------------------------------------------------------------------------


def test_a_silent_redis_is_an_error_and_its_return_is_read_anew(
    in_world: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def use(world: World) -> None:
        await world.add(0, steady(0))
        builder = world.builder()
        before = await builder.facts(MIDNIGHT + DAY_S)
        with monkeypatch.context() as broken:
            broken.setattr(builder._source._reader, "_client", None)
            broken.setattr(builder._source._reader._state_reader, "_redis", Broken())
            with pytest.raises(StoreError):
                await builder.facts(MIDNIGHT + DAY_S)
        builder._source._reader.forget()
        assert await builder.facts(MIDNIGHT + DAY_S) == before

    in_world(use)


class Broken:
    async def smembers(self, key: str) -> Never:
        raise OSError("connection lost")


def test_a_state_that_was_lost_and_counted_again_is_not_mixed_with_the_old_one(
    in_world: Callable[..., Any],
) -> None:
    async def use(world: World) -> None:
        await world.add(0, steady(0)[:30])
        await world.add(0, steady(0)[30:])
        builder = world.builder()
        assert (await builder.facts(MIDNIGHT + DAY_S)).day.values.requests == 60
        await world.client.flushdb()
        await world.writer.close()
        again = type(world)(world.settings.redis.url)
        await again.add(0, steady(0, count=7))
        facts = await builder.facts(MIDNIGHT + DAY_S)
        assert facts.day.values.requests == 7
        await again.close()

    in_world(use)


def test_many_askers_at_once_get_the_same_board(in_world: Callable[..., Any]) -> None:
    async def use(world: World) -> None:
        for number in range(3):
            await world.add(0, steady(number))
        builder, now_s = world.builder(), MIDNIGHT + 3 * DAY_S + 5 * HOUR_S
        await world.tell(now_s)
        dates = [None, "2026-11-10", "2026-11-11", None, "2026-11-13"]
        boards = await asyncio.gather(*(builder.facts(now_s, date) for date in dates))
        alone = [await world.builder().facts(now_s, date) for date in dates]
        assert boards == alone

    in_world(use)


def test_askers_wait_for_each_other_as_they_share_what_was_read(
    in_world: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def use(world: World) -> None:
        builder = world.builder()
        inside: list[int] = []
        most: list[int] = []

        async def reading(*_: object) -> None:
            inside.append(1)
            await asyncio.sleep(0)
            most.append(len(inside))
            inside.pop()

        monkeypatch.setattr(builder, "_facts", reading)
        await asyncio.gather(
            *(DailyBoardBuilder.facts(builder, right_clock(MIDNIGHT)) for _ in range(5))
        )
        assert max(most) == 1

    in_world(use)
