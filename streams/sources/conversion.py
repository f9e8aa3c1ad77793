"""Convert the text or JSON value of a column to the value of an event's field.

Pure. Each function takes one value from the file and returns a value of the field's type, None if
the value means that it was not measured, or raises `Unusable` with the value and the fix. Names
pass as they are: the worker makes labels of them, for every producer alike. Durations are
milliseconds, instants are milliseconds since the Unix epoch; both may have a fraction.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Any, Literal, get_args, get_origin
from zoneinfo import ZoneInfo

from streams.events.epoch import EARLIEST_MS, LATEST_MS, UNIT_NAMES, epoch_unit
from streams.events.fields import (
    CUSTOMER,
    FIELDS,
    FREE_TEXT,
    LABEL,
    LABEL_PATTERN,
    MAX_STATUS,
    NOT_MEASURED,
    STATUS,
    Kind,
)

Convert = Callable[[Any], Any]

_LABEL = re.compile(LABEL_PATTERN)
_LOCAL_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d([.,]\d+)?)?")  # without a zone
_ROUNDING_MS = 1.0  # events have whole or rounded milliseconds
MAX_NUMBER = 10**24  # far above any count or time, and sums of such still fit a float

HALF_MICROSECOND_MS = 0.0005  # 1.001 s is 1000.9999... ms in binary, and must become 1001
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
TRUTH = {"true": True, "1": True, "false": False, "0": False}


class Unusable(ValueError):
    """A value that cannot become the field: `found ...; fix`, in one line."""

    def __init__(self, value: Any, fix: str) -> None:
        super().__init__(f"found {excerpt(value)}; {fix}")
        self.value = value
        self.fix = fix


def excerpt(value: Any) -> str:
    """Format a value for a message: one line, at most about 60 characters."""
    text = "null" if value is None else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def code(value: Any) -> str | None:
    """Return the key of a value in tables and conditions; None for null and the empty text.

    429, 429.0 and "429" have the same key, and so have true and "true".
    """
    if type(value) is str:
        return value or None
    if value is None:
        return None
    # Before numbers: a bool is an int in Python.
    if type(value) is bool:
        return "true" if value else "false"
    # Spreadsheets write 429 as 429.0.
    if type(value) is float and value.is_integer():
        return str(int(value))
    return str(value)


def number(value: Any) -> int | float:
    """Return a signed number below 1e24; text is read as Python does, without `1_000`."""
    kind = type(value)
    result: int | float | None = None
    if kind is int or kind is float:
        result = value
    # Python alone reads 1_000 as a number.
    elif kind is str and "_" not in value:
        try:
            result = int(value)
        except ValueError:
            with suppress(ValueError):
                result = float(value)
    if result is None:
        raise Unusable(value, "write a number, or make it null")
    if not -MAX_NUMBER < result < MAX_NUMBER:  # nor is NaN
        raise Unusable(value, "write a number below 1e24, or make it null")
    return result


def whole(value: Any) -> int | None:
    """Return a whole number >= 0, None for -1. `12.0` is accepted: tables with gaps contain it."""
    result = number(value)
    # Gateways write -1 for a number that they do not have; -2 is a mistake.
    if result == NOT_MEASURED:
        return None
    if result < 0:
        raise Unusable(value, "write a number that is not below 0")
    if result != int(result):
        raise Unusable(value, "write a whole number")
    return int(result)


def status(value: Any) -> int | None:
    """Return an HTTP status, None for -1."""
    result = whole(value)
    if result is not None and result > MAX_STATUS:
        raise Unusable(value, f"write an HTTP status, 0 to {MAX_STATUS}")
    return result


def duration(value: Any) -> float | None:
    """Return milliseconds >= 0, None for -1."""
    amount = number(value)
    if amount == NOT_MEASURED:
        return None
    if amount < 0:
        raise Unusable(value, "write a duration that is not below 0")
    return float(amount)


def epoch_ms(value: Any) -> float:
    """Return milliseconds since the epoch. A time of this century in another unit is unusable."""
    at_ms = number(value)
    if not EARLIEST_MS <= at_ms <= LATEST_MS and (other := epoch_unit(at_ms)):
        raise Unusable(value, f"these look like {UNIT_NAMES[other]}; select milliseconds")
    return float(at_ms)


# A mapping in YAML is translated to the same SQL, so that both are named.
_FORMAT_FIX = "give text_time its pattern (YAML: time.format)"
_ZONE_FIX = "give text_time its zone (YAML: time.zone)"


def instant_ms(zone: tzinfo | None, pattern: str | None) -> Convert:
    """Return a conversion from text to milliseconds since the epoch.

    The text is RFC 3339, or strptime's `pattern` if given. A blank instead of the T and any number
    of fraction digits are allowed. `zone`: for text without one. Digits finer than microseconds
    are dropped.
    """

    def convert(value: Any) -> float:
        try:
            if pattern is not None:
                at = datetime.strptime(value, pattern)
            elif (
                value[7] == "-" and len(value) > 15
            ):  # fromisoformat also accepts weeks and bare dates
                at = datetime.fromisoformat(value.upper())
            else:
                raise ValueError
        except (ValueError, TypeError, LookupError, AttributeError):
            fix = "YYYY-MM-DDTHH:MM:SS with a zone" if pattern is None else f"a time like {pattern}"
            raise Unusable(value, f"write {fix}, or {_FORMAT_FIX}") from None
        # A local time without a zone may be hours away from the real one.
        if at.tzinfo is None:
            if zone is None:
                raise Unusable(value, f"has no zone; {_ZONE_FIX}")
            local, at = at, at.replace(tzinfo=zone)
            # Python would take the time by the offset before the clocks were set forward.
            if at.astimezone(UTC).astimezone(zone).replace(tzinfo=None) != local:
                raise Unusable(
                    value,
                    f"does not exist in {zone}, as the clocks were set forward; write times with "
                    "an offset, or in UTC",
                )
        # In whole microseconds first: seconds as a float would lose digits.
        return (at - EPOCH) // MICROSECOND / 1_000

    return convert


@lru_cache(maxsize=64)
def _instant_conversion(zone: str | None, pattern: str | None) -> Convert:
    return instant_ms(ZoneInfo(zone) if zone else None, pattern)


def parse_time(json_text: str | None, zone: str | None, pattern: str | None) -> str:
    """Return the instant of a JSON value as JSON: milliseconds, or what `unusable` returns in SQL.

    `zone`: name of the time zone of text without one. `pattern`: of `strptime`; None for RFC 3339.
    """
    value = None if json_text is None else json.loads(json_text)
    try:
        return repr(_instant_conversion(zone, pattern)(value))
    except Unusable as unusable:
        return json.dumps({"unusable": value, "fix": unusable.fix})


def is_local_time(text: str) -> bool:
    """Return whether a text is a date and time without a zone."""
    return _LOCAL_TIME.fullmatch(text) is not None


def local_time_at(value: Any, instants_ms: Sequence[float]) -> str | None:
    """Return the first text in a JSON value that is, as UTC, one of these instants (ms since 1970).

    Only dates and times without a zone count: with a zone of the mapping they are different
    instants.
    """
    if isinstance(value, dict | list):
        members = value.values() if isinstance(value, dict) else value
        texts = (local_time_at(member, instants_ms) for member in members)
        return next((text for text in texts if text is not None), None)
    if not isinstance(value, str) or not is_local_time(value):
        return None
    with suppress(ValueError):  # such as a month 13
        at_ms = (datetime.fromisoformat(value).replace(tzinfo=UTC) - EPOCH) / MICROSECOND / 1_000
        if any(abs(at_ms - instant_ms) <= _ROUNDING_MS for instant_ms in instants_ms):
            return value
    return None


def label(value: Any) -> str:
    """Return a name that the contract allows, for names written in a mapping."""
    name = text(value)
    if not _LABEL.fullmatch(name):
        raise Unusable(value, "use 1-96 of A-Z a-z 0-9 . _ : / @ - and blank, or a `table`")
    return name


def truth(value: Any) -> bool:
    """Return a boolean from true or false in any case, 1 or 0."""
    if type(value) is bool:
        return value
    result = TRUTH.get((code(value) or "").lower())
    if result is None:
        raise Unusable(value, "write true or false, or give a `table`")
    return result


def choice(words: Sequence[str]) -> Convert:
    """Return a conversion that accepts these words only, such as the outcomes of the contract."""

    def convert(value: Any) -> str:
        if value not in words:
            raise Unusable(value, f"give a `table` that leads to one of {', '.join(words)}")
        return str(value)

    return convert


def text(value: Any) -> str:
    """Return any text that is not empty; numbers become their digits."""
    if isinstance(value, list | dict) or (result := code(value)) is None:
        raise Unusable(value, "write a text or a number")
    # A JSON document may escape half a surrogate pair, which no record can hold.
    if not result.isascii():
        try:
            result.encode()
        except UnicodeEncodeError:
            raise Unusable(value, "write both halves of a surrogate pair") from None
    return result


def error(value: Any) -> str | None:
    """Return the error as text; None for no error.

    As in an event, an empty value is no error. Nor are the texts `false` and `0`: the cells of a
    CSV file cannot write these values in another way.
    """
    if not value or (code(value) or "").lower() in ("false", "0"):
        return None
    result = value if isinstance(value, str) else json.dumps(value)
    # Text that no record can hold is an error nevertheless.
    return result.encode(errors="backslashreplace").decode()


def _conversion(kind: Kind) -> str:
    """Return the name of the conversion to a field of this kind."""
    named = {LABEL: "label", CUSTOMER: "label", STATUS: "status", FREE_TEXT: "error"}
    if get_origin(kind.type) is Literal:
        return "choice"
    by_type = {"string": "text", "boolean": "truth", "number": "duration", "integer": "whole"}
    return named.get(kind) or by_type[kind.json_types[0]]


# The conversion to each field of an event that a mapping may fill. `time` gives `ended_at`.
KINDS: Mapping[str, str] = {
    field.name: _conversion(field.kind) for field in FIELDS if field.name != "ended_at"
}
_WORDS: Mapping[str, tuple[str, ...]] = {
    field.name: get_args(field.kind.type) for field in FIELDS if KINDS.get(field.name) == "choice"
}

NUMERIC = ("duration", "whole", "status")  # conversions to numbers


def converter(field: str) -> Convert:
    """Return the conversion for one field of the event."""
    kind = KINDS[field]
    if kind == "choice":
        return choice(_WORDS[field])
    plain: Mapping[str, Convert] = {
        # The worker makes labels of names, for all producers alike.
        "label": text,
        "duration": duration,
        "truth": truth,
        "whole": whole,
        "status": status,
        "text": text,
        "error": error,
    }
    return plain[kind]


def constant_converter(field: str) -> Convert:
    """Return the check for a value that a mapping gives itself: a name must be a label already."""
    return label if KINDS[field] == "label" else converter(field)
