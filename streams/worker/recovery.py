"""Loads a partition's state from the store, or rebuilds it from the archive and from Kafka.

If the store has no state but Kafka has a committed offset, there was a state and it is lost. It is
then restored as of the last time it was archived, and all later records are counted again from the
log; without an archive, all records that Kafka still has.

A state with damaged fields is repaired without loss, by the first of these that can:

1. damaged slices alone: from the archive, if it has the same version of each
2. the whole state from the archive, and the records since from the log
3. the whole state from the log, if that still has the first record ever counted

If none can, the partition is halted, until an operator accepts the loss.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from streams.checksums import DamagedError
from streams.config.settings import Worker
from streams.logs.partition_log import PartitionLog
from streams.state.edges import export_edges
from streams.state.limits import customer_tokens, name_limits, thresholds_of
from streams.state.partition import PartitionState
from streams.state.registry import Registry, ReservedNames
from streams.state.slices import SliceId
from streams.state.snapshot import (
    SLICE_PREFIX,
    Snapshot,
    Stored,
    decode_index,
    decode_meta,
    decode_names,
    decode_slice,
    remade,
    slice_field,
)
from streams.store.archive import Archived, Look
from streams.store.contract import Claimed, Store
from streams.store.heartbeat import HaltReason
from streams.store.rebuilding import DamagedState, RebuildSource, check_archived
from streams.store.stored import required
from streams.worker.admission import Halt, OffsetAdmission

log = logging.getLogger(__name__)

SLICES_AT_ONCE = 100


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
    halt: Halt | None = None  # the stored state is damaged, and `state` is not it


@dataclass(frozen=True, slots=True)
class _Repair:
    """A claimed partition whose stored state is damaged."""

    partition: int
    claim: Claimed
    committed: int  # offset in Kafka; 0 if none
    damaged: DamagedState
    accept_loss: bool

    @property
    def log(self) -> PartitionLog:
        """Return the log of the partition at its stored offset."""
        return PartitionLog(log, self.partition).at(self.claim.stored.offset)


class Log(Protocol):
    """The log of the events."""

    async def log_start(self, partition: int) -> int:
        """Return the first offset that Kafka still has of a partition."""
        ...


class Loader:
    """Claims and loads partitions for one worker."""

    def __init__(
        self,
        settings: Worker,
        store: Store,
        archive: Archive | None,
        events: Log,
        reserved: ReservedNames,
    ) -> None:
        self._settings, self._store, self._archive = settings, store, archive
        self._events = events
        self._limits = name_limits(settings, reserved)
        customer_tokens(settings, {})  # a key that cannot be used is an error at the start
        self._thresholds = thresholds_of(settings)
        self._edges = export_edges(self._thresholds)

    async def load(
        self,
        partition: int,
        committed: int,
        damage: DamagedError | None = None,
        accept_loss: bool = False,
    ) -> Loaded:
        """Claim a partition and load its state; `committed` is its offset in Kafka, 0 if none.

        `damage`: the damaged field that was found; all slices are then checked. `accept_loss`:
        whether an operator accepts that the repair loses counts.

        Raises StoreError if the store does not answer, Lost if another worker claims it.
        """
        partition_log = PartitionLog(log, partition)
        claim = await self._store.claim(partition)
        if (damage := claim.stored.damage or damage) is not None:
            damaged = DamagedState(claim.stored, damage)
            return await self._repair(_Repair(partition, claim, committed, damaged, accept_loss))
        if (
            not claim.stored.fields
            and (archived := await self._read_archive(partition)) is not None
        ):
            partition_log.at(archived.offset).error(
                "state lost from the store: restored from the archive, later records are counted "
                "again"
            )
            claim = await self._restore(claim, archived)
            return Loaded(partition, claim, self._build(claim), went_back=False)
        state = self._build(claim)
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
        """Return the newest archived state; None if there is none, or if it is damaged."""
        archived = await self._archive.read(partition) if self._archive is not None else None
        if archived is not None:
            try:
                check_archived(archived)
            except DamagedError as error:
                PartitionLog(log, partition).error("the archive is damaged too: %s", error)
                return None
        return archived

    async def _restore(self, claim: Claimed, archived: Archived, times: int = 0) -> Claimed:
        """Write an archived state to the store, in place of the present one.

        `times`: how often the state before it had been rebuilt, if that is known.
        """
        fields = remade(archived.fields, times)
        sequence = decode_meta(fields["meta"]).sequence
        snapshot = Snapshot(sequence, claim.stored.offset, archived.offset, fields, ())
        # Written before the first record is counted: the store holds what memory builds on.
        OffsetAdmission.check_answer(await self._store.replace(claim, snapshot))
        # As after a claim, memory begins without slices; they are loaded when a batch needs them.
        names = [name for name in fields if not name.startswith(SLICE_PREFIX)]
        claim.stored = replace(
            claim.stored,
            offset=archived.offset,
            fields={name: fields[name] for name in names},
            damage=None,
        )
        return claim

    # -- damaged states --------------------------------------------------------------------------

    async def _repair(self, repair: _Repair) -> Loaded:
        claim = repair.claim
        if claim.stored.damage is None:  # all fields beside the slices are whole
            slices = await self._damaged_slices(claim)
            if not slices:
                repair.log.info("all stored fields are whole")
                return self._loaded(repair)
            first = next(iter(slices.values()))
            repair = replace(repair, damaged=DamagedState(claim.stored, first, list(slices)))
        repair.log.error("the stored state is damaged: %s", repair.damaged.first)
        archived = await self._read_archive(repair.partition)
        log_start = await self._events.log_start(repair.partition)
        return await self._rebuild(repair, archived, log_start)

    async def _rebuild(self, repair: _Repair, archived: Archived | None, log_start: int) -> Loaded:
        damaged, source = repair.damaged, repair.damaged.source(archived, log_start)
        copies = damaged.copies(archived) if source is RebuildSource.SLICES else None
        if copies is not None:
            repair.log.warning("restored %d slices from the archive", len(copies))
            return self._loaded(repair, restored=copies)
        if source is None and not repair.accept_loss:
            return self._halted(repair, log_start)
        if source is None and damaged.slices:
            repair.log.warning("gave up %d slices by command", len(damaged.slices))
            return self._loaded(repair, lost=damaged.slices)
        if archived is not None and source is not RebuildSource.LOG:
            repair.log.warning("restored from the archive as of offset %d", archived.offset)
            claim = await self._restore(repair.claim, archived, damaged.times_rebuilt)
            return self._loaded(replace(repair, claim=claim))
        return await self._count_again(repair, log_start)

    def _loaded(
        self,
        repair: _Repair,
        restored: Mapping[SliceId, bytes] | None = None,
        lost: Sequence[SliceId] = (),
    ) -> Loaded:
        state = self._build(repair.claim)
        if restored or lost:
            state.repair(restored or {}, lost)
        return Loaded(repair.partition, repair.claim, state, went_back=False)

    async def _damaged_slices(self, claim: Claimed) -> dict[SliceId, DamagedError]:
        """Return the slices that are missing or cannot be read, each with its fault."""
        damaged = {}
        slice_ids = sorted(decode_index(claim.stored.fields["index"]))
        for at in range(0, len(slice_ids), SLICES_AT_ONCE):
            part = slice_ids[at : at + SLICES_AT_ONCE]
            stored = await self._store.look(claim, list(map(slice_field, part)))
            for slice_id in part:
                try:
                    decode_slice(slice_id, required(stored, slice_field(slice_id)))
                except DamagedError as error:
                    damaged[slice_id] = error
        return damaged

    async def _count_again(self, repair: _Repair, log_start: int) -> Loaded:
        """Drop the stored state, and count all records that Kafka still has."""
        claim = repair.claim
        OffsetAdmission.check_answer(await self._store.replace(claim, Snapshot(0, 0, 0, {}, ())))
        repair.log.warning("dropped the damaged state: counting from offset %d", log_start)
        claim.stored = Stored(0, generation=claim.stored.generation)
        loaded = self._loaded(repair)
        loaded.state.mark_rebuilt(repair.damaged.times_rebuilt + 1)
        return loaded

    def _halted(self, repair: _Repair, log_start: int) -> Loaded:
        # Nothing is counted onto it or written: it only says where the partition stopped.
        stored = Stored(max(repair.committed, repair.claim.stored.offset))
        detail = (
            f"{repair.damaged.first}: the archive does not have it, and the log begins at offset "
            f"{log_start}, after the first counted record"
        )
        halt = Halt(HaltReason.DAMAGED, stored.offset, detail)
        state = self._build(replace(repair.claim, stored=stored))
        return Loaded(repair.partition, repair.claim, state, went_back=False, halt=halt)

    def _build(self, claim: Claimed) -> PartitionState:
        stored = claim.stored
        names = (
            decode_names(decode_meta(stored.fields["meta"]), stored.fields)
            if stored.fields
            else ([], [])
        )
        return PartitionState(
            stored,
            Registry(self._limits, customer_tokens(self._settings, claim.tokens), *names),
            self._thresholds,
            self._edges,
            self._settings.lateness_s,
        )
