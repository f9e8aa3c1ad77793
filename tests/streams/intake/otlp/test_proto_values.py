"""Values of attributes in protobuf are the numbers, texts and flags that were written."""

import math
import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from streams.intake.otlp.decode import read_traces
from streams.intake.otlp.spans import Attribute

KEY = "gen_ai.usage.input_tokens"
PLACEHOLDER = b"placeholder"
INT64 = st.integers(-(2**63), 2**63 - 1)


def sent(value: str | int | float) -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    span = (
        request.resource_spans.add()
        .scope_spans.add()
        .spans.add(trace_id=b"t" * 16, span_id=b"s" * 8)
    )
    attribute = span.attributes.add(key=KEY).value
    match value:
        case bool():
            attribute.bool_value = value
        case int():
            attribute.int_value = value
        case float():
            attribute.double_value = value
        case str():
            attribute.string_value = value
    return request


def value_in(body: bytes) -> Attribute:
    [group] = read_traces(body, "otlp_proto")
    [span] = group.spans(frozenset({KEY}))
    assert span is not None
    return span.attributes[KEY]


@given(st.one_of(INT64, st.integers(0, 20_000), st.floats(), st.booleans(), st.text(max_size=300)))
@example(127)
@example(128)
@example(16_383)
@example(16_384)
def test_a_value_is_read_as_it_was_sent_the_first_time_and_again(value: str | int | float) -> None:
    body = sent(value).SerializeToString()
    for read in (value_in(body), value_in(body)):
        assert type(read) is type(value)
        if isinstance(value, float):
            assert isinstance(read, float)
            assert struct.pack("<d", read) == struct.pack("<d", value) or math.isnan(value)
        else:
            assert read == value


def test_equal_numbers_of_two_types_stay_apart() -> None:
    values: list[str | int | float] = [1, True, 1.0, "1", 0, False, 0.0, ""]
    read = [value_in(sent(value).SerializeToString()) for value in values]
    assert [(type(value), value) for value in read] == [(type(value), value) for value in values]


@pytest.mark.parametrize("key", [KEY, "gen_ai.prompt.0.content"])
def test_text_that_is_no_utf8_counts_only_if_it_is_read(key: str) -> None:
    request = sent(7)
    span = request.resource_spans[0].scope_spans[0].spans[0]
    span.attributes.add(key=key).value.string_value = PLACEHOLDER.decode()
    broken = request.SerializeToString().replace(PLACEHOLDER, b"\xff" * len(PLACEHOLDER))
    assert value_in(broken) == (None if key == KEY else 7)


@pytest.mark.parametrize("encoded", [b"\x18\x80", b"\x18\x05\x10", b"\x21\x00", b"\x0a\x05ab"])
def test_a_value_that_is_cut_off_is_no_value(encoded: bytes) -> None:
    length = bytes([len(encoded)])
    text = "x" * (len(encoded) - 2)
    body = sent(text).SerializeToString()
    whole = b"\x12" + length + bytes([0x0A, len(text)]) + text.encode()
    assert whole in body
    assert value_in(body.replace(whole, b"\x12" + length + encoded)) is None
