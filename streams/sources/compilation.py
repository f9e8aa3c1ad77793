"""Compile a mapping to one function for each field, which reads its value from a row.

A row then costs little more than the calls of these functions.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from streams.events.fields import MAX_TEXT
from streams.sources.conversion import (
    KINDS,
    NUMERIC,
    Convert,
    Unusable,
    amount_ms,
    code,
    converter,
    epoch_ms,
    excerpt,
    instant_ms,
    number,
)
from streams.sources.declaration import PLACEHOLDER, FieldSource, Mapping, Term, Time, When
from streams.sources.files import RawRow, UnreadableFile

Get = Callable[[RawRow], Any]  # a field's value, None for null; raises Unusable


class FieldCompiler:
    """Compiles the functions that read a field from a row of one file.

    `columns`: the header of a CSV file; None if rows are JSON objects. Raises UnreadableFile
    for a column that the header lacks.
    """

    def __init__(self, path: Path, mapping: Mapping, columns: list[str] | None) -> None:
        self._path = path
        self._columns = columns
        self._zone = ZoneInfo(mapping.time.zone) if mapping.time.zone else None
        self.stem = path.name.removesuffix(".gz").rsplit(".", 1)[0]
        self.id_prefix = self.stem[: MAX_TEXT - 20]  # leaves room for any line number
        self.origins = {name: _origin(source) for name, source in mapping.fields.items()}
        self.origins["time"] = f"(column {mapping.time.column})"

    def time(self, time: Time) -> Callable[[int, RawRow], float]:
        """Return a function from (index of the row, row) to its instant in milliseconds."""
        if time.every is not None:
            every_ms = amount_ms(time.unit or "s")(time.every)
            return lambda index, raw: index * every_ms
        fetch = self._fetch(str(time.column), "time")
        if time.unit is None:
            convert = instant_ms(self._zone, time.format)
        else:
            convert = epoch_ms(time.unit) if time.kind == "epoch" else amount_ms(time.unit)
        return lambda index, raw: convert(fetch(raw))

    def field(self, name: str, source: FieldSource) -> Get:
        """Return the function that reads a field; it returns None if the row has no value."""
        unit = source.unit if source.unit and source.unit != "timestamp" else "ms"
        convert = converter(name, unit)
        if source.constant is not None:
            constant = convert(source.constant)
            get: Get = lambda raw: constant  # noqa: E731 - one of several ways to make it
        elif source.add is not None:
            get = self._sum(name, source, converter(name))
        elif source.template is not None:
            get = self._value(name, source, self._template(name, source), convert)
        else:
            fetch = self._fetch(str(source.column), f"fields.{name}", source.optional)
            get = self._value(name, source, fetch, convert)
        return get if source.when is None else self._conditional(name, source.when, get)

    def _fetch(self, column: str, where: str, optional: bool = False) -> Get:
        """Return the function that reads a column; None if an optional one is absent."""
        if self._columns is None:
            return _json_fetch(column, optional)
        occurrences = self._columns.count(column)
        if occurrences == 1:
            index = self._columns.index(column)
            return lambda raw: raw.values[index]
        # A name given twice is refused even if optional: either column may be the right one.
        if occurrences == 0 and optional:
            return lambda raw: None
        listed = ", ".join(self._columns[:12])
        raise UnreadableFile(
            f"{self._path}: {occurrences or 'no'} columns named {column!r} for {where}; correct "
            f"the mapping, or set optional: true; the file has {excerpt(listed)}"
        )

    def _value(self, name: str, source: Term, fetch: Get, convert: Convert) -> Get:
        """Add nulls, default, table and conversion to the function that reads a column."""
        # JSON has numbers where CSV has text: compare both forms.
        nulls = (*source.nulls, *(code(null) for null in source.nulls))
        default = source.default
        # The default of a term is a number in the term's place; that of a field is a value of it.
        if default is not None and isinstance(source, FieldSource):
            default = converter(name)(default)
        if isinstance(source, FieldSource) and source.table is not None:
            plain = converter(name)
            table = {
                code(key): None if value is None else plain(value)
                for key, value in source.table.items()
            }

            def translate(raw: RawRow) -> Any:
                value = fetch(raw)
                # A null may have a line of its own, under the key `null`.
                key = None if value in nulls else code(value)
                if key in table:
                    return table[key]
                if key is None or default is not None:
                    return default
                raise Unusable(value, "unknown code: add it to `table`, or give a `default`")

            return translate

        def plain_value(raw: RawRow) -> Any:
            value = fetch(raw)
            return default if value is None or value in nulls else convert(value)

        numbers = {null for null in source.nulls if type(null) in (int, float)}
        # The common case needs no conversion before the comparison.
        if not numbers or KINDS[name] not in NUMERIC:
            return plain_value

        def unless_number(raw: RawRow) -> Any:  # a null of 0 also matches the text "0.000"
            value = fetch(raw)
            if value is None or value in nulls or number(value) in numbers:
                return default
            return convert(value)

        return unless_number

    def _sum(self, name: str, source: FieldSource, convert: Convert) -> Get:
        """Return the function for `add` minus `subtract`; None if any term is null."""
        signed = [(1, self._term(name, term)) for term in source.add or []]
        signed += [(-1, self._term(name, term)) for term in source.subtract]
        default = None if source.default is None else convert(source.default)

        def get(raw: RawRow) -> Any:
            # A sum with an unknown part is unknown, not smaller.
            total: int | float = 0
            for sign, term in signed:
                value = term(raw)
                if value is None:
                    return default
                total += sign * value
            if total < 0:  # and not -1 for "not measured"
                raise Unusable(total, "correct the columns: the result is below 0")
            return convert(total)

        return get

    def _term(self, name: str, term: Term) -> Get:
        fetch = self._fetch(str(term.column), f"fields.{name}", term.optional)
        # Differences of timestamps are milliseconds, like those of converted durations.
        if term.unit == "timestamp":
            convert = instant_ms(self._zone, None)
        elif KINDS[name] == "duration":
            convert = amount_ms(term.unit or "ms")
        else:
            convert = number
        return self._value(name, term, fetch, convert)

    def _template(self, name: str, source: FieldSource) -> Get:
        """Return the function that fills in the `{...}` of a template; None if any is null.

        A null is the empty text if the table has a line for the text that then results.
        """
        codes = {code(key) for key in source.table or {}}
        pieces: list[str | Get] = []
        # Pieces at odd places are the names between braces.
        for index, piece in enumerate(PLACEHOLDER.split(source.template or "")):
            if index % 2 == 0:
                pieces.append(piece)
            elif piece == "@file":
                pieces.append(self.stem)
            elif piece == "@line":
                pieces.append(lambda raw: raw.line)
            elif piece == "@key":
                pieces.append(lambda raw: raw.key)
            else:
                pieces.append(self._fetch(piece, f"fields.{name}", source.optional))

        def get(raw: RawRow) -> str | None:
            texts = [piece if isinstance(piece, str) else code(piece(raw)) for piece in pieces]
            result = "".join(text or "" for text in texts)
            # Without a line of its own, "a-" must not become an id or a name.
            return result if None not in texts or result in codes else None

        return get

    def _conditional(self, name: str, when: When, get: Get) -> Get:
        fetch = self._fetch(when.column, f"fields.{name}.when")
        codes = {code(value) for value in when.among or when.not_among or []}
        expected = when.among is not None
        return lambda raw: get(raw) if (code(fetch(raw)) in codes) is expected else None


def _json_fetch(column: str, optional: bool) -> Get:
    """Return a function that reads `a.b`: the member of that name, else b within a.

    Names may contain dots themselves, so the longest name is tried first.
    """
    missing = object()  # None is a value: null
    parts = column.split(".")

    def search(value: Any, start: int) -> Any:
        if start == len(parts):
            return value
        # A null group makes all of its members null.
        if value is None:
            return None
        if isinstance(value, dict):
            for stop in range(len(parts), start, -1):
                key = ".".join(parts[start:stop])
                if key in value and (member := search(value[key], stop)) is not missing:
                    return member
        return missing

    def fetch(raw: RawRow) -> Any:
        values = raw.values
        # Most columns are members of the row itself, which needs no search.
        member = values[column] if column in values else search(values, 0)
        if member is missing:
            if optional:
                return None
            raise Unusable(
                list(values), f"no {column!r} among these; correct it, or set optional: true"
            )
        return member

    return fetch


def _origin(source: FieldSource) -> str:
    """Return the columns of a field, for messages."""
    if source.column is not None:
        return f"(column {source.column})"
    if source.add is not None:
        terms = [*source.add, *source.subtract]
        return f"(columns {', '.join(str(term.column) for term in terms)})"
    return f"(template {source.template})"
