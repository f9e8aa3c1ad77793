"""Retries and fallbacks on the daily board: counted, stored with the day, and in every form."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec

from exporters.daily.day.facts import Day, DayAttempts
from exporters.daily.day.final import FinalDay
from exporters.daily.render.html import html, message
from exporters.daily.render.pdf import page_data
from exporters.daily.render.plain_text import plain_text
from exporters.daily.render.view import view_of
from tests.support.daily_samples import some_facts
from tests.support.daily_state import DAY_S, HOUR_S, World
from tests.support.exporter_state import event
from tests.support.steady_days import MIDNIGHT, steady

WORDS = (
    "Providers: 1,250 attempts at 1,200 requests; they succeeded in 95 % of the attempts that "
    "count, the customers in 99.5 % of the requests."
)


def test_a_day_has_its_attempts_and_keeps_them_when_it_is_final(
    in_world: Callable[..., Any],
) -> None:
    async def use(world: World) -> None:
        noon_s = MIDNIGHT + 12 * HOUR_S
        await world.add(0, steady(0))
        await world.add(0, [event(noon_s, outcome="timeout", final=False) for _ in range(4)])
        await world.add(0, steady(1))
        counted = [one for one in world.within(MIDNIGHT, MIDNIGHT + DAY_S) if not one.get("probe")]
        answered = sum(one["outcome"] == "success" for one in counted)
        expected = DayAttempts(len(counted), answered / len(counted))
        for final in (False, True):
            now_s = MIDNIGHT + (2 * DAY_S if final else DAY_S + HOUR_S)
            if final:
                await world.tell(now_s)
            facts = await world.builder().facts(now_s, "2026-11-10")
            assert facts.day.attempts == expected
            assert facts.day.values.requests == len(counted) - 4
            assert facts.days[-1].attempts is None  # each request of the next day had one attempt
        (stored,) = [data for data in (await world.stored()).values() if b'"attempts":{' in data]
        assert FinalDay.unpack(stored).day.attempts == expected

    in_world(use)


def test_a_day_that_an_earlier_version_stored_has_none() -> None:
    day = msgspec.to_builtins(some_facts().day)
    del day["attempts"]
    assert msgspec.convert(day, Day).attempts is None


def test_every_form_has_one_line_about_it() -> None:
    facts = some_facts()
    day = facts.day
    values = replace(
        day.values,
        requests=1_200,
        availability_ratio=replace(day.values.availability_ratio, value=0.995),
    )
    retried = replace(day, values=values, attempts=DayAttempts(1_250, 0.95))
    with_attempts = replace(facts, days=tuple(retried if one is day else one for one in facts.days))
    assert view_of(with_attempts).attempts == WORDS
    for render in (html, lambda shown: message(shown, None), plain_text, page_data):
        words = str(render(with_attempts)).replace("\u00a0", " ").replace("\\xa0", " ")
        assert WORDS in words
        assert "Providers: " not in str(render(facts))
