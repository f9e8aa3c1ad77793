"""Many request ids: known through growth, in little memory."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from streams.state.dedup_window import DedupWindow
from tests.support.event_samples import NOW

MINUTE_MS = 60_000
PLENTY = 1 << 40


def traffic(
    rng: Any, count: int, share: float
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """Columns of `count` events, ever more a minute, of which some repeat an earlier one."""
    request = rng.integers(0, 2**64, (count, 2), np.uint64)
    times = NOW + (np.sqrt(np.arange(count)) * 4_000).astype(np.int64)
    times -= rng.integers(0, MINUTE_MS // 2, count)
    again = np.flatnonzero(rng.random(count) < share)
    back = rng.integers(0, 40_000, len(again))
    source = np.maximum(again - back, 0)
    request[again], times[again] = request[source], times[source]
    return request, times, np.maximum.accumulate(np.concatenate(([NOW - 1], times)))[:-1]


def known_by_dictionary(
    request: npt.NDArray[Any], times: npt.NDArray[Any], found: npt.NDArray[Any], window_ms: int
) -> list[bool]:
    latest: dict[bytes, int] = {}
    expected = []
    ids = [bytes(one) for one in request]
    for one, at, watermark in zip(ids, times.tolist(), found.tolist(), strict=True):
        known = latest.get(one, -1)
        expected.append(known > watermark - window_ms)
        latest[one] = max(known, at)
    return expected


@pytest.mark.parametrize("first_number", [0, 2**32 - 50_000])
def test_many_ids_are_known_through_growth_and_many_rounds_of_the_ring(first_number: int) -> None:
    window_ms = 2 * MINUTE_MS
    request, times, found = traffic(np.random.default_rng(1), 150_000, 0.2)
    seen, judged, start = DedupWindow(window_ms, PLENTY), [], 0
    seen._number = first_number  # rows are numbered modulo 2**32
    while start < len(times):
        part = slice(start, start := start + 1 + start % 4_096)
        judged += seen.find_duplicates(request[part], times[part], found[part]).tolist()
    expected = known_by_dictionary(request, times, found, window_ms)
    assert judged == expected
    assert 0.02 < np.mean(expected) < 0.2
    within = times > times.max() - window_ms
    assert 0 <= len(seen) - len(np.unique(request[within], axis=0)) < 0.01 * len(seen)


def fed(
    seen: DedupWindow, request: npt.NDArray[Any], times: npt.NDArray[Any], batch: int = 2_000
) -> None:
    watermark = seen._latest_ms
    for start in range(0, len(times), batch):
        part = slice(start, start + batch)
        found = np.maximum.accumulate(np.concatenate(([watermark], times[part])))
        assert not seen.find_duplicates(request[part], times[part], found[:-1]).any()
        watermark = int(found[-1])


def test_an_id_takes_some_thirty_bytes_and_gives_them_back() -> None:
    rng = np.random.default_rng(2)
    seen = DedupWindow(10 * MINUTE_MS, PLENTY)
    count = 300_000
    fed(seen, rng.integers(0, 2**64, (count, 2), np.uint64), NOW + np.arange(count) * 4)
    assert len(seen) == pytest.approx(150_000, rel=0.01)
    assert seen.size_bytes / len(seen) < 36
    peak = seen.size_bytes
    fed(seen, rng.integers(0, 2**64, (1, 2), np.uint64), np.array([NOW + 10**12]))
    assert (len(seen), seen.forgotten) == (1, 0)
    assert seen.size_bytes < peak / 5


def test_ids_that_come_again_and_again_take_no_memory() -> None:
    seen = DedupWindow(10 * MINUTE_MS, PLENTY)
    request = np.arange(200, dtype=np.uint64).reshape(100, 2)
    for at_ms in range(NOW, NOW + 5 * MINUTE_MS, 500):
        judged = seen.find_duplicates(request, np.full(100, at_ms), np.full(100, at_ms - 500))
        assert judged.tolist() == [at_ms > NOW] * 100
    assert len(seen) == 100
    assert seen.size_bytes < 300_000


def test_one_id_that_stays_does_not_keep_the_memory_of_all_that_left() -> None:
    rng = np.random.default_rng(3)
    window_ms = 10 * MINUTE_MS
    stays = np.array([[1, 1]], np.uint64)
    seen = DedupWindow(window_ms, PLENTY)
    fed(seen, stays, np.array([NOW]))
    late = NOW - window_ms // 2 + np.arange(200_000) // 1_000  # behind it, and out before it
    fed(seen, rng.integers(0, 2**64, (len(late), 2), np.uint64), late)
    peak = seen.size_bytes
    fed(seen, np.array([[2, 2]], np.uint64), np.array([NOW + window_ms - 1]))
    assert len(seen) == 2
    assert seen.size_bytes < peak / 5
    assert seen.find_duplicates(stays, np.array([NOW]), np.array([NOW + window_ms - 1])).all()
