"""Partitions in a worker's hands: load, count, checkpoint, give back.

The order of things, for one partition:

    claim -> load -> seek -> [ batch -> refused records to the dead-letter topic -> count ]*
                                  |                          every second: checkpoint
                                  +-> a batch that is not the next one is never counted

Nothing here decides what a number is; that is partition.py's. Here it is decided whether a batch
may be counted at all, and when memory of a partition has to be dropped.
"""

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, TypeVar

import numpy as np

from streams.batches import Batch
from streams.checkpoint import Answer, Claimed, Lost, Store, StoreError
from streams.config import Worker
from streams.events import Decoded, Rules, decode
from streams.partition import (
    PartitionState,
    Stored,
    decode_meta,
    decode_names,
    slice_field,
)
from streams.registry import Caps, Registry, customer_hasher
from streams.slices import HORIZON_S, Thresholds, export_edges

log = logging.getLogger(__name__)

T = TypeVar("T")

REVOKE_DEADLINE_S = 5.0
RETRY_S = 0.5
RECLAIMS = 3


class DeadLetters(Protocol):
    """Takes refused records."""

    async def send(
        self, batch: Batch, position: int, reason: str, detail: str
    ) -> Awaitable[object]:
        """Hand over one record; the result is done when the broker has it."""
        ...


class Seek(Protocol):
    """Moves a partition's reading position."""

    async def __call__(self, partition: int, offset: int) -> None:
        """Read on at `offset`."""
        ...


@dataclass(slots=True)
class Owned:
    """A partition this worker owns."""

    partition: int
    generation: int
    claim: Claimed
    state: PartitionState
    counting: asyncio.Lock = field(default_factory=asyncio.Lock)
    flushing: asyncio.Lock = field(default_factory=asyncio.Lock)
    refused: list[Awaitable[object]] = field(default_factory=list)
    highwater: int = 0
    gap_at: int | None = None  # offset at which a gap was seen and a seek made
    flushed_at: float = field(default_factory=time.monotonic)
    flush_s: float = 0.0


@dataclass(slots=True)
class Tallies:
    """What happened in this process; for its sign of life and its log."""

    records: int = 0
    fenced: int = 0
    conflicts: int = 0
    dropped_batches: int = 0
    reseeks: int = 0
    lost_records: int = 0
    store_errors: int = 0


