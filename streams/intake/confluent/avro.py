"""Avro payloads become JSON, with the schema that they were written with.

Timestamps become text of RFC 3339, decimals and UUIDs text, bytes base64.
"""

import io
import json
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from streams.intake.confluent.schemas import Decode, Schema, UnusableSchema, short
from streams.intake.confluent.wire_format import MalformedRecord


def avro_decoder(schema: Schema) -> Decode:
    """Return the decoder of a schema. Raises UnusableSchema."""
    # Only installations with such a topic pay for the import.
    import fastavro

    try:
        named: dict[str, Any] = {}
        for text in schema.imports.values():
            fastavro.parse_schema(json.loads(text), named_schemas=named)
        parsed = fastavro.parse_schema(json.loads(schema.text), named_schemas=named)
    # The parser can fail in many ways; in each of them the topic waits for a usable schema.
    except Exception as error:
        raise UnusableSchema(f"cannot be read as Avro: {short(error)}") from error
    # A damaged count of such elements would be an endless list, which no end of the record stops.
    if any(_is_empty(items, named, frozenset()) for items in _items([parsed, *named.values()])):
        raise UnusableSchema("has an array whose elements take no bytes; give them a field")

    def decode(_indexes: tuple[int, ...], payload: bytes) -> bytes:
        source = io.BytesIO(payload)
        try:
            value = msgspec.json.encode(fastavro.schemaless_reader(source, parsed, None))
        # Damaged bytes can fail in any way: as lengths, as indexes, as text, as dates.
        except Exception as error:
            raise MalformedRecord(f"does not fit its schema: {type(error).__name__}") from error
        if source.tell() != len(payload):
            raise MalformedRecord("does not fit its schema: bytes are left over")
        return value

    return decode


def _items(schema: Any) -> Iterator[Any]:
    """Yield the schema of the elements of each array in a schema."""
    if isinstance(schema, list):
        for part in schema:
            yield from _items(part)
    elif isinstance(schema, dict):
        if schema["type"] == "array":
            yield schema["items"]
        fields = [field["type"] for field in schema.get("fields", ())]
        yield from _items([schema["type"], schema.get("items"), schema.get("values"), *fields])


def _is_empty(schema: Any, named: Mapping[str, Any], around: frozenset[str]) -> bool:
    """Return whether the values of a schema take no bytes; `around`: names of outer schemas."""
    if isinstance(schema, str):
        if schema not in named or schema in around:
            return schema == "null"
        return _is_empty(named[schema], named, around | {schema})
    if isinstance(schema, list):  # a union begins with the number of its type
        return False
    match schema["type"]:
        case "record" | "error":
            return all(_is_empty(field["type"], named, around) for field in schema["fields"])
        case "fixed":
            return bool(schema["size"] == 0)
        case kind:
            return _is_empty(kind, named, around)
