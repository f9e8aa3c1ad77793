"""Translate a mapping in YAML to one in SQL with the same results (docs/mappings-yaml.md).

Pure. Values stay JSON as long as their type is not known: what the reader cannot convert to a field
it reports with the value, as `streams/sources/values.sql` describes.
"""

import json
import re
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

from streams.events.epoch import UNITS
from streams.sources.conversion import EPOCH, KINDS, NUMERIC, code, converter
from streams.sources.declaration import PLACEHOLDER, FieldSource, Mapping, Term, Time, When
from streams.sources.sql_text import (
    Case,
    case_of,
    extract_all,
    literal,
    number_in_ms,
    number_literal,
    path_literal,
    paths_of,
    select_lines,
    text_literal,
    text_literals,
)

NO_NUMBER = "write a number, or make it null"


def translate(mapping: Mapping) -> str:
    """Return the SQL of a mapping, with comments that say how its files are read."""
    query = _Query(mapping)
    return "\n".join([*_comments(mapping, query), *query.lines(), ""])


def _comments(mapping: Mapping, query: "_Query") -> list[str]:
    comments = {
        "about": " ".join(mapping.about.split()),
        "format": mapping.format,
        "rows": _path(mapping.rows or ""),
    }
    if mapping.format == "csv":
        comments["delimiter"] = f"'{mapping.csv.delimiter}'"
        comments["columns"] = _name_list(mapping.csv.columns or [])
        required = [name for name, is_required in query.read.items() if is_required]
        comments["required"] = _name_list(required)
        comments["optional"] = _name_list([name for name in query.read if name not in required])
    return [f"-- {key}: {text}" for key, text in comments.items() if text]


def _name_list(names: Sequence[str]) -> str:
    text = ", ".join(names)
    # Names with commas, or with characters such as a line end, are a JSON list.
    is_list = not text.startswith("[") and [part.strip() for part in text.split(",")] == [*names]
    is_plain = is_list and text.isprintable()
    return text if is_plain or not names else json.dumps(names, ensure_ascii=not text.isprintable())


def _path(text: str) -> str:
    is_plain = text.isprintable() and text.strip() == text and not text.startswith('"')
    return text if is_plain else json.dumps(text)


class _Query:
    """The query of one mapping. `read`: the columns that it reads, and whether each is required."""

    def __init__(self, mapping: Mapping) -> None:
        self._mapping = mapping
        self.read: dict[str, bool] = {}
        row = _Row(mapping, "r", "c_", self.read)
        time = mapping.time
        # From the arrival to the end, or back.
        self._step = (time.count_at == "end") - (time.marks == "end")
        self._fields = {name: row.field(name, field) for name, field in mapping.fields.items()}
        self._clock = {"instant": row.time(time)}
        rows = [row]
        if self._step and "duration_ms" in mapping.fields:
            self._clock["took"] = _as_json(self._fields["duration_ms"])
        if time.origin == "first":
            first = _Row(mapping, "first", "f_", {})
            rows.append(first)
            self._clock["first_instant"] = first.time(time)
            if "took" in self._clock:
                duration = first.field("duration_ms", mapping.fields["duration_ms"])
                self._clock["first_took"] = _as_json(duration)
        self._layers = {
            "members": _merge(row.members for row in rows),
            "cells": _merge(row.columns for row in rows),
            "codes": _merge(row.codes for row in rows),
            "texts": _merge(row.texts for row in rows),
            "clock": self._clock,
        }

    def lines(self) -> list[str]:
        """Return the lines of the SELECT."""
        lines: list[str] = []
        table = "records"
        # Each layer uses the columns of those before it, which would else be computed repeatedly.
        for name, columns in self._layers.items():
            if columns:
                lines.append(f"), {name} AS (" if lines else f"WITH {name} AS (")
                lines += select_lines("*", columns, table, "    ")
                table = name
        fields = {"ended_at": self._ended_at(), **self._fields}
        return [*lines, ")", *select_lines("line", fields, table, "")]

    def _ended_at(self) -> str:
        instant = self._instant("")
        if "first_instant" in self._clock:
            instant = f"{instant} - ({self._instant('first_')})"
        start = "0"
        if self._mapping.time.base is not None:
            base_ms = (self._mapping.time.base - EPOCH) // timedelta(milliseconds=1)
            start = f"coalesce(base, {base_ms})"
        return case_of(
            [("number_of(instant) IS NULL", "instant")], f"counted_at({instant}, {start})"
        )

    def _instant(self, prefix: str) -> str:
        """Return the milliseconds at which a request is counted: its time moved by its duration."""
        instant = f"number_of({prefix}instant)"
        if "took" not in self._clock:
            return instant
        sign = "+" if self._step > 0 else "-"
        # A row without a usable duration is not moved.
        took = f"greatest(coalesce(number_of({prefix}took), 0), 0)"
        return f"{instant} {sign} {took}"


