"""The range of a report that its question leaves open, and what lies after the watermark."""

from collections.abc import Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from streams.query.instants import rfc3339
from streams.query.report import STEPS_MAX, Question, build, choose_range, combine
from streams.state.slices import SliceId
from streams.store.heartbeat import Heartbeat
from streams.store.reader import PartitionView
from tests.support.oracle import judge
from tests.support.reports import view_of
from tests.support.shelf import (
    DAY_S,
    HOUR_S,
    NOON,
    Shelf,
    checkpoint,
    loaded,
    plain,
    shelf_after,
)

YEAR_2100_S = 4_102_444_800
BUSY = tuple(range(NOON, NOON + 100))


def stamped_by_sender(times_s: Sequence[int]) -> Shelf:
    """Count one event at each of these times, in a log whose timestamps are the senders'."""
    log = [plain(at_s, request_id=str(number)) for number, at_s in enumerate(times_s)]
    shelf = Shelf()
    state = loaded(shelf)
    for at in range(0, len(log), 10):
        decoded = judge(log[at : at + 10], state.watermark, by_sender=True)
        assert not decoded.rejections
        state.apply(decoded, min(at + 10, len(log)))
    checkpoint(state, shelf)
    return shelf


def report(shelf: Shelf, now_s: int, **asked: Any) -> dict[str, Any]:
    """Return the report of one partition at an instant."""
    view = view_of(shelf)
    question = Question(**asked)
    slices = {slice_id: shelf.aggregate(slice_id) for slice_id in view.index}
    range_ = choose_range(question, [view], now_s)
    return build(combine(question, range_, [(view, slices)], *shelf.names()))


def test_one_wild_event_in_a_quiet_partition_does_not_set_the_end() -> None:
    """Its watermark may still fall, as that of every log that senders stamp may at its begin."""
    shelf = shelf_after([plain(NOON + at) for at in range(40)])
    busy = view_of(shelf)
    year_2100_ms = YEAR_2100_S * 1_000
    meta = replace(busy.meta, watermark_ms=year_2100_ms, newest_ms=(year_2100_ms,), anchor_ms=None)
    quiet = PartitionView(1, 1, meta, {}, busy.totals)
    alone = choose_range(Question(), [busy], NOON)
    assert choose_range(Question(), [busy, quiet], NOON) == alone
    assert choose_range(Question(), [quiet], NOON).as_of_s == YEAR_2100_S


@pytest.mark.parametrize(("events", "pause_s"), [(10, 12 * HOUR_S), (20, DAY_S), (40, DAY_S)])
def test_every_request_of_a_sparse_log_is_in_the_report(events: int, pause_s: int) -> None:
    times_s = [NOON + number * pause_s for number in range(events)]
    shelf = stamped_by_sender(times_s)
    result = report(shelf, times_s[-1] + HOUR_S)
    assert result["total"]["requests"] == events
    assert result["later"] is None

    # The watermark is behind the last events: no other event confirms their times.
    settled_until = result["settled_until"]
    assert settled_until < rfc3339(times_s[-1])
    assert result["total"]["complete"] is False
    assert all(
        step["measures"]["complete"] is (step["start"] < settled_until) for step in result["steps"]
    )

    # An end that was asked for is obeyed, in the stretch after the watermark too.
    assert report(shelf, NOON, to_s=times_s[-1] + DAY_S)["total"]["requests"] == events
    last = report(shelf, times_s[-1], from_s=times_s[-1], to_s=times_s[-1] + 60)
    assert (last["total"]["requests"], last["total"]["complete"]) == (1, False)


def test_a_range_before_the_watermark_is_complete_as_before() -> None:
    shelf = stamped_by_sender([*BUSY, NOON + 3 * DAY_S])
    result = report(shelf, NOON + 100, to_s=NOON + 50, step_s=10)
    assert (result["total"]["requests"], result["total"]["complete"]) == (50, True)
    assert result["to"] == result["settled_until"] == rfc3339(NOON + 50)


def test_requests_of_a_clock_far_ahead_are_named_and_shown_on_request() -> None:
    shelf = stamped_by_sender([*BUSY, NOON + 3 * DAY_S])
    result = report(shelf, NOON + 100)
    # All are there, but the last step of five minutes is not over.
    assert (result["total"]["requests"], result["total"]["complete"]) == (100, False)
    assert result["later"] == {"requests": 1, "until": rfc3339(NOON + 3 * DAY_S + 10)}

    for asked in ({"to_s": NOON + 4 * DAY_S}, {"as_of_s": NOON + 4 * DAY_S}):
        shown = report(shelf, NOON + 100, **asked)
        assert (shown["total"]["requests"], shown["later"]) == (101, None)
    # Once that time has come, the event is no longer ahead.
    assert report(shelf, NOON + 4 * DAY_S)["total"]["requests"] == 101


LATER_S = NOON + DAY_S


def heartbeat(view: PartitionView, **fields: Any) -> Heartbeat:
    """Return the heartbeat of a worker that had read all at LATER_S, unless it says else."""
    read = {"at_ms": LATER_S * 1_000, "highwater": view.offset, "halted": ""}
    texts = {name: str(value) for name, value in (read | fields).items()}
    return Heartbeat(view.partition, texts)


