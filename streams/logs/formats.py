"""The two formats of a log line: text for people, JSON for log systems.

Both have the same content: time in UTC, level, logger, fields of the record, message, traceback.
"""

import json
import logging
import time
from collections.abc import Iterator

from streams.errors import one_line

# Attributes that every record has; all others are fields that the program added.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def utc(instant_s: float) -> str:
    """Return an instant in seconds since the epoch as `2026-01-31T12:00:00.000Z`."""
    whole_s, part_ms = divmod(int(instant_s * 1_000), 1_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole_s)) + f".{part_ms:03}Z"


def fields_of(record: logging.LogRecord) -> Iterator[tuple[str, object]]:
    """Yield the fields that the program added to a record, such as `partition`."""
    for name, value in vars(record).items():
        # Faust and aiohttp pass objects of their own; only plain values are fields.
        if name not in _STANDARD and isinstance(value, int | float | str):
            yield name, value


class TextFormatter(logging.Formatter):
    """Writes `TIME LEVEL LOGGER: FIELDS: MESSAGE`, then the traceback on lines of its own."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of a record."""
        # The message of a sum says how often it was repeated.
        fields = " ".join(
            f"{name}={value}" for name, value in fields_of(record) if name != "repeated"
        )
        message = one_line(record.getMessage())
        line = f"{utc(record.created)} {record.levelname} {record.name}: "
        line += f"{fields}: {message}" if fields else message
        trace = self._trace(record)
        return f"{line}\n{trace}" if trace else line

    def _trace(self, record: logging.LogRecord) -> str:
        parts = [self.formatException(record.exc_info)] if record.exc_info else []
        parts += [self.formatStack(record.stack_info)] if record.stack_info else []
        return "\n".join(parts)


class JsonFormatter(TextFormatter):
    """Writes one JSON object a line; `exception` has the traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of a record."""
        content: dict[str, object] = {
            "time": utc(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        # A field must not replace what every line has.
        content |= {name: value for name, value in fields_of(record) if name not in content}
        if trace := self._trace(record):
            content["exception"] = trace
        return json.dumps(content, ensure_ascii=False)
