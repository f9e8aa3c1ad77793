"""Recorded OTLP payloads, and spans to build others from."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from streams.intake.otlp.batch import IntakeBatch
from streams.intake.otlp.decode import read_traces
from streams.intake.otlp.profiles import AUTO, select_profiles
from streams.intake.otlp.requests import RequestReader
from tests.support.paths import GOLDEN

PAYLOADS = GOLDEN / "otlp"
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
SPAN_ID = "b7ad6b7169203331"
START_NS = 1_790_000_000_000_000_000
MS = 1_000_000


def read(body: bytes, profile: str = AUTO, customer_attributes: Sequence[str] = ()) -> IntakeBatch:
    """Return what a record becomes by a profile."""
    return RequestReader(select_profiles(profile), customer_attributes).read(read_traces(body))


def read_file(path: Path, profile: str = AUTO) -> IntakeBatch:
    return read(path.read_bytes(), profile)


def value(content: object) -> dict[str, Any]:
    """Return an attribute's value as OTLP/JSON has it."""
    if isinstance(content, bool):
        return {"boolValue": content}
    if isinstance(content, int):
        return {"intValue": str(content)}
    if isinstance(content, float):
        return {"doubleValue": content}
    if isinstance(content, list):
        return {"arrayValue": {"values": [value(item) for item in content]}}
    return {"stringValue": str(content)}


def pairs(attributes: dict[str, object]) -> list[dict[str, Any]]:
    return [{"key": key, "value": value(content)} for key, content in attributes.items()]


def span(
    name: str,
    attributes: dict[str, object],
    *,
    kind: int = 3,
    status: int = 0,
    duration_ms: float = 1000,
    events: tuple[tuple[str, float, dict[str, object]], ...] = (),
    **fields: object,
) -> dict[str, Any]:
    """Return a span as OTLP/JSON has it; `events` are (name, ms after the start, attributes)."""
    return {
        "traceId": TRACE_ID,
        "spanId": SPAN_ID,
        "name": name,
        "kind": kind,
        "startTimeUnixNano": str(START_NS),
        "endTimeUnixNano": str(START_NS + round(duration_ms * MS)),
        "status": {"code": status},
        "attributes": pairs(attributes),
        "events": [
            {
                "name": event_name,
                "timeUnixNano": str(START_NS + round(after_ms * MS)),
                "attributes": pairs(event_attributes),
            }
            for event_name, after_ms, event_attributes in events
        ],
        **fields,
    }


def document(
    *groups: tuple[str, list[dict[str, Any]]], resource: dict[str, object] | None = None
) -> dict[str, Any]:
    """Return a traces request of one resource as OTLP/JSON has it; groups are (scope, spans)."""
    return {
        "resourceSpans": [
            {
                "resource": {"attributes": pairs(resource or {})},
                "scopeSpans": [
                    {"scope": {"name": scope}, "spans": spans} for scope, spans in groups
                ],
            }
        ]
    }


def request(
    *groups: tuple[str, list[dict[str, Any]]], resource: dict[str, object] | None = None
) -> bytes:
    """Return the body of a traces request in OTLP/JSON."""
    return json.dumps(document(*groups, resource=resource)).encode()


def envoy_request(name: str) -> bytes:
    """Return a traces request around one of the spans of Envoy AI Gateway."""
    recorded = json.loads((PAYLOADS / "envoy-ai-gateway" / f"span-{name}.json").read_text())
    times = {key: content for key, content in span("", {}).items() if "Id" in key or "Nano" in key}
    return request(("envoyproxy/ai-gateway", [times | recorded]))
