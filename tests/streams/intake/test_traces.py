"""POST /v1/traces: spans become events, and the answers are those of OTLP/HTTP."""

import gzip
import json
import time
from typing import Any

import pytest
from aiohttp import ClientSession
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from streams.config.settings import Settings
from streams.kafka.dead_letters import DeadLetterHeaders
from tests.support.intake_on_broker import IntakeOnBroker

PATH = "/v1/traces"
PROTO, JSON = "application/x-protobuf", "application/json"
SECRET = "a planted prompt"
ATTRIBUTES: dict[str, Any] = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-5",
    "gen_ai.usage.input_tokens": 2_048,
    "gen_ai.usage.output_tokens": 120,
    "gen_ai.response.time_to_first_chunk": 0.15,
    "gen_ai.input.messages": SECRET,
    "user.id": "acme",
}


def request(spans: int, bad: int = 0, scope: str = "opentelemetry.instrumentation.genai") -> Any:
    """A request of `spans` calls, of which the first `bad` ones end before they start."""
    content = ExportTraceServiceRequest()
    group = content.resource_spans.add().scope_spans.add()
    group.scope.name = scope
    now_ns = time.time_ns()
    for number in range(spans):
        span = group.spans.add(
            trace_id=number.to_bytes(15, "big") + b"\1",
            span_id=number.to_bytes(7, "big") + b"\1",
            name="chat gpt-5",
            kind=3,
            start_time_unix_nano=now_ns - 2_000_000_000,
            end_time_unix_nano=now_ns - (3_000_000_000 if number < bad else 0),
        )
        for key, value in ATTRIBUTES.items():
            pair = span.attributes.add(key=key)
            kind = {int: "int_value", float: "double_value", str: "string_value"}[type(value)]
            setattr(pair.value, kind, value)
    return content


async def post(
    client: ClientSession, body: bytes, kind: str = PROTO, **headers: str
) -> tuple[int, str, bytes]:
    async with client.post(PATH, data=body, headers={"Content-Type": kind, **headers}) as response:
        return response.status, response.content_type, await response.read()


def test_spans_become_events_under_ids_of_trace_and_span(intake: IntakeOnBroker) -> None:
    async def use(client: ClientSession, settings: Settings) -> Settings:
        body = request(3).SerializeToString()
        assert await post(client, body) == (200, PROTO, b"")
        packed = gzip.compress(body)
        assert await post(client, packed, **{"Content-Encoding": "gzip"}) == (200, PROTO, b"")
        assert await post(client, b"") == (200, PROTO, b"")
        assert await post(client, b"{}", JSON) == (200, JSON, b"{}")
        return settings

    settings = intake.run(use)
    [records] = intake.broker.read(settings.kafka.topic, 6).values()
    assert len({record.key for record in records}) == 3
    event = json.loads(records[0].value)
    assert (event["model"], event["input_tokens"], event["ttft_ms"]) == ("gpt-5", 2_048, 150)
    assert all(SECRET.encode() not in record.value for record in records)


@pytest.mark.parametrize("kind", [PROTO, JSON])
def test_a_span_that_cannot_be_counted_costs_itself_alone(
    intake: IntakeOnBroker, kind: str
) -> None:
    async def use(client: ClientSession, settings: Settings) -> Settings:
        content = request(3, bad=1)
        body = content.SerializeToString() if kind == PROTO else as_json(content)
        status, answered, answer = await post(client, body, kind)
        assert (status, answered) == (200, kind)
        if kind == PROTO:
            partial = ExportTraceServiceResponse.FromString(answer).partial_success
            count, message = partial.rejected_spans, partial.error_message
        else:
            said = json.loads(answer)["partialSuccess"]
            count, message = int(said["rejectedSpans"]), said["errorMessage"]
        assert count == 1
        assert message.startswith("bad_time: ")
        return settings

    settings = intake.run(use)
    intake.broker.read(settings.kafka.topic, 2)
    [[letter]] = [log for log in intake.broker.read(settings.kafka.dlq_topic, 1).values() if log]
    headers = DeadLetterHeaders.parse(letter.headers)
    assert (headers.topic, headers.reason) == ("/v1/traces:anonymous", "bad_time")
    assert SECRET.encode() not in letter.value


def as_json(content: ExportTraceServiceRequest) -> bytes:
    group = content.resource_spans[0].scope_spans[0]
    spans = [
        {
            "traceId": span.trace_id.hex(),
            "spanId": span.span_id.hex(),
            "name": span.name,
            "kind": span.kind,
            "startTimeUnixNano": str(span.start_time_unix_nano),
            "endTimeUnixNano": str(span.end_time_unix_nano),
            "attributes": [
                {"key": pair.key, "value": _value(pair.value)} for pair in span.attributes
            ],
        }
        for span in group.spans
    ]
    scope = {"scope": {"name": group.scope.name}, "spans": spans}
    return json.dumps({"resourceSpans": [{"scopeSpans": [scope]}]}).encode()


def _value(value: AnyValue) -> dict[str, Any]:
    if value.HasField("int_value"):
        return {"intValue": str(value.int_value)}
    if value.HasField("double_value"):
        return {"doubleValue": value.double_value}
    return {"stringValue": value.string_value}


def test_spans_that_are_no_request_are_skipped_and_counted_by_scope(
    intake: IntakeOnBroker,
) -> None:
    async def use(client: ClientSession, _settings: Settings) -> str:
        content = request(2, scope="my.own.scope")
        for span in content.resource_spans[0].scope_spans[0].spans:
            del span.attributes[:]
        assert await post(client, content.SerializeToString()) == (200, PROTO, b"")
        async with client.get("/metrics") as response:
            return await response.text()

    lines = [line for line in intake.run(use).splitlines() if "my.own.scope" in line]
    [line] = [line for line in lines if line.startswith("tokenpulse_intake_skipped_total")]
    assert line.endswith(" 2.0")


@pytest.mark.parametrize("named", [False, True])
def test_the_customer_is_the_attribute_that_the_settings_name(
    intake: IntakeOnBroker, named: bool
) -> None:
    async def use(client: ClientSession, settings: Settings) -> Settings:
        assert await post(client, request(1).SerializeToString()) == (200, PROTO, b"")
        return settings

    settings = intake.run(use, customer_attributes=("team", "user.id") if named else ())
    [[record]] = [log for log in intake.broker.read(settings.kafka.topic, 1).values() if log]
    assert json.loads(record.value).get("customer_id") == ("acme" if named else None)


def test_what_is_no_trace_is_answered_with_a_status_message(intake: IntakeOnBroker) -> None:
    async def use(client: ClientSession, _settings: Settings) -> None:
        status, kind, body = await post(client, b"\xff\xff\xff")
        assert (status, kind, body[:2]) == (400, PROTO, b"\x08\x03")
        status, kind, body = await post(client, b"[1]", JSON)
        assert (status, kind) == (400, JSON)
        assert json.loads(body)["code"] == 3
        assert (await post(client, b"{}", "text/plain"))[0] == 415
        assert (await client.get(PATH)).status == 405

    intake.run(use)
