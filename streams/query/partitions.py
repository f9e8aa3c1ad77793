"""The status of a topic's partitions, and operator commands to their workers.

`partition_statuses` and `check` are pure; the rest uses the store. A command goes through the
store, so that it reaches the worker that owns the partition, with its author and reason.
"""

import asyncio
import os
import pwd
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import redis.asyncio as aioredis

from streams.errors import RequestError
from streams.query.instants import rfc3339_ms
from streams.state.set_back import SetBack, refuse_set_back
from streams.state.slices import HORIZON_S, duplicates_of
from streams.store.contract import CommandKind, OperatorCommand
from streams.store.heartbeat import HaltReason, Heartbeat
from streams.store.reader import PartitionView, StateReader
from streams.store.redis import enqueue_command

_POLL_S = 0.2
_ANOTHER_LOG = (HaltReason.LOG_TRUNCATED, HaltReason.LOG_RECREATED)


@dataclass(frozen=True, slots=True)
class PartitionStatus:
    """The status of one partition. None: unknown."""

    partition: int
    offset: int | None  # of the first record not counted; None: no record is counted yet
    lag: int | None  # in records; None if no live worker reports the end of the log
    watermark_ms: int | None
    settled_ms: int | None  # the watermark; None as long as it may still fall
    worker: str | None
    pulse_age_s: float | None  # of the last heartbeat
    halted: str | None  # the reason; None if it is not halted
    halted_at: int | None  # offset
    halted_detail: str | None
    log_end: int | None  # offset after the last record, from the worker's last heartbeat
    lost_records: int
    duplicates: int
    set_back: SetBack | None = None  # the last time that an operator set its watermark back


def partition_statuses(
    views: Sequence[PartitionView],
    heartbeats: Sequence[Heartbeat],
    now_s: float,
    stale_after_s: float,
) -> list[PartitionStatus]:
    """Return the status of every partition that was ever claimed, in the order of `heartbeats`."""
    view_of = {view.partition: view for view in views if view.is_readable}
    return [
        _status(view_of.get(heartbeat.partition), heartbeat, now_s, stale_after_s)
        for heartbeat in heartbeats
    ]


def _status(
    view: PartitionView | None, heartbeat: Heartbeat, now_s: float, stale_after_s: float
) -> PartitionStatus:
    halted = heartbeat.text("halted") or None
    halted_at, log_end = heartbeat.number("halted_at"), heartbeat.number("highwater")
    return PartitionStatus(
        partition=heartbeat.partition,
        offset=None if view is None else view.offset,
        lag=None if view is None else heartbeat.lag(view.offset, now_s, stale_after_s),
        watermark_ms=None if view is None else view.meta.watermark_ms,
        settled_ms=None if view is None else view.meta.watermark().settled_ms,
        worker=heartbeat.text("worker") or None,
        pulse_age_s=heartbeat.age_s(now_s),
        halted=halted,
        halted_at=None if halted is None or halted_at is None else int(halted_at),
        halted_detail=None if halted is None else heartbeat.text("halted_detail") or None,
        log_end=None if log_end is None else int(log_end),
        lost_records=0 if view is None else view.meta.lost_records,
        duplicates=0 if view is None else duplicates_of(view.totals),
        set_back=None if view is None else view.meta.set_back,
    )


def check(
    statuses: Sequence[PartitionStatus], partition: int, to: int | None, stale_after_s: float
) -> PartitionStatus:
    """Return the halted partition that a command is for; `to`: the offset to resume at, if given.

    Raises RequestError if no worker would execute the command, or records would be counted twice.
    """
    status = find_partition(statuses, partition)
    # A command for a partition that runs would wait for its next halt.
    if status.halted is None:
        raise RequestError(
            f"partition {partition}: is not halted, so it needs no command; "
            "see `tokenpulse partitions list`"
        )
    # Not a decision for a person: the worker checks Redis every 15 s.
    if status.halted == HaltReason.STORE_POLICY:
        raise RequestError(
            f"partition {partition}: resumes by itself when Redis is fixed: {status.halted_detail}"
        )
    if status.halted == HaltReason.DAMAGED:
        raise RequestError(
            f"partition {partition}: its stored state is damaged: {status.halted_detail}; use "
            "`tokenpulse state repair`"
        )
    _check_worker(status, stale_after_s)
    # Offsets of a log that was replaced cannot be compared with those of the counted one.
    if to is None or status.halted in _ANOTHER_LOG:
        return status
    # Records before the halt are in the state already.
    if status.halted_at is not None and to <= status.halted_at:
        raise RequestError(
            f"--to: got {to}, but the partition is halted at {status.halted_at}, and the records "
            f"before are counted; give a larger offset, or use `partitions resume {partition}`"
        )
    if status.log_end is not None and to > status.log_end:
        raise RequestError(
            f"--to: got {to}, but the log ends at {status.log_end}; give that at most"
        )
    return status


