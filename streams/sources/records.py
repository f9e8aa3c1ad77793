"""Records from files, for mappings in SQL: each row of the file as one JSON value with its line.

The format is recognised from the content unless the mapping names it: Parquet, JSON Lines, JSON
objects over several lines, one JSON list of rows, or CSV with a header; plain, gzip or zstd.
"""

import json
import re
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import msgspec

from streams.events.parser import UNREADABLE
from streams.sources.conversion import excerpt
from streams.sources.files import (
    BOM,
    MAX_LINE_BYTES,
    CsvRows,
    RawRow,
    RowError,
    UnreadableFile,
    json_rows,
    open_plain,
    plain_lines,
    replace_half_pairs,
)
from streams.sources.sql_mapping import FileOptions, Record

if TYPE_CHECKING:
    from streams.sources.files import Bytes

PARQUET = b"PAR1"
DELIMITERS = ",;\t|"
_HEAD_BYTES = 65_536  # of a file, to recognise its format
_PARQUET_ROWS = 2_048  # read at once
_OBJECT = re.compile(rb"\s*(\[\s*)?\{")  # or a list of objects
_TIME = re.compile(rb"\[\d{4}-\d\d-\d\d")
_encode = msgspec.json.encode


def read_records(path: Path, options: FileOptions) -> Iterator[Record | RowError]:
    """Yield the rows of a file in their order. Raises UnreadableFile, from the iterator."""
    for number, record in enumerate(_records(path, options), 1):
        yield record if isinstance(record, RowError) else record.numbered(number)


def _records(path: Path, options: FileOptions) -> Iterator[Record | RowError]:
    if options.format == "parquet" or _is_parquet(path):
        yield from _parquet(path)
        return
    with open_plain(path) as file:
        # peek() leaves the bytes to the reader of the format.
        head = file.peek(_HEAD_BYTES)[:_HEAD_BYTES].removeprefix(BOM)
        kind = options.format or ("json" if options.rows else _format(head))
        if kind == "jsonl" and _OBJECT.match(head):
            # jq and editors break the lines of a sample, or make a list of it.
            kind = _format(head)
        if kind == "json" and options.format is None and b"\n" not in head and _has_lines(path):
            kind = "jsonl"
        if kind == "jsonl":
            yield from _lines(file)
            return
        if kind == "documents":
            yield from _documents(path, file)
            return
        if kind == "json":
            for row in json_rows(path, file, options.rows):
                yield _document_record(row)
            return
        table = CsvRows(path, file, options.delimiter or _delimiter(head), options.columns)
        _check_header(path, table.columns, options)
        for row in table:
            if isinstance(row, RawRow):
                members = dict(zip(table.columns, row.values, strict=True))
                yield Record(row.line, _encode(members))
            else:
                yield row


def _check_header(path: Path, columns: list[str], options: FileOptions) -> None:
    """Raise UnreadableFile if a column that the mapping reads is absent, or is there twice."""
    for name in (*options.required, *options.optional):
        occurrences = columns.count(name)
        # Either of two columns may be the right one, also if the file may lack it.
        if occurrences == 1 or (occurrences == 0 and name in options.optional):
            continue
        listed = ", ".join(columns[:12])
        raise UnreadableFile(
            f"{path}: {occurrences or 'no'} columns named {name!r}; correct the mapping, or make "
            f"the column optional; the file has {excerpt(listed)}"
        )


def _is_parquet(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(PARQUET)) == PARQUET
    except OSError as error:
        raise UnreadableFile(f"{path}: {error.strerror}; give a readable file") from error


def _format(head: bytes) -> str:
    """Return the format of a text file that starts with these bytes."""
    text = head.lstrip()
    line, newline, rest = text.partition(b"\n")
    if text.startswith(b"["):
        # Loggers that batch write a list a line, and a log may begin with the time of its start.
        is_log = _TIME.match(text) or (rest.strip() and _is_json(line))
        return "jsonl" if is_log else "json"
    if not text.startswith(b"{"):
        return "csv"
    # An object that goes on after the first line is a record itself, as are those after it.
    return "jsonl" if not newline or _is_json(line) else "documents"


def _has_lines(path: Path) -> bool:
    """Return whether a list of records is the first line of several: batches may be long."""
    with open_plain(path) as file:
        line = file.readline(MAX_LINE_BYTES)
        return line.endswith(b"\n") and bool(file.read(_HEAD_BYTES).strip()) and _is_json(line)


def _is_json(line: bytes) -> bool:
    try:
        msgspec.json.decode(line)
    except UNREADABLE:
        # Data frames write NaN; a line that ends as an object does is one.
        return line.rstrip().endswith(b"}") and line.count(b"{") <= line.count(b"}")
    return True


def _delimiter(head: bytes) -> str:
    """Return the delimiter that the header of a CSV file has most often outside of quotes."""
    header = head.partition(b"\n")[0].decode(errors="replace")
    # Between quotes are the second, the fourth, ... part.
    unquoted = "".join(header.split('"')[::2])
    return max(DELIMITERS, key=unquoted.count)


def _lines(file: "Bytes") -> Iterator[Record | RowError]:
    for number, line in plain_lines(file):
        if isinstance(line, RowError):
            yield line
        elif not line.isspace():
            yield Record(number, line.rstrip(b"\r\n"))


def _documents(path: Path, file: "Bytes") -> Iterator[Record | RowError]:
    """Yield the JSON values of a file one after the other, however their lines are broken."""
    try:
        text = file.read().removeprefix(BOM).decode()
    except UnicodeDecodeError as error:
        raise UnreadableFile(f"{path}: not UTF-8: {error}; convert the file") from error
    # jq and editors write one object over several lines, and more of them behind it.
    decoder, start, line = json.JSONDecoder(), 0, 1
    while start < len(text):
        if text[start].isspace():
            line += text[start] == "\n"
            start += 1
            continue
        try:
            _, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError) as error:
            yield RowError(line, f"not JSON: {error}; the rest of the file is not read")
            return
        yield Record(line, text[start:end])
        line += text.count("\n", start, end)
        start = end


def _document_record(row: RawRow | RowError) -> Record | RowError:
    if isinstance(row, RowError):
        return row
    return Record(row.line, _json_text(row.values), row.key or None)


def _json_text(values: Any) -> bytes | str:
    try:
        return _encode(values)
    except UnicodeEncodeError:  # half a surrogate pair
        return json.dumps(replace_half_pairs(values), ensure_ascii=False)


def _parquet(path: Path) -> Iterator[Record | RowError]:
    """Yield the rows of a Parquet file; `line` is the number of the row, from 1."""
    # The operator's SQL never runs on this connection, which may read files.
    config: dict[str, str | bool | int | float | list[str]] = {
        "threads": 1,
        "autoinstall_known_extensions": False,
    }
    with duckdb.connect(":memory:", config=config) as connection:
        try:
            query = "SELECT to_json(t) FROM read_parquet($1) t"
            rows = connection.execute(query, [str(path)])
            lines = count(1)
            while batch := rows.fetchmany(_PARQUET_ROWS):
                yield from (Record(next(lines), text) for (text,) in batch)
        except duckdb.Error as error:
            reason = str(error).partition("\n")[0]
            raise UnreadableFile(f"{path}: {reason}; give a readable, complete file") from error
