"""Bodies of OTLP in the encodings that writers use, and bodies that are something else."""

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from streams.intake.otlp.decode import read_traces
from streams.intake.otlp.depth import MAX_DEPTH, cut_deep_values
from streams.intake.otlp.spans import Attributes, NotTraces, Span
from tests.support.otlp_payloads import (
    PAYLOADS,
    SPAN_ID,
    START_NS,
    TRACE_ID,
    document,
    read,
    request,
    span,
)

ATTRIBUTES: dict[str, object] = {
    "gen_ai.operation.name": "chat",
    "gen_ai.usage.input_tokens": 7,
    "share": 0.25,
    "flag": True,
    "zero": 0,
    "off": False,
    "empty": "",
    "list": ["stop", 3],
}
NAMES = frozenset(ATTRIBUTES)
SPAN = span("chat m", ATTRIBUTES, status=2, events=(("exception", 5, {"exception.type": "E"}),))
DOCUMENT = document(("scope", [SPAN]), resource={"flag": True})


def spans(body: bytes, content_type: str | None = None) -> list[Span | None]:
    return [span for group in read_traces(body, content_type) for span in group.spans(NAMES)]


def camel_to_snake(item: Any) -> Any:
    if isinstance(item, dict):
        return {
            "".join(f"_{c.lower()}" if c.isupper() else c for c in key): camel_to_snake(inner)
            for key, inner in item.items()
        }
    return [camel_to_snake(inner) for inner in item] if isinstance(item, list) else item


def changed(**fields: object) -> dict[str, Any]:
    return document(("scope", [SPAN | fields]), resource={"flag": True})


def as_long(value: int) -> dict[str, object]:
    return {"low": (value & 0xFFFFFFFF) - 2**32, "high": value >> 32, "unsigned": True}


VARIANTS: dict[str, dict[str, Any]] = {
    "the specification": DOCUMENT,
    "snake_case": camel_to_snake(DOCUMENT),
    "names of enums": changed(
        kind="SPAN_KIND_CLIENT", status={"code": "STATUS_CODE_ERROR", "message": "m"}
    ),
    "ids in base64": changed(
        traceId=base64.b64encode(bytes.fromhex(TRACE_ID)).decode(),
        spanId=base64.b64encode(bytes.fromhex(SPAN_ID)).decode(),
    ),
    "ids as bytes": changed(
        traceId=list(bytes.fromhex(TRACE_ID)),
        spanId={"type": "Buffer", "data": list(bytes.fromhex(SPAN_ID))},
    ),
    "ids in capitals": changed(traceId=TRACE_ID.upper()),
    "integers as numbers": changed(
        startTimeUnixNano=START_NS, endTimeUnixNano=START_NS + 1_000_000_000
    ),
    "integers of protobuf.js": changed(startTimeUnixNano=as_long(START_NS)),
    "null in the place of nothing": changed(parentSpanId=None, traceState=None),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_writers_of_json_differ_and_the_spans_are_the_same(name: str) -> None:
    assert spans(json.dumps(VARIANTS[name]).encode()) == spans(json.dumps(DOCUMENT).encode())


def test_a_span_of_json() -> None:
    [read_span] = spans(json.dumps(DOCUMENT).encode())
    assert read_span is not None
    assert (read_span.trace_id, read_span.span_id, read_span.parent_id) == (TRACE_ID, SPAN_ID, "")
    assert (read_span.kind, read_span.status, read_span.name) == (3, 2, "chat m")
    assert (read_span.start_ns, read_span.end_ns) == (START_NS, START_NS + 10**9)
    assert read_span.attributes == ATTRIBUTES
    assert read_span.events["exception"].time_ns == START_NS + 5_000_000
    assert read_span.events["exception"].attributes == {"exception.type": "E"}


def proto_request(attributes: Attributes) -> bytes:
    message = ExportTraceServiceRequest()
    scope_spans = message.resource_spans.add().scope_spans.add()
    scope_spans.scope.name = "scope"
    sent = scope_spans.spans.add(trace_id=bytes.fromhex(TRACE_ID), span_id=bytes.fromhex(SPAN_ID))
    for key, content in attributes.items():
        value = sent.attributes.add(key=key).value
        match content:
            case bool():
                value.bool_value = content
            case int():
                value.int_value = content
            case float():
                value.double_value = content
            case str():
                value.string_value = content
            case list():
                value.array_value.values.add().string_value = "stop"
                value.array_value.values.add().int_value = 3
            case None:
                value.kvlist_value.values.add(key="k")
    return message.SerializeToString()


def test_values_of_protobuf_keep_their_types_zeros_and_empty_texts_too() -> None:
    [read_span] = spans(proto_request({**ATTRIBUTES, "map": None}))  # type: ignore[dict-item]
    assert read_span is not None
    assert read_span.attributes == ATTRIBUTES
    assert {key: type(item) for key, item in read_span.attributes.items()} == {
        key: type(item) for key, item in ATTRIBUTES.items()
    }


def test_of_an_attribute_given_twice_the_last_value_counts_in_both_encodings() -> None:
    message = ExportTraceServiceRequest.FromString(proto_request({"flag": "first"}))
    attributes = message.resource_spans[0].scope_spans[0].spans[0].attributes
    attributes.add(key="flag").value.string_value = "last"
    doubled = span("s", {"flag": "first"})
    doubled["attributes"] += span("s", {"flag": "last"})["attributes"]
    for body in (message.SerializeToString(), request(("scope", [doubled]))):
        [read_span] = spans(body)
        assert read_span is not None
        assert read_span.attributes == {"flag": "last"}


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", None),
        (b"", "application/x-protobuf"),
        (b"", "application/json"),
        (b"{}", "application/json; charset=utf-8"),
        (b" {}", None),
        (b'{"resourceSpans": []}', "otlp_json"),
        (b'\xef\xbb\xbf{"resourceSpans": []}', "otlp_json"),
        (b"\xef\xbb\xbf{}", None),
    ],
)
def test_an_empty_request_is_good(body: bytes, content_type: str | None) -> None:
    assert read_traces(body, content_type) == []


