"""Profiles: which spans of a producer are requests, and where their fields are.

Pure: plain data. A span is a request if scope, name, kind and attributes fit; the choice is static,
so that a call that gives several spans gives one event. Lists of attributes are in the order in
which they are tried.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from fnmatch import fnmatchcase

from streams.intake.otlp.spans import CLIENT, INTERNAL, SERVER, Span

Fields = Mapping[str, tuple[str, ...]]  # field of the event -> attributes

ANY = ("*",)
INFERENCE = frozenset({"chat", "text_completion", "generate_content"})


class Cut(Enum):
    """How a producer shows a stream that was cut or cancelled, if not by an error."""

    NOT_SHOWN = "such a stream looks like a success"
    NO_FINISH_REASON = "no finish reason"
    NO_STATUS = "no finish reason, and a status that is not set"


@dataclass(frozen=True)
class Ttft:
    """Where the time to the first token is: an attribute in a unit, or the time of an event."""

    attribute: str = ""
    ms: float = 1.0  # milliseconds of one unit
    event: str = ""  # counts from the start of the span


@dataclass(frozen=True)
class SpanProfile:
    """Which spans of a producer are requests, and where the fields of the event come from."""

    name: str
    scopes: tuple[str, ...]  # patterns; the first profile that fits a scope takes it
    fields: Fields
    title: str = ""
    names: tuple[str, ...] = ANY
    not_names: tuple[str, ...] = ()
    kinds: frozenset[int] = frozenset()  # empty: any
    # A request has at least one of these attributes with one of the values...
    requires: Mapping[str, frozenset[str]] = field(default_factory=dict)
    # ... and none of these with another value.
    allows: Mapping[str, frozenset[str]] = field(default_factory=dict)
    # ... and at least one of each of these, with any value.
    needs: tuple[tuple[str, ...], ...] = ()
    resource: Fields = field(default_factory=dict)  # field of the event -> attributes of resources
    ttft: tuple[Ttft, ...] = ()
    duration: Ttft | None = None  # None: end minus start of the span
    stream: bool | None = None  # of a span without a flag and without TTFT; None: not known
    parameters: str = ""  # attribute: JSON text of the call's parameters, with `stream` and `model`
    usage_text: str = ""  # attribute: LiteLLM's usage object as Python prints it
    cut: Cut = Cut.NOT_SHOWN
    # Pattern of its own scopes -> scopes whose spans they repeat, if both are in one batch.
    yields_to: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    invents_usage: bool = False  # of failed and cancelled requests
    # If the source names the profile: name and kind of a span suffice, and scopes vary by version.
    takes_any_scope: bool = False
    takes_any_id: bool = False  # ids may be any text
    servers: tuple[str, ...] = ()  # scopes of the proxy's SERVER spans, joined with the requests

    def takes(self, scope: str) -> bool:
        """Return whether the scope is the producer's."""
        return fits(scope, self.scopes)

    def is_request(self, span: Span) -> bool:
        """Return whether a span of the producer is a request."""
        if self.kinds and span.kind not in self.kinds:
            return False
        has_name = self.names is ANY or fits(span.name, self.names)
        if not has_name or (self.not_names and fits(span.name, self.not_names)):
            return False
        attributes = span.attributes
        # Here the attribute may be absent, unlike in `requires`.
        for name, values in self.allows.items():
            if attributes.get(name) not in (None, *values):
                return False
        for choice in self.needs:
            if attributes.keys().isdisjoint(choice):
                return False
        for name, values in self.requires.items():
            value = attributes.get(name)
            if isinstance(value, str) and value in values:  # a list is in no set
                return True
        return not self.requires


def fits(text: str, patterns: tuple[str, ...]) -> bool:
    """Return whether the text fits one of the patterns; case matters."""
    return patterns == ANY or any(fnmatchcase(text, pattern) for pattern in patterns)


ANY_KIND: frozenset[int] = frozenset()
OF_CALLERS = frozenset({CLIENT, INTERNAL})
OF_CLIENTS, OF_SERVERS, INSIDE = frozenset({CLIENT}), frozenset({SERVER}), frozenset({INTERNAL})
