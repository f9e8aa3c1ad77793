"""One good event to vary, and ways to look at what became of it."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from streams.events.columns import Decoded
from streams.events.decoder import OUTCOMES, EventLimits, decode
from streams.events.faults import faults_of
from streams.events.fields import ENDINGS, ERROR_CLASSES
from streams.events.watermark import Watermark

RULES = EventLimits(max_event_bytes=4_000, future_tolerance_ms=300_000, horizon_ms=60_000)
NOW = 1_700_000_000_000
EVENT = {
    "request_id": "req-1",
    "ended_at": NOW,
    "model": "opus",
    "outcome": "success",
    "region": "us-east-1",
    "channel": "direct",
    "service_tier": "standard",
    "customer_id": "customer-7",
    "ttft_ms": 250.5,
    "duration_ms": 2_250.5,
    "input_tokens": 1_000,
    "cached_input_tokens": 400,
    "output_tokens": 101,
    "reasoning_tokens": 60,
}
BARE = f'{{"request_id":"r","ended_at":{NOW},"model":"m","outcome":"timeout"'
NUMBERS = (
    *(
        "ttft_ns",
        "tpot_ns",
        "duration_ns",
        "first_visible_ns",
        "input_tokens",
        "cached_input_tokens",
    ),
    *("cache_write_tokens", "output_tokens", "reasoning_tokens"),
)


MARKS = ("has_tokens", "has_cached", "estimated", "from_cache", "streamed", "final", "tier_changed")


def judge(
    values: Sequence[bytes | None],
    timestamps_ms: list[int] | None = None,
    watermark_ms: int | None = None,
    rules: EventLimits = RULES,
) -> Decoded:
    stamps = np.array(
        [NOW] * len(values) if timestamps_ms is None else timestamps_ms, dtype=np.int64
    )
    return decode(list(values), stamps, Watermark.at(watermark_ms), rules)


def rows(decoded: Decoded) -> list[dict[str, Any]]:
    """Accepted events as dictionaries, names in the place of indices."""
    columns = decoded.columns
    return [
        {
            "position": int(columns.position[at]),
            "ended_at_ms": int(columns.ended_at_ms[at]),
            "outcome": OUTCOMES[columns.outcome[at]],
            "probe": bool(columns.probe[at]),
            "error_class": (*ERROR_CLASSES, None)[columns.error_class[at]],
            "ending": (*ENDINGS, None)[columns.ending[at]],
            "stream": (False, True, None)[columns.stream[at]],
            "series": columns.series[columns.series_index[at]],
            "customer": columns.customers[columns.customer_index[at]],
        }
        | {name: int(getattr(columns, name)[at]) for name in NUMBERS}
        | {name: bool(getattr(columns, name)[at]) for name in MARKS}
        | {"faults": sorted(faults_of(int(columns.faults[at])))}
        for at in range(len(columns.position))
    ]


def raw(event: dict[str, Any] = EVENT, **changes: Any) -> bytes:
    return json.dumps(event | changes).encode()


def without(*names: Any) -> dict[str, Any]:
    return {key: value for key, value in EVENT.items() if key not in names}


def verdict(value: bytes | None, **judged: Any) -> dict[str, Any] | str:
    """The reason one record is refused for, or its row."""
    decoded = judge([value], **judged)
    (found,) = [rejection.reason for rejection in decoded.rejections] + rows(decoded)
    return found


def accepted(value: bytes | None, **judged: Any) -> dict[str, Any]:
    """Return the row of one record that must be accepted."""
    found = verdict(value, **judged)
    assert isinstance(found, dict), found
    return found
