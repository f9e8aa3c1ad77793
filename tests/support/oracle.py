"""The counting core told again in plain Python, one event at a time, with nothing clever in it.

A log is a list of (value, stamp_ms): what a producer wrote (a dict stands for its JSON) and the
record's Kafka timestamp; its place in the list is its offset. Which records are accepted is
`decode`'s verdict, which streams/events/test_event_logs.py holds against a recount of its own.

What the rows count as, and what an aggregate says: oracle_counts.py.
"""

import itertools
import json
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from streams.events.columns import Decoded, SeriesKey
from streams.events.decoder import EventLimits, decode
from streams.events.fields import CLIENT_CLASSES, ELIGIBLE
from streams.events.watermark import Watermark
from streams.state.registry import NameLimits
from streams.state.slices import (
    HORIZON_S,
    LATENCIES,
    LEVELS,
    TOKENS,
    SliceId,
)
from tests.support.arrivals import Arrival, find_duplicates
from tests.support.contract import read_record
from tests.support.oracle_counts import DUPLICATE, Row, told

OTHER = "__other__"
RULES = EventLimits(
    max_event_bytes=4_000, future_tolerance_ms=300_000, horizon_ms=HORIZON_S * 1_000
)


@dataclass(frozen=True)
class Recount:
    """Everything a log says."""

    rows: list[Row]
    # (second it is counted at, reason or DUPLICATE); None: not yet
    refused: list[tuple[int | None, str]]
    watermark_ms: int | None
    settled_ms: int | None  # the watermark, unless it may still fall

    def between(self, from_s: int, to_s: int) -> dict[str, Any]:
        """The counts of [from_s, to_s)."""
        return told(
            [row for row in self.rows if from_s * 1_000 <= row.at_ms < to_s * 1_000],
            [reason for at, reason in self.refused if at is not None and from_s <= at < to_s],
        )

    def everything(self) -> dict[str, Any]:
        return told(self.rows, [reason for _, reason in self.refused])

    def unplaced(self) -> Counter[Any]:
        return Counter(reason for at, reason in self.refused if at is None)

    def touched_s(self) -> set[int]:
        """Every second at which something is counted."""
        return {row.at_ms // 1_000 for row in self.rows} | {
            at for at, _ in self.refused if at is not None
        }

    def merged_until_s(self, lateness_s: int) -> list[int]:
        """How far each level must reach: the last whole step, each inside the one below."""
        if self.settled_ms is None:
            return [0] * len(LEVELS)
        found = [0]
        reach = self.settled_ms // 1_000 - lateness_s
        for level in LEVELS[1:]:
            reach = max(0, reach - reach % level.step_s)
            found.append(reach)
        return found

    def slices(self, lateness_s: int) -> dict[SliceId, Any]:
        """What the store must hold: every slice with content that its level reaches and keeps."""
        if self.watermark_ms is None:
            return {}
        reaches = self.merged_until_s(lateness_s)
        found = {}
        for number, level in enumerate(LEVELS):
            for start_s in {at - at % level.step_s for at in self.touched_s()}:
                end_s = start_s + level.step_s
                reached = number == 0 or end_s <= reaches[number]
                if reached and end_s > (self.settled_ms or 0) // 1_000 - level.keep_s:
                    found[SliceId(number, start_s)] = self.between(start_s, end_s)
        return found


def encoded(value: dict[str, Any] | bytes) -> bytes:
    return json.dumps(value).encode() if isinstance(value, dict) else value


def judge(
    log: Sequence[Any],
    watermark: Watermark | None = None,
    rules: EventLimits = RULES,
    by_sender: bool = False,
) -> Decoded:
    """Decode a log; `by_sender`: whether senders gave its timestamps."""
    stamps = np.array([stamp for _, stamp in log], np.int64)
    marks = np.full(len(log), True) if by_sender else None
    return decode([encoded(value) for value, _ in log], stamps, watermark, rules, marks)


