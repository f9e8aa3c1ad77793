"""Raw rows from files of recorded requests: CSV, JSON Lines, JSON; gzip or not.

Reads files, knows nothing of events. A row that cannot be read is a value (`RowError`) with its
line number and reading goes on; only what makes the whole file useless raises (`UnreadableFile`).
CSV and JSON Lines are streamed; a JSON document has to be read whole before its first row is known.

Text is UTF-8, with or without a byte order mark. Whether a file is gzip is seen from its first two
bytes, as names are often wrong.
"""

import csv
import gzip
import io
import json
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from streams.errors import ConfigError

if TYPE_CHECKING:  # generic in the type stubs only
    Bytes = io.BufferedReader[Any]

MAX_LINE_BYTES = 16 * 1024 * 1024  # a file without line ends would otherwise fill the memory
BOM = b"\xef\xbb\xbf"
GZIP = b"\x1f\x8b"
# First bytes of what people also keep requests in, so that the message can name it.
FOREIGN = {
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
    b"PAR1": "a Parquet file",
    b"PK\x03\x04": "a zip archive",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}


class UnreadableFile(ConfigError):
    """No further row can be had from the file: one line with path, finding and cure."""


@dataclass(frozen=True, slots=True)
class RowError:
    """A row that did not become an event. `problem`: one line, what was found and the cure."""

    line: int
    problem: str


@dataclass(frozen=True, slots=True)
class RawRow:
    """One row as the file has it.

    `line`: line on which it starts, from 1, header included; in a JSON document the row's number.
    `values`: cells in the order of the header (CSV), or the object's members (JSON).
    `key`: the member name under which an object held the row, else empty.
    """

    line: int
    values: Any
    key: str = ""


@contextmanager
def opened(path: Path) -> "Iterator[Bytes]":
    """The file's bytes, uncompressed. Raises UnreadableFile, also while it is being read."""
    try:
        with path.open("rb") as file:
            if file.peek(2).startswith(GZIP):
                with gzip.GzipFile(fileobj=file) as plain, io.BufferedReader(plain, 65_536) as text:
                    _refuse_foreign(path, text)
                    yield text
            else:
                _refuse_foreign(path, file)
                yield file
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise UnreadableFile(f"{path}: {reason}; give a readable, complete file") from error


def _refuse_foreign(path: Path, file: "Bytes") -> None:
    head = file.peek(8)
    for magic, name in FOREIGN.items():
        if head.startswith(magic):
            raise UnreadableFile(f"{path}: is {name}; convert it to UTF-8 CSV or JSON, gzip or not")


def json_lines(file: "Bytes") -> Iterator[RawRow | RowError]:
    """One object a line; blank lines are no rows."""
    decode = msgspec.json.Decoder().decode
    for number, line in _lines(file):
        if line is None:
            yield RowError(number, _too_long())
            continue
        if line.isspace():
            continue
        try:
            value = decode(line)
        except (ValueError, RecursionError) as error:  # the latter: thousands of nested brackets
            yield RowError(number, f"not JSON: {error}; write one object a line")
            continue
        if type(value) is dict:
            yield RawRow(number, value)
        else:
            yield RowError(number, f"found {_kind(value)}; write one object a line")


class CsvRows:
    """The rows of a CSV file. Iterate once.

    `columns`: the header, or what the caller says a file without header has. A quote that is opened
    and never closed would swallow every later line; so where a record of several lines does not
    come out right, only its first line is reported and the others are read again.
    """

    def __init__(
        self,
        path: Path,
        file: "Bytes",
        delimiter: str = ",",
        columns: Sequence[str] | None = None,
    ) -> None:
        self._feed = _Feed(_text_lines(file))
        self._reader = csv.reader(self._feed, delimiter=delimiter, strict=True)
        if columns is not None:
            self.columns = list(columns)
            return
        header = next(self._records(width=None), None)
        if header is None:
            raise UnreadableFile(f"{path}: is empty; a CSV file starts with a header line")
        if isinstance(header, RowError):
            raise UnreadableFile(f"{path}: line {header.line}: {header.problem}")
        self.columns = [name.strip() for name in header.values]

    def __iter__(self) -> Iterator[RawRow | RowError]:
        return self._records(len(self.columns))

    def _records(self, width: int | None) -> Iterator[RawRow | RowError]:
        feed = self._feed
        while True:
            feed.taken.clear()
            cells: list[str] = []
            problem = None
            try:
                cells = next(self._reader)
            except StopIteration:
                return
            except csv.Error as error:
                problem = f"not CSV: {error}; quote the cell and double the quotes in it"
            if problem is None and cells and width is not None and len(cells) != width:
                problem = f"{len(cells)} cells where the header has {width}; quote the delimiter"
            first, _, unreadable = feed.taken[0]
            if len(feed.taken) > 1 and (problem or any(line[2] for line in feed.taken)):
                problem = "a quote opens here and the row does not come out right; close it"
                feed.pending.extendleft(reversed(feed.taken[1:]))
            if unreadable or problem:
                yield RowError(first, unreadable or problem or "")
            elif cells:  # a blank line has none
                yield RawRow(first, cells)


