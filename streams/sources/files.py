"""Raw rows from files of recorded requests: CSV, JSON Lines, JSON; plain, gzip or zstd.

A row that cannot be read becomes a `RowError` with its line number, and reading continues; an error
of the whole file raises `UnreadableFile`. CSV and JSON Lines are streamed; a JSON document is read
whole before its first row.

Text is UTF-8, with or without a byte order mark. Compression is recognised by the first bytes, as
file names are often wrong.
"""

import csv
import gzip
import io
import json
import math
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import zstandard

from streams.errors import ConfigError

if TYPE_CHECKING:  # generic in the type stubs only
    Bytes = io.BufferedReader[Any]

# In place of numbers that are not finite, which JSON does not have. As texts a cast to DOUBLE reads
# them; they are no number that a field can have, and no name, as a model may be named Infinity.
INFINITE_TEXTS = ("1e+999", "-1e+999")

_decode = msgspec.json.Decoder().decode
MAX_LINE_BYTES = 16 * 1024 * 1024  # a file without line ends would otherwise fill the memory
# A prompt may be longer than the 131,072 characters that Python allows for a cell by default.
csv.field_size_limit(MAX_LINE_BYTES)
BOM = b"\xef\xbb\xbf"
GZIP = b"\x1f\x8b"
ZSTD = b"\x28\xb5\x2f\xfd"
_ZSTD_CHUNK = 16 * 1024  # compressed; its content may be thousands of times as large
# First bytes of formats that are not read, so that the error message can name them.
FOREIGN = {
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
    b"PAR1": "a Parquet file",
    b"PK\x03\x04": "a zip archive",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
}


class UnreadableFile(ConfigError):
    """The file cannot be read, or not further: one line with path, problem and fix."""


@dataclass(frozen=True, slots=True)
class RowError:
    """A row that did not become an event. `problem`: one line with the value and the fix."""

    line: int
    problem: str


@dataclass(frozen=True, slots=True)
class RawRow:
    """One row of the file.

    `line`: line on which it starts, from 1, header included; in a JSON document the row's number.
    `values`: cells in the order of the header (CSV), or the object's members (JSON).
    `key`: the member name under which an object held the row, else empty.
    """

    line: int
    values: Any
    key: str = ""


