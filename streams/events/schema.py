"""The event contract as documents: a JSON Schema for machines, two tables for people.

Pure: builds text from fields.py. `make docs` writes it to the paths that `documents` names.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from streams.events.fields import (
    FIELDS,
    FLAG,
    FREE_TEXT,
    LABEL,
    LABEL_PATTERN,
    LATENCY,
    MAX_DEPTH,
    MAX_LATENCY_MS,
    MAX_STATUS,
    MAX_TEXT,
    MAX_TIME_MS,
    MAX_TOKENS,
    OUTCOME,
    OUTCOMES,
    REASONS,
    STATUS,
    STATUS_OUTCOMES,
    TEXT,
    TIME,
    TIME_PATTERN,
    TOKENS,
    Field,
    Kind,
)

# What each reason means, and what the sender does about it.
REASON_HELP: dict[str, tuple[str, str]] = {
    "empty": ("the record has no value: a tombstone or zero bytes", "send the event as the value"),
    "too_large": (
        "more bytes than `worker.max_event_bytes`",
        "send measurements only, no prompts and no answers",
    ),
    "too_deep": (f"nested deeper than {MAX_DEPTH} levels", "flatten; the event itself is flat"),
    "not_json": (
        "not one JSON text in UTF-8; NaN, Infinity and lone surrogates are not JSON",
        "encode with a JSON library, one event a record",
    ),
    "missing_field": ("a required field is absent or null", "fill it in"),
    "bad_type": (
        "a field, or the event, has another type than the table says",
        'note that `true` is not 1, `1.0` is not an integer and `"1"` is not a number',
    ),
    "out_of_range": (
        "the type is right, the value is not one the table allows",
        "check the unit: times and latencies are in milliseconds",
    ),
    "bad_label": (f"a name does not match `{LABEL_PATTERN}`", "rename it at the source"),
    "inconsistent": (
        "a part exceeds its whole: cached of input, reasoning of output, TTFT of duration "
        "(absent tokens count as 0)",
        "count cached tokens into `input_tokens`, reasoning into `output_tokens`",
    ),
    "no_timestamp": (
        "the record carries no Kafka timestamp",
        "use a client and a message format from after 2016",
    ),
    "from_the_future": (
        "`ended_at` lies after the record's timestamp by more than `worker.future_tolerance_s`",
        "set the sender's clock; check for seconds or microseconds in the place of milliseconds",
    ),
    "too_late": (
        "`ended_at` lies so far behind the partition's newest event that no slice is kept for it",
        "send sooner; look for a sender whose clock runs ahead",
    ),
}

_NO_INTEGRAL_FLOAT = "Written without fraction and exponent: the decoder refuses 1.0 and 1e3."
# Python's `$` also matches before a newline that ends the text; the decoder's does not.
_ONE_LINE = {"not": {"pattern": "\n"}}


def json_schema() -> dict[str, Any]:
    """The contract as JSON Schema, draft 2020-12.

    It judges as the decoder does, but for what its $comment lists.
    """
    absent_or_null = {"type": "null"}
    succeeded = {
        "properties": {
            "outcome": absent_or_null,
            "status_code": {"anyOf": [_span(*span) for span in _spans("success")]},
            "error": {"enum": [None, ""]},
        },
        "required": ["status_code"],
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Tokenpulse event, version 1",
        "description": "One finished inference request. Unknown fields are ignored.",
        "$comment": (
            "Not said here, judged by the decoder: bytes (size, depth, encoding), 1.0 where an "
            "integer is due, whether a date is in the calendar and in range, cached_input_tokens "
            "<= input_tokens, reasoning_tokens <= output_tokens, ttft_ms <= duration_ms, and "
            "ended_at against the record's timestamp and the partition's watermark."
        ),
        "type": "object",
        "properties": {field.name: _property(field) for field in FIELDS},
        "required": [field.name for field in FIELDS if field.required],
        "allOf": [
            {
                "if": {"properties": {"outcome": absent_or_null}},
                "then": {
                    "properties": {
                        "status_code": {
                            "type": "integer",
                            "anyOf": [_span(*span) for span in _spans()],
                        }
                    },
                    "required": ["status_code"],
                },
            },
            {
                "if": {
                    "properties": {"probe": {"not": {"const": True}}},
                    "anyOf": [
                        {"properties": {"outcome": {"const": "success"}}, "required": ["outcome"]},
                        succeeded,
                    ],
                },
                "then": {
                    "properties": {"input_tokens": {"type": "integer"}},
                    "required": ["input_tokens"],
                },
            },
        ],
    }


def documents() -> dict[str, str]:
    """Path in the project -> text, for every document that is generated from the contract."""
    return {
        "docs/event.schema.json": json.dumps(json_schema(), indent=2) + "\n",
        "docs/events.md": _page(),
    }


def _span(first: int, last: int) -> dict[str, int]:
    return {"minimum": first, "maximum": last}


def _spans(only: str | None = None) -> Iterator[tuple[int, int]]:
    for first, last, outcome in STATUS_OUTCOMES:
        if only is None or outcome == only:
            yield first, last


def _property(field: Field) -> dict[str, Any]:
    described = {"description": field.meaning}
    if field.required:
        return described | _KINDS[field.kind]
    return described | {"anyOf": [_KINDS[field.kind], {"type": "null"}]}


_KINDS: dict[Kind, dict[str, Any]] = {
    TEXT: {"type": "string", "minLength": 1, "maxLength": MAX_TEXT},
    FREE_TEXT: {"type": "string"},
    TIME: {
        "anyOf": [
            {"type": "integer", **_span(0, MAX_TIME_MS), "$comment": _NO_INTEGRAL_FLOAT},
            {"type": "string", "pattern": TIME_PATTERN, **_ONE_LINE},
        ]
    },
    LABEL: {"type": "string", "pattern": LABEL_PATTERN, **_ONE_LINE},
    OUTCOME: {"enum": list(OUTCOMES)},
    STATUS: {"type": "integer", **_span(0, MAX_STATUS), "$comment": _NO_INTEGRAL_FLOAT},
    FLAG: {"type": "boolean"},
    LATENCY: {"type": "number", **_span(0, MAX_LATENCY_MS)},
    TOKENS: {"type": "integer", **_span(0, MAX_TOKENS), "$comment": _NO_INTEGRAL_FLOAT},
}


def _page() -> str:
    fields = [
        (
            f"`{field.name}`",
            " or ".join(field.kind.json_types if field.kind is not LATENCY else ("number",)),
            field.kind.range,
            "required" if field.required else _absent(field),
            field.meaning,
        )
        for field in FIELDS
    ]
    outcomes = [("200-299 with a non-empty `error`", "stream_error")]
    for first, last, outcome in STATUS_OUTCOMES:
        other = "other " if any(first <= low and high < last for low, high in _spans()) else ""
        outcomes.append((f"{other}{first}-{last}" if first < last else str(first), outcome))
    reasons = [(f"`{reason}`", *REASON_HELP[reason]) for reason in REASONS]
    return _PAGE.format(
        fields=_table(("field", "type", "range", "if absent", "meaning"), fields),
        outcomes=_table(("status", "outcome"), outcomes),
        reasons=_table(("reason", "means", "cure"), reasons),
    )


_PAGE = """\
# The event

