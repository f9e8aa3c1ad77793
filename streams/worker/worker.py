"""All partitions of one worker process: assignment, back-pressure, timers.

    claim -> load -> seek -> [ batch -> count ]*  ->  last checkpoint -> give back
                                  |
                                  +-> every second: checkpoint and heartbeat of each partition

partition_worker.py has the work on one partition. A claim that is lost, as another worker
made a newer one or the store went back, is dropped with the partition's counts in memory;
the partition is then claimed and loaded again.
"""

import asyncio
import logging
import os
import time
from collections.abc import Iterable, Mapping
from functools import partial

from streams.checksums import DamagedError
from streams.config.settings import Worker
from streams.kafka.fetch import Batch
from streams.logs.partition_log import PartitionLog
from streams.state.limits import NO_NAMES, event_limits
from streams.state.registry import ReservedNames
from streams.store.contract import (
    CommandError,
    CommandKind,
    Lost,
    OperatorCommand,
    Store,
    StoreError,
)
from streams.worker.context import ConsumerControl, DeadLetterQueue, WorkerContext
from streams.worker.heartbeat import HeartbeatSender
from streams.worker.metrics import WorkerMetrics
from streams.worker.partition_worker import PartitionWorker
from streams.worker.recovery import Archive, Loader
from streams.worker.supervision import StoreSupervision, WorkerCounters

log = logging.getLogger(__name__)

# A rebalance waits for all members of the group, so giving back must be quick.
REVOKE_DEADLINE_S = 5.0
# For a last try, if the store did not answer before. A process that ends must not wait for it.
LAST_TRY_S = 1.0
# A broker answers a fetch every half second, but none is sent during a rebalance.
BROKER_AWAY_S = 20.0
RECLAIMS = 3
STALL_S = 120.0
ARCHIVE_CHECK_S = 5.0


