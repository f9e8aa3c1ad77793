"""OTLP traces in protobuf, read with the messages of opentelemetry-proto.

Pure. Walking the attributes costs most of the time, so a value is read only if its key is wanted.
"""

from collections.abc import Iterable, Iterator, Sequence

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans
from opentelemetry.proto.trace.v1.trace_pb2 import Span as ProtoSpan

from streams.intake.otlp.spans import (
    EVENT_ATTRIBUTES,
    EVENT_NAMES,
    Attribute,
    Attributes,
    NotTraces,
    Span,
    SpanEvent,
    SpanGroup,
)

_TRACE_ID_BYTES, _SPAN_ID_BYTES = 16, 8
_SCALARS = frozenset({"string_value", "int_value", "double_value", "bool_value"})


def read_proto(body: bytes) -> list[SpanGroup]:
    """Return the span groups of an `ExportTraceServiceRequest`; no bytes are no groups.

    Raise NotTraces if the bytes are another message, or if no span has ids of the right length:
    a request of metrics may decode as one of traces.
    """
    try:
        request = ExportTraceServiceRequest.FromString(body)
    except DecodeError as error:
        raise NotTraces("the bytes are no ExportTraceServiceRequest") from error
    scopes = [
        (resource_spans, scope_spans)
        for resource_spans in request.resource_spans
        for scope_spans in resource_spans.scope_spans
    ]
    spans = [span for _, scope_spans in scopes for span in scope_spans.spans]
    if spans and not any(
        len(span.trace_id) == _TRACE_ID_BYTES and len(span.span_id) == _SPAN_ID_BYTES
        for span in spans
    ):
        raise NotTraces("no span has ids of 16 and 8 bytes: these are no traces")
    if body and not request.resource_spans:
        raise NotTraces("the bytes hold no resource_spans")
    return [ProtoGroup(resource_spans, scope_spans) for resource_spans, scope_spans in scopes]


class ProtoGroup:
    """The spans of one `ScopeSpans` message."""

    def __init__(self, resource_spans: ResourceSpans, scope_spans: ScopeSpans) -> None:
        self.scope = scope_spans.scope.name
        self._resource = resource_spans.resource.attributes
        self._spans = scope_spans.spans

    def __len__(self) -> int:
        return len(self._spans)

    def resource(self, names: frozenset[str]) -> Attributes:
        return _attributes(self._resource, names)

    def spans(self, names: frozenset[str]) -> Iterator[Span | None]:
        for span in self._spans:
            yield Span(
                span.trace_id.hex(),
                span.span_id.hex(),
                span.parent_span_id.hex(),
                span.name,
                span.kind,
                span.start_time_unix_nano,
                span.end_time_unix_nano,
                span.status.code,
                span.trace_state,
                _attributes(span.attributes, names),
                _events(span.events) if span.events else {},
            )


def _attributes(pairs: Iterable[KeyValue], names: frozenset[str]) -> Attributes:
    attributes: Attributes = {}
    for pair in pairs:
        key = pair.key
        if key in names:
            attributes[key] = _value(pair.value)
    return attributes


def _value(value: AnyValue) -> Attribute:
    """Return the value as Python has it; None for maps, bytes and values that are not set."""
    kind = value.WhichOneof("value")
    if kind in _SCALARS:
        scalar: Attribute = getattr(value, kind)
        return scalar
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    return None


def _events(events: Sequence[ProtoSpan.Event]) -> dict[str, SpanEvent]:
    first: dict[str, SpanEvent] = {}
    for event in events:
        name = event.name
        if name in EVENT_NAMES and name not in first:
            first[name] = SpanEvent(
                event.time_unix_nano, _attributes(event.attributes, EVENT_ATTRIBUTES)
            )
    return first
