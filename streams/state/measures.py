"""Measures of an aggregate, as people read them, and aggregates by group.

Pure. A ratio of sums, never a mean of ratios; a percentile of the merged histogram, with its
count. An unknown measure is absent.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from streams.events.fields import CLIENT_CLASSES, ELIGIBLE, ENDINGS, OUTCOMES
from streams.state import histogram
from streams.state.registry import SERIES_DIMENSIONS as SERIES_DIMENSIONS
from streams.state.registry import CustomerKey
from streams.state.slices import (
    ATTEMPT_TOKENS_AT,
    ATTEMPTS_AT,
    CELL_BITS,
    CLIENT_AT,
    CLOCKS,
    COUNTER_BITS,
    COUNTERS,
    CUSTOMER_KNOWN_AT,
    CUSTOMER_TOKENS_AT,
    ENDING_TOKENS_AT,
    ENDINGS_AT,
    FAILED_STREAMED_AT,
    FAILED_UNSTREAMED_AT,
    KNOWN,
    KNOWN_AT,
    KNOWN_END,
    LATENCIES,
    LATENCY_BITS,
    PROBE_ATTEMPTS_AT,
    PROBES_AT,
    SUM_COLUMNS,
    THRESHOLD_BITS,
    THRESHOLD_COUNT_BITS,
    TIER_CHANGED_AT,
    TOKENS,
    TOKENS_AT,
    Aggregate,
    duplicates_of,
    faults_by_field,
    rejections_by_reason,
)
from streams.state.tables import MAX_SUM, Ints, Table, sum_rows

QUANTILES = {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99, "max": 1.0}
_ELIGIBLE_AT = [at for at, outcome in enumerate(OUTCOMES) if outcome in ELIGIBLE]
_SUCCESS_AT = OUTCOMES.index("success")
_PROBE_ATTEMPTS = slice(PROBE_ATTEMPTS_AT, PROBE_ATTEMPTS_AT + len(OUTCOMES))
GroupKey = tuple[str, ...]


def by_series(
    aggregate: Aggregate, names: Sequence[tuple[str, ...]], dimensions: Sequence[str]
) -> dict[GroupKey, Aggregate]:
    """One aggregate for each distinct value of some of the series' dimensions."""
    places = [SERIES_DIMENSIONS.index(dimension) for dimension in dimensions]
    numbers: dict[GroupKey, int] = {}
    keys = [tuple(name[place] for place in places) for name in names]
    group_of = np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)
    parts = {
        "series": _regrouped(aggregate.series, group_of, 0),
        "cells": _regrouped(aggregate.cells, group_of, CELL_BITS),
        "threshold_counts": _regrouped(aggregate.threshold_counts, group_of, THRESHOLD_COUNT_BITS),
        "counters": _regrouped(aggregate.counters, group_of, COUNTER_BITS),
    }
    return _assembled(numbers, parts)


def without_apart_tiers(
    aggregate: Aggregate, names: Sequence[tuple[str, ...]], tiers: Collection[str]
) -> Aggregate:
    """Return the aggregate without the latencies of some service tiers; all else is kept."""
    tier_at = SERIES_DIMENSIONS.index("service_tier")
    apart = np.fromiter((name[tier_at] in tiers for name in names), np.bool_, len(names))
    rows = apart[aggregate.series.keys] if apart.any() else apart[:0]
    if not rows.any():
        return aggregate
    series = aggregate.series.values.copy()
    # Streamed requests are the denominator of the known share of TTFT, so they go with it.
    emptied = [*SUM_COLUMNS, KNOWN_AT + KNOWN.index("streamed")]
    series[np.ix_(np.flatnonzero(rows), emptied)] = 0
    return replace(
        aggregate,
        series=Table(aggregate.series.keys, series),
        cells=_without(aggregate.cells, apart, CELL_BITS),
        threshold_counts=_without(aggregate.threshold_counts, apart, THRESHOLD_COUNT_BITS),
    )


def _without(table: Table, apart: npt.NDArray[np.bool_], low_bits: int) -> Table:
    kept = ~apart[table.keys >> low_bits]
    return Table(table.keys[kept], table.values[kept])


def by_customer_model(
    aggregate: Aggregate, names: Sequence[CustomerKey], dimensions: Sequence[str]
) -> dict[GroupKey, Aggregate]:
    """Return an aggregate for each customer, or (customer, model).

    It has only `customers` and `counters`.
    """
    places = [("customer", "model").index(dimension) for dimension in dimensions]
    numbers: dict[GroupKey, int] = {}
    keys = [tuple(name[place] for place in places) for name in names]
    group_of = np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)
    return _assembled(
        numbers,
        {
            "customers": _regrouped(aggregate.customers, group_of, 0),
            "counters": _regrouped(aggregate.customer_counters, group_of, COUNTER_BITS),
        },
    )


