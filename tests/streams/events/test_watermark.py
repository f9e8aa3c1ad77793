"""The watermark follows the partition and no single clock, however its log is cut."""

import itertools
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.events.watermark import BEGIN, JUMP_MS, NEEDED_MAX, Course, Watermark, advance

HORIZON_MS = 32 * 86_400_000
NOW_MS = 1_780_000_000_000
YEAR_2100_MS = 4_102_444_800_000
REQUEST_IDS = itertools.count(1)  # no request comes again
STEADY_MS = [NOW_MS + 1_000 * at for at in range(50)]


def course_of(
    times_ms: Sequence[int],
    watermark: Watermark | None = None,
    by_sender: Sequence[bool] | None = None,
    request_ids: Sequence[int] | None = None,
) -> Course:
    """Return the watermark along these events, which senders stamped if not given.

    `request_ids`: of a request each if not given.
    """
    marks = [True] * len(times_ms) if by_sender is None else by_sender
    ids = ids_of(len(times_ms)) if request_ids is None else np.array(request_ids, np.uint64)
    return advance(
        watermark or Watermark(),
        np.array(times_ms, np.int64),
        np.array(marks, np.bool_),
        HORIZON_MS,
        ids,
    )


def ids_of(count: int) -> npt.NDArray[np.uint64]:
    """Return the ids of requests that come once."""
    return np.fromiter(itertools.islice(REQUEST_IDS, count), np.uint64, count)


def after(times_ms: Sequence[int], watermark: Watermark | None = None) -> Watermark:
    """Return the state after these events of senders' clocks."""
    return course_of(times_ms, watermark).last