def settled_s(step_s: int, views: list[PartitionView], *heartbeats: Heartbeat) -> int:
    return choose_range(Question(step_s=step_s), views, LATER_S, heartbeats).settled_s


def second(view: PartitionView) -> PartitionView:
    """Return a state as that of partition 1."""
    return PartitionView(1, view.offset, view.meta, view.index, view.totals)


def test_a_report_is_complete_up_to_the_partition_that_is_furthest_behind() -> None:
    ahead, behind = (view_of(shelf_after([plain(NOON + at) for at in range(n)])) for n in (900, 40))
    views = [ahead, second(behind)]
    assert settled_s(10, views) == NOON + 30
    # Its worker has read all records: no more will come for the time before the heartbeat.
    at_ms = (NOON + 600) * 1_000
    assert settled_s(10, views, heartbeat(views[1], at_ms=at_ms)) == NOON + 600
    halted = heartbeat(views[1], at_ms=at_ms, halted="POISONED")
    assert settled_s(10, views, halted) == NOON + 30


def test_a_partition_that_is_behind_within_a_long_step_is_not_complete() -> None:
    ahead, behind = (view_of(shelf_after([plain(NOON + at) for at in range(n)])) for n in (900, 40))
    views = [ahead, second(behind)]
    range_ = choose_range(Question(step_s=DAY_S), views, LATER_S)
    assert range_.settled_s == range_.from_s


def test_a_partition_without_a_settled_time_counts_until_its_records_are_read() -> None:
    busy = view_of(shelf_after([plain(NOON + at) for at in range(900)]))
    few = second(view_of(stamped_by_sender([NOON])))
    views = [busy, few]
    assert settled_s(10, views, heartbeat(busy), heartbeat(few)) == NOON + 900
    for waiting in ({"highwater": 5_000}, {"halted": "POISONED"}):
        assert settled_s(10, views, heartbeat(busy), heartbeat(few, **waiting)) == NOON


def test_a_partition_without_a_state_counts_if_its_worker_has_records_of_it() -> None:
    busy = view_of(shelf_after([plain(NOON + at) for at in range(905)]))
    empty = {"at_ms": str(LATER_S * 1_000), "highwater": "0", "halted": ""}

    def beside(**fields: str) -> int:
        return settled_s(10, [busy], heartbeat(busy), Heartbeat(1, empty | fields))

    assert beside() == NOON + 910
    assert beside(at_ms=str((NOON + 300) * 1_000)) == NOON + 300
    # It is halted at its first record, or its first checkpoint is not written yet.
    assert beside(halted="dead_letters") == beside(highwater="7") == NOON
    assert settled_s(10, [busy], heartbeat(busy), Heartbeat(1, {})) == NOON


def test_the_step_of_a_halted_partition_is_not_complete() -> None:
    view = view_of(shelf_after([plain(NOON + at) for at in range(905)]))
    assert settled_s(300, [view], heartbeat(view)) == NOON + 1_200
    halted = heartbeat(view, highwater=5_000, halted="POISONED")
    assert settled_s(300, [view], halted) == NOON + 900


@pytest.mark.parametrize("step_s", [10, 300, HOUR_S])
def test_a_step_is_settled_once_it_is_over(step_s: int) -> None:
    view = view_of(shelf_after([plain(NOON + at) for at in range(905)]))
    for now_s in range(NOON, NOON + 1_300, 7):
        read = heartbeat(view, at_ms=now_s * 1_000)
        range_ = choose_range(Question(step_s=step_s), [view], now_s, [read])
        # Also with events whose senders' clocks are ahead of now.
        assert range_.settled_s <= max(now_s, range_.from_s)
        assert range_.settled_s == min(now_s // step_s * step_s, range_.to_s)


def test_nothing_is_complete_as_long_as_no_time_is_settled() -> None:
    result = report(stamped_by_sender([NOON]), NOON)
    assert result["settled_until"] == result["from"]
    assert (result["total"]["requests"], result["total"]["complete"]) == (1, False)


@pytest.mark.parametrize("offset_s", [0, 1])
def test_a_report_has_at_most_the_steps_that_the_error_names(offset_s: int) -> None:
    """A range that begins within a step has one step more than its length."""
    view = view_of(stamped_by_sender([*BUSY, NOON + 400 * DAY_S]))
    asked = Question(from_s=NOON + offset_s, to_s=NOON + STEPS_MAX * 300 + offset_s)
    range_ = choose_range(asked, [view], NOON)
    assert len(range_.starts) <= STEPS_MAX
    assert (range_.step_s == 300) is (offset_s == 0)


def test_an_event_years_ahead_makes_the_steps_longer_instead_of_an_error() -> None:
    wild_s = NOON + 10 * 365 * DAY_S
    view = view_of(stamped_by_sender([*BUSY, wild_s]))
    range_ = choose_range(Question(to_s=YEAR_2100_S), [view], NOON)
    assert range_.step_s == 17_280
    slices = [slice_id for _, step in sorted(range_.slices(view).items()) for slice_id in step]
    assert (slices[-1], len(slices)) == (SliceId(0, wild_s), len(set(slices)))
    assert {slice_id.start_s // 60 * 60 for slice_id in slices} == {NOON, NOON + 60, wild_s}