def metrics(*, gauge: bool) -> bytes:
    message = ExportMetricsServiceRequest()
    metric = message.resource_metrics.add().scope_metrics.add().metrics.add(name="up")
    points = metric.gauge if gauge else metric.histogram
    points.data_points.add(time_unix_nano=START_NS)
    return message.SerializeToString()


OTHERS: dict[str, Callable[[], bytes]] = {
    "logs": (PAYLOADS / "logs.json").read_bytes,
    "an event of our own": lambda: b'{"request_id": "r", "secret": 1}',
    "a gauge": lambda: metrics(gauge=True),
    "a histogram": lambda: metrics(gauge=False),
    "a schema id before it": lambda: b"\x00\x00\x00\x00\x01secret",
    "half a record": lambda: (PAYLOADS / "openllmetry" / "otlp-0.pb").read_bytes()[:-9],
    "half a JSON": lambda: b'{"resourceSpans": [{"secret',
    "no UTF-8": lambda: b'{"resourceSpans": "\xff"}',
    "another shape": lambda: b'{"resourceSpans": [{"scopeSpans": {"secret": 1}}]}',
    "a list of texts": lambda: b'{"resourceSpans": ["secret"]}',
    "deep": lambda: b'{"a":' * 5000,
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_traces_request_is_refused_without_a_word_of_it(name: str) -> None:
    with pytest.raises(NotTraces) as raised:
        read_traces(OTHERS[name]())
    assert "secret" not in str(raised.value)


def test_spans_without_ids_of_their_length_are_another_message_that_decodes_by_chance() -> None:
    message = ExportTraceServiceRequest.FromString(proto_request({}))
    message.resource_spans[0].scope_spans[0].spans[0].trace_id = b"up"
    with pytest.raises(NotTraces, match="16 and 8 bytes"):
        read_traces(message.SerializeToString())


def test_a_content_type_that_is_none_of_otlp_is_refused() -> None:
    with pytest.raises(NotTraces, match="text/plain"):
        read_traces(b"{}", "text/plain")


def test_one_wrong_span_costs_itself_alone() -> None:
    good = span("chat m", {"gen_ai.operation.name": "chat"})
    wrong = good | {"attributes": "secret"}
    batch = read(request(("scope", [good, wrong, good | {"spanId": "11" * 8}])), "semconv")
    assert [event["request_id"][-16:] for event in batch.events] == [SPAN_ID, "11" * 8]
    [rejected] = batch.rejected
    assert (rejected.reason, rejected.position, rejected.scope) == ("bad_span", 1, "scope")
    assert "secret" not in str(rejected)


def test_arrays_in_arrays_are_left_out_however_deep() -> None:
    value: dict[str, Any] = {"stringValue": "x"}
    for _ in range(80):
        value = {"arrayValue": {"values": [value]}}
    deep = span("s", {}) | {"attributes": [{"key": "list", "value": value}]}
    [read_span] = spans(request(("scope", [deep])))
    assert read_span is not None
    assert read_span.attributes == {"list": [None]}


@pytest.mark.parametrize(
    "text", [b'"\\ud83d cut"', b'"\xff"', b'"\xe2\x82 cut"'], ids=["pair", "byte", "character"]
)
def test_text_that_is_cut_within_a_character_costs_no_span(text: bytes) -> None:
    prompt = {"key": "input.value", "value": {"stringValue": "PROMPT"}}
    sent = span("chat m", {"gen_ai.operation.name": "chat"})
    sent["attributes"].append(prompt)
    body = request(("scope", [sent, sent])).replace(b'"PROMPT"', text)
    for content in (body, b"\xef\xbb\xbf" + body):
        [group] = read_traces(content, "otlp_json")
        assert [found.name for found in group.spans(NAMES) if found] == ["chat m"] * 2


def test_what_is_no_list_of_spans_is_one_bad_span() -> None:
    content = document(("scope", [span("chat m", {"gen_ai.operation.name": "chat"})]), ("x", []))
    content["resourceSpans"][0]["scopeSpans"][1]["spans"] = "x" * 1_000
    batch = read(json.dumps(content).encode(), "semconv")
    assert (len(batch.events), len(batch.rejected)) == (1, 1)


CHAT: dict[str, object] = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"}
CHAT_NAMES = frozenset(CHAT)


def damaged_json(prompt: bytes) -> bytes:
    """Return two requests, the first of which has the bytes in place of its prompt's value."""
    first = span("chat m", CHAT)
    first["attributes"].insert(0, {"key": "input.value", "value": "PROMPT"})
    return request(("scope", [first, span("chat m", CHAT, spanId="11" * 8)])).replace(
        b'"PROMPT"', prompt
    )


@pytest.mark.parametrize(
    "prompt",
    [
        b'{"stringValue": "cut \\ud83d"}',
        b'{"stringValue": "\\ude00 cut"}',
        b'{"stringValue": "\\ud83d\\ud83d\\ude00"}',
        b'{"stringValue": "one byte \xff"}',
        b'{"stringValue": "half a letter \xf0\x9f"}',
        b'{"arrayValue": {"values": [' * 3000 + b"]}}" * 3000,
        b'{"kvlistValue": ' * 3000 + b"1" + b"}" * 3000,
        b"[" * 3000 + b'"\xff]"' + b"]" * 3000,
        b'"a text without type"',
        b"[]",
        b"7",
    ],
)
def test_a_damaged_attribute_costs_itself_alone(prompt: bytes) -> None:
    batch = read(damaged_json(prompt), "semconv")
    assert [event["request_id"][-16:] for event in batch.events] == [SPAN_ID, "11" * 8]
    assert [event["model"] for event in batch.events] == ["m", "m"]
    assert batch.rejected == []


@given(
    st.recursive(
        st.none() | st.integers() | st.text('[]{}"\\\u00e9', max_size=6),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('[{"'), inner),
        max_leaves=20,
    ),
    st.integers(0, 6),
    st.booleans(),
)
def test_values_are_cut_where_they_become_too_deep(
    content: object, above: int, escaped: bool
) -> None:
    for _ in range(MAX_DEPTH - above):
        content = [content]
    text = json.dumps(content, ensure_ascii=escaped, separators=(",", ":"))
    assert json.loads(cut_deep_values(text.encode())) == cut(content, MAX_DEPTH)


