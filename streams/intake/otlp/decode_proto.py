"""OTLP traces in protobuf, read with the messages of opentelemetry-proto.

Pure. The messages are the published ones but for one thing: attributes are maps from key to the
bytes of the value. On the wire a map is a list of messages with a key and a value, as OTLP sends
it, and a message inside a message is written as bytes are. So attributes of no interest never
become objects, and their content is not checked. Of a key given twice the last value counts.
"""

from collections.abc import Iterator, Mapping, Sequence
from struct import Struct
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
_PAIR_TYPE = ".opentelemetry.proto.common.v1.KeyValue"
# First bytes of an AnyValue: number and wire type of its member.
_INT_TAG, _DOUBLE_TAG = 0x18, 0x21
_DOUBLE = Struct("<xd")  # behind the tag
_MORE = 0x80  # the bit of a byte that is not the last one of its number
# Texts, flags and lists that were decoded before: names of models, providers and regions come again
# with nearly every span. Longer texts may quote a request, and are not kept.
_KNOWN: dict[bytes, Attribute] = {}
_LONGEST_KNOWN, _MOST_KNOWN = 32, 10_000
_NO_REQUEST = "the bytes are no ExportTraceServiceRequest"


def _request_class(*, checks_texts: bool) -> Any:
    """Return the class of traces requests, in a pool of its own.

    If it checks texts, its attributes are maps; if not, its texts are bytes, as is the value of an
    attribute.
    """
    # The default pool has the published messages under the same names already.
    pool = DescriptorPool()
    for module in _FILES:
        file = FileDescriptorProto()
        module.DESCRIPTOR.CopyToProto(file)
        for message in file.message_type:
            if not checks_texts:
                _use_bytes(message)
            elif module is not common_pb2:  # the scope's attributes are there, and are not read
                _use_maps(message, f".{file.package}.{message.name}")
        pool.AddSerializedFile(file.SerializeToString())
    return GetMessageClass(pool.FindMessageTypeByName(_REQUEST_NAME))


def _use_maps(message: DescriptorProto, full_name: str) -> None:
    """Make the attributes of a message, and of the messages in it, maps from key to bytes."""
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
                name="value", number=2, label=optional, type=FieldDescriptorProto.TYPE_BYTES
            )
            member.type_name = f"{full_name}.{entry.name}"


def _use_bytes(message: DescriptorProto) -> None:
    """Make the texts of a message, and of the messages in it, bytes, and so the value of a pair."""
    for nested in message.nested_type:
        _use_bytes(nested)
    for member in message.field:
        is_value = (message.name, member.name) == ("KeyValue", "value")
        if is_value or member.type == FieldDescriptorProto.TYPE_STRING:
            member.type = FieldDescriptorProto.TYPE_BYTES
            member.ClearField("type_name")


_REQUEST = _request_class(checks_texts=True)
_UNCHECKED_REQUEST = _request_class(checks_texts=False)
# Bytes in the published messages too, or the value of an attribute, which is read by itself.
_NO_TEXTS = frozenset({"trace_id", "span_id", "parent_span_id", "value"})


def read_proto(body: bytes) -> list[SpanGroup]:
    """Return the span groups of an `ExportTraceServiceRequest`; no bytes are no groups.

    Raise NotTraces if the bytes are another message, or if no span has ids of the right length:
    a request of metrics may decode as one of traces.
    """
    try:
        request = _REQUEST.FromString(body)
    except DecodeError:
        request = _read_damaged(body)
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


def _read_damaged(body: bytes) -> Any:
    """Return the request with U+FFFD for bytes in its texts that are not UTF-8."""
    try:
        damaged = _UNCHECKED_REQUEST.FromString(body)
        _mend_texts(damaged)
        return _REQUEST.FromString(damaged.SerializeToString())
    except DecodeError as error:
        raise NotTraces(_NO_REQUEST) from error


def _mend_texts(message: Any) -> None:
    for member, content in message.ListFields():
        if member.message_type is not None:
            for part in content if member.is_repeated else (content,):
                _mend_texts(part)
        elif isinstance(content, bytes) and member.name not in _NO_TEXTS:
            setattr(message, member.name, content.decode("utf-8", "replace").encode())


class ProtoGroup:
    """The spans of one `ScopeSpans` message."""

    is_damaged = False  # bytes that are no spans cost their whole request

    def __init__(self, resource_spans: Any, scope_spans: Any) -> None:
        self.scope = scope_spans.scope.name
        self._resource = resource_spans.resource.attributes
        self._spans = scope_spans.spans
        self.size = len(self._spans)

    def resource(self, names: frozenset[str]) -> Attributes:
        return _attributes(self._resource, names)

    def has(self, name: str) -> bool:
        return any(name in span.attributes for span in self._spans)

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


def _attributes(sent: Mapping[str, bytes], names: frozenset[str]) -> Attributes:
    """Return the attributes that have one of the names; None for a value that cannot be read."""
    known = _KNOWN.get
    attributes: Attributes = {}
    for key in names.intersection(sent):
        encoded = sent[key]
        value = known(encoded)
        if value is None:
            try:
                value = _value(encoded)
            except (DecodeError, UnicodeDecodeError):
                value = None
        attributes[key] = value
    return attributes


def _value(encoded: bytes) -> Attribute:
    """Return the value of an encoded AnyValue as Python has it.

    None for maps, bytes and values that are not set, and for arrays in arrays, as in JSON.
    """
    size = len(encoded)
    tag = encoded[0] if encoded else None
    # Counts and times differ from span to span, and are quicker to read without protobuf.
    if tag == _INT_TAG:
        if size == 2 and encoded[1] < _MORE:
            return encoded[1]
        if size == 3 and encoded[1] >= _MORE > encoded[2]:
            return encoded[1] - _MORE + _MORE * encoded[2]
    elif tag == _DOUBLE_TAG and size == _DOUBLE.size:
        share: float = _DOUBLE.unpack(encoded)[0]
        return share
    value = _any_value(common_pb2.AnyValue.FromString(encoded))
    if size <= _LONGEST_KNOWN and tag != _INT_TAG:
        if len(_KNOWN) >= _MOST_KNOWN:
            _KNOWN.clear()
        _KNOWN[encoded] = value
    return value


def _any_value(value: common_pb2.AnyValue) -> Attribute:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_scalar(item, item.WhichOneof("value")) for item in value.array_value.values]
    return _scalar(value, kind)


def _scalar(value: common_pb2.AnyValue, kind: str | None) -> Attribute:
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
