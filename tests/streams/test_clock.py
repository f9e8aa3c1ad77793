"""Two clocks compared: when they agree, and which one is taken if they do not."""

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.clock import ClockReading, RedisClock
from streams.store.redis import connect
from tests.support.checks import not_none
from tests.support.servers import RedisServer

NOW_S = 1_767_225_600.0
YEAR_S = 366 * 86_400.0
SHIFTS_S = st.floats(-YEAR_S, YEAR_S)


@given(SHIFTS_S, st.floats(0, 20))
def test_clocks_agree_only_if_that_is_certain(shift_s: float, round_trip_s: float) -> None:
    reading = ClockReading(NOW_S + shift_s, NOW_S, round_trip_s, 5)
    # Redis' time may be wrong by half of the round trip, to either side.
    worst_s = max(abs(reading.wall_s - NOW_S - by * round_trip_s / 2) for by in (-1, 1))
    assert reading.agrees == (worst_s <= 5) or worst_s == pytest.approx(5)
    assert (reading.problem() is None) == reading.agrees


@given(SHIFTS_S, st.booleans(), st.floats(-4, 0))
def test_while_events_arrive_the_time_is_right_whichever_of_the_two_clocks_jumps(
    shift_s: float, redis_jumps: bool, newest_s: float
) -> None:
    wall_s, redis_s = (NOW_S, NOW_S + shift_s) if redis_jumps else (NOW_S + shift_s, NOW_S)
    taken_s = ClockReading(wall_s, redis_s, 0.01, 5).likely_s(NOW_S + newest_s)
    # A jump to nearer than the newest event cannot be told apart from the right time.
    assert abs(taken_s - NOW_S) <= 2 * abs(newest_s) + 5


@given(SHIFTS_S, SHIFTS_S)
def test_without_events_the_earlier_time_is_taken(first_s: float, second_s: float) -> None:
    reading = ClockReading(NOW_S + first_s, NOW_S + second_s, 0.0, 5)
    earlier_s = min(reading.wall_s, not_none(reading.redis_s))
    assert reading.likely_s(0) == (reading.wall_s if reading.agrees else earlier_s)


@pytest.mark.parametrize(
    ("reading", "expected"),
    [
        (ClockReading(NOW_S + 120, NOW_S, 0.0, 5), "120.0 s ahead of that of Redis"),
        (ClockReading(NOW_S - 7, NOW_S, 0.0, 5), "7.0 s behind that of Redis"),
        (ClockReading(NOW_S, NOW_S, 12.0, 5), "Redis took 12.0 s to give its time"),
        (ClockReading(NOW_S, None, 0.0, 5), "Redis does not give its time"),
    ],
)
def test_a_clock_that_cannot_be_trusted_says_why(reading: ClockReading, expected: str) -> None:
    assert expected in not_none(reading.problem())


def test_a_wall_clock_that_is_set_is_seen_without_another_question(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def read() -> list[float]:
        client = connect(redis_server.url, 5)
        clock, real = RedisClock(client, 5), time.time
        try:
            offsets_s = [not_none((await clock.read()).offset_s)]
            monkeypatch.setattr(time, "time", lambda: real() - 86_400)
            offsets_s.append(not_none(clock.reading().offset_s))
            offsets_s.append(not_none((await clock.read()).offset_s))
        finally:
            monkeypatch.undo()
            await client.aclose()
        return offsets_s

    right_s, set_back_s, read_again_s = asyncio.run(read())
    assert right_s == pytest.approx(0, abs=0.5)
    assert set_back_s == pytest.approx(-86_400, abs=0.5)
    assert read_again_s == pytest.approx(-86_400, abs=0.5)


def test_a_redis_that_does_not_answer_leaves_the_clock_unknown() -> None:
    async def read() -> ClockReading:
        client = connect("redis://127.0.0.1:1/0", 0.2)
        try:
            return await RedisClock(client, 5).read()
        finally:
            await client.aclose()

    reading = asyncio.run(read())
    assert reading.redis_s is None
    assert not reading.agrees
