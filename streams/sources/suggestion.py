"""Advice for a file that contains no events: the shipped mappings that fit, or its columns."""

import csv
from itertools import islice
from pathlib import Path

import msgspec

from streams.errors import RequestError
from streams.events.parser import UNREADABLE
from streams.sources.files import open_plain, plain_lines
from streams.sources.guess import guesses

_ROWS = 50  # of the file that are looked at
_COLUMNS_MAX = 20  # that a message names
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
# Each of them makes a line an event, if a bad one; files of others hardly have such names.
_OF_EVENTS = ("request_id", "ended_at")


def check_events(path: Path) -> None:
    """Raise RequestError if the first rows of a file are no events, with the mappings that fit.

    Without the check each row would be sent, and rejected. Raises UnreadableFile.
    """
    with open_plain(path) as file:
        lines = [
            line
            for _, line in islice(plain_lines(file), _ROWS)
            if isinstance(line, bytes) and not line.isspace()
        ]
    objects = list(map(_members, lines))
    if not lines or any(name in members for members in objects for name in _OF_EVENTS):
        return
    fitting = [guess.name for guess in guesses(path)]
    if fitting:
        advice = f"give --mapping {' or '.join(fitting)}, which fits"
    else:
        columns = list(objects[0]) or _csv_columns(lines[0])
        named = ", ".join(columns[:_COLUMNS_MAX]) + (", ..." if columns[_COLUMNS_MAX:] else "")
        advice = f"give --mapping FILE that names its columns; `tokenpulse try {path}` drafts one"
        advice += f"; it has {named}" if columns else ""
    raise RequestError(
        f"{path}: its rows are no events (docs/events.md), which are JSON objects with "
        f"request_id and ended_at; {advice}"
    )


def _members(line: bytes) -> dict[str, msgspec.Raw]:
    try:
        return _OBJECT.decode(line)
    except UNREADABLE:
        return {}


def _csv_columns(line: bytes) -> list[str]:
    """Return the columns that the header of a CSV file names; none if it is no such header."""
    try:
        columns = next(csv.reader([line.decode("utf-8-sig")]), [])
    except (UnicodeDecodeError, csv.Error):
        return []
    if line.lstrip().startswith((b"[", b"{")):  # JSON
        return []
    names = [column.strip() for column in columns]
    return names if len(names) > 1 and all(name.isprintable() and name for name in names) else []