def identity(request_id: Hashable, outcome: str, final: bool, ended_at_ms: int) -> Hashable:
    """What a duplicate has in common with its original."""
    return request_id if outcome == "success" and final else (request_id, ended_at_ms)


def recount(
    log: list[Any], rules: EventLimits = RULES, window_ms: int = 0, by_sender: bool = False
) -> Recount:
    """Read a log from its beginning; without a window nothing is a duplicate.

    If senders gave the timestamps, the watermark is taken as decoded: test_watermark.py holds it
    against its definition.
    """
    decoded = judge(log, rules=rules, by_sender=by_sender)
    verdicts = {rejection.position: rejection for rejection in decoded.rejections}
    accepted = [position for position in range(len(log)) if position not in verdicts]
    read = {position: row_of(log[position][0], rules.input_limits) for position in accepted}
    after_ms = list(itertools.accumulate((read[at].at_ms for at in accepted), max))
    before_ms: list[int] = [-1, *after_ms][: len(after_ms)]
    arrived_ms, settled_ms = after_ms, after_ms[-1] if after_ms else None
    last_ms = settled_ms
    if by_sender:
        before_ms = decoded.columns.watermark_ms.tolist()
        arrived_ms = decoded.columns.arrived_ms.tolist()
        last_ms, settled_ms = decoded.watermark.time_ms, decoded.watermark.settled_ms
    duplicates = set()
    if window_ms:
        arrivals = [
            Arrival(
                identity(log[at][0]["request_id"], row.outcome, row.final, row.at_ms),
                row.at_ms,
                before,
                after,
            )
            for (at, row), before, after in zip(read.items(), before_ms, arrived_ms, strict=True)
        ]
        marks = find_duplicates(arrivals, window_ms)
        duplicates = set(itertools.compress(accepted, marks))
    refused: list[tuple[int | None, str]] = [
        (None if one.watermark_ms is None else one.watermark_ms // 1_000, one.reason)
        for one in decoded.rejections
    ]
    if accepted:  # what came before the first event is counted with it
        first_s = read[accepted[0]].at_ms // 1_000
        refused = [(first_s if at is None else at, reason) for at, reason in refused]
    for position, found_ms in zip(accepted, before_ms, strict=True):
        if position in duplicates:
            refused.append((found_ms // 1_000, DUPLICATE))
    rows = [read[position] for position in accepted if position not in duplicates]
    return Recount(rows, refused, last_ms, settled_ms)


def row_of(event: dict[str, Any], input_limits: Sequence[int] = ()) -> Row:
    """An accepted event."""
    read = read_record(encoded(event), input_limits=input_limits)
    assert isinstance(read, dict), read
    tokens = {name: read[f"{name}_tokens"] for name in TOKENS}
    success = read["outcome"] == "success"
    known = {
        "tokens": success and read["has_tokens"],
        "cached_input": success and read["has_cached"],
        "cached_input_of": tokens["input"] if read["has_cached"] else 0,
        "estimated": read["estimated"],
        "estimated_tokens": tokens["input"] + tokens["output"] if read["estimated"] else 0,
        "response_cache": read["from_cache"],
        "streamed": read["streamed"],
    }
    latencies_ns = {name: read[f"{name}_ns"] for name in LATENCIES if read[f"{name}_ns"] >= 0}
    if read["tpot_ns"] >= 0:
        span_ns = read["duration_ns"] - read["ttft_ns"]
        latencies_ns["output_speed"] = round(Fraction(span_ns, tokens["output"]))
    counters = Counter[str]()
    if read["probe"]:
        attempt = "probe" if read["final"] else "probe_attempt"
        counters[f"{attempt}_{read['outcome']}"] += not read["final"]
        if read["error_class"] in CLIENT_CLASSES:
            counters[f"{attempt}_client_{read['error_class']}"] += 1
    elif not read["final"]:
        counters[f"attempt_{read['outcome']}"] += 1
        counters.update({f"attempt_{name}": n for name, n in tokens.items()})
        if read["error_class"] in CLIENT_CLASSES:
            counters[f"attempt_client_{read['error_class']}"] += 1
        tokens = dict.fromkeys(tokens, 0)
        known = {name: amount * (name == "streamed") for name, amount in known.items()}
    else:
        if read["error_class"] in CLIENT_CLASSES:
            counters[f"client_{read['error_class']}"] += 1
        if read["ending"] is not None:
            counters[f"ending_{read['ending']}"] += 1
            counters[f"output_tokens_{read['ending']}"] += tokens["output"]
        counters["tier_changed"] += read["tier_changed"]
        if read["outcome"] in ELIGIBLE - {"success"}:
            streamed = read["outcome"] == "stream_error" or read["stream"]
            counters["failed_streamed"] += streamed is True
            counters["failed_unstreamed"] += streamed is False
    return Row(
        at_ms=read["ended_at_ms"],
        series=read["series"],
        customer=read["customer"],
        outcome=read["outcome"],
        probe=read["probe"],
        tokens=tokens,
        latencies_ns=latencies_ns,
        final=read["final"],
        counters={name: n for name, n in counters.items() if n},
        known={name: int(amount) for name, amount in known.items()},
        faults=read["faults"],
    )


@dataclass(frozen=True)
class Named:
    """A recount with its names capped and its customers hashed."""

    count: Recount
    series: list[SeriesKey]
    customers: list[tuple[str, str]]
    overflowed: Counter[str]


def named(count: Recount, caps: NameLimits, hashed: Callable[..., Any]) -> Named:
    """First come, first served: a name has a place if it has come before or there is room.

    Reserved names have a place from the begin.
    """
    kept = caps.reserved
    reserved = [kept.model, kept.region, kept.channel, kept.service_tier, kept.service_tier]
    places: list[set[str]] = [set(names) for names in reserved]
    kept_tokens = set(map(hashed, kept.customer))
    tokens = set(kept_tokens)  # of customers
    series: list[SeriesKey] = []
    customers: list[tuple[str, str]] = []
    overflowed: Counter[str] = Counter()
    rows = []
    for row in count.rows:
        names = []
        most = (caps.model, caps.region, caps.channel, caps.service_tier)
        for dimension, name, cap, place in zip(
            caps._fields, row.series[:4], most, places, strict=False
        ):
            if name in place or name == OTHER or len(place) < cap:
                names.append(name)
            else:
                names.append(OTHER)
                overflowed[dimension] += 1
        requested, length = row.series[4:]
        if requested == row.series[3]:
            requested = names[3]
        elif requested not in {*places[4], OTHER} and len(places[4]) >= caps.service_tier:
            requested = OTHER
            overflowed["service_tier"] += names[3] == row.series[3]
        key: SeriesKey = (names[0], names[1], names[2], names[3], requested, length)
        left = [name if name in one else OTHER for name, one in zip(key, reserved, strict=False)]
        rest: SeriesKey = (left[0], left[1], left[2], left[3], left[4], length)
        if key not in [*series, rest] and len(series) >= caps.series:
            key = rest
            overflowed["series"] += 1
        if key not in series:
            series.append(key)
            for name, place in zip(key, places, strict=False):
                place.update({name} - {OTHER})
        token = hashed(row.customer[0])
        if token not in tokens and len(tokens) >= caps.customers:
            token = OTHER
            overflowed["customer"] += 1
        tokens.update({token} - {OTHER})
        seen = {one[0] for one in series}
        customer = (token, row.customer[1] if row.customer[1] in seen else OTHER)
        full = len(customers) >= caps.customer_models
        full &= not (token in kept_tokens and customer[1] in kept.model)
        if customer not in customers and full and customer[1] != OTHER:
            customer = (token, OTHER)
            overflowed["customer_model"] += 1
        if customer not in customers:
            customers.append(customer)
        rows.append(replace(row, series=key, customer=customer))
    return Named(replace(count, rows=rows), series, customers, overflowed)
