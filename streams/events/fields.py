"""The event contract as tables: fields, types, ranges, outcomes, reasons for rejection.

Pure declarations. The decoder (events.py) and the published JSON Schema and documentation
(schema.py) are built from them, so that they cannot disagree about a limit or a name.

Times are whole milliseconds since the Unix epoch.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from msgspec import Meta

OUTCOMES: tuple[str, ...] = (
    "success",
    "server_error",
    "timeout",
    "overloaded",
    "stream_error",
    "rate_limited",
    "client_error",
    "cancelled",
)
# Outcomes in the denominator of an SLA unless its policy says otherwise.
ELIGIBLE: frozenset[str] = frozenset(
    {"success", "server_error", "timeout", "overloaded", "stream_error"}
)
# Why a record was refused. An index into this tuple is stored in state: only ever append.
REASONS: tuple[str, ...] = (
    "empty",
    "too_large",
    "too_deep",
    "not_json",
    "missing_field",
    "bad_type",
    "out_of_range",
    "bad_label",
    "inconsistent",
    "no_timestamp",
    "from_the_future",
    "too_late",
)
UNKNOWN = "unknown"  # what an absent label reads as

MAX_TIME_MS = 253_402_300_799_999  # the last millisecond of the year 9999
MAX_LATENCY_MS = 86_400_000
MAX_TOKENS = 10**12
MAX_STATUS = 999
MAX_TEXT = 128
# Nesting allowed, the event itself included. Judged before parsing: the parser's own limit depends
# on how deep the caller's stack is, and a replay must not.
MAX_DEPTH = 256
LABEL_PATTERN = "^[A-Za-z0-9._:/@ -]{1,96}$"
# RFC 3339 section 5.6. The zone is required; `t` and `z` may be lower case; a space is no `T`.
TIME_PATTERN = (
    "^([0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01]))[Tt]"
    "((?:[01][0-9]|2[0-3]):[0-5][0-9]):([0-5][0-9]|60)(?:[.]([0-9]+))?"
    "([Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])$"
)

# (first HTTP status, last, outcome) where an event gives no outcome; the first line that fits
# decides. A 2xx that carries an error broke after its headers were sent: stream_error.
STATUS_OUTCOMES: tuple[tuple[int, int, str], ...] = (
    (200, 299, "success"),
    (408, 408, "timeout"),
    (504, 504, "timeout"),
    (429, 429, "rate_limited"),
    (499, 499, "cancelled"),  # nginx: the client closed the request
    (503, 503, "overloaded"),
    (529, 529, "overloaded"),
    (500, 599, "server_error"),
    (400, 499, "client_error"),
)


@dataclass(frozen=True, slots=True)
class Kind:
    """What values a field may take: its type for the decoder, and in words for people."""

    type: Any
    json_types: tuple[str, ...]  # "integer" is a number written without fraction and exponent
    range: str


_literal: Any = Literal
TEXT = Kind(
    Annotated[str, Meta(min_length=1, max_length=MAX_TEXT)], ("string",), f"1 to {MAX_TEXT} long"
)
FREE_TEXT = Kind(str, ("string",), "any length")
TIME = Kind(
    Annotated[int, Meta(ge=0, le=MAX_TIME_MS)] | str,
    ("integer", "string"),
    f"0 to {MAX_TIME_MS} ms, or RFC 3339 with a zone",
)
LABEL = Kind(str, ("string",), "1 to 96 of letters, digits, space and . _ : / @ -")
OUTCOME = Kind(_literal[OUTCOMES], ("string",), "one of " + ", ".join(OUTCOMES))
STATUS = Kind(Annotated[int, Meta(ge=0, le=MAX_STATUS)], ("integer",), f"0 to {MAX_STATUS}")
FLAG = Kind(bool, ("boolean",), "true or false")
LATENCY = Kind(
    Annotated[float, Meta(ge=0, le=MAX_LATENCY_MS)],
    ("number", "integer"),
    f"0 to {MAX_LATENCY_MS} ms",
)
TOKENS = Kind(Annotated[int, Meta(ge=0, le=MAX_TOKENS)], ("integer",), f"0 to {MAX_TOKENS}")


@dataclass(frozen=True, slots=True)
class Field:
    """One field of the event; `absent` is what the decoder reads when it is missing or null."""

    name: str
    kind: Kind
    meaning: str
    required: bool = False
    absent: str | bool | int | float | None = None


FIELDS: tuple[Field, ...] = (
    Field("request_id", TEXT, "the record's key; duplicates are recognised by it", required=True),
    Field("ended_at", TIME, "when the request ended; decides the slice", required=True),
    Field("model", LABEL, "the model that answered", required=True),
    Field("outcome", OUTCOME, "how it ended; or give `status_code`, and `error` if there was one"),
    Field("status_code", STATUS, "HTTP status; read only where `outcome` is absent"),
    Field("error", FREE_TEXT, "what went wrong; empty means nothing did; see `status_code`"),
    Field("region", LABEL, "where it was served", absent=UNKNOWN),
    Field("channel", LABEL, "direct, or the cloud that resold it", absent=UNKNOWN),
    Field("service_tier", LABEL, "standard, priority, batch and the like", absent=UNKNOWN),
    Field("customer_id", LABEL, "who asked; stored only as a keyed hash", absent=UNKNOWN),
    Field("use_case", LABEL, "what for; checked, not counted", absent=UNKNOWN),
    Field("stream", FLAG, "whether the answer was streamed", absent=True),
    Field("ttft_ms", LATENCY, "first output token minus arrival; <= `duration_ms`", absent=-1.0),
    Field("duration_ms", LATENCY, "end minus arrival", absent=-1.0),
    Field(
        "input_tokens",
        TOKENS,
        "prompt, cached tokens included; required on success unless `probe`",
        absent=-1,
    ),
    Field("cached_input_tokens", TOKENS, "read from the cache; <= `input_tokens`", absent=0),
    Field("cache_write_tokens", TOKENS, "written to the cache", absent=0),
    Field("output_tokens", TOKENS, "generated, reasoning included", absent=0),
    Field("reasoning_tokens", TOKENS, "spent on reasoning; <= `output_tokens`", absent=0),
    Field("probe", FLAG, "a synthetic check: counts for uptime only", absent=False),
    Field(
        "trace_id",
        TEXT,
        "trace of the request; a few are shown as exemplars beside the latency histograms, those "
        "that are 1 to 96 of letters, digits, space and . _ : / @ -",
    ),
)


def outcome_of(status_code: int, error: str | None) -> str | None:
    """Outcome of a request that only says its HTTP status; None where the status tells nothing."""
    for first, last, outcome in STATUS_OUTCOMES:
        if first <= status_code <= last:
            return "stream_error" if outcome == "success" and error else outcome
    return None