def cut(content: Any, depth: int) -> Any:
    if not isinstance(content, dict | list):
        return content
    if depth == 0:
        return None
    if isinstance(content, dict):
        return {key: cut(item, depth - 1) for key, item in content.items()}
    return [cut(item, depth - 1) for item in content]


@pytest.mark.parametrize("prompt", [b"[" * 3000, b'{"stringValue": "\xff', b'"' + b'\\"' * 50_000])
def test_damage_without_an_end_costs_the_request(prompt: bytes) -> None:
    with pytest.raises(NotTraces, match="no JSON"):
        read_traces(damaged_json(prompt))


@pytest.mark.parametrize(
    ("place", "rejections"),
    [
        (lambda group: group.update(resource="x" * 50), 0),
        (lambda group: group["scopeSpans"][0].update(scope=["x"]), 0),
        (lambda group: group["scopeSpans"][0].update(spans="x" * 50), 1),
        (lambda group: group["scopeSpans"][0].update(spans={"x": 1}), 1),
        (lambda group: group.update(scopeSpans="x" * 50), 1),
        (lambda group: group.update(scopeSpans=[None, 5]), 2),
        (lambda group: group["resource"]["attributes"].append("x"), 0),
        (lambda group: group["scopeSpans"][0]["spans"].append(7), 1),
    ],
)
@pytest.mark.parametrize("profile", ["semconv", "litellm-v2"])
def test_a_part_of_a_wrong_type_costs_itself_with_one_rejection(
    place: Callable[[Any], object], rejections: int, profile: str
) -> None:
    scope = "litellm" if profile == "litellm-v2" else "scope"
    whole = document((scope, [span("chat m", CHAT)]))
    wrong = json.loads(json.dumps(whole))["resourceSpans"][0]
    wrong["scopeSpans"][0]["spans"][0]["spanId"] = "11" * 8
    place(wrong)
    body = json.dumps({"resourceSpans": [wrong, *whole["resourceSpans"]]}).encode()
    batch = read(body, profile)
    assert batch.events[-1]["request_id"] == f"{TRACE_ID}/{SPAN_ID}"
    assert [rejected.reason for rejected in batch.rejected] == ["bad_span"] * rejections
    total = len(batch.events) + batch.skipped.total() + len(batch.rejected)
    assert total == batch.spans