class Pipeline:
    """Everything a worker does with its partitions."""

    def __init__(self, worker: Worker, store: Store, dead_letters: DeadLetters, seek: Seek) -> None:
        self._worker, self._store = worker, store
        self._dead_letters, self._seek = dead_letters, seek
        self._rules = Rules(
            max_event_bytes=worker.max_event_bytes,
            future_tolerance_ms=worker.future_tolerance_s * 1_000,
            horizon_ms=HORIZON_S * 1_000,
        )
        limits = worker.limits
        self._caps = Caps(
            limits.models,
            limits.regions,
            limits.channels,
            limits.service_tiers,
            limits.series,
            limits.customers,
        )
        self._hashed = customer_hasher(worker.customer_secret())
        self._thresholds = Thresholds.of_seconds(
            worker.ttft_targets_s, worker.tpot_targets_s, worker.duration_targets_s
        )
        self._edges = export_edges(self._thresholds)
        self._owned: dict[int, Owned] = {}
        self._flush_wanted = asyncio.Event()
        self._store_answers = True
        self._flushed = asyncio.Condition()
        self.tallies = Tallies()
        self.name = f"{os.uname().nodename}:{os.getpid()}"

    # -- ownership -------------------------------------------------------------------------------

    async def load(self, partitions: Iterable[int], generation: int) -> Mapping[int, int]:
        """Claim and load partitions; says at which offset to read each on.

        Raises StoreError where the store does not answer in time.
        """
        wanted = sorted(partitions)
        loaded = await asyncio.gather(*(self._load(one, generation) for one in wanted))
        self._owned = {owned.partition: owned for owned in loaded}
        return {one: owned.state.next_offset for one, owned in self._owned.items()}

    async def _load(self, partition: int, generation: int) -> Owned:
        claim = await self._store.claim(partition)
        state = self._restored(claim.stored)
        log.info(
            "partition %d: claimed as %s at offset %d", partition, claim.owner, state.next_offset
        )
        return Owned(partition, generation, claim, state)

    def _restored(self, stored: Stored) -> PartitionState:
        names = (
            ([], [])
            if not stored.fields
            else decode_names(decode_meta(stored.fields["meta"]), stored.fields)
        )
        return PartitionState(
            stored,
            Registry(self._caps, self._hashed, *names),
            self._thresholds,
            self._edges,
            self._worker.lateness_s,
        )

    async def revoke(self) -> None:
        """Partitions are about to move: write what is counted, if that is quick, and forget."""
        owned, self._owned = list(self._owned.values()), {}
        try:
            async with asyncio.timeout(REVOKE_DEADLINE_S):
                await asyncio.gather(*(self._flush(one, retry=False) for one in owned))
        except (TimeoutError, StoreError, Lost) as error:
            log.warning("not everything was written before giving partitions back: %s", error)

    def durable(self) -> Mapping[int, int]:
        """Per partition the offset whose records are all in the store."""
        return {one: owned.state.stored_offset for one, owned in self._owned.items()}

    async def _reload(self, owned: Owned) -> None:
        """Drop what memory says of a partition and begin again from the store."""
        load = partial(self._load, owned.partition, owned.generation)
        for attempt in range(1, RECLAIMS + 1):
            try:
                fresh = await self._answered(owned, load)
                break
            except Lost as error:
                log.warning("partition %d: %s (attempt %d)", owned.partition, error, attempt)
        else:
            raise Lost(f"partition {owned.partition}: claimed away {RECLAIMS} times in a row")
        if self._owned.get(owned.partition) is owned:
            self._owned[owned.partition] = fresh
            await self._seek(owned.partition, fresh.state.next_offset)

    # -- counting --------------------------------------------------------------------------------

    async def consume(self, batch: Batch) -> None:
        """Count a batch, if it is the next one of a partition we own."""
        owned = self._owned.get(batch.partition)
        if owned is None or owned.generation != batch.generation:
            self.tallies.dropped_batches += 1
            return
        owned.highwater = max(owned.highwater, batch.highwater)
        try:
            async with owned.counting:
                await self._count(owned, batch)
        except Lost as error:
            log.warning("partition %d: %s: loading it again", batch.partition, error)
            self.tallies.fenced += 1
            await self._reload(owned)
        await self._hold_back()

    async def _count(self, owned: Owned, batch: Batch) -> None:
        state = owned.state
        if batch.next_offset <= state.next_offset:
            self.tallies.dropped_batches += 1
            return
        if batch.fetch_offset > state.next_offset:
            if owned.gap_at != state.next_offset:
                owned.gap_at = state.next_offset
                self.tallies.reseeks += 1
                await self._seek(owned.partition, state.next_offset)
                return
            # Asked for again and still not there: Kafka no longer has these records.
            lost = batch.fetch_offset - state.next_offset
            self.tallies.lost_records += lost
            log.error(
                "partition %d: records %d to %d are gone from Kafka before they were counted",
                owned.partition,
                state.next_offset,
                batch.fetch_offset - 1,
            )
            state.skip_to(batch.fetch_offset)
        batch = batch.since(state.next_offset)
        decoded = decode(
            batch.values,
            np.array(batch.timestamps_ms, np.int64),
            state.watermark_ms,
            self._rules,
        )
        await self._provide(owned, decoded)
        for refusal in decoded.refusals:
            owned.refused.append(
                await self._dead_letters.send(
                    batch, refusal.position, refusal.reason, refusal.detail
                )
            )
        state.apply(decoded, batch.next_offset)
        self.tallies.records += len(batch.values)
        if state.unflushed >= self._worker.flush_max_events:
            self._flush_wanted.set()

    async def _provide(self, owned: Owned, decoded: Decoded) -> None:
        """Fetch the slices a batch needs that memory no longer holds."""
        missing = owned.state.missing(decoded)
        if missing:
            names = {slice_field(of): of for of in missing}
            found = await self._answered(owned, lambda: self._store.load(owned.claim, list(names)))
            owned.state.provide({names[name]: data for name, data in found.items()})

    async def _answered(self, owned: Owned, call: Callable[[], Awaitable[T]]) -> T:
        """Ask until the store answers: it may be away for a while, and asking again is harmless."""
        while True:
            try:
                answer = await call()
                self._store_answers = True
                return answer
            except StoreError as error:
                self._store_answers = False
                self.tallies.store_errors += 1
                log.warning("partition %d: %s: trying again", owned.partition, error)
                await asyncio.sleep(RETRY_S)

    async def _hold_back(self) -> None:
        """Wait while too much is counted that the store does not have yet."""
        if self._unflushed() <= self._worker.backlog_max_events:
            return
        self._flush_wanted.set()
        async with self._flushed:
            await self._flushed.wait_for(
                lambda: self._unflushed() <= self._worker.backlog_max_events
            )

    def _unflushed(self) -> int:
        return sum(owned.state.unflushed for owned in self._owned.values())

    # -- checkpoints -----------------------------------------------------------------------------

    async def checkpoints(self) -> None:
        """Write checkpoints for ever: every interval, or sooner when much has been counted."""
        while True:
            wanted = asyncio.ensure_future(self._flush_wanted.wait())
            # Not a timeout, whose exception would hold on to frames and what they refer to.
            await asyncio.wait({wanted}, timeout=self._worker.flush_interval_s)
            wanted.cancel()
            self._flush_wanted.clear()
            await self.flush_all()

    async def flush_all(self) -> None:
        """Write a checkpoint of every partition, and a sign of life."""
        for owned in list(self._owned.values()):
            try:
                await self._flush(owned)
            except Lost as error:
                log.warning("partition %d: %s: loading it again", owned.partition, error)
                await self._reload(owned)
            await self._pulse(owned)
        async with self._flushed:
            self._flushed.notify_all()

    async def _flush(self, owned: Owned, retry: bool = True) -> None:
        async with owned.flushing:
            if owned.state.unflushed == 0:
                if owned.highwater <= owned.state.stored_offset:
                    owned.flushed_at = time.monotonic()  # nothing to do is no stall
                return
            began = time.monotonic()
            async with owned.counting:
                snapshot = owned.state.snapshot(written_at_ms=time.time_ns() // 1_000_000)
                refused, owned.refused = owned.refused, []
            await asyncio.gather(*refused)  # in Kafka before the offset passes them
            write = partial(self._store.flush, owned.claim, snapshot)
            answer = await (self._answered(owned, write) if retry else write())
            if answer in (Answer.FENCED, Answer.CONFLICT):
                self.tallies.fenced += answer is Answer.FENCED
                self.tallies.conflicts += answer is Answer.CONFLICT
                raise Lost(f"checkpoint refused: {answer}")
            owned.state.confirm(snapshot)
            async with owned.counting:  # not between fetching a slice and adding to it
                owned.state.evict(
                    self._worker.resident_max_mb * 1_000_000 // max(1, len(self._owned))
                )
            owned.flushed_at = time.monotonic()
            owned.flush_s = owned.flushed_at - began

    async def _pulse(self, owned: Owned) -> None:
        try:
            await self._store.pulse(
                owned.partition,
                {
                    "at_ms": time.time_ns() // 1_000_000,
                    "worker": self.name,
                    "highwater": owned.highwater,
                    "flush_s": round(owned.flush_s, 4),
                    "fenced": self.tallies.fenced,
                    "conflicts": self.tallies.conflicts,
                    "reseeks": self.tallies.reseeks,
                    "lost": self.tallies.lost_records,
                    "store_errors": self.tallies.store_errors,
                },
            )
        except StoreError as error:
            log.warning("%s", error)

    def stalled_s(self) -> float:
        """Seconds since the slowest partition with uncounted or unwritten records was written.

        0 while the store does not answer: another worker could do no better, so we stay and retry.
        """
        if not self._store_answers:
            return 0.0
        now = time.monotonic()
        return max(
            (
                now - owned.flushed_at
                for owned in self._owned.values()
                if owned.highwater > owned.state.stored_offset
            ),
            default=0.0,
        )
