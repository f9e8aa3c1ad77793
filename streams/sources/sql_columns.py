"""Convert the columns of a query's result to events.

A value that cannot become its field costs the field, not the row; so do the texts that a mapping
passes on for numbers. Whole columns are checked at once, as nearly all are usable.
"""

import math
from collections.abc import Callable, Sequence
from types import NoneType
from typing import Any, get_args

import msgspec

from streams.events.epoch import EARLIEST_MS, LATEST_MS, epoch_unit
from streams.events.fields import FIELDS, MAX_STATUS, MAX_TEXT, MAX_TIME_MS
from streams.sources.conversion import (
    HALF_MICROSECOND_MS,
    KINDS,
    MAX_NUMBER,
    Unusable,
    converter,
    epoch_ms,
    excerpt,
    instant_ms,
    number,
)
from streams.sources.files import INFINITE_TEXTS, RowError, decode_json
from streams.sources.rows import Row, find_problem

_INTEGERS = {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT"}
_INTEGERS |= {f"U{name}" for name in _INTEGERS}
_PLAIN = {*_INTEGERS, "DOUBLE", "FLOAT", "BOOLEAN", "VARCHAR"}
_WORDS = {
    field.name: frozenset(get_args(field.kind.type))
    for field in FIELDS
    if KINDS.get(field.name) == "choice"
}

# The largest number of each kind of field that needs no look at the single value.
_LARGEST = {"whole": MAX_NUMBER - 1, "duration": MAX_NUMBER - 1, "status": MAX_STATUS}

# Texts that are no names: numbers that are not finite, and the text of an empty column.
_NO_NAMES = frozenset(("", *INFINITE_TEXTS))

_NAMES = ("label", "text")  # kinds of fields that are names
_MARKS = {"unusable", "fix"}  # the members of a result of the macro `unusable`

Column = Sequence[Any]


class ResultColumns:
    """The columns of a mapping's result. Raises ValueError for a type that is no field's.

    `select`: the expressions that bring each column to a type with a plain Python value.
    """

    def __init__(self, types: dict[str, str]) -> None:
        self._names = list(types)
        self.select = ", ".join(_expression(name, kind) for name, kind in types.items())
        self._line = self._names.index("line")
        self._ended_at = self._names.index("ended_at")
        self._fields = [
            (index, name, converter(name))
            for index, name in enumerate(self._names)
            if name in KINDS and name != "request_id"
        ]
        self._json = [index for index, kind in enumerate(types.values()) if kind == "JSON"]
        self._request_id = types.keys() & {"request_id"} and self._names.index("request_id")

    def rows(self, result: list[tuple[Any, ...]], source: str) -> list[Row | RowError]:
        """Return an event or an error for each row of the result."""
        if not result:
            return []
        columns: list[Column] = list(zip(*result, strict=True))
        for index in self._json:
            columns[index] = [_decode_value(text) for text in columns[index]]
        lines = columns[self._line]
        # Messages by row, for the few rows that have some.
        problems: dict[int, dict[str, str]] = {}
        values = [
            (name, _convert_column(name, columns[index], convert, problems))
            for index, name, convert in self._fields
        ]
        ids = self._ids(columns, lines, source, problems)
        instants = _instants(columns[self._ended_at])
        given = {"request_id": ids, "ended_at": instants, **dict(values)}
        kinds = {name: set(map(type, column)) for name, column in given.items()}
        # A field that no row has, or that all have, needs no look at each row.
        names = [name for name, types in kinds.items() if types != {NoneType}]
        seldom = [name for name in names if NoneType in kinds[name]]
        found: list[Row | RowError] = []
        cells = zip(*(given[name] for name in names), strict=True)
        for index, (line, row) in enumerate(zip(lines, cells, strict=True)):
            left_out = problems.get(index, {})
            ended_at_ms = row[1]
            if isinstance(ended_at_ms, Unusable):
                found.append(RowError(line, f"ended_at: {ended_at_ms}"))
                continue
            event = dict(zip(names, row, strict=True))
            for name in seldom:
                if event[name] is None:
                    del event[name]
            # Most rows have an outcome, and no text to search.
            problem = None if "outcome" in event else find_problem(event, left_out)
            if problem is None and "request_id" in left_out:
                problem = left_out["request_id"]
            if problem is not None:
                found.append(RowError(line, problem))
            else:
                found.append(Row(line, event, ended_at_ms, tuple(left_out.values())))
        return found

    def _ids(
        self,
        columns: Sequence[Column],
        lines: Column,
        source: str,
        problems: dict[int, dict[str, str]],
    ) -> Column:
        prefix = source[: MAX_TEXT - 20]  # leaves room for any line number
        if isinstance(self._request_id, int):
            given = columns[self._request_id]
            # A record without an id of its own is still one request.
            ids = _convert_column("request_id", given, converter("request_id"), problems)
            if None not in ids:
                return ids
        else:
            ids = [None] * len(lines)
        return [
            f"{prefix}-{line}" if given is None else given
            for given, line in zip(ids, lines, strict=True)
        ]


def _expression(name: str, kind: str) -> str:
    """Return the SQL that brings a column to a type with a plain Python value."""
    quoted = f'"{name}"'
    if kind in _PLAIN:
        return quoted
    if kind.startswith("DECIMAL"):
        return f"{quoted}::DOUBLE AS {quoted}"
    if kind == "JSON":
        return f"{quoted}::VARCHAR AS {quoted}"
    if name == "ended_at" and kind.startswith("TIMESTAMP"):
        return f"epoch_us({quoted}) / 1000 AS {quoted}"
    if kind == "UUID" or kind.startswith("ENUM"):
        return f"{quoted}::VARCHAR AS {quoted}"
    if kind in ('"NULL"', "NULL"):
        return f"{quoted}::VARCHAR AS {quoted}"
    raise ValueError(f"{name}: found the type {kind}; cast it to a number, a text or a boolean")


def _decode_value(text: str | None) -> Any:
    """Return the value of a JSON text; for a result of the macro `unusable`, the reason."""
    if text is None:
        return None
    try:
        value = msgspec.json.decode(text)
    except msgspec.DecodeError:  # DuckDB passes on NaN and 1e999
        value = decode_json(text.encode())
    if type(value) is dict and value.keys() == _MARKS:
        return Unusable(value["unusable"], str(value["fix"]))
    return value


def _convert_column(
    name: str,
    column: Column,
    convert: Callable[[Any], Any],
    problems: dict[int, dict[str, str]],
) -> Column:
    """Return the values of a field; None for null, the empty text and an unusable value."""
    if _is_usable(name, column):
        return column
    values: list[Any] = []
    for index, value in enumerate(column):
        if value is None or value == "":
            values.append(None)
            continue
        try:
            if isinstance(value, Unusable):
                raise value
            if value in INFINITE_TEXTS and KINDS[name] in _NAMES:
                raise Unusable(float(value), "write a text or a finite number")
            values.append(convert(value))
        except Unusable as unusable:
            problems.setdefault(index, {})[name] = f"{name}: {unusable}"
            values.append(None)
    return values


def _is_usable(name: str, column: Column) -> bool:
    """Return whether all values of a column are the field's already."""
    kinds = set(map(type, column))
    kinds.discard(type(None))
    # All null: no row has the field.
    if not kinds:
        return True
    kind = KINDS[name]
    if kind == "choice":
        return kinds == {str} and set(column) - {None} <= _WORDS[name]
    if kind in _NAMES:
        return kinds == {str} and _NO_NAMES.isdisjoint(column)
    if kind == "truth":
        return kinds == {bool}
    if kinds == {int} or (kind == "duration" and kinds <= {int, float}):
        given = [value for value in column if value is not None]
        # A NaN makes the sum one, but may hide from minimum and maximum. These come first, as the
        # sum of larger numbers may be beyond any float.
        is_in_range = min(given) >= 0 and max(given) <= _LARGEST.get(kind, -1)
        return is_in_range and not math.isnan(sum(given))
    return False


_from_text = instant_ms(None, None)


def _instants(column: Column) -> list[int | Unusable]:
    """Return milliseconds since the epoch for each value, or why it is no time."""
    # Most columns are times of this century in milliseconds, which need no look at each value.
    are_numbers = set(map(type, column)) <= {int, float}
    if are_numbers and min(column) >= EARLIEST_MS and max(column) <= LATEST_MS:
        return [math.floor(value + HALF_MICROSECOND_MS) for value in column]
    instants: list[int | Unusable] = []
    for value in column:
        try:
            instants.append(_instant(value))
        except Unusable as unusable:
            instants.append(unusable)
    return instants


def _instant(value: Any) -> int:
    """Return milliseconds since the epoch. Raises Unusable."""
    if isinstance(value, Unusable):
        raise value
    if value is None:
        raise Unusable(value, "select the time at which the request ended")
    at_ms = _text_ms(value) if isinstance(value, str) else epoch_ms(value)
    ended_at_ms: int = math.floor(at_ms + HALF_MICROSECOND_MS)
    if not 0 <= ended_at_ms <= MAX_TIME_MS:
        raise Unusable(value, f"write milliseconds since 1970; {excerpt(ended_at_ms)} is no time")
    return ended_at_ms


def _text_ms(text: str) -> float:
    """Return milliseconds since the epoch of RFC 3339, or of a number as text.

    Raises Unusable; digits that are no time in any unit, such as 20260131, are no number here.
    """
    try:
        unit = epoch_unit(number(text))
    except Unusable:
        unit = None
    return _from_text(text) if unit is None else epoch_ms(text)
