"""Two clocks compared: when they agree, and which one is taken if they do not."""

import asyncio
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.clock import ClockReading, RedisClock, SteadyChoice
from streams.store.servers.client import connect
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


def wall_behind(offset_s: float, round_trip_s: float = 0.01) -> ClockReading:
    return ClockReading(NOW_S - offset_s, NOW_S, round_trip_s, 5)


@given(SHIFTS_S, st.booleans(), st.floats(-4, 0))
def test_a_steady_choice_leaves_a_clock_that_jumps(
    shift_s: float, redis_jumps: bool, newest_s: float
) -> None:
    wall_s, redis_s = (NOW_S, NOW_S + shift_s) if redis_jumps else (NOW_S + shift_s, NOW_S)
    choice = SteadyChoice()
    assert choice.likely_s(wall_behind(0), NOW_S + newest_s) == NOW_S
    taken_s = choice.likely_s(ClockReading(wall_s, redis_s, 0.01, 5), NOW_S + newest_s)
    assert abs(taken_s - NOW_S) <= 4 * abs(newest_s) + 5
    assert choice.likely_s(wall_behind(0), NOW_S + newest_s) == NOW_S


@given(
    offset_s=st.floats(5, 600),
    least=st.floats(0, 2),
    lags=st.lists(st.floats(0, 0.49), min_size=2),
)
def test_while_events_lag_by_about_the_same_the_clock_is_chosen_once(
    offset_s: float, least: float, lags: list[float]
) -> None:
    choice = SteadyChoice()
    taken = [
        choice.likely_s(wall_behind(offset_s), NOW_S - (least + lag) * offset_s) for lag in lags
    ]
    changes = sum(one != other for one, other in pairwise(taken))
    assert changes <= 1


def test_lags_and_round_trips_that_change_let_the_time_rise() -> None:
    for readings in (
        [(wall_behind(6), lag_s) for lag_s in (2, 4, 2, 4)],
        [(wall_behind(4.9, round_trip_s), 2) for round_trip_s in (0.01, 0.5, 0.01, 0.5)],
        [(wall_behind(-4.9, round_trip_s), 2) for round_trip_s in (0.5, 0.01, 0.5, 0.01)],
    ):
        choice = SteadyChoice()
        taken = [choice.likely_s(reading, NOW_S - lag_s) for reading, lag_s in readings]
        assert len(set(taken)) == 1


@pytest.mark.parametrize(
    ("reading", "expected"),
    [
        (ClockReading(NOW_S + 120, NOW_S, 0.0, 5), "120.0 s ahead of that of Redis"),
        (ClockReading(NOW_S - 7, NOW_S, 0.0, 5), "7.0 s behind that of Redis"),
        (ClockReading(NOW_S, NOW_S, 12.0, 5), "Redis, which took 12.00 s to give its time"),
        (
            ClockReading(NOW_S - 4.9, NOW_S, 0.3, 5),
            "about 4.90 s behind that of Redis, which took 0.30 s to give its time: they may "
            "differ by more than redis.max_clock_offset_s (5 s)",
        ),
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
