"""From the bytes of one record to one event of the declared types, or the rule it broke.

Pure. Every record is read by itself: joined ones could be crafted to merge or to split.
A verdict is (reason, detail): the detail names the field, and the type and size of its value,
never the value.
"""

import re
from codecs import BOM_UTF8
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from streams.events.epoch import EARLIEST_MS, Unit, epoch_unit, time_fault, unit_hint
from streams.events.fields import (
    ATTEMPT_OF,
    CUSTOMER,
    FIELDS,
    FREE_TEXT,
    LABEL,
    MAX_DEPTH,
    MAX_TIME_MS,
    REQUEST_ID,
    STATUS,
    TIME,
    TIME_PATTERN,
    TOKEN_KINDS,
    Field,
)

_Value = TypeVar("_Value")
Verdicts = dict[int, tuple[str, str]]  # position in the batch -> (reason, detail)
Wrong = tuple[str, str, str]  # field, reason, detail
FieldFaults = dict[int, list[Wrong]]  # position in the batch -> fields that are wrong, and why
# Results of time_ms for text that is no time of an event.
BAD_TIME, NO_DATE, TOO_EARLY = -1, -2, -3
# The same, for a number in quotes that is a time since the epoch in one of its units.
QUOTED_TIMES: dict[int, Unit] = {-4: "s", -5: "ms", -6: "us", -7: "ns"}


def _struct(name: str, fields: Sequence[Field], *, is_closed: bool = False) -> type[Any]:
    """Return the type of an event with these fields; `is_closed`: others are an error."""
    members = [
        (field.name, field.kind.type)
        if field.required
        else (field.name, field.kind.type | None, field.absent)
        for field in fields
    ]
    # An event holds no containers, so it cannot be part of a circle: the collector skips it.
    return msgspec.defstruct(name, members, gc=False, forbid_unknown_fields=is_closed)


_Event = _struct("_Event", FIELDS)
_EVENT = msgspec.json.Decoder(_Event)
_USUAL = msgspec.json.Decoder(
    _struct("_Usual", [field for field in FIELDS if not field.rare], is_closed=True)
)
_IDENTIFIED = msgspec.json.Decoder(
    _struct("_Identified", [field for field in FIELDS if field.name == "request_id"])
)
_NULL = msgspec.Raw(b"null")
# The values as they were sent: their type and their encoding are judged one by one.
_GIVEN = msgspec.json.Decoder(
    msgspec.defstruct("_Given", [(field.name, msgspec.Raw, _NULL) for field in FIELDS])
)
_ANYTHING = msgspec.json.Decoder(msgspec.Raw)
# What msgspec raises for bytes of a sender: the second for text that is not UTF-8, the third for
# deep nesting.
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_FIELD = {field.name: field for field in FIELDS}
_VALUE = {field.name: msgspec.json.Decoder(field.kind.type) for field in FIELDS}

_TIME = re.compile(TIME_PATTERN)
_QUOTED_NUMBER = re.compile("[0-9]{1,19}(?:[.][0-9]+)?")  # 19 digits: nanoseconds since the epoch
_QUOTED_TIMES: dict[Unit | None, int] = {unit: mark for mark, unit in QUOTED_TIMES.items()}
_STATUS_TEXT = re.compile(rb'"([0-9]{1,3})"')
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_INTEGER = re.compile(rb"-?[0-9]+")
# Text, and what Python and JavaScript write for numbers that JSON does not have.
_TOKEN = re.compile(_STRING.pattern + rb"|NaN|-?Infinity", re.DOTALL)
_ESCAPE = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"  # a pair of surrogates
    rb"|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})"  # a lone one
    rb"|\\.",
    re.DOTALL,
)
# No text in UTF-8 has this byte: the repaired value cannot be taken for one that was sent.
_NO_TEXT = b"\xff"
_NOT_A_NUMBER = b'"\xffNaN"'
_TEXT_NEEDED = "needs text in UTF-8 without half surrogate pairs"
_NS_DIGITS = 19  # of nanoseconds since the epoch
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)


