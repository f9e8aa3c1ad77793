"""Payloads become the JSON that their schemas mean."""

import io
import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.intake.confluent.avro import avro_decoder
from streams.intake.confluent.protobuf import protobuf_decoder, protobuf_file_decoder
from streams.intake.confluent.schemas import Decode, Schema, UnusableSchema
from streams.intake.confluent.wire_format import MalformedRecord

REQUEST: dict[str, Any] = {
    "type": "record",
    "name": "Request",
    "fields": [
        {"name": "request_id", "type": "string"},
        {"name": "input_tokens", "type": ["null", "long"]},
        {"name": "ended_at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {
            "name": "cost",
            "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 4},
        },
        {"name": "tags", "type": {"type": "map", "values": "string"}},
        {"name": "outcome", "type": {"type": "enum", "name": "O", "symbols": ["success", "bad"]}},
    ],
}
REQUEST_AVRO = avro_decoder(Schema(json.dumps(REQUEST)))
PROTO = """
syntax = "proto3";
package gateway.v1;
import "google/protobuf/timestamp.proto";
import "shared/usage.proto";
enum Outcome { SUCCESS = 0; CLIENT_ERROR = 4; }
message Other {
  message Request {
    string request_id = 1;
    google.protobuf.Timestamp ended_at = 2;
    gateway.shared.Usage usage = 3;
    bool stream = 4;
    Outcome outcome = 5;
    optional double ttft_ms = 6;
    map<int32, string> labels = 7;
    repeated Request retries = 8;
  }
}
"""
USAGE = """
syntax = "proto3";
package gateway.shared;
message Usage { int64 input_tokens = 1; optional uint64 cached_tokens = 2; }
"""


def avro(schema: dict[str, Any], value: Any) -> bytes:
    target = io.BytesIO()
    fastavro.schemaless_writer(target, fastavro.parse_schema(schema), value)
    return target.getvalue()


def tagged(field: int, payload: bytes) -> bytes:
    """Return a field of a Protobuf message: text, bytes or a message of less than 128 bytes."""
    return bytes([field << 3 | 2, len(payload)]) + payload


def read(decode: Decode, payload: bytes, *indexes: int) -> Any:
    return json.loads(decode(indexes, payload))


@given(st.integers(-(2**63), 2**63 - 1) | st.none(), st.text(max_size=20))
def test_an_avro_record_is_read_with_the_schema_that_wrote_it(
    tokens: int | None, name: str
) -> None:
    value = {
        "request_id": name,
        "input_tokens": tokens,
        "ended_at": datetime(2026, 11, 29, 12, tzinfo=UTC),
        "cost": Decimal("0.0012"),
        "tags": {"team": name},
        "outcome": "bad",
    }
    expected = value | {"ended_at": "2026-11-29T12:00:00Z", "cost": "0.0012"}
    assert read(REQUEST_AVRO, avro(REQUEST, value)) == expected


def test_an_avro_schema_may_use_types_of_others() -> None:
    usage = {"type": "record", "name": "x.Usage", "fields": [{"name": "input", "type": "int"}]}
    outer = {"type": "record", "name": "R", "fields": [{"name": "usage", "type": "x.Usage"}]}
    decode = avro_decoder(Schema(json.dumps(outer), {"x.Usage": json.dumps(usage)}))
    assert read(decode, b"\x0e") == {"usage": {"input": 7}}
    with pytest.raises(UnusableSchema, match=r"Avro: .*x\.Usage"):
        avro_decoder(Schema(json.dumps(outer)))


@given(st.binary(max_size=60))
def test_damaged_avro_costs_the_record(payload: bytes) -> None:
    try:
        value = read(REQUEST_AVRO, payload)
    except MalformedRecord:
        return
    assert value.keys() == {field["name"] for field in REQUEST["fields"]}


EMPTY = {"type": "record", "name": "Empty", "fields": [{"name": "n", "type": "null"}]}