@contextmanager
def open_plain(path: Path) -> "Iterator[Bytes]":
    """Open a file and yield its uncompressed bytes. Raises UnreadableFile, also during reading."""
    try:
        with path.open("rb") as file:
            # File names are often wrong, so the content decides.
            if file.peek(2).startswith(GZIP):
                with gzip.GzipFile(fileobj=file) as plain, io.BufferedReader(plain, 65_536) as text:
                    _refuse_foreign(path, text)
                    yield text
            elif file.peek(4).startswith(ZSTD):
                with io.BufferedReader(_ZstdStream(file), 65_536) as text:
                    _refuse_foreign(path, text)
                    yield text
            else:
                _refuse_foreign(path, file)
                yield file
    except (OSError, EOFError, zlib.error, zstandard.ZstdError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UnreadableFile(f"{path}: {reason}; give a readable, complete file") from error


class _ZstdStream(io.RawIOBase):
    """The content of zstd frames in a row. Raises EOFError if the last one is cut off."""

    def __init__(self, file: "Bytes") -> None:
        self._file = file
        self._frame: Any = None  # None between two frames
        self._content = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._content:
            packed = self._file.read(_ZSTD_CHUNK)
            if not packed and self._frame is None:
                return 0
            if not packed:
                raise EOFError("the zstd data ends too early")
            self._content = memoryview(self._decompress(packed))
        size = min(len(buffer), len(self._content))
        buffer[:size] = self._content[:size]
        self._content = self._content[size:]
        return size

    def _decompress(self, packed: bytes) -> bytes:
        parts = []
        while packed:
            # Frames follow one another in a file that was appended to.
            self._frame = self._frame or zstandard.ZstdDecompressor().decompressobj()
            parts.append(self._frame.decompress(packed))
            packed = self._frame.unused_data if self._frame.eof else b""
            if self._frame.eof:
                self._frame = None
        return b"".join(parts)


def _refuse_foreign(path: Path, file: "Bytes") -> None:
    head = file.peek(8)
    for magic, name in FOREIGN.items():
        if head.startswith(magic):
            raise UnreadableFile(f"{path}: is {name}; convert it to UTF-8 CSV or JSON")


def decode_json(line: bytes) -> Any:
    """Return the JSON value of a line. Raises ValueError or RecursionError."""
    try:
        return _decode(line)
    except msgspec.DecodeError:
        # NaN, 1e999 and half a surrogate pair must cost their column, not the row.
        return json.loads(
            line, parse_int=_parse_int, parse_float=_parse_float, parse_constant=_parse_constant
        )


def _parse_int(digits: str) -> int | str:
    # Python refuses to read thousands of digits; far fewer are beyond any column.
    return int(digits) if len(digits) < 1_000 else _infinity(digits)


def _parse_float(digits: str) -> float | str:
    number = float(digits)
    return _infinity(digits) if math.isinf(number) else number


def _parse_constant(name: str) -> str | None:
    # Data frames write NaN for a value that is missing, in columns of text too.
    return None if name == "NaN" else _infinity(name)


def _infinity(digits: str) -> str:
    return INFINITE_TEXTS[digits.startswith("-")]


def replace_half_pairs(value: Any) -> Any:
    """Return a JSON value with half surrogate pairs replaced, which no record can hold.

    A text becomes a list of one text: it is no name any more, but an error is still one.
    """
    if isinstance(value, dict):
        return {
            _replace_in_text(name): replace_half_pairs(member) for name, member in value.items()
        }
    if isinstance(value, list):
        return [replace_half_pairs(member) for member in value]
    if isinstance(value, str) and (text := _replace_in_text(value)) != value:
        return [text]
    return value


def _replace_in_text(text: str) -> str:
    # Half a pair encodes to several bytes, each of which decodes to U+FFFD.
    return text if text.isascii() else text.encode(errors="surrogatepass").decode(errors="replace")


class CsvRows:
    """The rows of a CSV file. Iterate once.

    `columns`: the header, or the names given for a file without header. A quote that is never
    closed would swallow every later line. So if a record of several lines is invalid, only its
    first line is reported, and the lines after it are read again.
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
            # A header has any width; so has a blank line, which has no cells.
            if problem is None and cells and width is not None and len(cells) != width:
                problem = f"{len(cells)} cells where the header has {width}; quote the delimiter"
            first, _, unreadable = feed.taken[0]
            # An open quote may have swallowed valid lines: read them again.
            if len(feed.taken) > 1 and (problem or any(line[2] for line in feed.taken)):
                problem = "a quote opens here and the row is invalid; close it"
                feed.pending.extendleft(reversed(feed.taken[1:]))
            if unreadable or problem:
                yield RowError(first, unreadable or problem or "")
            elif cells:  # a blank line has none
                yield RawRow(first, cells)


class _Feed:
    """Lines for the csv reader. It remembers the lines of a record and can return them."""

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
    """Yield the objects of a list, or the values of an object, in one JSON document.

    `at`: dotted path to that list or object; None for the document itself. Raises UnreadableFile
    if the document is not JSON, or has no list or object at that path.
    """
    try:
        document = json.loads(
            file.read().removeprefix(BOM).decode(),
            object_pairs_hook=_members,
            parse_int=_parse_int,
            parse_float=_parse_float,
            parse_constant=_parse_constant,
        )
    except (ValueError, RecursionError) as error:
        raise UnreadableFile(
            f"{path}: not a JSON document: {error}; for one object a line use format jsonl"
        ) from error
    rows = document
    # Walk down to the rows; a wrong path names the members that are there.
    for name in at.split(".") if at else ():
        if not isinstance(rows, dict) or name not in rows:
            names = ", ".join(list(rows)[:8]) if isinstance(rows, dict) else _kind(rows)
            raise UnreadableFile(
                f"{path}: no value at {at!r}: {name!r} is not among {names}; correct `rows`"
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
    """An object with a repeated member name; `pairs` has all members, as each may be a row."""

    pairs: list[tuple[str, Any]]


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    # Few objects repeat a name, and a plain dictionary takes less memory.
    if len(members) < len(pairs):
        members = _Repeated(members)
        members.pairs = pairs
    return members


def plain_lines(file: "Bytes") -> Iterator[tuple[int, bytes | RowError]]:
    """Yield line numbers from 1 with the lines; a RowError for a line that is too long."""
    number = 0
    while line := file.readline(MAX_LINE_BYTES):
        number += 1
        # The byte order mark belongs to the file, not to the first cell.
        if number == 1:
            line = line.removeprefix(BOM) or b"\n"
        if len(line) < MAX_LINE_BYTES or line.endswith(b"\n"):
            yield number, line
            continue
        # Skip the rest of the long line without keeping it.
        while (rest := file.readline(MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
            pass
        too_long = f"longer than {MAX_LINE_BYTES} bytes; write one row a line"
        yield number, RowError(number, too_long)


def _text_lines(file: "Bytes") -> Iterator[tuple[int, str, str | None]]:
    """Yield line number, text, and the problem of the line or None."""
    for number, line in plain_lines(file):
        if isinstance(line, RowError):
            yield number, "", line.problem
            continue
        try:
            yield number, line.decode(), None
        except UnicodeDecodeError as error:
            yield number, line.decode(errors="replace"), f"not UTF-8: {error}; convert the file"


def _kind(value: Any) -> str:
    names = {list: "a list", dict: "an object", str: "a text", type(None): "null"}
    return names.get(type(value), f"the value {value!r:.40}")
