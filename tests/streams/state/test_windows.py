"""Which slices make up a window, drawn as timelines."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.state.slices import LEVELS, SliceId
from streams.state.windows import ROLLING_S, calendar, calendar_end, cover, kept_step_s, rolling
from tests.support.shelf import answerable

MINUTE, HOUR, DAY = 60, 3_600, 86_400
UTC, BERLIN = ZoneInfo("UTC"), ZoneInfo("Europe/Berlin")
KOLKATA, KATHMANDU = ZoneInfo("Asia/Kolkata"), ZoneInfo("Asia/Kathmandu")  # +05:30, +05:45
HAVANA, SANTIAGO = ZoneInfo("America/Havana"), ZoneInfo("America/Santiago")
QUICK = settings(max_examples=60, deadline=None)


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


NOW = at("2026-03-11T12:34:47Z")

# --- rolling -------------------------------------------------------------------------------------


def test_a_rolling_window_ends_with_the_slice_that_is_filling() -> None:
    #  12:33:50          12:34:40  :50
    #     |--|--|--|--|--|--|
    #                        47 = now
    assert rolling(60, NOW, NOW) == (at("2026-03-11T12:33:50Z"), at("2026-03-11T12:34:50Z"))
    # On a boundary the new slice has just begun.
    assert rolling(60, at("2026-03-11T12:34:50Z"), NOW) == (
        at("2026-03-11T12:34:00Z"),
        at("2026-03-11T12:35:00Z"),
    )


@pytest.mark.parametrize(
    ("name", "begins"),
    [
        ("1m", "2026-03-11T12:33:50Z"),  # 10 s slices are kept for 15 min
        ("5m", "2026-03-11T12:29:50Z"),
        ("30m", "2026-03-11T12:05:00Z"),  # minutes for 3 h: 12:04:50 is moved up to a minute
        ("1h", "2026-03-11T11:35:00Z"),
        ("6h", "2026-03-11T06:40:00Z"),  # ten minutes for 30 h
        ("24h", "2026-03-10T12:40:00Z"),
        ("3d", "2026-03-08T13:00:00Z"),  # hours for 35 days
        ("30d", "2026-02-09T13:00:00Z"),
    ],
)
def test_the_far_end_of_a_rolling_window_is_moved_up_to_what_is_kept_there(
    name: str, begins: str
) -> None:
    assert rolling(ROLLING_S[name], NOW, NOW) == (at(begins), at("2026-03-11T12:34:50Z"))


@given(st.integers(500 * DAY, 2 * 10**9), st.integers(0, 90 * DAY))
def test_a_rolling_window_is_never_longer_than_its_name_nor_shorter_by_a_kept_step(
    now_s: int, quiet_s: int
) -> None:
    for span_s in ROLLING_S.values():
        from_s, to_s = rolling(span_s, now_s, now_s - quiet_s)
        step_s = kept_step_s(to_s - span_s, now_s)
        assert span_s - step_s < to_s - from_s <= span_s
        assert to_s - 10 <= now_s < to_s
        assert from_s % step_s == 0


def test_what_is_kept_gets_coarser_with_age() -> None:
    #   400 d       35 d       30 h        3 h        15 min     now
    #  ..|    1 d    |    1 h   |   10 min   |   1 min   |   10 s  |
    noon = at("2026-03-11T12:00:00Z")
    edges = [
        (15 * MINUTE, 10),
        (3 * HOUR, 60),
        (30 * HOUR, 600),
        (35 * DAY, HOUR),
        (400 * DAY, DAY),
    ]
    coarser = [step_s for _, step_s in edges[1:]] + [DAY]
    for (keep_s, step_s), next_s in zip(edges, coarser, strict=True):
        # The last slice that is kept is the one that ends after now - keep_s.
        last_end_s = (noon - keep_s) // step_s * step_s + step_s
        assert kept_step_s(last_end_s - step_s, noon) == step_s
        assert kept_step_s(last_end_s - step_s - 1, noon) == next_s
    assert kept_step_s(noon + HOUR, noon) == 10


# --- calendar ------------------------------------------------------------------------------------


def test_the_calendar_day_begins_at_midnight_of_its_zone() -> None:
    #  UTC     22:00   23:00   00:00            12:34:50
    #  Berlin  23:00 | 00:00   01:00            13:34:50
    to_s = at("2026-03-11T12:34:50Z")
    assert calendar("day", NOW, UTC, NOW) == (at("2026-03-11T00:00:00Z"), to_s)
    assert calendar("day", NOW, BERLIN, NOW) == (at("2026-03-11T00:00:00+01:00"), to_s)
    assert calendar("month", NOW, BERLIN, NOW) == (at("2026-03-01T00:00:00+01:00"), to_s)
    just_before = at("2026-03-10T23:59:59+01:00")
    assert calendar("day", just_before, BERLIN, NOW)[0] == at("2026-03-10T00:00:00+01:00")


def test_the_day_the_clocks_change_has_23_or_25_hours() -> None:
    #  29 March: 02:00 +01 -> 03:00 +02          25 October: 03:00 +02 -> 02:00 +01
    for noon, begins, ends, hours in (
        ("2026-03-29T12:00+02:00", "2026-03-29T00:00+01:00", "2026-03-30T00:00+02:00", 23),
        ("2026-10-25T12:00+01:00", "2026-10-25T00:00+02:00", "2026-10-26T00:00+01:00", 25),
    ):
        from_s, _ = calendar("day", at(noon), BERLIN, at(noon))
        end_s = calendar_end("day", at(noon), BERLIN)
        assert (from_s, end_s) == (at(begins), at(ends))
        assert end_s - from_s == hours * HOUR


def test_both_hours_with_the_same_name_belong_to_the_same_day() -> None:
    #  02:30 +02 (first) ... 02:30 +01 (second)
    for half_past_two in ("2026-10-25T02:30+02:00", "2026-10-25T02:30+01:00"):
        now_s = at(half_past_two)
        assert calendar("day", now_s, BERLIN, now_s)[0] == at("2026-10-25T00:00+02:00")
        assert calendar("month", now_s, BERLIN, now_s)[0] == at("2026-10-01T00:00+02:00")
        assert calendar_end("day", now_s, BERLIN) == at("2026-10-26T00:00+01:00")


def test_a_day_whose_midnight_comes_twice_begins_with_the_first() -> None:
    #  Havana, 1 November 2026: 00:00 -04 ... 01:00 -04 = 00:00 -05 ... 01:00 -05
    first, second = at("2026-11-01T00:30-04:00"), at("2026-11-01T00:30-05:00")
    for now_s in (first, second, at("2026-11-01T12:00-05:00")):
        for unit in ("day", "month"):
            assert calendar(unit, now_s, HAVANA, now_s)[0] == at("2026-11-01T00:00-04:00")
    assert calendar_end("day", at("2026-10-31T12:00-04:00"), HAVANA) == at("2026-11-01T00:00-04:00")


def test_a_day_without_midnight_begins_when_the_clocks_change() -> None:
    #  Santiago, 6 September 2026: 24:00 -04 = 01:00 -03
    noon, begins = at("2026-09-06T12:00-03:00"), at("2026-09-06T01:00-03:00")
    assert calendar("day", noon, SANTIAGO, noon)[0] == begins
    assert calendar_end("day", begins - DAY // 2, SANTIAGO) == begins


def test_zones_off_by_half_an_hour_begin_with_the_next_slice_that_is_kept() -> None:
    #  Kolkata's midnight is 18:30 UTC: between two hours, but on a ten-minute slice
    assert calendar("day", NOW, KOLKATA, NOW)[0] == at("2026-03-10T18:30Z")
    assert calendar("month", NOW, KOLKATA, NOW)[0] == at("2026-02-28T19:00Z")
    # Kathmandu's is 18:15: yesterday only ten minutes and hours are left of it
    assert calendar("day", NOW, KATHMANDU, NOW)[0] == at("2026-03-10T18:20Z")
    assert calendar("month", NOW, KATHMANDU, NOW)[0] == at("2026-02-28T19:00Z")
    early = at("2026-03-11T00:30+05:45")  # the minutes are still there
    assert calendar("day", early, KATHMANDU, early)[0] == at("2026-03-10T18:15Z")


@pytest.mark.parametrize(
    ("now", "ends"),
    [
        ("2026-02-28T23:59:59+01:00", "2026-03-01T00:00+01:00"),
        ("2028-02-29T12:00+01:00", "2028-03-01T00:00+01:00"),
        ("2026-03-31T12:00+02:00", "2026-04-01T00:00+02:00"),
        ("2026-12-01T00:00+01:00", "2027-01-01T00:00+01:00"),
    ],
)
def test_a_month_ends_with_its_last_day(now: str, ends: str) -> None:
    assert calendar_end("month", at(now), BERLIN) == at(ends)


ZONES = st.sampled_from([UTC, BERLIN, KOLKATA, KATHMANDU, HAVANA, SANTIAGO])


@given(st.integers(10**9, 2 * 10**9), ZONES, st.sampled_from(["day", "month"]))
def test_every_second_is_in_its_day_and_the_days_touch(
    now_s: int, zone: ZoneInfo, unit: str
) -> None:
    end_s = calendar_end(unit, now_s, zone)
    from_s, to_s = calendar(unit, now_s, zone, now_s)
    assert from_s - HOUR < now_s < to_s <= end_s + 10
    # The first second of the next one says where it begins: exactly, as it is quite fresh.
    assert now_s < end_s
    assert calendar(unit, end_s, zone, end_s)[0] == end_s


# --- cover ---------------------------------------------------------------------------------------


def full_store(
    first_s: int, watermark_s: int, lateness_s: int
) -> tuple[dict[SliceId, int], list[int]]:
    """Every slice that a partition with an event a second would hold."""
    merged = [0]
    reach = watermark_s - lateness_s
    for level in LEVELS[1:]:
        reach = reach // level.step_s * level.step_s
        merged.append(reach)
    stored = {}
    for number, (step_s, keep_s) in enumerate(LEVELS):
        oldest = max(first_s, watermark_s - keep_s) // step_s * step_s
        newest = merged[number] if number else watermark_s + 1
        for start_s in range(oldest, newest, step_s):
            of = SliceId(number, start_s)
            if of.end_s > watermark_s - keep_s and of.end_s <= max(newest, start_s + 10):
                stored[of] = of.end_s - of.start_s
    return stored, merged


@QUICK
@given(
    st.integers(0, 3 * DAY),
    st.integers(0, 120 * DAY),
    st.sampled_from([0, 30, 600]),
    st.data(),
)
def test_a_cover_neither_overlaps_nor_leaves_a_gap(
    shift_s: int, age_s: int, lateness_s: int, data: st.DataObject
) -> None:
    watermark_s = NOW + shift_s
    stored, merged = full_store(watermark_s - 90 * DAY, watermark_s, lateness_s)
    from_s = watermark_s - data.draw(st.integers(0, 80 * DAY) | st.integers(0, 2 * HOUR))
    to_s = min(watermark_s, from_s + data.draw(st.integers(0, age_s) | st.integers(0, 900)))
    from_s, to_s = answerable(from_s, to_s, watermark_s)
    position = from_s
    for of in cover(stored, merged, from_s, to_s):
        assert of in stored
        assert of.start_s == position
        position = of.end_s
    assert position == to_s


def test_a_day_is_few_coarse_slices_and_finer_ones_at_both_ends() -> None:
    #  12:40|10m 10m|1h ... 1h|10m 10m 10m|1m 1m 1m 1m|10s 10s 10s 10s 10s|12:34:50
    stored, merged = full_store(NOW - 3 * DAY, NOW, 30)
    found = cover(stored, merged, *rolling(DAY, NOW, NOW))
    lengths = [LEVELS[of.level].step_s for of in found]
    assert lengths == [600] * 2 + [HOUR] * 23 + [600] * 3 + [60] * 4 + [10] * 5


def test_slices_without_events_are_left_out_and_nothing_stored_is_nothing() -> None:
    stored = {SliceId(0, NOW // 10 * 10 - 40), SliceId(0, NOW // 10 * 10)}
    window = rolling(60, NOW, NOW)
    assert set(cover(stored, [0] * 5, *window)) == stored
    assert cover(stored, [0] * 5, window[0] - HOUR, window[0]) == []
    assert cover([], [0] * 5, *window) == []


def test_years_without_events_before_the_first_slice_cost_nothing() -> None:
    stored = {SliceId(0, NOW // 10 * 10)}
    assert cover(stored, [0] * 5, 0, NOW // 10 * 10 + 10) == list(stored)
