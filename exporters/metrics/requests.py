"""From numbers to samples: totals, histograms, windows. Unknown values are left out.

Pure. Label texts are built once for each group and window and then extended, as text takes most of
an export's time.
"""

from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np

from exporters.catalogue import requests as request_metrics
from exporters.catalogue.latencies import (
    FLEET_HISTOGRAM,
    GEN_AI_LABELS,
    OPTIONAL_LATENCIES,
    REQUEST_HISTOGRAMS,
    WINDOW_QUANTILES,
    WINDOW_SAMPLES,
)
from exporters.catalogue.requests import TOKEN_TYPES, UNKNOWN_INPUT
from exporters.catalogue.spec import SCOPE_LABELS, SERIES_LABELS, Spec
from exporters.metrics.counters import OUTCOME_LABELS, add_counters, add_window_counters
from exporters.metrics.exposition import Page, exemplar_text, join, label_text
from exporters.metrics.group_shares import (
    FEWEST_SAMPLES,
    Shares,
    groups_to_add,
    labels_to_add,
    rows_of_groups,
)
from exporters.reference.customers import Customer
from exporters.windows.incremental import CUSTOMER, Grouping, Sums, percentiles
from exporters.windows.measured import ELIGIBLE_AT, SUCCESS_AT, failing_customers
from streams.state.edges import EVERYTHING_US
from streams.state.measures import EXPORTED_QUANTILES
from streams.state.slices import (
    CLOCKS,
    COUNTER_BITS,
    CUSTOMER_KNOWN_AT,
    CUSTOMER_TOKENS_AT,
    KNOWN,
    KNOWN_AT,
    LATENCIES,
    LATENCY_BITS,
    PROBES_AT,
    SUM_COLUMNS,
    SUMS_AT,
    THRESHOLD_BITS,
    THRESHOLD_COUNT_BITS,
    TOKENS_AT,
    Aggregate,
    Thresholds,
)
from streams.state.tables import Ints, Table, sum_rows
from streams.worker.exemplars import Exemplar

_TYPE_LABELS = [label_text({"type": kind}) for kind in TOKEN_TYPES]
_COUNTED_APART = {
    request_metrics.ESTIMATED_TOKENS_TOTAL: "estimated_tokens",
    request_metrics.RESPONSE_CACHE_TOTAL: "response_cache",
}
_KNOWN_LABELS = {
    measure: label_text({"measure": measure}) for measure in ("tokens", "cached_input", "ttft")
}
_STREAMED_AT = KNOWN_AT + KNOWN.index("streamed")
_QUANTILE_TEXTS = [str(ratio) for ratio in EXPORTED_QUANTILES]


def add_totals(
    page: Page,
    totals: Aggregate,
    shares: Shares,
    series: Grouping,
    targets: Thresholds,
    edges: Thresholds,
) -> None:
    """Add counters by series, without `targets` that are not among the counted `edges`.

    `shares`: of the groups, as `shares_of_totals` returns them. `series`: groups stored series by
    the published dimensions.
    """
    rows, added_shares = groups_to_add(page, series.regroup(totals.series, 0), shares)
    within = series.regroup(totals.threshold_counts, THRESHOLD_COUNT_BITS)
    labels = [
        label_text(dict(zip(SERIES_LABELS, series.keys[number], strict=True)))
        for number in rows.keys.tolist()
    ]
    for base, share, row in zip(labels, added_shares, rows.values.tolist(), strict=True):
        page.rank(base, share)
        _add_by(page, request_metrics.REQUESTS_TOTAL, base, OUTCOME_LABELS, row[:PROBES_AT])
        # Most series have no probes; their samples would only lengthen the page.
        probes = row[PROBES_AT:TOKENS_AT]
        if any(probes):
            _add_by(page, request_metrics.PROBES_TOTAL, base, OUTCOME_LABELS, probes)
        known = row[KNOWN_AT:]
        by_type, written, reasoning = _exclusive(row[TOKENS_AT:SUMS_AT], known)
        _add_tokens(page, request_metrics.TOKENS_TOTAL, base, by_type)
        for spec, name in _COUNTED_APART.items():
            page.add(spec, base, known[KNOWN.index(name)])
        page.add(request_metrics.CACHE_WRITE_TOKENS_TOTAL, base, written)
        page.add(request_metrics.REASONING_TOKENS_TOTAL, base, reasoning)
    counters = rows_of_groups(
        rows.keys, series.regroup(totals.counters, COUNTER_BITS), COUNTER_BITS
    )
    add_counters(page, dict(zip(rows.keys.tolist(), labels, strict=True)), counters)
    for number, latency in enumerate(LATENCIES):
        groups = (rows.keys << LATENCY_BITS) | number
        measured = _within(within, groups, EVERYTHING_US)
        if latency in OPTIONAL_LATENCIES and not measured.any():
            continue
        latency_label = label_text({"latency": latency})
        for base, count in zip(labels, measured.tolist(), strict=True):
            page.add(request_metrics.MEASURED_TOTAL, join(base, latency_label), count)
        # While a target changes, not all partitions count it yet; a partial count would mislead.
        for target_us in sorted({*targets[number]} & {*edges[number]}):
            target_label = join(latency_label, _target(target_us))
            good = _within(within, groups, target_us)
            for base, count in zip(labels, good.tolist(), strict=True):
                page.add(request_metrics.WITHIN_TARGET_TOTAL, join(base, target_label), count)


