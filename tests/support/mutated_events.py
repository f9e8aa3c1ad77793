"""Events with wrong fields at random, counted as a worker does and recounted one by one.

The recount reads one record at a time with the standard library (contract.py).
"""

import json
import random
from collections import Counter
from typing import Any

import numpy as np

from streams.events.columns import Decoded
from streams.events.decoder import OUTCOMES, EventLimits, decode
from streams.events.fields import ENDINGS, ERROR_CLASSES, FIELDS
from streams.events.watermark import Watermark
from streams.state.measures import availability, measures, whole
from streams.state.slices import Aggregate
from streams.worker.deduplication import Deduplicator, deduplicate
from tests.support.aggregates import parts_of
from tests.support.arrivals import RecentArrivals
from tests.support.contract import read_record
from tests.support.event_samples import EVENT, NOW

LIMITS = EventLimits(max_event_bytes=4_000, future_tolerance_ms=2**60, horizon_ms=2**60)
WINDOW_MS = 600_000
BATCH_MAX = 3_000
RESENT = 0.03  # share of the records that are sent again
NAMES = [field.name for field in FIELDS]
ELIGIBLE = {"success", "server_error", "timeout", "overloaded", "stream_error"}
# What gateways write in the place of a value that they do not have, or have in another type.
WRONG: list[Any] = [
    *(None, "", "None", "null", "-", "1", "200", "true", True, False, [], {}, ["x"], {"a": 1}),
    *(-1, -1.0, -2, 0, 1, 1.5, 12.0, 1e3, 1e300, 2**31, 2**63, 10**15, 604_800_000.5, 10**30),
    *("é" * 300, "x" * 97, "x" * 600, "a b/c:d@e", "q+1", "__other__", "unknown", "\n", "success"),
    *(200, 204, 0, 101, 302, 404, 429, 499, 503, 529, 700, 999, 1000, 499.0),
]
# JSON at the edge of what a program can read: beyond floats and columns, deep, or not quite JSON.
STRANGE = [
    *("1e999", "-1e999", "[1e999]", '{"a":{"b":1e999}}', "1e-400", "-1e-400", "-0", "-0.0"),
    *("9" * 400, "-" + "9" * 400, "9" * 3_000, "[" + "9" * 3_000 + "]", "0." + "9" * 1_000),
    *("9007199254740993.0", "1.7976931348623157e308"),
    *("-9223372036854775809", "4611686018427387905"),
    *('"\\ud800"', '"\\udc00x"', '"\\ud83d\\ude00"', '"\\u0000"', '["\\ud800"]', '{"\\ud800":1}'),
    *("NaN", "Infinity", "01", "+1", ".5", "tru", '"a', "'a'", "\t", "[1,]", "{}", '{"a":1,"a":2}'),
]
DEEP = ["[" * 250 + "]" * 250, "[" * 300 + "]" * 300, '{"a":' * 300 + "1" + "}" * 300]
WRONG_TIMES = [*WRONG, NOW // 1_000, NOW * 1_000, NOW * 1_000_000, "1970-01-20T16:13:20Z"]


def mutated_record(chance: random.Random) -> bytes:
    """Return an event with some fields missing, wrong or given twice, rarely with broken bytes."""
    event: dict[str, Any] = EVENT | {
        "request_id": f"r{chance.randrange(10**9)}",
        "ended_at": NOW + chance.randrange(60_000),
        "outcome": chance.choice([*OUTCOMES, "success", None]),
        "status_code": chance.choice([200, 503, 429, None]),
        "stream": chance.choice([True, False, None]),
        "ttft_ms": chance.choice([250.5, 2_250.5, 2_251.2, 3_000, 0]),
    }
    if chance.random() < 0.5:
        event |= {
            "error_class": chance.choice([*ERROR_CLASSES, None]),
            "ending": chance.choice([*ENDINGS, None]),
            "first_visible_token_ms": chance.choice([100, 250.5, 1_000, 2_251.2, 3_000]),
            "final": chance.choice([True, False, None]),
        }
    members = {name: _text(value) for name, value in event.items()}
    again: list[tuple[str, str]] = []
    if is_deep := chance.random() < 0.01:
        members[chance.choice(NAMES)] = chance.choice(DEEP)
    for _ in range(chance.choice([0, 1, 1, 1, 2, 3])):
        name, kind = chance.choice(NAMES), chance.random()
        if kind < 0.2:
            members.pop(name, None)
            continue
        if kind < 0.8 or is_deep:
            value = _text(chance.choice(WRONG_TIMES if name == "ended_at" else WRONG))
        else:
            value = chance.choice(STRANGE)
        if chance.random() < 0.1:
            again.append((name, value))  # the last one of a key given twice is the one that counts
        else:
            members[name] = value
    record = _join([*members.items(), *again]).encode()
    # The depth of a record with a text that does not end would be a matter of opinion.
    if chance.random() < 0.03 and not is_deep:
        at = chance.randrange(len(record))
        record = record[:at] + chance.choice([b"", b'"', b"\xff", b"}", b"\\"]) + record[at + 1 :]
    return record


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _join(members: list[tuple[str, str]]) -> str:
    return "{" + ",".join(f'"{name}":{value}' for name, value in members) + "}"


def mutated_log(chance: random.Random, size: int) -> list[bytes]:
    """Return records of which some are sent again."""
    values: list[bytes] = []
    for _ in range(size):
        is_resent = values and chance.random() < RESENT
        values.append(chance.choice(values[-500:]) if is_resent else mutated_record(chance))
    return values


def check(values: list[bytes], chance: random.Random) -> Counter[str]:
    """Compare the counts of a log, in batches of any size, with its recount; return the counts."""
    batches, aggregate = _count(values, chance)
    outcomes, attempts, probe_attempts, rejections, faults = recount(values)
    counts: Counter[str] = Counter()
    for decoded in batches:
        counts["counted"] += len(decoded.columns.position)
        counts["duplicates"] += len(decoded.duplicates_ms)
        counts["rejected"] += len(decoded.rejections)
        counts.update(f"rejected {rejection.reason}" for rejection in decoded.rejections)
    assert counts["counted"] + counts["duplicates"] + counts["rejected"] == len(values)
    assert {reason: counts[f"rejected {reason}"] for reason in rejections} == rejections
    assert counts["counted"] == outcomes.total() + attempts.total() + probe_attempts
    total = measures(whole(aggregate))
    # No provider was asked for an answer from a response cache.
    asked = Counter(total["outcomes"])
    asked["success"] -= total["response_cache"]
    assert Counter(total["provider"]["outcomes"]) == asked + attempts
    eligible = sum(outcomes[name] for name in ELIGIBLE)
    assert availability(aggregate) == (outcomes["success"], eligible)
    by_field = total["field_faults"]
    assert {(field, why): n for field, by in by_field.items() for why, n in by.items()} == faults
    counts["faults"] = faults.total()
    counts["success"], counts["eligible"] = outcomes["success"], eligible
    return counts


def _count(values: list[bytes], chance: random.Random) -> tuple[list[Decoded], Aggregate]:
    """Decode and deduplicate records as a worker does, and add up what counts."""
    deduplicator = Deduplicator(WINDOW_MS, 10**7, {}, None)
    batches: list[Decoded] = []
    parts: list[Aggregate] = []
    watermark: Watermark | None = None
    start = 0
    while start < len(values):
        batch = values[start : start + chance.randint(1, BATCH_MAX)]
        decoded = decode(batch, np.full(len(batch), NOW, np.int64), watermark, LIMITS)
        offsets = start + decoded.columns.position
        decoded = deduplicate(decoded, deduplicator.find_duplicates(offsets, decoded.columns))
        parts += [part for _, part in parts_of(decoded.columns)]
        batches.append(decoded)
        watermark = decoded.watermark
        start += len(batch)
    return batches, Aggregate.merged(parts)


def recount(
    values: list[bytes],
) -> tuple[Counter[str], Counter[str], int, Counter[str], Counter[tuple[str, str]]]:
    """Return the outcomes of requests and of other attempts, the number of probes that were not
    final, the rejections, and the faults."""
    outcomes: Counter[str] = Counter()
    attempts: Counter[str] = Counter()
    probe_attempts = 0
    rejections: Counter[str] = Counter()
    faults: Counter[tuple[str, str]] = Counter()
    arrivals, watermark_ms = RecentArrivals(WINDOW_MS), 0
    for value in values:
        read = read_record(value)
        if isinstance(read, str):
            rejections[read] += 1
            continue
        request_id = str(json.loads(value.decode(errors="replace"))["request_id"])
        at_ms = read["ended_at_ms"]
        answered = read["outcome"] == "success" and read["final"]
        identity = request_id if answered else (request_id, at_ms)
        if not arrivals.is_duplicate(identity, at_ms, watermark_ms):
            if read["probe"] and not read["final"]:
                probe_attempts += 1
            else:
                (outcomes if read["final"] else attempts)[read["outcome"]] += 1
            faults.update(read["faults"])
        watermark_ms = max(watermark_ms, at_ms)
    return outcomes, attempts, probe_attempts, rejections, faults
