"""The event contract read record by record with the standard library, and no cleverness.

`read_record` returns what a record counts as, or the reason for which it is rejected. Its time
against the log is not judged here. Values of single fields: contract_values.py.
"""

import json
import re
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from tests.support import contract_values as values

CLIENT_CLASSES = (
    *("auth", "payment", "permission", "not_found", "invalid", "too_large", "policy"),
)
ERROR_CLASSES = (*CLIENT_CLASSES, "rate", "upstream")
FAILED_ENDINGS = {
    "empty": "server_error",
    "error_finish": "stream_error",
    "idle_timeout": "timeout",
    "cut": "stream_error",
    "cancelled_before_first": "cancelled",
    "cancelled_after_first": "cancelled",
}
ENDINGS = ("complete", "length", "tool", "filtered", *FAILED_ENDINGS, "migrated")
STATUS_CLASSES = {
    401: "auth",
    402: "payment",
    403: "permission",
    404: "not_found",
    410: "not_found",
    413: "too_large",
    414: "too_large",
    431: "too_large",
    451: "policy",
    408: None,
    429: None,
    499: None,
}
OUTCOMES = (
    *("success", "server_error", "timeout", "overloaded", "stream_error", "rate_limited"),
    *("client_error", "cancelled"),
)
LABELS = (
    *("model", "region", "channel", "service_tier"),
    *("requested_service_tier", "use_case"),
)
FLAGS = ("stream", "probe", "estimated_tokens", "final")
TOKENS = (
    *("input_tokens", "cached_input_tokens", "cache_write_tokens"),
    *("output_tokens", "reasoning_tokens"),
)
STATUSES = {
    101: "success",
    0: "cancelled",
    408: "timeout",
    504: "timeout",
    429: "rate_limited",
    499: "cancelled",
    503: "overloaded",
    529: "overloaded",
}
LONE_SURROGATE = re.compile("[\ud800-\udfff]")
ESCAPED_BYTES = re.compile("[\udc80-\udcff]+")  # what Python reads bytes that are not UTF-8 as
# NaN and Infinity, which JSON lacks, and ids that are no text; false, so that no error is found.
NO_VALUE: tuple[()] = ()


def read_record(
    value: bytes | None, max_bytes: int = 4_000, input_limits: Sequence[int] = ()
) -> dict[str, Any] | str:
    """Return the row of a record as a dictionary, or the reason for which it is rejected."""
    try:
        return _row(_event(value, max_bytes), input_limits)
    except values.Rejected as rejected:
        return str(rejected)


def _event(value: bytes | None, max_bytes: int) -> dict[str, Any]:
    """Return the fields of a record that are not null."""
    if not value:
        raise values.Rejected("empty")
    if len(value) > max_bytes:
        raise values.Rejected("too_large")
    if _depth(value) > 256:
        raise values.Rejected("too_deep")
    try:
        event = json.loads(
            value.decode(errors="surrogateescape"),
            parse_constant=lambda _: NO_VALUE,
            parse_float=values.Number,
        )
    except (ValueError, RecursionError):
        raise values.Rejected("not_json") from None
    if not isinstance(event, dict):
        raise values.Rejected("bad_type")
    if LONE_SURROGATE.search(str(event.get("request_id", ""))):
        raise values.Rejected("not_json")  # two ids would become one
    event = {key: _text(key, held) for key, held in event.items()}
    return {key: held for key, held in event.items() if held is not None}


def _text(name: str, held: Any) -> Any:
    """Return a value, if it is no text in UTF-8 as it is counted: ids of two would become one."""
    if not isinstance(held, str) or not LONE_SURROGATE.search(held):
        return held
    if name not in (*LABELS, "error"):
        return NO_VALUE
    sent = ESCAPED_BYTES.sub(
        lambda run: run[0].encode(errors="surrogateescape").decode(errors="replace"), held
    )
    return LONE_SURROGATE.sub("\ufffd", sent)


