"""What people read: measures of a tally, and tallies by group.

Pure. A ratio of sums, never a mean of ratios; a percentile of the merged histogram, with its
count. What is not known is absent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from streams.events.decoder import ELIGIBLE, OUTCOMES
from streams.state import histogram
from streams.state.registry import CubeKey, SeriesKey
from streams.state.slices import (
    CELL_BITS,
    CUBE_TOKENS_AT,
    LATENCIES,
    PROBES_AT,
    THRESHOLD_BITS,
    TOKENS,
    TOKENS_AT,
    WITHIN_BITS,
    Tally,
    duplicates_of,
    refused_of,
)
from streams.state.tables import Ints, Table

SERIES_DIMENSIONS = ("model", "region", "channel", "service_tier")
QUANTILES = {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99, "max": 1.0}
_ELIGIBLE_AT = [at for at, outcome in enumerate(OUTCOMES) if outcome in ELIGIBLE]
_SUCCESS_AT = OUTCOMES.index("success")
GroupKey = tuple[str, ...]


def by_series(
    tally: Tally, names: Sequence[SeriesKey], dimensions: Sequence[str]
) -> dict[GroupKey, Tally]:
    """One tally for each distinct value of some of the series' dimensions."""
    places = [SERIES_DIMENSIONS.index(dimension) for dimension in dimensions]
    numbers: dict[GroupKey, int] = {}
    group_of = np.array(
        [
            numbers.setdefault(tuple(name[place] for place in places), len(numbers))
            for name in names
        ],
        np.int64,
    )
    parts = {
        "series": _regrouped(tally.series, group_of, 0),
        "cells": _regrouped(tally.cells, group_of, CELL_BITS),
        "within": _regrouped(tally.within, group_of, WITHIN_BITS),
    }
    return _assembled(numbers, parts)


def by_cube(
    tally: Tally, names: Sequence[CubeKey], dimensions: Sequence[str]
) -> dict[GroupKey, Tally]:
    """One tally for each distinct customer, or (customer, model); only its `cube` is filled."""
    places = [("customer", "model").index(dimension) for dimension in dimensions]
    numbers: dict[GroupKey, int] = {}
    group_of = np.array(
        [
            numbers.setdefault(tuple(name[place] for place in places), len(numbers))
            for name in names
        ],
        np.int64,
    )
    return _assembled(numbers, {"cube": _regrouped(tally.cube, group_of, 0)})


def _regrouped(table: Table, group_of: Ints, low_bits: int) -> dict[int, Table]:
    """Replace series by groups and cut by group; each part's keys then begin at group 0."""
    if not len(table):
        return {}
    low = table.keys & ((1 << low_bits) - 1)
    keys = (group_of[table.keys >> low_bits] << low_bits) | low
    return dict(Table.summed(keys, table.values).split(low_bits))


def _assembled(
    numbers: Mapping[GroupKey, int], parts: Mapping[str, Mapping[int, Table]]
) -> dict[GroupKey, Tally]:
    nothing = Tally.empty()
    return {
        key: replace(
            nothing,
            **{name: tables[number] for name, tables in parts.items() if number in tables},
        )
        for key, number in numbers.items()
        if any(number in tables for tables in parts.values())
    }


def whole(tally: Tally) -> Tally:
    """Everything as one group: series 0."""
    return replace(
        tally,
        series=_flat(tally.series, 0),
        cells=_flat(tally.cells, CELL_BITS),
        within=_flat(tally.within, WITHIN_BITS),
    )


def _flat(table: Table, low_bits: int) -> Table:
    return Table.summed(table.keys & ((1 << low_bits) - 1), table.values)


def outcomes(tally: Tally) -> Ints:
    """Requests by outcome, in the order of OUTCOMES; from the series, or else the cube."""
    if len(tally.series):
        return _column_sums(tally.series.values[:, :PROBES_AT])
    return _column_sums(tally.cube.values[:, : len(OUTCOMES)])


def probe_outcomes(tally: Tally) -> Ints:
    """Probes by outcome, in the order of OUTCOMES."""
    return _column_sums(tally.series.values[:, PROBES_AT:TOKENS_AT])


def _column_sums(values: Ints) -> Ints:
    sums: Ints = values.sum(axis=0)
    return sums


