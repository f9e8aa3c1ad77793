"""The watermark of a partition: how far its log has come in event time, whatever single clocks say.

Pure, and a function of the log alone: where the log is cut into batches changes nothing.

If the broker stamped a record (LogAppendTime), its event is at most `future_tolerance_s` ahead of
the broker's clock, and the watermark is the latest end. If the sender stamped it (CreateTime), the
sender's clock may be wrong, and with it both times. The watermark then follows the events that
other events confirm:

    anchor      the earliest of some successive events (of BEGIN and more, but for an eighth), so
                that one of them at least had a right clock. It only rises, and only if an event
                lies more than JUMP_MS after it
    watermark   the latest end so far that was at most JUMP_MS after the anchor

    event time ^                         x  wrong clock: no effect
               |                                               o o o   successive: resume
               |        o o  o
               |  o o  o    o  o                       (idle)
               +------------------------------------------------------> log

How many successive events are needed follows the partition's own rate: as many as its newest events
hold within JUMP_MS of one another, at least NEEDED_MIN, so that a quiet partition resumes soon,
and at most NEEDED_MAX: with 30 % of wrong clocks, 28 of 32 have a chance of 2e-11.
Late events, more than JUMP_MS before the anchor, neither confirm nor interrupt. Nor does an event
after it whose request is among those already: a record that is sent again confirms nothing.

Before the first BEGIN events there is no anchor. The watermark is then provisional, and may fall:
the first event of a log may be the one with the wrong clock. It is for readers only. Nothing is
late, expired or merged by it.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Times = npt.NDArray[np.int64]
Marks = npt.NDArray[np.bool_]
Ids = npt.NDArray[np.uint64]

JUMP_MS = 30 * 60 * 1_000  # below one hour, so that a wrong time zone is seen as a wrong clock
NEEDED_MIN, NEEDED_MAX = 3, 32
BEGIN = 16
_NEWEST = 64
_LATE_SHARE = 8  # one in so many of the newest events may be late


class Watermark(NamedTuple):
    """A watermark and what its next move depends on."""

    time_ms: int | None = None  # None before the first accepted event
    anchor_ms: int | None = None  # None: there is no watermark yet, or it is provisional
    # Ends of the newest events that senders stamped and that were not late, in log order.
    newest_ms: tuple[int, ...] = ()
    since_ms: int | None = None  # end of the earliest of the first events with a right clock
    # Hashed request ids of the newest events that senders stamped and that nothing has confirmed.
    unconfirmed: tuple[int, ...] = ()

    @classmethod
    def at(cls, time_ms: int | None) -> "Watermark":
        """Return a watermark that is not provisional; the moves after it depend on no event."""
        return cls(time_ms, time_ms)

    @property
    def settled_ms(self) -> int | None:
        """Return the watermark, or None as long as it may fall."""
        return None if self.anchor_ms is None else self.time_ms


class Course(NamedTuple):
    """The watermark along n events."""

    time_ms: Times  # before each event and after the last, n + 1; -1: none yet
    settled_at: int  # index in `time_ms` from which on it is not provisional
    last: Watermark

    @property
    def arrived_ms(self) -> Times:
        """Return the watermark after each event, n; -1 as long as it may fall. It never falls."""
        arrived_ms = self.time_ms[1:].copy()
        arrived_ms[: max(self.settled_at - 1, 0)] = -1
        return arrived_ms


def advance(
    watermark: Watermark,
    ended_at_ms: Times,
    by_sender: Marks | None,
    horizon_ms: int,
    request: Ids,
) -> Course:
    """Return the watermark along these events.

    `ended_at_ms`: shape (n,), in log order. `by_sender`: which of their records the sender stamped;
    None if none. An event more than `horizon_ms` behind the watermark changes nothing. `request`:
    their hashed request ids.
    """
    stamped = by_sender is not None and bool(by_sender.any())
    provisional = watermark.time_ms is not None and watermark.anchor_ms is None
    start_ms = -1 if watermark.time_ms is None else watermark.time_ms
    if not len(ended_at_ms):
        return Course(np.array([start_ms]), int(provisional), watermark)
    latest_ms = np.maximum.accumulate(np.concatenate(([start_ms], ended_at_ms)))
    if not stamped and not provisional:
        trusted_ms = max(int(ended_at_ms.max()), watermark.anchor_ms or 0)
        since_ms = int(ended_at_ms[0]) if watermark.since_ms is None else watermark.since_ms
        last = watermark._replace(
            time_ms=int(latest_ms[-1]), anchor_ms=trusted_ms, since_ms=since_ms
        )
        return Course(latest_ms, 0, last)
    if by_sender is None:
        by_sender = np.zeros(len(ended_at_ms), np.bool_)
    anchor_ms = watermark.anchor_ms
    if by_sender.all() and anchor_ms is not None and ended_at_ms.max() <= anchor_ms + JUMP_MS:
        # No event is far enough ahead to move the anchor, so all of them see the same one.
        in_time = latest_ms[:-1] - ended_at_ms <= horizon_ms
        in_time &= ended_at_ms >= anchor_ms - JUMP_MS
        newest_ms = (*watermark.newest_ms, *ended_at_ms[in_time][-_NEWEST:].tolist())[-_NEWEST:]
        last = watermark._replace(time_ms=int(latest_ms[-1]), newest_ms=newest_ms)
        return Course(latest_ms, 0, last)
    return _advance_singly(watermark, ended_at_ms, by_sender, horizon_ms, request)


def _advance_singly(
    watermark: Watermark, ended_at_ms: Times, by_sender: Marks, horizon_ms: int, request: Ids
) -> Course:
    """As `advance`, one event at a time: needed only if an event lies far ahead, and at first."""
    times_ms = [-1 if watermark.time_ms is None else watermark.time_ms]
    settled_at = len(ended_at_ms) + 1 if watermark.anchor_ms is None else 0
    events = zip(ended_at_ms.tolist(), by_sender.tolist(), request.tolist(), strict=True)
    for ended_ms, own, request_id in events:
        if own:
            watermark = _advance_by_one(watermark, ended_ms, horizon_ms, request_id)
        elif watermark.anchor_ms is None or watermark.time_ms is None:
            since_ms = _earliest_near((*watermark.newest_ms, ended_ms), ended_ms)
            watermark = watermark._replace(time_ms=ended_ms, anchor_ms=ended_ms, since_ms=since_ms)
        else:
            time_ms = max(watermark.time_ms, ended_ms)
            watermark = watermark._replace(
                time_ms=time_ms, anchor_ms=max(watermark.anchor_ms, ended_ms)
            )
        if watermark.anchor_ms is not None:
            settled_at = min(settled_at, len(times_ms))
        times_ms.append(-1 if watermark.time_ms is None else watermark.time_ms)
    return Course(np.array(times_ms, np.int64), settled_at, watermark)


def _advance_by_one(
    watermark: Watermark, ended_ms: int, horizon_ms: int, request_id: int
) -> Watermark:
    """Return the watermark after an event that its sender stamped."""
    time_ms, anchor_ms, newest_ms, since_ms, unconfirmed = watermark
    if anchor_ms is not None and time_ms is not None:
        if time_ms - ended_ms > horizon_ms or ended_ms < anchor_ms - JUMP_MS:
            return watermark
        if ended_ms <= anchor_ms + JUMP_MS:
            newest_ms = (*newest_ms, ended_ms)[-_NEWEST:]
            return watermark._replace(time_ms=max(time_ms, ended_ms), newest_ms=newest_ms)
        if request_id in unconfirmed:
            return watermark
        unconfirmed = (*unconfirmed, request_id)[-_NEWEST:]
        newest_ms = (*newest_ms, ended_ms)[-_NEWEST:]
        needed = _needed(newest_ms)
        if len(newest_ms) >= needed:
            # A few late events among many must not hold the anchor back; few must all confirm.
            late = needed // _LATE_SHARE if needed >= BEGIN else 0
            anchor_ms = max(anchor_ms, sorted(newest_ms[-needed:])[late])
        if ended_ms <= anchor_ms + JUMP_MS:
            time_ms, unconfirmed = max(time_ms, ended_ms), ()
        return Watermark(max(time_ms, anchor_ms), anchor_ms, newest_ms, since_ms, unconfirmed)
    if request_id in unconfirmed:
        return watermark
    unconfirmed = (*unconfirmed, request_id)
    newest_ms = (*newest_ms, ended_ms)
    if len(newest_ms) < BEGIN:
        begin_ms, anchor_ms = sorted(newest_ms)[(len(newest_ms) - 1) // 2], None
    else:
        # Not the earliest: a few clocks that are slow must not set it.
        begin_ms = anchor_ms = sorted(newest_ms)[BEGIN // 4]
        unconfirmed = ()
    return Watermark(
        _latest_near(newest_ms, begin_ms),
        anchor_ms,
        newest_ms,
        _earliest_near(newest_ms, begin_ms),
        unconfirmed,
    )


def _needed(newest_ms: tuple[int, ...]) -> int:
    """Return how many successive events move the anchor."""
    if len(newest_ms) < BEGIN:  # senders stamp this log only now
        return BEGIN
    # Not those around the watermark: after an idle time it may lie among slow clocks.
    ends_ms = np.sort(newest_ms)
    after = np.searchsorted(ends_ms, ends_ms + JUMP_MS, side="right")
    near = int((after - np.arange(len(ends_ms))).max())
    return min(max(near, NEEDED_MIN), NEEDED_MAX)


def _latest_near(ends_ms: tuple[int, ...], time_ms: int) -> int:
    """Return the latest end that lies at most JUMP_MS after a time."""
    return max(ended_ms for ended_ms in ends_ms if ended_ms <= time_ms + JUMP_MS)


def _earliest_near(ends_ms: tuple[int, ...], time_ms: int) -> int:
    """Return the earliest end that lies at most JUMP_MS before a time."""
    return min(ended_ms for ended_ms in ends_ms if ended_ms >= time_ms - JUMP_MS)
