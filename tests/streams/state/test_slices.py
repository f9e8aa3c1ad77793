"""What a slice counts, and that slices of any cut add up to the same."""

from itertools import pairwise
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies._internal.random import ArtificialRandom

from streams.events.decoder import OUTCOMES, REASONS, Columns
from streams.state import slices
from streams.state.edges import EVERYTHING_US, export_edges
from streams.state.slices import LEVELS, Aggregate, Thresholds, rejection_counts
from streams.state.tables import Table
from tests.support.aggregates import counted, parts_of
from tests.support.oracle import judge, recount
from tests.support.oracle_counts import LIMITS, readable, told
from tests.support.shelf import HOUR_S, LOGS, NOON, plain

QUICK = settings(max_examples=50, deadline=None)
FEW_COUNTS = st.dictionaries(st.sampled_from(REASONS), st.integers(1, 9))


@QUICK
@given(LOGS)
def test_events_are_counted_in_the_ten_seconds_they_ended_in(log: list[Any]) -> None:
    columns = judge(log).columns
    parts = parts_of(columns)
    rows = recount(log).rows
    assert [start_s for start_s, _ in parts] == sorted({row.at_ms // 10_000 * 10 for row in rows})
    for start_s, aggregate in parts:
        inside = [row for row in rows if row.at_ms // 10_000 * 10 == start_s]
        assert readable(aggregate, columns.series, columns.customers) == told(inside)


@QUICK
@given(LOGS, FEW_COUNTS)
def test_a_tally_survives_its_bytes(log: list[Any], refused: dict[str, int]) -> None:
    aggregate, series, customers = counted(log)
    aggregate = Aggregate.merged([aggregate, rejection_counts(refused)])
    again = Aggregate.unpack(aggregate.pack())
    assert readable(again, series, customers) == readable(aggregate, series, customers)
    assert again.pack() == aggregate.pack()


@QUICK
@given(LOGS, st.integers(1, 5), st.randoms(use_true_random=False))
def test_tallies_add_up_to_the_same_bytes_in_any_order_and_grouping(
    log: list[Any], size: int, random: ArtificialRandom
) -> None:
    columns = judge(log).columns
    parts = [part for _, part in parts_of(columns)]
    whole = Aggregate.merged(parts).pack()
    random.shuffle(parts)
    groups = [parts[at : at + size] for at in range(0, len(parts), size)]
    assert Aggregate.merged([Aggregate.merged(group) for group in groups]).pack() == whole
    assert Aggregate.merged([Aggregate.empty(), *parts, Aggregate.empty()]).pack() == whole


def test_a_threshold_counts_what_is_at_it_and_not_a_nanosecond_more() -> None:
    #            100 ms            300 ms
    #    |--- within --|  ...  ------|
    ttfts_ms = [99.999999, 100, 100.000001, 300, 300.000001]
    log = [plain(NOON, ttft_ms=ttft) for ttft in ttfts_ms]
    within = readable(*counted(log))["within"]
    assert {limit: n for (_, name, limit), n in within.items() if name == "ttft"} == {
        100_000: 2,
        300_000: 4,
    }


def test_a_threshold_that_nobody_meets_is_counted_as_zero() -> None:
    within = readable(*counted([plain(NOON, ttft_ms=1_000)]))["within"]
    assert {limit: n for (_, name, limit), n in within.items() if name == "ttft"} == {
        100_000: 0,
        300_000: 0,
    }


def test_a_probe_counts_by_outcome_only() -> None:
    log = [plain(NOON, probe=True), plain(NOON, probe=True, outcome="timeout")]
    found = readable(*counted(log))
    assert found == told(recount(log).rows)
    assert found["series"] == {
        ("a", "unknown", "unknown", "unknown", "unknown", ""): {
            "probe success": 1,
            "probe timeout": 1,
        }
    }
    assert found["buckets"] == found["customers"] == {}


def test_sums_beyond_what_a_float_holds_are_exact() -> None:
    odd = 10**12 - 1  # 20,000 of these pass 2**53, where floats skip odd numbers
    count = 20_000
    one = judge([plain(NOON, input_tokens=odd, cached_input_tokens=0)]).columns
    arrays = {
        name: np.repeat(getattr(one, name), count)
        for name in Columns.__dataclass_fields__
        if name not in ("series", "customers")
    }
    columns = Columns(**arrays, series=one.series, customers=one.customers)
    ((_, aggregate),) = parts_of(columns)
    found = readable(aggregate, one.series, one.customers)
    assert found["series"][one.series[0]]["input tokens"] == odd * count
    assert found["customers"][one.customers[0]]["input tokens"] == odd * count


def test_no_event_is_no_slice_and_no_refusal_an_empty_tally() -> None:
    assert parts_of(judge([]).columns) == []
    assert rejection_counts({}).pack() == Aggregate.merged([]).pack() == Aggregate.empty().pack()
    assert Aggregate.empty().size_bytes == 0


def test_series_and_customers_fit_into_the_bits_of_a_key() -> None:
    # (slot, series, latency, threshold) is the widest key; slots of a batch have what is left.
    assert slices.THRESHOLD_COUNT_BITS + 22 < 63
    assert EVERYTHING_US < 1 << slices.THRESHOLD_BITS
    assert len(slices.CLOCKS) <= 1 << slices.LATENCY_BITS
    assert len(slices.COUNTERS) <= 1 << slices.COUNTER_BITS
    assert Table.empty(slices.SERIES_COLUMNS).values.shape[1] == 2 * len(OUTCOMES) + 5 + 3 + 7 + 1


def test_every_level_is_made_of_whole_slices_of_the_one_below_and_kept_longer() -> None:
    for finer, coarser in pairwise(LEVELS):
        assert coarser.step_s % finer.step_s == 0
        assert coarser.keep_s > finer.keep_s > coarser.step_s
    assert [level.step_s for level in LEVELS] == [10, 60, 600, HOUR_S, 24 * HOUR_S]
    assert [level.keep_s for level in LEVELS] == [
        15 * 60,
        3 * HOUR_S,
        30 * HOUR_S,
        35 * 24 * HOUR_S,
        400 * 24 * HOUR_S,
    ]


def test_exported_edges_are_the_conventions_and_finer_around_a_target() -> None:
    edges = export_edges(Thresholds((300_000,), (), ()))
    assert {240_000, 270_000, 300_000, 330_000, 375_000} <= set(edges.ttft_us)
    assert {1_000, 250_000, 500_000, 10_000_000, EVERYTHING_US} <= set(edges.ttft_us)
    assert list(edges.ttft_us) == sorted(set(edges.ttft_us))
    assert edges.tpot_us == export_edges(LIMITS._replace(tpot_us=())).tpot_us
    assert edges.duration_us[-1] == EVERYTHING_US
