"""Brings all windows of an exporter up to date from snapshots of the state.

A consumer of slices (streams/store/reader.py): it asks for the slices that cover its windows and
changed, and keeps their summaries. The work of a refresh is in proportion to the changes since the
last one, not to the length of the windows.
"""

from collections.abc import Collection, Mapping, Sequence
from zoneinfo import ZoneInfo

from exporters.windows.incremental import (
    CUSTOMER,
    CUSTOMER_MODEL,
    Change,
    Grouping,
    PartKey,
    SliceSummary,
    Sums,
    UpToNow,
    Window,
    summarise,
)
from exporters.windows.plan import CALENDAR
from streams.state.slices import Aggregate, SliceId
from streams.state.windows import ROLLING_S, calendar, cover, extent, rolling
from streams.store.reader import PartitionView, StateSnapshot, Version
from streams.store.slice_cache import unread

Span = tuple[int, int]  # [from_s, to_s) in event time


class WindowTracker(UpToNow):
    """Windows of one exporter: their sums by scope, from the slices of all partitions."""

    def __init__(
        self,
        plan: Mapping[str, Sequence[str]],
        groupings: Mapping[str, Grouping],
        zone: ZoneInfo,
        apart_tiers: Collection[str],
    ) -> None:
        """`plan`: window -> scopes it is added up by. `zone`: of the calendar windows.

        `apart_tiers`: as for `summarise`.
        """
        self._plan, self._zone, self._apart_tiers = plan, zone, apart_tiers
        self.groupings = groupings
        self.windows = {name: Window(scopes) for name, scopes in plan.items()}
        self._summaries: dict[PartKey, tuple[Version, SliceSummary]] = {}
        # By partition, for the view and time they were made for: slices by window, and the scopes
        # that each of these slices is needed for.
        self._covers: dict[int, tuple[PartitionView, int, dict[str, list[SliceId]]]] = {}
        self._scopes_of: dict[int, dict[SliceId, set[str]]] = {}

    def spans(self, snapshot: StateSnapshot) -> dict[str, Span]:
        """Return the stretch of event time of each window."""
        return {name: self._span(name, snapshot.watermark_s) for name in self._plan}

    def newest(self, from_s: int) -> Sums:
        """Return the sums by series of all ten-second slices since `from_s`."""
        newest = [
            summary["series"]
            for (_, slice_id), (_, summary) in self._summaries.items()
            if slice_id.level == 0 and slice_id.start_s >= from_s
        ]
        return Sums.merge([Sums.empty("series"), *newest])

    # -- slices ----------------------------------------------------------------------------------

    def missing(self, snapshot: StateSnapshot) -> Mapping[int, Sequence[SliceId]]:
        """Return the slices of the windows that changed since they were read."""
        for view in snapshot.views:
            self._cover(view)
            self._drop_incomplete(view.partition)
        return unread(snapshot, lambda view: self._scopes_of[view.partition], self._summaries)

    def take(
        self,
        snapshot: StateSnapshot,
        view: PartitionView,
        slice_id: SliceId,
        aggregate: Aggregate,
    ) -> None:
        """Keep the summary of a slice, by the scopes it is needed for."""
        for name, grouping in self.groupings.items():
            is_customer = name in (CUSTOMER, CUSTOMER_MODEL)
            grouping.follow(snapshot.customers if is_customer else snapshot.series)
        scopes = sorted(self._scopes_of[view.partition][slice_id])
        groupings = [self.groupings[scope] for scope in scopes]
        summary = summarise(aggregate, groupings, snapshot.series, self._apart_tiers)
        self._summaries[view.partition, slice_id] = (view.version(slice_id), summary)

    def update(self, snapshot: StateSnapshot) -> None:
        """Bring the windows to the snapshot's views, whose slices must have been loaded."""
        partitions = [view.partition for view in snapshot.views]
        # Summaries of slices that no window covers any more are dropped, so memory stays bounded.
        needed = {
            (partition, slice_id)
            for partition in partitions
            for slice_id in self._scopes_of[partition]
        }
        self._summaries = {key: read for key, read in self._summaries.items() if key in needed}
        deltas: dict[Change, Sums] = {}
        for name, window in self.windows.items():
            window.update(
                {
                    (partition, slice_id): self._summaries[partition, slice_id][1]
                    for partition in partitions
                    for slice_id in self._covers[partition][2][name]
                },
                deltas,
            )

    def _cover(self, view: PartitionView) -> None:
        # The cover depends only on the view and on the time.
        known = self._covers.get(view.partition)
        if known is not None and known[0] is view and known[1] == self._as_of_s:
            return
        covers: dict[str, list[SliceId]] = {name: [] for name in self._plan}
        if view.index:
            # Calendar windows may begin before the first slice and end after the last.
            reach_s = extent(view.index)
            for name in self._plan:
                span = self._span(name, view.watermark_s)
                covers[name] = cover(view.index, view.meta.merged_until_s, *span, reach_s)
        scopes_of: dict[SliceId, set[str]] = {}
        for name, scopes in self._plan.items():
            for slice_id in covers[name]:
                scopes_of.setdefault(slice_id, set()).update(scopes)
        self._covers[view.partition] = view, self._as_of_s, covers
        self._scopes_of[view.partition] = scopes_of

    def _drop_incomplete(self, partition: int) -> None:
        """Drop summaries without a scope that a window needs by now, so that they are read anew."""
        for slice_id, scopes in self._scopes_of[partition].items():
            _, summary = self._summaries.get((partition, slice_id), (None, None))
            if summary is not None and not summary.keys() >= scopes:
                del self._summaries[partition, slice_id]

    def _span(self, window: str, watermark_s: int) -> Span:
        if window in CALENDAR:
            return calendar(window, self._as_of_s, self._zone, watermark_s)
        return rolling(ROLLING_S[window], self._as_of_s, watermark_s)
