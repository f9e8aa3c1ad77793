"""Clears the counts that the state gives again after an operator set a watermark back. Pure.

While a watermark stood too far ahead, minutes behind it were counted by coarser slices, into the
rest. Once it is set back they are minutes again, and the slices of some events have moved.
"""

from collections.abc import Sequence

from slo.engine.minute_counts import DAY, MinuteCounts
from streams.state.slices import HORIZON_S, SliceId
from streams.store.reader import PartitionView

DAY_S = DAY * 60


class Recount:
    """The recount that is under way, if any: it ends when all its slices were counted."""

    def __init__(self) -> None:
        self._seen: dict[int, int] = {}  # partition -> first checkpoint after it was set back
        self._from_s: int | None = None

    def start_if_set_back(
        self,
        view: PartitionView,
        minutes_from_s: int,
        counted: Sequence[tuple[MinuteCounts, int]],
    ) -> bool:
        """Start a recount for the counts that are older than the last set-back of the watermark.

        `minutes_from_s`: from when on the state has slices of minutes. `counted`: the counts of
        each objective, and the last checkpoint of the partition that they include; -1: none.
        Return whether counts were cleared.
        """
        set_back = view.meta.set_back
        if set_back is None or self._seen.get(view.partition) == set_back.checkpoint:
            return False
        stale = [counts for counts, last in counted if 0 <= last < set_back.checkpoint]
        if not stale:
            return False
        self._seen[view.partition] = set_back.checkpoint
        # Slices move to the beginning of their day at most; a day more is for late events.
        moved_from = (set_back.to_ms // 60_000 // DAY - 1) * DAY
        # A slice of a day expires once all of it is beyond the horizon. The state has lost those
        # before this one, so their counts stay.
        kept_from = (set_back.furthest_ms // 1_000 - HORIZON_S) // DAY_S * DAY
        begin = max(moved_from, kept_from)
        self._from_s = begin * 60 if self._from_s is None else min(begin * 60, self._from_s)
        for counts in stale:
            # The time that a moved slice covers is a gap of its partition.
            moved = [
                (
                    max(gap.from_ms // 60_000, begin),
                    counts.end if gap.to_ms is None else -(-gap.to_ms // 60_000),
                )
                for gap in view.meta.gaps
            ]
            counts.clear([*moved, (max(minutes_from_s // 60, begin), counts.end)], begin)
        return True

    def includes(self, slice_id: SliceId) -> bool:
        """Return whether a slice is counted again although it has not changed."""
        return self._from_s is not None and slice_id.start_s >= self._from_s

    def end(self) -> None:
        """Note that all slices were counted."""
        self._from_s = None
