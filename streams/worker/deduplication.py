"""Which events of a partition have come before: exact within a window of event time.

Pure. A valid event is a duplicate if an earlier valid one of its partition, counted or a duplicate
itself, has the same `request_id` and ended after `watermark - window_ms`, the watermark being the
one that the event found. So the verdict depends on the log alone: not on how it is cut into
batches, not on restarts, and not on a clock.

    log        ... | a   b   a'  c   d   b' | e  a" ...
                     ^                        ^
                     ReplayHorizon.since: read again  stored offset: judged and counted from here on
                     after a restart, to
                     know what DedupWindow knew

What is remembered lives in memory only; the log, read again, is where it comes from.
"""

from collections.abc import Mapping
from dataclasses import fields, replace
from operator import itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt

from streams.events.columns import Columns, Decoded, interned
from streams.state.tables import Ints

Hashes = npt.NDArray[np.uint64]
Marks = npt.NDArray[np.bool_]

MAX_WINDOW_MS = 1 << 30  # 12 days: times of remembered events are kept in 32 bits
_STEPS = 512  # a window's parts; ids are forgotten by part
_REACH_STEPS = 32  # such parts make one of ReplayHorizon's, so that it covers whole ones
_LEAST = 1 << 12  # rows there is always room for
_PIECE = 1 << 13  # rows looked at together when some are dropped
_ROWS_A_PLACE = 2
_ROW = np.dtype([("low", "<u8"), ("high", "<u8"), ("older", "<u4"), ("ended_at", "<u4")])