def _regrouped(table: Table, group_of: Ints, low_bits: int) -> dict[int, Table]:
    """Replace series by groups and cut by group; each part's keys then begin at group 0."""
    if not len(table):
        return {}
    # A key is (series << low_bits) | the rest.
    low = table.keys & ((1 << low_bits) - 1)
    keys = (group_of[table.keys >> low_bits] << low_bits) | low
    return dict(Table.summed(keys, table.values).split(low_bits))


def _assembled(
    numbers: Mapping[GroupKey, int], parts: Mapping[str, Mapping[int, Table]]
) -> dict[GroupKey, Aggregate]:
    nothing = Aggregate.empty()
    return {
        key: replace(
            nothing,
            **{name: tables[number] for name, tables in parts.items() if number in tables},
        )
        for key, number in numbers.items()
        if any(number in tables for tables in parts.values())
    }


def whole(aggregate: Aggregate) -> Aggregate:
    """Return all counts as one group: series 0."""
    return replace(
        aggregate,
        series=_flat(aggregate.series, 0),
        cells=_flat(aggregate.cells, CELL_BITS),
        threshold_counts=_flat(aggregate.threshold_counts, THRESHOLD_COUNT_BITS),
        counters=_flat(aggregate.counters, COUNTER_BITS),
    )


def _flat(table: Table, low_bits: int) -> Table:
    return Table.summed(table.keys & ((1 << low_bits) - 1), table.values)


def outcomes(aggregate: Aggregate) -> Ints:
    """Return requests in the order of OUTCOMES, from the series or else from the customer rows."""
    return _column_sums(aggregate, slice(PROBES_AT), slice(len(OUTCOMES)))


def probe_outcomes(aggregate: Aggregate) -> Ints:
    """Return probes in the order of OUTCOMES."""
    sums: Ints = aggregate.series.values[:, PROBES_AT:TOKENS_AT].sum(axis=0)
    return sums


def _column_sums(aggregate: Aggregate, of_series: slice, of_customers: slice) -> Ints:
    """Return the sums of some columns of the series, or else of the customer rows."""
    has_series = len(aggregate.series) > 0
    table = aggregate.series if has_series else aggregate.customers
    return sum_rows(table.values[:, of_series if has_series else of_customers])


def tokens(aggregate: Aggregate) -> dict[str, int]:
    """Return tokens by type, and `total`: input (cached too) plus output (reasoning too)."""
    of_series = slice(TOKENS_AT, TOKENS_AT + len(TOKENS))
    sums = _column_sums(aggregate, of_series, slice(CUSTOMER_TOKENS_AT, CUSTOMER_KNOWN_AT))
    found = {name: int(value) for name, value in zip(TOKENS, sums, strict=True)}
    return {**found, "total": found["input"] + found["output"]}


def known(aggregate: Aggregate) -> dict[str, int]:
    """Return the sums of KNOWN: the number of requests for which each quantity is known."""
    sums = _column_sums(aggregate, slice(KNOWN_AT, KNOWN_END), slice(CUSTOMER_KNOWN_AT, None))
    return {name: int(value) for name, value in zip(KNOWN, sums, strict=True)}


def cache_hit_ratio(aggregate: Aggregate) -> float | None:
    """Return the cached share of the input tokens of the requests whose cached tokens are known."""
    of = known(aggregate)["cached_input_of"]
    # Of a sum at its limit the true value is unknown.
    return tokens(aggregate)["cached_input"] / of if 0 < of < MAX_SUM else None


def known_shares(aggregate: Aggregate) -> dict[str, float]:
    """Return the known share of each quantity; a share of zero requests is left out.

    `tokens`: of the successes, those with input tokens. `cached_input`: of the input tokens, those
    of requests whose cached tokens are known. `ttft`: of the streamed successes, those with a TTFT.
    Answers from a gateway's response cache are in none of them.
    """
    sums = known(aggregate)
    answered = int(outcomes(aggregate)[_SUCCESS_AT]) - sums["response_cache"]
    pairs = {
        "tokens": (sums["tokens"], answered),
        "cached_input": (sums["cached_input_of"], tokens(aggregate)["input"]),
    }
    if len(aggregate.series):
        pairs["ttft"] = int(latency(aggregate, "ttft")["count"]), sums["streamed"]
    return {name: part / of for name, (part, of) in pairs.items() if of}


