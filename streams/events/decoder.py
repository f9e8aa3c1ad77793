"""The event contract: one finished inference request a record, read off the log in whole batches.

Pure: no clock, no Redis, no Kafka. Every record of a batch becomes either one row of `Columns` or
one `Rejection`, whatever its bytes are, and where a log is cut into batches changes neither.

    fields.py   the contract as tables
    parser.py   bytes -> size, depth, encoding -> JSON of the declared types and ranges
    here              -> columns -> outcome, labels, fields that must agree -> time, against the
                      record's timestamp and the partition's watermark
    columns.py  what comes of it
    schema.py   the contract as documents

A record is refused for the first rule it breaks in that order.

Units: times in whole milliseconds since the Unix epoch (`_ms`), measured latencies in whole
nanoseconds (`_ns`), tokens as counts.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from operator import attrgetter, itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt
from xxhash import xxh3_128_digest

from streams.events.columns import Columns, Decoded, Rejection, interned
from streams.events.fields import (
    ELIGIBLE,
    FIELDS,
    LABEL,
    LABEL_PATTERN,
    LATENCY,
    OUTCOMES,
    REASONS,
    TIME,
    TOKENS,
    UNKNOWN,
    outcome_of,
)
from streams.events.parser import BAD_TIME, NO_DATE, Verdicts, events_of, readable, time_ms

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

_LABEL = re.compile(LABEL_PATTERN)
_CHUNK = 512  # events alive at a time: they stay in the core's cache until their columns are made


@dataclass(frozen=True, slots=True)
class EventLimits:
    """The judgements that are configured."""

    max_event_bytes: int
    future_tolerance_ms: int  # `ended_at` may lie this far after the record's timestamp
    horizon_ms: int  # an event older than the watermark by more than this is too late

    def __post_init__(self) -> None:
        for name in ("max_event_bytes", "future_tolerance_ms", "horizon_ms"):
            if (value := getattr(self, name)) < 0:
                raise ValueError(f"{name}: got {value}; it is a size or a span, give 0 or more")


def decode(
    values: Sequence[bytes | None],
    timestamps_ms: npt.NDArray[np.int64],
    watermark_ms: int | None,
    rules: EventLimits,
) -> Decoded:
    """Judge one batch of one partition.

    `values`: the records' values in log order, None for a null. `timestamps_ms`: their Kafka
    timestamps, one each. `watermark_ms`: of the partition before this batch, None before its first
    event. Raises ValueError if there is not one timestamp a record; never for what a record holds.
    """
    if len(timestamps_ms) != len(values):
        raise ValueError(
            f"timestamps_ms: got {len(timestamps_ms)} for {len(values)} records; give one each"
        )
    verdicts: Verdicts = {}
    rows = _parse(*readable(values, rules.max_event_bytes, verdicts), verdicts)
    _judge_fields(rows)
    running_ms = _judge_time(rows, timestamps_ms, watermark_ms, rules)
    rejections = [
        Rejection(position, *verdicts[position], _known(running_ms[position]))
        for position in sorted(verdicts)
    ]
    return Decoded(_columns(rows, running_ms), rejections, _known(running_ms[-1]))


def _known(watermark_ms: np.int64) -> int | None:
    return int(watermark_ms) if watermark_ms >= 0 else None


@dataclass(slots=True)
class _Rows:
    """The parsed events of a batch, column by column, before they are judged as wholes."""

    position: npt.NDArray[np.int64]
    request: npt.NDArray[np.uint64]  # shape (n, 2)
    ended_at_ms: npt.NDArray[np.int64]  # or BAD_TIME, NO_DATE
    outcome: npt.NDArray[np.int8]  # or _NO_OUTCOME, _NO_MEANING
    kind: npt.NDArray[np.int32]  # index into `kinds`
    pair: npt.NDArray[np.int32]  # index into `pairs`
    numbers: dict[str, npt.NDArray[Any]]  # latencies and tokens; the absent value where absent
    kinds: list[tuple[Any, ...]]  # distinct values of _KIND
    pairs: list[tuple[Any, ...]]  # distinct values of _PAIR
    alive: npt.NDArray[np.bool_]  # not refused yet
    verdicts: Verdicts

    def refuse(
        self,
        bad: npt.NDArray[Any],
        reason: str,
        detail: str,
        amount: npt.NDArray[Any] | None = None,
    ) -> None:
        """Refuse those rows among `bad` that nothing was found against before.

        `amount`: one number a row, put where `detail` has its {}.
        """
        rows = np.flatnonzero(bad & self.alive)
        amounts = rows if amount is None else amount[rows]
        for position, shown in zip(self.position[rows].tolist(), amounts.tolist(), strict=True):
            self.verdicts[position] = reason, detail.format(shown)
        self.alive[rows] = False

    def flag(self, name: str, value: bool) -> npt.NDArray[np.bool_]:
        """Rows whose `stream` or `probe` says `value`."""
        at = _KIND.index(name)
        return np.fromiter((kind[at] is value for kind in self.kinds), np.bool_)[self.kind]


_NO_OUTCOME, _NO_MEANING = -1, -2
_OUTCOME_INDEX: dict[str | None, int] = {outcome: at for at, outcome in enumerate(OUTCOMES)}
_OUTCOME_INDEX[None] = _NO_OUTCOME
_SUCCESS = _OUTCOME_INDEX["success"]
# Fields with few values are interned first and judged once a value.
_SERIES = ("model", "region", "channel", "service_tier")
_KIND = (*_SERIES, "use_case", "stream", "probe")
_PAIR = ("customer_id", "model")
_get_kind, _get_pair = attrgetter(*_KIND), attrgetter(*_PAIR)
_get_ended_at, _get_outcome = attrgetter("ended_at"), attrgetter("outcome")
_get_request = attrgetter("request_id")
_NUMBERS: dict[str, tuple[Callable[[Any], Any], Any, type]] = {
    field.name: (
        attrgetter(field.name),
        field.absent,
        np.float64 if field.kind is LATENCY else np.int64,
    )
    for field in FIELDS
    if field.kind in (LATENCY, TOKENS)
}


def _parse(records: Sequence[bytes], positions: npt.NDArray[np.int64], verdicts: Verdicts) -> _Rows:
    """Every record that is JSON of the declared types and ranges, as columns."""
    kinds: defaultdict[Any, int] = defaultdict(count().__next__)
    pairs: defaultdict[Any, int] = defaultdict(count().__next__)
    chunks = []
    for start in range(0, max(len(records), 1), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        events, kept = events_of(records[chunk], positions[chunk], verdicts)
        size = len(events)
        chunks.append(
            [
                kept,
                _hashes(events),
                _times(events),
                _outcomes(events),
                np.fromiter(map(kinds.__getitem__, map(_get_kind, events)), np.int32, size),
                np.fromiter(map(pairs.__getitem__, map(_get_pair, events)), np.int32, size),
                *(_numbers(events, *number) for number in _NUMBERS.values()),
            ]
        )
    position, request, ended_at_ms, outcome, kind, pair, *numbers = map(
        np.concatenate, zip(*chunks, strict=True)
    )
    return _Rows(
        position,
        request,
        ended_at_ms,
        outcome,
        kind,
        pair,
        dict(zip(_NUMBERS, numbers, strict=True)),
        list(kinds),
        list(pairs),
        np.ones(len(position), np.bool_),
        verdicts,
    )


def _hashes(events: Sequence[Any]) -> npt.NDArray[np.uint64]:
    digests = b"".join(map(xxh3_128_digest, map(str.encode, map(_get_request, events))))
    return np.frombuffer(digests, np.uint64).reshape(-1, 2)


def _times(events: Sequence[Any]) -> npt.NDArray[np.int64]:
    given = list(map(_get_ended_at, events))
    if str in set(map(type, given)):
        given = [time if isinstance(time, int) else time_ms(time) for time in given]
    return np.fromiter(given, np.int64, len(given))


def _outcomes(events: Sequence[Any]) -> npt.NDArray[np.int8]:
    given = map(_OUTCOME_INDEX.__getitem__, map(_get_outcome, events))
    outcomes = np.fromiter(given, np.int8, len(events))
    for at in np.flatnonzero(outcomes == _NO_OUTCOME).tolist():
        event = events[at]
        if event.status_code is not None:
            derived = outcome_of(event.status_code, event.error)
            outcomes[at] = _OUTCOME_INDEX[derived] if derived else _NO_MEANING
    return outcomes


def _numbers(
    events: Sequence[Any], get: Callable[[Any], Any], absent: Any, to: type
) -> npt.NDArray[Any]:
    try:
        return np.fromiter(map(get, events), to, len(events))
    except TypeError:  # a null among them
        given = [absent if number is None else number for number in map(get, events)]
        return np.fromiter(given, to, len(given))


def _judge_fields(rows: _Rows) -> None:
    """The rules on fields that a type and a range cannot say."""
    ended_at_ms, outcome, numbers = rows.ended_at_ms, rows.outcome, rows.numbers
    rows.refuse(ended_at_ms == BAD_TIME, "bad_type", f"ended_at: needs {TIME.range}")
    rows.refuse(ended_at_ms == NO_DATE, "out_of_range", f"ended_at: needs {TIME.range}")
    rows.refuse(outcome == _NO_OUTCOME, "missing_field", "outcome: give it, or status_code")
    rows.refuse(outcome == _NO_MEANING, "out_of_range", "status_code: no known outcome; give it")
    unmetered = (outcome == _SUCCESS) & ~rows.flag("probe", True) & (numbers["input_tokens"] < 0)
    rows.refuse(unmetered, "missing_field", "input_tokens: required on success")

    for name, keys, fields, index in (
        *((name, rows.kinds, _KIND, rows.kind) for name in (*_SERIES, "use_case")),
        ("customer_id", rows.pairs, _PAIR, rows.pair),
    ):
        labels = list(map(itemgetter(fields.index(name)), keys))
        bad = {label for label in set(labels) - {None} if not _LABEL.fullmatch(label)}
        if bad:
            length = np.array([len(label or "") for label in labels])
            rows.refuse(
                np.array([label in bad for label in labels])[index],
                "bad_label",
                f"{name}: needs {LABEL.range}, found {{}} long",
                length[index],
            )

    for part, whole in (
        ("ttft_ms", "duration_ms"),
        ("cached_input_tokens", "input_tokens"),
        ("reasoning_tokens", "output_tokens"),
    ):
        # Absent tokens are none, so that no ratio can exceed 1; an absent duration says nothing.
        limit = numbers[whole]
        limit = np.where(limit < 0, np.inf if part == "ttft_ms" else 0, limit)
        rows.refuse(numbers[part] > limit, "inconsistent", f"{part}: more than {whole}")


def _judge_time(
    rows: _Rows, timestamps_ms: npt.NDArray[np.int64], watermark_ms: int | None, rules: EventLimits
) -> npt.NDArray[np.int64]:
    """Refuse by time. The watermark before each record of the batch, and after the last; -1: none.

    A late event lies below the watermark, so that all events still alive may be run through the
    maximum before the late ones among them are known.
    """
    ended_at_ms, stamped_ms = rows.ended_at_ms, timestamps_ms[rows.position]
    rows.refuse(stamped_ms < 0, "no_timestamp", "the record has no Kafka timestamp")
    rows.refuse(
        ended_at_ms - rules.future_tolerance_ms > stamped_ms,
        "from_the_future",
        f"ended_at: {{}} ms after the record's timestamp; the limit is {rules.future_tolerance_ms}",
        ended_at_ms - stamped_ms,
    )
    seen_ms = np.full(len(timestamps_ms) + 1, -1, np.int64)
    if watermark_ms is not None:
        seen_ms[0] = watermark_ms
    seen_ms[rows.position[rows.alive] + 1] = ended_at_ms[rows.alive]
    running_ms = np.maximum.accumulate(seen_ms)
    behind_ms = running_ms[rows.position] - ended_at_ms
    rows.refuse(
        behind_ms > rules.horizon_ms,
        "too_late",
        f"ended_at: {{}} ms behind the watermark; the limit is {rules.horizon_ms}",
        behind_ms,
    )
    return running_ms


def _columns(rows: _Rows, running_ms: npt.NDArray[np.int64]) -> Columns:
    alive = slice(None) if rows.alive.all() else rows.alive
    probe = rows.flag("probe", True)[alive]
    outcome = rows.outcome[alive]
    measured = (outcome == _SUCCESS) & ~probe
    ttft_ms, duration_ms = rows.numbers["ttft_ms"][alive], rows.numbers["duration_ms"][alive]
    streamed = ~rows.flag("stream", False)[alive]
    ttft_ns = np.where(measured & streamed & (ttft_ms >= 0), np.rint(ttft_ms * 1e6), -1)
    duration_ns = np.where(measured & (duration_ms >= 0), np.rint(duration_ms * 1e6), -1)
    tokens = {
        field.name: np.where(probe, 0, np.maximum(rows.numbers[field.name][alive], 0))
        for field in FIELDS
        if field.kind is TOKENS
    }
    # Exact: the spans are whole and below 2**53, so that only the quotient is rounded, to even.
    steps = np.maximum(tokens["output_tokens"] - 1, 1)
    timed = (ttft_ns >= 0) & (duration_ns >= 0) & (tokens["output_tokens"] > 1)
    tpot_ns = np.where(timed, np.rint((duration_ns - ttft_ns) / steps), -1)
    series_index, series = interned([kind[: len(_SERIES)] for kind in rows.kinds], rows.kind[alive])
    customer_index, customers = interned(rows.pairs, rows.pair[alive])
    return Columns(
        position=rows.position[alive],
        request=rows.request[alive],
        ended_at_ms=rows.ended_at_ms[alive],
        watermark_ms=running_ms[rows.position[alive]],
        outcome=outcome,
        probe=probe,
        series_index=series_index,
        series=series,
        customer_index=customer_index,
        customers=customers,
        ttft_ns=ttft_ns.astype(np.int64),
        tpot_ns=tpot_ns.astype(np.int64),
        duration_ns=duration_ns.astype(np.int64),
        **tokens,
    )
