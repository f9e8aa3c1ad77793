"""Duplicates by their arrival in the log, over cuts and restarts."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.state.set_back import SetBack
from streams.worker.deduplication import ArrivalWindow, Deduplicator, ReplayHorizon
from tests.support import oracle
from tests.support.event_samples import NOW, judge, raw

MINUTE_MS = 60_000
PLENTY = 1 << 40

IDS = st.sampled_from([(low, high) for low in (0, 1, 2**63) for high in (0, 1, 1 << 40, 2**64 - 1)])
WINDOWS = st.sampled_from([1, 31, 100, 300, 2_000, 1_800_000])
LIMITS = st.integers(1, 8)
CUTS = st.lists(st.integers(0, 40), max_size=4)


# --- arrival -------------------------------------------------------------------------------------


def batch_of(log: Sequence[tuple[tuple[int, int], int]], start: int, end: int) -> Any:
    """The columns that the windows read, of (id, arrival) pairs; -1: not settled."""
    part = log[start:end]
    return SimpleNamespace(
        request=np.array([one for one, _ in part], np.uint64).reshape(-1, 2),
        arrived_ms=np.array([at for _, at in part], np.int64),
        ended_at_ms=np.array([at for _, at in part], np.int64),
    )


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
    """The definition: the same id at most the window and a part before, or not settled yet."""
    step_ms = oracle.arrival_step_ms(window_ms)
    settled_ms = next((at for _, at in log if at >= 0), -1)
    found = []
    for place, (one, at) in enumerate(log):
        before = [settled_ms if ms < 0 else ms for other, ms in log[:place] if other == one]
        known = [ms for ms in before if ms - ms % step_ms > at - window_ms - step_ms]
        found.append(bool(before if at < 0 else known))
    return found


@given(arrivals(), WINDOWS, CUTS)
def test_an_id_is_known_for_the_window_after_it_arrived_however_the_log_is_cut(
    log: list[tuple[tuple[int, int], int]], window_ms: int, cuts: list[int]
) -> None:
    window = ArrivalWindow(window_ms, PLENTY)
    judged: list[bool] = []
    for start, end in pairwise(sorted({0, *(min(cut, len(log)) for cut in cuts), len(log)})):
        judged += window.find_duplicates(batch_of(log, start, end)).tolist()
    assert judged == defined_by_arrival(log, window_ms)


def test_an_id_is_known_at_least_for_the_window_and_at_most_one_part_longer() -> None:
    window_ms, a, b = 600_000, (1, 1), (2, 2)
    step_ms = oracle.arrival_step_ms(window_ms)
    for arrived_ms in range(NOW, NOW + step_ms, step_ms // 7):
        for age_ms, known in ((window_ms, True), (window_ms + step_ms + 1, False)):
            log = [(a, arrived_ms), (b, arrived_ms + age_ms), (a, arrived_ms + age_ms)]
            window = ArrivalWindow(window_ms, PLENTY)
            assert window.find_duplicates(batch_of(log, 0, 3)).tolist() == [False, False, known]


def test_when_the_events_ended_does_not_matter() -> None:
    """An event that ended long before the window and comes three times in a row counts once."""
    log = [raw(request_id="new", ended_at=NOW)]
    log += [raw(request_id="old", ended_at=NOW - 50_000)] * 3
    window = ArrivalWindow(10_000, PLENTY)
    assert window.find_duplicates(judge(log).columns).tolist() == [False, False, True, True]


def test_failed_attempts_and_the_answered_one_under_one_id_all_count() -> None:
    failed: dict[str, Any] = {"request_id": "a", "outcome": None, "status_code": 529}
    log = [
        raw(**failed, ended_at=NOW),
        raw(**failed, ended_at=NOW + 1_000),
        raw(request_id="a", ended_at=NOW + 6_000),
        raw(**failed, ended_at=NOW),  # sent again
        raw(request_id="a", ended_at=NOW + 9_000),  # reported again, with another end
    ]
    window = ArrivalWindow(10 * MINUTE_MS, PLENTY)
    found = window.find_duplicates(judge(log).columns).tolist()
    assert found == [False, False, False, True, True]


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
    assert back_ms <= shift_ms < back_ms + oracle.arrival_step_ms(window_ms)
    fresh = Deduplicator(
        window_ms, PLENTY, lived.dump(), SetBack("", from_ms, to_ms, count, shift_ms)
    )
    since = fresh.read_from(to_ms, count)
    again = batch_of(before, since, count)
    fresh.remember(np.arange(since, count), again, to_ms)
    rest = [(one, to_ms + max(0, ms - 100_000)) for one, ms in after]
    moved = [(one, -1 if ms < 0 else ms - shift_ms) for one, ms in before]
    expected = defined_by_arrival([*moved, *rest], window_ms)[count:]
    offsets = np.arange(count, count + len(rest))
    for deduplicator in (lived, fresh):
        found = deduplicator.find_duplicates(offsets, batch_of(rest, 0, len(rest)))
        assert found.tolist() == expected
    assert fresh.dump() == lived.dump()


@pytest.mark.parametrize("back_ms", [1, 200_000, 7_000_000])
def test_ids_at_the_edge_of_the_window_are_known_after_the_watermark_was_set_back(
    back_ms: int,
) -> None:
    window_ms, start_ms = 1_800_000, 1_000 * oracle.arrival_step_ms(1_800_000)
    for edge_ms in range(-4_000, 4_001, 100):
        at_ms = start_ms + window_ms + oracle.arrival_step_ms(window_ms) + edge_ms
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
