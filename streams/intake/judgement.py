"""Records of the event contract: those that can be counted, with their keys, and the rejected ones.

The worker's decoder judges them, so that the answer names each record that the worker would reject.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from streams.events.decoder import EventLimits, decode
from streams.events.fields import FIELDS, MAX_TIME_MS
from streams.events.parser import record_key
from streams.events.rows import SUCCESS
from streams.kafka.producer import Event
from streams.query.rejected_help import record_fix

_FIELDS = {field.name for field in FIELDS}


class RejectedEvent(NamedTuple):
    """A record that cannot be counted, and the rule that it broke.

    `position`: its place in the request, from 0.
    """

    position: int
    reason: str  # one of events.fields.REASONS
    detail: str
    fix: str


@dataclass(frozen=True, slots=True)
class JudgedEvents:
    """The records of one request: the events, with their keys, and the rejected records.

    `successes`: events of answers by a provider, without probes; `with_usage`: of these, the ones
    whose input tokens are known.
    """

    events: list[Event]
    rejected: list[RejectedEvent]
    successes: int
    with_usage: int


def without_horizon(limits: EventLimits) -> EventLimits:
    """Return limits by which no event is too late: only a partition's watermark decides that."""
    return replace(limits, horizon_ms=MAX_TIME_MS)


def judge(records: Sequence[bytes], now_ms: int, limits: EventLimits) -> JudgedEvents:
    """Judge the records of one request, which arrived at `now_ms`."""
    # Kafka will stamp the events about now.
    stamps = np.full(len(records), now_ms, np.int64)
    decoded = decode(records, stamps, None, limits)
    rejections, columns = decoded.rejections, decoded.columns
    rejected = [
        RejectedEvent(
            rejection.position,
            rejection.reason,
            rejection.detail,
            _fix(rejection.reason, rejection.detail),
        )
        for rejection in rejections
    ]
    positions = {rejection.position for rejection in rejections}
    accepted = [record for at, record in enumerate(records) if at not in positions]
    # The key decides the partition, and repeated requests are recognised within a partition.
    events: list[Event] = [(record_key(record), record) for record in accepted]
    success = (columns.outcome == SUCCESS) & ~columns.probe & ~columns.from_cache
    return JudgedEvents(
        events, rejected, int(success.sum()), int((success & columns.has_tokens).sum())
    )


def _fix(reason: str, detail: str) -> str:
    name = detail.partition(":")[0]
    return record_fix(name if name in _FIELDS else None, reason)
