"""Spans as intake reads them, from protobuf and from JSON.

Pure. A span carries only the attributes and span events that a caller names: prompts and answers
stay in the record that they came in. Times are nanoseconds since the Unix epoch.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from streams.errors import RequestError

Attribute = str | int | float | bool | list[object] | None
Attributes = dict[str, Attribute]

INTERNAL, SERVER, CLIENT = 1, 2, 3  # span kinds
STATUS_UNSET, STATUS_OK, STATUS_ERROR = 0, 1, 2
TRACE_ID_CHARACTERS, SPAN_ID_CHARACTERS = 32, 16  # hexadecimal

# Span events that tell when the first token came, or why a span has_error.
FIRST_TOKEN_EVENT = "First Token Stream Event"  # noqa: S105 - the name of a span event
FIRST_CHUNK_EVENT = "gen_ai.content.completion.chunk"
EXCEPTION_EVENT = "exception"
EVENT_NAMES = frozenset({FIRST_TOKEN_EVENT, FIRST_CHUNK_EVENT, EXCEPTION_EVENT})
EVENT_ATTRIBUTES = frozenset({"exception.type", "exception.message"})


class NotTraces(RequestError):
    """The body is no OTLP traces request; the message quotes none of it."""


@dataclass(slots=True)
class SpanEvent:
    """The first span event of a name."""

    time_ns: int
    attributes: Attributes


@dataclass(slots=True)
class Span:
    """One span; ids that are no hexadecimal of the right length are kept as they were sent."""

    trace_id: str
    span_id: str
    parent_id: str  # empty: a root
    name: str
    kind: int
    start_ns: int
    end_ns: int
    status: int
    trace_state: str
    attributes: Attributes
    events: dict[str, SpanEvent] = field(default_factory=dict)


class SpanGroup(Protocol):
    """The spans that one instrumentation scope of one resource sent."""

    scope: str
    size: int  # spans
    is_damaged: bool  # a value that is no list is in the place of the spans: one span of None

    def resource(self, names: frozenset[str]) -> Attributes:
        """Return those attributes of the resource that have one of the names."""

    def has(self, name: str) -> bool:
        """Return whether a span has an attribute of the name."""

    def spans(self, names: frozenset[str]) -> Iterator[Span | None]:
        """Yield the spans with those attributes that have one of the names.

        A span that is not built as OTLP defines it is None.
        """
