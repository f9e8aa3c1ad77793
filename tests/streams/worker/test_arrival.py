"""Duplicates by their arrival in the log, over cuts and restarts."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.events.decoder import decode
from streams.events.watermark import Watermark
from streams.state.set_back import SetBack
from streams.state.slices import HORIZON_S
from streams.worker.deduplication import Deduplicator, ReplayHorizon
from tests.support.arrivals import Arrival, arrival_step_ms, find_duplicates
from tests.support.event_samples import NOW, RULES, judge, raw

MINUTE_MS = 60_000
PLENTY = 1 << 40

IDS = st.sampled_from([(low, high) for low in (0, 1, 2**63) for high in (0, 1, 1 << 40, 2**64 - 1)])
WINDOWS = st.sampled_from([1, 31, 100, 300, 2_000, 1_800_000])
LIMITS = st.integers(1, 8)
CUTS = st.lists(st.integers(0, 40), max_size=4)


# --- arrival -------------------------------------------------------------------------------------


def batch_of(
    log: Sequence[tuple[tuple[int, int], int]], start: int, end: int, from_ms: int = -1
) -> Any:
    """The columns that the windows read, of (id, arrival) pairs; -1: not settled."""
    part = log[start:end]
    return SimpleNamespace(
        request=np.array([one for one, _ in part], np.uint64).reshape(-1, 2),
        watermark_ms=np.array(before_each(log, from_ms)[start:end], np.int64),
        arrived_ms=np.array([at for _, at in part], np.int64),
        ended_at_ms=np.array([at for _, at in part], np.int64),
    )


def before_each(log: Sequence[tuple[tuple[int, int], int]], from_ms: int = -1) -> list[int]:
    """The watermark before each event; `from_ms`: before the first."""
    return [from_ms, *(at for _, at in log)][: len(log)]


def judge_in_batches(
    deduplicator: Deduplicator, log: Sequence[tuple[tuple[int, int], int]], cuts: Sequence[int]
) -> list[bool]:
    """Judge a log that is cut into batches."""
    judged: list[bool] = []
    for start, end in pairwise(sorted({0, *(min(cut, len(log)) for cut in cuts), len(log)})):
        offsets = np.arange(start, end)
        judged += deduplicator.find_duplicates(offsets, batch_of(log, start, end)).tolist()
    return judged


@st.composite
def arrivals(draw: Callable[..., Any]) -> list[tuple[tuple[int, int], int]]:
    """A log with rising arrivals; those of the first few events are not settled yet."""
    now_ms = 200_000_000
    log = []
    for one, later_ms in draw(
        st.lists(st.tuples(IDS, st.sampled_from([0, 0, 1, 40, 200, 5_000, 900_000])), max_size=60)
    ):
        now_ms += later_ms
        log.append((one, now_ms))
    unsettled = draw(st.integers(0, 6))
    return [(one, -1 if at < unsettled else ms) for at, (one, ms) in enumerate(log)]


def defined_by_arrival(log: Sequence[tuple[tuple[int, int], int]], window_ms: int) -> list[bool]:
    """The definition."""
    return find_duplicates(as_arrivals(log), window_ms)


def as_arrivals(log: Sequence[tuple[tuple[int, int], int]], from_ms: int = -1) -> list[Arrival]:
    return [
        Arrival(one, at, before, at)
        for (one, at), before in zip(log, before_each(log, from_ms), strict=True)
    ]


@given(arrivals(), WINDOWS, CUTS)
def test_an_id_is_known_for_the_window_after_it_arrived_however_the_log_is_cut(
    log: list[tuple[tuple[int, int], int]], window_ms: int, cuts: list[int]
) -> None:
    deduplicator = Deduplicator(window_ms, PLENTY, {}, None)
    assert judge_in_batches(deduplicator, log, cuts) == defined_by_arrival(log, window_ms)


def test_an_id_is_known_at_least_for_the_window_and_at_most_one_part_longer() -> None:
    """The watermark moves by less than a part at once."""
    window_ms, a = 600_000, (1, 1)
    step_ms = arrival_step_ms(window_ms)
    for arrived_ms in range(NOW, NOW + step_ms, step_ms // 7):
        for age_ms, known in ((window_ms, True), (window_ms + step_ms + 1, False)):
            between = range(arrived_ms + step_ms, arrived_ms + age_ms, step_ms)
            others = [((2, at), at) for at in [*between, arrived_ms + age_ms]]
            log = [(a, arrived_ms), *others, (a, arrived_ms + age_ms)]
            found = judge_in_batches(Deduplicator(window_ms, PLENTY, {}, None), log, ())
            assert found == [False] * (len(log) - 1) + [known]


def test_when_the_events_ended_does_not_matter() -> None:
    """An event that ended long before the window and comes three times in a row counts once."""
    log = [raw(request_id="new", ended_at=NOW)]
    log += [raw(request_id="old", ended_at=NOW - 50_000)] * 3
    columns = judge(log).columns
    found = Deduplicator(10_000, PLENTY, {}, None).find_duplicates(columns.position, columns)
    assert found.tolist() == [False, False, True, True]


def test_failed_attempts_and_the_answered_one_under_one_id_all_count() -> None:
    failed: dict[str, Any] = {"request_id": "a", "outcome": None, "status_code": 529}
    log = [
        raw(**failed, ended_at=NOW),
        raw(**failed, ended_at=NOW + 1_000),
        raw(request_id="a", ended_at=NOW + 6_000),
        raw(**failed, ended_at=NOW),  # sent again
        raw(request_id="a", ended_at=NOW + 9_000),  # reported again, with another end
    ]
    columns = judge(log).columns
    deduplicator = Deduplicator(10 * MINUTE_MS, PLENTY, {}, None)
    found = deduplicator.find_duplicates(columns.position, columns)
    assert found.tolist() == [False, False, False, True, True]


# --- a watermark that jumps ----------------------------------------------------------------------


def found_in(log: Sequence[tuple[bytes, int]], by_sender: bool) -> list[bool]:
    """Judge (value, timestamp) pairs of a partition one by one, with the default window."""
    watermark, limits = Watermark(), replace(RULES, horizon_ms=HORIZON_S * 1_000)
    deduplicator = Deduplicator(30 * MINUTE_MS, PLENTY, {}, None)
    found: list[bool] = []
    for offset, (value, timestamp_ms) in enumerate(log):
        stamps, marks = np.array([timestamp_ms]), np.array([by_sender])
        decoded = decode([value], stamps, watermark, limits, marks)
        watermark = decoded.watermark
        found += deduplicator.find_duplicates(np.array([offset]), decoded.columns).tolist()
    return found


@pytest.mark.parametrize("by_sender", [False, True])
@pytest.mark.parametrize("order", ["in a row", "all again"])
def test_copies_sent_when_a_partition_resumes_count_once(by_sender: bool, order: str) -> None:
    times = [NOW + 1_000 * at for at in range(600)]
    resumed = [times[-1] + 120 * MINUTE_MS + 1_000 * at for at in range(20)]
    times += sorted(resumed * 2) if order == "in a row" else resumed * 2
    log = [(raw(request_id=str(ms), ended_at=ms), ms) for ms in times]
    found = found_in(log, by_sender)
    assert (sum(found), len(found)) == (20, 640)


@pytest.mark.parametrize("by_sender", [False, True])
def test_copies_in_a_partition_with_little_traffic_count_once(by_sender: bool) -> None:
    """Each record of an event every 20 minutes moves the watermark by more than a part."""
    times = [NOW + 20 * MINUTE_MS * (at // 2) for at in range(200)]
    log = [(raw(request_id=str(ms), ended_at=ms), ms) for ms in times]
    assert found_in(log, by_sender) == [False, True] * 100


@pytest.mark.parametrize("by_sender", [False, True])
def test_a_batch_that_is_reported_at_every_poll_counts_once(by_sender: bool) -> None:
    """The first poll is the first traffic after a night; other requests come between the polls."""
    evening = [NOW + 1_000 * at for at in range(100)]
    morning_ms = evening[-1] + 600 * MINUTE_MS
    batch = [(f"batch {at}", morning_ms - 300 * MINUTE_MS + at) for at in range(1_000)]
    log = [(str(ms), ms) for ms in evening]
    for poll in range(3):
        live_ms = [morning_ms + 5 * MINUTE_MS * poll + 1_000 * at for at in range(50)]
        log += batch + [(str(ms), ms) for ms in live_ms]
    stamped = [(raw(request_id=name, ended_at=ms), morning_ms + 15 * MINUTE_MS) for name, ms in log]
    found = found_in(stamped, by_sender)
    assert len(found) == len(log)
    assert sum(found) == 2 * len(batch)


# --- restarts ------------------------------------------------------------------------------------


def restarted(
    log: list[tuple[tuple[int, int], int]],
    at: int,
    window_ms: int,
    max_ids: int,
    lived: Deduplicator,
) -> Deduplicator:
    """What knows the first `at` records of a log only from reading some of them again."""
    fresh = Deduplicator(window_ms, max_ids, lived.dump(), None)
    settled_ms = max((ms for _, ms in log[:at]), default=-1)
    watermark_ms = settled_ms if settled_ms >= 0 else None
    # Without the bound of `read_from`, which forgets ids beyond the limit in another order.
    since = fresh._horizon.since(watermark_ms)
    if since is not None:
        fresh.remember(np.arange(since, at), batch_of(log, since, at), watermark_ms)
    return fresh


@settings(max_examples=200)
@given(arrivals(), WINDOWS, LIMITS | st.just(PLENTY), st.integers(0, 60), CUTS)
def test_after_a_restart_the_verdicts_are_those_of_one_that_lived_through_it_all(
    log: list[tuple[tuple[int, int], int]], window_ms: int, max_ids: int, at: int, cuts: list[int]
) -> None:
    at = min(at, len(log))
    lived = Deduplicator(window_ms, max_ids, {}, None)
    for start, end in pairwise(sorted({0, *(min(cut, at) for cut in cuts), at})):
        lived.find_duplicates(np.arange(start, end), batch_of(log, start, end))
    fresh = restarted(log, at, window_ms, max_ids, lived)
    offsets, rest = np.arange(at, len(log)), batch_of(log, at, len(log))
    expected = lived.find_duplicates(offsets, rest).tolist()
    assert fresh.find_duplicates(offsets, rest).tolist() == expected
    assert len(fresh.ids) == len(lived.ids)
    assert fresh.dump() == lived.dump()


def test_what_is_read_again_is_little_more_than_the_window() -> None:
    horizon, window_ms = ReplayHorizon(10 * MINUTE_MS), 10 * MINUTE_MS
    for minute in range(600):
        times = NOW + minute * MINUTE_MS + np.arange(60) * 1_000
        horizon.add(1_000 * minute + np.arange(60), times)
        assert len(horizon.dump()) <= 19
    last_ms = int(times[-1])
    since = horizon.since(last_ms)
    assert since is not None
    read_ms = last_ms - (NOW + since // 1_000 * MINUTE_MS + since % 1_000 * 1_000)
    assert window_ms <= read_ms <= window_ms + window_ms // 7
    assert horizon.since(last_ms + 2 * window_ms) is None


def test_records_read_again_without_a_stored_part_are_out_of_the_window() -> None:
    assert ReplayHorizon(600_000).arrivals_ms(np.array([7, 8])).tolist() == [0, 0]


@pytest.mark.parametrize(("before", "after"), [(600_000, 60_000), (60_000, 600_000)])
def test_a_horizon_survives_a_change_of_the_window(before: int, after: int) -> None:
    times = NOW + np.arange(0, 2_000_000, 500)
    last_ms = int(times[-1])
    old = ReplayHorizon(before)
    old.add(np.arange(len(times)), times)
    new = ReplayHorizon(after)
    new.load(old.dump())
    since = new.since(last_ms)
    assert since is not None
    assert times[since] <= last_ms - min(before, after)  # knows all that both windows hold
    ahead = last_ms + 2 * after
    new.add(np.array([len(times)]), np.array([ahead]))
    assert new.since(ahead) == len(times)  # and nothing of the old stays for ever


def test_records_from_before_the_watermark_was_settled_arrive_with_it_in_any_state() -> None:
    """A state of an older version has the first of them; one of this version the one after."""
    window_ms = 600_000
    step_ms = arrival_step_ms(window_ms)
    begin_ms = NOW // step_ms * step_ms
    of_older = {-1: 5, begin_ms + step_ms - 1: 21}
    older = ReplayHorizon(window_ms)
    older.load(of_older)
    newer = ReplayHorizon(window_ms)
    newer.load(older.dump())
    for horizon in (older, newer):
        assert horizon.since(NOW) == 5
        assert horizon.settled_at == 21
        assert horizon.arrivals_ms(np.array([5, 20, 21])).tolist() == [begin_ms] * 3


def test_a_part_at_the_begin_of_1970_is_one_like_others() -> None:
    horizon = ReplayHorizon(600_000)
    horizon.add(np.array([5]), np.array([50]))
    horizon.add(np.array([6]), np.array([1_000_000_000]))
    assert horizon.since(1_000_000_000) == 6


# --- a watermark that is set back ----------------------------------------------------------------


@settings(max_examples=200)
@given(arrivals(), arrivals(), WINDOWS, CUTS, st.sampled_from([1, 40, 900, 50_000, 86_400_000]))
def test_after_the_watermark_was_set_back_ids_are_as_old_as_before_also_after_a_restart(
    before: list[tuple[tuple[int, int], int]],
    after: list[tuple[tuple[int, int], int]],
    window_ms: int,
    cuts: list[int],
    back_ms: int,
) -> None:
    from_ms, count = max((ms for _, ms in before), default=-1), len(before)
    if from_ms < 0:
        return
    to_ms = from_ms - back_ms
    lived = Deduplicator(window_ms, PLENTY, {}, None)
    for start, end in pairwise(sorted({0, *(min(cut, count) for cut in cuts), count})):
        lived.find_duplicates(np.arange(start, end), batch_of(before, start, end))
    shift_ms = lived.set_back(from_ms, to_ms, count)
    assert back_ms <= shift_ms < back_ms + arrival_step_ms(window_ms)
    fresh = Deduplicator(
        window_ms, PLENTY, lived.dump(), SetBack("", from_ms, to_ms, count, shift_ms)
    )
    since = fresh.read_from(to_ms, count)
    again = batch_of(before, since, count)
    fresh.remember(np.arange(since, count), again, to_ms)
    rest = [(one, to_ms + max(0, ms - 100_000)) for one, ms in after]
    moved = [(one, -1 if ms < 0 else ms - shift_ms) for one, ms in before]
    log = [*as_arrivals(moved), *as_arrivals(rest, to_ms)]
    expected = find_duplicates(log, window_ms, count)[count:]
    offsets = np.arange(count, count + len(rest))
    for deduplicator in (lived, fresh):
        found = deduplicator.find_duplicates(offsets, batch_of(rest, 0, len(rest), to_ms))
        assert found.tolist() == expected
    assert fresh.dump() == lived.dump()


@pytest.mark.parametrize("back_ms", [1, 200_000, 7_000_000])
def test_ids_at_the_edge_of_the_window_are_known_after_the_watermark_was_set_back(
    back_ms: int,
) -> None:
    window_ms, start_ms = 1_800_000, 1_000 * arrival_step_ms(1_800_000)
    for edge_ms in range(-4_000, 4_001, 100):
        at_ms = start_ms + window_ms + arrival_step_ms(window_ms) + edge_ms
        log = [((1, 1), start_ms), ((2, 2), at_ms)]
        deduplicator = Deduplicator(window_ms, PLENTY, {}, None)
        deduplicator.find_duplicates(np.arange(2), batch_of(log, 0, 2))
        shift_ms = deduplicator.set_back(at_ms, at_ms - back_ms, 2)
        log = [(one, ms - shift_ms) for one, ms in log] + [((1, 1), at_ms - shift_ms)]
        found = deduplicator.find_duplicates(np.array([2]), batch_of(log, 2, 3))
        assert found.tolist() == defined_by_arrival(log, window_ms)[2:], edge_ms


def test_a_watermark_set_back_twice_within_the_window_forgets_the_ids() -> None:
    ids = [(1, 1), (2, 2), (3, 3)]
    deduplicator = Deduplicator(600_000, PLENTY, {}, None)
    log = [(ids[0], NOW), (ids[1], NOW - 50_000), (ids[2], NOW - 90_000)]
    for at, (from_ms, is_known) in enumerate([(NOW, True), (NOW - 50_000, False)]):
        deduplicator.find_duplicates(np.array([at]), batch_of(log, at, at + 1))
        shift_ms = deduplicator.set_back(from_ms, log[at + 1][1], at + 1)
        assert (shift_ms > 0) is is_known
        assert (len(deduplicator.ids) > 0) is is_known
    assert deduplicator.dump() == {}
