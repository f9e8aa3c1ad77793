"""Loads a partition's state from the store, or rebuilds it from the archive and from Kafka.

If the store has no state but Kafka has a committed offset, there was a state and it is lost. It is
then restored as of the last time it was archived, and all later records are counted again from the
log; without an archive, all records that Kafka still has.
"""

import logging
from dataclasses import dataclass
from typing import Protocol

from streams.config.settings import Worker
from streams.logs.partition_log import PartitionLog
from streams.state.edges import export_edges
from streams.state.limits import name_limits, thresholds_of
from streams.state.partition import PartitionState
from streams.state.registry import Registry, customer_hasher
from streams.state.snapshot import Snapshot, Stored, decode_meta, decode_names, remade
from streams.store.archive import Archived, Look
from streams.store.contract import Claimed, Store
from streams.worker.admission import OffsetAdmission

log = logging.getLogger(__name__)


class Archive(Protocol):
    """Copies of states, for the day on which the store has lost them."""

    async def read(self, partition: int) -> Archived | None:
        """Return the newest complete state, None if there is none. Raises StoreError."""
        ...

    async def write(self, partition: int, owner: str, look: Look) -> int | None:
        """Write the state that `look` reads. Return its offset. Raises StoreError, Lost."""
        ...


@dataclass(frozen=True, slots=True)
class Loaded:
    """A partition that was claimed, with its state."""

    partition: int
    claim: Claimed
    state: PartitionState
    went_back: bool  # the store has lost its latest writes


class Loader:
    """Claims and loads partitions for one worker."""

    def __init__(self, settings: Worker, store: Store, archive: Archive | None) -> None:
        self._settings, self._store, self._archive = settings, store, archive
        self._limits = name_limits(settings)
        self._hash_customer = customer_hasher(settings.customer_secret())
        self._thresholds = thresholds_of(settings)
        self._edges = export_edges(self._thresholds)

    async def load(self, partition: int, committed: int) -> Loaded:
        """Claim a partition and load its state; `committed` is its offset in Kafka, 0 if none.

        Raises StoreError if the store does not answer, Lost if another worker claims it.
        """
        partition_log = PartitionLog(log, partition)
        claim = await self._store.claim(partition)
        if (
            not claim.stored.fields
            and (archived := await self._read_archive(partition)) is not None
        ):
            partition_log.at(archived.offset).error(
                "state lost from the store: restored from the archive, later records are counted "
                "again"
            )
            claim = await self._restore(claim, archived)
            return Loaded(partition, claim, self._build(claim.stored), went_back=False)
        state = self._build(claim.stored)
        # A committed offset without state: the loss must not pass for a new partition.
        if not claim.stored.fields and committed > 0:
            partition_log.at(committed).error(
                "state lost from the store, but this offset was committed: rebuilt from the "
                "earliest record that Kafka still has"
            )
            state.mark_rebuilt(1)
        went_back = 0 < state.stored_offset < committed
        if went_back:
            partition_log.at(state.stored_offset).error(
                "the store went back to this offset, %d was committed: the records between are "
                "counted again",
                committed,
            )
        partition_log.at(state.next_offset).info("claimed as %s", claim.owner)
        return Loaded(partition, claim, state, went_back)

    async def _read_archive(self, partition: int) -> Archived | None:
        return await self._archive.read(partition) if self._archive is not None else None

    async def _restore(self, claim: Claimed, archived: Archived) -> Claimed:
        """Write an archived state to the store, under a claim that found none."""
        fields = remade(archived.fields)
        sequence = decode_meta(fields["meta"]).sequence
        snapshot = Snapshot(sequence, claim.stored.offset, archived.offset, fields, ())
        # Written before the first record is counted: the store holds what memory builds on.
        OffsetAdmission.check_answer(await self._store.flush(claim, snapshot))
        # As after a claim, memory begins without slices; they are loaded when a batch needs them.
        names = [name for name in fields if not name.startswith("s:")]
        claim.stored = Stored(archived.offset, {name: fields[name] for name in names})
        return claim

    def _build(self, stored: Stored) -> PartitionState:
        names = (
            decode_names(decode_meta(stored.fields["meta"]), stored.fields)
            if stored.fields
            else ([], [])
        )
        return PartitionState(
            stored,
            Registry(self._limits, self._hash_customer, *names),
            self._thresholds,
            self._edges,
            self._settings.lateness_s,
        )
