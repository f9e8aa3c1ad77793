"""Per-minute counts and maintenance windows in Redis.

The counts of an objective are a few hashes: a head (how far they include the state, and the closed
periods), and one a month with a field a name and day. The hash of a month expires 14 months after
the last write, so the counts of a policy that was changed do not stay for ever.

Two exporters may write the counts of one objective. The writer reads the head first and leaves the
counts alone if they include more than the writer has read. A write succeeds only if the head has
not changed since (WATCH), so no count is ever set back.
"""

import logging
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import cast

import redis.asyncio as aioredis
from redis.exceptions import RedisError, WatchError

from slo.engine.maintenance import ClosedPeriod, Maintenance, ReopenedPeriod
from slo.engine.minute_counts import DAY, MinuteCounts
from streams.checksums import DamagedError, seal_json
from streams.store.contract import StoreError
from streams.store.hash_fields import REACH, pack_reach, read_json, unpack_reach
from streams.store.keys import Keys
from streams.store.servers.reasons import redis_reason

log = logging.getLogger(__name__)

# The longest rolling period, 400 days, and the days that a hash spans.
KEPT_S = 432 * 86_400

_REOPENED = "reopened"  # versions without it leave such fields alone

Hash = dict[bytes, bytes]
Checkpoints = dict[int, tuple[int, int]]  # partition -> (times rebuilt, checkpoint)


@dataclass(slots=True)
class Head:
    """Header of the stored per-minute counts of one objective."""

    reach: Checkpoints = field(default_factory=dict)
    closed_periods: dict[tuple[str, int], ClosedPeriod] = field(
        default_factory=dict
    )  # by name, begin
    # By name, in the order of the stored fields.
    reopened: dict[str, list[ReopenedPeriod]] = field(default_factory=dict)
    # Stored closed periods that cannot be read: nothing takes their place.
    damaged: set[tuple[str, int]] = field(default_factory=set)

    def is_within(self, reach: Checkpoints) -> bool:
        """Return whether the head includes no more than `reach` does, in any partition."""
        return all(at <= reach.get(partition, (-1, -1)) for partition, at in self.reach.items())


class DamagedWindowsError(StoreError):
    """A maintenance window is stored that cannot be read."""