def add_histograms(
    page: Page,
    totals: Aggregate,
    shares: Shares,
    scope: Grouping,
    edges: Thresholds,
    operation: str,
    provider: str,
    exemplars: Iterable[Exemplar],
) -> None:
    """Add the OpenTelemetry-named histograms; `scope` groups series by model and region.

    `shares`: as for `add_totals`. Of the exemplars the newest of each bucket is shown.
    """
    if not len(totals.series):
        return
    shown: dict[tuple[str, ...], list[Exemplar]] = {}
    for one in sorted(exemplars, key=lambda one: one.ended_at_ms):
        shown.setdefault((one.model, one.region, one.latency), []).append(one)
        shown.setdefault((one.latency,), []).append(one)
    everyone = scope.regroup(totals.series, 0)
    rows, added_shares = groups_to_add(page, everyone, shares)
    labels = [
        label_text(dict(zip(GEN_AI_LABELS, (operation, provider, *scope.keys[group]), strict=True)))
        for group in rows.keys.tolist()
    ]
    for base, share in zip(labels, added_shares, strict=True):
        page.rank(base, share)
    added = np.isin(everyone.keys, rows.keys)
    within = (
        scope.regroup(totals.threshold_counts, THRESHOLD_COUNT_BITS)
        if len(totals.threshold_counts)
        else Table.empty()
    )
    for number, latency in enumerate(LATENCIES):
        # A partition whose worker is of the version before counts no edges of some latencies.
        if not edges[number]:
            continue
        edge_texts = [
            "+Inf" if edge_us == EVERYTHING_US else str(edge_us / 1e6) for edge_us in edges[number]
        ]
        groups = (everyone.keys << LATENCY_BITS) | number
        counts = np.column_stack([_within(within, groups, edge_us) for edge_us in edges[number]])
        sums_us = everyone.values[:, SUM_COLUMNS[number]]
        of_fleet = counts.sum(axis=0).tolist()
        if latency not in OPTIONAL_LATENCIES or of_fleet[-1]:
            page.add_histogram(
                FLEET_HISTOGRAM,
                label_text({"latency": latency}),
                edge_texts,
                of_fleet,
                int(sum_rows(sums_us)) / 1e6,
                _in_buckets(shown.get((latency,), ()), edges[number], of_fleet),
            )
        for group, base, cumulative, sum_us in zip(
            rows.keys.tolist(),
            labels,
            counts[added].tolist(),
            sums_us[added].tolist(),
            strict=True,
        ):
            if latency in OPTIONAL_LATENCIES and not cumulative[-1]:
                continue
            page.add_histogram(
                REQUEST_HISTOGRAMS[latency],
                base,
                edge_texts,
                cumulative,
                sum_us / 1e6,
                _in_buckets(
                    shown.get((*scope.keys[group], latency), ()), edges[number], cumulative
                ),
            )


def _in_buckets(
    exemplars: Iterable[Exemplar], edges_us: Sequence[int], cumulative: Sequence[int]
) -> dict[int, str]:
    """Return exemplars by index of the edge, of each bucket the last one.

    An exemplar that ran ahead of the counts is left out.
    """
    found: dict[int, str] = {}
    for one in exemplars:
        at = bisect_left(edges_us, one.value_ns / 1_000)
        # The exemplar comes with the heartbeat, the counts with the checkpoint: the bucket may
        # still be empty.
        before = cumulative[at - 1] if 0 < at < len(cumulative) else 0
        if at < len(cumulative) and cumulative[at] > before:
            found[at] = exemplar_text(one.trace_id, one.value_ns / 1e9, one.ended_at_ms / 1_000)
    return found


