"""The fleet minute by minute over the last hour, for the small curves beside the numbers.

Pure. A closed minute is a one-minute slice of every partition, a newer one its slices of ten
seconds. A minute is added up again only if one of its slices changed.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from exporters.windows.incremental import FLEET, Grouping, PartKey, Sums, UpToNow, summarise
from exporters.windows.measured import Measured, measure
from streams.state.measures import SERIES_DIMENSIONS
from streams.state.slices import Aggregate, SliceId
from streams.store.reader import PartitionView, StateSnapshot, Version
from streams.store.slice_cache import unread

MINUTES = 60
_MINUTE_S = 60


@dataclass(frozen=True, slots=True)
class Minute:
    """The fleet in one minute of event time."""

    start_s: int
    measured: Measured
    elapsed_s: float  # how much of it is over


class Minutes(UpToNow):
    """The minutes of the curves, brought up to date from snapshots of the state."""

    def __init__(self, apart_tiers: Collection[str]) -> None:
        self._apart_tiers = apart_tiers
        self._fleet = Grouping(FLEET, (), SERIES_DIMENSIONS)
        self._slices: dict[PartKey, tuple[Version, Sums]] = {}
        self._minutes: dict[int, tuple[object, Measured]] = {}  # with the versions of their slices

    def missing(self, snapshot: StateSnapshot) -> Mapping[int, Sequence[SliceId]]:
        """Return the slices of the last hour that changed since they were read."""
        return unread(snapshot, self._selection, self._slices)

    def take(
        self,
        snapshot: StateSnapshot,
        view: PartitionView,
        slice_id: SliceId,
        aggregate: Aggregate,
    ) -> None:
        """Add up the fleet in a slice."""
        self._fleet.follow(snapshot.series)
        sums = summarise(aggregate, [self._fleet], snapshot.series, self._apart_tiers)[FLEET]
        self._slices[view.partition, slice_id] = (view.version(slice_id), sums)

    def last_hour(self, snapshot: StateSnapshot, as_of_s: float) -> tuple[Minute, ...]:
        """Return the minutes, oldest first; the last one is running at `as_of_s`."""
        wanted = {
            (view.partition, slice_id)
            for view in snapshot.views
            for slice_id in self._selection(view)
        }
        self._slices = {key: read for key, read in self._slices.items() if key in wanted}
        by_minute: dict[int, list[PartKey]] = {}
        for key in sorted(self._slices):
            by_minute.setdefault(key[1].start_s // _MINUTE_S * _MINUTE_S, []).append(key)
        minutes = {}
        for start_s in _starts(int(as_of_s)):
            keys = by_minute.get(start_s, [])
            versions = tuple((key, self._slices[key][0]) for key in keys)
            known = self._minutes.get(start_s)
            # Of 60 minutes mostly one or two changed since the last refresh.
            if known is None or known[0] != versions:
                known = versions, _fleet([self._slices[key][1] for key in keys])
            minutes[start_s] = known
        self._minutes = minutes
        return tuple(
            Minute(start_s, counts, min(max(as_of_s - start_s, 0.0), float(_MINUTE_S)))
            for start_s, (_, counts) in minutes.items()
        )

    def _selection(self, view: PartitionView) -> Iterator[SliceId]:
        return (
            slice_id
            for start_s in _starts(self._as_of_s)
            for slice_id in _parts(start_s, view)
            if slice_id in view.index
        )


def _starts(as_of_s: int) -> range:
    running_s = as_of_s // _MINUTE_S * _MINUTE_S
    return range(running_s - (MINUTES - 1) * _MINUTE_S, running_s + 1, _MINUTE_S)


def _parts(start_s: int, view: PartitionView) -> Iterator[SliceId]:
    # Slices of ten seconds are merged into minutes after a while; before that they are finer.
    if start_s < view.meta.merged_until_s[1]:
        yield SliceId(1, start_s)
    else:
        yield from (SliceId(0, start_s + ten_s) for ten_s in range(0, _MINUTE_S, 10))


def _fleet(parts: list[Sums]) -> Measured:
    if not parts:
        return Measured()
    return measure(FLEET, Sums.merge(parts)).get(0, Measured())