def readable(
    values: Sequence[bytes | None], max_event_bytes: int, verdicts: Verdicts
) -> tuple[Sequence[bytes], npt.NDArray[np.int64]]:
    """Return the records worth parsing, and their positions in the batch."""
    records = [value or b"" for value in values]
    sizes = np.fromiter(map(len, records), np.int64, len(records))
    # Nesting takes two bytes a level, so that short records need no look at their brackets.
    suspects = (sizes == 0) | (sizes > max_event_bytes) | (sizes > 2 * MAX_DEPTH)
    for position in np.flatnonzero(suspects).tolist():
        record = records[position]
        if not record:
            verdicts[position] = "empty", "no value"
        elif len(record) > max_event_bytes:
            detail = f"{len(record)} bytes; the limit is {max_event_bytes}"
            verdicts[position] = "too_large", detail
        elif record.count(b"[") + record.count(b"{") > MAX_DEPTH < (depth := _depth(record)):
            verdicts[position] = "too_deep", f"{depth} levels; the limit is {MAX_DEPTH}"
    positions = np.arange(len(records))
    if not verdicts:
        return records, positions
    kept = np.delete(positions, list(verdicts))
    return [records[position] for position in kept.tolist()], kept


def _depth(record: bytes) -> int:
    # Brackets in texts do not nest.
    bare = np.frombuffer(_STRING.sub(b"", record), np.uint8)
    steps = np.zeros(len(bare), np.int64)
    steps[(bare == ord("[")) | (bare == ord("{"))] = 1
    steps[(bare == ord("]")) | (bare == ord("}"))] = -1
    return int(steps.cumsum().max(initial=0))


def _is_no_text(raw: bytes) -> bool:
    """Return whether a JSON value is a text that is not UTF-8."""
    if not raw.startswith(b'"') or raw == _NOT_A_NUMBER:
        return False
    try:
        raw.decode()
    except UnicodeDecodeError:
        return True
    return False


def decode_lenient(decoder: msgspec.json.Decoder[_Value], text: bytes) -> _Value:
    """Decode JSON in which NaN, Infinity and half surrogate pairs cost their own value only.

    Raises one of UNREADABLE.
    """
    try:
        return decoder.decode(text)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        return decoder.decode(repair(text))


def repair(record: bytes) -> bytes:
    """Return a record without byte order mark, NaN and Infinity, and with bytes that are not UTF-8
    in place of lone surrogates: the parser fails at these wherever they are, and at bytes only in a
    value it reads.
    """
    return _TOKEN.sub(_repair_token, record.removeprefix(BOM_UTF8))


def _repair_token(token: re.Match[bytes]) -> bytes:
    if not token[0].startswith(b'"'):
        return _NOT_A_NUMBER
    return _ESCAPE.sub(lambda escape: _NO_TEXT if escape[1] else escape[0], token[0])


def record_key(record: bytes) -> bytes | None:
    """Return the Kafka key of a record: its request id; None if it has no usable one."""
    try:
        return str(_IDENTIFIED.decode(record).request_id).encode()
    except UNREADABLE:
        raw = given_json(record, "request_id")
    request_id = None if raw is None else _decode_field(_FIELD["request_id"], raw)[0]
    return None if request_id is None else str(request_id).encode()


def given_json(record: bytes, name: str) -> bytes | None:
    """Return one field of a record of any bytes, as it was sent; None if the record has none."""
    try:
        given = _read_values(record)
    except UNREADABLE:
        given = None
    raw = b"null" if given is None else bytes(getattr(given, name))
    return None if raw == b"null" else raw


def usual_events(records: Sequence[bytes]) -> list[Any] | None:
    """Return the events of records that have no rare, no unknown and no wrong field.

    They lack the attributes of the rare fields. None if a record is of another kind: `events_of`
    reads them all.
    """
    try:
        return list(map(_USUAL.decode, records))
    except UNREADABLE:
        return None


