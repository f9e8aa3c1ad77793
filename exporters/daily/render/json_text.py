"""The daily board as JSON, and its JSON Schema, which `make docs` writes to docs/."""

import json
from dataclasses import asdict
from typing import Any

from pydantic import TypeAdapter

from exporters.daily.day.facts import DailyFacts

_DATE = r"^\d{4}-\d{2}-\d{2}$"


def json_text(facts: DailyFacts) -> str:
    """Return the facts as JSON; an unknown value is null."""
    return json.dumps(asdict(facts), indent=1, allow_nan=False) + "\n"


def json_schema() -> dict[str, Any]:
    """Return the schema (draft 2020-12) of the dataclasses: all keys required, no further key."""
    schema = TypeAdapter(DailyFacts).json_schema(mode="serialization")
    for part in (schema, *schema["$defs"].values()):
        part["required"] = list(part["properties"])
        part["additionalProperties"] = False
        for name, field in part["properties"].items():
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