def counters(aggregate: Aggregate) -> Ints:
    """Return the sums of COUNTERS of an aggregate, over all its groups."""
    keys = aggregate.counters.keys & ((1 << COUNTER_BITS) - 1)
    by_counter = Table.summed(keys, aggregate.counters.values)
    sums = np.zeros(len(COUNTERS), np.int64)
    sums[by_counter.keys] = by_counter.values
    return sums


def counted_events(aggregate: Aggregate) -> int:
    """Return the number of counted events: requests, attempts before the final ones, probes."""
    sums = counters(aggregate)
    attempts = sums[ATTEMPTS_AT:ATTEMPT_TOKENS_AT] + sums[_PROBE_ATTEMPTS]
    return int(outcomes(aggregate).sum() + attempts.sum() + probe_outcomes(aggregate).sum())


def _provider_view(aggregate: Aggregate, sums: Ints) -> dict[str, Any]:
    """Return the measures of all attempts: the requests, and the attempts before the final ones.

    Answers from a gateway's response cache are left out: no provider was asked.
    """
    attempts = outcomes(aggregate) + sums[ATTEMPTS_AT:ATTEMPT_TOKENS_AT]
    attempts[_SUCCESS_AT] -= known(aggregate)["response_cache"]
    added = sums[ATTEMPT_TOKENS_AT : ATTEMPT_TOKENS_AT + len(TOKENS)].tolist()
    spent = {
        # `tokens` ends with `total`, which has no counter and is computed below.
        name: count + more
        for (name, count), more in zip(tokens(aggregate).items(), added, strict=False)
    }
    view: dict[str, Any] = {
        "attempts": int(attempts.sum()),
        "outcomes": {name: int(n) for name, n in zip(OUTCOMES, attempts, strict=True)},
        "tokens": {**spent, "total": spent["input"] + spent["output"]},
    }
    counted = attempts + probe_outcomes(aggregate) + sums[_PROBE_ATTEMPTS]
    if eligible := int(counted[_ELIGIBLE_AT].sum()):
        view["availability_ratio"] = int(counted[_SUCCESS_AT]) / eligible
    return view


def _failures(by_outcome: Ints, sums: Ints) -> dict[str, int]:
    """Return the requests that an SLA counts as failed, by whether they were streamed."""
    streamed, unstreamed = int(sums[FAILED_STREAMED_AT]), int(sums[FAILED_UNSTREAMED_AT])
    failed = int(by_outcome[_ELIGIBLE_AT].sum() - by_outcome[_SUCCESS_AT])
    # Some states are older than these counters, and customers do not have them.
    unknown = failed - streamed - unstreamed
    return {"streamed": streamed, "unstreamed": unstreamed, "unknown": unknown}


def _client_errors(sums: Ints) -> dict[str, int]:
    """Return the client errors by class; a class without any is absent."""
    counts = sums[CLIENT_AT : CLIENT_AT + len(CLIENT_CLASSES)].tolist()
    return {name: count for name, count in zip(CLIENT_CLASSES, counts, strict=True) if count}


def _endings(sums: Ints) -> dict[str, dict[str, int]]:
    """Return requests and output tokens by ending; an ending without requests is absent."""
    return {
        name: {
            "requests": int(sums[ENDINGS_AT + at]),
            "output_tokens": int(sums[ENDING_TOKENS_AT + at]),
        }
        for at, name in enumerate(ENDINGS)
        if sums[ENDINGS_AT + at]
    }


def availability(aggregate: Aggregate) -> tuple[int, int]:
    """Return (successes, all) of the outcomes that an SLA counts, probes included."""
    counts = outcomes(aggregate) + probe_outcomes(aggregate)
    return int(counts[_SUCCESS_AT]), int(counts[_ELIGIBLE_AT].sum())


def latency(aggregate: Aggregate, name: str) -> dict[str, float | int]:
    """Return sample count and nearest-rank percentiles in seconds of a latency.

    `name`: one of LATENCIES. `aggregate`: of one group. Without samples only the count.
    """
    number = LATENCIES.index(name)
    cell = aggregate.cells.keys & ((1 << CELL_BITS) - 1)
    # Keys are sorted by (latency, bucket), so the cells of one latency are one stretch.
    low, high = np.searchsorted(
        cell, [number << histogram.BUCKET_BITS, (number + 1) << histogram.BUCKET_BITS]
    )
    counts = aggregate.cells.values[low:high]
    if len(counts) == 0:
        return {"count": 0}
    buckets = cell[low:high] & ((1 << histogram.BUCKET_BITS) - 1)
    found = histogram.percentiles(buckets, counts, list(QUANTILES.values()))
    return {
        "count": int(counts.sum()),
        **{label: value / 1e9 for label, value in zip(QUANTILES, found, strict=True)},
    }


