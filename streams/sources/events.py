"""Events of the contract from JSON Lines, sent on as they are.

The events are not checked here, as mapped rows are: the worker counts or rejects each of them, like
those of a producer. The bytes of a line stay the same unless the event is moved in time;
then only `ended_at` changes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from streams.events.epoch import EARLIEST_MS, epoch_unit
from streams.events.parser import UNREADABLE, decode_lenient, given_json, record_key, time_ms
from streams.sources.files import RowError, open_plain, plain_lines

EVENTS = "events"  # the format of records that need no mapping

_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_TIME = msgspec.json.Decoder(int | str)


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
        # Unchanged bytes show exactly how the worker judges a producer.
        if not shift_ms or self.ended_at_ms is None:
            return self.value
        # All fields but one stay raw: 1.50 must not become 1.5.
        try:
            fields = decode_lenient(_FIELDS, self.value)
        except UNREADABLE:  # a name of a field is no text: the event stays at its time
            return self.value
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
                yield event_line(number, line.rstrip(b"\r\n"))


def event_line(number: int, value: bytes) -> EventLine:
    """Return one line, without its end."""
    return EventLine(number, record_key(value), _time(value), value)


def _time(value: bytes) -> int | None:
    raw = given_json(value, "ended_at")
    try:
        given = None if raw is None else _TIME.decode(raw)
    except UNREADABLE:
        return None
    at_ms = time_ms(given) if isinstance(given, str) else given
    if at_ms is None:
        return None
    unit = epoch_unit(at_ms)
    # A number in no unit is too early, or so late that the worker judges it.
    return at_ms if unit == "ms" or (unit is None and at_ms >= EARLIEST_MS) else None
