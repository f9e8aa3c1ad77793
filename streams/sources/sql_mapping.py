"""A mapping in SQL: load it, and map batches of records to events.

docs/mappings.md is its manual. A record that cannot be mapped is reported and costs only itself:
if the query fails for a batch, its halves are tried, down to single records.
"""

import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import duckdb
import msgspec
import numpy as np

from streams.config.yaml_file import read_text
from streams.errors import ConfigError
from streams.sources.conversion import KINDS
from streams.sources.files import RowError, decode_json, replace_half_pairs
from streams.sources.rows import Row
from streams.sources.sql_columns import ResultColumns
from streams.sources.sql_engine import TIME_LIMIT_S, LockedDatabase, QueryStopped, SqlEngine
from streams.sources.sql_text import text_literal

_Value = TypeVar("_Value")

# Comments `-- key: value` before the SELECT: how a file is read, and a line for people.
OPTION = re.compile(r"--\s*(about|format|rows|delimiter|columns|required|optional):\s*(.+?)\s*$")
FORMATS = ("csv", "jsonl", "json", "parquet")
REQUIRED = ("line", "ended_at", "model")
GIVE_OUTCOME = ("outcome", "status_code", "ending", "error_class")
# A batch that ran too long may take this many time limits until its bad records are known. Each
# half has half the time of the whole, but not less than this part of the limit.
LIMITS_PER_BATCH = 5
SHORTEST_PART = 20
_MESSAGE_MAX = 300
# Whole values: a decoder of msgspec.Raw accepts 1e999, which DuckDB passes on.
_check_syntax = msgspec.json.Decoder().decode


class SqlMappingError(ConfigError):
    """A mapping that cannot be used: one line with file, problem and fix."""


class Record(NamedTuple):
    """One record of a file or topic.

    `line`: line of the file, or offset in the partition. `value`: one JSON value, UTF-8.
    `timestamp_ms`: when the producer or the broker took the record, if known. `number`: of the
    record in the file, from 1, with those that cannot be read.
    """

    line: int
    value: bytes | str
    key: str | None = None
    timestamp_ms: int | None = None
    headers: Mapping[str, str] | None = None
    number: int | None = None

    @property
    def content(self) -> bytes:
        """The value as UTF-8."""
        return self.value if isinstance(self.value, bytes) else self.value.encode()

    @property
    def text(self) -> str:
        """The value as text. Raises UnicodeDecodeError."""
        return self.value if isinstance(self.value, str) else self.value.decode()

    @property
    def readable_text(self) -> str:
        """The value as text, with U+FFFD in place of what is no UTF-8."""
        return self.value if isinstance(self.value, str) else self.value.decode(errors="replace")

    def numbered(self, number: int) -> "Record":
        """Return the record with its number."""
        return self._replace(number=number)


@dataclass(frozen=True, slots=True)
class Source:
    """Where a batch comes from; constant for all its records.

    `name`: the file without endings, or `topic-partition`; ids are made of it and the line if the
    mapping returns no `request_id`. `base_ms`: where relative times begin, if the operator chose
    it. `first`: the first usable record of the file. `each_is_first`: every record is its own one.
    """

    name: str
    base_ms: int | None = None
    first: Record | None = None
    each_is_first: bool = False


@dataclass(slots=True)
class MappedBatch:
    """The events and failures of a batch. `skipped`: records for which the mapping has no row."""

    rows: list[Row] = field(default_factory=list)
    failures: list[RowError] = field(default_factory=list)
    skipped: int = 0


@dataclass(frozen=True, slots=True)
class FileOptions:
    """How the file is read. None and the empty text: recognised from the content.

    `required` and `optional`: columns that a CSV header must have once, or at most once.
    """

    format: str | None = None
    rows: str | None = None
    delimiter: str | None = None
    columns: tuple[str, ...] | None = None
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()


