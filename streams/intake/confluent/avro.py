"""Avro payloads become JSON, with the schema that they were written with.

Timestamps become text of RFC 3339, decimals and UUIDs text, bytes base64.
"""

import io
import json
from typing import Any

import msgspec

from streams.intake.confluent.schemas import Decode, Schema, UnusableSchema
from streams.intake.confluent.wire_format import MalformedRecord

_REASON_MAX = 200


def avro_decoder(schema: Schema) -> Decode:
    """Return the decoder of a schema. Raises UnusableSchema."""
    # Only installations with such a topic pay for the import.
    import fastavro

    try:
        named: dict[str, Any] = {}
        for text in schema.imports.values():
            fastavro.parse_schema(json.loads(text), named_schemas=named)
        parsed = fastavro.parse_schema(json.loads(schema.text), named_schemas=named)
    # Whatever a schema of another program lacks, the topic waits for a usable one.
    except Exception as error:
        reason = " ".join(str(error).split())[:_REASON_MAX]
        raise UnusableSchema(f"cannot be read as Avro: {reason}") from error

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