class Definition:
    """The watermark by the words of its definition, event by event."""

    def __init__(self) -> None:
        self.time_ms, self.anchor_ms, self.newest_ms = -1, -1, []  # type: int, int, list[int]
        self.seen = [(-1, False)]
        self.unconfirmed: list[int] = []

    def take(self, end_ms: int, own: bool, request_id: int) -> None:
        """Advance by one event."""
        is_in_time = self.time_ms - end_ms <= HORIZON_MS and self.anchor_ms - end_ms <= JUMP_MS
        is_ahead = self.anchor_ms < 0 or (is_in_time and end_ms - self.anchor_ms > JUMP_MS)
        if own and is_ahead:
            if request_id in self.unconfirmed:
                self.seen.append((self.time_ms, self.anchor_ms >= 0))
                return
            self.unconfirmed = [*self.unconfirmed, request_id][-64:]
        if not own:
            self.time_ms = end_ms if self.anchor_ms < 0 else max(self.time_ms, end_ms)
            self.anchor_ms = max(self.anchor_ms, end_ms)
        elif self.anchor_ms < 0:
            self.newest_ms.append(end_ms)
            ranked = sorted(self.newest_ms)
            base_ms = ranked[(len(ranked) - 1) // 2]
            if len(ranked) == BEGIN:
                base_ms = self.anchor_ms = ranked[BEGIN // 4]
                self.unconfirmed = []
            self.time_ms = max(at for at in ranked if at - base_ms <= JUMP_MS)
        elif is_in_time:
            self.newest_ms = [*self.newest_ms, end_ms][-64:]
            if end_ms - self.anchor_ms > JUMP_MS:
                self._confirm()
                if end_ms - self.anchor_ms <= JUMP_MS:
                    self.unconfirmed = []
            if end_ms - self.anchor_ms <= JUMP_MS:
                self.time_ms = max(self.time_ms, end_ms)
            self.time_ms = max(self.time_ms, self.anchor_ms)
        self.seen.append((self.time_ms, self.anchor_ms >= 0))

    def _confirm(self) -> None:
        needed = BEGIN
        if len(self.newest_ms) >= BEGIN:
            near = max(
                sum(0 <= other_ms - at_ms <= JUMP_MS for other_ms in self.newest_ms)
                for at_ms in self.newest_ms
            )
            needed = sorted((3, near, NEEDED_MAX))[1]
        if len(self.newest_ms) >= needed:
            # One in eight of many may be late.
            row = sorted(self.newest_ms[-needed:])
            self.anchor_ms = max(self.anchor_ms, row[needed // 8 if needed >= BEGIN else 0])


steps = st.one_of(
    st.integers(0, 60_000),
    st.integers(-3_600_000, 3_600_000),
    st.sampled_from([JUMP_MS, JUMP_MS + 1, YEAR_2100_MS - NOW_MS, -HORIZON_MS - 1, 5 * JUMP_MS]),
)
stamps = st.sampled_from(["sender", "broker", "both"])


@given(
    st.lists(steps, max_size=120),
    st.lists(st.integers(0, 120), max_size=4),
    st.booleans(),
    stamps,
    st.sampled_from([1, 3, 40, 10**6]),
)
def test_it_follows_its_definition_however_the_log_is_cut(
    offsets: list[int], cuts: list[int], drifting: bool, stamped: str, requests: int
) -> None:
    times_ms, at_ms = [], NOW_MS
    for offset in offsets:
        times_ms.append(max(at_ms + offset, 0))
        at_ms += min(abs(offset), 2 * JUMP_MS) if drifting else 1_000
    own = [stamped == "sender" or (stamped == "both" and at % 3 > 0) for at in range(len(times_ms))]
    definition = Definition()
    ids = [at * at % requests for at in range(len(times_ms))]
    for time_ms, is_own, request_id in zip(times_ms, own, ids, strict=True):
        definition.take(time_ms, is_own, request_id)
    watermark, seen = Watermark(), [(-1, False)]
    edges = [0, *sorted(min(cut, len(times_ms)) for cut in cuts), len(times_ms)]
    for start, end in pairwise(edges):
        course = course_of(times_ms[start:end], watermark, own[start:end], ids[start:end])
        assert course.time_ms[0] == seen[-1][0]
        for at, time in enumerate(course.time_ms[1:].tolist(), 1):
            seen.append((time, at >= course.settled_at))
        settled = [time if is_settled else -1 for time, is_settled in seen[start + 1 : end + 1]]
        assert course.arrived_ms.tolist() == settled
        watermark = course.last
    assert seen == definition.seen
    assert (np.diff([time for time, is_settled in seen if is_settled]) >= 0).all()


def test_without_senders_clocks_it_is_the_latest_end() -> None:
    times_ms = [NOW_MS, NOW_MS + 9 * JUMP_MS, NOW_MS + 30_000, NOW_MS + 90 * JUMP_MS]
    for marks in (None, np.zeros(4, np.bool_)):
        course = advance(Watermark(), np.array(times_ms), marks, HORIZON_MS, ids_of(4))
        assert course.time_ms.tolist() == [-1, *np.maximum.accumulate(times_ms)]
        assert course.last == Watermark.at(times_ms[-1])._replace(since_ms=NOW_MS)


def test_events_in_the_usual_order_move_it_to_the_latest_end() -> None:
    assert after(STEADY_MS).time_ms == STEADY_MS[-1]
    for size in range(1, 20):
        assert after(STEADY_MS[:size]).time_ms == STEADY_MS[size - 1]


@pytest.mark.parametrize("pause_ms", [1_000, 60_000, 600_000, 3_600_000])
def test_an_event_of_the_year_2100_moves_nothing_however_often_it_is_sent(pause_ms: int) -> None:
    """A gateway that reports a line at every poll has a wrong clock."""
    honest_ms = [NOW_MS + pause_ms * at for at in range(50)]
    honest = after(honest_ms)
    wild = course_of([YEAR_2100_MS] * 100, honest, request_ids=[7] * 100)
    assert wild.time_ms.max() <= honest_ms[-1]
    later_ms = [YEAR_2100_MS, honest_ms[-1] + pause_ms]
    assert course_of(later_ms, wild.last, request_ids=[7, 8]).time_ms.max() <= later_ms[1]


def test_a_log_that_begins_with_one_event_of_the_year_2100_again_and_again_comes_back() -> None:
    begun = course_of([YEAR_2100_MS] * 100, request_ids=[7] * 100)
    assert begun.last.settled_ms is None
    assert after(STEADY_MS, begun.last).settled_ms == STEADY_MS[-1]


def test_one_event_of_the_year_2100_moves_nothing() -> None:
    assert after([*STEADY_MS, YEAR_2100_MS]).time_ms == STEADY_MS[-1]
    assert after([*STEADY_MS, YEAR_2100_MS, STEADY_MS[-1] + 1]).time_ms == STEADY_MS[-1] + 1


@pytest.mark.parametrize("wrong", [1, 2, 7])
def test_a_log_that_begins_with_the_year_2100_comes_back(wrong: int) -> None:
    begin = after([YEAR_2100_MS] * wrong)
    assert (begin.time_ms, begin.settled_ms) == (YEAR_2100_MS, None)
    steady = after(STEADY_MS[:-wrong], begin)
    assert steady.settled_ms == STEADY_MS[-wrong - 1]


@pytest.mark.parametrize("share", [0.01, 0.1, 0.3])
@pytest.mark.parametrize("step_ms", [600_000, 3_600_000])
def test_a_minority_of_wrong_clocks_never_carries_it_away(share: float, step_ms: int) -> None:
    random = np.random.default_rng(7)
    honest_ms = NOW_MS + np.arange(100_000) * 500
    wrong = random.random(len(honest_ms)) < share
    # Clocks that are wrong by little must not carry it on step by step.
    times_ms = np.where(wrong, honest_ms + step_ms * random.integers(1, 99, len(wrong)), honest_ms)
    course = course_of(times_ms.tolist())
    newest_ms = np.maximum.accumulate(np.where(wrong, 0, honest_ms))
    settled = slice(course.settled_at, None)
    assert (course.time_ms[1:] - newest_ms)[settled].max() <= JUMP_MS
    assert course.time_ms[-1] >= honest_ms[~wrong].max()


def test_after_an_idle_time_three_events_suffice_on_a_quiet_partition() -> None:
    quiet = after([NOW_MS + 3_600_000 * at for at in range(20)])
    monday_ms = NOW_MS + 90 * 3_600_000
    early = after([monday_ms, monday_ms + 1], quiet).time_ms
    assert early is not None
    assert early < monday_ms
    assert after([monday_ms, monday_ms + 1, monday_ms + 2], quiet).time_ms == monday_ms + 2


def test_after_an_idle_time_a_busy_partition_needs_more() -> None:
    busy = after(STEADY_MS * 3)
    later_ms = NOW_MS + 7_200_000
    assert after([later_ms] * (NEEDED_MAX - NEEDED_MAX // 8 - 1), busy).time_ms == busy.time_ms
    assert after([later_ms] * (NEEDED_MAX - NEEDED_MAX // 8), busy).time_ms == later_ms


def test_late_events_neither_confirm_nor_interrupt() -> None:
    quiet = after([NOW_MS + 3_600_000 * at for at in range(20)])
    assert quiet.time_ms is not None
    later_ms = quiet.time_ms + 7_200_000
    for late_ms in (quiet.time_ms - 86_400_000, quiet.time_ms - HORIZON_MS - 1):
        assert after([later_ms, late_ms, later_ms, late_ms, later_ms], quiet).time_ms == later_ms


def test_a_broker_that_begins_to_stamp_settles_it() -> None:
    begin = after([YEAR_2100_MS, NOW_MS])
    assert begin.settled_ms is None
    assert course_of([NOW_MS + 5], begin, [False]).last.settled_ms == NOW_MS + 5


@pytest.mark.parametrize("wrong_ms", [-400 * 86_400_000, 9 * 86_400_000, 74 * 366 * 86_400_000])
def test_a_wrong_clock_at_the_begin_does_not_say_since_when_events_are_counted(
    wrong_ms: int,
) -> None:
    honest_ms = [NOW_MS + at * 1_000 for at in range(BEGIN + 4)]
    times_ms = np.array([NOW_MS + wrong_ms, *honest_ms])
    by_sender = np.full(len(times_ms), True)
    for seen in range(3, len(times_ms) + 1):
        course = advance(Watermark(), times_ms[:seen], by_sender[:seen], HORIZON_MS, ids_of(seen))
        assert course.last.since_ms == NOW_MS
