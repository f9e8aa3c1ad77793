"""Sends the heartbeat of each partition, and receives operator commands with the answer."""

from typing import Any

from streams.memory import MemoryUse, process_memory
from streams.store.contract import CommandError, OperatorCommand
from streams.store.heartbeat import HaltReason
from streams.worker.context import WorkerContext
from streams.worker.partition_worker import PartitionWorker


def _memory_fields(name: str, memory: MemoryUse | None) -> dict[Any, int]:
    """Return the fields of a memory; its limit is 0 if there is none."""
    if memory is None:
        return {}
    return {f"{name}_bytes": memory.used, f"{name}_limit_bytes": memory.limit or 0}


class HeartbeatSender:
    """Sends the heartbeats of one worker process."""

    def __init__(self, worker_name: str, context: WorkerContext) -> None:
        self._worker_name, self._context = worker_name, context
        self._memory = process_memory()

    def measure(self) -> None:
        """Read the memory of this process, which the heartbeats of all its partitions report."""
        self._memory = process_memory()

    async def send(self, worker: PartitionWorker) -> OperatorCommand | None:
        """Send a heartbeat. Return the last command enqueued for the partition, if any.

        Raises StoreError; CommandError if it was sent, but the command cannot be read.
        """
        # Taken before the call and marked as sent after it, so that a failed call loses none.
        exemplars, samples = worker.exemplars.unsent(), worker.field_samples.unsent()
        fields = self._fields(worker)
        if exemplars is not None:
            fields["exemplars"] = exemplars
        if samples is not None:
            fields["field_samples"] = samples
        command, unreadable = None, None
        try:
            command = await self._context.store.send_heartbeat(worker.partition, fields)
        except CommandError as error:
            unreadable = error
        worker.exemplars.mark_sent(exemplars)
        worker.field_samples.mark_sent(samples)
        if unreadable is not None:
            raise unreadable
        return command

    def _fields(self, worker: PartitionWorker) -> dict[Any, str | int | float]:
        """Return what each heartbeat says of a partition and of this process."""
        admission, state = worker.admission, worker.state
        ids = worker.deduplicator.ids if worker.deduplicator is not None else None
        counters, halt = self._context.counters, worker.admission.halted
        unfit_reason = self._context.supervision.unfit_reason
        silence_s = self._context.consumer.broker_silence_s()
        at_ms = self._context.now_ms(state.watermark)
        return {
            "at_ms": at_ms,
            # By the clock that other processes share; 0 if no broker has answered yet.
            "broker_at_ms": 0 if silence_s is None else at_ms - round(silence_s * 1_000),
            "worker": self._worker_name,
            "highwater": admission.highwater,
            "readable": admission.readable,
            "flush_s": round(worker.flush_s, 4),
            "fenced": counters.fenced,
            "conflicts": counters.conflicts,
            "rollbacks": counters.rollbacks,
            "reseeks": counters.reseeks,
            "key_mismatches": counters.key_mismatches,
            "store_errors": counters.store_errors,
            # An unfit store halts all partitions, so it goes before their own reasons.
            "halted": HaltReason.STORE_POLICY if unfit_reason else halt.reason if halt else "",
            "halted_at": halt.offset if halt else state.next_offset,
            "halted_detail": unfit_reason or (halt.detail if halt else ""),
            "order": worker.applied_command,
            "seen_ids": len(ids) if ids is not None else 0,
            "seen_forgotten": ids.forgotten if ids is not None else 0,
            "archived_ms": state.archived_at_ms,
            **self._clock_fields(),
            **_memory_fields("memory", self._memory),
            **_memory_fields("store_memory", self._context.supervision.store_memory),
        }

    def _clock_fields(self) -> dict[Any, str | float]:
        """Return how far the clock of this process is from the store's; an empty text if unknown.

        A clock that cannot be compared does not agree.
        """
        clock = self._context.store.clock()
        if clock.offset_s is None:
            return {"clock_offset_s": "", "clock_agrees": 0}
        return {"clock_offset_s": round(clock.offset_s, 3), "clock_agrees": int(clock.agrees)}
