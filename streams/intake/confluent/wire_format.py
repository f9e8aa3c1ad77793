"""The wire format of Confluent's serialisers: which schema a record names, and its payload.

Pure.

    0x00  id of the schema, 4 bytes big-endian   [message indexes, Protobuf only]   payload
    0x01  GUID of the schema, 16 bytes           [message indexes, Protobuf only]   payload

Newer serialisers may put the part before the payload into a header of the record.
"""

from collections.abc import Iterable
from typing import NamedTuple, get_args
from uuid import UUID

from streams.config.intake import Encoding

AVRO, JSON, PROTOBUF = ENCODINGS = get_args(Encoding)
SCHEMA_ID_HEADER = "__value_schema_id"
_ID_MARK, _GUID_MARK = 0, 1
_ID_END, _GUID_END = 5, 17
# Messages in messages; real paths have one or two parts.
_MOST_INDEXES, _VARINT_BYTES = 32, 5


class MalformedRecord(ValueError):
    """A record that cannot be read with its schema. The message holds no value of the record."""


class SchemaName(NamedTuple):
    """How a record names its schema: the id in the registry, or the GUID of newer serialisers."""

    kind: str  # `ids` or `guids`, as in the registry's addresses
    value: str

    def __str__(self) -> str:
        return f"{'schema id' if self.kind == 'ids' else 'schema GUID'} {self.value}"


class Frame(NamedTuple):
    """A record in its parts. `indexes`: path of the message in a Protobuf schema, else empty."""

    schema: SchemaName
    indexes: tuple[int, ...]
    payload: bytes


def with_header(value: bytes, headers: Iterable[tuple[str, bytes | None]]) -> bytes:
    """Return the value as a frame, if the part before the payload is in a header."""
    for name, content in headers:
        if name == SCHEMA_ID_HEADER and content is not None:
            return content + value
    return value


def read_frame(value: bytes, encoding: str) -> Frame:
    """Return the parts of a record. Raises MalformedRecord."""
    mark = value[0] if value else None
    if mark == _ID_MARK and len(value) >= _ID_END:
        end = _ID_END
        schema = SchemaName("ids", str(int.from_bytes(value[1:end], "big")))
    elif mark == _GUID_MARK and len(value) >= _GUID_END:
        end = _GUID_END
        schema = SchemaName("guids", str(UUID(bytes=value[1:end])))
    elif mark in (_ID_MARK, _GUID_MARK):
        raise MalformedRecord("ends before the id of its schema is complete")
    else:
        raise MalformedRecord("names no schema: its first byte is neither 0 nor 1")
    indexes: tuple[int, ...] = ()
    if encoding == PROTOBUF:
        indexes, end = _message_indexes(value, end)
    return Frame(schema, indexes, value[end:])


def _message_indexes(value: bytes, at: int) -> tuple[tuple[int, ...], int]:
    """Return the path of the message in its schema, and where the payload begins."""
    count, at = _signed_varint(value, at)
    if count == 0:  # the short form of the first message
        return (0,), at
    if not 0 < count <= _MOST_INDEXES:
        raise MalformedRecord("has no path of a Protobuf message after the id of its schema")
    indexes = []
    for _ in range(count):
        index, at = _signed_varint(value, at)
        indexes.append(index)
    if min(indexes) < 0:
        raise MalformedRecord("has no path of a Protobuf message after the id of its schema")
    return tuple(indexes), at


def _signed_varint(value: bytes, at: int) -> tuple[int, int]:
    """Return a zigzag varint and where it ends."""
    number = 0
    for position in range(_VARINT_BYTES):
        if at >= len(value):
            break
        byte = value[at]
        at += 1
        number |= (byte & 0x7F) << 7 * position
        if byte < 0x80:
            return (number >> 1) ^ -(number & 1), at
    raise MalformedRecord("ends within the path of its Protobuf message")