class MinuteCountStore:
    """The stored counts of one consumer group and topic.

    Every call raises StoreError if Redis does not answer.
    """

    def __init__(self, client: "aioredis.Redis", group: str, topic: str) -> None:
        self._redis = client
        self._keys = Keys(group, topic)

    async def head(self, ledger_id: str) -> Head:
        """Return the header of an objective's counts; an empty one if nothing is stored."""
        try:
            return _head(cast(Hash, await self._redis.hgetall(self._keys.ledger(ledger_id))))
        except (RedisError, OSError) as error:
            raise _store_error("read", ledger_id, error) from error

    async def fill(self, ledger_id: str, minute_counts: MinuteCounts) -> set[int]:
        """Read the days that the counts span from Redis into them; return the damaged ones."""
        days = range(minute_counts.first_day, minute_counts.first_day + minute_counts.days)
        damaged: set[int] = set()
        try:
            for month in sorted({_month(day) for day in days}):
                found = await self._redis.hgetall(self._keys.ledger(ledger_id, month))
                for name, data in cast(Hash, found).items():
                    # At most two splits: the name of a model may hold colons.
                    kind, day, of = name.decode().split(":", 2)
                    # Fields of later versions are left alone.
                    if kind in "cs":
                        try:
                            minute_counts.unpack(of if kind == "c" else None, int(day), data)
                        except (zlib.error, ValueError) as error:
                            log.error(
                                "%s: %r is damaged, its minutes are unknown: %s",
                                *(ledger_id, name, error),
                            )
                            damaged.add(int(day))
            # Last, as the fields of a day come in any order.
            for day_number in damaged:
                minute_counts.forget(day_number)
            return damaged.intersection(days)
        except (RedisError, OSError) as error:
            raise _store_error("read", ledger_id, error) from error

    async def write(
        self,
        ledger_id: str,
        reach: Checkpoints,
        days: Mapping[tuple[str, str | None, int], bytes],
        closed_periods: Mapping[tuple[str, int], ClosedPeriod],
    ) -> Head | None:
        """Write days and the closed periods that are not stored yet, and return the new head.

        `days`: by (kind, name, day), kind `c` for counts, `s` for completeness. Return None if
        another exporter wrote in the meantime, or if the stored counts include more than `reach`.
        """
        key = self._keys.ledger(ledger_id)
        try:
            async with self._redis.pipeline(transaction=True) as pipe:
                await pipe.watch(key)
                head = _head(cast(Hash, await pipe.hgetall(key)))
                # The stored counts include checkpoints that this exporter has not read yet.
                if not head.is_within(reach):
                    return None
                pipe.multi()  # type: ignore[no-untyped-call]
                months = {_month(day) for _, _, day in days}
                for (kind, name, day), data in days.items():
                    pipe.hset(
                        self._keys.ledger(ledger_id, _month(day)),
                        f"{kind}:{day}:{name or ''}",
                        data,
                    )
                for month in sorted(months):
                    pipe.expire(self._keys.ledger(ledger_id, month), KEPT_S)
                for (name, begin), closed_period in closed_periods.items():
                    # The first exporter that closes a period decides its figures: they were
                    # published. A damaged one is restored, or stays unknown.
                    if (name, begin) not in {*head.closed_periods, *head.damaged}:
                        head.closed_periods[name, begin] = closed_period
                        field = f"closed:{begin}:{name}"
                        pipe.hsetnx(key, field, seal_json(field, closed_period.pack()))
                pipe.hset(key, REACH, pack_reach(reach))
                pipe.expire(key, KEPT_S)
                await pipe.execute()
        except WatchError:
            return None
        except (RedisError, OSError) as error:
            raise _store_error("write", ledger_id, error) from error
        head.reach = dict(reach)
        return head

    async def reopen(self, ledger_id: str, begin: int, at_s: int, author: str, reason: str) -> int:
        """Open the closed periods of an objective that begin at a minute; return how many.

        They are kept with author and reason, and closed again from the counts.
        """
        key = self._keys.ledger(ledger_id)
        try:
            async with self._redis.pipeline(transaction=True) as pipe:
                await pipe.watch(key)
                closed = _head(cast(Hash, await pipe.hgetall(key))).closed_periods
                names = [name for name, of in closed if of == begin]
                pipe.multi()  # type: ignore[no-untyped-call]
                for name in names:
                    one = ReopenedPeriod(closed[name, begin], at_s, author, reason)
                    field = f"{_REOPENED}:{begin}:{at_s}:{name}"
                    pipe.hset(key, field, seal_json(field, one.pack()))
                    pipe.hdel(key, f"closed:{begin}:{name}")
                await pipe.execute()
        except WatchError as error:
            raise StoreError(f"{key}: an exporter wrote meanwhile; try again") from error
        except (RedisError, OSError) as error:
            raise _store_error("write", ledger_id, error) from error
        return len(names)

    async def windows(self) -> list[Maintenance]:
        """Return all maintenance windows, cancelled ones too, by begin.

        Raises DamagedWindowsError if one of them cannot be read.
        """
        try:
            found = await self._redis.hgetall(self._keys.maintenance)
        except (RedisError, OSError) as error:
            raise _store_error("read", "maintenance", error) from error
        try:
            windows = [
                read_json(field.decode(), data, Maintenance.unpack)
                for field, data in cast(Hash, found).items()
            ]
        except DamagedError as error:
            # Without one of them verdicts would be wrong.
            raise DamagedWindowsError(
                f"{self._keys.maintenance}: {error}; a worker restores it from the archive within "
                "a minute, or put a backup back"
            ) from error
        return sorted(windows, key=lambda one: (one.from_s, one.id))

    async def put_window(self, window: Maintenance) -> None:
        """Add a window, or the cancelled form of one that is there."""
        try:
            data = seal_json(window.id, window.pack())
            await self._redis.hset(self._keys.maintenance, window.id, data)
        except (RedisError, OSError) as error:
            raise _store_error("write", "maintenance", error) from error


def _head(found: Mapping[bytes, bytes]) -> Head:
    head = Head()
    for name, data in found.items():
        kind, *rest = name.decode().split(":", 2)
        try:
            if kind == REACH:
                head.reach = unpack_reach(data)
            elif kind == _REOPENED:
                reopened = read_json(name.decode(), data, ReopenedPeriod.unpack)
                head.reopened.setdefault(rest[1].partition(":")[2], []).append(reopened)
            elif kind == "closed":
                period = read_json(name.decode(), data, ClosedPeriod.unpack)
                head.closed_periods[rest[1], int(rest[0])] = period
        except DamagedError as error:
            # Without the reach all kept slices are counted again, which changes no count.
            log.error("SLO counts: left out: %s", error)
            if kind == "closed":
                head.damaged.add((rest[1], int(rest[0])))
    return head


def _month(day: int) -> str:
    return datetime.fromtimestamp(day * DAY * 60, UTC).strftime("%Y-%m")


def _store_error(what: str, of: str, error: Exception) -> StoreError:
    return StoreError(f"{of}: cannot {what}: {redis_reason(error)}")
