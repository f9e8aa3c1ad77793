"""Partitions in a worker's hands: load, count, checkpoint, give back.

The order of things, for one partition:

    claim -> load -> seek -> [ batch -> refused records to the dead-letter topic -> count ]*
                                  |                          every second: checkpoint
                                  +-> a batch that is not the next one is never counted

What may be counted and when memory must be dropped is decided in admission.py, what a number is,
partition.py's. Here it is done, in the right order, against servers that may be away.
"""

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import TypeVar

import numpy as np

from streams.config.settings import Worker
from streams.events.decoder import Decoded, decode
from streams.kafka.fetch import Batch
from streams.state.limits import event_limits, thresholds_of
from streams.state.slices import export_edges
from streams.state.snapshot import slice_field
from streams.store.contract import Answer, Lost, Store, StoreError
from streams.store.heartbeat import HaltReason
from streams.worker.admission import Count, Drop, Halt, OffsetAdmission, Seek
from streams.worker.assignment import Aggregates, DeadLetters, Flow, Owned
from streams.worker.circuit_breaker import Breaker
from streams.worker.deduplication import Reach, Seen, set_apart
from streams.worker.exemplars import Exemplars
from streams.worker.recovery import Archive, Loader
from streams.worker.supervision import Upkeep

log = logging.getLogger(__name__)

T = TypeVar("T")

REVOKE_DEADLINE_S = 5.0
RETRY_S = 0.5
RECLAIMS = 3
STALL_S = 120.0
ARCHIVE_LOOK_S = 5.0


