"""Finds duplicate events of a partition, exactly within a window of arrival.

Pure. An event arrives when its record is read off the log: its arrival is the partition's watermark
after it, rounded down to a part of the window (a 16th). A valid event is a duplicate if an earlier
valid one of its partition, counted or a duplicate itself, has the same identity and arrived at most
the window and one part before. So the result depends on the log alone: not on how it is cut into
batches, not on restarts, not on a clock, and not on when the events ended.

    log        ... | a   b   a'  c   d   b' | e  a" ...
                     ^                        ^
                     |                        stored offset: counted from here on
                     ReplayHorizon.since: read again after a restart, to fill the ArrivalWindow

Request ids are in memory only; after a restart they are read again from the log. ReplayHorizon has
the offset at which each part of the window begins, so that records read again have the arrival that
they had at first.
"""

from collections.abc import Mapping
from dataclasses import fields, replace
from operator import itemgetter
from typing import Any

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

    `part_ms`: the begin of their part of arrival, whose length is `step_ms`; negative before the
    watermark was settled, when no event is too late. All events do but those older than the limit
    of `too_late` at some moment of their part: when records are read again, only their part is
    known, so an accepted event of that age cannot be distinguished from a rejected one.
    """
    return ended_at_ms >= part_ms + step_ms - HORIZON_S * 1_000


class ReplayHorizon:
    """The offset from which a log must be read again to know all ids within the window.

    It keeps, for each part of arrival, the offset of the first valid record that arrived in it.
    """

    def __init__(self, window_ms: int) -> None:
        self._window_ms = window_ms + arrival_step_ms(window_ms)
        self._step_ms = arrival_step_ms(window_ms)
        # Part of arrival -> offset; offsets rise with parts. _UNSETTLED is the first one.
        self._first: dict[int, int] = {}
        self._latest_ms = 0

    def add(self, offsets: Ints, arrived_ms: Ints) -> None:
        """Add the valid records of the next batch, with its duplicates; -1: not settled yet."""
        if len(offsets) == 0:
            return
        self._latest_ms = max(self._latest_ms, int(arrived_ms.max()))
        # The index of a part's first row is that of its smallest offset, as offsets rise.
        numbers, first = np.unique(arrived_ms // self._step_ms, return_index=True)
        for part, offset in zip(numbers.tolist(), offsets[first].tolist(), strict=True):
            self._first.setdefault(part, offset)
        self._first = self._within(self._latest_ms)

    def since(self, watermark_ms: int | None) -> int | None:
        """Return the smallest offset that is needed at this watermark; None if none is."""
        return min(self._within(watermark_ms or 0).values(), default=None)

    def arrivals_ms(self, offsets: Ints) -> Ints:
        """Return the arrival of records from `since` on, rounded down to their part.

        -1: before the watermark was settled.
        """
        # Without any part, as in a state of an older version, no id is within the window.
        pairs = sorted((offset, part) for part, offset in self._first.items()) or [(0, 0)]
        starts = np.array([offset for offset, _ in pairs], np.int64)
        # Parts of a state of an older version followed event time, which may fall.
        parts = np.maximum.accumulate(np.array([part for _, part in pairs], np.int64))
        at = np.maximum(np.searchsorted(starts, offsets, side="right") - 1, 0)
        return np.where(parts[at] == _UNSETTLED, -1, parts[at] * self._step_ms)

    @property
    def settled_at_ms(self) -> int:
        """Return the part in which the watermark was settled, if its records are still needed."""
        return self._step_ms * min((part for part in self._first if part != _UNSETTLED), default=0)

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
        return {(part + 1) * self._step_ms - 1: at for part, at in self._first.items()}

    def load(self, dumped: Mapping[int, int]) -> None:
        """Restore the result of `dump`, also if the window had another length."""
        for last_ms, offset in sorted(dumped.items(), key=itemgetter(1)):
            self._first.setdefault(last_ms // self._step_ms, offset)

    def _within(self, watermark_ms: int) -> dict[int, int]:
        # As DedupWindow keeps them, so that a limit on ids forgets the same ones after a restart.
        fine_ms = self._step_ms // STEPS_OF_ARRIVAL
        start_ms = (watermark_ms - self._window_ms + 1) // fine_ms * fine_ms
        settled = {part: at for part, at in self._first.items() if part != _UNSETTLED}
        needed = {part: at for part, at in settled.items() if part * self._step_ms >= start_ms}
        # Records from before the watermark was settled arrived in the part in which it was.
        if _UNSETTLED in self._first and len(needed) == len(settled):
            needed[_UNSETTLED] = self._first[_UNSETTLED]
        return needed


class ArrivalWindow:
    """The identities of one partition within the window of arrival."""

    def __init__(self, window_ms: int, max_ids: int) -> None:
        """Remember at most `max_ids`. Raises ValueError for an impossible number."""
        self._step_ms = arrival_step_ms(window_ms)
        # One part more, as arrivals are rounded down. Parts of arrival are whole parts of the
        # window, so that a shift by the former moves all of the latter.
        self.ids = DedupWindow(window_ms + self._step_ms, max_ids, step_ms(window_ms))
        self._unsettled: list[Hashes] = []

    def find_duplicates(self, columns: Columns) -> Marks:
        """Return which events of the next batch are duplicates; remember all of them."""
        request, arrived_ms = columns.request, columns.arrived_ms
        if not len(request):
            return np.zeros(0, np.bool_)
        # Nearly always all are, as the last event arrived last.
        if not _is_comparable(columns.ended_at_ms.min(), arrived_ms[-1], self._step_ms):
            parts_ms = self._part_ms(arrived_ms)
            comparable = _is_comparable(columns.ended_at_ms, parts_ms, self._step_ms)
            duplicate = np.zeros(len(request), np.bool_)
            duplicate[comparable] = self._find(request[comparable], arrived_ms[comparable])
            return duplicate
        return self._find(request, arrived_ms)

    def _find(self, request: Hashes, arrived_ms: Ints) -> Marks:
        first = int(np.searchsorted(arrived_ms, 0))  # arrivals never fall
        duplicate = np.zeros(len(request), np.bool_)
        if first:
            duplicate[:first] = self.remember(request[:first], arrived_ms[:first], None)
        if first < len(request):
            if self._unsettled:
                # The ids from before the watermark was settled arrive now.
                earlier = np.concatenate(self._unsettled)
                now_ms = self._part_ms(np.full(len(earlier), arrived_ms[first]))
                self.ids.find_duplicates(earlier, now_ms, np.full(len(earlier), -1))
                self._unsettled = []
            rest = arrived_ms[first:]
            duplicate[first:] = self.ids.find_duplicates(request[first:], self._part_ms(rest), rest)
        return duplicate

    def remember(self, request: Hashes, arrived_ms: Ints, watermark_ms: int | None) -> Marks:
        """Remember events again after a restart; return which are duplicates among them.

        `arrived_ms`: as ReplayHorizon gives it. `watermark_ms`: of the stored state; None as long
        as it is not settled.
        """
        if watermark_ms is None:
            self._unsettled.append(request)
            arrived_ms, watermark_ms = np.zeros(len(request), np.int64), -1
        return self.ids.find_duplicates(request, arrived_ms, np.full(len(request), watermark_ms))

    def _part_ms(self, arrived_ms: Ints) -> Ints:
        return arrived_ms // self._step_ms * self._step_ms


class Deduplicator:
    """Finds the duplicates of one partition, also after restarts and after a watermark set back."""

    def __init__(
        self, window_ms: int, max_ids: int, recent: Mapping[int, int], last: SetBack | None
    ) -> None:
        """`recent`: the result of `dump`, from the state, whose watermark was set back `last`."""
        self._window_ms, self._max_ids = window_ms, max_ids
        # Records before this offset were judged by a watermark that was this much later.
        self._shifted_before = 0 if last is None else last.offset
        self._shift_ms = 0 if last is None else last.shift_ms
        self._horizon = ReplayHorizon(window_ms)
        self._horizon.load(recent)
        self._window = ArrivalWindow(window_ms, max_ids)

    @property
    def ids(self) -> DedupWindow:
        """Return the remembered ids."""
        return self._window.ids

    def read_from(self, settled_ms: int | None, next_offset: int) -> int:
        """Return the offset at which to read the log again, to remember the ids before
        `next_offset`; `settled_ms`: the watermark, None as long as it is not settled."""
        since = self._horizon.since(settled_ms)
        if since is None:
            return next_offset
        # Older ids than these would be forgotten again at once, for lack of room.
        return max(since, next_offset - 2 * self._max_ids)

    def remember(self, offsets: Ints, columns: Columns, settled_ms: int | None) -> None:
        """Remember valid records that were counted before a restart.

        `columns` may have records that were too late then: they are left out here.
        """
        arrived_ms = self._horizon.arrivals_ms(offsets)
        shifted = (offsets < self._shifted_before) & (arrived_ms >= 0)
        judged_ms = arrived_ms + np.where(shifted, self._shift_ms, 0)
        step_ms = arrival_step_ms(self._window_ms)
        comparable = _is_comparable(columns.ended_at_ms, judged_ms, step_ms)
        # As in ReplayHorizon: these records arrived in the part in which the watermark was settled.
        arrived_ms = np.where(arrived_ms < 0, self._horizon.settled_at_ms, arrived_ms)
        self._window.remember(columns.request[comparable], arrived_ms[comparable], settled_ms)

    def find_duplicates(self, offsets: Ints, columns: Columns) -> Marks:
        """Return which valid records of the next batch are duplicates; remember all of them."""
        self._horizon.add(offsets, columns.arrived_ms)
        return self._window.find_duplicates(columns)

    def set_back(self, from_ms: int, to_ms: int, next_offset: int) -> int:
        """Move arrivals back with the watermark; return by how much, see `SetBack.shift_ms`.

        If ids from before the last time are still within the window, all ids are forgotten.
        """
        step_ms = arrival_step_ms(self._window_ms)
        # Rounded up, so that no remembered arrival is after the new watermark.
        shift_ms = -(-(from_ms - to_ms) // step_ms) * step_ms
        since = self._horizon.since(from_ms)
        if since is not None and since < self._shifted_before:
            self.forget()  # the state keeps one shift only
            return 0
        self._horizon.shift(shift_ms)
        self._window.ids.shift(shift_ms)
        self._shifted_before, self._shift_ms = next_offset, shift_ms
        return shift_ms

    def forget(self) -> None:
        """Forget all ids, as those of another log."""
        self._shifted_before = self._shift_ms = 0
        self._horizon = ReplayHorizon(self._window_ms)
        self._window = ArrivalWindow(self._window_ms, self._max_ids)

    def dump(self) -> dict[int, int]:
        """Return what the state keeps to find the records to read again, see `ReplayHorizon`."""
        return self._horizon.dump()