def count_within(aggregate: Aggregate, name: str, threshold_us: int) -> int | None:
    """Return the exact number of requests at or under a threshold; None if it was not counted."""
    key = (CLOCKS.index(name) << THRESHOLD_BITS) | threshold_us
    found = aggregate.threshold_counts.values[
        (aggregate.threshold_counts.keys & ((1 << THRESHOLD_COUNT_BITS) - 1)) == key
    ]
    return int(found.sum()) if len(found) else None


def measures(aggregate: Aggregate) -> dict[str, Any]:
    """Return all measures of an aggregate of one group, as the report shows them."""
    counts = outcomes(aggregate)
    found: dict[str, Any] = {
        "requests": int(counts.sum()),
        "outcomes": {name: int(n) for name, n in zip(OUTCOMES, counts, strict=True)},
        "refused": rejections_by_reason(aggregate),
        "duplicates": duplicates_of(aggregate),
        "field_faults": _faults(aggregate),
        "tokens": tokens(aggregate),
    }
    sums = known(aggregate)
    found["known"] = {name: sums[name] for name in ("tokens", "cached_input", "cached_input_of")}
    found["known_ratio"] = known_shares(aggregate)
    found["estimated"] = {"requests": sums["estimated"], "tokens": sums["estimated_tokens"]}
    found["response_cache"] = sums["response_cache"]
    amounts = counters(aggregate)
    found["provider"] = _provider_view(aggregate, amounts)
    found["failures"] = _failures(counts, amounts)
    found["client_errors"] = _client_errors(amounts)
    found["endings"] = _endings(amounts)
    found["tier_changed"] = int(amounts[TIER_CHANGED_AT])
    if (ratio := cache_hit_ratio(aggregate)) is not None:
        found["cache_hit_ratio"] = ratio
    for name in LATENCIES:
        if len(aggregate.cells) or len(aggregate.series):
            found[f"{name}_seconds"] = latency(aggregate, name)
    good, eligible = availability(aggregate)
    if eligible:
        found["availability_ratio"] = good / eligible
    return found


def _faults(aggregate: Aggregate) -> dict[str, dict[str, int]]:
    """Return the faults as field -> reason -> records."""
    faults: dict[str, dict[str, int]] = {}
    for (field, reason), count in faults_by_field(aggregate).items():
        faults.setdefault(field, {})[reason] = count
    return faults


_SPEED_ABOVE_TPOT = CLOCKS.index("output_speed") - CLOCKS.index("tpot")
EXPORTED_QUANTILES = (0.5, 0.9, 0.95, 0.99)


def measured_threshold_counts(aggregate: Aggregate) -> Table:
    """Return `threshold_counts` with a second column: how many were measured with each threshold.

    Targets change; a request from before a target was set is neither good nor bad.
    """
    if not len(aggregate.threshold_counts):
        return Table.empty(2)
    histograms, counts, _ = by_histogram(aggregate.cells)
    wanted = aggregate.threshold_counts.keys >> THRESHOLD_BITS
    # The output speed has no histogram: it is known of the requests whose TPOT is.
    is_speed = (wanted & ((1 << LATENCY_BITS) - 1)) == CLOCKS.index("output_speed")
    wanted = np.where(is_speed, wanted - _SPEED_ABOVE_TPOT, wanted)
    # searchsorted may point past the end; the comparison below drops what is not there.
    at = np.searchsorted(histograms, wanted)
    at = np.minimum(at, max(0, len(histograms) - 1))
    measured = np.zeros(len(wanted), np.int64)
    if len(histograms):
        measured = np.where(histograms[at] == wanted, counts[at], 0)
    return Table(
        aggregate.threshold_counts.keys,
        np.column_stack((aggregate.threshold_counts.values, measured)),
    )


def by_histogram(cells: Table) -> tuple[Ints, Ints, Ints]:
    """Keys (group, latency) of the histograms in `cells`, their counts, and their last cells."""
    keys = cells.keys >> histogram.BUCKET_BITS
    if not len(keys):
        nothing = np.empty(0, np.int64)
        return nothing, nothing, nothing
    # The keys are sorted: a histogram starts where a key differs from the one before.
    starts = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1])))
    ends = np.append(starts[1:], len(keys)) - 1
    return keys[starts], np.add.reduceat(cells.values, starts), ends
