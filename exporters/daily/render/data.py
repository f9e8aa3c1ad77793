"""The daily board for programs: CSV (RFC 4180), JSON, and the JSON Schema (docs/daily.schema.json).

Pure. Numbers in seconds and ratios from 0 to 1; an unknown value is empty in CSV, null in JSON. A
text that a spreadsheet would read as a formula gets an apostrophe before it.
"""

import csv
import json
from collections.abc import Iterator
from dataclasses import asdict
from io import StringIO
from typing import Any

from pydantic import TypeAdapter

from exporters.daily.day.facts import METRICS, DailyFacts, Day
from exporters.daily.day.verdict import KNOWN_OF
from exporters.formatting import rfc3339

_DATE = r"^\d{4}-\d{2}-\d{2}$"
# What makes a cell a formula in one spreadsheet program or another.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")

COLUMNS = (
    *("date", "from", "to", "zone", "state", "complete", "corrected", "requests"),
    *(
        f"{metric}{suffix}"
        for metric in METRICS
        for suffix in ("", "_samples", "_target", "_mark", "_known_ratio")
        if (metric, suffix) not in (("tokens", "_samples"), ("tokens", "_target"))
        and (suffix != "_known_ratio" or metric in KNOWN_OF)
    ),
    "note",
)


def csv_text(facts: DailyFacts) -> str:
    """Return all days of the board, oldest first, after a line of column names."""
    out = StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\r\n")
    writer.writeheader()
    for day in facts.days:
        writer.writerow(dict(_cells(day, facts)))
    return out.getvalue()


def _cells(day: Day, facts: DailyFacts) -> Iterator[tuple[str, str]]:
    yield "date", day.date
    yield "from", rfc3339(day.from_s)
    yield "to", rfc3339(day.to_s)
    yield "zone", facts.zone
    yield "state", day.state
    yield "complete", _flag(day.complete)
    yield "corrected", _flag(bool(day.corrections))
    yield "requests", str(day.values.requests)
    for metric in METRICS:
        value = day.values.of(metric)
        yield metric, _number(value.value)
        if metric != "tokens":
            yield f"{metric}_samples", str(value.samples)
            yield f"{metric}_target", _number(facts.targets.of(metric))
        yield f"{metric}_mark", value.mark
        if metric in KNOWN_OF:
            yield f"{metric}_known_ratio", _number(value.known_ratio)
    yield "note", _harmless(day.note)


def _number(value: float | None) -> str:
    if value is None:
        return ""
    # Whole numbers without `.0`, as spreadsheets show integers.
    return str(int(value)) if float(value).is_integer() else repr(value)


def _flag(is_so: bool) -> str:
    return "true" if is_so else "false"


def _harmless(text: str) -> str:
    # A NUL ends the text in some readers.
    text = text.replace("\0", "�")
    return f"'{text}" if text.startswith(_FORMULA) else text


def json_text(facts: DailyFacts) -> str:
    """Return the facts as JSON; an unknown value is null."""
    return json.dumps(asdict(facts), indent=1, allow_nan=False) + "\n"


def json_schema() -> dict[str, Any]:
    """Return the schema (draft 2020-12) of the dataclasses: all keys required, no further key."""
    schema = TypeAdapter(DailyFacts).json_schema(mode="serialization")
    for part in (schema, *schema["$defs"].values()):
        # The JSON always has all keys: an unknown value is null, not absent.
        part["required"] = list(part["properties"])
        part["additionalProperties"] = False
        for name, field in part["properties"].items():
            # Titles that pydantic makes up repeat the key.
            field.pop("title", None)
            field.pop("default", None)
            if name == "date":
                field["pattern"] = _DATE
            if name.endswith("_s") and field.get("type") == "integer":
                field["description"] = "Seconds since 1970-01-01T00:00:00Z."
        # Docstrings are broken for the width of the source.
        part["description"] = " ".join(part["description"].split())
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Daily reliability board",
        **{key: value for key, value in schema.items() if key != "title"},
    }
