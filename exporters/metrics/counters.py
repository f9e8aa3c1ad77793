"""Samples of the amounts that most requests do not have: attempts, error classes, endings, tiers.

Pure. An amount of 0 has no sample, so that they cost nothing before they occur.
"""

from collections.abc import Callable, Mapping

from exporters.catalogue import counters as counter_metrics
from exporters.catalogue.spec import Spec
from exporters.metrics.exposition import Page, join, label_text
from exporters.windows.counters import attempts
from exporters.windows.incremental import Sums
from streams.events.fields import CLIENT_CLASSES, ENDINGS, OUTCOMES
from streams.state.slices import COUNTER_BITS, COUNTERS
from streams.state.tables import Table

OUTCOME_LABELS = [label_text({"outcome": outcome}) for outcome in OUTCOMES]

# Metric and further label of a counter, by its name.
CounterMetrics = Mapping[str, tuple[Spec, str]]


def _by(prefix: str, spec: Spec, label: str, names: tuple[str, ...]) -> dict[str, tuple[Spec, str]]:
    return {f"{prefix}_{name}": (spec, label_text({label: name})) for name in names}


_TOTALS: CounterMetrics = {
    **_by("attempt", counter_metrics.ATTEMPTS_TOTAL, "outcome", OUTCOMES),
    **_by("attempt", counter_metrics.ATTEMPT_TOKENS_TOTAL, "type", ("input", "output")),
    **_by("client", counter_metrics.CLIENT_ERRORS_TOTAL, "class", CLIENT_CLASSES),
    **_by("failed", counter_metrics.FAILURES_TOTAL, "stream", ("streamed", "unstreamed")),
    **_by("ending", counter_metrics.ENDINGS_TOTAL, "ending", ENDINGS),
    **_by("output_tokens", counter_metrics.ENDING_TOKENS_TOTAL, "ending", ENDINGS),
    "tier_changed": (counter_metrics.TIER_CHANGED_TOTAL, ""),
}
_WINDOWS: CounterMetrics = {
    **_by("client", counter_metrics.WINDOW_CLIENT_ERRORS, "class", CLIENT_CLASSES),
    **_by("ending", counter_metrics.WINDOW_ENDINGS, "ending", ENDINGS),
    **_by("output_tokens", counter_metrics.WINDOW_ENDING_TOKENS, "ending", ENDINGS),
    "tier_changed": (counter_metrics.WINDOW_TIER_CHANGED, ""),
}


def add_counters(page: Page, labels: Mapping[int, str], counters: Table) -> None:
    """Add the totals of counters; `labels`: by the number of the series or group."""
    _add(page, _TOTALS, labels.__getitem__, counters)


def add_window_counters(page: Page, label: Callable[[int], str], sums: Sums) -> None:
    """Add the counters of a window, and the attempts of its groups if they are not the requests.

    `label`: returns the labels of a group.
    """
    _add(page, _WINDOWS, label, sums.counters)
    for group, view in attempts(sums).items():
        base = label(group)
        for outcome_label, count in zip(OUTCOME_LABELS, view.outcomes, strict=True):
            if count:
                page.add(counter_metrics.WINDOW_PROVIDER_ATTEMPTS, join(base, outcome_label), count)
        page.add(counter_metrics.WINDOW_PROVIDER_ELIGIBLE, base, view.eligible)
        if view.availability_ratio is not None:
            page.add(counter_metrics.PROVIDER_AVAILABILITY_RATIO, base, view.availability_ratio)


def _add(page: Page, metrics: CounterMetrics, label: Callable[[int], str], counters: Table) -> None:
    for key, amount in zip(counters.keys.tolist(), counters.values.tolist(), strict=True):
        metric = metrics.get(COUNTERS[key & ((1 << COUNTER_BITS) - 1)])
        # Some counters are published under other metrics, or in totals only.
        if metric is not None:
            spec, extra = metric
            page.add(spec, join(label(key >> COUNTER_BITS), extra), amount)
