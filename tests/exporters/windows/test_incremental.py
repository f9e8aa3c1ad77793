"""The windows that are kept up to date equal a sum from scratch, and their percentiles hold."""

from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from exporters.windows.incremental import Grouping, Sums, Window, percentiles, summarise
from streams.events.decoder import OUTCOMES
from streams.state import histogram
from streams.state.measures import SERIES_DIMENSIONS, latency, measured_threshold_counts
from streams.state.slices import (
    CELL_BITS,
    CUSTOMER_COLUMNS,
    LATENCIES,
    SERIES_COLUMNS,
    THRESHOLD_BITS,
    THRESHOLD_COUNT_BITS,
    Aggregate,
    SliceId,
)
from streams.state.tables import Table

NAMES = [
    ("opus", "us", "direct", "standard"),
    ("opus", "eu", "direct", "standard"),
    ("haiku", "us", "direct", "standard"),
]
CUSTOMERS = [("acme", "opus"), ("acme", "haiku"), ("globex", "opus")]
SCOPES = ("fleet", "model", "series", "customer")


def scopes() -> list[Grouping]:
    dimensions = {"fleet": (), "model": ("model",), "series": SERIES_DIMENSIONS}
    found = [Grouping(name, parts, SERIES_DIMENSIONS) for name, parts in dimensions.items()]
    for scope in found:
        scope.follow(NAMES)
    customers = Grouping("customer", ("customer",), ("customer", "model"))
    customers.follow(CUSTOMERS)
    return [*found, customers]


def tally_of(events: list[tuple[int, int, int]]) -> Aggregate:
    """One slice of (series number, TTFT in ns, customer number) successes; 0.3 s is a target."""
    aggregate = Aggregate.empty()
    parts = []
    for series, ttft_ns, customer in events:
        row = np.zeros((1, SERIES_COLUMNS), np.int64)
        row[0, OUTCOMES.index("success")] = 1
        customer_row = np.zeros((1, CUSTOMER_COLUMNS), np.int64)
        customer_row[0, OUTCOMES.index("success")] = 1
        bucket = histogram.bucket_of(np.array([ttft_ns], np.int64))
        limit = (series << THRESHOLD_COUNT_BITS) | 300_000
        parts.append(
            replace(
                aggregate,
                series=Table(np.array([series]), row),
                cells=Table((series << CELL_BITS) | bucket, np.array([1])),
                threshold_counts=Table(np.array([limit]), np.array([int(ttft_ns <= 300_000_000)])),
                customers=Table(np.array([customer]), customer_row),
            )
        )
    return Aggregate.merged(parts)


EVENTS = st.tuples(st.integers(0, 2), st.integers(0, 10**10), st.integers(0, 2))
SLICES = st.lists(EVENTS, min_size=1, max_size=8).map(tally_of)


def same(one: Sums, other: Sums) -> bool:
    return all(
        np.array_equal(getattr(one, name).keys, getattr(other, name).keys)
        and np.array_equal(getattr(one, name).values, getattr(other, name).values)
        for name in ("counts", "cells", "threshold_counts")
    )


MOVES = st.lists(
    st.dictionaries(st.integers(0, 5), st.integers(0, 1), max_size=6), min_size=2, max_size=6
)