class _Row:
    """Expressions over one record, the JSON value `root`.

    `members`: all values that are read from it, in one list, as each call of `json_extract` parses
    the whole record; `columns`: these values by name; `codes`: of some columns; `texts`: of
    templates, from codes. Their names begin with the root, with `c_` or `f_`, `k_` and `t_`, as no
    other name of the query does.
    """

    def __init__(self, mapping: Mapping, root: str, prefix: str, read: dict[str, bool]) -> None:
        self._is_table = mapping.format == "csv"
        self._root = root
        self._prefix = prefix
        self._read = read
        self._names: dict[str, str] = {}
        self._paths: dict[str, int] = {}  # literals of paths, by their place in the list
        self.columns: dict[str, str] = {}
        self.codes: dict[str, str] = {}
        self.texts: dict[str, str] = {}

    @property
    def members(self) -> dict[str, str]:
        """The list of all values, by its name in SQL."""
        return {self._list: extract_all(self._root, list(self._paths))} if self._paths else {}

    @property
    def _list(self) -> str:
        return f"{self._root}_members"

    def _extract(self, path: Sequence[str]) -> str:
        """Return the value at a path of names."""
        place = self._paths.setdefault(path_literal(path), len(self._paths) + 1)
        return f"{self._list}[{place}]"

    def time(self, time: Time) -> str:
        """Return the instant of the row in milliseconds as JSON."""
        if time.every is not None:
            every_ms = time.every * UNITS[time.unit or "s"][0] / UNITS[time.unit or "s"][1]
            # A topic has no first record: its offsets count.
            number = "first_number" if self._root == "first" else "number"
            instant = f"to_json(coalesce({number} - 1, line) * {number_literal(every_ms)})"
            fix = "write one object a line"
            return case_of(
                [(f"json_type({self._root}) <> 'OBJECT'", f"unusable({self._root}, '{fix}')")],
                instant,
            )
        name = str(time.column)
        column = self._column(name, is_required=True)
        if time.unit is None:
            zone, pattern = (
                text_literal(text) if text else "NULL" for text in (time.zone, time.format)
            )
            instant = f"text_time({column}, {zone}, {pattern})"
        else:
            macro = "epoch_time" if time.kind == "epoch" else "relative_time"
            instant = f"{macro}({column}, {number_in_ms(column, time.unit)})"
        return case_of(self._absent(time, column), instant)

    def field(self, name: str, source: FieldSource) -> str:
        """Return the expression of a field: a value, or JSON."""
        if source.constant is not None:
            value = literal(converter(name)(source.constant))
        elif source.add is not None:
            value = self._sum(name, source)
        elif source.template is not None:
            value = self._template(name, source)
        else:
            column = self._column(str(source.column), not source.optional)
            cases = self._absent(source, column)
            value = self._value(name, source, column, cases)
        return value if source.when is None else self._conditional(source.when, value)

    def _column(self, name: str, is_required: bool) -> str:
        """Return the name in SQL of a column of the file."""
        self._read[name] = self._read.get(name, False) or is_required
        if name not in self._names:
            plain = re.sub(r"\W+", "_", name, flags=re.ASCII)
            alias = f"{self._prefix}{plain}"
            # The names of SQL do not differ in case only.
            while alias.lower() in {used.lower() for used in self.columns}:
                alias += "_"
            self._names[name] = alias
        alias = self._names[name]
        self.columns[alias] = self._member(name, self._read[name])
        return alias

    def _code(self, column: str) -> str:
        """Return the name in SQL of the code of a column."""
        alias = f"k_{column}"
        self.codes[alias] = f"code_of({column})"
        return alias

    def _member(self, name: str, is_required: bool) -> str:
        """Return the member `a.b` of the record: of that name, else b within a."""
        parts = name.split(".")
        if self._is_table or len(parts) == 1:
            return self._extract([name])
        # Names may have dots themselves: the longest name comes first.
        candidates = [self._extract(path) for path in paths_of(parts)]
        # A null group makes all of its members null.
        groups = [
            f"null_of({self._extract(path)})"
            for length in range(len(parts) - 1, 0, -1)
            for path in paths_of(parts[:length])
            if is_required
        ]
        listed = ",\n".join([*candidates, *groups])
        return f"coalesce({listed})"

    def _absent(
        self, source: Term | Time | When, column: str, name: str | None = None
    ) -> list[Case]:
        """Return the case of a column that a record lacks; the header of a table has it."""
        if self._is_table or (isinstance(source, Term) and source.optional):
            return []
        name = name or str(source.column)
        return [(f"{column} IS NULL", f"missing({self._root}, {text_literal(name)})")]

    def _value(self, name: str, source: Term, json_sql: str, cases: list[Case]) -> str:
        """Return JSON with its nulls, default, table and unit applied, after `cases`."""
        default = source.default
        if default is not None and isinstance(source, FieldSource):
            default = converter(name)(default)
        if isinstance(source, FieldSource) and source.table is not None:
            return self._translated(name, source, json_sql, cases, default)
        unit = source.unit if source.unit and source.unit != "timestamp" else "ms"
        value = json_sql
        if KINDS[name] == "duration" and unit != "ms":
            value = f"duration_of({json_sql}, {number_in_ms(json_sql, unit)})"
        # The reader takes null and '' for null itself.
        if default is not None or source.nulls != [""]:
            cases = [*cases, (_null_condition(name, source.nulls, json_sql), _json(default))]
        if "" not in source.nulls and KINDS[name] != "error":
            fix = "write a value, or list it in `nulls`"
            cases = [*cases, (f"text_of({json_sql}) = ''", f"unusable({json_sql}, '{fix}')")]
        # Short for the most frequent case.
        if len(cases) == 1 and value == json_sql and cases[0][0] == f"{json_sql} IS NULL":
            return f"coalesce({json_sql}, {cases[0][1]})"
        return case_of(cases, value)

    def _translated(
        self, name: str, source: FieldSource, json_sql: str, cases: list[Case], default: Any
    ) -> str:
        """Return the values of a `table`, by the code of the column."""
        plain = converter(name)
        table = {
            code(key): None if value is None else plain(value)
            for key, value in (source.table or {}).items()
        }
        text = self._text_name(name)
        code_sql = f"nullif({text}, '')" if text in self.texts else self._code(json_sql)
        is_null = f"{code_sql} IS NULL"
        if source.nulls != [""]:
            is_null = f"{is_null} OR {_null_condition(name, source.nulls, json_sql)}"
        lines = [(is_null, _json(table.get(None, default)))]
        lines += [
            (f"{code_sql} = {text_literal(key)}", _json(value))
            for key, value in table.items()
            if key is not None
        ]
        fix = "unknown code: add it to `table`, or give a `default`"
        otherwise = f"unusable({json_sql}, '{fix}')" if default is None else _json(default)
        return case_of([*cases, *lines], otherwise)

    def _sum(self, name: str, source: FieldSource) -> str:
        """Return `add` minus `subtract`; null if a term is null: a part of a sum is no sum."""
        default = None if source.default is None else converter(name)(source.default)
        cases: list[Case] = []
        total = ""
        signed = [("+", term) for term in source.add or []]
        signed += [("-", term) for term in source.subtract]
        for sign, term in signed:
            column = self._column(str(term.column), not term.optional)
            cases += self._absent(term, column)
            is_null = _null_condition(name, term.nulls, column)
            number, failure = _term(name, term, column)
            if term.default is None:
                cases.append((is_null, _json(default)))
            else:
                number = (
                    f"CASE WHEN {is_null} THEN {number_literal(term.default)} ELSE {number} END"
                )
            cases.append((f"{number} IS NULL", failure))
            total = f"{total} {sign} {number}" if total else number
        return case_of(cases, f"not_below_0({total})")

    def _template(self, name: str, source: FieldSource) -> str:
        """Return the text of a template, null if a part of it is null.

        A null is the empty text if the table has a line for the text that then results.
        """
        cases: list[Case] = []
        pieces: list[str] = []
        # Pieces at odd places are the names between braces.
        for index, piece in enumerate(PLACEHOLDER.split(source.template or "")):
            if index % 2 == 0:
                pieces += [text_literal(piece)] if piece else []
            elif piece.startswith("@"):
                special = {"@file": "source", "@line": "line::VARCHAR", "@key": "nullif(key, '')"}
                pieces.append(special[piece])
            else:
                column = self._column(piece, not source.optional)
                cases += self._absent(source, column, piece)
                pieces.append(self._code(column))
        text = " || ".join(pieces)
        codes = [code(key) for key in source.table or {}]
        if known := [key for key in codes if key is not None]:
            filled = " || ".join(
                piece if piece.startswith("'") else f"coalesce({piece}, '')" for piece in pieces
            )
            is_given = f"{text} IS NOT NULL OR {filled} IN ({text_literals(known)})"
            text = f"CASE WHEN {is_given} THEN {filled} END"
        alias = self._text_name(name)
        self.texts[alias] = text
        return self._value(name, source, _as_json(alias), cases)

    def _text_name(self, field: str) -> str:
        return f"t_{self._prefix}{field}"

    def _conditional(self, when: When, value: str) -> str:
        column = self._column(when.column, is_required=True)
        codes = [code(item) for item in when.among or when.not_among or []]
        known = [item for item in codes if item is not None]
        code_sql = self._code(column)
        applies = f"{code_sql} IS NULL" if None in codes else "false"
        if known:
            listed = f"{code_sql} IN ({text_literals(known)})"
            applies = f"coalesce({listed}, {literal(None in codes)})"
        if when.among is None:
            applies = f"NOT ({applies})"
        return case_of([*self._absent(when, column), (applies, _as_json(value))], "NULL")


