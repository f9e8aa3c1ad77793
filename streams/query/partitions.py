"""What an operator sees of a topic's partitions, and what he can tell the worker of a halted one.

`standings` and `check` are pure; the rest talks to the store. An order goes through the store, so
that it reaches whichever worker owns the partition, and carries who gave it and why.
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
from streams.state.slices import duplicates_of
from streams.store.contract import OperatorCommand
from streams.store.heartbeat import HaltReason, Heartbeat
from streams.store.reader import PartitionView, StateReader
from streams.store.redis import leave_order

_POLL_S = 0.2
_ANOTHER_LOG = (HaltReason.LOG_TRUNCATED, HaltReason.LOG_RECREATED)


@dataclass(frozen=True, slots=True)
class Standing:
    """One partition as an operator sees it; what is not known is None."""

    partition: int
    offset: int | None  # of the first record not counted; None: nothing is counted yet
    lag: int | None  # in records; None where no live worker says how far the log reaches
    watermark_ms: int | None
    worker: str | None
    pulse_age_s: float | None
    halted: str | None  # why; None while it is counted
    halted_at: int | None  # offset
    halted_detail: str | None
    log_end: int | None  # offset after the last record, as the worker last saw it
    lost_records: int
    duplicates: int


def standings(
    views: Sequence[PartitionView], signs: Sequence[Heartbeat], now_s: float, stale_after_s: float
) -> list[Standing]:
    """Every partition that was ever claimed, in order."""
    view_of = {view.partition: view for view in views}
    return [_standing(view_of.get(one.partition), one, now_s, stale_after_s) for one in signs]


def _standing(
    view: PartitionView | None, sign: Heartbeat, now_s: float, stale_after_s: float
) -> Standing:
    at, end = sign.number("halted_at"), sign.number("highwater")
    halted = sign.text("halted") or None
    return Standing(
        partition=sign.partition,
        offset=None if view is None else view.offset,
        lag=None if view is None else sign.lag(view.offset, now_s, stale_after_s),
        watermark_ms=None if view is None else view.meta.watermark_ms,
        worker=sign.text("worker") or None,
        pulse_age_s=sign.age_s(now_s),
        halted=halted,
        halted_at=None if halted is None or at is None else int(at),
        halted_detail=None if halted is None else sign.text("halted_detail") or None,
        log_end=None if end is None else int(end),
        lost_records=0 if view is None else view.meta.lost_records,
        duplicates=0 if view is None else duplicates_of(view.totals),
    )


def check(
    found: Sequence[Standing], partition: int, to: int | None, stale_after_s: float
) -> Standing:
    """The halted partition that an order is for; `to`: the offset to go on at, if it says one.

    Raises RequestError where nobody would obey, or records would be counted twice.
    """
    standing = next((one for one in found if one.partition == partition), None)
    if standing is None:
        known = ", ".join(str(one.partition) for one in found) or "none"
        raise RequestError(f"partition {partition}: not known; workers have claimed: {known}")
    if standing.halted is None:
        raise RequestError(
            f"partition {partition}: is not halted, so there is nothing to tell its worker; "
            "see `tokenpulse partitions list`"
        )
    if standing.halted == HaltReason.STORE_POLICY:
        raise RequestError(
            f"partition {partition}: goes on by itself when Redis is mended: "
            f"{standing.halted_detail}"
        )
    if standing.pulse_age_s is None or standing.pulse_age_s > stale_after_s:
        raise RequestError(
            f"partition {partition}: nobody is there to obey: the last sign of life of worker "
            f"{standing.worker} is {standing.pulse_age_s or 0:.0f} s old; start one, it halts again"
        )
    if to is None or standing.halted in _ANOTHER_LOG:
        return standing
    if standing.halted_at is not None and to <= standing.halted_at:
        raise RequestError(
            f"--to: got {to}, but the records before {standing.halted_at} are counted and it is "
            f"halted there; give a larger offset, or use `partitions resume {partition}`"
        )
    if standing.log_end is not None and to > standing.log_end:
        raise RequestError(
            f"--to: got {to}, but the log ends at {standing.log_end}; give that at most"
        )
    return standing


def new_order(kind: str, to: int | None, reason: str) -> OperatorCommand:
    """An order from whoever runs this process."""
    reason = " ".join(reason.split())
    if not reason:
        raise RequestError("--reason: got nothing; say in a few words why, for the worker's log")
    return OperatorCommand(uuid.uuid4().hex, kind, to, reason, who())


def who() -> str:
    """Whoever runs this process, as user@machine."""
    try:
        login = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # as in a container that runs under a number
        login = str(os.getuid())
    return f"{login}@{os.uname().nodename}"


class Partitions:
    """The partitions of one consumer group and topic, as the store tells of them."""

    def __init__(
        self, client: "aioredis.Redis", group: str, topic: str, stale_after_s: float
    ) -> None:
        """`stale_after_s`: a worker that was silent for longer knows nothing of the log's end."""
        self._client, self._group, self._topic = client, group, topic
        self._stale_after_s = stale_after_s
        self._reader = StateReader(client, group, topic)

    async def standings(self) -> list[Standing]:
        """How all of them stand now. Raises StoreError where Redis does not answer."""
        snapshot = await self._reader.snapshot()
        return standings(snapshot.views, snapshot.heartbeats, time.time(), self._stale_after_s)

    async def check(self, partition: int, to: int | None) -> Standing:
        """`check` of how they stand now."""
        return check(await self.standings(), partition, to, self._stale_after_s)

    async def give(self, partition: int, order: OperatorCommand, within_s: float) -> Standing:
        """Leave an order and wait until a worker has obeyed; how the partition stands then.

        Raises TimeoutError where none did in time, RequestError and StoreError as `check` and the
        store do.
        """
        await self.check(partition, order.to)
        await leave_order(self._client, self._group, self._topic, partition, order)
        async with asyncio.timeout(within_s):
            while True:
                if await self._obeyed(partition, order):
                    found = await self.standings()
                    return next(one for one in found if one.partition == partition)
                await asyncio.sleep(_POLL_S)

    async def _obeyed(self, partition: int, order: OperatorCommand) -> bool:
        signs = await self._reader.heartbeats()
        return any(sign.text("order") == order.id for sign in signs if sign.partition == partition)