class SqlMapping:
    """A checked mapping. Not for use by two threads at once. Raises SqlMappingError.

    `database`: for its queries alone; by default one that all mappings of the process share.
    """

    def __init__(
        self,
        sql: str,
        name: str,
        time_limit_s: float = TIME_LIMIT_S,
        database: LockedDatabase | None = None,
    ) -> None:
        self.name = name
        self._time_limit_s = time_limit_s
        options = _options(sql)
        self.about = options.pop("about", "")
        self.options = _file_options(options)
        if self.options.format not in (None, *FORMATS):
            raise SqlMappingError(
                f"{name}: format: found {self.options.format!r}; use {', '.join(FORMATS)}"
            )
        # Only queries that use it need a search for it.
        self.uses_first = re.search(r"\bfirst(_number)?\b", sql, re.IGNORECASE) is not None
        self._engine = SqlEngine(database)
        self._source: Source | None = None
        self._define(Source(""))
        self._sql, self._columns = self._check(sql.rstrip().rstrip(";"))

    def map(self, records: Sequence[Record], source: Source) -> MappedBatch:
        """Return the events of the records, by line, and one failure for each unusable record."""
        # The constants of a source are part of the view, which is planned anew for each query.
        if source != self._source:
            self._define(source)
        batch = MappedBatch()
        texts: list[tuple[Record, str]] = []
        for record in records:
            text = _usable_text(record)
            if isinstance(text, RowError):
                batch.failures.append(text)
            else:
                texts.append((record, text))
        deadline = time.monotonic() + LIMITS_PER_BATCH * self._time_limit_s
        answered: set[int] = set()
        for row in self._query(texts, batch.failures, deadline, self._time_limit_s):
            answered.add(row.line)
            if isinstance(row, Row):
                batch.rows.append(row)
            else:
                batch.failures.append(row)
        # A mapping that returns no row for a record leaves it out on purpose.
        answered |= {failure.line for failure in batch.failures}
        batch.skipped = sum(record.line not in answered for record in records)
        batch.failures.sort(key=lambda failure: failure.line)
        return batch

    def _define(self, source: Source) -> None:
        self._source = source
        self._engine.load("batch", _arrays([]))
        base = "NULL" if source.base_ms is None else str(source.base_ms)
        first, number = "NULL", "NULL"
        if source.each_is_first:
            first, number = "raw::JSON", "number"
        elif source.first is not None:
            first = f"try_cast({text_literal(source.first.readable_text)} AS JSON)"
            number = str(source.first.number or "NULL")
        constants = f"{text_literal(source.name)} AS source, {base}::BIGINT AS base"
        constants += f", {first} AS first, {number}::BIGINT AS first_number"
        record = "line, number, raw::JSON AS r, key, timestamp, headers::JSON AS headers"
        self._engine.define("records", f"SELECT {record}, {constants} FROM batch")  # noqa: S608

    def _check(self, sql: str) -> tuple[str, ResultColumns]:
        """Return the query and its columns. Raises SqlMappingError if it is no mapping."""
        # COPY, SET and ATTACH are statements too, and so is a second one behind a semicolon.
        try:
            if not self._engine.is_select(sql):
                raise SqlMappingError(f"{self.name}: write exactly one SELECT (docs/mappings.md)")
            if problem := self._engine.forbidden(sql):
                raise SqlMappingError(f"{self.name}: {problem}")
            types = self._engine.columns(sql)
        except (duckdb.Error, QueryStopped) as error:
            raise SqlMappingError(f"{self.name}: {_message(error)}") from error
        unknown = [name for name in types if name not in (*KINDS, "line", "ended_at")]
        if unknown:
            fields = ", ".join(KINDS)
            raise SqlMappingError(
                f"{self.name}: {', '.join(unknown)}: no such field; use line, ended_at, {fields}"
            )
        missing = [name for name in REQUIRED if name not in types]
        if missing:
            raise SqlMappingError(f"{self.name}: no column {', '.join(missing)}; select it")
        if not types.keys() & set(GIVE_OUTCOME):
            raise SqlMappingError(
                f"{self.name}: neither outcome nor status_code; 'success' AS outcome if all are"
            )
        try:
            columns = ResultColumns(types)
        except ValueError as error:
            raise SqlMappingError(f"{self.name}: {error}") from error
        # A line of its own: the mapping may end in a comment.
        return f"SELECT {columns.select} FROM (\n{sql}\n)", columns  # noqa: S608

    def _query(
        self,
        texts: list[tuple[Record, str]],
        failures: list[RowError],
        deadline: float,
        limit_s: float,
    ) -> list[Row | RowError]:
        """Return the rows of these records; append a failure for each that the query fails on."""
        if not texts:
            return []
        self._engine.load("batch", _arrays(texts))
        try:
            # A record alone has all of the time: a slow machine must not make it a failure.
            result = self._engine.rows(
                self._sql, self._time_limit_s if len(texts) == 1 else limit_s
            )
        except (duckdb.Error, QueryStopped) as error:
            return self._query_parts(texts, failures, deadline, limit_s, error)
        assert self._source is not None
        return self._columns.rows(result, self._source.name)

    def _query_parts(
        self,
        texts: list[tuple[Record, str]],
        failures: list[RowError],
        deadline: float,
        limit_s: float,
        error: Exception,
    ) -> list[Row | RowError]:
        """Return the rows of records on which the query failed together."""
        # Past the deadline records share the failure of their neighbours: the time is bounded.
        if len(texts) == 1 or time.monotonic() > deadline:
            failures += [RowError(record.line, _message(error)) for record, _ in texts]
            return []
        middle = len(texts) // 2
        half_s = max(limit_s / 2, self._time_limit_s / SHORTEST_PART)
        return [
            *self._query(texts[:middle], failures, deadline, half_s),
            *self._query(texts[middle:], failures, deadline, half_s),
        ]


