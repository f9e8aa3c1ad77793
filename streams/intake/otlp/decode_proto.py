"""OTLP traces in protobuf, read with the messages of opentelemetry-proto.

Pure. The messages are the published ones but for one thing: attributes are maps. On the wire a map
is a list of messages with a key and a value, as OTLP sends it, but reading one takes a third of the
time: the keys of no interest never become objects. Of a key given twice the last value counts.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.common.v1 import common_pb2
from opentelemetry.proto.resource.v1 import resource_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

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
_FILES = (common_pb2, resource_pb2, trace_pb2, trace_service_pb2)
_REQUEST_NAME = "opentelemetry.proto.collector.trace.v1.ExportTraceServiceRequest"
_PAIR_TYPE, _VALUE_TYPE = (
    f".opentelemetry.proto.common.v1.{name}" for name in ("KeyValue", "AnyValue")
)


def _request_class() -> Any:
    """Return the class of traces requests whose attributes are maps, in a pool of its own."""
    # The default pool has the published messages under the same names already.
    pool = DescriptorPool()
    for module in _FILES:
        file = FileDescriptorProto()
        module.DESCRIPTOR.CopyToProto(file)
        if module is not common_pb2:  # the scope's attributes are there, and are not read
            for message in file.message_type:
                _use_maps(message, f".{file.package}.{message.name}")
        pool.AddSerializedFile(file.SerializeToString())
    return GetMessageClass(pool.FindMessageTypeByName(_REQUEST_NAME))


def _use_maps(message: DescriptorProto, full_name: str) -> None:
    """Make the attributes of a message, and of the messages in it, maps from key to value."""
    for nested in message.nested_type:
        _use_maps(nested, f"{full_name}.{nested.name}")
    for member in message.field:
        if member.name == "attributes" and member.type_name == _PAIR_TYPE:
            entry = message.nested_type.add(name="AttributesEntry")
            # protobuf tells a map's entries by this option; the bytes on the wire are the same.
            entry.options.map_entry = True
            optional = FieldDescriptorProto.LABEL_OPTIONAL
            entry.field.add(
                name="key", number=1, label=optional, type=FieldDescriptorProto.TYPE_STRING
            )
            entry.field.add(
                name="value",
                number=2,
                label=optional,
                type=FieldDescriptorProto.TYPE_MESSAGE,
                type_name=_VALUE_TYPE,
            )
            member.type_name = f"{full_name}.{entry.name}"


_REQUEST = _request_class()


def read_proto(body: bytes) -> list[SpanGroup]:
    """Return the span groups of an `ExportTraceServiceRequest`; no bytes are no groups.

    Raise NotTraces if the bytes are another message, or if no span has ids of the right length:
    a request of metrics may decode as one of traces.
    """
    try:
        request = _REQUEST.FromString(body)
    except DecodeError as error:
        raise NotTraces("the bytes are no ExportTraceServiceRequest") from error
    scopes = [
        (resource_spans, scope_spans)
        for resource_spans in request.resource_spans
        for scope_spans in resource_spans.scope_spans
    ]
    spans = [span for _, scope_spans in scopes for span in scope_spans.spans]
    # protobuf skips unknown fields, so many other messages decode without an error.
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

    def __init__(self, resource_spans: Any, scope_spans: Any) -> None:
        self.scope = scope_spans.scope.name
        self._resource = resource_spans.resource.attributes
        self._spans = scope_spans.spans
        self.size = len(self._spans)

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


def _attributes(sent: Mapping[str, Any], names: frozenset[str]) -> Attributes:
    # Asking for a content is quicker than asking which kind it is; empty ones are rare.
    return {
        key: (value := sent[key]).string_value
        or value.int_value
        or value.double_value
        or value.bool_value
        or _value(value)
        for key in names.intersection(sent)
    }


def _value(value: Any) -> Attribute:
    """Return the value as Python has it; None for maps, bytes and values that are not set.

    Arrays in arrays are None too, as in JSON.
    """
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_scalar(item, item.WhichOneof("value")) for item in value.array_value.values]
    return _scalar(value, kind)


def _scalar(value: Any, kind: str | None) -> Attribute:
    scalar: Attribute = getattr(value, kind) if kind in _SCALARS else None
    return scalar


def _events(events: Sequence[Any]) -> dict[str, SpanEvent]:
    first: dict[str, SpanEvent] = {}
    for event in events:
        name = event.name
        if name in EVENT_NAMES and name not in first:
            first[name] = SpanEvent(
                event.time_unix_nano, _attributes(event.attributes, EVENT_ATTRIBUTES)
            )
    return first
