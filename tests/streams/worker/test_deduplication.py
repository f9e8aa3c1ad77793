"""Duplicates by their definition, over restarts, and apart from what counts."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streams.state.dedup_window import MAX_WINDOW_MS, DedupWindow
from streams.state.slices import (
    DUPLICATE_KEY,
    Aggregate,
    duplicates_of,
    rejection_counts,
    rejections_by_reason,
)
from streams.worker.deduplication import Deduplicator, deduplicate
from tests.support import oracle, oracle_counts
from tests.support.aggregates import parts_of
from tests.support.arrivals import is_duplicate
from tests.support.event_samples import EVENT, NOW, judge, raw, rows

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
    found = Deduplicator(300, PLENTY, {}, None).find_duplicates(columns.position, columns)
    apart = deduplicate(decoded, found)
    columns = apart.columns
    parts = parts_of(columns)
    aggregate = Aggregate.merged(
        [*(part for _, part in parts), rejection_counts({}, len(apart.duplicates_ms))]
    )
    expected = oracle.recount(log, window_ms=300).everything()
    assert oracle_counts.readable(aggregate, columns.series, columns.customers) == expected


def test_duplicates_are_tallied_beside_the_reasons() -> None:
    aggregate = rejection_counts({"not_json": 3}, duplicates=2)
    assert (rejections_by_reason(aggregate), duplicates_of(aggregate)) == ({"not_json": 3}, 2)
    assert rejection_counts({}, duplicates=1).rejected.keys.tolist() == [DUPLICATE_KEY]
    assert (rejections_by_reason(rejection_counts({})), duplicates_of(rejection_counts({}))) == (
        {},
        0,
    )


def test_parallel_attempts_under_one_id_are_counted_each_once() -> None:
    slower = raw(final=False, attempt_of="1", ended_at=NOW - 1)
    answered = raw(final=True, attempt_of="1", ended_at=NOW)
    again = raw(final=True, attempt_of="1", ended_at=NOW + 1)
    for log in ([slower, answered], [answered, slower]):
        columns = judge([*log, slower, again]).columns
        deduplicator = Deduplicator(300_000, PLENTY, {}, None)
        found = deduplicator.find_duplicates(columns.position, columns)
        assert found.tolist() == [False, False, True, True]
        assert columns.final.tolist() == [
            b'"final": true' in value for value in (*log, slower, again)
        ]
