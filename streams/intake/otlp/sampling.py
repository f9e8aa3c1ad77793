"""Whether a span is one of a sample, as the trace state or an attribute shows. Pure."""

import re

from streams.intake.otlp.spans import Span
from streams.intake.otlp.values import number

# `ot=th:` in the tracestate is a sampling threshold; a zero one keeps all spans.
_SAMPLED = re.compile(r"(?:^|,)\s*ot=(?:[^,]*;)?th:0*[1-9a-f]")
SAMPLING_NAMES = frozenset({"sampling.probability", "SampleRate"})


def is_one_of_a_sample(span: Span) -> bool:
    """Return whether spans beside this one were left out: counts of requests are then wrong."""
    if span.trace_state and _SAMPLED.search(span.trace_state):
        return True
    attributes = span.attributes
    share = number(attributes.get("sampling.probability"))
    one_of = number(attributes.get("SampleRate"))
    return (share is not None and share < 1) or (one_of is not None and one_of > 1)