class Pipeline:
    """Everything a worker does with its partitions."""

    def __init__(
        self,
        worker: Worker,
        store: Store,
        dead_letters: DeadLetters,
        flow: Flow,
        archive: Archive | None = None,
    ) -> None:
        self._worker, self._store = worker, store
        self._dead_letters, self._flow = dead_letters, flow
        self._loader = Loader(worker, store, archive)
        self._event_limits = event_limits(worker)
        self._owned: dict[int, Owned] = {}
        self._given_back: Mapping[int, int] = {}  # stored offsets, for Kafka's last commit
        self._flush_wanted = asyncio.Event()
        self._store_answers = True
        self._flushed = asyncio.Condition()
        self.aggregates = Aggregates()
        name = f"{os.uname().nodename}:{os.getpid()}"
        self._upkeep = Upkeep(name, worker, store, flow, archive, self.aggregates)

    # -- ownership -------------------------------------------------------------------------------

    async def load(self, partitions: Iterable[int], generation: int) -> Mapping[int, int]:
        """Claim and load partitions; says at which offset to read each on, nothing where they are
        not ours any more.

        Raises StoreError where the store does not answer in time, Lost where another worker claims
        one meanwhile.
        """
        wanted = sorted(partitions)
        committed = await self._flow.confirm(wanted)
        if committed is None:
            return {}
        loaded = await asyncio.gather(
            *(self._load(one, generation, committed[one], len(wanted)) for one in wanted)
        )
        self._owned, self._given_back = {owned.partition: owned for owned in loaded}, {}
        return {one: owned.custody.read_from for one, owned in self._owned.items()}

    def sought(self, epochs: Mapping[int, int]) -> None:
        """The seeks that `load` asked for were made; from now on batches bear these epochs."""
        for partition, epoch in epochs.items():
            if (owned := self._owned.get(partition)) is not None:
                owned.custody.sought(epoch)

    async def _load(self, partition: int, generation: int, committed: int, sharing: int) -> Owned:
        worker = self._worker
        loaded = await self._loader.load(partition, committed)
        self.aggregates.rollbacks += loaded.went_back
        state = loaded.state
        window_ms = worker.dedup_window_s * 1_000
        reach = Reach(window_ms)
        reach.load(state.recent)
        read_from = state.next_offset
        if state.witness is not None:
            read_from = min(read_from, state.witness.offset)
        since = reach.since(state.watermark_ms) if window_ms else None
        if since is not None:
            read_from = min(read_from, since)
        return Owned(
            OffsetAdmission(partition, generation, loaded.claim, state, read_from),
            Breaker(worker.breaker_ratio, worker.breaker_records, worker.breaker_run),
            Seen(window_ms, max(1, worker.dedup_max_ids // max(1, sharing))) if window_ms else None,
            reach,
            Exemplars(export_edges(thresholds_of(worker))),
        )

    async def revoke(self, ending: bool = False) -> None:
        """Partitions are about to move: write what is counted, if that is quick, and forget.

        `ending`: for good. Their offsets are then still told to Kafka; in the middle of a rebalance
        a commit would only disturb it.
        """
        owned, self._owned = list(self._owned.values()), {}
        self._given_back = {}
        try:
            async with asyncio.timeout(REVOKE_DEADLINE_S):
                await asyncio.gather(*(self._flush(one, retry=False) for one in owned))
        except Exception as error:  # whatever it is: what was not written is counted again
            log.warning("not everything was written before giving partitions back: %r", error)
        if ending:
            self._given_back = {one.partition: one.state.stored_offset for one in owned}

    def durable(self) -> Mapping[int, int]:
        """Per partition the offset whose records are all in the store."""
        owned = {one: owned.state.stored_offset for one, owned in self._owned.items()}
        return {**self._given_back, **owned}

    def _is_ours(self, owned: Owned) -> bool:
        return self._owned.get(owned.partition) is owned

    async def _reload(self, owned: Owned) -> None:
        """Drop what memory says of a partition and begin again from the store."""
        async with owned.reloading:
            if not self._is_ours(owned):
                return
            for attempt in range(1, RECLAIMS + 1):
                try:
                    fresh = await self._answered(owned.partition, partial(self._load_again, owned))
                    break
                except Lost as error:
                    log.warning("partition %d: %s (attempt %d)", owned.partition, error, attempt)
            else:
                raise Lost(f"partition {owned.partition}: claimed away {RECLAIMS} times in a row")
            if fresh is None:
                self._owned.pop(owned.partition, None)
                return
            if self._is_ours(owned):
                async with fresh.counting:  # nothing may be judged before the seek is made
                    self._owned[fresh.partition] = fresh
                    await self._upkeep.go_on(fresh, fresh.custody.read_from)

    async def _load_again(self, owned: Owned) -> Owned | None:
        """None where the partition is not ours any more: claiming it would only fence its owner."""
        custody = owned.custody
        committed = await self._flow.confirm([owned.partition])
        if committed is None:
            return None
        # What the store has confirmed to us counts for more than what was committed to Kafka.
        known = max(committed[owned.partition], owned.state.stored_offset)
        fresh = await self._load(owned.partition, custody.generation, known, len(self._owned))
        if fresh.state.rebuilt and fresh.state.stored_offset < known:
            fresh.state.mark_rebuilt(max(fresh.state.rebuilt, owned.state.rebuilt + 1))
        return fresh

    # -- counting --------------------------------------------------------------------------------

    async def consume(self, batch: Batch) -> None:
        """Count a batch, if it is the next one of a partition we own."""
        owned = self._owned.get(batch.partition)
        if owned is None:
            return
        try:
            async with owned.counting:
                await self._admit(owned, batch)
                owned.consumed_at = time.monotonic()
        except Lost as error:
            log.warning("partition %d: %s: loading it again", batch.partition, error)
            self.aggregates.fenced += 1
            await self._reload(owned)
        await self._hold_back()

    async def _admit(self, owned: Owned, batch: Batch) -> None:
        match owned.custody.admit(batch):
            case Drop():
                pass
            case Seek(to):
                self.aggregates.reseeks += 1
                await self._upkeep.go_on(owned, to)
            case Halt() as halt:
                self._upkeep.halt(owned, halt)
            case Count(since, gone):
                if gone:
                    self._pass_over(owned, batch.fetch_offset, gone)
                if batch.fetch_offset < since:
                    self._remember(owned, batch.until(since))
                if batch.next_offset > since:
                    await self._count(owned, batch.since(since))

    def _pass_over(self, owned: Owned, offset: int, gone: int) -> None:
        state, first = owned.state, offset - gone
        if state.begun_at is None:
            log.info("partition %d: its log begins at offset %d", owned.partition, offset)
            state.begin_at(offset)
            return
        log.error(
            "partition %d: records %d to %d are gone from Kafka before they were counted",
            owned.partition,
            first,
            offset - 1,
        )
        state.lose(offset)

    def _remember(self, owned: Owned, batch: Batch) -> None:
        """Records that are counted already, read again for their request ids."""
        owned.flushed_at = time.monotonic()  # reading again takes its time, and is no stall
        state, seen = owned.state, owned.seen
        if seen is None or state.watermark_ms is None:
            return
        columns = self._decoded(batch, None).columns
        last_ms = np.full(len(columns.position), state.watermark_ms, np.int64)
        seen.judge(columns.request, columns.ended_at_ms, last_ms)

    def _decoded(self, batch: Batch, watermark_ms: int | None) -> Decoded:
        timestamps_ms = np.array(batch.timestamps_ms, np.int64)
        return decode(batch.values, timestamps_ms, watermark_ms, self._event_limits)

    async def _count(self, owned: Owned, batch: Batch) -> None:
        state = owned.state
        decoded = self._decoded(batch, state.watermark_ms)
        refused = [rejection.position for rejection in decoded.rejections]
        if owned.pass_all:
            owned.pass_all, owned.pass_until = False, batch.highwater
        if state.next_offset < owned.pass_until:
            owned.breaker.forget()
        elif found := owned.breaker.look(len(batch.values), refused):
            self._upkeep.halt(owned, Halt(HaltReason.DEAD_LETTERS, state.next_offset, found))
            return
        if owned.seen is not None:
            columns = decoded.columns
            owned.reach.add(batch.offsets_at(columns.position), columns.ended_at_ms)
            decoded = set_apart(
                decoded,
                owned.seen.judge(columns.request, columns.ended_at_ms, columns.watermark_ms),
            )
        await self._provide(owned, decoded)
        for rejection in decoded.rejections:
            sent = await self._dead_letters.send(
                batch, rejection.position, rejection.reason, rejection.detail
            )
            owned.refused.append(asyncio.ensure_future(sent))
        state.apply(decoded, batch.next_offset, batch.last())
        if owned.exemplars.wanted:
            owned.exemplars.look(batch.values, decoded.columns, state.registry.knows)
        if state.unflushed >= self._worker.flush_max_events:
            self._flush_wanted.set()

    async def _provide(self, owned: Owned, decoded: Decoded) -> None:
        """Fetch the slices a batch needs that memory no longer holds."""
        missing = owned.state.missing(decoded)
        if missing:
            names = {slice_field(of): of for of in missing}
            claim = owned.custody.claim
            found = await self._answered(
                owned.partition, lambda: self._store.load(claim, list(names))
            )
            owned.state.provide({names[name]: data for name, data in found.items()})

    async def _answered(self, partition: int, call: Callable[[], Awaitable[T]]) -> T:
        """Ask until the store answers: it may be away for a while, and asking again is harmless."""
        while True:
            try:
                answer = await call()
                self._store_answers = True
                return answer
            except StoreError as error:
                self._store_answers = False
                self.aggregates.store_errors += 1
                log.warning("partition %d: %s: trying again", partition, error)
                await asyncio.sleep(RETRY_S)

    async def _hold_back(self) -> None:
        """Wait while too much is counted that the store does not have yet."""
        if self._takes_more():
            return
        self._flush_wanted.set()
        async with self._flushed:
            await self._flushed.wait_for(self._takes_more)

    def _takes_more(self) -> bool:
        unflushed = sum(owned.state.unflushed for owned in self._owned.values())
        return unflushed <= self._worker.backlog_max_events

    # -- checkpoints -----------------------------------------------------------------------------

    async def checkpoints(self) -> None:
        """Write checkpoints for ever: every interval, or sooner when much has been counted."""
        while True:
            wanted = asyncio.ensure_future(self._flush_wanted.wait())
            # Not a timeout, whose exception would hold on to frames and what they refer to.
            try:
                await asyncio.wait({wanted}, timeout=self._worker.flush_interval_s)
            finally:
                wanted.cancel()
            self._flush_wanted.clear()
            await self.flush_all()

    def owns(self, partition: int) -> bool:
        """Return whether this worker has claimed a partition and not given it back."""
        return partition in self._owned

    async def archives(self) -> None:
        """Write due archives for ever."""
        while True:
            await asyncio.sleep(ARCHIVE_LOOK_S)
            for owned in list(self._owned.values()):
                await self._upkeep.archive(owned)

    async def flush_all(self) -> None:
        """Write a checkpoint of every partition, and a sign of life."""
        await self._upkeep.check_store()
        for owned in list(self._owned.values()):
            try:
                if self._upkeep.store_is_fit:
                    await self._flush(owned)
                    await self._upkeep.check_state(owned)
            except Lost as error:
                log.warning("partition %d: %s: loading it again", owned.partition, error)
                await self._reload(owned)
            if self._is_ours(owned):
                if self._takes_more():
                    await self._upkeep.nudge(owned)
                await self._upkeep.pulse(owned)
        async with self._flushed:
            self._flushed.notify_all()

    async def _flush(self, owned: Owned, retry: bool = True) -> None:
        async with owned.flushing:
            if retry and not self._is_ours(owned):
                return  # given back meanwhile, with a last checkpoint of its own
            state = owned.state
            if not state.changed:
                if owned.custody.readable <= state.stored_offset:
                    owned.flushed_at = time.monotonic()  # nothing to do is no stall
                return
            began = time.monotonic()
            async with owned.counting:
                state.recent = owned.reach.dump()
                snapshot = state.snapshot(written_at_ms=time.time_ns() // 1_000_000)
                refused, owned.refused = owned.refused, []
            if not await owned.arrived(refused):
                return
            write = partial(self._store.flush, owned.custody.claim, snapshot)
            answer = await (self._answered(owned.partition, write) if retry else write())
            self.aggregates.fenced += answer is Answer.FENCED
            self.aggregates.conflicts += answer is Answer.CONFLICT
            owned.custody.settle(snapshot, answer)
            async with owned.counting:  # not between fetching a slice and adding to it
                state.evict(self._worker.resident_max_mb * 1_000_000 // max(1, len(self._owned)))
            owned.flushed_at = time.monotonic()
            owned.flush_s = owned.flushed_at - began

    def stall(self) -> str | None:
        """For the watchdog."""
        stalled_s = self.stalled_s()
        if stalled_s > STALL_S:
            return f"records wait, and none was written for {stalled_s:.0f} s"
        return None

    def stalled_s(self) -> float:
        """Seconds since the slowest partition with uncounted or unwritten records was written.

        0 while the store does not answer or must not be written to: another worker could do no
        better, so we stay and retry. A halted partition waits for a person.
        """
        if not self._store_answers or not self._upkeep.store_is_fit:
            return 0.0
        now = time.monotonic()
        return max(
            (
                now - owned.flushed_at
                for owned in self._owned.values()
                if owned.custody.halted is None
                and owned.custody.readable > owned.state.stored_offset
            ),
            default=0.0,
        )
