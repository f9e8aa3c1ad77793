"""Events with wrong fields, by the thousand: all are counted, rejected or duplicates, once.

The recount reads each record by itself with the standard library (tests/support/contract.py).
"""

import json
import random
from collections import Counter
from typing import Any

import numpy as np
import pytest

from streams.events.columns import Decoded
from streams.events.decoder import OUTCOMES, EventLimits, decode
from streams.events.faults import faults_of
from streams.events.fields import FIELDS
from streams.state.measures import availability, measures, whole
from streams.state.slices import Aggregate
from streams.worker.deduplication import DedupWindow, deduplicate
from tests.support.aggregates import parts_of
from tests.support.contract import read_record
from tests.support.event_samples import EVENT, NOW

LIMITS = EventLimits(max_event_bytes=4_000, future_tolerance_ms=2**60, horizon_ms=2**60)
WINDOW_MS = 600_000
NAMES = [field.name for field in FIELDS]
# What gateways write in the place of a value that they do not have, or have in another type.
WRONG: list[Any] = [
    *(None, "", "None", "null", "-", "1", "200", "true", True, False, [], {}, ["x"], {"a": 1}),
    *(-1, -1.0, -2, 0, 1, 1.5, 12.0, 1e3, 1e300, 2**31, 2**63, 10**15, 604_800_000.5, 10**30),
    *("é" * 300, "x" * 97, "x" * 600, "a b/c:d@e", "q+1", "__other__", "unknown", "\n", "success"),
    *(200, 204, 0, 101, 302, 404, 429, 499, 503, 529, 700, 999, 1000, 499.0),
]
# No valid time: an id is recognised within a window of event time.
WRONG_TIMES = [value for value in WRONG if isinstance(value, bool) or not isinstance(value, int)]
ELIGIBLE = {"success", "server_error", "timeout", "overloaded", "stream_error"}


def mutated_record(chance: random.Random) -> bytes:
    """Return an event with some fields missing or wrong, rarely with broken bytes."""
    event: dict[str, Any] = EVENT | {
        "request_id": f"r{chance.randrange(10**9)}",
        "ended_at": NOW + chance.randrange(60_000),
        "outcome": chance.choice([*OUTCOMES, "success", None]),
        "status_code": chance.choice([200, 503, 429, None]),
        "stream": chance.choice([True, False, None]),
        "ttft_ms": chance.choice([250.5, 2_250.5, 2_251.2, 3_000, 0]),
    }
    for _ in range(chance.choice([0, 1, 1, 1, 2, 3])):
        name = chance.choice(NAMES)
        if chance.random() < 0.2:
            event.pop(name, None)
        else:
            event[name] = chance.choice(WRONG_TIMES if name == "ended_at" else WRONG)
    value = json.dumps(event, ensure_ascii=False).encode()
    if chance.random() < 0.03:
        at = chance.randrange(len(value))
        value = value[:at] + chance.choice([b"", b'"', b"\xff", b"}", b"\\"]) + value[at + 1 :]
    return value


def counted(values: list[bytes]) -> tuple[Decoded, Aggregate]:
    """Decode and deduplicate records as a worker does, and add up what counts."""
    decoded = decode(values, np.full(len(values), NOW, np.int64), None, LIMITS)
    columns = decoded.columns
    window = DedupWindow(WINDOW_MS, 10**7)
    duplicates = window.find_duplicates(columns.request, columns.ended_at_ms, columns.watermark_ms)
    decoded = deduplicate(decoded, duplicates)
    return decoded, Aggregate.merged([part for _, part in parts_of(decoded.columns)])


def recount(values: list[bytes]) -> tuple[Counter[str], Counter[str], Counter[tuple[str, str]]]:
    """Return the outcomes that count, the rejections by reason, and the faults."""
    outcomes: Counter[str] = Counter()
    rejections: Counter[str] = Counter()
    faults: Counter[tuple[str, str]] = Counter()
    newest: dict[str, int] = {}  # request id -> its latest ended_at
    watermark_ms = 0
    for value in values:
        read = read_record(value)
        if isinstance(read, str):
            rejections[read] += 1
            continue
        request_id = str(json.loads(value)["request_id"])
        at_ms = read["ended_at_ms"]
        if request_id not in newest or newest[request_id] <= watermark_ms - WINDOW_MS:
            outcomes[read["outcome"]] += 1
            faults.update(read["faults"])
        newest[request_id] = max(newest.get(request_id, 0), at_ms)
        watermark_ms = max(watermark_ms, at_ms)
    return outcomes, rejections, faults


def check(values: list[bytes]) -> dict[str, int]:
    """Compare counts with the recount; return the counts."""
    decoded, aggregate = counted(values)
    outcomes, rejections, faults = recount(values)
    events, duplicates = len(decoded.columns.position), len(decoded.duplicates_ms)
    assert events + len(decoded.rejections) + duplicates == len(values)
    assert Counter(one.reason for one in decoded.rejections) == rejections
    assert events == outcomes.total()
    eligible = sum(outcomes[name] for name in ELIGIBLE)
    assert availability(aggregate) == (outcomes["success"], eligible)
    found = measures(whole(aggregate))["field_faults"]
    assert {(field, why): n for field, by in found.items() for why, n in by.items()} == faults
    return {
        "counted": events,
        "rejected": len(decoded.rejections),
        "duplicate": duplicates,
        "faults": faults.total(),
    }


@pytest.mark.parametrize("seed", range(4))
def test_mutated_events_are_counted_rejected_or_duplicates_as_a_recount_says(seed: int) -> None:
    chance = random.Random(seed)
    values = [mutated_record(chance) for _ in range(1_500)]
    values += chance.sample(values, 50)  # sent again
    counts = check(values)
    assert counts["counted"] > 1_000
    assert min(counts.values()) > 20


def test_every_fault_that_the_contract_names_occurs() -> None:
    chance = random.Random(7)
    values = [mutated_record(chance) for _ in range(12_000)]
    decoded = decode(values, np.full(len(values), NOW, np.int64), None, LIMITS)
    faults = {fault for bits in decoded.columns.faults.tolist() for fault in faults_of(bits)}
    rare = {("duration_ms", "inconsistent"), ("duration_ms", "suspicious")}  # of TTFT only
    of_parts = {("input_tokens", "inconsistent"), ("output_tokens", "inconsistent")}
    named = {(field.name, reason) for field in FIELDS for reason in field.kind.reasons}
    assert named - faults <= rare | of_parts | {("customer_id", "renamed")}