def events_of(
    records: Sequence[bytes],
    positions: npt.NDArray[np.int64],
    verdicts: Verdicts,
    faults: FieldFaults,
) -> tuple[list[Any], npt.NDArray[np.int64]]:
    """Decode each record by itself: joined ones could be made to merge or to split.

    Adds the rejected records to `verdicts`, and to `faults` the fields that became unknown.
    """
    events: list[Any] = []
    rejected: list[int] = []
    decoding = map(_EVENT.decode, records)
    while True:
        try:
            events.extend(decoding)  # keeps the events before an exception, and resumes after it
        except UNREADABLE:
            at = len(events) + len(rejected)
            position = int(positions[at])
            verdict, event, wrong = _decode_by_field(records[at])
            if verdict is None:
                events.append(event)
                if wrong:
                    faults[position] = wrong
            else:
                verdicts[position] = verdict
                rejected.append(at)
        else:
            return events, np.delete(positions, rejected) if rejected else positions


def _decode_by_field(record: bytes) -> tuple[tuple[str, str] | None, Any, list[Wrong]]:
    """Return (verdict, None, []) or (None, event, faults) for a record the fast decoder failed at.

    The fast decoder also fails at wrong values that a later duplicate key overrides; here the last
    one wins. A wrong value costs its field, if the record can be counted without it.
    """
    try:
        given = _read_values(record)
    except msgspec.DecodeError:
        return ("not_json", "malformed"), None, []
    if given is None:
        kind = _json_type(record.removeprefix(BOM_UTF8).lstrip())
        return ("bad_type", f"event: expected object, found {kind}"), None, []
    if _is_no_text(bytes(given.request_id)):
        return ("not_json", f"request_id: {_TEXT_NEEDED}"), None, []
    values, faults = {}, []
    for field in FIELDS:
        raw = bytes(getattr(given, field.name))
        if raw == b"null":
            if field.required:
                return ("missing_field", f"{field.name}: required"), None, []
            continue
        value, wrong = _decode_field(field, raw)
        if wrong is None:
            values[field.name] = value
        elif field.required:
            return wrong, None, []
        else:
            faults.append((field.name, *wrong))
            if value is not None:
                values[field.name] = value
    return None, _Event(**values), faults


def _read_values(record: bytes) -> Any:
    """Return the values of an object as they were sent; None for other JSON.

    Raises msgspec.DecodeError if it is not JSON.
    """
    try:
        return _GIVEN.decode(record)
    except msgspec.DecodeError:
        repaired = repair(record)
    _ANYTHING.decode(repaired)  # the other decoder does not read what is no object to its end
    try:
        return _GIVEN.decode(repaired)
    except msgspec.ValidationError:
        return None


def _decode_field(field: Field, raw: bytes) -> tuple[Any, tuple[str, str] | None]:
    """Return a field's value, and its fault or None: (reason, detail)."""
    if raw == _NOT_A_NUMBER:
        expected = " or ".join(field.kind.json_types)
        return None, ("bad_type", f"{field.name}: expected {expected}, found NaN or Infinity")
    if _is_no_text(raw):
        return _decode_no_text(field, raw)
    try:
        return _VALUE[field.name].decode(raw), None
    except msgspec.ValidationError:
        kind = _json_type(raw)
    if (number := _decode_number(field, raw, kind)) is not None:
        return number
    if field.kind is FREE_TEXT:
        # An error that is an object is an error: its emptiness decides, as that of a text.
        return "" if _is_empty(raw) else raw.decode(errors="replace"), ("bad_type", "")
    if field.kind is STATUS and (text := _STATUS_TEXT.fullmatch(raw)):
        return int(text[1]), ("bad_type", "")  # without a status the record may have no outcome
    if kind not in field.kind.json_types:
        expected = " or ".join(field.kind.json_types)
        unit = epoch_unit(float(raw)) if field.kind is TIME and kind == "number" else None
        hint = f": {unit_hint(unit)}" if unit else ""
        return None, ("bad_type", f"{field.name}: expected {expected}, found {kind}{hint}")
    # Longer numbers are no time in any unit, and may be too long for int and float.
    if field.kind is TIME and len(raw) <= _NS_DIGITS and (fault := time_fault(int(raw))):
        return None, ("out_of_range", f"{field.name}: {fault}")
    text = msgspec.json.decode(raw) if kind == "string" else None
    size = kind if text is None else f"a text of {len(text)} characters"
    return None, ("out_of_range", f"{field.name}: needs {field.kind.range}, found {size}")


