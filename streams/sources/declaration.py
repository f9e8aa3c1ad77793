"""The model of a mapping file in YAML, validated when it is read (docs/mappings-yaml.md).

Every problem is one line, `file: key: value; fix`. Only problems of the data are left for later:
a column that is missing, or a text instead of a number.
"""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from streams.config.validation import findings
from streams.config.yaml_file import parse_document, read_text
from streams.errors import ConfigError
from streams.events.epoch import Unit
from streams.sources.conversion import KINDS, Unusable, code, constant_converter, excerpt

SHIPPED = Path(__file__).parent / "mappings"
PLACEHOLDER = re.compile(r"\{([^{}]+)\}")
SPECIAL_NAMES = ("@file", "@line", "@key")  # that a template may contain besides columns


class MappingError(ConfigError):
    """A mapping that cannot be used: one line with file, key, problem and fix."""


class Part(BaseModel):
    """A part of a mapping. An unknown key is an error, as it is usually misspelled."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


def _column(value: Any) -> Any:
    return {"column": value} if isinstance(value, str) else value


class When(Part):
    """True if the column has one of these values (`is`), or none of them (`is_not`)."""

    column: str
    among: list[Any] | None = Field(None, alias="is", min_length=1)
    not_among: list[Any] | None = Field(None, alias="is_not", min_length=1)

    @model_validator(mode="after")
    def _one_list(self) -> Self:
        if (self.among is None) == (self.not_among is None):
            raise ValueError("give `is` or `is_not`, a list of values")
        return self


class Term(Part):
    """One column, and the format of its number."""

    column: str | None = None
    unit: Unit | Literal["timestamp"] | None = None
    # An empty cell of a CSV file is no value.
    nulls: list[Any] = [""]
    optional: bool = False
    default: Any = None


# A text alone is short for `{column: text}`.
Shorthand = BeforeValidator(_column)


class FieldSource(Term):
    """The source of a field: exactly one of column, constant, template, add."""

    constant: Any = None
    template: str | None = None
    add: list[Annotated[Term, Shorthand]] | None = Field(None, min_length=1)
    subtract: list[Annotated[Term, Shorthand]] = []
    table: dict[Any, Any] | None = Field(None, min_length=1)
    when: When | None = None

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        # Two origins would leave open which one wins.
        origins = [self.column, self.constant, self.template, self.add]
        if sum(origin is not None for origin in origins) != 1:
            raise ValueError("give exactly one of column, constant, template, add")
        if self.subtract and not self.add:
            raise ValueError("`subtract` needs an `add` to subtract from")
        if self.table and not (self.column or self.template):
            raise ValueError("`table` translates a column or a template; give one")
        return self


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError("use an IANA name such as UTC or Europe/Berlin") from error
    return name


class Time(Part):
    """The instant of a row, and whether it is the arrival or the end of the request.

    `kind`: `text` (RFC 3339 or `format`), `epoch`, or `relative` to `base`. `every` instead of a
    column gives rows at equal intervals. `origin: first` counts relative times from the first row.
    `marks`: whether the file gives a request's arrival or its end; `count_at`: which of the two
    becomes `ended_at`, and so decides the window in which the request is counted.
    """

    column: str | None = None
    every: float | None = Field(None, gt=0)
    kind: Literal["text", "epoch", "relative"]
    unit: Unit | None = None
    zone: Annotated[str, AfterValidator(_zone)] | None = None
    format: str | None = None
    base: AwareDatetime | None = None
    origin: Literal["zero", "first"] = "zero"
    marks: Literal["arrival", "end"]
    count_at: Literal["arrival", "end"] = "end"

    @model_validator(mode="after")
    def _fits_kind(self) -> Self:
        if (self.column is None) == (self.every is None):
            raise ValueError("give `column`, or `every` to space the rows evenly")
        # Evenly spaced rows have no instant of their own, only a distance from the base.
        if self.every is not None and self.kind != "relative":
            raise ValueError("`every` makes relative times; set kind: relative")
        if (self.unit is None) != (self.kind == "text"):
            raise ValueError(
                "`unit` (s, ms, us, ns) belongs to kind epoch and relative; both need it"
            )
        if (self.base is None) == (self.kind == "relative"):
            raise ValueError("`base`, an RFC 3339 time, belongs to kind relative, which needs it")
        if self.kind != "text" and (self.zone or self.format):
            raise ValueError("`zone` and `format` belong to kind text")
        if self.kind != "relative" and self.origin != "zero":
            raise ValueError("`origin` belongs to kind relative")
        return self


class Csv(Part):
    """The format of a CSV file. `columns`: their names, if the file has no header line."""

    delimiter: str = Field(",", min_length=1, max_length=1)
    columns: list[str] | None = Field(None, min_length=1)


class Mapping(Part):
    """How the rows of a file become events."""

    about: str = ""
    format: Literal["csv", "jsonl", "json"]
    csv: Csv = Csv()
    rows: str | None = None
    time: Time
    fields: dict[str, Annotated[FieldSource, Shorthand]]

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.format != "csv" and "csv" in self.model_fields_set:
            raise ValueError("csv: found with another format; leave it out or set format: csv")
        if self.format != "json" and self.rows is not None:
            raise ValueError("rows: found with another format; leave it out or set format: json")
        if "model" not in self.fields:
            raise ValueError("fields: no model; map a column or give {constant: some-name}")
        if not {"outcome", "status_code", "ending", "error_class"} & self.fields.keys():
            raise ValueError(
                "fields: neither outcome nor status_code; {constant: success} if all are"
            )
        # The arrival is the end minus the duration.
        arrival_from_end = self.time.marks == "end" != self.time.count_at
        if arrival_from_end and "duration_ms" not in self.fields:
            raise ValueError(
                "time.count_at: arrival cannot be told from the end without duration_ms"
            )
        for name, source in self.fields.items():
            _check_field(name, source)
        return self


def _check_field(name: str, source: FieldSource) -> None:
    """Raise ValueError for a field that is wrong whatever the file contains."""
    if name not in KINDS:
        raise ValueError(f"fields.{name}: no such field; use {', '.join(KINDS)}")
    for special in PLACEHOLDER.findall(source.template or ""):
        if special.startswith("@") and special not in SPECIAL_NAMES:
            raise ValueError(
                f"fields.{name}.template: found {special}; use {', '.join(SPECIAL_NAMES)}"
            )
    _check_terms(name, source)
    _check_constants(name, source)


def _check_terms(name: str, source: FieldSource) -> None:
    """Check the units, and the terms of a sum."""
    if source.add is not None and KINDS[name] not in ("duration", "whole"):
        raise ValueError(f"fields.{name}.add: {name} is no number; use a template")
    terms = [*(source.add or []), *source.subtract]
    for term in (source, *terms):
        if term.unit is not None and KINDS[name] != "duration":
            key = "" if term is source else ".add"
            raise ValueError(f"fields.{name}{key}.unit: {name} is no duration; leave `unit` out")
    for term in terms:
        if term.column is None:
            raise ValueError(f"fields.{name}.add: a term without column; give it one")
        if type(term.default) not in (int, float, type(None)):
            raise ValueError(f"fields.{name}.add.default: found {excerpt(term.default)}; a number")
    if source.unit == "timestamp" or (source.unit and source.column is None):
        raise ValueError(f"fields.{name}.unit: belongs to a column or to the terms of `add`")


def _check_constants(name: str, source: FieldSource) -> None:
    """Check that each value written in the mapping is valid in an event."""
    table = source.table or {}
    values = {"constant": source.constant, "default": source.default}
    values |= {f"table.{key}": value for key, value in table.items()}
    for key, value in values.items():
        if value is None:
            continue
        try:
            constant_converter(name)(value)
        except Unusable as problem:
            raise ValueError(f"fields.{name}.{key}: {problem}") from problem
    # 429 and "429" are one code, so one of the two lines would never apply.
    if len({code(key) for key in table}) < len(table):
        raise ValueError(f"fields.{name}.table: a code is given twice; keep one of them")


def load_yaml(path: Path, fix: str) -> Mapping:
    """Load a YAML file; `fix` is for a path that cannot be read. Raises MappingError."""
    text = read_text(path, str(path), fix=fix, error=MappingError)
    content = parse_document(text, str(path), error=MappingError)
    if not isinstance(content, dict):
        raise MappingError(f"{path}: found {excerpt(content)}; write keys (docs/mappings-yaml.md)")
    try:
        return Mapping.model_validate(content)
    except ValidationError as error:
        unknown_key = "no such key; docs/mappings-yaml.md lists them"
        first, *others = findings(error.errors(), str(path), unknown_key, content)
        more = f" (and {len(others)} more)" if others else ""
        raise MappingError(first + more) from error
