"""Samples about the sources of the intake. Pure."""

from exporters.catalogue import sources as catalogue
from exporters.catalogue.spec import Spec
from exporters.metrics.exposition import Page, join, label_text
from streams.state.windows import ROLLING_S
from streams.store.source_counts import (
    EVENTS,
    RECORDS,
    REJECTED,
    SAMPLED,
    SUCCESSES,
    UNREAD_SPANS,
    WITH_USAGE,
    SourceCount,
    SourceHistory,
)

WINDOWS = ("1h", "24h")
_COUNTS: dict[str, Spec] = {
    RECORDS: catalogue.SOURCE_RECORDS,
    EVENTS: catalogue.SOURCE_EVENTS,
    REJECTED: catalogue.SOURCE_REJECTED,
    SUCCESSES: catalogue.SOURCE_SUCCESSES,
    WITH_USAGE: catalogue.SOURCE_WITH_USAGE,
    SAMPLED: catalogue.SOURCE_SAMPLED,
}


def add_sources(page: Page, history: SourceHistory, now_s: float) -> None:
    """Add the samples of all sources at `now_s`, the wall clock."""
    for source in history.sources():
        label = label_text({"source": source})
        since_s = history.since_s(SourceCount(RECORDS, source))
        if since_s is not None:
            page.add(catalogue.SOURCE_SINCE, label, since_s)
        last_s = history.last_event_s(source)
        if last_s is not None:
            page.add(catalogue.SOURCE_LAST_EVENT, label, last_s)
        expected = history.expected_events(source, now_s)
        if expected is not None:
            page.add(catalogue.SOURCE_EXPECTED, label, round(expected, 1))
        for kind, spec in _COUNTS.items():
            _add_windows(page, spec, SourceCount(kind, source), label, history, now_s)
        for scope in history.scopes(source):
            what = SourceCount(UNREAD_SPANS, source, scope)
            labels = join(label, label_text({"span_scope": scope}))
            _add_windows(page, catalogue.SOURCE_UNREAD_SPANS, what, labels, history, now_s)
            scope_since_s = history.since_s(what)
            if scope_since_s is not None:
                page.add(catalogue.SOURCE_SCOPE_SINCE, labels, scope_since_s)

    for source in history.never_seen(now_s):
        page.add(catalogue.SOURCE_NEVER_SEEN, label_text({"source": source}), 1)


def _add_windows(
    page: Page,
    spec: Spec,
    what: SourceCount,
    labels: str,
    history: SourceHistory,
    now_s: float,
) -> None:
    for window in WINDOWS:
        count = history.total(what, ROLLING_S[window], now_s)
        page.add(spec, join(labels, label_text({"window": window})), count)
