"""Rules about the sources of the intake: what would make counts wrong without a failed request.

Pure. Each source is compared with itself: with what it sent at the same time a day and a week ago,
or with the last 24 hours without the last hour. A source that never sent has no series.
"""

from collections.abc import Iterator

from alerts.promql import any_of, newest, number, on
from alerts.rules.model import KEEP_FIRING_S, Alert, ticket
from exporters.catalogue import sources as catalogue
from exporters.catalogue.spec import Spec
from slo.health_limits import (
    SCOPE_NEW_S,
    SOURCE_KNOWN_S,
    SOURCE_SILENT_AFTER_S,
    SOURCE_SILENT_EXPECTED,
)
from slo.policy.conditions import (
    RECENT_MIN_REQUESTS,
    UNREPORTED_BELOW,
    USUAL_KNOWN_SHARE,
    USUAL_MIN_REQUESTS,
)
from slo.policy.units import percent_text

_DAY, _HOUR = "24h", "1h"
_SOURCE = ("source",)
_WHICH = "source {{ $labels.source }}"
_SHARE = "{{ $value | humanizePercentage }}"


def source_alerts() -> Iterator[Alert]:
    """Yield the alerts on sources; all are tickets."""
    yield _silent()
    yield _usage_missing()
    yield _sampled()
    yield _new_scope()


def _of(spec: Spec, window: str) -> str:
    return newest(spec, {"window": any_of((window,))}, _SOURCE)


def _silent() -> Alert:
    last = newest(catalogue.SOURCE_LAST_EVENT, by=_SOURCE)
    return ticket(
        "TokenpulseSourceSilent",
        f"{newest(catalogue.SOURCE_EXPECTED, by=_SOURCE)} >= {SOURCE_SILENT_EXPECTED}"
        f"\nand time() - {last} >= {SOURCE_SILENT_AFTER_S}",
        f"No events of {_WHICH}, which usually had sent {{{{ $value | humanize }}}} by now",
        f"Since the last event of {_WHICH} it sent {{{{ $value | humanize }}}} events at the same "
        "time of the day before, or of the week before. Either its requests have stopped, or they "
        "are no longer seen: the numbers of its models and regions then speak of the rest only.",
        "no event; {{ $value | humanize }} expected",
        f"an event within {SOURCE_SILENT_AFTER_S}s",
        60,
        KEEP_FIRING_S,
    )


def _usage_missing() -> Alert:
    def successes(window: str) -> str:
        return _of(catalogue.SOURCE_SUCCESSES, window)

    def with_usage(window: str) -> str:
        return _of(catalogue.SOURCE_WITH_USAGE, window)

    before = f"({successes(_DAY)} - {successes(_HOUR)})"
    usual = f"({with_usage(_DAY)} - {with_usage(_HOUR)}) / {before}"
    return ticket(
        "TokenpulseSourceUsageMissing",
        f"{with_usage(_HOUR)} / {successes(_HOUR)} < {number(UNREPORTED_BELOW)} * {usual}"
        f"\nand {usual} >= {number(USUAL_KNOWN_SHARE)}"
        f"\nand {successes(_HOUR)} >= {RECENT_MIN_REQUESTS}\nand {before} >= {USUAL_MIN_REQUESTS}",
        f"{_WHICH.capitalize()} sends no token counts: {_SHARE} of its answers have them",
        f"In the last hour {_SHARE} of the answers of {_WHICH} had token counts, less than "
        f"{percent_text(UNREPORTED_BELOW)} of the share in the day before. Its requests count, but "
        "sums of tokens, costs and cache ratios are too small.",
        f"{_SHARE} of the answers have usage",
        f"at least {percent_text(UNREPORTED_BELOW)} of the share in the day before",
        300,
        KEEP_FIRING_S,
    )


def _sampled() -> Alert:
    share = f"{_of(catalogue.SOURCE_SAMPLED, _HOUR)} / {_of(catalogue.SOURCE_EVENTS, _HOUR)}"
    return ticket(
        "TokenpulseSourceSampled",
        f"{share} > 0",
        f"{_WHICH.capitalize()} sends sampled traces: {_SHARE} of its events",
        f"In the last hour {_SHARE} of the events of {_WHICH} came from sampled traces: the spans "
        "beside them were left out and are counted nowhere. Requests, failures and tokens are too "
        "few, and a sampler that prefers errors makes availability too low.",
        f"{_SHARE} of the events are of a sample",
        "none",
        60,
        KEEP_FIRING_S,
    )


def _new_scope() -> Alert:
    since = newest(catalogue.SOURCE_SCOPE_SINCE, by=("source", "span_scope"))
    source_since = newest(catalogue.SOURCE_SINCE, by=_SOURCE)
    age = "{{ $value | humanizeDuration }}"
    # On its first day all scopes of a source are new.
    return ticket(
        "TokenpulseSourceScopeNew",
        f"time() - {since} < {SCOPE_NEW_S}"
        f"\nand {since} > {on('source')} group_left () ({source_since} + {SOURCE_KNOWN_S})",
        f"{_WHICH.capitalize()} sends spans of a new scope, {{{{ $labels.span_scope }}}}",
        f"For {age} {_WHICH} has sent spans of the scope {{{{ $labels.span_scope }}}}, which no "
        "profile of the source takes. If these spans are requests, none of them is counted: a "
        "producer was updated, or another one was added.",
        f"seen for {age}",
        "a scope of a profile, or one that is known not to have requests",
        60,
        KEEP_FIRING_S,
    )
