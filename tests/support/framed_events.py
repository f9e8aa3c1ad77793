"""Events as Confluent's Avro serialiser writes them."""

import io
import json
import struct
from collections.abc import Mapping
from typing import Any

import fastavro

_FIELDS = {
    "request_id": "string",
    "ended_at": "long",
    "model": "string",
    "outcome": "string",
    "duration_ms": "long",
    "input_tokens": "long",
}


def event_schema(name: str) -> str:
    """Return the schema of an event under a name of its own."""
    fields = [{"name": field, "type": kind} for field, kind in _FIELDS.items()]
    return json.dumps({"type": "record", "name": name, "fields": fields})


def framed(event: Mapping[str, Any], schema_id: int) -> bytes:
    """Return the record of an event: the id of its schema, and Avro."""
    payload = io.BytesIO()
    content = {field: event[field] for field in _FIELDS}
    schema = fastavro.parse_schema(json.loads(event_schema("E")))
    fastavro.schemaless_writer(payload, schema, content)
    return b"\0" + struct.pack(">I", schema_id) + payload.getvalue()
