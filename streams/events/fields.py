"""The event contract as tables: fields, types, ranges, outcomes, reasons for rejection.

Pure declarations. The decoder (decoder.py) and the published JSON Schema and documentation
(schema.py) are built from them, so that they cannot disagree about a limit or a name.

Times are whole milliseconds since the Unix epoch.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from msgspec import Meta

from streams.events.epoch import EARLIEST_MS

VERSION = 2  # of the contract
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
# Why a request failed, more exactly than its outcome.
ERROR_CLASSES: tuple[str, ...] = (
    "auth",
    "payment",
    "permission",
    "not_found",
    "invalid",
    "too_large",
    "policy",
    "rate",
    "upstream",
)
# The classes of client_error; the other outcomes have one class at most.
CLIENT_CLASSES = ERROR_CLASSES[: ERROR_CLASSES.index("rate")]
# How the output ended.
ENDINGS: tuple[str, ...] = (
    "complete",
    "length",
    "tool",
    "filtered",
    "empty",
    "error_finish",
    "idle_timeout",
    "cut",
    "cancelled_before_first",
    "cancelled_after_first",
    "migrated",
)
# What an answer was taken from: a model, or the gateway's cache of whole answers.
SOURCES: tuple[str, ...] = ("model", "response_cache")
# Why a whole record was rejected. An index into this tuple is stored in state: only ever append.
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
# What was wrong with one field of a record that was counted. The first three cost the field: it
# becomes unknown. The last two only mark it. An index is stored in state: only ever append.
FIELD_REASONS: tuple[str, ...] = (
    "bad_type",
    "out_of_range",
    "inconsistent",
    "renamed",
    "suspicious",
)
UNKNOWN = "unknown"  # what an absent label reads as
OTHER = "__other__"  # names beyond a limit are counted under it; no producer may use it

MAX_TIME_MS = 253_402_300_799_999  # the last millisecond of the year 9999
MAX_LATENCY_MS = 7 * 86_400_000
NOT_MEASURED = -1  # many gateways write it for a number that they do not have
MAX_TOKENS = 10**12
MAX_STATUS = 999
MAX_TEXT = 128
MAX_LABEL = 96
MAX_CUSTOMER_BYTES = 512
# Nesting allowed, the event itself included. Judged before parsing: the parser's own limit depends
# on how deep the caller's stack is, and a replay must not.
MAX_DEPTH = 256
LABEL_PATTERN = f"^[A-Za-z0-9._:/@ -]{{1,{MAX_LABEL}}}$"
# RFC 3339 section 5.6. The zone is required; `t` and `z` may be lower case; a space is no `T`.
TIME_PATTERN = (
    "^([0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01]))[Tt]"
    "((?:[01][0-9]|2[0-3]):[0-5][0-9]):([0-5][0-9]|60)(?:[.]([0-9]+))?"
    "([Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])$"
)

# (first HTTP status, last, outcome) for an event without an outcome; the first line that fits
# decides. A 2xx that carries an error broke after its headers were sent: stream_error.
STATUS_OUTCOMES: tuple[tuple[int, int, str], ...] = (
    (200, 299, "success"),
    (101, 101, "success"),  # a websocket
    (0, 0, "cancelled"),  # Envoy: the client left before an answer was sent
    (300, 399, "client_error"),
    (408, 408, "timeout"),
    (504, 504, "timeout"),
    (429, 429, "rate_limited"),
    (499, 499, "cancelled"),  # nginx: the client closed the request
    (503, 503, "overloaded"),
    (529, 529, "overloaded"),
    (500, 599, "server_error"),
    (400, 499, "client_error"),
)
# (first HTTP status, last, class) of a client_error without a class; the first line that fits
# decides.
STATUS_CLASSES: tuple[tuple[int, int, str], ...] = (
    (401, 401, "auth"),
    (402, 402, "payment"),
    (403, 403, "permission"),
    (404, 404, "not_found"),
    (410, 410, "not_found"),
    (413, 414, "too_large"),
    (431, 431, "too_large"),
    (451, 451, "policy"),
    (408, 408, ""),  # timeout, rate_limited, cancelled: no error of the request
    (429, 429, ""),
    (499, 499, ""),
    (400, 499, "invalid"),
)
# The outcome of an ending. It replaces a success: an answer without output, or with an error as
# its finish reason, is none.
ENDING_OUTCOMES: dict[str, str] = {
    **dict.fromkeys(("complete", "length", "tool", "filtered", "migrated"), "success"),
    "empty": "server_error",
    "error_finish": "stream_error",
    "cut": "stream_error",
    "idle_timeout": "timeout",
    "cancelled_before_first": "cancelled",
    "cancelled_after_first": "cancelled",
}
# The outcomes that a class may refine; the first is that of a request without outcome and status.
CLASS_OUTCOMES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(CLIENT_CLASSES, ("client_error",)),
    "rate": ("rate_limited",),
    "upstream": ("server_error", "timeout", "overloaded", "stream_error"),
}


@dataclass(frozen=True, slots=True)
class Kind:
    """What values a field may take: its type for the decoder, and in words for people."""

    type: Any  # wider than the range where the decoder judges a whole column at once
    json_types: tuple[str, ...]  # "integer" is a number written without fraction and exponent
    range: str
    reasons: tuple[str, ...]  # of FIELD_REASONS: what can be wrong with it


_literal: Any = Literal
_INT_62 = Annotated[int, Meta(ge=-(2**62), le=2**62)]  # fits a column; larger takes the slow path
_WRONG = ("bad_type", "out_of_range")
REQUEST_ID = Kind(
    Annotated[str, Meta(min_length=1)] | int,
    ("string", "integer"),
    "not empty",
    (),
)
ATTEMPT_OF = Kind(REQUEST_ID.type, REQUEST_ID.json_types, REQUEST_ID.range, _WRONG)
TEXT = Kind(
    Annotated[str, Meta(min_length=1, max_length=MAX_TEXT)],
    ("string",),
    f"1 to {MAX_TEXT} long",
    _WRONG,
)
FREE_TEXT = Kind(str, ("string",), "any length", ("bad_type",))
TIME = Kind(
    Annotated[int, Meta(ge=0, le=MAX_TIME_MS)] | str,
    ("integer", "string"),
    f"{EARLIEST_MS} (2015) to {MAX_TIME_MS} ms, or RFC 3339 with a zone",
    (),
)
LABEL = Kind(
    str | int,
    ("string",),
    f"1 to {MAX_LABEL} of letters, digits, space and . _ : / @ -",
    ("bad_type", "renamed"),
)
CUSTOMER = Kind(
    str | int,
    ("string", "number", "integer"),
    f"up to {MAX_CUSTOMER_BYTES} bytes",
    (*_WRONG, "renamed"),
)
OUTCOME = Kind(_literal[OUTCOMES], ("string",), "one of " + ", ".join(OUTCOMES), _WRONG)
STATUS = Kind(Annotated[int, Meta(ge=0, le=MAX_STATUS)], ("integer",), f"0 to {MAX_STATUS}", _WRONG)
FLAG = Kind(bool, ("boolean",), "true or false", ("bad_type",))
ERROR_CLASS = Kind(
    _literal[ERROR_CLASSES],
    ("string",),
    "one of " + ", ".join(ERROR_CLASSES),
    (*_WRONG, "inconsistent"),
)
ENDING = Kind(_literal[ENDINGS], ("string",), "one of " + ", ".join(ENDINGS), _WRONG)
SERVED_FROM = Kind(_literal[SOURCES], ("string",), "one of " + ", ".join(SOURCES), _WRONG)
_latency = (float, ("number", "integer"), f"0 to {MAX_LATENCY_MS} ms; -1: not measured")
LATENCY = Kind(*_latency, _WRONG)
FIRST_TOKEN = Kind(*_latency, (*_WRONG, "inconsistent", "suspicious"))
FIRST_VISIBLE = Kind(*_latency, (*_WRONG, "inconsistent"))
LATENCY_KINDS = (LATENCY, FIRST_TOKEN, FIRST_VISIBLE)
_tokens = (_INT_62, ("integer",), f"0 to {MAX_TOKENS}; -1: not known")
TOKENS = Kind(*_tokens, _WRONG)
TOKEN_PART = Kind(*_tokens, (*_WRONG, "inconsistent"))  # of another count, or its check
TOKEN_KINDS = (TOKENS, TOKEN_PART)


@dataclass(frozen=True, slots=True)
class Field:
    """One field of the event; `absent` is what the decoder reads when it is missing or null."""

    name: str
    kind: Kind
    meaning: str
    required: bool = False  # a record without a usable value is rejected as a whole
    absent: str | bool | int | float | None = None
    rare: bool = False  # most gateways do not send it: a batch without any is decoded faster


# A field's place is stored in state: only ever append.
FIELDS: tuple[Field, ...] = (
    Field(
        "request_id", REQUEST_ID, "the record's key; duplicates are recognised by it", required=True
    ),
    Field("ended_at", TIME, "when the request ended; decides the slice", required=True),
    Field("model", LABEL, "the model that answered"),
    Field("outcome", OUTCOME, "how it ended; or give `status_code`, and `error` if there was one"),
    Field("status_code", STATUS, "HTTP status; read only if there is no `outcome`"),
    Field("error", FREE_TEXT, "what went wrong; empty means no error; see `status_code`"),
    Field("region", LABEL, "where it was served"),
    Field("channel", LABEL, "direct, or the cloud that resold it"),
    Field("service_tier", LABEL, "standard, priority, batch and the like"),
    Field("customer_id", CUSTOMER, "who asked; stored only as a keyed hash"),
    Field("use_case", LABEL, "what for; checked, not counted"),
    Field("stream", FLAG, "whether the answer was streamed"),
    Field(
        "ttft_ms", FIRST_TOKEN, "first output token minus arrival; <= `duration_ms`", absent=-1.0
    ),
    Field("duration_ms", LATENCY, "end minus arrival", absent=-1.0),
    Field("input_tokens", TOKENS, "prompt, cached tokens included", absent=-1),
    Field("cached_input_tokens", TOKEN_PART, "read from the cache; <= `input_tokens`", absent=-1),
    Field("cache_write_tokens", TOKEN_PART, "written to the cache; <= `input_tokens`", absent=-1),
    Field("output_tokens", TOKENS, "generated, reasoning included", absent=-1),
    Field("reasoning_tokens", TOKEN_PART, "spent on reasoning; <= `output_tokens`", absent=-1),
    Field("probe", FLAG, "a synthetic check: counts for uptime only", absent=False),
    Field(
        "trace_id",
        TEXT,
        "trace of the request; a few are shown as exemplars beside the latency histograms, those "
        "that are 1 to 96 of letters, digits, space and . _ : / @ -",
    ),
    Field(
        "total_tokens",
        TOKEN_PART,
        "a check: `input_tokens` + `output_tokens`",
        absent=-1,
        rare=True,
    ),
    Field(
        "estimated_tokens",
        FLAG,
        "the token counts are estimates; also counted apart",
        absent=False,
        rare=True,
    ),
    Field(
        "served_from",
        SERVED_FROM,
        "`response_cache`: the gateway answered from its cache; counts for uptime only",
        rare=True,
    ),
    Field(
        "requested_service_tier",
        LABEL,
        "the tier that was asked for, beside the `service_tier` that served; absent: the same",
    ),
    Field(
        "attempt_of",
        ATTEMPT_OF,
        "the customer's request that this is an attempt at; checked, not counted",
        rare=True,
    ),
    Field(
        "final",
        FLAG,
        "false: the gateway made another attempt after this one; it counts for the provider only",
        absent=True,
        rare=True,
    ),
    Field(
        "first_visible_token_ms",
        FIRST_VISIBLE,
        "first token that a person sees minus arrival; >= `ttft_ms`, <= `duration_ms`",
        absent=-1.0,
        rare=True,
    ),
    Field(
        "error_class",
        ERROR_CLASS,
        "why it failed; without it, that of a client error follows from `status_code`",
        rare=True,
    ),
    Field(
        "ending",
        ENDING,
        "how the output ended; a failed ending replaces the outcome `success`",
        rare=True,
    ),
)
RARE_FIELDS = frozenset(field.name for field in FIELDS if field.rare)


def outcome_of(status_code: int, error: str | None) -> str | None:
    """Return the outcome that an HTTP status stands for; None if it stands for none."""
    for first, last, outcome in STATUS_OUTCOMES:
        if first <= status_code <= last:
            return "stream_error" if outcome == "success" and error else outcome
    return None


def class_of_status(status_code: int) -> str | None:
    """Return the error class that the HTTP status of a client error stands for; None if none."""
    for first, last, error_class in STATUS_CLASSES:
        if first <= status_code <= last:
            return error_class or None
    return None


def end_of(
    outcome: str | None,
    status_code: int | None,
    error: str | None,
    error_class: str | None,
    ending: str | None,
) -> tuple[str | None, str | None]:
    """Return outcome and error class of a request from the fields that tell how it ended.

    The outcome is None if no field gives one. A class that contradicts the outcome is ignored: that
    of a client error then follows from the status, as if none was sent.
    """
    if outcome is None and status_code is not None:
        outcome = outcome_of(status_code, error)
    if outcome is None and ending is not None:
        outcome = ENDING_OUTCOMES[ending]
    elif outcome is None and error_class is not None:
        outcome = CLASS_OUTCOMES[error_class][0]
    elif outcome == "success" and ending is not None:
        outcome = ENDING_OUTCOMES[ending]
    if error_class is not None and outcome in CLASS_OUTCOMES[error_class]:
        return outcome, error_class
    if outcome == "client_error" and status_code is not None:
        return outcome, class_of_status(status_code)
    return outcome, None
