"""Read stretches of days from the state; read again only slices that changed since.

A shell: Redis is read here. A day that is over is kept as one sum, the running day and the one
before it hour by hour, as late events change their last hours. A sum is valid as long as the
versions of the slices it was added up from stay the same.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

import redis.asyncio as aioredis

from exporters.daily.day.calendar import Stretch
from exporters.daily.day.counts import DIMENSIONS, without_durations
from exporters.windows.incremental import (
    CUSTOMER,
    CUSTOMER_MODEL,
    FLEET,
    MODEL_TIER,
    Grouping,
    PartKey,
    SliceSummary,
    Sums,
    summarise,
)
from streams.state.measures import SERIES_DIMENSIONS
from streams.state.slices import Aggregate, SliceId
from streams.state.windows import cover, extent
from streams.store.reader import PartitionView, StateReader, StateSnapshot, Version
from streams.store.slice_cache import unread

_TOGETHER_S = 90_000  # stretches of about a day are read in one go
_KEPT = 280  # stretches: two boards' days, and the hours of four days

Key = tuple[tuple[int, SliceId, Version], ...]  # partition, slice, its version


class StretchSums(NamedTuple):
    """All that was counted in a stretch of time, by scope, and the versions of its slices."""

    key: Key
    summary: SliceSummary


class StretchReader:
    """The state of one consumer group and topic, as sums of stretches."""

    def __init__(
        self,
        client: "aioredis.Redis",
        group: str,
        topic: str,
        apart_tiers: Collection[str],
        is_priced: bool = False,
    ) -> None:
        """`apart_tiers`: as for `summarise`; `is_priced`: also sum what prices need."""
        self._is_priced = is_priced
        self._client, self._group, self._topic = client, group, topic
        self._apart_tiers = apart_tiers
        self.forget()

    def forget(self) -> None:
        """Drop all sums, as after a failed reading.

        Redis may come back with another state under the same version numbers.
        """
        self._state_reader = StateReader(self._client, self._group, self._topic)
        self.scopes = {
            name: Grouping(
                name,
                () if name == FLEET else (name,),
                (CUSTOMER, "model") if name == CUSTOMER else SERIES_DIMENSIONS,
            )
            for name in (FLEET, *DIMENSIONS)
        }
        if self._is_priced:
            self.scopes[MODEL_TIER] = Grouping(
                MODEL_TIER, ("model", "service_tier"), SERIES_DIMENSIONS
            )
            self.scopes[CUSTOMER_MODEL] = Grouping(
                CUSTOMER_MODEL, (CUSTOMER, "model"), (CUSTOMER, "model")
            )
        self._kept: dict[Stretch, StretchSums] = {}

    async def snapshot(self) -> StateSnapshot:
        """Read how far every partition is. Raises StoreError."""
        return await self._state_reader.snapshot()

    async def read(
        self, snapshot: StateSnapshot, stretches: Iterable[Stretch]
    ) -> dict[Stretch, StretchSums]:
        """Return the sums of stretches that can be cut out of the state; none overlaps another.

        Raises StoreError.
        """
        stretches = list(stretches)
        present = _StretchSlices(stretches, self.scopes, self._apart_tiers).keys(snapshot)
        stale = []
        for stretch, key in present.items():
            kept = self._kept.get(stretch)
            # A stretch without slices has sums of its own: zero, and no version to compare.
            if not key:
                self._kept[stretch] = StretchSums((), add_up((), self.scopes))
            elif kept is None or kept.key != key:
                stale.append(stretch)
        # Day by day, so that no more than a day's slices are in memory at once.
        for batch in _batches(stale):
            slices = _StretchSlices(batch, self.scopes, self._apart_tiers)
            await snapshot.load([slices])
            self._kept.update(slices.sums(snapshot))
        # In order of use, so that the stretches that were not used for longest go first.
        sums = {stretch: self._kept.pop(stretch) for stretch in stretches}
        self._kept.update(sums)
        while len(self._kept) > max(_KEPT, len(sums)):
            del self._kept[next(iter(self._kept))]
        return sums


class _StretchSlices:
    """The slices of some stretches, as their consumer."""

    def __init__(
        self,
        stretches: Sequence[Stretch],
        scopes: Mapping[str, Grouping],
        apart_tiers: Collection[str],
    ) -> None:
        self._stretches, self._scopes, self._apart_tiers = stretches, scopes, apart_tiers
        self._covers: dict[int, tuple[PartitionView, dict[Stretch, list[SliceId]]]] = {}
        self._summaries: dict[PartKey, tuple[Version, SliceSummary]] = {}

    def missing(self, snapshot: StateSnapshot) -> Mapping[int, Sequence[SliceId]]:
        """Return the slices whose present version was not read yet."""
        return unread(
            snapshot,
            lambda view: chain.from_iterable(self._cover(view).values()),
            self._summaries,
        )

    def take(
        self,
        snapshot: StateSnapshot,
        view: PartitionView,
        slice_id: SliceId,
        aggregate: Aggregate,
    ) -> None:
        """Keep the summary of a slice, without durations, which the daily board does not show."""
        # Names may have been added to the state since the last slice.
        for name, scope in self._scopes.items():
            scope.follow(
                snapshot.customers if name in (CUSTOMER, CUSTOMER_MODEL) else snapshot.series
            )
        by_scope = summarise(aggregate, self._scopes.values(), snapshot.series, self._apart_tiers)
        summary = {name: without_durations(sums) for name, sums in by_scope.items()}
        self._summaries[view.partition, slice_id] = (view.version(slice_id), summary)

    def keys(self, snapshot: StateSnapshot) -> dict[Stretch, Key]:
        """Return the versions of the slices of each stretch; empty for one without slices."""
        return {
            stretch: tuple(
                (view.partition, slice_id, view.version(slice_id))
                for view in snapshot.views
                for slice_id in self._cover(view)[stretch]
            )
            for stretch in self._stretches
        }

    def sums(self, snapshot: StateSnapshot) -> dict[Stretch, StretchSums]:
        """Return the sums of the stretches, once all slices were taken."""
        return {
            stretch: StretchSums(
                key,
                add_up(
                    [self._summaries[partition, slice_id][1] for partition, slice_id, _ in key],
                    self._scopes,
                ),
            )
            for stretch, key in self.keys(snapshot).items()
        }

    def _cover(self, view: PartitionView) -> dict[Stretch, list[SliceId]]:
        known = self._covers.get(view.partition)
        # A view is replaced by a new object whenever its partition has changed.
        if known is None or known[0] is not view:
            reach_s = extent(view.index) if view.index else None
            known = (
                view,
                {
                    stretch: []
                    if reach_s is None
                    else cover(view.index, view.meta.merged_until_s, *stretch, reach_s)
                    for stretch in self._stretches
                },
            )
            self._covers[view.partition] = known
        return known[1]


def add_up(parts: Sequence[SliceSummary], scopes: Iterable[str]) -> SliceSummary:
    """Return the sum of some summaries."""
    return {
        name: Sums.merge([Sums.empty(name), *(part[name] for part in parts)]) for name in scopes
    }


def _batches(stretches: Sequence[Stretch]) -> list[list[Stretch]]:
    """Group neighbours that together are no longer than a day."""
    batches: list[list[Stretch]] = []
    for stretch in stretches:
        if batches and stretch[1] - batches[-1][0][0] <= _TOGETHER_S:
            batches[-1].append(stretch)
        else:
            batches.append([stretch])
    return batches
