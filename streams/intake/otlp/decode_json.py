"""OTLP traces in JSON, as the specification defines it and as several writers send it.

Pure. The specification: names in camelCase, ids in hexadecimal, enums as integers, 64-bit integers
as text. Some writers send names in snake_case, ids in base64 or as lists of bytes, names of
enums, and integers as numbers or as `{low, high}`.
"""

import base64
import binascii
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import msgspec

from streams.events.parser import UNREADABLE, repair
from streams.intake.otlp.depth import cut_deep_values
from streams.intake.otlp.spans import (
    EVENT_ATTRIBUTES,
    EVENT_NAMES,
    SPAN_ID_CHARACTERS,
    TRACE_ID_CHARACTERS,
    Attribute,
    Attributes,
    NotTraces,
    Span,
    SpanEvent,
    SpanGroup,
)


class _Long(msgspec.Struct):
    """A 64-bit integer as protobuf.js writes it."""

    low: int
    high: int


_Integer = int | str | _Long | None
_Identifier = str | list[int] | dict[str, Any] | None


class _Array(msgspec.Struct):
    values: list["_Value"] | None = None


class _Value(msgspec.Struct, rename="camel"):
    string_value: str | None = None
    int_value: _Integer = None
    double_value: float | str | None = None
    bool_value: bool | None = None
    array_value: _Array | None = None


class _Pair(msgspec.Struct):
    key: str = ""
    value: _Value | None = None


class _Event(msgspec.Struct, rename="camel"):
    name: str = ""
    time_unix_nano: _Integer = None
    attributes: list[_Pair] | None = None


class _Status(msgspec.Struct):
    code: int | str | None = None


class _JsonSpan(msgspec.Struct, rename="camel"):
    trace_id: _Identifier = None
    span_id: _Identifier = None
    parent_span_id: _Identifier = None
    trace_state: str | None = None
    name: str = ""
    kind: int | str | None = None
    start_time_unix_nano: _Integer = None
    end_time_unix_nano: _Integer = None
    status: _Status | None = None
    attributes: list[_Pair] | None = None
    events: list[_Event] | None = None


class _JsonScope(msgspec.Struct):
    name: str | None = None


class _Resource(msgspec.Struct):
    attributes: list[_Pair] | None = None


class _JsonScopeSpans(msgspec.Struct):
    scope: _JsonScope | None = None
    spans: list[_JsonSpan | None] | None = None


class _JsonResourceSpans(msgspec.Struct, rename="camel"):
    resource: _Resource | None = None
    scope_spans: list[_JsonScopeSpans] | None = None


class _JsonRequest(msgspec.Struct, rename="camel"):
    resource_spans: list[_JsonResourceSpans]


_REQUEST = msgspec.json.Decoder(_JsonRequest)
_KINDS = {
    f"SPAN_KIND_{name}": at
    for at, name in enumerate(
        ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")
    )
}
_STATUSES = {f"STATUS_CODE_{name}": at for at, name in enumerate(("UNSET", "OK", "ERROR"))}
_Part = TypeVar("_Part")
_UNDERSCORE = re.compile(r"_([a-z])")


def read_json(body: bytes) -> list[SpanGroup]:
    """Return the span groups of an OTLP/JSON request; an empty object has none.

    A span that is not built as OTLP defines it is None in its group, and so is a list of spans.
    Raise NotTraces if the body is no JSON, or holds no list of spans although it is not empty.
    """
    try:
        request = _REQUEST.decode(body)
    except UNREADABLE:
        # Most bodies decode in one step; only those that do not fit are read part by part.
        return _read_leniently(_document(body))
    return [
        JsonGroup(resource_spans.resource, scope_spans)
        for resource_spans in request.resource_spans
        for scope_spans in resource_spans.scope_spans or ()
    ]


def _document(body: bytes) -> Any:
    """Return the JSON of the body with names in camelCase; damage costs the damaged value alone."""
    for mend in (bytes, _mend_characters, cut_deep_values):
        body = mend(body)
        try:
            return _camel_case(msgspec.json.decode(body))
        except RecursionError:
            continue
        except (msgspec.DecodeError, UnicodeDecodeError):
            if mend is _mend_characters:
                break
    raise NotTraces("the body is no JSON in UTF-8")