def _depth(value: bytes) -> int:
    """How many brackets are open at once, outside of texts."""
    if value.count(b"[") + value.count(b"{") <= 256:
        return 0  # nearly always
    deepest = depth = 0
    in_text = escaped = False
    for byte in value:
        if in_text:
            in_text = escaped or byte != ord('"')
            escaped = byte == ord("\\") and not escaped
        elif byte == ord('"'):
            in_text = True
        elif byte in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"]}":
            depth -= 1
    return deepest


def _row(given: dict[str, Any], input_limits: Sequence[int]) -> dict[str, Any]:
    faults: values.Faults = []
    values.check_id(given.get("request_id"))
    ended_at_ms = values.time_ms(given.get("ended_at"))
    labels = {name: values.label(name, given.get(name), faults) for name in LABELS}
    customer = values.customer(given.get("customer_id"), faults)
    flags = {name: values.flag(name, given.get(name), faults) for name in FLAGS}
    served_from = values.choice("served_from", given, ("model", "response_cache"), faults)
    values.check_trace(given.get("trace_id"), faults)
    outcome = values.choice("outcome", given, OUTCOMES, faults)
    status, error = values.status(given, faults), values.has_error(given, faults)
    error_class = values.choice("error_class", given, ERROR_CLASSES, faults)
    ending = values.choice("ending", given, ENDINGS, faults)
    values.check_attempt_of(given.get("attempt_of"), faults)
    if outcome is None:
        outcome = _outcome_without(status, error, error_class, ending, faults)
    if outcome == "success" and ending is not None:
        outcome = FAILED_ENDINGS.get(ending, "success")
    error_class = _class_of(outcome, status, error_class, faults)

    is_wrong = ("requested_service_tier", "bad_type") in faults
    asked = given.get("requested_service_tier") not in (None, "") and not is_wrong
    probe = flags["probe"] is True
    tokens = {
        name: values.tokens(name, given.get(name), faults) for name in (*TOKENS, "total_tokens")
    }
    ttft = values.latency("ttft_ms", given.get("ttft_ms"), faults)
    duration = values.latency("duration_ms", given.get("duration_ms"), faults)
    _check_parts(tokens, faults)
    if ttft is not None and duration is not None and ttft > duration:
        if ttft - duration <= max(1, duration / 1_000) + 1e-6:
            ttft = duration
        else:
            faults.append(("ttft_ms", "inconsistent"))
            ttft = None
    visible = _visible(given, ttft, duration, faults)
    tiers = {labels["service_tier"], labels["requested_service_tier"]}

    cached = outcome == "success" and not probe and served_from == "response_cache"
    metered = not probe and not cached
    row: dict[str, Any] = {
        "ended_at_ms": ended_at_ms,
        "outcome": outcome,
        "probe": probe,
        "final": flags["final"] is not False,
        "error_class": error_class,
        "ending": ending,
        "tier_changed": asked and len(tiers) == 2 and "unknown" not in tiers,
        "series": (
            *(labels[name] for name in LABELS[:4]),
            labels["requested_service_tier" if asked else "service_tier"],
            _length_class(tokens["input_tokens"], input_limits) if input_limits else "",
        ),
        "customer": (customer, labels["model"]),
        "ttft_ns": -1,
        "tpot_ns": -1,
        "duration_ns": -1,
        "first_visible_ns": -1,
        **{name: (tokens[name] or 0) if metered else 0 for name in TOKENS},
        "has_tokens": metered and tokens["input_tokens"] is not None,
        "has_cached": metered and tokens["cached_input_tokens"] is not None,
        "estimated": metered and flags["estimated_tokens"] is True,
        "from_cache": cached,
        "streamed": False,
        "stream": flags["stream"],
    }
    if outcome == "success" and metered:
        _add_latencies(row, flags["stream"], ttft, duration, faults)
        if visible is not None:
            row["first_visible_ns"] = round(Fraction(visible * 1e6))
    return row | {"faults": sorted(set(faults))}


def _length_class(input_tokens: int | None, limits: Sequence[int]) -> str:
    """The limits on both sides."""
    if input_tokens is None:
        return "unknown"
    above = [f">{limit}" for limit in limits if input_tokens > limit][-1:]
    below = [f"<={limit}" for limit in limits if input_tokens <= limit][:1]
    return " ".join(above + below)


