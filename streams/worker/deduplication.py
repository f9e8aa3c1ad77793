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
from streams.state.tables import Ints
from streams.worker.dedup_window import (
    STEPS_OF_ARRIVAL,
    DedupWindow,
    Hashes,
    Marks,
    step_ms,
)


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


class ReplayHorizon:
    """The offset from which a log must be read again to know all ids within the window.

    It keeps, for each part of arrival, the offset of the first valid record that arrived in it.
    """

    def __init__(self, window_ms: int) -> None:
        self._window_ms = window_ms + arrival_step_ms(window_ms)
        self._step_ms = arrival_step_ms(window_ms)
        self._first: dict[int, int] = {}  # part of arrival -> offset; offsets rise with parts
        self._latest_ms = 0

    def add(self, offsets: Ints, arrived_ms: Ints) -> None:
        """Add the valid records of the next batch, with its duplicates; -1: not settled yet."""
        if len(offsets) == 0:
            return
        settled_ms = arrived_ms[arrived_ms >= 0]
        # Records before the watermark is settled arrive when it is.
        parts = np.maximum(arrived_ms, settled_ms[0] if len(settled_ms) else 0) // self._step_ms
        if len(settled_ms) and 0 in self._first:
            self._first[int(parts[0])] = self._first.pop(0)
        self._latest_ms = max(self._latest_ms, int(arrived_ms.max()))
        # The index of a part's first row is that of its smallest offset, as offsets rise.
        numbers, first = np.unique(parts, return_index=True)
        for part, offset in zip(numbers.tolist(), offsets[first].tolist(), strict=True):
            self._first.setdefault(part, offset)
        self._first = self._within(self._latest_ms)

    def since(self, watermark_ms: int | None) -> int | None:
        """Return the smallest offset that is needed at this watermark; None if none is."""
        return min(self._within(watermark_ms or 0).values(), default=None)

    def arrivals_ms(self, offsets: Ints) -> Ints:
        """Return the arrival of records from `since` on, rounded down to their part."""
        # Without any part, as in a state of an older version, no id is within the window.
        pairs = sorted((offset, part) for part, offset in self._first.items()) or [(0, 0)]
        starts = np.array([offset for offset, _ in pairs], np.int64)
        # Parts of a state of an older version followed event time, which may fall.
        parts = np.maximum.accumulate(np.array([part for _, part in pairs], np.int64))
        at = np.maximum(np.searchsorted(starts, offsets, side="right") - 1, 0)
        arrivals_ms: Ints = parts[at] * self._step_ms
        return arrivals_ms

    def dump(self) -> dict[int, int]:
        """Return up to 19 offsets for the state, by the last millisecond of their part."""
        return {(part + 1) * self._step_ms - 1: at for part, at in self._first.items()}

    def load(self, dumped: Mapping[int, int]) -> None:
        """Restore the result of `dump`, also if the window had another length."""
        for last_ms, offset in sorted(dumped.items(), key=itemgetter(1)):
            self._first.setdefault(last_ms // self._step_ms, offset)

    def _within(self, watermark_ms: int) -> dict[int, int]:
        # As DedupWindow keeps them, so that a limit on ids forgets the same ones after a restart.
        fine_ms = step_ms(self._window_ms)
        start_ms = (watermark_ms - self._window_ms + 1) // fine_ms * fine_ms
        return {
            part: offset for part, offset in self._first.items() if part * self._step_ms >= start_ms
        }


class ArrivalWindow:
    """The identities of one partition within the window of arrival."""

    def __init__(self, window_ms: int, max_ids: int) -> None:
        """Remember at most `max_ids`. Raises ValueError for an impossible number."""
        self._step_ms = arrival_step_ms(window_ms)
        # One part more, as arrivals are rounded down.
        self.ids = DedupWindow(window_ms + self._step_ms, max_ids)
        self._unsettled: list[Hashes] = []

    def find_duplicates(self, columns: Columns) -> Marks:
        """Return which events of the next batch are duplicates; remember all of them."""
        request, arrived_ms = columns.request, columns.arrived_ms
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