@pytest.mark.parametrize("member", ["name", "trace_state", "message", "scope", "event", "key"])
def test_a_text_of_protobuf_that_is_not_utf_8_costs_itself(member: str) -> None:
    message = ExportTraceServiceRequest.FromString(proto_request({}))
    scope_spans = message.resource_spans[0].scope_spans[0]
    sent = scope_spans.spans[0]
    for key, content in CHAT.items():
        sent.attributes.add(key=key).value.string_value = str(content)
    sent.trace_state, sent.name, sent.status.message = "state-TEXT", "name-TEXT", "message-TEXT"
    scope_spans.scope.name = "scope-TEXT"
    sent.attributes.add(key="key-TEXT").value.string_value = "prompt"
    sent.events.add(name="event-TEXT")
    damaged = message.SerializeToString().replace(
        member.replace("_", "-").replace("trace-", "").encode() + b"-TEXT",
        member.replace("_", "-").replace("trace-", "").encode() + b"-\xff\xf0X\x9f",
    )
    assert damaged != message.SerializeToString()
    [group] = read_traces(damaged)
    [read_span] = group.spans(CHAT_NAMES)
    assert read_span is not None
    assert (read_span.trace_id, read_span.span_id) == (TRACE_ID, SPAN_ID)
    assert read_span.attributes == CHAT
    assert read_span.name == ("name-\ufffd\ufffdX\ufffd" if member == "name" else "name-TEXT")


def test_an_attribute_of_protobuf_that_is_not_utf_8_costs_itself() -> None:
    body = proto_request({"empty": "TEXT", "zero": 7}).replace(b"TEXT", b"\xffEX\x80")
    [read_span] = spans(body)
    assert read_span is not None
    assert read_span.attributes == {"empty": None, "zero": 7}
