"""A record names its schema before its payload, or in a header."""

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.intake.confluent.wire_format import (
    AVRO,
    ENCODINGS,
    PROTOBUF,
    Frame,
    MalformedRecord,
    SchemaName,
    read_frame,
    with_header,
)


def zigzag(number: int) -> bytes:
    rest = number << 1
    groups = []
    while True:
        rest, low = rest >> 7, rest & 0x7F
        groups.append(low | (0x80 if rest else 0))
        if not rest:
            return bytes(groups)


@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.integers(0, 10_000), min_size=1, max_size=4),
    st.binary(max_size=20),
)
def test_id_path_and_payload_of_a_record_are_read_back(
    number: int, path: list[int], payload: bytes
) -> None:
    head = b"\0" + number.to_bytes(4, "big")
    name = SchemaName("ids", str(number))
    assert read_frame(head + payload, AVRO) == Frame(name, (), payload)
    indexes = zigzag(len(path)) + b"".join(map(zigzag, path))
    assert read_frame(head + indexes + payload, PROTOBUF) == Frame(name, tuple(path), payload)
    # The first message has a short form.
    assert read_frame(head + b"\0" + payload, PROTOBUF) == Frame(name, (0,), payload)


def test_a_guid_names_a_schema_in_the_value_or_in_a_header() -> None:
    guid = uuid.uuid4()
    head = b"\1" + guid.bytes
    expected = Frame(SchemaName("guids", str(guid)), (), b"payload")
    assert read_frame(head + b"payload", AVRO) == expected
    headers = [("other", b"x"), ("__value_schema_id", head)]
    assert read_frame(with_header(b"payload", headers), AVRO) == expected
    assert with_header(b"payload", [("other", b"x")]) == b"payload"


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (b"", "neither 0 nor 1"),
        (b'{"request_id": "r-1"}', "neither 0 nor 1"),
        (b"\0\0\0\0", "before the id"),
        (b"\1" + b"x" * 15, "before the id"),
        (b"\0\0\0\0\7", "within the path"),
        (b"\0\0\0\0\7\x02", "within the path"),
        (b"\0\0\0\0\7\x02\x80\x80\x80\x80\x80\x80", "within the path"),
        (b"\0\0\0\0\7\x03", "no path"),  # minus two messages
        (b"\0\0\0\0\7\x02\x01", "no path"),  # the message before the first
        (b"\0\0\0\0\7\x80\x01", "no path"),  # 64 messages in each other
    ],
)
def test_a_record_without_a_whole_frame_is_malformed(value: bytes, problem: str) -> None:
    with pytest.raises(MalformedRecord, match=problem):
        read_frame(value, PROTOBUF)


@given(st.binary(max_size=40), st.sampled_from(ENCODINGS))
def test_any_bytes_are_a_frame_or_malformed(value: bytes, encoding: str) -> None:
    try:
        frame = read_frame(value, encoding)
    except MalformedRecord:
        return
    assert value.endswith(frame.payload)
