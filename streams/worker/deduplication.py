"""Finds duplicate events of a partition, exactly within a window of arrival.

Pure. An event arrives when its record is read off the log: its arrival is the partition's watermark
after it, rounded down to a part of the window (a 16th). A valid event is a duplicate if an earlier
valid one of its partition, counted or a duplicate itself, has the same identity and arrived at most
the window and one part before. So the result depends on the log alone: not on how it is cut into
batches, not on restarts, not on a clock, and not on when the events ended.

If a record moves the watermark by more than a part at once, the partition was idle, or its newest
events waited to be confirmed. The records just before it may then have been sent at the same time.
So the newest of them, up to NEWEST_MAX, arrive again at the new watermark.

    log        ... | a   b   a'  c   d   b' | e  a" ...
                     ^                        ^
                     |                        stored offset: counted from here on
                     ReplayHorizon.since: read again after a restart, for their ids

Request ids are in memory only; after a restart they are read again from the log. ReplayHorizon has
the offset at which each part of the window begins, so that records read again have the arrival that
they had at first.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import fields, replace
from itertools import pairwise
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np

from streams.events.columns import Columns, Decoded, interned
from streams.state.dedup_window import (
    STEPS_OF_ARRIVAL,
    DedupWindow,
    Hashes,
    Marks,
    step_ms,
)
from streams.state.set_back import SetBack
from streams.state.slices import HORIZON_S
from streams.state.tables import Ints

# More records than confirm a watermark, as a batch job may report all of its lines again.
NEWEST_MAX = 4_096
_UNSETTLED = -1  # part of the records before the watermark was settled


def arrival_step_ms(window_ms: int) -> int:
    """Return the length of a part of arrival: about a 16th of the window."""
    return STEPS_OF_ARRIVAL * step_ms(window_ms)


def deduplicate(decoded: Decoded, duplicate: Marks) -> Decoded:
    """Return a batch without its duplicates, which `duplicate` marks by row of its columns.

    They have moved the watermark like any event, but their names are not registered.
    """
    if not duplicate.any():
        return decoded
    columns, counted = decoded.columns, ~duplicate
    named: dict[str, Any] = {}
    # Interned anew, so that names which only duplicates have are left out.
    named["series_index"], named["series"] = interned(columns.series, columns.series_index[counted])
    named["customer_index"], named["customers"] = interned(
        columns.customers, columns.customer_index[counted]
    )
    arrays = {
        field.name: getattr(columns, field.name)[counted]
        for field in fields(Columns)
        if field.name not in named
    }
    return replace(
        decoded,
        columns=Columns(**arrays, **named),
        duplicates_ms=columns.watermark_ms[duplicate],
    )


def _is_comparable(ended_at_ms: Ints, part_ms: Ints, step_ms: int) -> Marks:
    """Return which events take part in deduplication.

    `part_ms`: the begin of their part of arrival, whose length is `step_ms`. Events that are too
    late at the end of their part do not: when records are read again, only the part is known, so an
    accepted event of that age cannot be distinguished from a rejected one.
    """
    return ended_at_ms >= part_ms + step_ms - HORIZON_S * 1_000


class ReplayHorizon:
    """The offset from which a log must be read again to know all ids within the window.

    It keeps, for each part of arrival, the offset of the first valid record that arrived in it.
    """

    def __init__(self, window_ms: int) -> None:
        self._window_ms = window_ms + arrival_step_ms(window_ms)
        self._step_ms = arrival_step_ms(window_ms)
        # Part of arrival -> offset; offsets rise with parts. _UNSETTLED: the only one, if there.
        self._first: dict[int, int] = {}
        self._latest_ms = 0
        # Offset of the record that settled the watermark, as long as earlier ones are needed: no
        # event before it was too late. Else 0.
        self.settled_at = 0

    def add(self, offsets: Ints, arrived_ms: Ints) -> None:
        """Add the valid records of the next batch, with its duplicates.

        `arrived_ms`: -1 if the watermark was not settled yet.
        """
        if len(offsets) == 0:
            return
        self._latest_ms = max(self._latest_ms, int(arrived_ms.max()))
        # The index of a part's first row is that of its smallest offset, as offsets rise.
        numbers, first = np.unique(arrived_ms // self._step_ms, return_index=True)
        for part, offset in zip(numbers.tolist(), offsets[first].tolist(), strict=True):
            self._first.setdefault(part, offset)
        self._settle()
        self._first = self._within(self._latest_ms)
        if min(self._first.values()) >= self.settled_at:
            self.settled_at = 0

    def since(self, watermark_ms: int | None) -> int | None:
        """Return the smallest offset that is needed at this watermark; None if none is."""
        return min(self._within(watermark_ms or 0).values(), default=None)

    def move(self, offset: int, arrived_ms: int) -> None:
        """Let the records from `offset` on arrive later than all before."""
        self._first = {part: at for part, at in self._first.items() if at < offset}
        self._first[arrived_ms // self._step_ms] = offset

    def arrivals_ms(self, offsets: Ints) -> Ints:
        """Return the arrival of records from `since` on, rounded down to their part."""
        # Without any part, as in a state of an older version, no id is within the window.
        pairs = sorted((offset, part) for part, offset in self._first.items()) or [(0, 0)]
        starts = np.array([offset for offset, _ in pairs], np.int64)
        # Parts of a state of an older version followed event time, which may fall.
        parts = np.maximum.accumulate(np.array([part for _, part in pairs], np.int64))
        at = np.maximum(np.searchsorted(starts, offsets, side="right") - 1, 0)
        return parts[at] * self._step_ms

    def shift(self, back_ms: int) -> None:
        """Move all arrivals back, by whole parts. See `DedupWindow.shift`."""
        parts = back_ms // self._step_ms
        self._first = {
            part if part == _UNSETTLED else part - parts: offset
            for part, offset in self._first.items()
        }
        self._latest_ms -= back_ms

    def dump(self) -> dict[int, int]:
        """Return up to 20 offsets for the state, by the last millisecond of their part."""
        first = self._first
        if self.settled_at:
            first = {_UNSETTLED: self.settled_at} | first
        return {(part + 1) * self._step_ms - 1: at for part, at in first.items()}

    def load(self, dumped: Mapping[int, int]) -> None:
        """Restore the result of `dump`, also if the window had another length."""
        for last_ms, offset in sorted(dumped.items(), key=itemgetter(1)):
            self._first.setdefault(last_ms // self._step_ms, offset)
        if _UNSETTLED in self._first and min(self._first.values()) < self._first[_UNSETTLED]:
            self.settled_at = self._first.pop(_UNSETTLED)
        self._settle()  # a state of an older version

    def _settle(self) -> None:
        """Move the records from before the watermark was settled to the part in which it was."""
        if _UNSETTLED in self._first and len(self._first) > 1:
            offset = self._first.pop(_UNSETTLED)
            part = min(self._first)
            self.settled_at, self._first[part] = self._first[part], offset

    def _within(self, watermark_ms: int) -> dict[int, int]:
        # As DedupWindow keeps them, so that a limit on ids forgets the same ones after a restart,
        # but for those that `read_from` does not read again.
        fine_ms = self._step_ms // STEPS_OF_ARRIVAL
        start_ms = (watermark_ms - self._window_ms + 1) // fine_ms * fine_ms
        return {
            part: at
            for part, at in self._first.items()
            if part == _UNSETTLED or part * self._step_ms >= start_ms
        }


class Records(NamedTuple):
    """Some records of a partition, in log order."""

    offsets: Ints
    request: Hashes
    ended_at_ms: Ints

    def select(self, rows: Marks | slice) -> "Records":
        """Return some of them, as a copy, so that no batch stays in memory for a few rows."""
        return Records(
            self.offsets[rows].copy(), self.request[rows].copy(), self.ended_at_ms[rows].copy()
        )


class NewestRecords:
    """The newest records of a partition: a watermark that jumps lets them arrive again."""

    def __init__(self, most: int) -> None:
        self._most, self._count = most, 0
        self._parts: deque[Records] = deque()

    def add(self, records: Records) -> None:
        """Add records that follow on the last ones."""
        size = min(len(records.offsets), self._most)
        if not size:
            return
        self._parts.append(records.select(slice(-size, None)))
        self._count += size
        while self._count - len(self._parts[0].offsets) >= self._most:
            self._count -= len(self._parts.popleft().offsets)

    def since(self, offset: int) -> Records | None:
        """Return those from an offset on; None if there are none."""
        if not self._parts or self._parts[-1].offsets[-1] < offset:
            return None
        offsets, request, ended_at_ms = map(np.concatenate, zip(*self._parts, strict=True))
        # One part is joined faster the next time: a sparse log has a jump at each record.
        self._parts, self._count = deque(), 0
        self.add(Records(offsets, request, ended_at_ms))
        return self._parts[0].select(self._parts[0].offsets >= offset)


class Deduplicator:
    """Finds the duplicates of one partition, also after restarts and after a watermark set back."""

    def __init__(
        self, window_ms: int, max_ids: int, recent: Mapping[int, int], last: SetBack | None
    ) -> None:
        """`recent`: the result of `dump` in the state. `last`: how its watermark was set back."""
        self._window_ms, self._max_ids = window_ms, max_ids
        self._step_ms = arrival_step_ms(window_ms)
        # Records before this offset were judged by a watermark that was this much later.
        self._shifted_before = 0 if last is None else last.offset
        self._shift_ms = 0 if last is None else last.shift_ms
        self._horizon = ReplayHorizon(window_ms)
        self._horizon.load(recent)
        self._begin()

    def _begin(self) -> None:
        # One part more, as arrivals are rounded down. Parts of arrival are whole parts of the
        # window, so that a shift by the former moves all of the latter.
        fine_ms = self._step_ms // STEPS_OF_ARRIVAL
        self.ids = DedupWindow(self._window_ms + self._step_ms, self._max_ids, fine_ms)
        self._unsettled: list[Records] = []
        self._newest = self._no_records()

    def read_from(self, settled_ms: int | None, next_offset: int) -> int:
        """Return the offset from which to read the log again, up to `next_offset`.

        `settled_ms`: the watermark, None as long as it is not settled.
        """
        since = self._horizon.since(settled_ms)
        if since is None:
            return next_offset
        # Older ids than these would be forgotten again at once, for lack of room.
        return max(since, next_offset - 2 * self._max_ids)

    def remember(self, offsets: Ints, columns: Columns, settled_ms: int | None) -> None:
        """Remember valid records that were counted before a restart.

        `columns` may have records that were too late then: they are left out here.
        """
        records = Records(offsets, columns.request, columns.ended_at_ms)
        if settled_ms is None:
            self._add_unsettled(records)
            return
        arrived_ms = self._horizon.arrivals_ms(offsets)
        judged_ms = arrived_ms + np.where(offsets < self._shifted_before, self._shift_ms, 0)
        comparable = self._are_comparable(records, judged_ms)
        self._newest.add(records.select(comparable & (offsets >= self._shifted_before)))
        request = records.request[comparable]
        settled = np.full(len(request), settled_ms)
        self.ids.find_duplicates(request, arrived_ms[comparable], settled)

    def find_duplicates(self, offsets: Ints, columns: Columns) -> Marks:
        """Return which valid records of the next batch are duplicates; remember all of them."""
        arrived_ms, count = columns.arrived_ms, len(offsets)
        records = Records(offsets, columns.request, columns.ended_at_ms)
        jumps = np.flatnonzero(arrived_ms - columns.watermark_ms > self._step_ms).tolist()
        if not jumps:
            return self._find(records, arrived_ms)
        duplicate = np.zeros(count, np.bool_)
        for start, end in pairwise(sorted({0, *jumps, count})):
            if start or jumps[0] == 0:
                self._move_newest(int(columns.watermark_ms[start]), int(arrived_ms[start]))
            part = slice(start, end)
            duplicate[part] = self._find(records.select(part), arrived_ms[part])
        return duplicate

    def _find(self, records: Records, arrived_ms: Ints) -> Marks:
        duplicate = np.zeros(len(arrived_ms), np.bool_)
        self._horizon.add(records.offsets, arrived_ms)
        first = int(np.searchsorted(arrived_ms, 0))  # arrivals never fall
        if first:
            duplicate[:first] = self._add_unsettled(records.select(slice(first)))
            records, arrived_ms = records.select(slice(first, None)), arrived_ms[first:]
        if not len(arrived_ms):
            return duplicate
        # The records from before the watermark was settled arrive now; none was too late.
        for earlier in self._unsettled:
            self._remember(earlier, np.full(len(earlier.offsets), arrived_ms[0]))
        self._unsettled = []
        duplicate[first:] = self._arrive(records, arrived_ms)
        return duplicate

    def _add_unsettled(self, records: Records) -> Marks:
        """Remember records for as long as the watermark is not settled."""
        self._unsettled.append(records)
        arrived_ms = np.zeros(len(records.offsets), np.int64)
        return self.ids.find_duplicates(records.request, arrived_ms, arrived_ms - 1)

    def _arrive(self, records: Records, arrived_ms: Ints) -> Marks:
        parts_ms = self._parts_ms(arrived_ms)
        # Nearly always all are comparable, as the last event arrived last.
        if _is_comparable(records.ended_at_ms.min(), parts_ms[-1], self._step_ms):
            return self._remember(records, arrived_ms)
        comparable = self._are_comparable(records, parts_ms)
        duplicate = np.zeros(len(arrived_ms), np.bool_)
        duplicate[comparable] = self._remember(records.select(comparable), arrived_ms[comparable])
        return duplicate

    def _remember(self, records: Records, arrived_ms: Ints) -> Marks:
        self._newest.add(records)
        return self.ids.find_duplicates(records.request, self._parts_ms(arrived_ms), arrived_ms)

    def _parts_ms(self, arrived_ms: Ints) -> Ints:
        return arrived_ms // self._step_ms * self._step_ms

    def _are_comparable(self, records: Records, parts_ms: Ints) -> Marks:
        comparable = _is_comparable(records.ended_at_ms, parts_ms, self._step_ms)
        return comparable | (records.offsets < self._horizon.settled_at)

    def _move_newest(self, watermark_ms: int, arrived_ms: int) -> None:
        """Let the newest records arrive again, as the next one moves the watermark.

        `watermark_ms`, `arrived_ms`: the watermark before and after it.
        """
        since = self._horizon.since(watermark_ms)
        newest = None if since is None else self._newest.since(since)
        if newest is None:
            return
        # Only those after the last one that is too old for its new part, so that all records from
        # one offset on are in it.
        now_ms = np.full(len(newest.offsets), arrived_ms)
        parts_ms = self._parts_ms(now_ms)
        old = np.flatnonzero(~self._are_comparable(newest, parts_ms))
        moved = slice(int(old[-1]) + 1 if len(old) else 0, None)
        newest = newest.select(moved)
        if len(newest.offsets):
            self._horizon.move(int(newest.offsets[0]), arrived_ms)
            self.ids.find_duplicates(newest.request, parts_ms[moved], now_ms[moved])

    def _no_records(self) -> NewestRecords:
        # Half of what a limit on ids allows, so that they alone do not exceed it.
        return NewestRecords(min(NEWEST_MAX, self._max_ids // 2))

    def set_back(self, from_ms: int, to_ms: int, next_offset: int) -> int:
        """Move arrivals back with the watermark; return by how much, see `SetBack.shift_ms`.

        If ids from before the previous move are still within the window, all ids are forgotten.
        """
        # Rounded up, so that no remembered arrival is after the new watermark.
        shift_ms = -(-(from_ms - to_ms) // self._step_ms) * self._step_ms
        since = self._horizon.since(from_ms)
        if since is not None and since < self._shifted_before:
            self.forget()  # the state keeps one shift only
            return 0
        self._horizon.shift(shift_ms)
        self.ids.shift(shift_ms)
        self._shifted_before, self._shift_ms = next_offset, shift_ms
        self._newest = self._no_records()  # judged by another watermark
        return shift_ms

    def forget(self) -> None:
        """Forget all ids, as those of another log."""
        self._shifted_before = self._shift_ms = 0
        self._horizon = ReplayHorizon(self._window_ms)
        self._begin()

    def dump(self) -> dict[int, int]:
        """Return the offsets from which records are read again, see `ReplayHorizon.dump`."""
        return self._horizon.dump()