def add_window(page: Page, window: str, scope: Grouping, sums: Sums) -> Collection[str]:
    """Add all measures of one window in a scope that is summed from series.

    Return the labels of the groups that are used enough for the page.
    """

    def label(group: int) -> str:
        pairs = dict(zip(SCOPE_LABELS[scope.name], scope.keys[group], strict=True))
        return label_text({"scope": scope.name, "window": window, **pairs})

    is_fleet = not SCOPE_LABELS[scope.name]
    labels, sums = labels_to_add(page, sums, label, always=is_fleet)
    for base, row in zip(labels.values(), sums.counts.values.tolist(), strict=True):
        counted = [
            one + probes
            for one, probes in zip(row[:PROBES_AT], row[PROBES_AT:TOKENS_AT], strict=True)
        ]
        tokens, known = row[TOKENS_AT:SUMS_AT], row[KNOWN_AT:]
        add_counts(page, base, row[:PROBES_AT], counted, tokens, known)
    add_window_counters(page, label, sums)
    found = percentiles(sums, EXPORTED_QUANTILES)
    streamed = dict(
        zip(sums.counts.keys.tolist(), sums.counts.values[:, _STREAMED_AT].tolist(), strict=True)
    )
    for group, base in labels.items():
        if streams := streamed[group]:
            ratio = found[group, 0][0] / streams if (group, 0) in found else 0.0
            page.add(request_metrics.KNOWN_RATIO, join(base, _KNOWN_LABELS["ttft"]), ratio)
    for number, latency in enumerate(LATENCIES):
        for group, base in labels.items():
            count, values_ns = found.get((group, number), (0, None))
            if latency in OPTIONAL_LATENCIES and not count:
                continue
            page.add(WINDOW_SAMPLES[latency], base, count)
            if values_ns is not None:
                seconds = [value / 1e9 for value in values_ns.tolist()]
                page.add_quantiles(
                    WINDOW_QUANTILES[latency], base, zip(_QUANTILE_TEXTS, seconds, strict=True)
                )
    _add_within(page, labels, sums.threshold_counts)
    return frozenset(labels.values())


def add_customers(
    page: Page,
    window: str,
    scope: Grouping,
    sums: Sums,
    top: int,
    customers: Mapping[str, Customer],
) -> list[tuple[str, str]]:
    """Add the customers with the most requests in a window, by name if the directory has one.

    Returns them as (token in the state, labels).
    """
    requests: Ints = sums.counts.values[:, :PROBES_AT].sum(axis=1)
    shown, total = [], int(requests.sum())
    enough = requests >= page.least_share * total
    page.samples_left_out += FEWEST_SAMPLES * max(min(top, len(requests)) - int(enough.sum()), 0)
    for at in _largest(np.flatnonzero(enough), requests, sums.counts.keys, scope, top):
        count, group = int(requests[at]), int(sums.counts.keys[at])
        row = sums.counts.values[at].tolist()
        (token,) = scope.keys[group]
        known = customers.get(token)
        who = {CUSTOMER: token} if known is None else {CUSTOMER: known.name}
        if known is not None:
            who["segment"] = known.segment
        base = label_text({"scope": CUSTOMER, "window": window, **who})
        page.rank(base, count / max(total, 1))
        tokens, known = row[CUSTOMER_TOKENS_AT:CUSTOMER_KNOWN_AT], row[CUSTOMER_KNOWN_AT:]
        add_counts(page, base, row[:PROBES_AT], row[:PROBES_AT], tokens, known)
        shown.append((token, base))
    return shown


def _largest(places: Ints, requests: Ints, groups: Ints, scope: Grouping, most: int) -> list[int]:
    """Return, of some places of groups, those with the most requests, the largest first."""
    counts = requests[places]
    # Of a hundred thousand customers, only those that may be shown are sorted by name.
    if 0 < most < len(counts):
        places = places[counts >= np.partition(counts, -most)[-most]]
    ranked = zip(requests[places].tolist(), groups[places].tolist(), places.tolist(), strict=True)
    # By name within equal counts, so that the order is the same in every export.
    by_use = sorted(ranked, key=lambda one: (-one[0], scope.keys[one[1]]))
    return [place for _, _, place in by_use[:most]]


