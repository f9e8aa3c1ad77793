"""Spans of scopes that no profile lists: those that follow the conventions are requests."""

import json

import pytest
from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support.otlp_payloads import SPAN_ID, TRACE_ID, document, read, span

CHAT: dict[str, object] = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "aws.bedrock",
    "gen_ai.request.model": "m",
    "gen_ai.usage.input_tokens": 7,
}
SCOPES = ("spring-ai", "opentelemetry.instrumentation.langchain", "of.a.company", "")


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("kind", [1, 3])
def test_a_span_with_all_that_the_conventions_require_counts_in_any_scope(
    scope: str, kind: int
) -> None:
    sent = document((scope, [span("GET /", {}), span("chat m", CHAT, kind=kind)]))
    proto = json.loads(json.dumps(sent))
    for one in proto["resourceSpans"][0]["scopeSpans"][0]["spans"]:
        # In the JSON of other protobuf messages bytes are base64, of which hex digits are some.
        one["traceId"], one["spanId"] = "", ""
    message = ParseDict(proto, ExportTraceServiceRequest())
    for one in message.resource_spans[0].scope_spans[0].spans:
        one.trace_id, one.span_id = bytes.fromhex(TRACE_ID), bytes.fromhex(SPAN_ID)
    for body in (json.dumps(sent).encode(), message.SerializeToString()):
        batch = read(body)
        [event] = batch.events
        assert (event["model"], event["channel"], event["input_tokens"]) == ("m", "aws.bedrock", 7)
        assert dict(batch.skipped) == {("unknown_scope", scope): 1}


@pytest.mark.parametrize(
    ("changed", "kind"),
    [
        ({"gen_ai.operation.name": "invoke_agent"}, 3),
        ({"gen_ai.operation.name": "embeddings"}, 3),
        ({"gen_ai.operation.name": None}, 3),
        ({"gen_ai.provider.name": None}, 3),
        ({"gen_ai.request.model": None}, 3),
        ({}, 2),  # of a server: the client's span counts
    ],
)
def test_a_span_that_lacks_some_of_it_is_left_out_with_its_scope(
    changed: dict[str, object], kind: int
) -> None:
    attributes = {key: item for key, item in (CHAT | changed).items() if item is not None}
    batch = read(json.dumps(document(("new", [span("chat m", attributes, kind=kind)]))).encode())
    assert batch.events == []
    assert dict(batch.skipped) == {("unknown_scope", "new"): 1}


def test_a_source_with_a_profile_takes_no_other_scope() -> None:
    batch = read(json.dumps(document(("new", [span("chat m", CHAT)]))).encode(), "openllmetry")
    assert dict(batch.skipped) == {("unknown_scope", "new"): 1}


def test_of_a_framework_and_its_client_the_client_counts() -> None:
    inner = span("chat m", CHAT, spanId="22" * 8, parentSpanId=SPAN_ID)
    groups = ("spring-ai", [span("chat m", CHAT)]), ("io.opentelemetry.openai-java-1.1", [inner])
    batch = read(json.dumps(document(*groups)).encode())
    assert [event["request_id"] for event in batch.events] == [f"{TRACE_ID}/{'22' * 8}"]
    assert dict(batch.skipped) == {("repeats_usage", "spring-ai"): 1}


@pytest.mark.parametrize(
    ("address", "region"),
    [
        ("api.example.com", "api.example.com"),
        ("https://api.example.com/v1/", "api.example.com"),
        ("https://api.example.com:443?key=secret", "api.example.com"),
        ("http://key:secret@10.0.0.1:8000", "10.0.0.1"),
        ("http://[::1]:8000/v1", "::1"),
        ("http://[", None),
        ("http://", None),
    ],
)
def test_the_region_of_a_url_is_its_host(address: str, region: str | None) -> None:
    sent = span("chat m", {**CHAT, "server.address": address})
    (event,) = read(json.dumps(document(("agent_framework", [sent]))).encode()).events
    assert event.get("region") == region