def _mend_characters(body: bytes) -> bytes:
    """Return the body with U+FFFD for halves of surrogate pairs and bytes that are not UTF-8."""
    return repair(body).decode(errors="replace").encode()


def _read_leniently(document: Any) -> list[SpanGroup]:
    """Return the groups of a document whose parts are checked one by one."""
    # An empty request is valid OTLP, but lacks the member that the strict type requires.
    if document == {}:
        return []
    if not isinstance(document, dict) or not isinstance(document.get("resourceSpans"), list):
        raise NotTraces("the body has no list resourceSpans; send events to /v1/events")
    groups = [group for item in document["resourceSpans"] for group in _groups(item)]
    if groups and all(group.is_damaged for group in groups):
        raise NotTraces("resourceSpans is not built as OTLP defines it")
    return list[SpanGroup](groups)


def _groups(resource_spans: object) -> Iterator["JsonGroup"]:
    if not isinstance(resource_spans, dict):
        yield _damaged_group(None)
        return
    resource = _convert(_with_good_attributes(resource_spans.get("resource")), _Resource)
    scopes = resource_spans.get("scopeSpans")
    if not isinstance(scopes, list):
        # One damaged part, as the list itself is none.
        scopes = [] if scopes is None else [None]
    for scope_spans in scopes:
        if not isinstance(scope_spans, dict):
            yield _damaged_group(None)
            continue
        scope = _convert(scope_spans.get("scope"), _JsonScope)
        spans = scope_spans.get("spans")
        if spans is None or isinstance(spans, list):
            read = [_lenient_span(span) for span in spans or ()]
            yield JsonGroup(resource, _JsonScopeSpans(scope, read))
        else:
            yield _damaged_group(scope)


def _damaged_group(scope: _JsonScope | None) -> "JsonGroup":
    """Return a group of one span that cannot be read, in the place of a wrong list of spans."""
    return JsonGroup(None, _JsonScopeSpans(scope, [None]), is_damaged=True)


def _lenient_span(document: object) -> _JsonSpan | None:
    """Return the span, without those attributes and events that are not built as OTLP has them."""
    span = _convert(document, _JsonSpan)
    if span is not None or not isinstance(document, dict):
        return span
    parts: dict[str, Any] = _with_good_attributes(document)
    events = parts.get("events")
    if isinstance(events, list):
        events = [_with_good_attributes(event) for event in events]
        parts["events"] = [event for event in events if _convert(event, _Event)]
    return _convert(parts, _JsonSpan)


def _with_good_attributes(document: Any) -> Any:
    if not isinstance(document, dict) or not isinstance(document.get("attributes"), list):
        return document
    pairs = document["attributes"]
    return document | {"attributes": [pair for pair in pairs if _convert(pair, _Pair)]}


def _convert(document: object, kind: type[_Part]) -> _Part | None:
    """Return the document as a struct, or None if it does not fit."""
    try:
        return msgspec.convert(document, kind)
    except msgspec.ValidationError:
        return None


def _camel_case(document: Any) -> Any:
    """Return the document with its names in camelCase.

    Keys of attributes are values of `key`, so they stay.
    """
    if isinstance(document, dict):
        return {
            _UNDERSCORE.sub(lambda found: found[1].upper(), name): _camel_case(value)
            for name, value in document.items()
        }
    if isinstance(document, list):
        return [_camel_case(item) for item in document]
    return document