@pytest.mark.parametrize(
    "items", ["null", EMPTY, {"type": "fixed", "name": "F", "size": 0}, {"type": "null"}]
)
def test_a_schema_by_which_a_damaged_count_never_ends_is_unusable(items: Any) -> None:
    array = {"type": "array", "items": items}
    within = {"type": "record", "name": "R", "fields": [{"name": "a", "type": ["null", array]}]}
    for schema in (array, within, {"type": "map", "values": array}):
        with pytest.raises(UnusableSchema, match="take no bytes"):
            avro_decoder(Schema(json.dumps(schema)))


def test_a_schema_that_contains_itself_is_usable() -> None:
    again = {"type": "array", "items": ["null", "Tree"]}
    tree = {"type": "record", "name": "Tree", "fields": [{"name": "parts", "type": again}]}
    decode = avro_decoder(Schema(json.dumps(tree)))
    value: dict[str, Any] = {"parts": [{"parts": []}, None]}
    assert read(decode, avro(tree, value)) == value


def test_bytes_after_an_avro_value_are_those_of_another_schema() -> None:
    with pytest.raises(MalformedRecord, match="left over"):
        avro_decoder(Schema('"long"'))((), b"\x02\x02")


@pytest.fixture(scope="module")
def request_proto() -> Decode:
    return protobuf_decoder(Schema(PROTO, {"shared/usage.proto": USAGE}))


def test_a_protobuf_message_is_read_with_the_text_of_its_schema(request_proto: Decode) -> None:
    usage = b"\x08\x84\x07"  # input_tokens 900
    message = (
        tagged(1, b"r-1")
        + tagged(2, b"\x08\x80\xa4\xa5\xc9\x06")  # 1764315648 s
        + tagged(3, usage)
        + b"\x28\x04"
        + tagged(7, b"\x08\x05" + tagged(2, b"five"))
        + tagged(8, tagged(1, b"r-0"))
    )
    again = {"request_id": "r-0", "stream": False, "outcome": "SUCCESS"}
    assert read(request_proto, message, 0, 0) == {
        "request_id": "r-1",
        "ended_at": datetime.fromtimestamp(1_764_315_648, UTC).isoformat().replace("+00:00", "Z"),
        # A number of 64 bits is a JSON number, and what is `optional` may be absent.
        "usage": {"input_tokens": 900},
        "stream": False,
        "outcome": "CLIENT_ERROR",
        "labels": {"5": "five"},
        "retries": [again | {"labels": {}, "retries": []}],
    }


@pytest.mark.parametrize(
    ("indexes", "payload", "problem"),
    [
        ((0, 0), b"\x0a\x7f", "fit"),
        ((0, 1), b"", "names a message"),
        ((3,), b"", "names a message"),
    ],
)
def test_a_damaged_protobuf_message_costs_the_record(
    request_proto: Decode, indexes: tuple[int, ...], payload: bytes, problem: str
) -> None:
    with pytest.raises(MalformedRecord, match=problem):
        request_proto(indexes, payload)


def test_a_proto_file_finds_its_imports_beside_it(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "usage.proto").write_text(USAGE)
    (tmp_path / "request.proto").write_text(PROTO)
    decode = protobuf_file_decoder(tmp_path / "request.proto")
    assert read(decode, tagged(1, b"r-1"), 0, 0)["request_id"] == "r-1"


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        (Schema("message Request {"), "protoc: "),
        (Schema(PROTO), r"shared/usage\.proto"),
        (Schema(USAGE, {"../out.proto": USAGE}), "no name of a .proto file"),
        (Schema(USAGE, {"": USAGE}), "cannot write '' for protoc: "),
        (Schema(USAGE, {"a": USAGE, "a/b.proto": USAGE}), "cannot write 'a/b.proto' for protoc: "),
        (Schema(USAGE, {"a" * 300: USAGE}), "for protoc: File name too long"),
    ],
)
def test_a_proto_text_that_cannot_be_compiled_is_unusable(schema: Schema, problem: str) -> None:
    with pytest.raises(UnusableSchema, match=problem):
        protobuf_decoder(schema)
