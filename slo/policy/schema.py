"""The JSON Schema of a policy, from the model that reads it (written by `make docs`)."""

import json
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from slo.policy.policy import Policy


class _AsWritten(GenerateJsonSchema):
    """Shows defaults as a file would write them, and no titles that only repeat a key."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        default = schema.get("default")
        if isinstance(default, str | int):
            return super().default_schema(schema)
        described = self.generate_inner(schema["schema"])
        if isinstance(default, frozenset):
            return {**described, "default": sorted(default)}
        return described  # nothing, or an empty list, which a file says by leaving the key out


def json_schema() -> dict[str, Any]:
    """Return the schema, Draft 2020-12. `tokenpulse policy check` also checks keys together."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Policy.model_json_schema(schema_generator=_AsWritten),
        "title": "Tokenpulse policy, version 1",
    }


def documents() -> dict[str, str]:
    """Path in the project -> text, for every document that is generated from the model."""
    return {"docs/policy.schema.json": json.dumps(json_schema(), indent=2) + "\n"}