def _outcome_without(
    status: int | None,
    error: bool,
    error_class: str | None,
    ending: str | None,
    faults: values.Faults,
) -> str:
    """Return the outcome of a record that gives none."""
    try:
        if status is not None:
            return _outcome_of(status, error)
        wrong = dict(reversed(faults))
        raise values.Rejected(wrong.get("outcome") or wrong.get("status_code") or "missing_field")
    except values.Rejected:
        if ending is not None:
            return FAILED_ENDINGS.get(ending, "success")
        if error_class is None:
            raise
    return {"rate": "rate_limited", "upstream": "server_error"}.get(error_class, "client_error")


def _class_of(
    outcome: str, status: int | None, error_class: str | None, faults: values.Faults
) -> str | None:
    fitting = {
        "client_error": CLIENT_CLASSES,
        "rate_limited": ("rate",),
        **dict.fromkeys(("server_error", "timeout", "overloaded", "stream_error"), ("upstream",)),
    }
    if error_class in fitting.get(outcome, ()):
        return error_class
    if error_class is not None:
        faults.append(("error_class", "inconsistent"))
    if outcome != "client_error" or status is None or status // 100 != 4:
        return None
    return STATUS_CLASSES.get(status, "invalid")


def _visible(
    given: dict[str, Any], ttft: float | None, duration: float | None, faults: values.Faults
) -> float | None:
    """Return the time of the first visible token, which is between TTFT and duration."""
    name = "first_visible_token_ms"
    visible = values.latency(name, given.get(name), faults)
    if visible is not None and duration is not None and visible > duration:
        if visible - duration > max(1, duration / 1_000) + 1e-6:
            faults.append((name, "inconsistent"))
            return None
        visible = duration
    if visible is not None and ttft is not None and ttft > visible:
        if ttft - visible > max(1, visible / 1_000) + 1e-6:
            faults.append((name, "inconsistent"))
            return None
        visible = ttft
    return visible


def _outcome_of(status: int, error: bool) -> str:
    if status in STATUSES:
        return "stream_error" if STATUSES[status] == "success" and error else STATUSES[status]
    if status // 100 == 2:
        return "stream_error" if error else "success"
    if status // 100 not in (3, 4, 5):
        raise values.Rejected("out_of_range")
    return "server_error" if status // 100 == 5 else "client_error"


def _check_parts(tokens: dict[str, int | None], faults: values.Faults) -> None:
    given, output = tokens["input_tokens"], tokens["output_tokens"]
    wholes = {
        "cached_input_tokens": given,
        "cache_write_tokens": given,
        "reasoning_tokens": output,
    }
    for part, whole in wholes.items():
        if whole is None:
            tokens[part] = None
        elif (tokens[part] or 0) > whole:
            faults.append((part, "inconsistent"))
            tokens[part] = None
    total = tokens["total_tokens"]
    if given is not None and output is not None and total not in (None, given + output):
        faults.append(("total_tokens", "inconsistent"))


def _add_latencies(
    row: dict[str, Any],
    stream: bool | None,
    ttft: float | None,
    duration: float | None,
    faults: values.Faults,
) -> None:
    row["streamed"] = stream is True
    if duration is not None:
        row["duration_ns"] = round(Fraction(duration * 1e6))
    early = stream is None and ttft is not None and duration is not None and ttft < duration
    if ttft is None or not (stream or early):
        return
    row["streamed"], row["ttft_ns"] = True, round(Fraction(ttft * 1e6))
    in_seconds = duration is not None and ttft < 10 and duration >= 1_000 * ttft
    if ttft == 0 or in_seconds or (ttft == duration and stream and row["output_tokens"] > 5):
        faults.append(("ttft_ms", "suspicious"))
    if duration is not None and ttft < duration and row["output_tokens"] > 1:
        span_ns = row["duration_ns"] - row["ttft_ns"]
        row["tpot_ns"] = round(Fraction(span_ns, row["output_tokens"] - 1))
