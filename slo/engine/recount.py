"""Clears the counts that the state gives again after an operator set a watermark back. Pure.

While a watermark stood too far ahead, minutes behind it were counted by coarser slices, into the
rest. Once it is set back they are minutes again, and the slices of some events have moved.
"""

from collections.abc import Sequence

from slo.engine.minute_counts import DAY, MinuteCounts
from streams.state.slices import HORIZON_S, SliceId
from streams.store.reader import PartitionView


class Recount:
    """The recount that is under way, if any: it ends when all its slices were counted."""

    def __init__(self) -> None:
        self._seen: dict[int, int] = {}  # partition -> first checkpoint after it was set back
        self._from_s: int | None = None

    def begin(
        self,
        view: PartitionView,
        sequence: int,
        minutes_from_s: int,
        all_counts: Sequence[MinuteCounts],
    ) -> bool:
        """Begin a recount if the watermark was set back after checkpoint `sequence`.

        `minutes_from_s`: from when on the state has slices of minutes. Return whether counts were
        cleared.
        """
        set_back = view.meta.set_back
        if (
            set_back is None
            or not 0 <= sequence < set_back.checkpoint
            or self._seen.get(view.partition) == set_back.checkpoint
        ):
            return False
        self._seen[view.partition] = set_back.checkpoint
        # Slices move to the beginning of their day at most; a day more is for late events.
        begin = (set_back.to_ms // 60_000 // DAY - 1) * DAY
        self._from_s = begin * 60 if self._from_s is None else min(begin * 60, self._from_s)
        if set_back.furthest_ms // 1_000 - HORIZON_S > begin * 60:
            return False  # the state has lost events that are counted here
        for counts in all_counts:
            # The time that a moved slice covers is a gap of its partition.
            moved = [
                (
                    max(gap.from_ms // 60_000, begin),
                    counts.end if gap.to_ms is None else -(-gap.to_ms // 60_000),
                )
                for gap in view.meta.gaps
            ]
            counts.clear([*moved, (minutes_from_s // 60, counts.end)], begin)
        return True

    def includes(self, slice_id: SliceId) -> bool:
        """Return whether a slice is counted again although it has not changed."""
        return self._from_s is not None and slice_id.start_s >= self._from_s

    def end(self) -> None:
        """Note that all slices were counted."""
        self._from_s = None
