"""Duplicates by their definition, over restarts, and apart from what counts."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streams.state.slices import (
    DUPLICATE_KEY,
    Aggregate,
    duplicates_of,
    rejection_counts,
    rejections_by_reason,
)
from streams.worker.dedup_window import MAX_WINDOW_MS, DedupWindow
from streams.worker.deduplication import ArrivalWindow, ReplayHorizon, deduplicate
from tests.support import oracle
from tests.support.aggregates import parts_of
from tests.support.event_samples import EVENT, NOW, judge, raw, rows
from tests.support.oracle import is_duplicate

MINUTE_MS = 60_000
PLENTY = 1 << 40

PART_MS = 32  # of short windows

# Hashes that share their place in the table, or one half, are different ids all the same.
IDS = st.sampled_from([(low, high) for low in (0, 1, 2**63) for high in (0, 1, 1 << 40, 2**64 - 1)])
TIMES = st.integers(0, 400) | st.integers(0, 4_000) | st.sampled_from([100_000, 100_100])
ANY_ORDER = st.lists(st.tuples(IDS, TIMES), max_size=40)


@st.composite
def rising(draw: Callable[..., Any]) -> list[tuple[tuple[int, int], int]]:
    """A log of events that end one after the other, some of them told late."""
    log, now_ms = [], 0
    for one, later_ms, late_ms in draw(
        st.lists(st.tuples(IDS, st.integers(0, 90), st.sampled_from([0, 0, 0, 40, 200])))
    ):
        now_ms += later_ms
        log.append((one, max(0, now_ms - late_ms)))
    return log


LOGS = ANY_ORDER | rising()
WINDOWS = st.sampled_from([1, 31, 100, 300, 2_000])
LIMITS = st.integers(1, 8)
CUTS = st.lists(st.integers(0, 40), max_size=4)


def columns(
    log: list[tuple[tuple[int, int], int]], watermark_ms: int = -1
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """request, ended_at_ms and watermark_ms as decoding gives them."""
    times = np.array([at for _, at in log], np.int64)
    found = np.maximum.accumulate(np.concatenate(([watermark_ms], times)))
    request = np.array([one for one, _ in log], np.uint64).reshape(-1, 2)
    return request, times, found[:-1]


def verdicts(
    seen: DedupWindow,
    log: list[tuple[tuple[int, int], int]],
    cuts: list[int] | range | tuple[Any, ...] = (),
) -> list[bool]:
    """Judge a log in batches."""
    request, times, found = columns(log)
    edges = sorted({0, *(min(cut, len(log)) for cut in cuts), len(log)})
    judged = []
    for start, end in zip(edges, [*edges[1:], len(log)], strict=True):
        part = slice(start, end)
        judged += seen.find_duplicates(request[part], times[part], found[part]).tolist()
    return judged


def one_by_one(seen: DedupWindow, log: list[tuple[tuple[int, int], int]]) -> list[bool]:
    return verdicts(seen, log, range(len(log)))


def defined(log: list[tuple[tuple[int, int], int]], window_ms: int) -> list[bool]:
    """The definition, word for word."""
    found, watermark = [], -1
    for at, (one, ended_at) in enumerate(log):
        found.append(watermark >= 0 and is_duplicate(log[:at], one, watermark, window_ms))
        watermark = max(watermark, ended_at)
    return found


def limited(log: list[tuple[tuple[int, int], int]], window_ms: int, max_ids: int) -> list[bool]:
    """The same where whole parts of event time are forgotten, oldest first, beyond a limit."""
    found, watermark, floor = [], -1, 0
    latest: dict[tuple[int, int], int] = {}
    for one, ended_at in log:
        known = latest.get(one, -1)
        found.append(known > watermark - window_ms and known >= floor * PART_MS and known >= 0)
        latest[one] = max(known, ended_at)
        watermark = max(watermark, ended_at)
        while sum(at >= floor * PART_MS for at in latest.values()) > max_ids:
            floor += 1
    return found


# --- the definition ------------------------------------------------------------------------------


@given(LOGS, WINDOWS, CUTS)
def test_a_duplicate_is_what_the_definition_says_however_the_log_is_cut(
    log: list[tuple[tuple[int, int], int]], window_ms: int, cuts: list[int]
) -> None:
    assert verdicts(DedupWindow(window_ms, PLENTY), log, cuts) == defined(log, window_ms)


def test_an_id_is_known_up_to_the_last_millisecond_of_the_window() -> None:
    a, b = (1, 1), (2, 2)
    for age_ms, known in ((9_999, True), (10_000, False)):
        log = [(a, 50_000), (b, 50_000 + age_ms), (a, 50_000 + age_ms)]
        assert verdicts(DedupWindow(10_000, PLENTY), log) == [False, False, known]
        assert one_by_one(DedupWindow(10_000, PLENTY), log) == [False, False, known]


def test_a_duplicate_keeps_its_id_known_if_its_event_ended_later() -> None:
    a = (7, 7)
    log = [(a, 0), (a, 600), (a, 1_200), (a, 1_200), ((8, 8), 2_300), (a, 1_000)]
    assert verdicts(DedupWindow(1_000, PLENTY), log) == [False, True, True, True, False, False]


def test_a_late_event_beyond_the_window_is_judged_but_not_remembered() -> None:
    a, b = (1, 1), (2, 2)
    log = [(a, 100_000), (b, 50_000), (b, 50_000), (a, 50_000)]
    seen = DedupWindow(10_000, PLENTY)
    assert verdicts(seen, log) == [False, False, False, True]
    assert len(seen) == 1


def test_an_id_is_not_known_again_when_the_bits_of_its_time_come_round() -> None:
    a, round_ms, day_ms = (1, 1), 1 << 32, 86_400_000
    for between in ([], [((2, 2), NOW + 9 * day_ms * at) for at in range(1, 6)]):
        log = [(a, NOW), *between, ((3, 3), NOW + round_ms), (a, NOW + round_ms)]
        assert verdicts(DedupWindow(10 * day_ms, PLENTY), log)[-1] is False
        assert one_by_one(DedupWindow(10 * day_ms, PLENTY), log)[-1] is False
        assert verdicts(DedupWindow(10 * day_ms, PLENTY), log, [len(log) - 1])[-1] is False


def test_half_a_hash_is_not_an_id() -> None:
    log = [((1, 2), 9), ((1, 3), 9), ((3, 2), 9), ((2, 1), 9), ((1, 2), 9)]
    assert verdicts(DedupWindow(100, PLENTY), log) == [False, False, False, False, True]
    assert one_by_one(DedupWindow(100, PLENTY), log) == [False, False, False, False, True]


# --- the limit -----------------------------------------------------------------------------------


@given(LOGS, WINDOWS, LIMITS, CUTS)
@example([((0, 1), 100), ((0, 2), 0), ((0, 3), 200), ((0, 2), 90)], 300, 2, [3])
def test_beyond_the_limit_the_oldest_are_forgotten_the_same_for_every_cut(
    log: list[tuple[tuple[int, int], int]], window_ms: int, max_ids: int, cuts: list[int]
) -> None:
    whole, cut, single = (DedupWindow(window_ms, max_ids) for _ in range(3))
    expected = limited(log, window_ms, max_ids)
    assert verdicts(whole, log) == verdicts(cut, log, cuts) == one_by_one(single, log) == expected
    assert len(whole) == len(cut) == len(single) <= max_ids
    assert whole.forgotten == cut.forgotten == single.forgotten


def test_what_is_forgotten_is_counted() -> None:
    ids = [((at, at), 10_000 + 100 * at) for at in range(10)]
    seen = DedupWindow(5_000, 4)
    assert not any(verdicts(seen, ids))
    assert (len(seen), seen.forgotten) == (4, 6)
    late = [((99, 99), 10_050)]  # as old as what was forgotten: not remembered either
    request, times, _ = columns(late)
    assert not seen.find_duplicates(request, times, np.array([10_900])).any()
    assert (len(seen), seen.forgotten) == (4, 7)


def test_numbers_that_make_no_sense_are_named() -> None:
    with pytest.raises(ValueError, match="window_ms: got 0"):
        DedupWindow(0, 1)
    with pytest.raises(ValueError, match=f"window_ms: got {MAX_WINDOW_MS + 1}"):
        DedupWindow(MAX_WINDOW_MS + 1, 1)
    with pytest.raises(ValueError, match="max_ids: got 0"):
        DedupWindow(1, 0)


# --- arrival -------------------------------------------------------------------------------------


def batch_of(log: Sequence[tuple[tuple[int, int], int]], start: int, end: int) -> Any:
    """The columns that the windows read, of (id, arrival) pairs; -1: not settled."""
    part = log[start:end]
    return SimpleNamespace(
        request=np.array([one for one, _ in part], np.uint64).reshape(-1, 2),
        arrived_ms=np.array([at for _, at in part], np.int64),
    )


@st.composite
def arrivals(draw: Callable[..., Any]) -> list[tuple[tuple[int, int], int]]:
    """A log with rising arrivals; those of the first few events are not settled yet."""
    now_ms = 100_000
    log = []
    for one, later_ms in draw(
        st.lists(st.tuples(IDS, st.sampled_from([0, 0, 1, 40, 200, 5_000])), max_size=60)
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
    horizon: ReplayHorizon,
) -> tuple[ArrivalWindow, ReplayHorizon]:
    """What knows the first `at` records of a log only from reading some of them again."""
    window, again = ArrivalWindow(window_ms, max_ids), ReplayHorizon(window_ms)
    again.load(horizon.dump())
    settled_ms = max((ms for _, ms in log[:at]), default=-1)
    since = again.since(settled_ms if settled_ms >= 0 else None)
    if since is not None:
        request = batch_of(log, since, at).request
        arrivals_ms = again.arrivals_ms(np.arange(since, at))
        window.remember(request, arrivals_ms, settled_ms if settled_ms >= 0 else None)
    return window, again


@settings(max_examples=200)
@given(arrivals(), WINDOWS, LIMITS | st.just(PLENTY), st.integers(0, 60), CUTS)
def test_after_a_restart_the_verdicts_are_those_of_one_that_lived_through_it_all(
    log: list[tuple[tuple[int, int], int]], window_ms: int, max_ids: int, at: int, cuts: list[int]
) -> None:
    at = min(at, len(log))
    lived, horizon = ArrivalWindow(window_ms, max_ids), ReplayHorizon(window_ms)
    for start, end in pairwise(sorted({0, *(min(cut, at) for cut in cuts), at})):
        batch = batch_of(log, start, end)
        horizon.add(np.arange(start, end), batch.arrived_ms)
        lived.find_duplicates(batch)
    fresh, again = restarted(log, at, window_ms, max_ids, horizon)
    rest = batch_of(log, at, len(log))
    expected = lived.find_duplicates(rest).tolist()
    assert fresh.find_duplicates(rest).tolist() == expected
    assert len(fresh.ids) == len(lived.ids)
    offsets = np.arange(at, len(log))
    horizon.add(offsets, rest.arrived_ms)
    again.add(offsets, rest.arrived_ms)
    assert again.dump() == horizon.dump()


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


# --- set apart from what counts ------------------------------------------------------------------


def test_the_names_of_a_duplicate_leave_no_trace() -> None:
    log = [
        raw(region="a", customer_id="x"),
        raw(region="b", customer_id="y", ended_at=NOW + 5),
        raw(region="c", customer_id="x"),
        raw(region="b", customer_id="z"),
        raw(region="a", customer_id="y"),
    ]
    decoded = judge(log, watermark_ms=9)
    apart = deduplicate(decoded, np.array([True, False, False, True, False]))
    assert rows(apart) == [rows(decoded)[at] for at in (1, 2, 4)]
    assert [region for _, region, *_ in apart.columns.series] == ["b", "c", "a"]
    assert [customer for customer, _ in apart.columns.customers] == ["y", "x"]
    assert apart.duplicates_ms.tolist() == [9, NOW + 5]
    assert apart.watermark_ms == decoded.watermark_ms
    assert apart.columns.request.tolist() == decoded.columns.request[[1, 2, 4]].tolist()
    assert decoded.duplicates_ms.tolist() == []


def test_a_batch_without_duplicates_stays_what_it_is() -> None:
    decoded = judge([raw(), b"", raw()])
    assert deduplicate(decoded, np.zeros(2, np.bool_)) is decoded
    nothing = deduplicate(decoded, np.ones(2, np.bool_))
    assert (rows(nothing), nothing.columns.series, nothing.columns.customers) == ([], [], [])
    assert nothing.rejections == decoded.rejections


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), TIMES, st.sampled_from("xy")), max_size=20))
def test_a_duplicate_is_counted_as_one_and_as_nothing_else(
    told: list[tuple[str, int, str]],
) -> None:
    log = [
        (EVENT | {"request_id": name, "ended_at": NOW + at, "region": region}, NOW + at)
        for name, at, region in told
    ]
    decoded = oracle.judge(log)
    columns = decoded.columns
    apart = deduplicate(decoded, ArrivalWindow(300, PLENTY).find_duplicates(columns))
    columns = apart.columns
    parts = parts_of(columns)
    aggregate = Aggregate.merged(
        [*(part for _, part in parts), rejection_counts({}, len(apart.duplicates_ms))]
    )
    expected = oracle.recount(log, window_ms=300).everything()
    assert oracle.readable(aggregate, columns.series, columns.customers) == expected


def test_duplicates_are_tallied_beside_the_reasons() -> None:
    aggregate = rejection_counts({"not_json": 3}, duplicates=2)
    assert (rejections_by_reason(aggregate), duplicates_of(aggregate)) == ({"not_json": 3}, 2)
    assert rejection_counts({}, duplicates=1).rejected.keys.tolist() == [DUPLICATE_KEY]
    assert (rejections_by_reason(rejection_counts({})), duplicates_of(rejection_counts({}))) == (
        {},
        0,
    )
