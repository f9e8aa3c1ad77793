"""The event contract: one finished inference request a record, read off the log in whole batches.

Pure: no clock, no Redis, no Kafka. Every record of a batch becomes either one row of `Columns` or
one `Rejection`, whatever its bytes are, and where a log is cut into batches changes neither.

    fields.py   the contract as tables
    parser.py   bytes -> size, depth, encoding -> JSON of the declared types
    rows.py     events -> one array a field, few-valued fields interned
    numbers.py  numbers out of range, or against the number that they are a part of
    names.py    names that producers send -> names that can be counted
    input_length.py  input tokens -> classes of length
    here        columns -> outcome, ranges, fields that must agree -> time, against the record's
                timestamp and the partition's watermark
    faults.py   faults of single fields
    columns.py  the result
    schema.py, page.py  the contract as documents

A record is rejected if it cannot be identified, placed in time or given an outcome, for the first
rule it breaks in that order. Any other wrong field becomes unknown, and is a fault of its record.

Units: times in whole milliseconds since the Unix epoch (`_ms`), measured latencies in whole
nanoseconds (`_ns`), tokens as counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from streams.events.columns import Columns, Decoded, Rejection, SeriesKey, interned
from streams.events.epoch import BEFORE_2015, EARLIEST_MS, time_fault, unit_hint
from streams.events.faults import fault_bit
from streams.events.fields import (
    ELIGIBLE,
    FIELDS,
    OUTCOMES,
    REASONS,
    TIME,
    TOKEN_KINDS,
    UNKNOWN,
    outcome_of,
)
from streams.events.input_length import NOT_CLASSIFIED, class_names, class_numbers
from streams.events.names import are_usable_customers, usable_customer, usable_label
from streams.events.numbers import judge_numbers
from streams.events.parser import BAD_TIME, NO_DATE, QUOTED_TIMES, TOO_EARLY, Verdicts, readable
from streams.events.rows import (
    LABEL_FIELDS,
    NO_MEANING,
    NO_OUTCOME,
    SERIES_FIELDS,
    SUCCESS,
    Rows,
    parse_rows,
)
from streams.events.watermark import Course, Watermark, advance

__all__ = [
    "ELIGIBLE",
    "OUTCOMES",
    "REASONS",
    "UNKNOWN",
    "Columns",
    "Decoded",
    "EventLimits",
    "Rejection",
    "decode",
    "outcome_of",
]

# A stream of more tokens than this does not arrive in one piece: its TTFT is its duration by
# mistake, usually because a gateway wrote the time of the end for the first token.
_FEW_TOKENS = 5
_SHORT_TTFT_MS = 10  # below it, and at most a thousandth of the duration: probably in seconds
_SPREAD = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio


_OUTCOME_FIELDS = ("outcome", "status_code")
_SERVED_AT = LABEL_FIELDS.index("service_tier")
_REQUESTED_AT = LABEL_FIELDS.index("requested_service_tier")
_RANGE = "out_of_range"
_NO_OUTCOME = "missing_field", "outcome: give it, or status_code"
_TOKEN_COLUMNS = tuple(
    field.name for field in FIELDS if field.kind in TOKEN_KINDS and field.name != "total_tokens"
)


@dataclass(frozen=True, slots=True)
class EventLimits:
    """The judgements that are configured."""

    max_event_bytes: int
    future_tolerance_ms: int  # `ended_at` may lie this far after the record's timestamp
    horizon_ms: int  # an event older than the watermark by more than this is too late
    input_limits: tuple[int, ...] = ()  # tokens, rising: what input lengths are classified by
    names_last_part: bool = False  # ARNs and paths among names count under their last part

    def __post_init__(self) -> None:
        for name in ("max_event_bytes", "future_tolerance_ms", "horizon_ms"):
            if (value := getattr(self, name)) < 0:
                raise ValueError(f"{name}: got {value}; it is a size or a span, give 0 or more")


def decode(
    values: Sequence[bytes | None],
    timestamps_ms: npt.NDArray[np.int64],
    watermark: Watermark | None,
    limits: EventLimits,
    by_sender: npt.NDArray[np.bool_] | None = None,
) -> Decoded:
    """Judge one batch of one partition.

    `values`: the records' values in log order, None for a null. `timestamps_ms`: their Kafka
    timestamps, one each. `watermark`: of the partition before this batch, None before its first
    event. `by_sender`: which timestamps are the sender's (CreateTime) and not the broker's; None if
    none. Raises ValueError if there is not one timestamp a record; never for their bytes.
    """
    if len(timestamps_ms) != len(values):
        raise ValueError(
            f"timestamps_ms: got {len(timestamps_ms)} for {len(values)} records; give one each"
        )
    verdicts: Verdicts = {}
    rows = parse_rows(*readable(values, limits.max_event_bytes, verdicts), verdicts)
    _judge_identity(rows)
    _judge_names(rows, limits.names_last_part)
    judge_numbers(rows)
    course, passed = _judge_time(rows, timestamps_ms, watermark or Watermark(), limits, by_sender)
    rejections = [
        Rejection(position, *verdicts[position], _watermark(course.time_ms[passed[position]]))
        for position in sorted(verdicts)
    ]
    columns = _columns(rows, course, passed, limits.input_limits)
    return Decoded(columns, rejections, course.last)


def _watermark(watermark_ms: np.int64) -> int | None:
    return int(watermark_ms) if watermark_ms >= 0 else None


def _judge_identity(rows: Rows) -> None:
    """Reject records without a usable time, or without an outcome."""
    ended_at_ms, outcome = rows.ended_at_ms, rows.outcome
    if ended_at_ms.min(initial=EARLIEST_MS) < EARLIEST_MS:
        rows.reject(ended_at_ms == BAD_TIME, "bad_type", f"ended_at: needs {TIME.range}")
        rows.reject(ended_at_ms == NO_DATE, _RANGE, f"ended_at: needs {TIME.range}")
        rows.reject(ended_at_ms == TOO_EARLY, _RANGE, f"ended_at: {BEFORE_2015}")
        for mark, unit in QUOTED_TIMES.items():
            detail = f"ended_at: a number in quotes: {unit_hint(unit)}"
            rows.reject(ended_at_ms == mark, "bad_type", detail)
        # Only the parser's marks were negative; what is left is too early, mostly seconds.
        early = rows.alive & (ended_at_ms < EARLIEST_MS)
        details = np.full(len(early), "", object)
        details[early] = [time_fault(number) for number in ended_at_ms[early].tolist()]
        rows.reject(early, _RANGE, "ended_at: {}", details)
    rows.reject(outcome == NO_OUTCOME, *_NO_OUTCOME)
    # An outcome or status that cannot be used is named: the sender would look for a missing one.
    for position, wrong in rows.wrong.items():
        if rows.verdicts.get(position) == _NO_OUTCOME:
            unusable = [
                (reason, detail) for name, reason, detail in wrong if name in _OUTCOME_FIELDS
            ]
            rows.verdicts[position] = (*unusable, _NO_OUTCOME)[0]
    rows.reject(outcome == NO_MEANING, "out_of_range", "status_code: no known outcome; give it")


def _judge_names(rows: Rows, only_last_part: bool) -> None:
    """Replace names that cannot be counted as they are, once for each combination of names."""
    labels: dict[str | int | None, tuple[str, bool]] = {}
    for at, name in enumerate(LABEL_FIELDS):
        given = {kind[at] for kind in rows.kinds}
        labels |= {label: usable_label(label, only_last_part) for label in given - labels.keys()}
        if any(labels[label][1] for label in given):
            renamed = np.fromiter((labels[kind[at]][1] for kind in rows.kinds), np.bool_)
            rows.mark(renamed[rows.kind], name, "renamed")
    width = len(LABEL_FIELDS)
    rows.kinds = [
        (
            *(labels[label][0] for label in kind[:_REQUESTED_AT]),
            # A tier that the client did not name is the one that it was served.
            labels[kind[_SERVED_AT if kind[_REQUESTED_AT] in (None, "") else _REQUESTED_AT]][0],
            *(labels[label][0] for label in kind[_REQUESTED_AT + 1 : width]),
            *kind[width:],
        )
        for kind in rows.kinds
    ]
    if all(labels[model][0] == model for _, model in rows.pairs) and are_usable_customers(
        customer for customer, _ in rows.pairs
    ):
        return
    customers = [usable_customer(customer) for customer, _ in rows.pairs]
    for reason in {reason for _, reason in customers if reason}:
        bad = np.fromiter((wrong == reason for _, wrong in customers), np.bool_)
        rows.mark(bad[rows.pair], "customer_id", reason)
    rows.pairs = [
        (customer, labels[model][0])
        for (customer, _), (_, model) in zip(customers, rows.pairs, strict=True)
    ]


def _judge_time(
    rows: Rows,
    timestamps_ms: npt.NDArray[np.int64],
    watermark: Watermark,
    limits: EventLimits,
    by_sender: npt.NDArray[np.bool_] | None,
) -> tuple[Course, npt.NDArray[np.int64]]:
    """Reject by time; return the watermark along the events whose time could be judged, and how
    many of these lie before each record."""
    ended_at_ms, stamped_ms = rows.ended_at_ms, timestamps_ms[rows.position]
    rows.reject(stamped_ms < 0, "no_timestamp", "the record has no Kafka timestamp")
    # Timestamps before 2015 are of a machine without a clock: no time can be compared with them.
    has_clock = stamped_ms >= EARLIEST_MS
    rows.reject(
        (ended_at_ms - limits.future_tolerance_ms > stamped_ms) & has_clock,
        "from_the_future",
        "ended_at: {} ms after the record's timestamp; the limit is "
        f"{limits.future_tolerance_ms}",
        ended_at_ms - stamped_ms,
    )
    alive = rows.alive.copy()
    position = rows.position[alive]
    # Only a broker with a clock vouches for the time of an event: others may be years ahead.
    unsure = ~has_clock[alive]
    if by_sender is not None:
        unsure |= by_sender[position]
    own = unsure if unsure.any() else None
    course = advance(watermark, ended_at_ms[alive], own, limits.horizon_ms, rows.request[alive, 0])
    is_event = np.zeros(len(timestamps_ms) + 1, np.int64)
    # One place later, so that a record does not count itself.
    is_event[position + 1] = 1
    passed = np.cumsum(is_event)[:-1]

    behind_ms = np.full(len(ended_at_ms), -1, np.int64)
    behind_ms[alive] = course.time_ms[:-1] - ended_at_ms[alive]
    # Before the watermark is settled no event is too late.
    behind_ms[np.flatnonzero(alive)[: course.settled_at]] = -1
    rows.reject(
        behind_ms > limits.horizon_ms,
        "too_late",
        f"ended_at: {{}} ms behind the watermark; the limit is {limits.horizon_ms}",
        behind_ms,
    )
    return course, passed


def _series(
    rows: Rows, alive: npt.NDArray[np.bool_] | slice, input_limits: Sequence[int]
) -> tuple[npt.NDArray[np.int32], list[SeriesKey]]:
    """Return the index of each event's series, and the distinct series."""
    names = [kind[: len(SERIES_FIELDS)] for kind in rows.kinds]
    index = rows.kind[alive]
    if not input_limits:
        return interned([(*key, NOT_CLASSIFIED) for key in names], index)
    classes = class_names(input_limits)
    number = class_numbers(rows.numbers["input_tokens"][alive], input_limits)
    return interned(
        [(*key, length) for key in names for length in classes],
        index * np.int32(len(classes)) + number,
    )


