"""From the text or JSON value in a column to the value of an event's field.

Pure. Each function takes one value as the file has it and returns what the event contract wants, or
raises `Unusable` with what was found and the cure. Durations are milliseconds, instants are
milliseconds since the Unix epoch; both may have a fraction.
"""

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Literal

from streams.events.fields import LABEL_PATTERN, MAX_TEXT, OUTCOMES

Convert = Callable[[Any], Any]
Unit = Literal["s", "ms", "us", "ns"]

LABEL = re.compile(LABEL_PATTERN)
MAX_NUMBER = 10**24  # far above any count or time, and sums of such still fit a float
MAX_KNOWN_LABELS = 10_000  # remembered as good; a file full of customers must not fill the memory

# A unit in milliseconds, as (multiplier, divisor): x / 1000 is exact where x * 0.001 is not.
UNITS: Mapping[str, tuple[int, int]] = {
    "s": (1_000, 1),
    "ms": (1, 1),
    "us": (1, 1_000),
    "ns": (1, 1_000_000),
}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
TRUTH = {"true": True, "1": True, "false": False, "0": False}


class Unusable(ValueError):
    """A value that cannot become the field: `found ...; cure`, in one line."""

    def __init__(self, found: Any, cure: str) -> None:
        super().__init__(f"found {shown(found)}; {cure}")


def shown(value: Any) -> str:
    """A value for a message: one line, at most about 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def code(value: Any) -> str | None:
    """The value as it is looked up in tables and conditions; None for null and the empty text.

    So 429, 429.0 and "429" are one code, and so are true and "true".
    """
    if type(value) is str:
        return value or None
    if value is None:
        return None
    if type(value) is bool:
        return "true" if value else "false"
    if type(value) is float and value.is_integer():
        return str(int(value))
    return str(value)


def number(value: Any) -> int | float:
    """A number, signed, below 1e24; text is read as Python does, without `1_000`."""
    kind = type(value)
    result: int | float | None = None
    if kind is int or kind is float:
        result = value
    elif kind is str and "_" not in value:
        try:
            result = int(value)
        except ValueError:
            with suppress(ValueError):
                result = float(value)
    if result is None:
        raise Unusable(value, "write a number, or list it under `nulls`")
    if not -MAX_NUMBER < result < MAX_NUMBER:  # nor is NaN
        raise Unusable(value, "write a number below 1e24, or list it under `nulls`")
    return result


def whole(value: Any) -> int:
    """A whole number >= 0; `12.0` is one, as tables with gaps are often written so."""
    result = number(value)
    if result < 0:
        raise Unusable(value, "write a number that is not below 0")
    if result != int(result):
        raise Unusable(value, "write a whole number")
    return int(result)


def duration(unit: Unit) -> Convert:
    """Milliseconds >= 0 from a number of `unit`."""
    multiplier, divisor = UNITS[unit]

    def convert(value: Any) -> float:
        amount = number(value)
        if amount < 0:
            raise Unusable(value, "write a duration that is not below 0")
        return amount * multiplier / divisor

    return convert


def amount_ms(unit: Unit) -> Convert:
    """Milliseconds, signed, from a number of `unit`: epoch and relative times."""
    multiplier, divisor = UNITS[unit]

    def convert(value: Any) -> float:
        return number(value) * multiplier / divisor

    return convert


def instant_ms(zone: tzinfo | None, pattern: str | None) -> Convert:
    """Milliseconds since the epoch from text: RFC 3339, or strptime's `pattern` if given.

    A blank for the T and any number of fraction digits are fine. `zone` is that of text that
    names none. Microseconds count, what is finer is cut.
    """

    def convert(value: Any) -> float:
        try:
            if pattern is not None:
                at = datetime.strptime(value, pattern)
            elif (
                value[7] == "-" and len(value) > 15
            ):  # fromisoformat also takes weeks and bare days
                at = datetime.fromisoformat(value.upper())
            else:
                raise ValueError
        except (ValueError, TypeError, LookupError, AttributeError):
            cure = (
                "YYYY-MM-DDTHH:MM:SS with a zone" if pattern is None else f"a time like {pattern}"
            )
            raise Unusable(value, f"write {cure}, or set time.format") from None
        if at.tzinfo is None:
            if zone is None:
                raise Unusable(value, "says no zone; set time.zone")
            at = at.replace(tzinfo=zone)
        return (at - EPOCH) // MICROSECOND / 1_000

    return convert


def label() -> Convert:
    """A name as the contract allows it; a number becomes its digits."""
    known: set[str] = set()

    def convert(value: Any) -> str:
        text = value if type(value) is str else code(value)
        if text in known:
            return text
        if text is None or isinstance(value, list | dict) or not LABEL.fullmatch(text):
            raise Unusable(value, "use 1-96 of A-Z a-z 0-9 . _ : / @ - and blank, or a `table`")
        if len(known) < MAX_KNOWN_LABELS:
            known.add(text)
        return text

    return convert


def identifier(value: Any) -> str:
    """1 to 128 characters."""
    text = value if type(value) is str else code(value)
    if text is None or isinstance(value, list | dict) or len(text) > MAX_TEXT:
        raise Unusable(value, f"use 1-{MAX_TEXT} characters")
    return text


def truth(value: Any) -> bool:
    """True or false; text in any case, and 1 or 0."""
    if type(value) is bool:
        return value
    result = TRUTH.get((code(value) or "").lower())
    if result is None:
        raise Unusable(value, "write true or false, or give a `table`")
    return result


def outcome(value: Any) -> str:
    """One of the contract's outcomes."""
    if value not in OUTCOMES:
        raise Unusable(value, f"give a `table` that leads to one of {', '.join(OUTCOMES)}")
    return str(value)


def text(value: Any) -> str:
    """Any text, and numbers as their digits."""
    if isinstance(value, list | dict) or (result := code(value)) is None:
        raise Unusable(value, "write a text")
    return result


# What the fields of an event hold; a duration's unit is the mapping's to say.
KINDS: Mapping[str, str] = {
    "request_id": "identifier",
    "model": "label",
    "region": "label",
    "channel": "label",
    "service_tier": "label",
    "customer_id": "label",
    "use_case": "label",
    "outcome": "outcome",
    "status_code": "whole",
    "error": "text",
    "stream": "truth",
    "probe": "truth",
    "ttft_ms": "duration",
    "duration_ms": "duration",
    "input_tokens": "whole",
    "cached_input_tokens": "whole",
    "cache_write_tokens": "whole",
    "output_tokens": "whole",
    "reasoning_tokens": "whole",
    "trace_id": "identifier",
}


def converter(field: str, unit: Unit = "ms") -> Convert:
    """The conversion for one field of the event. `unit`: of a duration in the file."""
    kind = KINDS[field]
    if kind == "duration":
        return duration(unit)
    if kind == "label":
        return label()
    plain: Mapping[str, Convert] = {
        "identifier": identifier,
        "outcome": outcome,
        "truth": truth,
        "whole": whole,
        "text": text,
    }
    return plain[kind]
