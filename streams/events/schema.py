"""The event contract as JSON Schema, and the documents generated from the contract.

Pure: builds text from fields.py. `make docs` writes it to the paths that `documents` names.
"""

import json
from typing import Any

from streams.events.epoch import EARLIEST_MS
from streams.events.fields import (
    ATTEMPT_OF,
    CUSTOMER,
    ENDING,
    ENDINGS,
    ERROR_CLASS,
    ERROR_CLASSES,
    FIELDS,
    FIRST_TOKEN,
    FIRST_VISIBLE,
    FLAG,
    FREE_TEXT,
    LABEL,
    LABEL_PATTERN,
    LATENCY,
    MAX_CUSTOMER_BYTES,
    MAX_LATENCY_MS,
    MAX_STATUS,
    MAX_TEXT,
    MAX_TIME_MS,
    MAX_TOKENS,
    NOT_MEASURED,
    OUTCOME,
    OUTCOMES,
    REQUEST_ID,
    SERVED_FROM,
    SOURCES,
    STATUS,
    STATUS_OUTCOMES,
    TEXT,
    TIME,
    TIME_PATTERN,
    TOKEN_PART,
    TOKENS,
    VERSION,
    Field,
    Kind,
)
from streams.events.page import event_page

_INTEGRAL_FLOAT = "1.0 and 1e3 are read as whole numbers up to 2**53; a time may not be one."
# Python's `$` also matches before a newline that ends the text; the decoder's does not.
_ONE_LINE = {"not": {"pattern": "\n"}}


def json_schema() -> dict[str, Any]:
    """Return the contract as JSON Schema, draft 2020-12.

    An event that it accepts is counted without a fault, but for what its $comment lists.
    """
    absent_or_null = {"type": "null"}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"Tokenpulse event, version {VERSION}",
        "description": (
            "One finished inference request. Unknown fields are ignored. An event that does not "
            "match may still be counted, without the fields that are wrong: see docs/events.md."
        ),
        "$comment": (
            "Not said here, judged by the decoder: bytes (size, depth, encoding), ended_at written "
            "as 1.0, whether a date is in the calendar and in range, the bytes of a customer_id, "
            "reserved names, cached_input_tokens and cache_write_tokens <= input_tokens, "
            "reasoning_tokens <= output_tokens, total_tokens = input_tokens + output_tokens, "
            "ttft_ms <= first_visible_token_ms <= duration_ms, an error_class that is one of the "
            "outcome, and ended_at against the record's timestamp and the "
            "partition's watermark."
        ),
        "type": "object",
        "properties": {field.name: _property(field) for field in FIELDS},
        "required": [field.name for field in FIELDS if field.required],
        "if": {"properties": {"outcome": absent_or_null}},
        "then": {
            "anyOf": [
                {
                    "properties": {
                        "status_code": {
                            "type": "integer",
                            "anyOf": [_span(first, last) for first, last, _ in STATUS_OUTCOMES],
                        }
                    },
                    "required": ["status_code"],
                },
                *(
                    {"properties": {name: {"type": "string"}}, "required": [name]}
                    for name in ("error_class", "ending")
                ),
            ]
        },
    }


def documents() -> dict[str, str]:
    """Path in the project -> text, for every document that is generated from the contract."""
    return {
        "docs/event.schema.json": json.dumps(json_schema(), indent=2) + "\n",
        "docs/events.md": event_page(),
    }


def _span(first: int, last: int) -> dict[str, int]:
    return {"minimum": first, "maximum": last}


def _property(field: Field) -> dict[str, Any]:
    described = {"description": field.meaning}
    if field.required:
        return described | _KINDS[field.kind]
    # null means missing, so each optional field may be null.
    return described | {"anyOf": [_KINDS[field.kind], {"type": "null"}]}


_ID = {"anyOf": [{"type": "string", "minLength": 1}, {"type": "integer"}]}
_LATENCY = {"anyOf": [{"type": "number", **_span(0, MAX_LATENCY_MS)}, {"const": NOT_MEASURED}]}
_COUNT = {"type": "integer", **_span(NOT_MEASURED, MAX_TOKENS), "$comment": _INTEGRAL_FLOAT}
_KINDS: dict[Kind, dict[str, Any]] = {
    REQUEST_ID: _ID,
    ATTEMPT_OF: _ID,
    TEXT: {"type": "string", "minLength": 1, "maxLength": MAX_TEXT},
    FREE_TEXT: {"type": "string"},
    TIME: {
        "anyOf": [
            {"type": "integer", **_span(EARLIEST_MS, MAX_TIME_MS), "$comment": _INTEGRAL_FLOAT},
            {"type": "string", "pattern": TIME_PATTERN, **_ONE_LINE},
        ]
    },
    LABEL: {"anyOf": [{"type": "string", "pattern": LABEL_PATTERN, **_ONE_LINE}, {"const": ""}]},
    CUSTOMER: {"anyOf": [{"type": "string", "maxLength": MAX_CUSTOMER_BYTES}, {"type": "number"}]},
    OUTCOME: {"enum": list(OUTCOMES)},
    STATUS: {"type": "integer", **_span(0, MAX_STATUS), "$comment": _INTEGRAL_FLOAT},
    FLAG: {"type": "boolean"},
    SERVED_FROM: {"enum": list(SOURCES)},
    ERROR_CLASS: {"enum": list(ERROR_CLASSES)},
    ENDING: {"enum": list(ENDINGS)},
    **dict.fromkeys((LATENCY, FIRST_TOKEN, FIRST_VISIBLE), _LATENCY),
    **dict.fromkeys((TOKENS, TOKEN_PART), _COUNT),
}
