"""Events of the contract from JSON Lines, sent on as they are.

Unlike mapped rows, the events are not checked here: the worker decides about each of them, so a
replay shows what the worker makes of a producer's events. The bytes of a line stay the same unless
the event is moved in time; then only `ended_at` changes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from streams.events.parser import time_ms
from streams.sources.files import RowError, open_plain, plain_lines

# An earlier time is a number in another unit than milliseconds. 2015-01-01T00:00:00Z.
EARLIEST_MS = 1_420_070_400_000

_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_TIME = msgspec.json.Decoder(int | str)
_ID = msgspec.json.Decoder(str | int)


@dataclass(frozen=True, slots=True)
class EventLine:
    """One line of the file, which the worker will count or reject.

    `ended_at_ms`: None if the line has no usable time; such a line keeps its bytes in any case.
    """

    line: int
    key: bytes | None
    ended_at_ms: int | None
    value: bytes

    def encode(self, shift_ms: int = 0) -> bytes:
        """Return the record's value, with `ended_at` moved by `shift_ms`."""
        if not shift_ms or self.ended_at_ms is None:
            return self.value
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


def _identity(value: bytes) -> tuple[bytes | None, int | None]:
    """Return the record's key, which is the request id, and the end of the request."""
    try:
        fields = _FIELDS.decode(value)
    except (msgspec.DecodeError, RecursionError):
        return None, None
    return _key(fields.get("request_id")), _ended_at_ms(fields.get("ended_at"))


def _key(raw: msgspec.Raw | None) -> bytes | None:
    try:
        return None if raw is None else str(_ID.decode(raw)).encode()
    except (msgspec.DecodeError, UnicodeEncodeError):
        return None


def _ended_at_ms(raw: msgspec.Raw | None) -> int | None:
    try:
        time = None if raw is None else _TIME.decode(raw)
    except msgspec.DecodeError:
        return None
    at_ms = time_ms(time) if isinstance(time, str) else time
    return at_ms if at_ms is not None and at_ms >= EARLIEST_MS else None