def _merge(layers: Iterable[dict[str, str]]) -> dict[str, str]:
    return {name: sql for layer in layers for name, sql in layer.items()}


def _term(name: str, term: Term, column: str) -> Case:
    """Return the number of a term of a sum, and the failure if it is null."""
    if term.unit == "timestamp":
        instant = f"text_time({column}, NULL, NULL)"
        return f"number_of({instant})", instant
    number = number_in_ms(column, term.unit or "ms") if KINDS[name] == "duration" else None
    return number or f"number_of({column})", f"unusable({column}, '{NO_NUMBER}')"


def _null_condition(name: str, nulls: Sequence[Any], json_sql: str) -> str:
    """Return whether a value is null, or one of those that mean null."""
    conditions = [f"is_empty({json_sql})" if "" in nulls else f"is_null({json_sql})"]
    # JSON has numbers where CSV has text: both forms are compared.
    texts = [null if isinstance(null, str) else code(null) for null in nulls]
    if listed := [text for text in dict.fromkeys(texts) if text]:
        conditions.append(f"text_of({json_sql}) IN ({text_literals(listed)})")
    amounts = [float(null) for null in nulls if isinstance(null, int | float)]
    if amounts:
        conditions.append(f"amount_of({json_sql}) IN ({', '.join(map(number_literal, amounts))})")
    numbers = [float(null) for null in nulls if type(null) in (int, float)]
    if numbers and KINDS[name] in NUMERIC:  # a null of 0 also matches the text "0.000"
        conditions.append(f"number_of({json_sql}) IN ({', '.join(map(number_literal, numbers))})")
    return " OR ".join(conditions)


def _as_json(value: str) -> str:
    return f"to_json({value})"


def _json(value: Any) -> str:
    return "NULL" if value is None else f"to_json({literal(value)})"