def _identities(
    request: npt.NDArray[np.uint64],
    answered: npt.NDArray[np.bool_],
    ended_at_ms: npt.NDArray[np.int64],
) -> npt.NDArray[np.uint64]:
    """Return the hashes by which duplicates are recognised, shape (n, 2).

    `answered`: which are final successes. These are known by their request id alone, as a request
    is answered once. Other events are known by their end too: gateways report each failed or
    slower attempt, and the one that was answered, under the same id.
    """
    if answered.all():
        return request
    identities, others = request.copy(), ~answered
    # A multiplier with well-spread bits, so that near times differ in all bits of the product.
    identities[others, 0] ^= ended_at_ms[others].astype(np.uint64) * _SPREAD
    return identities


def _columns(
    rows: Rows,
    course: Course,
    passed: npt.NDArray[np.int64],
    input_limits: Sequence[int],
) -> Columns:
    alive = slice(None) if rows.alive.all() else rows.alive
    at = passed[rows.position[alive]]
    probe, final = rows.flag("probe", True)[alive], ~rows.flag("final", False)[alive]
    outcome = rows.outcome[alive]
    numbers = {name: values[alive] for name, values in rows.numbers.items()}
    answered = (outcome == SUCCESS) & ~probe
    from_cache = answered & rows.flag("served_from", "response_cache")[alive]
    measured = answered & ~from_cache
    metered = ~(probe | from_cache)
    # Unknown numbers are -1 and count as 0.
    tokens = {name: np.where(metered, np.maximum(numbers[name], 0), 0) for name in _TOKEN_COLUMNS}

    ttft_ms, duration_ms = numbers["ttft_ms"], numbers["duration_ms"]
    sent_stream = rows.ternary("stream")[alive]
    stream = sent_stream == 1
    # Gateways that do not stream often write the end for the first token. If it is not known
    # whether an answer was streamed, only a first token before the end shows that it was. An
    # unknown duration, -1, shows nothing.
    early = (sent_stream < 0) & (ttft_ms < duration_ms)
    timed = measured & (stream | early) & (ttft_ms >= 0)
    at_once = stream & (ttft_ms == duration_ms) & (tokens["output_tokens"] > _FEW_TOKENS)
    faults = rows.faults[alive]
    # A TTFT in seconds beside a duration in milliseconds is valid, too, so it is only marked.
    in_seconds = (ttft_ms < _SHORT_TTFT_MS) & (ttft_ms * 1_000 <= duration_ms)
    suspicious = timed & (at_once | in_seconds | (ttft_ms == 0))
    if suspicious.any():
        faults = np.where(suspicious, faults | fault_bit("ttft_ms", "suspicious"), faults)
    ttft_ns = np.where(timed, np.rint(ttft_ms * 1e6), -1)
    duration_ns = np.where(measured & (duration_ms >= 0), np.rint(duration_ms * 1e6), -1)
    # Exact: the spans are whole and below 2**53, so that only the quotient is rounded, to even.
    steps = np.maximum(tokens["output_tokens"] - 1, 1)
    # No time between first token and end is no measured pace; nor is an unknown duration, -1.
    paced = timed & (duration_ns > ttft_ns) & (tokens["output_tokens"] > 1)
    tpot_ns = np.where(paced, np.rint((duration_ns - ttft_ns) / steps), -1)

    visible_ms = numbers["first_visible_token_ms"]
    first_visible_ns = np.full(len(outcome), -1, np.int64)
    if rows.has_rare:
        seen = measured & (visible_ms >= 0)
        first_visible_ns[seen] = np.rint(visible_ms[seen] * 1e6)

    has_tokens = metered & (numbers["input_tokens"] >= 0)
    series_index, series = _series(rows, alive, input_limits)
    customer_index, customers = interned(rows.pairs, rows.pair[alive])
    return Columns(
        position=rows.position[alive],
        request=_identities(
            rows.request[alive], (outcome == SUCCESS) & final, rows.ended_at_ms[alive]
        ),
        ended_at_ms=rows.ended_at_ms[alive],
        watermark_ms=course.time_ms[at],
        arrived_ms=course.arrived_ms[at],
        outcome=outcome,
        probe=probe,
        final=final,
        error_class=rows.error_class[alive],
        ending=rows.ending[alive],
        stream=sent_stream,
        tier_changed=_find_tier_changes(rows)[alive],
        series_index=series_index,
        series=series,
        customer_index=customer_index,
        customers=customers,
        ttft_ns=ttft_ns.astype(np.int64),
        tpot_ns=tpot_ns.astype(np.int64),
        duration_ns=duration_ns.astype(np.int64),
        first_visible_ns=first_visible_ns,
        **tokens,
        has_tokens=has_tokens,
        has_cached=has_tokens & (numbers["cached_input_tokens"] >= 0),
        estimated=metered & rows.flag("estimated_tokens", True)[alive],
        from_cache=from_cache,
        streamed=measured & (stream | timed),
        faults=faults,
    )


def _find_tier_changes(rows: Rows) -> npt.NDArray[np.bool_]:
    """Return the rows that were served in another tier than the requested one; both are known."""
    changed = np.fromiter(
        (
            UNKNOWN not in (kind[_REQUESTED_AT], kind[_SERVED_AT])
            and kind[_REQUESTED_AT] != kind[_SERVED_AT]
            for kind in rows.kinds
        ),
        np.bool_,
    )
    return changed[rows.kind]