def tokens(tally: Tally) -> dict[str, int]:
    """Tokens by type, and their `total`: input (cached included) plus output (reasoning too)."""
    if len(tally.series):
        sums = tally.series.values[:, TOKENS_AT : TOKENS_AT + len(TOKENS)].sum(axis=0)
    else:
        sums = tally.cube.values[:, CUBE_TOKENS_AT:].sum(axis=0)
    found = {name: int(value) for name, value in zip(TOKENS, sums, strict=True)}
    return {**found, "total": found["input"] + found["output"]}


def cache_hit_ratio(tally: Tally) -> float | None:
    """Cached input tokens of all input tokens; None without input tokens."""
    sums = tokens(tally)
    return sums["cached_input"] / sums["input"] if sums["input"] else None


def availability(tally: Tally) -> tuple[int, int]:
    """(successes, all) of the outcomes an SLA counts, probes included."""
    counts = outcomes(tally) + probe_outcomes(tally)
    return int(counts[_SUCCESS_AT]), int(counts[_ELIGIBLE_AT].sum())


def latency(tally: Tally, name: str) -> dict[str, float | int]:
    """Sample count and nearest-rank percentiles in seconds of `ttft`, `tpot` or `duration`.

    For a tally of one group. Without samples only the count.
    """
    number = LATENCIES.index(name)
    cell = tally.cells.keys & ((1 << CELL_BITS) - 1)
    low, high = np.searchsorted(
        cell, [number << histogram.BUCKET_BITS, (number + 1) << histogram.BUCKET_BITS]
    )
    counts = tally.cells.values[low:high]
    if len(counts) == 0:
        return {"count": 0}
    buckets = cell[low:high] & ((1 << histogram.BUCKET_BITS) - 1)
    found = histogram.percentiles(buckets, counts, list(QUANTILES.values()))
    return {
        "count": int(counts.sum()),
        **{label: value / 1e9 for label, value in zip(QUANTILES, found, strict=True)},
    }


def within(tally: Tally, name: str, threshold_us: int) -> int | None:
    """Requests at or under a threshold, exactly; None where that threshold was not counted."""
    key = (LATENCIES.index(name) << THRESHOLD_BITS) | threshold_us
    found = tally.within.values[(tally.within.keys & ((1 << WITHIN_BITS) - 1)) == key]
    return int(found.sum()) if len(found) else None


def measures(tally: Tally) -> dict[str, Any]:
    """All measures of a tally of one group, as the report shows them."""
    counts = outcomes(tally)
    found: dict[str, Any] = {
        "requests": int(counts.sum()),
        "outcomes": {name: int(n) for name, n in zip(OUTCOMES, counts, strict=True)},
        "refused": refused_of(tally),
        "duplicates": duplicates_of(tally),
        "tokens": tokens(tally),
    }
    ratio = cache_hit_ratio(tally)
    if ratio is not None:
        found["cache_hit_ratio"] = ratio
    for name in LATENCIES:
        if len(tally.cells) or len(tally.series):
            found[f"{name}_seconds"] = latency(tally, name)
    good, eligible = availability(tally)
    if eligible:
        found["availability_ratio"] = good / eligible
    return found


EXPORTED_QUANTILES = (0.5, 0.9, 0.95, 0.99)


def measured_within(tally: Tally) -> Table:
    """Tally.within with a second column: how many were measured while that threshold was counted.

    Targets change; a request from before a target was set is neither good nor bad.
    """
    if not len(tally.within):
        return Table.empty(2)
    histograms, counts, _ = by_histogram(tally.cells)
    wanted = tally.within.keys >> THRESHOLD_BITS
    at = np.searchsorted(histograms, wanted)
    at = np.minimum(at, max(0, len(histograms) - 1))
    measured = np.zeros(len(wanted), np.int64)
    if len(histograms):
        measured = np.where(histograms[at] == wanted, counts[at], 0)
    return Table(tally.within.keys, np.column_stack((tally.within.values, measured)))


def by_histogram(cells: Table) -> tuple[Ints, Ints, Ints]:
    """Keys (group, latency) of the histograms in `cells`, their counts, and their last cells."""
    keys = cells.keys >> histogram.BUCKET_BITS
    if not len(keys):
        nothing = np.empty(0, np.int64)
        return nothing, nothing, nothing
    starts = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1])))
    ends = np.append(starts[1:], len(keys)) - 1
    return keys[starts], np.add.reduceat(cells.values, starts), ends