Generated by `make docs` from `streams/events/fields.py`; the same as
[JSON Schema](event.schema.json).

One finished inference request is one JSON object, one object a Kafka record.

{fields}

- null means absent. Unknown fields are ignored. Of a key given twice, the last one counts.
- An integer is written without fraction and exponent: `1.0` and `1e3` are refused.
- RFC 3339 times have a zone and any number of fraction digits, rounded down to milliseconds; a
  leap second `:60` is read as the second after `:59`.
- TTFT and duration count for successes only, TTFT only where `stream` is true; TPOT is
  `(duration - TTFT) / (output_tokens - 1)` where there is more than one output token.
- A probe counts for uptime: its latencies and tokens are checked and left out.

## Outcome from the HTTP status

Read where `outcome` is absent. A status not listed is refused (`out_of_range`).

{outcomes}

## Why a record is refused

A refused record goes byte for byte to the dead-letter topic and never moves the watermark. It is
judged in this order: its bytes, each field's type and range from top to bottom, what depends on
more than that, its time. The first broken rule is the reason.

{reasons}

Late and future are judged by the record's Kafka timestamp and the partition's watermark, never by
a worker's clock. A sender that stamps its own records (`CreateTime`) with a clock that runs ahead
therefore drags the watermark along and makes honest events too late: give the topic
`message.timestamp.type=LogAppendTime`.
"""


def _absent(field: Field) -> str:
    if isinstance(field.absent, bool):
        return f"`{json.dumps(field.absent)}`"
    if isinstance(field.absent, str):
        return f"`{field.absent}`"
    return "0" if field.absent == 0 or field.kind is TOKENS else "not known"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
