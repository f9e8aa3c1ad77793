"""How a partition's state comes into memory: from the store, or what can be had of it elsewhere.

The store is asked first. Where it has nothing, Kafka is the second witness: an offset committed
there means that there was a state, and that it is lost. It is then taken from the archive topic, as
of the last time it was written there, and everything since is counted from the log again; without
an archive, from the earliest record that Kafka still has.
"""

import logging
from dataclasses import dataclass
from typing import Protocol

from streams.config.settings import Worker
from streams.state.limits import name_limits, thresholds_of
from streams.state.partition import PartitionState
from streams.state.registry import Registry, customer_hasher
from streams.state.slices import export_edges
from streams.state.snapshot import Snapshot, Stored, decode_meta, decode_names, remade
from streams.store.archive import Archived, Look
from streams.store.contract import Claimed, Store
from streams.worker.admission import OffsetAdmission

log = logging.getLogger(__name__)


class Archive(Protocol):
    """Where states are kept for the day on which the store has lost them."""

    async def read(self, partition: int) -> Archived | None:
        """The newest complete state, if any. Raises StoreError."""
        ...

    async def write(self, partition: int, owner: str, look: Look) -> int | None:
        """Write the state that `look` shows; as of which offset. Raises StoreError, Lost."""
        ...


@dataclass(frozen=True, slots=True)
class Loaded:
    """A partition's state, claimed."""

    claim: Claimed
    state: PartitionState
    went_back: bool  # the store had forgotten its latest writes


class Loader:
    """Loads partitions for one worker."""

    def __init__(self, worker: Worker, store: Store, archive: Archive | None) -> None:
        self._worker, self._store, self._archive = worker, store, archive
        self._limits = name_limits(worker)
        self._hashed = customer_hasher(worker.customer_secret())
        self._thresholds = thresholds_of(worker)
        self._edges = export_edges(self._thresholds)

    async def load(self, partition: int, committed: int) -> Loaded:
        """Claim a partition and load its state; `committed`: the offset that Kafka knows of it.

        Raises StoreError where the store does not answer, Lost where somebody else claims it.
        """
        claim = await self._store.claim(partition)
        if not claim.stored.fields and (archived := await self._archived(partition)) is not None:
            log.error(
                "partition %d: its state is lost from the store; restored from the archive as of "
                "offset %d, what came after is counted again",
                partition,
                archived.offset,
            )
            claim = await self._restore(claim, archived)
            return Loaded(claim, self._state(claim.stored), went_back=False)
        state = self._state(claim.stored)
        if not claim.stored.fields and committed > 0:
            log.error(
                "partition %d: its state is lost from the store (offset %d was committed): built "
                "again from the earliest record that Kafka still has",
                partition,
                committed,
            )
            state.mark_rebuilt(1)
        went_back = 0 < state.stored_offset < committed
        if went_back:
            log.error(
                "partition %d: the store went back to offset %d, %d was committed; the records "
                "between are counted again",
                partition,
                state.stored_offset,
                committed,
            )
        log.info(
            "partition %d: claimed as %s at offset %d", partition, claim.owner, state.next_offset
        )
        return Loaded(claim, state, went_back)

    async def _archived(self, partition: int) -> Archived | None:
        return await self._archive.read(partition) if self._archive is not None else None

    async def _restore(self, claim: Claimed, archived: Archived) -> Claimed:
        fields = remade(archived.fields)
        sequence = decode_meta(fields["meta"]).sequence
        snapshot = Snapshot(sequence, claim.stored.offset, archived.offset, fields, ())
        OffsetAdmission.accept(await self._store.flush(claim, snapshot))
        names = [name for name in fields if not name.startswith("s:")]
        claim.stored = Stored(archived.offset, {name: fields[name] for name in names})
        return claim

    def _state(self, stored: Stored) -> PartitionState:
        names = (
            decode_names(decode_meta(stored.fields["meta"]), stored.fields)
            if stored.fields
            else ([], [])
        )
        return PartitionState(
            stored,
            Registry(self._limits, self._hashed, *names),
            self._thresholds,
            self._edges,
            self._worker.lateness_s,
        )
