"""The result of reading a record of spans.

Pure. Each span of the record is in exactly one of the three: it gave an event, was skipped as no
request of its own, or was rejected.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

Event = dict[str, Any]

TOKEN_FIELDS = (
    *("input_tokens", "cached_input_tokens", "cache_write_tokens"),
    *("output_tokens", "reasoning_tokens", "total_tokens"),
)

# Why a span is skipped.
UNKNOWN_SCOPE = "unknown_scope"  # no profile takes its scope
OTHER_PROFILE = "other_profile"  # a profile takes its scope, but not one of this source
NO_REQUEST = "no_request"
REPEATS_USAGE = "repeats_usage"  # the usage of a call that another span stands for
JOINED = "joined"  # a proxy's SERVER span beside the CLIENT span of the same request
NO_CLIENT_SPAN = "no_client_span"  # a proxy's SERVER span whose CLIENT span is in another record

# Why an event counts less surely than usual.
SAMPLED = "sampled"  # spans beside its own were left out
NO_USAGE = "no_usage"
# A proxy's request over several records: a cancellation counts as a success, or an attempt as a
# request of its own.
SPLIT_REQUEST = "split_request"
# A proxy's request without CLIENT span: it counts twice if another intake read one.
SERVER_SPAN_ONLY = "server_span_only"

# Why a span is rejected.
BAD_SPAN, BAD_ID, BAD_TIME = "bad_span", "bad_id", "bad_time"


@dataclass(frozen=True, slots=True)
class RejectedSpan:
    """A request that cannot be counted; `fields` are those that were read, without prompts."""

    reason: str
    detail: str
    position: int  # of the span in the record, from 0
    scope: str
    fields: Event


@dataclass(slots=True)
class IntakeBatch:
    """The events of a record, and the counts of the spans that gave none."""

    events: list[Event] = field(default_factory=list)
    skipped: Counter[tuple[str, str]] = field(default_factory=Counter)  # (reason, scope)
    rejected: list[RejectedSpan] = field(default_factory=list)
    # Spans that count with less certainty: (note, scope).
    notes: Counter[tuple[str, str]] = field(default_factory=Counter)
    spans: int = 0


def drop_tokens(event: Event) -> None:
    """Remove all token counts from the event."""
    for name in TOKEN_FIELDS:
        event.pop(name, None)
