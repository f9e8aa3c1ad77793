"""From the bytes of one record to one event of the declared types, or the rule it broke.

Pure. Every record is looked at by itself: joined ones could be crafted to merge or to split.
A verdict is (reason, detail): the detail names the field and what was found in it by type and
size, never by content.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from streams.events.fields import FIELDS, MAX_DEPTH, MAX_TIME_MS, TIME_PATTERN

Verdicts = dict[int, tuple[str, str]]  # position in the batch -> (reason, detail)
BAD_TIME, NO_DATE = -1, -2  # what time_ms gives for text that is no time

_Event: type[Any] = msgspec.defstruct(
    "_Event",
    [
        (field.name, field.kind.type)
        if field.required
        else (field.name, field.kind.type | None, field.absent)
        for field in FIELDS
    ],
    gc=False,
)
_EVENT = msgspec.json.Decoder(_Event)
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ANYTHING = msgspec.json.Decoder(msgspec.Raw)
_VALUE = {field.name: msgspec.json.Decoder(field.kind.type) for field in FIELDS}

_TIME = re.compile(TIME_PATTERN)
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_INTEGER = re.compile(rb"-?[0-9]+")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)


def readable(
    values: Sequence[bytes | None], max_event_bytes: int, verdicts: Verdicts
) -> tuple[Sequence[bytes], npt.NDArray[np.int64]]:
    """The records worth parsing, and where they stand in the batch."""
    records = [value or b"" for value in values]
    sizes = np.fromiter(map(len, records), np.int64, len(records))
    # Nesting takes two bytes a level, so that short records need no look at their brackets.
    suspects = (sizes == 0) | (sizes > max_event_bytes) | (sizes > 2 * MAX_DEPTH)
    for position in np.flatnonzero(suspects).tolist():
        record = records[position]
        if not record:
            verdicts[position] = "empty", "no value"
        elif len(record) > max_event_bytes:
            found = f"{len(record)} bytes; the limit is {max_event_bytes}"
            verdicts[position] = "too_large", found
        elif record.count(b"[") + record.count(b"{") > MAX_DEPTH < (depth := _depth(record)):
            verdicts[position] = "too_deep", f"{depth} levels; the limit is {MAX_DEPTH}"
    # The parser skips unknown fields without looking at their encoding.
    if not all(map(bytes.isascii, records)):
        for position, record in enumerate(records):
            if not record.isascii() and position not in verdicts and not _is_utf8(record):
                verdicts[position] = "not_json", "not UTF-8"
    positions = np.arange(len(records))
    if not verdicts:
        return records, positions
    kept = np.delete(positions, list(verdicts))
    return [records[position] for position in kept.tolist()], kept


def _depth(record: bytes) -> int:
    bare = np.frombuffer(_STRING.sub(b"", record), np.uint8)
    steps = np.zeros(len(bare), np.int64)
    steps[(bare == ord("[")) | (bare == ord("{"))] = 1
    steps[(bare == ord("]")) | (bare == ord("}"))] = -1
    return int(steps.cumsum().max(initial=0))


def _is_utf8(record: bytes) -> bool:
    try:
        record.decode()
    except UnicodeDecodeError:
        return False
    return True


def events_of(
    records: Sequence[bytes], positions: npt.NDArray[np.int64], verdicts: Verdicts
) -> tuple[list[Any], npt.NDArray[np.int64]]:
    """Each record decoded by itself: joined ones could be made to merge or to split."""
    events: list[Any] = []
    refused: list[int] = []
    decoding = map(_EVENT.decode, records)
    while True:
        try:
            events.extend(decoding)  # keeps what came before an exception, and goes on after it
        except msgspec.DecodeError:
            at = len(events) + len(refused)
            judged = _second_look(records[at])
            if isinstance(judged, tuple):
                verdicts[int(positions[at])] = judged
                refused.append(at)
            else:
                events.append(judged)
        else:
            return events, np.delete(positions, refused) if refused else positions


def _second_look(record: bytes) -> Any:
    """The event, or (reason, detail), of a record that the fast decoder stumbled over.

    It stumbles over wrong values that a later duplicate key overrides; here the last one wins.
    """
    try:
        found = _OBJECT.decode(record)
    except msgspec.ValidationError:
        try:
            kind = _json_type(bytes(_ANYTHING.decode(record)))
        except msgspec.DecodeError:
            return "not_json", "malformed"
        return "bad_type", f"event: expected object, found {kind}"
    except msgspec.DecodeError:
        return "not_json", "malformed"
    given = {}
    for field in FIELDS:
        raw = bytes(found.get(field.name, b"null"))
        if raw == b"null":
            if field.required:
                return "missing_field", f"{field.name}: required"
            continue
        try:
            given[field.name] = _VALUE[field.name].decode(raw)
        except msgspec.ValidationError:
            kind = _json_type(raw)
            if kind not in field.kind.json_types:
                expected = " or ".join(field.kind.json_types)
                return "bad_type", f"{field.name}: expected {expected}, found {kind}"
            size = f"{len(msgspec.json.decode(raw))} long" if kind == "string" else kind
            return "out_of_range", f"{field.name}: needs {field.kind.range}, found {size}"
    return _Event(**given)


def _json_type(raw: bytes) -> str:
    names = {b'"': "string", b"[": "array", b"{": "object", b"n": "null"}
    names |= dict.fromkeys((b"t", b"f"), "boolean")
    return names.get(raw[:1]) or ("integer" if _INTEGER.fullmatch(raw) else "number")


def time_ms(text: str) -> int:
    """Milliseconds of an RFC 3339 time, rounded down; BAD_TIME or NO_DATE if it is none.

    A leap second :60 is the second after :59, as POSIX counts.
    """
    if (match := _TIME.fullmatch(text)) is None:
        return BAD_TIME
    date, minute, second, fraction, zone = match.groups()
    leap_ms = 1000 if second == "60" else 0
    try:
        start = datetime.fromisoformat(
            f"{date}T{minute}:{'59' if leap_ms else second}{zone.upper()}"
        )
    except ValueError:
        return NO_DATE
    found_ms = (start - _EPOCH) // _MS + leap_ms + int(((fraction or "") + "000")[:3])
    return found_ms if 0 <= found_ms <= MAX_TIME_MS else NO_DATE
