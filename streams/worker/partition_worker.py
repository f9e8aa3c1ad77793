"""One claimed partition: admit its batches, count them, write checkpoints, halt and resume.

    batch -> admission -> decode -> circuit breaker -> deduplication -> dead letters -> counts
                                                                             |            |
    checkpoint:                     flush  <-  wait until Kafka has them  <--+-- snapshot +

A `PartitionWorker` lives from a claim until the partition is revoked or the claim is lost; the next
claim makes a new one. admission.py decides which records may be counted, streams/state/partition.py
counts them. This module does both in the right order while Kafka or the store may not answer.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from functools import partial

from streams.checksums import DamagedError
from streams.kafka.fetch import Batch
from streams.logs.partition_log import PartitionLog
from streams.state.edges import export_edges
from streams.state.limits import thresholds_of
from streams.state.set_back import refuse_set_back
from streams.state.slices import SliceId
from streams.state.snapshot import SLICE_PREFIX, slice_field
from streams.store.contract import Answer, CommandKind, Lost, OperatorCommand, StoreError
from streams.store.heartbeat import HaltReason
from streams.store.stored import FieldCheck
from streams.worker.admission import (
    FIXES,
    OF_ANOTHER_LOG,
    Count,
    Drop,
    Halt,
    OffsetAdmission,
    Seek,
)
from streams.worker.archiver import Archiver
from streams.worker.batches import KeyCheck, apply_to, decode_batch, mark_duplicates, remember_ids
from streams.worker.circuit_breaker import CircuitBreaker
from streams.worker.context import WorkerContext
from streams.worker.dead_letters import DeadLetterDeliveries
from streams.worker.deduplication import Deduplicator
from streams.worker.exemplars import Exemplars
from streams.worker.field_samples import FieldSamples
from streams.worker.recovery import Loaded
from streams.worker.supervision import CHECK_S

log = logging.getLogger(__name__)

REFETCH_AFTER_S = 15.0
FIELDS_AT_ONCE = 16  # checked with the stored offset


class PartitionWorker:
    """Counts one partition under one claim."""

    def __init__(
        self, context: WorkerContext, loaded: Loaded, generation: int, shared_by: int
    ) -> None:
        """`generation` is that of the consumer group; `shared_by` partitions share the memory for
        request ids."""
        settings, state = context.settings, loaded.state
        window_ms = settings.dedup_window_s * 1_000
        self._context, self.state = context, state
        self.partition = loaded.partition
        read_from = [state.next_offset]
        if state.witness is not None:
            read_from.append(state.witness.offset)  # shows whether this is still the same log
        self.deduplicator: Deduplicator | None = None  # None: duplicates are counted
        if window_ms:
            ids_max = max(1, settings.dedup_max_ids // max(1, shared_by))
            self.deduplicator = Deduplicator(window_ms, ids_max, state.recent, state.last_set_back)
            settled_ms = state.watermark.settled_ms
            read_from.append(self.deduplicator.read_from(settled_ms, state.next_offset))
        self.admission = OffsetAdmission(
            loaded.partition, generation, loaded.claim, state, min(read_from)
        )
        self._breaker = CircuitBreaker(
            settings.breaker_ratio, settings.breaker_records, settings.breaker_run
        )
        self.exemplars = Exemplars(export_edges(thresholds_of(settings)))
        self.field_samples = FieldSamples()
        self.admission.halted = loaded.halt
        self._archiver = Archiver(context, loaded.partition, loaded.claim)
        self._field_check = FieldCheck(partial(context.store.look, loaded.claim))
        self.released = False  # given back, or replaced by a worker with a newer claim
        self._counting = asyncio.Lock()  # held while the state changes or a snapshot is taken
        self._flushing = asyncio.Lock()  # held from a snapshot until the store has answered
        self.applied_command = ""  # id of the last operator command applied
        self._unstored_command = ""  # one that is applied, but not in the store yet
        self._command_at_halt: str | None = None  # id of the one that was enqueued before the halt
        self._consumed_at = self._flushed_at = self._store_checked_at = time.monotonic()
        self.flush_s = 0.0  # duration of the last checkpoint
        self._log = PartitionLog(log, loaded.partition)
        self._key_check = KeyCheck(self._log, context.counters)
        self._dead_letters = DeadLetterDeliveries(context.dead_letters, self._log)

    # -- counting --------------------------------------------------------------------------------

    async def consume(self, batch: Batch) -> None:
        """Count a batch if it is the next one of the log; else drop it, seek or halt.

        Raises Lost if another worker has claimed the partition, DamagedError if it is damaged.
        """
        async with self._counting:
            if self.released:  # while this batch waited for the lock
                return
            match self.admission.admit(batch):
                case Drop():
                    pass
                case Seek(offset):
                    self._context.counters.reseeks += 1
                    await self._seek_and_resume(offset)
                case Halt() as halt:
                    self._halt(halt)
                case Count(since, gone):
                    await self._take(batch, since, gone)
            self._consumed_at = time.monotonic()

    async def _take(self, batch: Batch, since: int, gone: int) -> None:
        if gone:
            self._pass_over(batch.fetch_offset - gone, batch.fetch_offset)
        if batch.fetch_offset < since:
            self._remember_ids(batch.until(since))
        if batch.next_offset > since:
            await self._count(batch.since(since))

    def _pass_over(self, first: int, end: int) -> None:
        """Continue at `end` as Kafka no longer has the records from `first` on."""
        if self.state.begun_at is None:
            self._log.at(end).info("the log begins here")
            self.state.begin_at(end)
            return
        self._log.at(end).error(
            "records %d to %d are gone from Kafka before they were counted: counted as lost; set "
            "retention.ms of the topic to more than the longest outage",
            *(first, end - 1),
        )
        self.state.lose(end)

    def _remember_ids(self, batch: Batch) -> None:
        """Read the request ids of records that the state counts already."""
        self._flushed_at = time.monotonic()  # reading again takes time, but is no stall
        if self.deduplicator is None or self.state.watermark.time_ms is None or not batch.values:
            return
        settled_ms = self.state.watermark.settled_ms
        remember_ids(batch, self.deduplicator, settled_ms, self._context.event_limits)

    async def _count(self, batch: Batch) -> None:
        began_s = time.monotonic()
        decoded = decode_batch(batch, self.state.watermark, self._context.event_limits)
        rejected = [rejection.position for rejection in decoded.rejections]
        span = (self.state.next_offset, batch.highwater)
        if (reason := self._breaker.check_log(*span, len(batch.values), rejected)) is not None:
            self._halt(Halt(HaltReason.DEAD_LETTERS, self.state.next_offset, reason))
            return
        self._key_check.check(batch, decoded.columns)
        if self.deduplicator is not None:
            decoded = mark_duplicates(batch, decoded, self.deduplicator)
        counting_s = time.monotonic() - began_s
        await self._fetch(self.state.missing(decoded))
        await self._dead_letters.send(batch, decoded.rejections)
        began_s = time.monotonic()
        # After the dead letters, so that every checkpoint with this batch waits for them.
        apply_to(self.state, batch, decoded, self._log)
        self.field_samples.sample(batch.offsets, batch.timestamps_ms, decoded.columns)
        if self.exemplars.due:
            self.exemplars.sample(batch.values, decoded.columns, self.state.registry.knows)
        metrics = self._context.metrics
        metrics.batch_seconds.observe(counting_s + time.monotonic() - began_s)
        metrics.records.inc(len(batch.values))

    async def _fetch(self, missing: Sequence[SliceId]) -> None:
        """Fetch slices that only the store has."""
        if not missing:  # nearly always: events are recent, and memory holds recent slices
            return
        ids = {slice_field(slice_id): slice_id for slice_id in missing}
        load = partial(self._context.store.load, self.admission.claim, list(ids))
        fields = await self._context.supervision.retry(self._log, load)
        self.state.provide({ids[name]: data for name, data in fields.items()})

    # -- checkpoints -----------------------------------------------------------------------------

    async def flush(self, resident_max_bytes: int, last: bool = False) -> None:
        """Write a checkpoint if the state has changed; then keep `resident_max_bytes` in memory.

        `last`: the partition is being given back, so a call without an answer is not repeated.
        Raises Lost if the store rejects it, and StoreError if it is the last and has no answer.
        """
        async with self._flushing:
            if self.released and not last:
                return  # given back meanwhile, with a last checkpoint of its own
            state = self.state
            if not state.changed:
                if self.admission.readable <= state.stored_offset:
                    self._flushed_at = time.monotonic()  # an idle partition is no stall
                return
            began = time.monotonic()
            async with self._counting:
                if self.deduplicator is not None:
                    state.recent = self.deduplicator.dump()
                snapshot = state.snapshot(written_at_ms=self._context.now_ms(state.watermark))
                letters = self._dead_letters.take()
                unstored_command = self._unstored_command
            # Counting continues meanwhile: the snapshot is a copy.
            if not await self._dead_letters.wait(letters, state.stored_offset):
                return
            write = partial(self._context.store.flush, self.admission.claim, snapshot)
            answer = await (write() if last else self._context.supervision.retry(self._log, write))
            self._context.counters.fenced += answer is Answer.FENCED
            self._context.counters.conflicts += answer is Answer.CONFLICT
            self.admission.confirm(snapshot, answer)
            if unstored_command:
                self.applied_command, self._unstored_command = unstored_command, ""
            async with self._counting:  # not between fetching a slice and adding to it
                state.evict(resident_max_bytes)
            self._flushed_at = time.monotonic()
            self.flush_s = self._flushed_at - began

    async def archive(self) -> None:
        """Archive the stored state if that is due and the partition is not halted."""
        if self.admission.halted is not None:
            return
        if (archived_at_ms := await self._archiver.archive_if_due(self.state)) is not None:
            async with self._counting:
                self.state.mark_archived(archived_at_ms)

    # -- halts and operator commands -------------------------------------------------------------

    def _halt(self, halt: Halt) -> None:
        """Stop reading until an operator resumes the partition; no record is lost."""
        # The next heartbeat shows which command was enqueued before the halt.
        self.admission.halted, self._command_at_halt = halt, None
        self._context.consumer.pause(self.partition)
        self._log.at(halt.offset).error(
            "halted (%s): %s; %s", halt.reason, halt.detail, FIXES[halt.reason]
        )

    async def apply(self, command: OperatorCommand | None) -> None:
        """Apply the operator command enqueued last, once.

        A halted partition applies no `resume` or `move` that was enqueued before the halt: it was
        meant for another one. Raises Lost, DamagedError as `consume`.
        """
        halt, command_id = self.admission.halted, command.id if command is not None else ""
        if halt is not None and self._command_at_halt is None:
            self._command_at_halt = command_id
        if command is None or command_id == self.applied_command:
            return
        if command.kind == CommandKind.SET_WATERMARK:
            await self._set_watermark(command)
            return
        if halt is None or command_id == self._command_at_halt or halt.needs_repair:
            return
        async with self._counting:
            if self.released:
                return
            self.applied_command = command_id
            if halt.reason in OF_ANOTHER_LOG:
                # An operator accepted rejected records of the log that was counted, not of this.
                self._breaker.end_acceptance()
            if command.to is not None:
                if not self._move(halt, command.to):
                    return
            elif halt.reason is HaltReason.DEAD_LETTERS:
                self._breaker.accept_present()
            self.admission.resume()
            self._log.at(self.state.next_offset).warning(
                "resumed by command of %s: %s", command.by, command.reason
            )
            await self._seek_and_resume(self.admission.expected_offset)

    def _move(self, halt: Halt, offset: int) -> bool:
        """Move the state to `offset`; return False if records would be counted twice."""
        if halt.reason in OF_ANOTHER_LOG:
            # Offsets of another log cannot be compared with those of the counted one.
            self.state.begin_again(offset)
            if self.deduplicator is not None:
                self.deduplicator.forget()
            self.field_samples = FieldSamples()
            self._breaker.reset()
            return True
        if offset >= self.state.next_offset:
            self.state.lose(offset)
            return True
        self._log.at(self.state.next_offset).error(
            "not moved back to offset %d: the records between would be counted twice", offset
        )
        return False

    async def _set_watermark(self, command: OperatorCommand) -> None:
        """Set the watermark back, unless the state shows that this command was applied."""
        state, to_ms = self.state, command.to or 0
        async with self._counting:
            if self.released or command.id == self._unstored_command:
                return
            if state.last_set_back is not None and state.last_set_back.command == command.id:
                self.applied_command = command.id  # before this partition was loaded
                return
            reason = refuse_set_back(state.watermark.settled_ms, to_ms)
            # A state that was lost is counted again, and must not meet a command of the past.
            reason = command.refuse_by_age(time.time()) or reason
            if reason is not None:
                self.applied_command = command.id
                self._log.at(state.next_offset).error("watermark not set back: %s", reason)
                return
            await self._fetch(state.missing_to_set_back(to_ms))
            from_ms = state.watermark.settled_ms or 0
            shift_ms = 0
            if self.deduplicator is not None:
                shift_ms = self.deduplicator.set_back(from_ms, to_ms, state.next_offset)
            else:
                state.recent = {}  # arrivals by a watermark that is no longer true
            state.set_back(command.id, to_ms, command.at_ms, shift_ms)
            self._unstored_command = command.id
            self._log.at(state.next_offset).warning(
                "watermark set back from %d to %d by command of %s: %s",
                *(from_ms, to_ms, command.by, command.reason),
            )

    # -- reading position and supervision --------------------------------------------------------

    async def begin_reading(self) -> None:
        """Seek to where this claim begins to read; no batch is judged before."""
        async with self._counting:
            await self._seek_and_resume(self.admission.read_from)
        self.pause_if_halted()

    def pause_if_halted(self) -> None:
        """Pause the consumer if this claim began with a damaged state."""
        if self.admission.halted is not None:
            self._halt(self.admission.halted)

    async def _seek_and_resume(self, offset: int) -> None:
        self.admission.note_seek(await self._context.consumer.seek(self.partition, offset))
        self._context.consumer.resume(self.partition)

    async def refetch_if_silent(self) -> None:
        """Seek again if records are known to exist and none came for `REFETCH_AFTER_S`.

        A batch was then dropped on its way, and no later one has shown the gap.
        """
        admission, offset = self.admission, self.admission.expected_offset
        silent_s = time.monotonic() - self._consumed_at
        if admission.halted or admission.readable <= offset or silent_s < REFETCH_AFTER_S:
            return
        if self._counting.locked():  # a batch has come
            return
        # The lock keeps out a batch that comes between the check and the seek.
        async with self._counting:
            if self.released:
                return
            self._log.at(offset).warning("no batch came for %.0f s: fetching again", silent_s)
            self._consumed_at = time.monotonic()
            self._context.counters.reseeks += 1
            await self._seek_and_resume(offset)

    def excuse_silence(self, blocked_s: float) -> None:
        """Leave the seconds in which no batch could come out of the time without one."""
        self._consumed_at = min(time.monotonic(), self._consumed_at + blocked_s)

    async def check_stored_offset(self) -> None:
        """Check every `CHECK_S` the stored offset, and in turn all remaining stored fields.

        Without new records no checkpoint would show that the store went back or is damaged. Raises
        Lost, DamagedError.
        """
        halt = self.admission.halted
        is_due = time.monotonic() - self._store_checked_at >= CHECK_S
        if not is_due or (halt is not None and halt.needs_repair):
            return
        self._store_checked_at = time.monotonic()
        async with self._flushing:
            try:
                offset = await self._field_check.check_next(FIELDS_AT_ONCE)
            except StoreError:
                return  # no answer: the next checkpoint reports it
            except DamagedError as error:
                if error.field == "offset" or error.field.startswith(SLICE_PREFIX):
                    raise
                # Memory has all other fields.
                self._log.error("the stored state is damaged: %s: writing it again", error)
                async with self._counting:
                    self.state.repair({})
                return
            if offset != self.state.stored_offset:
                raise Lost("the store went back to an older state")

    def stalled_s(self) -> float:
        """Return the seconds since the last checkpoint while records wait, else 0.

        A halted partition waits for an operator, and is no stall.
        """
        waiting = self.admission.readable > self.state.stored_offset
        if self.admission.halted is not None or not waiting:
            return 0.0
        return time.monotonic() - self._flushed_at
