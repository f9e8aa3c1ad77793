"""Events of the contract from JSON Lines, sent on as they are.

The events are not checked here, as mapped rows are: the worker counts or rejects each of them, like
those of a producer. The bytes of a line stay the same unless the event is moved in time;
then only `ended_at` changes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from streams.events.parser import time_ms
from streams.sources.conversion import UNITS
from streams.sources.files import RowError, open_plain, plain_lines

# Times between 2015 and 2100 in milliseconds. A number outside is probably in another unit.
EARLIEST_MS, LATEST_MS = 1_420_070_400_000, 4_102_444_800_000
_OTHER_UNITS = {"seconds": UNITS["s"], "microseconds": UNITS["us"], "nanoseconds": UNITS["ns"]}

_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_TIME = msgspec.json.Decoder(int | str)
_ID = msgspec.json.Decoder(str | int)


@dataclass(frozen=True, slots=True)
class EventLine:
    """One line of the file, which the worker will count or reject.

    `ended_at_ms`: None if the line has no usable time; such a line keeps its bytes in any case.
    `unit`: of `ended_at`, if it looks like another one than milliseconds.
    """

    line: int
    key: bytes | None
    ended_at_ms: int | None
    unit: str | None
    value: bytes

    def encode(self, shift_ms: int = 0) -> bytes:
        """Return the record's value, with `ended_at` moved by `shift_ms`."""
        # Unchanged bytes show exactly how the worker judges a producer.
        if not shift_ms or self.ended_at_ms is None:
            return self.value
        # All fields but one stay raw: 1.50 must not become 1.5.
        fields = _FIELDS.decode(self.value)
        fields["ended_at"] = msgspec.Raw(str(self.ended_at_ms + shift_ms).encode())
        return msgspec.json.encode(fields)


def read_events(path: Path) -> Iterator[EventLine | RowError]:
    """Yield every line of the file that is not blank; a RowError for a line that is too long.

    Raises UnreadableFile, from the iterator, if the file cannot be read.
    """
    with open_plain(path) as file:
        for number, line in plain_lines(file):
            if isinstance(line, RowError):
                yield line
            elif not line.isspace():
                value = line.rstrip(b"\r\n")
                yield EventLine(number, *_identity(value), value)


def _identity(value: bytes) -> tuple[bytes | None, int | None, str | None]:
    """Return the record's key, which is the request id, and `ended_at_ms` and `unit`."""
    try:
        fields = _FIELDS.decode(value)
    except (msgspec.DecodeError, RecursionError):
        return None, None, None
    return _key(fields.get("request_id")), *_time(fields.get("ended_at"))


def _key(raw: msgspec.Raw | None) -> bytes | None:
    try:
        return None if raw is None else str(_ID.decode(raw)).encode()
    except (msgspec.DecodeError, UnicodeEncodeError):
        return None


def _time(raw: msgspec.Raw | None) -> tuple[int | None, str | None]:
    try:
        given = None if raw is None else _TIME.decode(raw)
    except msgspec.DecodeError:
        return None, None
    at_ms = time_ms(given) if isinstance(given, str) else given
    unit = None if at_ms is None else _other_unit(at_ms)
    is_usable = at_ms is not None and at_ms >= EARLIEST_MS and unit is None
    return (at_ms if is_usable else None), unit


def _other_unit(time: int) -> str | None:
    """Return the unit in which a number is a time of this century; None for milliseconds."""
    if EARLIEST_MS <= time <= LATEST_MS:
        return None
    for unit, (multiplier, divisor) in _OTHER_UNITS.items():
        if EARLIEST_MS <= time * multiplier // divisor <= LATEST_MS:
            return unit
    return None