def _decode_number(
    field: Field, raw: bytes, kind: str
) -> tuple[Any, tuple[str, str] | None] | None:
    """Return value and fault of a number of another kind than the field's; None if it has none."""
    if kind == "integer" and field.kind in (REQUEST_ID, ATTEMPT_OF, LABEL, CUSTOMER):
        # Python reads no longer integers; the text of one is an id and a name like any.
        return raw.decode(), ("renamed", "") if field.kind is LABEL else None
    if kind != "number":
        return None
    # Lua and JavaScript write whole numbers as 12.0; a fraction in a name is text like any.
    if field.kind in (*TOKEN_KINDS, STATUS) and (whole := _whole(raw)) is not None:
        return _decode_field(field, whole)
    if field.kind is CUSTOMER:
        # 7.0 is the number 7; other numbers are told apart by how they are written.
        return (_whole(raw) or raw).decode(), None
    if field.kind is LABEL:
        return raw.decode(), ("renamed", "")
    return None


def _decode_no_text(field: Field, raw: bytes) -> tuple[Any, tuple[str, str] | None]:
    """Return value and fault of a JSON text that is not UTF-8.

    U+FFFD stands for what is no text, but not in an id: two ids would become one.
    """
    if field.kind not in (LABEL, FREE_TEXT):
        return None, ("bad_type", f"{field.name}: {_TEXT_NEEDED}")
    text = msgspec.json.decode(raw.decode(errors="replace"))
    return text, ("renamed", "") if field.kind is LABEL else None


def _is_empty(raw: bytes) -> bool:
    """Return whether a JSON value is false, 0, or a text, array or object without content."""
    try:
        return not msgspec.json.decode(raw)
    except UNREADABLE:
        return False  # it has a text that is not UTF-8, or a number that no float holds: 1e999


def _whole(raw: bytes) -> bytes | None:
    """Return a number such as 12.0 or 1e3 as an integer; None if it is none that a float holds."""
    number = float(raw)
    return b"%d" % number if number.is_integer() and abs(number) <= 2**53 else None


def _json_type(raw: bytes) -> str:
    names = {b'"': "string", b"[": "array", b"{": "object", b"n": "null"}
    names |= dict.fromkeys((b"t", b"f"), "boolean")
    return names.get(raw[:1]) or ("integer" if _INTEGER.fullmatch(raw) else "number")


def time_ms(text: str) -> int:
    """Return the milliseconds of an RFC 3339 time, rounded down.

    BAD_TIME if the text is none, NO_DATE if its date is none, TOO_EARLY if it is before 2015, and
    one of QUOTED_TIMES if it is a number in a unit of the epoch.
    A leap second :60 is the second after :59, as POSIX counts.
    """
    if (match := _TIME.fullmatch(text)) is None:
        is_number = _QUOTED_NUMBER.fullmatch(text) is not None
        return _QUOTED_TIMES.get(epoch_unit(float(text)), BAD_TIME) if is_number else BAD_TIME
    date, minute, second, fraction, zone = match.groups()
    leap_ms = 1000 if second == "60" else 0
    try:
        start = datetime.fromisoformat(
            f"{date}T{minute}:{'59' if leap_ms else second}{zone.upper()}"
        )
    except ValueError:
        return NO_DATE
    instant_ms = (start - _EPOCH) // _MS + leap_ms + int(((fraction or "") + "000")[:3])
    if instant_ms < EARLIEST_MS:
        return TOO_EARLY
    return instant_ms if instant_ms <= MAX_TIME_MS else NO_DATE