def read_sql(name: str, path: Path, fix: str, database: LockedDatabase | None = None) -> SqlMapping:
    """Return the mapping in a file. Raises SqlMappingError."""
    text = read_text(path, name, fix=fix, error=SqlMappingError)
    return SqlMapping(text, str(path), database=database)


def _file_options(options: dict[str, str]) -> FileOptions:
    columns, required, optional = (
        _names(name, options.pop(name, "")) for name in ("columns", "required", "optional")
    )
    rows = options.pop("rows", None)
    if rows is not None and rows.startswith('"'):
        rows = _decode_option("rows", rows, str, 'a.b or "a.b"')
    return FileOptions(
        columns=columns or None, required=required, optional=optional, rows=rows, **options
    )


def _names(option: str, text: str) -> tuple[str, ...]:
    """Return the names in a list `a, b`, or in a JSON list if they have commas.

    Raises SqlMappingError.
    """
    if not text.startswith("["):
        return tuple(part.strip() for part in text.split(",")) if text else ()
    return _decode_option(option, text, tuple[str, ...], 'a, b or ["a, b"]')


def _decode_option(option: str, text: str, kind: type[_Value], example: str) -> _Value:
    """Return the value of an option that is written as JSON. Raises SqlMappingError."""
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.DecodeError as error:
        raise SqlMappingError(
            f"{option}: no JSON text or list: {error}; write {example}"
        ) from error


def _options(sql: str) -> dict[str, str]:
    """Return the options in the comments before the SELECT."""
    options: dict[str, str] = {}
    # A comment of SQL ends at these only: `splitlines` knows more.
    for line in re.split(r"[\r\n]", sql):
        if line.strip() and not line.startswith("--"):
            break
        if match := OPTION.match(line):
            value = match[2]
            # Quotes show a blank, and a delimiter that may be a quote itself.
            is_quoted = match[1] == "delimiter" and len(value) > 2 and value[0] == value[-1]
            options[match[1]] = value[1:-1] if is_quoted else value
    return options


def _arrays(texts: Sequence[tuple[Record, str]]) -> dict[str, np.ndarray[Any, Any]]:
    """Return the table `batch` of these records."""
    # DuckDB reads arrays of objects and masked arrays in place: no copy, no Arrow.
    size = len(texts)
    lines = np.empty(size, np.int64)
    stamps, numbers = (np.ma.masked_array(np.zeros(size, np.int64), mask=True) for _ in range(2))
    raw, keys, headers = (np.empty(size, object) for _ in range(3))
    for index, (record, text) in enumerate(texts):
        lines[index], raw[index], keys[index] = record.line, text, record.key
        if record.timestamp_ms is not None:
            stamps[index] = record.timestamp_ms
        if record.number is not None:
            numbers[index] = record.number
        if record.headers:
            headers[index] = json.dumps(dict(record.headers))
    return {
        "line": lines,
        "number": numbers,
        "raw": raw,
        "key": keys,
        "timestamp": stamps,
        "headers": headers,
    }


def _usable_text(record: Record) -> str | RowError:
    """Return the record's JSON as the database reads it."""
    try:
        text = record.text
        # DuckDB alone accepts a comma before a closing bracket.
        _check_syntax(text)
    except UnicodeDecodeError as error:
        return RowError(record.line, f"not UTF-8: {error}")
    except (msgspec.DecodeError, RecursionError):
        return _strict_text(record)
    return text


def _strict_text(record: Record) -> str | RowError:
    """Return the JSON of a record with NaN or half a surrogate pair; an error if it is no JSON."""
    try:
        value = decode_json(record.content)
    except (ValueError, RecursionError) as error:
        return RowError(record.line, f"not JSON: {error}; write one JSON value a line")
    return json.dumps(replace_half_pairs(value), ensure_ascii=False)


def _message(error: Exception) -> str:
    """Return an error of the database in one line, without the query and hints."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(line for line in lines[:2] if not line.startswith(("LINE", "^")))
    return text if len(text) <= _MESSAGE_MAX else f"{text[: _MESSAGE_MAX - 3]}..."
