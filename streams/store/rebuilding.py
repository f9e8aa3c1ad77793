"""The sources from which a damaged state can be rebuilt without loss: the archive, or the log.

Pure. Workers repair by these rules, and `tokenpulse state check` shows their next step.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from streams.checksums import DamagedError
from streams.state.slices import SliceId
from streams.state.snapshot import (
    Meta,
    Stored,
    decode_index,
    decode_meta,
    decode_slice,
    descends,
    slice_field,
)
from streams.store.archive import Archived
from streams.store.stored import check_state, required


class RebuildSource(StrEnum):
    """A source that rebuilds a damaged state, best first."""

    SLICES = "slices"  # the archive has the same version of each damaged slice
    ARCHIVE = "archive"  # the archive has an earlier state, and the log all records since
    LOG = "log"  # it has all records that were ever counted


@dataclass(frozen=True, slots=True)
class DamagedState:
    """A stored state of which some fields are damaged."""

    stored: Stored
    first: DamagedError
    slices: Sequence[SliceId] = ()  # the damaged ones, if all other fields are whole

    @property
    def begun_at(self) -> int:
        """Return the offset of the first record ever counted; 0 if it is unknown."""
        return 0 if self._meta is None else self._meta.begun_at

    @property
    def times_rebuilt(self) -> int:
        """Return how often the state had been rebuilt, as far as it is known."""
        return 0 if self._meta is None else self._meta.rebuilt

    @property
    def _meta(self) -> Meta | None:
        try:
            return decode_meta(required(self.stored.fields, "meta"))
        except DamagedError:
            return None

    def source(self, archived: Archived | None, log_start: int) -> RebuildSource | None:
        """Return the source from which the state can be rebuilt; None if counts would be lost.

        `archived`: the newest archived state, if there is one. `log_start`: the first offset that
        Kafka has.
        """
        if self.slices and self.copies(archived) is not None:
            return RebuildSource.SLICES
        if archived is not None and log_start <= archived.offset:
            return RebuildSource.ARCHIVE
        return RebuildSource.LOG if log_start <= self.begun_at else None

    def copies(self, archived: Archived | None) -> Mapping[SliceId, bytes] | None:
        """Return copies of the damaged slices; None if the archive has another version of one."""
        if archived is None:
            return None
        fields = archived.fields
        meta, before = decode_meta(self.stored.fields["meta"]), decode_meta(fields["meta"])
        # Without generations checkpoints of one number may differ.
        if not before.generations or not descends(meta, before):
            return None
        versions, copied = decode_index(self.stored.fields["index"]), decode_index(fields["index"])
        if any(copied.get(slice_id) != versions[slice_id] for slice_id in self.slices):
            return None
        return {slice_id: fields[slice_field(slice_id)] for slice_id in self.slices}


def check_archived(archived: Archived) -> None:
    """Check all fields of an archived state. Raises DamagedError."""
    fields = archived.fields
    meta = decode_meta(required(fields, "meta"))
    check_state(meta, str(archived.offset).encode(), fields)
    for slice_id in decode_index(fields["index"]):
        decode_slice(slice_id, required(fields, slice_field(slice_id)))