def _step_ms(window_ms: int) -> int:
    """Length of a part of the window."""
    return max(_REACH_STEPS, -(-window_ms // _STEPS))


def deduplicate(decoded: Decoded, duplicate: Marks) -> Decoded:
    """A batch without its duplicates; `duplicate` says which rows of its columns are some.

    They have moved the watermark like any event, but leave no name behind.
    """
    if not duplicate.any():
        return decoded
    columns, kept = decoded.columns, ~duplicate
    named: dict[str, Any] = {}
    named["series_index"], named["series"] = interned(columns.series, columns.series_index[kept])
    named["customer_index"], named["customers"] = interned(
        columns.customers, columns.customer_index[kept]
    )
    arrays = {
        field.name: getattr(columns, field.name)[kept]
        for field in fields(Columns)
        if field.name not in named
    }
    return replace(
        decoded,
        columns=Columns(**arrays, **named),
        duplicates_ms=columns.watermark_ms[duplicate],
    )


class ReplayHorizon:
    """From which offset a log must be read again to know all ids within the window.

    For each part of event time: the smallest offset of a valid record that ended in it.
    """

    def __init__(self, window_ms: int) -> None:
        self._window_ms = window_ms
        self._step_ms = _REACH_STEPS * _step_ms(window_ms)
        self._first: dict[int, int] = {}
        self._latest_ms = 0

    def add(self, offsets: Ints, ended_at_ms: Ints) -> None:
        """Note the valid records of the next batch, duplicates among them."""
        if len(offsets) == 0:
            return
        self._latest_ms = max(self._latest_ms, int(ended_at_ms.max()))
        parts, first = np.unique(ended_at_ms // self._step_ms, return_index=True)
        for part, offset in zip(parts.tolist(), offsets[first].tolist(), strict=True):
            self._first.setdefault(part, offset)
        self._first = self._within(self._latest_ms)

    def since(self, watermark_ms: int | None) -> int | None:
        """The smallest offset of a record that may matter at this watermark; None if none does."""
        return min(self._within(watermark_ms or 0).values(), default=None)

    def dump(self) -> dict[int, int]:
        """For the state: last millisecond of a part -> offset, at most 18 of them."""
        return {(part + 1) * self._step_ms - 1: at for part, at in self._first.items()}

    def load(self, dumped: Mapping[int, int]) -> None:
        """Take up what `dump` gave, be it for a window of another length."""
        for last_ms, offset in sorted(dumped.items(), key=itemgetter(1)):
            self._first.setdefault(last_ms // self._step_ms, offset)

    def _within(self, watermark_ms: int) -> dict[int, int]:
        start = (watermark_ms - self._window_ms + 1) // self._step_ms
        return {part: offset for part, offset in self._first.items() if part >= start}


class DedupWindow:
    """The request ids of one partition within the window.

    Rows lie in a ring in the order of arrival. A hash leads to the newest row of its place, each
    row to the next older one of its place, so that a row is out of reach as soon as the ring's
    tail has passed it: nothing need be deleted.

        ring      tail |  ...  | older | ... | older | ... | newest | ...
                             ^--------------'   ^--------------'   ^------- place <- hash

    An id that comes again with a later event gets a new row: its newest one has its latest time.
    Numbers of rows and times are kept modulo 2**32; what is in the ring lies closer together.
    """

    def __init__(self, window_ms: int, max_ids: int) -> None:
        """`max_ids`: when there are more, those of the events that ended first are forgotten, a
        512th of the window at a time. Raises ValueError where a number makes no sense."""
        if not 0 < window_ms <= MAX_WINDOW_MS:
            raise ValueError(f"window_ms: got {window_ms}; give 1 to {MAX_WINDOW_MS}")
        if max_ids < 1:
            raise ValueError(f"max_ids: got {max_ids}; give 1 or more")
        self._window_ms, self._max_ids = window_ms, max_ids
        self._step_ms = _step_ms(window_ms)
        self.forgotten = 0  # times that an id was not remembered although within the window
        self._counts: dict[int, int] = {}  # part of event time -> ids whose latest time is in it
        self._count = 0
        self._floor = 0  # parts before this one are forgotten
        self._start = 0  # parts before this one are forgotten or have left the window
        self._latest_ms = 0  # no row is later
        self._ring = np.empty(_LEAST, _ROW)
        self._rows = 0  # from the tail to the newest
        self._at = 0  # where in the ring the next row goes
        self._number = 0  # of the next row
        self._places = np.zeros(_LEAST, np.uint32)  # number of the newest row

    def __len__(self) -> int:
        return self._count

    @property
    def size_bytes(self) -> int:
        """Memory it takes."""
        return self._ring.nbytes + self._places.nbytes

    def find_duplicates(self, request: Hashes, ended_at_ms: Ints, watermark_ms: Ints) -> Marks:
        """Which of these events, in log order, are duplicates. All of them are remembered.

        `request`: as in Columns, shape (n, 2). `watermark_ms`: what each event found, -1 where
        there was none; it never falls.

        After a restart: call it with the valid records from `ReplayHorizon.since` on, with the
        stored watermark for all of them, and ignore the result.
        """
        duplicate = np.zeros(len(ended_at_ms), np.bool_)
        start = 0
        while start < len(duplicate):
            self._move_to(int(watermark_ms[start]))
            # As one by one: only the last of these can be the one that is too many.
            end = start + self._max_ids - self._count + 1
            part = slice(start, end)
            duplicate[part] = self._judge(request[part], ended_at_ms[part], watermark_ms[part])
            while self._count > self._max_ids:
                self._forget_oldest()
            start = end
        return duplicate

    def _judge(self, request: Hashes, ended_at_ms: Ints, watermark_ms: Ints) -> Marks:
        low, high = request[:, 0], request[:, 1]
        oldest_ms, start_ms = watermark_ms - self._window_ms, self._start * self._step_ms
        held = self._find(low, high)
        held_ms = np.where(held < 0, -1, self._times_ms(self._ring["ended_at"][held]))
        held_ms[held_ms < start_ms] = -1
        known_ms = held_ms.copy()
        added = ended_at_ms > np.maximum(held_ms, start_ms - 1)
        latest: dict[tuple[int, int], tuple[int, int]] = {}  # id -> its latest time, and where
        for at in _repeated(low).tolist():
            one = int(low[at]), int(high[at])
            known_ms[at], before = latest.get(one, (held_ms[at], -1))
            added[at] = ended_at_ms[at] > max(known_ms[at], start_ms - 1)
            if added[at]:
                latest[one] = int(ended_at_ms[at]), at
                if before >= 0:
                    added[before] = False
        if self._floor:
            barred = ended_at_ms < self._floor * self._step_ms
            barred &= (known_ms < 0) & (ended_at_ms > oldest_ms)
            self.forgotten += int(np.count_nonzero(barred))

        self._tally(held_ms[added & (held_ms >= 0)], -1)
        self._tally(ended_at_ms[added], 1)
        self._move_to(max(int(watermark_ms[-1]), int(ended_at_ms[-1])))
        added &= ended_at_ms >= self._start * self._step_ms
        self._append(low[added], high[added], ended_at_ms[added].astype(np.uint32))
        return (known_ms > oldest_ms) & (known_ms >= 0)

    def _tally(self, ended_at_ms: Ints, change: int) -> None:
        parts, sizes = np.unique(ended_at_ms // self._step_ms, return_counts=True)
        for part, size in zip(parts.tolist(), sizes.tolist(), strict=True):
            self._counts[part] = self._counts.get(part, 0) + change * size
        self._count += change * len(ended_at_ms)

    def _find(self, low: Hashes, high: Hashes) -> Ints:
        """Where in the ring the newest row of each hash is; -1 where there is none."""
        found = np.full(len(low), -1)
        number = np.uint32(self._number)
        age = number - self._places[self._place(high)]  # 1 is the newest row's
        sought = np.flatnonzero((age > 0) & (age <= self._rows))
        age = age[sought]
        while len(sought):
            at = self._at - age.astype(np.int64)
            at[at < 0] += len(self._ring)
            same = self._ring["low"][at] == low[sought]
            if same.any():
                same &= self._ring["high"][at] == high[sought]
                found[sought[same]] = at[same]
            older = number - self._ring["older"][at]
            # What has left the ring may, 2**32 rows on, look as if it were in it: never go back.
            on = (older > age) & (older <= self._rows) & ~same
            sought, age = sought[on], older[on]
        return found

    def _append(self, low: Hashes, high: Hashes, ended_at: npt.NDArray[np.uint32]) -> None:
        """Add rows of distinct hashes."""
        size = len(low)
        self._make_room(size)
        number = (self._number + np.arange(size)).astype(np.uint32)
        place = self._place(high)
        rows = np.empty(size, _ROW)
        rows["low"], rows["high"], rows["ended_at"] = low, high, ended_at
        rows["older"] = self._places[place]
        # Those of one place follow one another; the place is left to the last of them.
        shared = _sharing(place, self._places, number)
        shared = shared[np.argsort(place[shared], kind="stable")]
        again = place[shared[1:]] == place[shared[:-1]]
        rows["older"][shared[1:][again]] = number[shared[:-1][again]]

        fitting = min(size, len(self._ring) - self._at)
        self._ring[self._at : self._at + fitting] = rows[:fitting]
        self._ring[: size - fitting] = rows[fitting:]
        self._at = (self._at + size) % len(self._ring)
        self._number = (self._number + size) % (1 << 32)
        self._rows += size

    def _place(self, high: Hashes) -> Ints:
        return (high & np.uint64(len(self._places) - 1)).astype(np.int64)

    def _times_ms(self, ended_at: npt.NDArray[np.uint32]) -> Ints:
        latest = np.uint32(self._latest_ms % (1 << 32))
        return self._latest_ms - (latest - ended_at).astype(np.int64)

    def _make_room(self, size: int) -> None:
        if self._rows + size > len(self._ring):
            self._resize(max(self._rows + size, len(self._ring) * 5 // 4))
        while self._rows + size > _ROWS_A_PLACE * len(self._places):
            # Two places now lead to the rows of one, and part with the rows to come.
            self._places = np.tile(self._places, 2)

    def _resize(self, capacity: int) -> None:
        ring = np.empty(capacity, _ROW)
        # As plain numbers: copied several times faster than as fields.
        old, new = self._ring.view((np.uint64, 3)), ring.view((np.uint64, 3))
        tail = (self._at - self._rows) % len(old)
        fitting = min(self._rows, len(old) - tail)
        new[:fitting] = old[tail : tail + fitting]
        new[fitting : self._rows] = old[: self._rows - fitting]
        self._ring, self._at = ring, self._rows % capacity

    def _move_to(self, watermark_ms: int) -> None:
        if watermark_ms - self._latest_ms >= self._window_ms + self._step_ms:
            self._rows = 0  # all too old, and some perhaps for their times to be told apart
        self._latest_ms = max(self._latest_ms, watermark_ms)
        start = (watermark_ms - self._window_ms + 1) // self._step_ms
        if start > self._start:
            self._start = start
            for part in [part for part in self._counts if part < start]:
                self._count -= self._counts.pop(part)
            self._drop()

    def _forget_oldest(self) -> None:
        part = min(self._counts)
        size = self._counts.pop(part)
        self._count -= size
        self.forgotten += size
        self._start = self._floor = part + 1
        self._drop()

    def _drop(self) -> None:
        """Move the tail on to the first row that is still wanted."""
        start_ms = self._start * self._step_ms
        while self._rows:
            tail = (self._at - self._rows) % len(self._ring)
            end = min(tail + min(self._rows, _PIECE), len(self._ring))
            rows = self._ring[tail:end]
            wanted = np.flatnonzero(self._times_ms(rows["ended_at"]) >= start_ms)
            if not len(wanted):
                self._rows -= len(rows)
            elif self._rows <= 2 * self._count + _LEAST:
                self._rows -= int(wanted[0])
                break
            else:  # one that is wanted keeps many that are not: it becomes the newest
                newest = self._find(rows["low"][wanted], rows["high"][wanted]) == tail + wanted
                moved = rows[wanted[newest]]
                self._rows -= len(rows)
                self._append(moved["low"], moved["high"], moved["ended_at"])
        if len(self._ring) > max(4 * self._rows, _LEAST):
            self._resize(max(2 * self._rows, _LEAST))


def _sharing(place: Ints, board: npt.NDArray[np.uint32], mark: npt.NDArray[np.uint32]) -> Ints:
    """Rows whose place on the board another one has too; leaves each place its last row's mark.

    Marks count up from row to row, modulo 2**32.
    """
    board[place] = mark
    left = board[place]
    lost = np.flatnonzero(left != mark)
    return np.union1d(lost, left[lost] - mark[0]) if len(lost) else lost


def _repeated(low: Hashes) -> Ints:
    """Rows whose hash another one has too, in order; and maybe some more."""
    bits = (8 * len(low)).bit_length()
    place = (low & np.uint64((1 << bits) - 1)).astype(np.int64)
    mark = np.arange(len(low), dtype=np.uint32)
    shared = _sharing(place, np.empty(1 << bits, np.uint32), mark)
    _, group, sizes = np.unique(low[shared], return_inverse=True, return_counts=True)
    return shared[sizes[group] > 1]