def check_set_back(
    statuses: Sequence[PartitionStatus],
    partition: int,
    to_ms: int,
    now_s: float,
    stale_after_s: float,
) -> PartitionStatus:
    """Return the partition whose watermark can be set back to `to_ms`.

    Raises RequestError if it cannot, or if no worker would do it.
    """
    status = find_partition(statuses, partition)
    _check_worker(status, stale_after_s)
    reason = refuse_set_back(status.settled_ms, to_ms)
    if reason is None and to_ms < (now_s - HORIZON_S) * 1_000:
        reason = f"no slice is kept for longer than {HORIZON_S // 86_400} days"
    if reason is not None:
        raise RequestError(f"--to: got {rfc3339_ms(to_ms)} for partition {partition}, but {reason}")
    return status


def find_partition(statuses: Sequence[PartitionStatus], partition: int) -> PartitionStatus:
    """Return the status of a partition. Raises RequestError if no worker ever claimed it."""
    status = next((status for status in statuses if status.partition == partition), None)
    if status is None:
        claimed = ", ".join(str(status.partition) for status in statuses) or "none"
        raise RequestError(f"partition {partition}: unknown; workers have claimed: {claimed}")
    return status


def _check_worker(status: PartitionStatus, stale_after_s: float) -> None:
    # A command for a dead worker would stay in the store and be applied by the next one.
    if status.pulse_age_s is None or status.pulse_age_s > stale_after_s:
        raise RequestError(
            f"partition {status.partition}: no worker is there to execute the command: the last "
            f"heartbeat of worker {status.worker} is {status.pulse_age_s or 0:.0f} s old; start a "
            "worker, and repeat the command"
        )


def new_command(kind: str, to: int | None, reason: str) -> OperatorCommand:
    """Create a command by the user of this process. Raises RequestError without a reason."""
    reason = " ".join(reason.split())
    if not reason:
        raise RequestError(
            "--reason: got an empty text; give the reason in a few words, for the worker's log"
        )
    at_ms = time.time_ns() // 1_000_000
    return OperatorCommand(uuid.uuid4().hex, kind, to, reason, user_name(), at_ms)


def user_name() -> str:
    """Return the user of this process as user@machine."""
    try:
        login = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # in a container that runs under a number
        login = str(os.getuid())
    return f"{login}@{os.uname().nodename}"


class Partitions:
    """The partitions of one consumer group and topic, read from the store."""

    def __init__(
        self, client: "aioredis.Redis", group: str, topic: str, stale_after_s: float
    ) -> None:
        """`stale_after_s`: older heartbeats do not count as those of a live worker."""
        self._client, self._group, self._topic = client, group, topic
        self._stale_after_s = stale_after_s
        self._reader = StateReader(client, group, topic)

    async def statuses(self) -> list[PartitionStatus]:
        """Return the present status of all partitions. Raises StoreError."""
        snapshot = await self._reader.snapshot()
        return partition_statuses(
            snapshot.views, snapshot.heartbeats, time.time(), self._stale_after_s
        )

    async def check(self, partition: int, to: int | None) -> PartitionStatus:
        """Apply `check` to the present status."""
        return check(await self.statuses(), partition, to, self._stale_after_s)

    async def check_set_back(self, partition: int, to_ms: int) -> PartitionStatus:
        """Apply `check_set_back` to the present status."""
        statuses = await self.statuses()
        return check_set_back(statuses, partition, to_ms, time.time(), self._stale_after_s)

    async def send(
        self, partition: int, command: OperatorCommand, within_s: float
    ) -> PartitionStatus:
        """Enqueue a command, wait until a worker acknowledges it, and return the new status.

        Raises TimeoutError if none does in time; RequestError; StoreError.
        """
        # The status may have changed since the operator looked at it.
        if command.kind == CommandKind.SET_WATERMARK:
            await self.check_set_back(partition, command.to or 0)
        elif command.kind == CommandKind.REPAIR:
            _check_worker(find_partition(await self.statuses(), partition), self._stale_after_s)
        else:
            await self.check(partition, command.to)
        await enqueue_command(self._client, self._group, self._topic, partition, command)
        async with asyncio.timeout(within_s):
            while True:
                if await self._is_acknowledged(partition, command):
                    # The status from before does not show the effect of the command.
                    statuses = await self.statuses()
                    return next(status for status in statuses if status.partition == partition)
                await asyncio.sleep(_POLL_S)

    async def _is_acknowledged(self, partition: int, command: OperatorCommand) -> bool:
        heartbeats = await self._reader.heartbeats()
        return any(
            heartbeat.text("order") == command.id
            for heartbeat in heartbeats
            if heartbeat.partition == partition
        )
