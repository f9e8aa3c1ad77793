"""A final day that an operator opens again: counted anew, with author and reason for ever."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner

from exporters.daily.render.plain_text import plain_text
from streams.config.settings import ENV_PREFIX
from tests.support.daily_state import DAY_S, HOUR_S, World, recount, some_traffic
from tests.support.exporter_state import SECRET, event
from tests.support.final_days import BEGIN, DATE, END, one_day
from tests.support.servers import RedisServer
from tokenpulse.cli.main import main

NOTE = "The day was final before, and was opened again by jo at "


@pytest.fixture
def reopen(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.setenv(f"{ENV_PREFIX}REDIS__URL", redis_server.url)
    monkeypatch.setenv(f"{ENV_PREFIX}WORKER__CUSTOMER_KEY", SECRET)

    def run(day: str, status: int = 0) -> str:
        words = ["daily", "reopen", day, "--author", "jo", "--reason", "finalised early"]
        done = CliRunner().invoke(main, words)
        assert done.exit_code == status, done.output
        return done.output

    return run


def test_a_reopened_day_is_counted_and_finalised_again_and_says_so_for_ever(
    in_world: Callable[..., Any], reopen: Callable[..., Any]
) -> None:
    async def use(world: World) -> None:
        await one_day(world)
        await world.tell(END + 5 * HOUR_S)
        first = (await world.builder().facts(END + 5 * HOUR_S, DATE)).day
        assert first.state == "sealed"
        await world.add(0, [event(END - 60, outcome="server_error")] * 10, END + 6 * HOUR_S)
        day = (await world.builder().facts(END + 6 * HOUR_S, DATE)).day
        assert (day.values, day.note) == (first.values, first.note)
        assert day.corrections

        await asyncio.to_thread(reopen, DATE)
        await world.tell(END + 7 * HOUR_S)
        for after_h in (7, 8):
            facts = await world.builder().facts(END + after_h * HOUR_S, DATE)
            assert facts.day.state == "sealed"
            assert facts.day.values.requests == recount(world.within(BEGIN, END))["requests"]
            assert facts.day.corrections == ()
            assert facts.day.note.startswith(NOTE)
            assert "(finalised early)" in facts.trust
            assert "finalised early" in " ".join(plain_text(facts).split())
        # Also with its slices gone, as long as the day is shown.
        await world.add(0, [event(END + 40 * DAY_S)])
        facts = await world.builder().facts(END + 40 * DAY_S, DATE)
        assert facts.day.note.startswith(NOTE)

    in_world(use)


def test_an_exporter_compares_with_the_new_counts_of_a_day_that_was_reopened(
    in_world: Callable[..., Any], reopen: Callable[..., Any]
) -> None:
    async def use(world: World) -> None:
        # The day lies in the four weeks before the last four; its stored counts are read then.
        now_s, today = END + 40 * DAY_S + 6 * HOUR_S, "2026-12-19"
        await world.add(0, some_traffic(1, 400, BEGIN - 20 * DAY_S, now_s))
        await world.tell(now_s)
        running = world.builder()
        before = [(await running.facts(now_s, today)).growth for _ in range(2)]
        late = [event(END - 60, output_tokens=900_000)] * 10
        await world.add(0, late, now_s)
        assert (await running.facts(now_s, today)).growth == before[0] == before[1]

        await asyncio.to_thread(reopen, DATE)
        # Another exporter finalises it, so this one sees only the stored counts change.
        for later_s in (60, 120):
            growth = (await world.builder().facts(now_s + later_s, today)).growth
            assert growth != before[0]
            assert (await running.facts(now_s + later_s, today)).growth == growth

    in_world(use)


def test_a_day_that_is_not_final_or_cannot_be_counted_again_is_refused_in_one_line(
    in_world: Callable[..., Any], reopen: Callable[..., Any]
) -> None:
    async def use(world: World) -> None:
        await one_day(world)
        for day, told in (
            (DATE, f"date: {DATE} is not final in the time zone UTC"),
            ("yesterday", "DAY: got 'yesterday'; give a date as 2026-11-08"),
            ("2020-01-01", "the counts of 2020-01-01 are no longer kept"),
        ):
            output = await asyncio.to_thread(reopen, day, 2)
            assert told in output
            assert len(output.splitlines()) == 1

    in_world(use)
