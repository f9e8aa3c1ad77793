"""Reads days out of the state, again and again: only what changed since the last time.

A shell: Redis is read here. A day that is over is kept as one sum, the running day and the one
before it hour by hour, as it is their last hours that change. What is kept goes by the versions of
the slices it was made of.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import redis.asyncio as aioredis

from exporters.daily.day.calendar import Stretch
from exporters.daily.day.counts import DIMENSIONS, without_durations
from exporters.windows.incremental import CUSTOMER, Grouping, SliceSummary, Sums, summarise
from streams.state.measures import SERIES_DIMENSIONS
from streams.state.slices import SliceId
from streams.state.windows import cover, extent
from streams.store.contract import StoreError
from streams.store.heartbeat import Heartbeat
from streams.store.reader import PartitionView, StateReader

FLEET = "fleet"
# As the exporter's own windows: a day of 100 series is some megabytes before it is digested.
_SLICES_A_ROUND = 16
_ROUNDS = 500
_TOGETHER_S = 90_000  # parts of a day are read in one go
_KEPT = 160  # stretches: two boards' days, and the hours of four days

Key = tuple[tuple[int, int, SliceId, int], ...]  # partition, times rebuilt, slice, version


class StretchSums(NamedTuple):
    """All that was counted in a stretch of time, by scope, and the versions it was made of."""

    key: Key
    summary: SliceSummary


class DayReader:
    """The state of one consumer group and topic, as sums of stretches."""

    def __init__(self, client: "aioredis.Redis", group: str, topic: str) -> None:
        self._client, self._group, self._topic = client, group, topic
        self.forget()

    def forget(self) -> None:
        """Begin again from nothing, as after a failed reading: what Redis holds when it comes back
        may be another state under the same numbers."""
        self._reader = StateReader(self._client, self._group, self._topic, remember=False)
        self.scopes = {
            name: Grouping(
                name,
                () if name == FLEET else (name,),
                (CUSTOMER, "model") if name == CUSTOMER else SERIES_DIMENSIONS,
            )
            for name in (FLEET, *DIMENSIONS)
        }
        self._kept: dict[Stretch, StretchSums] = {}
        self._sequences: dict[int, int] = {}

    async def views(self) -> tuple[list[PartitionView], list[Heartbeat]]:
        """How far every partition is. Raises StoreError."""
        views = [view for view, _ in await self._reader.read(lambda view: ())]
        for view in views:
            if view.meta.sequence < self._sequences.get(view.partition, 0):  # it was set back
                self._kept.clear()
            self._sequences[view.partition] = view.meta.sequence
        return views, await self._reader.signs()

    async def read(
        self, views: Sequence[PartitionView], stretches: Iterable[Stretch]
    ) -> dict[Stretch, StretchSums]:
        """Sums of stretches that can be cut out of the state; none overlaps another.

        Raises StoreError.
        """
        stretches = list(stretches)
        reaches = [extent(view.index) if view.index else None for view in views]
        stale = []
        for stretch in stretches:
            covers = [_cover(view, stretch, at) for view, at in zip(views, reaches, strict=True)]
            held = self._kept.get(stretch)
            if not any(covers):
                self._kept[stretch] = StretchSums((), summed((), self.scopes))
            elif held is None or held.key != _key(views, covers):
                stale.append(stretch)
        for batch in _batches(stale):
            await self._renew(batch)
        found = {stretch: self._kept.pop(stretch) for stretch in stretches}
        self._kept.update(found)  # the last used stand last
        while len(self._kept) > max(_KEPT, len(found)):
            del self._kept[next(iter(self._kept))]
        return found

    async def _renew(self, batch: Sequence[Stretch]) -> None:
        summaries: dict[tuple[int, SliceId], tuple[tuple[int, int], SliceSummary]] = {}
        covers: dict[int, list[list[SliceId]]] = {}
        unread: dict[int, int] = {}

        def wanted(view: PartitionView) -> list[SliceId]:
            reach = extent(view.index) if view.index else None
            covers[view.partition] = [_cover(view, stretch, reach) for stretch in batch]
            missing = [
                of
                for cut in covers[view.partition]
                for of in cut
                if summaries.get((view.partition, of), (None,))[0] != _version(view, of)
            ]
            unread[view.partition] = max(0, len(missing) - _SLICES_A_ROUND)
            return missing[:_SLICES_A_ROUND]

        for _ in range(_ROUNDS):
            read = await self._reader.read(wanted)
            for name, scope in self.scopes.items():
                scope.follow(self._reader.cubes if name == CUSTOMER else self._reader.series)
            for view, aggregates in read:
                for of, aggregate in aggregates.items():
                    by_scope = summarise(aggregate, self.scopes.values())
                    slim = {name: without_durations(sums) for name, sums in by_scope.items()}
                    summaries[view.partition, of] = (_version(view, of), slim)
            if not any(unread[view.partition] for view, _ in read):
                break
        else:
            raise StoreError("the state is rewritten faster than it can be read")
        views = [view for view, _ in read]
        for at, stretch in enumerate(batch):
            cuts = [covers[view.partition][at] for view in views]
            parts = [
                summaries[view.partition, of][1]
                for view, cut in zip(views, cuts, strict=True)
                for of in cut
            ]
            self._kept[stretch] = StretchSums(_key(views, cuts), summed(parts, self.scopes))


def summed(parts: Sequence[SliceSummary], scopes: Iterable[str]) -> SliceSummary:
    """The sum of some summaries."""
    return {
        name: Sums.merged([Sums.empty(name), *(part[name] for part in parts)]) for name in scopes
    }


def _cover(view: PartitionView, stretch: Stretch, reach_s: Stretch | None) -> list[SliceId]:
    if reach_s is None:
        return []
    return cover(view.index, view.meta.merged_until_s, *stretch, reach_s)


def _version(view: PartitionView, of: SliceId) -> tuple[int, int]:
    return view.meta.rebuilt, view.index[of]


def _key(views: Sequence[PartitionView], covers: Sequence[Sequence[SliceId]]) -> Key:
    return tuple(
        (view.partition, view.meta.rebuilt, of, view.index[of])
        for view, cut in zip(views, covers, strict=True)
        for of in cut
    )


def _batches(stretches: Sequence[Stretch]) -> list[list[Stretch]]:
    """Neighbours that together are no longer than a day."""
    found: list[list[Stretch]] = []
    for stretch in stretches:
        if found and stretch[1] - found[-1][0][0] <= _TOGETHER_S:
            found[-1].append(stretch)
        else:
            found.append([stretch])
    return found