def add_failing_customers(page: Page, window: str, sums: Sums) -> None:
    """Add the number of customers with failures; `sums`: of the scope customer."""
    base = label_text({"scope": "fleet", "window": window})
    page.add(request_metrics.FAILING_CUSTOMERS, base, failing_customers(sums))


def add_counts(
    page: Page,
    base: str,
    requests: Sequence[int],
    counted: Sequence[int],
    tokens: Sequence[int],
    known: Sequence[int],
) -> None:
    """Add the sums of some requests.

    `counted`: requests and probes, for availability. `known`: in the order of KNOWN.
    """
    _add_by(page, request_metrics.WINDOW_REQUESTS, base, OUTCOME_LABELS, requests)
    eligible = sum(counted[at] for at in ELIGIBLE_AT)
    page.add(request_metrics.WINDOW_ELIGIBLE_REQUESTS, base, eligible)
    page.add_ratio(request_metrics.AVAILABILITY_RATIO, base, counted[SUCCESS_AT], eligible)
    by_type, written, reasoning = _exclusive(tokens, known)
    fresh, cached, _, unknown = by_type
    _add_tokens(page, request_metrics.WINDOW_TOKENS, base, by_type)
    page.add(request_metrics.WINDOW_INPUT_TOKENS, base, fresh + cached)
    page.add_ratio(request_metrics.CACHE_HIT_RATIO, base, cached, fresh + cached)
    page.add_ratio(
        request_metrics.KNOWN_RATIO,
        join(base, _KNOWN_LABELS["cached_input"]),
        fresh + cached,
        fresh + cached + unknown,
    )
    page.add_ratio(
        request_metrics.KNOWN_RATIO,
        join(base, _KNOWN_LABELS["tokens"]),
        known[KNOWN.index("tokens")],
        requests[SUCCESS_AT] - known[KNOWN.index("response_cache")],
    )
    page.add(request_metrics.WINDOW_CACHE_WRITE_TOKENS, base, written)
    page.add(request_metrics.WINDOW_REASONING_TOKENS, base, reasoning)


def _add_within(page: Page, labels: Mapping[int, str], within: Table) -> None:
    latency_mask, limit_mask = (1 << LATENCY_BITS) - 1, (1 << THRESHOLD_BITS) - 1
    for key, (good, measured) in zip(within.keys.tolist(), within.values.tolist(), strict=True):
        # Thresholds of groups without requests in the window have no labels.
        base = labels.get(key >> THRESHOLD_COUNT_BITS)
        if base is not None:
            latency = CLOCKS[(key >> THRESHOLD_BITS) & latency_mask]
            about = join(label_text({"latency": latency}), _target(key & limit_mask))
            page.add(request_metrics.WITHIN_TARGET_RATIO, join(base, about), good / measured)


def _add_by(page: Page, spec: Spec, base: str, by: Sequence[str], values: Sequence[int]) -> None:
    for extra, value in zip(by, values, strict=True):
        page.add(spec, join(base, extra), value)


def _add_tokens(page: Page, spec: Spec, base: str, by_type: Sequence[int]) -> None:
    for extra, kind, value in zip(_TYPE_LABELS, TOKEN_TYPES, by_type, strict=True):
        add = page.add_if_any if kind == UNKNOWN_INPUT else page.add
        add(spec, join(base, extra), value)


def _exclusive(
    tokens: Sequence[int], known: Sequence[int]
) -> tuple[tuple[int, int, int, int], int, int]:
    """Return tokens by TOKEN_TYPES, cache writes and reasoning from stored TOKENS and KNOWN."""
    total_input, cached, written, output, reasoning = tokens
    of = known[KNOWN.index("cached_input_of")]
    return (of - cached, cached, output, total_input - of), written, reasoning


def _target(target_us: int) -> str:
    return label_text({"target_seconds": f"{target_us / 1e6:g}"})


def _within(within: Table, groups: Ints, threshold_us: int) -> Ints:
    """Count at or under a threshold of each (series or group, latency); 0 where there is none."""
    if not len(within):
        return np.zeros(len(groups), np.int64)
    wanted = (groups << THRESHOLD_BITS) | threshold_us
    at = np.minimum(np.searchsorted(within.keys, wanted), len(within) - 1)
    return np.where(within.keys[at] == wanted, within.values[at], 0)