@settings(deadline=None, max_examples=80)
@given(st.lists(SLICES, min_size=12, max_size=12), MOVES)
def test_a_window_that_moves_equals_the_sum_of_the_slices_now_in_it(
    versions: list[Aggregate], moves: list[dict[int, int]]
) -> None:
    # slice -> its version:  {0: a, 1: a, 2: a} -> {1: a, 2: b, 3: a} -> ...   2 was rewritten
    known = scopes()
    summaries = [summarise(aggregate, known, NAMES, {"batch"}) for aggregate in versions]
    window, other = Window(SCOPES), Window(SCOPES)
    for move in moves:
        inside = [2 * number + version for number, version in move.items()]
        parts = {(0, SliceId(0, at // 2)): summaries[at] for at in inside}
        deltas: Any = {}
        window.update(parts, deltas)
        other.update(parts, deltas)
        whole = summarise(
            Aggregate.merged([versions[at] for at in inside]), known, NAMES, {"batch"}
        )
        for scope in SCOPES:
            assert same(window.sums[scope], whole[scope])
            assert same(other.sums[scope], whole[scope])


def test_what_stays_in_a_window_is_not_added_again() -> None:
    known = scopes()
    parts = {(0, SliceId(0, 0)): summarise(tally_of([(0, 10**8, 0)]), known, NAMES, {"batch"})}
    window = Window(SCOPES)
    for _ in range(3):
        window.update(parts, {})
    assert window.sums["fleet"].counts.values[:, 0].tolist() == [1]


@given(SLICES)
def test_percentiles_of_all_groups_at_once_equal_those_of_each(aggregate: Aggregate) -> None:
    ratios = (0.5, 0.9, 0.95, 0.99)
    (sums,) = summarise(aggregate, [scopes()[1]], NAMES, {"batch"}).values()
    found = percentiles(sums, ratios)
    for group, part in sums.cells.split(CELL_BITS):
        one = latency(replace(Aggregate.empty(), cells=part), "ttft")
        count, values = found[group, LATENCIES.index("ttft")]
        assert count == one["count"]
        assert [one_ns / 1e9 for one_ns in values] == [one[f"p{q * 100:g}"] for q in ratios]
    assert len(found) == len(sums.cells.split(CELL_BITS))


def test_nothing_measured_gives_no_percentile() -> None:
    assert percentiles(Sums.empty("fleet"), (0.5,)) == {}


def test_a_threshold_is_judged_only_over_slices_that_counted_it() -> None:
    # slice 1: three requests, the target not configured yet; slice 2: two requests, one good
    before = replace(tally_of([(0, 10**8, 0)] * 3), threshold_counts=Table.empty())
    after = tally_of([(0, 10**8, 0), (0, 10**9, 0)])
    (fleet, *_) = scopes()
    window = Window(["fleet"])
    window.update(
        {
            (0, SliceId(0, at)): summarise(one, [fleet], NAMES, {"batch"})
            for at, one in enumerate((before, after))
        },
        {},
    )
    assert window.sums["fleet"].threshold_counts.values.tolist() == [[1, 2]]
    assert window.sums["fleet"].counts.values[0, 0] == 5


def test_a_threshold_without_measurements_has_none() -> None:
    stray = replace(
        Aggregate.empty(),
        threshold_counts=Table(np.array([(1 << THRESHOLD_BITS) | 5]), np.array([0])),
    )
    assert measured_threshold_counts(stray).values.tolist() == [[0, 0]]


def test_groups_keep_their_numbers_when_names_come() -> None:
    scope = Grouping("model", ("model",), SERIES_DIMENSIONS)
    scope.follow(NAMES[:1])
    assert scope.keys == [("opus",)]
    scope.follow(NAMES)
    assert scope.keys == [("opus",), ("haiku",)]
    table = scope.regroup(Table(np.array([0, 1, 2]), np.array([5, 6, 7])), 0)
    assert (table.keys.tolist(), table.values.tolist()) == ([0, 1], [11, 7])


def test_the_latencies_of_a_batch_are_in_scopes_by_tier_only() -> None:
    names = [NAMES[0], (*NAMES[0][:3], "batch")]
    fleet = Grouping("fleet", (), SERIES_DIMENSIONS)
    tier = Grouping("service_tier", ("service_tier",), SERIES_DIMENSIONS)
    for scope in (fleet, tier):
        scope.follow(names)
    aggregate = tally_of([(0, 10**8, 0), (1, 10**12, 0)])
    summary = summarise(aggregate, [fleet, tier], names, {"batch"})
    assert summary["fleet"].cells.values.tolist() == [1]
    assert summary["fleet"].threshold_counts.values.tolist() == [[1, 1]]
    assert summary["fleet"].counts.values[0, OUTCOMES.index("success")] == 2
    assert summary["service_tier"].cells.values.tolist() == [1, 1]
    assert summary["service_tier"].threshold_counts.values.tolist() == [[1, 1], [0, 1]]
    together = summarise(aggregate, [fleet], names, ())
    assert together["fleet"].cells.values.tolist() == [1, 1]
