"""The fault of one field, and the fix, for `tokenpulse rejected`. Pure.

docs/events.md describes a reason for all fields together (streams/events/page.py); here is the part
that applies to one.
"""

from streams.events.fields import (
    ATTEMPT_OF,
    CUSTOMER,
    ENDING,
    ERROR_CLASS,
    FIELDS,
    LATENCY_KINDS,
    OUTCOME,
    SERVED_FROM,
    STATUS,
    TEXT,
    TOKEN_KINDS,
    Kind,
)
from streams.events.page import FIELD_REASON_HELP, REASON_HELP

_UNKNOWN = ("", "see docs/events.md")  # a reason of another version
_KINDS: dict[str, Kind] = {field.name: field.kind for field in FIELDS}
_CHOICES = (OUTCOME, ERROR_CLASS, ENDING, SERVED_FROM)
# Field -> what contradicts what, and the fix.
INCONSISTENT: dict[str, tuple[str, str]] = {
    "ttft_ms": (
        "the first token came after the end, so it is unknown",
        "measure TTFT and duration from the arrival, in milliseconds",
    ),
    "first_visible_token_ms": (
        "the first visible token came before the first token or after the end, so it is unknown",
        "measure all three from the arrival, in milliseconds",
    ),
    "cached_input_tokens": (
        "more than `input_tokens`, so it is unknown",
        "send all input tokens as `input_tokens`, those from the cache included",
    ),
    "cache_write_tokens": (
        "more than `input_tokens`, so it is unknown",
        "send all input tokens as `input_tokens`, those written to the cache included",
    ),
    "reasoning_tokens": (
        "more than `output_tokens`, so it is unknown",
        "send all output tokens as `output_tokens`, those of reasoning included",
    ),
    "total_tokens": (
        "not the sum of `input_tokens` and `output_tokens`",
        "check if cached or reasoning tokens are left out of one of the two",
    ),
    "error_class": (
        "a class of another outcome; that of a client error follows from `status_code`",
        "send a class that belongs to the outcome, or none",
    ),
}


def field_help(field: str, reason: str) -> tuple[str, str]:
    """Return the fault of a field of a counted record, and the fix."""
    kind = _KINDS[field]
    meaning, fix = FIELD_REASON_HELP.get(reason, _UNKNOWN)
    match reason:
        case "inconsistent":
            return INCONSISTENT.get(field, (meaning, fix))
        case "out_of_range":
            if kind.range.startswith("one of "):
                meaning = f"not {kind.range}, so it is unknown"
            else:
                meaning = f"a value that is not allowed, so it is unknown; expected: {kind.range}"
            return meaning, _range_fix(field) or fix
        case "bad_type":
            if "string" in kind.json_types:
                fix = "send a text, in quotes"
            return f"not {_types(kind)}, so it is unknown", fix
        case "renamed":
            return f"{meaning}; expected: {kind.range}", fix
    return meaning or reason, fix


def _types(kind: Kind) -> str:
    """Return the JSON types of a kind in words: `a number`, `a string or an integer`."""
    # An integer is a number too.
    types = [
        name for name in kind.json_types if name != "integer" or "number" not in kind.json_types
    ]
    return " or ".join(f"an {name}" if name == "integer" else f"a {name}" for name in types)


def record_fix(field: str | None, reason: str) -> str:
    """Return the fix for a record that was rejected as a whole; `field`: the one it names."""
    fix = REASON_HELP.get(reason, _UNKNOWN)[1]
    if reason == "out_of_range" and field is not None:
        return _range_fix(field) or fix
    return fix


def _range_fix(field: str) -> str | None:
    """Return how to send a value that is allowed; None for a field without advice of its own."""
    kind = _KINDS[field]
    if kind in _CHOICES:
        return "send one of these words, in small letters"
    if kind in LATENCY_KINDS:
        return "check the unit: latencies are in milliseconds"
    if kind in TOKEN_KINDS:
        return "send the number of tokens, or leave the field out if it is not known"
    if kind is STATUS:
        return "send the HTTP status"
    if kind in (TEXT, ATTEMPT_OF, CUSTOMER):
        return "send a text that is not empty, and not too long"
    return None