class JsonGroup:
    """The spans of one member of `scopeSpans`."""

    def __init__(
        self,
        resource: _Resource | None,
        scope_spans: _JsonScopeSpans,
        *,
        is_damaged: bool = False,
    ) -> None:
        self.is_damaged = is_damaged
        self.scope = (scope_spans.scope and scope_spans.scope.name) or ""
        self._resource = resource
        self._spans: Sequence[_JsonSpan | None] = scope_spans.spans or ()
        self.size = len(self._spans)

    def resource(self, names: frozenset[str]) -> Attributes:
        return _attributes((self._resource and self._resource.attributes) or (), names)

    def has(self, name: str) -> bool:
        spans = (span.attributes for span in self._spans if span is not None and span.attributes)
        return any(pair.key == name for pairs in spans for pair in pairs)

    def spans(self, names: frozenset[str]) -> Iterator[Span | None]:
        for span in self._spans:
            yield None if span is None else _span(span, names)


def _span(span: _JsonSpan, names: frozenset[str]) -> Span | None:
    start_ns, end_ns = _integer(span.start_time_unix_nano), _integer(span.end_time_unix_nano)
    return Span(
        _identifier(span.trace_id, TRACE_ID_CHARACTERS),
        _identifier(span.span_id, SPAN_ID_CHARACTERS),
        _identifier(span.parent_span_id, SPAN_ID_CHARACTERS),
        span.name,
        _enum(span.kind, _KINDS),
        start_ns or 0,
        end_ns or 0,
        _enum(span.status.code, _STATUSES) if span.status else 0,
        span.trace_state or "",
        _attributes(span.attributes or (), names),
        _events(span.events) if span.events else {},
    )


def _attributes(pairs: Iterable[_Pair], names: frozenset[str]) -> Attributes:
    attributes: Attributes = {}
    for pair in pairs:
        if pair.key in names:
            attributes[pair.key] = _value(pair.value)
    return attributes


def _value(value: _Value | None) -> Attribute:
    """Return the value as Python has it; None for maps, bytes and values that are not set.

    Arrays in arrays are None too: how deep they go is the sender's choice.
    """
    if value is not None and value.array_value is not None:
        return [_scalar(item) for item in value.array_value.values or ()]
    return None if value is None else _scalar(value)


def _scalar(value: _Value) -> Attribute:
    # The first member that is set: in OTLP a value has one at most.
    if value.string_value is not None:
        return value.string_value
    if value.int_value is not None:
        return _integer(value.int_value)
    return value.bool_value if value.double_value is None else value.double_value


def _events(events: Iterable[_Event]) -> dict[str, SpanEvent]:
    first: dict[str, SpanEvent] = {}
    for event in events:
        if event.name in EVENT_NAMES and event.name not in first:
            first[event.name] = SpanEvent(
                _integer(event.time_unix_nano) or 0,
                _attributes(event.attributes or (), EVENT_ATTRIBUTES),
            )
    return first


def _integer(value: _Integer) -> int | None:
    """Return the number of 64 bits, signed or not; None if it is no such number."""
    if isinstance(value, str):
        # int() also reads blanks, underscores and digits of foreign scripts.
        value = int(value) if re.fullmatch(r"-?[0-9]{1,20}", value) else None
    elif isinstance(value, _Long):
        # protobuf.js writes `low` as a signed number of 32 bits.
        value = (value.high << 32) + (value.low & 0xFFFFFFFF)
    # Times are unsigned and attributes signed, and both are read here.
    return value if value is not None and -(2**63) <= value < 2**64 else None


def _enum(value: int | str | None, numbers: dict[str, int]) -> int:
    return numbers.get(value, 0) if isinstance(value, str) else value or 0


def _identifier(value: _Identifier, characters: int) -> str:
    """Return the id in hexadecimal of so many characters, or as it was sent if it is no such id."""
    if isinstance(value, dict):  # a Buffer of JavaScript, or an array of bytes as an object
        value = value.get("data", list(value.values()))
    if isinstance(value, list):
        try:
            return bytes(value).hex()
        except (ValueError, TypeError):
            return ""
    if not isinstance(value, str) or not value:
        return ""
    # Not as long as in hexadecimal: base64, as JSON of other protobuf messages has it.
    if len(value) != characters:
        try:
            decoded = base64.b64decode(value, validate=True).hex()
        except (binascii.Error, ValueError):
            return value
        return decoded if len(decoded) == characters else value
    return value.lower()
