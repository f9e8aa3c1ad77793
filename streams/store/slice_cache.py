"""Which slices of a state a consumer has not read, and one that keeps whole slices."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from streams.state.slices import Aggregate, SliceId
from streams.store.reader import PartitionView, StateSnapshot, Version


def unread(
    snapshot: StateSnapshot,
    select: Callable[[PartitionView], Iterable[SliceId]],
    known: Mapping[tuple[int, SliceId], tuple[Version, object]],
) -> dict[int, list[SliceId]]:
    """Return, by partition, the selected slices of which `known` has no present version.

    `known`: by partition and slice, the version and what was derived from it.
    """
    return {
        view.partition: [
            slice_id
            for slice_id in select(view)
            if known.get((view.partition, slice_id), (None,))[0] != view.version(slice_id)
        ]
        for view in snapshot.views
    }


class SliceCache:
    """A consumer that keeps whole slices: those that `cover` selects of each view."""

    def __init__(self, cover: Callable[[PartitionView], Iterable[SliceId]]) -> None:
        self._cover = cover
        self._selected: dict[int, tuple[PartitionView, list[SliceId]]] = {}
        self._read: dict[tuple[int, SliceId], tuple[Version, Aggregate]] = {}

    def missing(self, snapshot: StateSnapshot) -> Mapping[int, Sequence[SliceId]]:
        """Return the selected slices whose present version was not read yet."""
        return unread(snapshot, self._selection, self._read)

    def _selection(self, view: PartitionView) -> list[SliceId]:
        selected = self._selected.get(view.partition)
        if selected is None or selected[0] is not view:
            selected = self._selected[view.partition] = view, list(self._cover(view))
        return selected[1]

    def take(
        self,
        snapshot: StateSnapshot,
        view: PartitionView,
        slice_id: SliceId,
        aggregate: Aggregate,
    ) -> None:
        """Keep a slice."""
        self._read[view.partition, slice_id] = (view.version(slice_id), aggregate)

    def aggregates(self, view: PartitionView) -> dict[SliceId, Aggregate]:
        """Return the selected slices of a view, after `StateSnapshot.load`."""
        return {
            slice_id: self._read[view.partition, slice_id][1] for slice_id in self._selection(view)
        }
