"""The fleet minute by minute over the last hour, for the small curves beside the numbers.

Pure. A closed minute is a one-minute slice of every partition, a newer one its slices of ten
seconds. Slices arrive as the windows read them anyway; each minute is worked out again only when
one of its slices changed.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from exporters.windows.incremental import PartKey, SliceSummary, Sums
from exporters.windows.measured import Measured, measured
from streams.state.slices import SliceId
from streams.store.reader import PartitionView

FLEET = "fleet"
MINUTES = 60
_MINUTE_S = 60


@dataclass(frozen=True, slots=True)
class Minute:
    """The fleet in one minute of event time."""

    start_s: int
    measured: Measured
    elapsed_s: float  # how much of it is over


class Minutes:
    """The minutes that a curve shows, and the slices they are made of."""

    def __init__(self) -> None:
        self._wanted: dict[int, dict[SliceId, int]] = {}  # by partition, with versions
        self._held: dict[PartKey, tuple[int, Sums]] = {}
        self._worked_out: dict[int, tuple[object, Measured]] = {}

    def missing(self, view: PartitionView, as_of_s: int) -> list[SliceId]:
        """Slices of a partition that are not held as they are now."""
        wanted = {
            of: view.index[of]
            for start_s in _starts(as_of_s)
            for of in _parts(start_s, view)
            if of in view.index
        }
        self._wanted[view.partition] = wanted
        return [
            of
            for of, version in wanted.items()
            if self._held.get((view.partition, of), (-1,))[0] != version
        ]

    def wants(self, partition: int, of: SliceId) -> bool:
        """Whether a slice is part of a curve."""
        return of in self._wanted.get(partition, ())

    def take(self, partition: int, of: SliceId, version: int, summary: SliceSummary) -> None:
        """Hold a slice, if it is part of a curve."""
        if self.wants(partition, of) and FLEET in summary:
            self._held[partition, of] = (version, summary[FLEET])

    def drop(self, partition: int) -> None:
        """Forget a partition whose state was set back."""
        self._held = {key: one for key, one in self._held.items() if key[0] != partition}

    def of(self, partitions: Collection[int], as_of_s: float) -> tuple[Minute, ...]:
        """The last hour, oldest first; the last minute is running at `as_of_s`."""
        wanted = {(one, of) for one in partitions for of in self._wanted.get(one, ())}
        self._held = {key: held for key, held in self._held.items() if key in wanted}
        by_minute: dict[int, list[PartKey]] = {}
        for key in sorted(self._held):
            by_minute.setdefault(key[1].start_s // _MINUTE_S * _MINUTE_S, []).append(key)
        worked_out = {}
        for start_s in _starts(int(as_of_s)):
            keys = by_minute.get(start_s, [])
            made_of = tuple((key, self._held[key][0]) for key in keys)
            known = self._worked_out.get(start_s)
            if known is None or known[0] != made_of:
                known = made_of, _fleet([self._held[key][1] for key in keys])
            worked_out[start_s] = known
        self._worked_out = worked_out
        return tuple(
            Minute(start_s, found, min(max(as_of_s - start_s, 0.0), float(_MINUTE_S)))
            for start_s, (_, found) in worked_out.items()
        )


def _starts(as_of_s: int) -> range:
    running_s = as_of_s // _MINUTE_S * _MINUTE_S
    return range(running_s - (MINUTES - 1) * _MINUTE_S, running_s + 1, _MINUTE_S)


def _parts(start_s: int, view: PartitionView) -> Iterator[SliceId]:
    if start_s < view.meta.merged_until_s[1]:
        yield SliceId(1, start_s)
    else:
        yield from (SliceId(0, start_s + ten_s) for ten_s in range(0, _MINUTE_S, 10))


def _fleet(parts: list[Sums]) -> Measured:
    if not parts:
        return Measured()
    return measured(FLEET, Sums.merged(parts)).get(0, Measured())
