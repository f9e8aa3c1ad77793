"""The incidents of the live board in Redis: a hash with a field for each incident.

One more field has the alerts that fire, so that an exporter that restarts continues them.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import msgspec
import redis.asyncio as aioredis
from redis.exceptions import RedisError

from exporters.board.incidents.log import KEEP_S, IncidentLog, IncidentRecord
from slo.alert_state import AlertState
from streams.checksums import DamagedError, check_json, seal_json
from streams.store.contract import StoreError
from streams.store.hash_fields import whole_fields
from streams.store.keys import Keys
from streams.store.servers.reasons import redis_reason

log = logging.getLogger(__name__)

_ALERTS = b"alerts"  # the field of the alerts; those of incidents begin with a digit
_ALERTS_EVERY_S = 10.0  # they are written, if there is no change


@dataclass(frozen=True, slots=True)
class StoredAlerts:
    """The alerts that fired at `seen_s`, in seconds since 1970; also those only kept firing."""

    seen_s: float
    firing: list[AlertState]


class BoardIncidentStore:
    """The stored incidents of one consumer group and topic."""

    def __init__(self, client: "aioredis.Redis", group: str, topic: str) -> None:
        self._redis = client
        self._key = Keys(group, topic).board_incidents
        self._fails = False
        self._alerts: dict[tuple[object, ...], float | None] = {}  # as written last
        self._alerts_written_s = 0.0

    async def read(self) -> list[IncidentRecord]:
        """Return the stored incidents. Raises StoreError."""
        try:
            records, _ = await self._read_records(0.0)
        except (RedisError, OSError) as error:
            raise StoreError(f"cannot read the board's incidents: {redis_reason(error)}") from error
        return records

    async def write(self, incidents: IncidentLog, now_s: float) -> None:
        """Agree with other exporters and write what changed.

        A failure is logged once: the board works without the store.
        """
        if not incidents.is_due(now_s):
            return
        try:
            stored, unreadable = await self._read_records(now_s - KEEP_S)
            # Another exporter may have seen the same incident first: one record of it remains.
            incidents.agree(stored, now_s)
            fields, deleted = incidents.changes(now_s)
            if fields:
                pairs = [part for pair in fields.items() for part in pair]
                await self._redis.hset(self._key, items=pairs)
            if gone := [*deleted, *unreadable]:
                await self._redis.hdel(self._key, *gone)
        except (RedisError, OSError) as error:
            if not self._fails:
                log.warning("cannot write the board's incidents: %s", redis_reason(error))
            self._fails = True
            return
        self._fails = False
        incidents.mark_written(now_s)

    async def read_alerts(self) -> StoredAlerts | None:
        """Return the stored alerts; None if there are none. Raises StoreError."""
        try:
            stored = cast(bytes | None, await self._redis.hget(self._key, _ALERTS))
        except (RedisError, OSError) as error:
            raise StoreError(f"cannot read the board's alerts: {redis_reason(error)}") from error
        try:
            if stored is None:
                return None
            check_json(_ALERTS.decode(), stored)
            return msgspec.json.decode(stored, type=StoredAlerts)
        except msgspec.DecodeError:
            return None  # of another version
        except DamagedError as error:
            log.error("%s: left out: %s", self._key, error)
            return None

    async def write_alerts(self, firing: Sequence[AlertState], now_s: float) -> None:
        """Write the alerts that fire, if they changed or were written some time ago."""
        alerts: dict[tuple[object, ...], float | None] = {
            (
                one.alert,
                one.severity,
                *sorted(one.rule_labels.items()),
                *sorted(one.series.items()),
            ): one.ended_at_s
            for one in firing
        }
        is_due = alerts and now_s - self._alerts_written_s >= _ALERTS_EVERY_S
        if alerts == self._alerts and not is_due:
            return
        try:
            if alerts:
                alerts_json = msgspec.json.encode(StoredAlerts(now_s, list(firing)))
                value = seal_json(_ALERTS.decode(), alerts_json)
                await self._redis.hset(self._key, _ALERTS, value)
            else:
                await self._redis.hdel(self._key, _ALERTS)
        except (RedisError, OSError) as error:
            log.warning("cannot write the board's alerts: %s", redis_reason(error))
            return
        self._alerts, self._alerts_written_s = alerts, now_s

    async def _read_records(self, before_s: float) -> tuple[list[IncidentRecord], list[str]]:
        """Return the stored incidents, and unreadable fields of before `before_s`.

        Another version wrote the unreadable ones, or they are damaged; another exporter may use
        the newer of them.
        """
        stored = cast(dict[bytes, bytes], await self._redis.hgetall(self._key))
        records, old = [], []
        whole = whole_fields(self._key, stored)
        for field, value in stored.items():
            if field == _ALERTS:
                continue
            record = IncidentRecord.decode(value) if field in whole else None
            if record is not None:
                records.append(record)
                continue
            # The field begins with the start, which can be read whatever the content is.
            start_ms = field.partition(b"|")[0]
            if not start_ms.isdigit() or int(start_ms) < before_s * 1_000:
                old.append(field.decode(errors="surrogateescape"))
        return records, old