class StreamWorker:
    """Owns the partitions that Kafka assigns to this process."""

    def __init__(
        self,
        settings: Worker,
        store: Store,
        dead_letters: DeadLetterQueue,
        consumer: ConsumerControl,
        archive: Archive | None = None,
        reserved: ReservedNames = NO_NAMES,
    ) -> None:
        self.counters = WorkerCounters()
        self.metrics = WorkerMetrics()
        self._settings, self._consumer = settings, consumer
        self._supervision = StoreSupervision(store, self.counters)
        self._context = WorkerContext(
            settings=settings,
            event_limits=event_limits(settings),
            store=store,
            supervision=self._supervision,
            dead_letters=dead_letters,
            consumer=consumer,
            archive=archive,
            counters=self.counters,
            metrics=self.metrics,
        )
        self._loader = Loader(settings, store, archive, consumer, reserved)
        name = f"{os.uname().nodename}:{os.getpid()}"
        self._heartbeat = HeartbeatSender(name, self._context)
        self._partitions: dict[int, PartitionWorker] = {}
        self.metrics.partitions.set_function(lambda: len(self._partitions))
        self.metrics.unflushed.set_function(self._count_unflushed)
        self._released_offsets: Mapping[int, int] = {}  # for the last commit to Kafka
        self._reloading = asyncio.Lock()
        self._flush_due = asyncio.Event()
        self._flushed = asyncio.Condition()
        self._blocked = False  # back-pressure: no batch is taken
        self._refused_command = ""  # id of the last repair that was too old

    # -- assignment ------------------------------------------------------------------------------

    async def load(self, partitions: Iterable[int], generation: int) -> Mapping[int, int]:
        """Claim and load partitions. Return the offset at which to read each of them.

        The answer is empty if the group has assigned them anew without this worker. Raises
        StoreError if the store does not answer in time, Lost if another worker claims one
        meanwhile.
        """
        wanted = sorted(partitions)
        committed = await self._consumer.confirm(wanted)
        if committed is None:
            return {}
        claims = await asyncio.gather(
            *(self._claim(number, generation, committed[number], len(wanted)) for number in wanted),
            return_exceptions=True,  # a claim left running would end those of the next attempt
        )
        claimed = [_result(claim) for claim in claims]
        # Only now, so that a claim that fails leaves the partitions as they were.
        self._release_all()
        self._partitions = {worker.partition: worker for worker in claimed}
        self.metrics.rebalances.inc()
        self._released_offsets = {}
        return {worker.partition: worker.admission.read_from for worker in claimed}

    def note_seeks(self, epochs: Mapping[int, int]) -> None:
        """Note that the seeks to the offsets of `load` were made; later batches bear `epochs`."""
        for partition, epoch in epochs.items():
            if (worker := self._partitions.get(partition)) is not None:
                worker.admission.note_seek(epoch)
                worker.pause_if_halted()

    async def _claim(
        self,
        partition: int,
        generation: int,
        committed: int,
        shared_by: int,
        damage: DamagedError | None = None,
        accept_loss: bool = False,
    ) -> PartitionWorker:
        loaded = await self._loader.load(partition, committed, damage, accept_loss)
        self.counters.rollbacks += loaded.went_back
        return PartitionWorker(self._context, loaded, generation, shared_by)

    def _release_all(self) -> list[PartitionWorker]:
        released, self._partitions = list(self._partitions.values()), {}
        # Marked on each worker too: a task that is under way still refers to it.
        for worker in released:
            worker.released = True
        return released

    async def revoke(self, ending: bool = False) -> bool:
        """Give all partitions back, with a last checkpoint of each if the store is quick.

        `ending`: the process ends, so their offsets are still committed to Kafka. During a
        rebalance a commit would only disturb it. Return whether Redis and a broker answer and all
        was written; what another worker has claimed is not this worker's to write.
        """
        released, self._released_offsets = self._release_all(), {}
        memory_bytes = self._settings.resident_max_mb * 1_000_000
        is_written = True
        try:
            is_last_try = ending and not self.store_answers
            async with asyncio.timeout(LAST_TRY_S if is_last_try else REVOKE_DEADLINE_S):
                await asyncio.gather(*(_flush_last(worker, memory_bytes) for worker in released))
        except Exception as error:  # any error: the next owner counts the rest again
            log.warning("partitions given back before all was written: %r", error)
            is_written = False
        if ending:
            self._released_offsets = {
                worker.partition: worker.state.stored_offset for worker in released
            }
        silence_s = self._consumer.broker_silence_s()
        # Before the first fetch: a broker has just assigned the partitions.
        broker_answers = bool(released) if silence_s is None else silence_s < BROKER_AWAY_S
        return is_written and self.store_answers and broker_answers

    @property
    def store_answers(self) -> bool:
        """Return whether the store answered the last checkpoint and the last heartbeat."""
        # Without events no checkpoint is due, and only heartbeats show it.
        return self._supervision.answers and self._supervision.heartbeat_answered

    def durable_offsets(self) -> Mapping[int, int]:
        """Return per partition the offset before which all records are in the store."""
        stored = {
            partition: worker.state.stored_offset for partition, worker in self._partitions.items()
        }
        return {**self._released_offsets, **stored}

    @property
    def partitions(self) -> Mapping[int, PartitionWorker]:
        """Return the partitions that this worker has claimed and not given back."""
        return self._partitions

    async def _reload(
        self,
        stale: PartitionWorker,
        reason: Lost | DamagedError,
        command: OperatorCommand | None = None,
    ) -> None:
        """Drop a partition from memory, and claim and load it again.

        If a field is damaged it is repaired; `command`: by this command of an operator.
        """
        partition_log = PartitionLog(log, stale.partition).at(stale.state.next_offset)
        partition_log.warning("%s: loading it again", reason)
        async with self._reloading:
            if stale.released:  # revoked, or reloaded by the other task
                return
            for attempt in range(1, RECLAIMS + 1):
                try:
                    fresh = await self._supervision.retry(
                        partition_log, partial(self._claim_again, stale, reason, command)
                    )
                    break
                except Lost as error:
                    partition_log.warning("%s (attempt %d of %d)", error, attempt, RECLAIMS)
            else:
                raise Lost(f"partition {stale.partition}: claimed away {RECLAIMS} times in a row")
            if stale.released:  # revoked meanwhile
                return
            stale.released = True
            if fresh is None:
                del self._partitions[stale.partition]
            else:
                self._partitions[stale.partition] = fresh
                if command is not None:
                    fresh.applied_command = command.id
                await fresh.begin_reading()

    async def _claim_again(
        self,
        stale: PartitionWorker,
        reason: Lost | DamagedError,
        command: OperatorCommand | None,
    ) -> PartitionWorker | None:
        """Claim a partition again; None if the group has assigned it to another worker.

        A claim would then only lock out its owner.
        """
        committed = await self._consumer.confirm([stale.partition])
        if committed is None or stale.released:  # a newer claim of this process must stay
            return None
        # The store may have confirmed more to this worker than was committed to Kafka.
        known = max(committed[stale.partition], stale.state.stored_offset)
        fresh = await self._claim(
            stale.partition,
            stale.admission.generation,
            known,
            len(self._partitions),
            reason if isinstance(reason, DamagedError) else None,
            accept_loss=command is not None and command.to == 1,
        )
        if fresh.state.rebuilt and fresh.state.stored_offset < known:
            fresh.state.mark_rebuilt(max(fresh.state.rebuilt, stale.state.rebuilt + 1))
        return fresh

    # -- counting and back-pressure --------------------------------------------------------------

    async def consume(self, batch: Batch) -> None:
        """Count a batch if this worker owns its partition and it is the next one there.

        Waits while too many counted records are not in the store. Raises Lost if the partition
        was claimed away again and again.
        """
        worker = self._partitions.get(batch.partition)
        if worker is None:
            return
        try:
            await worker.consume(batch)
            if worker.state.unflushed >= self._settings.flush_max_events:
                self._flush_due.set()
        except (Lost, DamagedError) as error:
            self.counters.fenced += isinstance(error, Lost)
            await self._reload(worker, error)
        if not self._has_room():
            await self._wait_for_room()

    async def _wait_for_room(self) -> None:
        """Take no batch of any partition until enough counted records are in the store."""
        began = time.monotonic()
        self._flush_due.set()
        self._blocked = True
        try:
            async with self._flushed:
                await self._flushed.wait_for(self._has_room)
        finally:
            self._blocked = False
            for worker in self._partitions.values():
                worker.excuse_silence(time.monotonic() - began)

    def _has_room(self) -> bool:
        return self._count_unflushed() <= self._settings.backlog_max_events

    def _count_unflushed(self) -> int:
        return sum(worker.state.unflushed for worker in list(self._partitions.values()))

    # -- timers ----------------------------------------------------------------------------------

    async def write_checkpoints(self) -> None:
        """Write checkpoints for ever: every `flush_interval_s`, or sooner if much was counted."""
        while True:
            due = asyncio.ensure_future(self._flush_due.wait())
            # Not a timeout, as its exception would keep frames and their objects in memory.
            try:
                await asyncio.wait({due}, timeout=self._settings.flush_interval_s)
            finally:
                due.cancel()
            self._flush_due.clear()
            with self.metrics.checkpoint_seconds.time():
                await self.flush_all()

    async def write_archives(self) -> None:
        """Archive the state of each partition for ever, whenever that is due."""
        while True:
            await asyncio.sleep(ARCHIVE_CHECK_S)
            # A copy, as the partitions may change while one is archived.
            for worker in list(self._partitions.values()):
                try:
                    await worker.archive()
                except DamagedError as error:
                    await self._reload(worker, error)

    async def flush_all(self) -> None:
        """Write a checkpoint and send a heartbeat of each partition. Raises Lost as `consume`."""
        await self._supervision.check()
        self._heartbeat.measure()
        for worker in list(self._partitions.values()):
            try:
                if self._supervision.is_fit:
                    await worker.flush(self._resident_max_bytes())
                    await worker.check_stored_offset()
            except (Lost, DamagedError) as error:
                await self._reload(worker, error)
            if not worker.released:
                if not self._blocked:
                    await worker.refetch_if_silent()
                try:
                    await self._exchange_heartbeat(worker)
                except (Lost, DamagedError) as error:
                    await self._reload(worker, error)
        async with self._flushed:
            self._flushed.notify_all()

    def _resident_max_bytes(self) -> int:
        """Return the memory for the slices of one partition."""
        # Equal shares keep the sum over all partitions within the setting.
        return self._settings.resident_max_mb * 1_000_000 // max(1, len(self._partitions))

    async def _exchange_heartbeat(self, worker: PartitionWorker) -> None:
        """Send a heartbeat, and apply the operator command that the store answers with.

        Raises Lost if another worker has claimed the partition, DamagedError if it is damaged.
        """
        try:
            command = await self._heartbeat.send(worker)
            self._supervision.heartbeat_answered = True
        except StoreError as error:
            is_sent = self._supervision.heartbeat_answered = isinstance(error, CommandError)
            failure = "operator command ignored" if is_sent else "no heartbeat sent"
            log.warning("%s: %s", failure, error)
            return
        if command is not None and command.kind == CommandKind.REPAIR:
            await self._repair(worker, command)
        else:
            await worker.apply(command)

    async def _repair(self, worker: PartitionWorker, command: OperatorCommand) -> None:
        if command.id in (worker.applied_command, self._refused_command):
            return
        if (refusal := command.refuse_by_age(time.time())) is not None:
            # Not acknowledged: the operator would read that the state was repaired.
            self._refused_command = command.id
            PartitionLog(log, worker.partition).error("state not repaired: %s", refusal)
            return
        reason = DamagedError("all fields", f"checked by command of {command.by}")
        await self._reload(worker, reason, command)

    def stall(self) -> str | None:
        """Return the problem, for the watchdog, if no checkpoint was written for too long."""
        if (stalled_s := self.stalled_s()) > STALL_S:
            return f"records wait, and no checkpoint was written for {stalled_s:.0f} s"
        return None

    def stalled_s(self) -> float:
        """Return the seconds without a checkpoint of the slowest partition with waiting records.

        0 while the store does not answer or must not be written to: another worker could do no
        better, so this one stays and retries.
        """
        if not self._supervision.answers or not self._supervision.is_fit:
            return 0.0
        return max((worker.stalled_s() for worker in self._partitions.values()), default=0.0)


async def _flush_last(worker: PartitionWorker, resident_max_bytes: int) -> None:
    try:
        await worker.flush(resident_max_bytes, last=True)
    except Lost as error:  # the new owner counts the rest again
        PartitionLog(log, worker.partition).warning("given back before all was written: %s", error)


def _result(claim: PartitionWorker | BaseException) -> PartitionWorker:
    if isinstance(claim, BaseException):
        raise claim
    return claim