class _Feed:
    """Lines for the csv reader, which notes the ones taken for a record and can take them back."""

    def __init__(self, lines: Iterator[tuple[int, str, str | None]]) -> None:
        self._lines = lines
        self.pending: deque[tuple[int, str, str | None]] = deque()
        self.taken: list[tuple[int, str, str | None]] = []

    def __iter__(self) -> "_Feed":
        return self

    def __next__(self) -> str:
        line = self.pending.popleft() if self.pending else next(self._lines)
        self.taken.append(line)
        return line[1]


def json_rows(path: Path, file: "Bytes", at: str | None) -> Iterator[RawRow | RowError]:
    """The objects of a list, or the values of an object, found in one JSON document.

    `at`: dotted path to that list or object; None for the document itself. Raises UnreadableFile
    where the document is not JSON or has nothing there.
    """
    try:
        document = json.loads(
            file.read().removeprefix(BOM).decode(), object_pairs_hook=_keep_repeated
        )
    except (ValueError, RecursionError) as error:
        raise UnreadableFile(
            f"{path}: not a JSON document: {error}; for one object a line use format jsonl"
        ) from error
    rows = document
    for name in at.split(".") if at else ():
        if not isinstance(rows, dict) or name not in rows:
            found = ", ".join(list(rows)[:8]) if isinstance(rows, dict) else _kind(rows)
            raise UnreadableFile(
                f"{path}: nothing at {at!r}: {name!r} is not among {found}; correct `rows`"
            )
        rows = rows[name]
    members: Iterator[tuple[str, Any]]
    if isinstance(rows, list):
        members = (("", row) for row in rows)
    elif isinstance(rows, dict):
        members = iter(rows.pairs if isinstance(rows, _Repeated) else rows.items())
    else:
        raise UnreadableFile(
            f"{path}: found {_kind(rows)} where the rows should be; name their place with `rows`"
        )
    for number, (key, row) in enumerate(members, 1):
        if isinstance(row, dict):
            yield RawRow(number, row, key)
        else:
            yield RowError(
                number, f"found {_kind(row)}, not an object; name the place of the rows in `rows`"
            )


class _Repeated(dict[str, Any]):
    """An object with a member name given twice: as an object of rows it has them all in `pairs`."""

    pairs: list[tuple[str, Any]]


def _keep_repeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        members = _Repeated(members)
        members.pairs = pairs
    return members


def _lines(file: "Bytes") -> Iterator[tuple[int, bytes | None]]:
    """Line number from 1 and the line; None instead of one that is too long to hold."""
    number = 0
    while line := file.readline(MAX_LINE_BYTES):
        number += 1
        if number == 1:
            line = line.removeprefix(BOM) or b"\n"
        if len(line) < MAX_LINE_BYTES or line.endswith(b"\n"):
            yield number, line
            continue
        while (rest := file.readline(MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
            pass
        yield number, None


def _text_lines(file: "Bytes") -> Iterator[tuple[int, str, str | None]]:
    """Line number, text, and what is wrong with the line if anything is."""
    for number, line in _lines(file):
        if line is None:
            yield number, "", _too_long()
            continue
        try:
            yield number, line.decode(), None
        except UnicodeDecodeError as error:
            yield number, line.decode(errors="replace"), f"not UTF-8: {error}; convert the file"


def _too_long() -> str:
    return f"longer than {MAX_LINE_BYTES} bytes; write one row a line"


def _kind(value: Any) -> str:
    names = {list: "a list", dict: "an object", str: "a text", type(None): "null"}
    return names.get(type(value), f"the value {value!r:.40}")
