"""Sums that no int64 could hold stop at a limit, and what is computed from them is unknown."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporters.daily.day.counts import Counts, counts_of
from exporters.windows.incremental import Grouping, Sums, Window, summarise
from exporters.windows.measured import measure
from streams.events.decoder import decode
from streams.events.fields import MAX_LATENCY_MS, MAX_TOKENS
from streams.state.aggregation import record
from streams.state.measures import SERIES_DIMENSIONS, cache_hit_ratio, measures, tokens, whole
from streams.state.slices import Aggregate, SliceId, Thresholds
from streams.state.tables import MAX_SUM, Table, add_capped, sum_rows
from tests.support.event_samples import EVENT, NOW, RULES

AMOUNTS = st.integers(0, 9) | st.integers(0, MAX_SUM) | st.just(MAX_SUM)
ROWS = st.lists(st.tuples(st.integers(0, 3), AMOUNTS, AMOUNTS), max_size=9)
QUICK = settings(max_examples=200, deadline=None)
EVENTS = 9_300_000


def table(rows: list[tuple[int, int, int]]) -> Table:
    keys = np.array([key for key, *_ in rows], np.int64)
    return Table.summed(keys, np.array([row[1:] for row in rows], np.int64).reshape(len(rows), 2))


def recount(rows: list[tuple[int, int, int]]) -> dict[int, tuple[int, int]]:
    """The sums in whole numbers of any size, at most the limit."""
    return {
        of: (
            min(MAX_SUM, sum(one for key, one, _ in rows if key == of)),
            min(MAX_SUM, sum(two for key, _, two in rows if key == of)),
        )
        for of in {key for key, *_ in rows}
    }


def plain(found: Table) -> dict[int, tuple[int, int]]:
    return dict(zip(found.keys.tolist(), map(tuple, found.values.tolist()), strict=True))


@QUICK
@given(ROWS, ROWS, ROWS)
def test_sums_are_those_of_whole_numbers_up_to_the_limit_in_any_order(
    one: list[tuple[int, int, int]],
    two: list[tuple[int, int, int]],
    three: list[tuple[int, int, int]],
) -> None:
    wanted = recount(one + two + three)
    a, b, c = table(one), table(two), table(three)
    assert plain(table(one + two + three)) == wanted
    assert plain(Table.merged([a, b, c])) == wanted
    assert plain(Table.merged([Table.merged([c, a]), b])) == wanted
    narrow = [Table(part.keys, part.values[:, 0]) for part in (a, b, c)]
    merged = Table.merged(narrow)
    assert dict(zip(merged.keys.tolist(), merged.values.tolist(), strict=True)) == {
        key: sums[0] for key, sums in wanted.items()
    }
    assert Table.unpack(Table.merged([a, b, c]).pack()).values.tolist() == [
        list(wanted[key]) for key in sorted(wanted)
    ]


@QUICK
@given(st.lists(st.integers(-MAX_SUM, MAX_SUM), min_size=1, max_size=12))
def test_differences_are_those_of_whole_numbers_within_the_limit(amounts: list[int]) -> None:
    values = np.array(amounts, np.int64)
    wanted = max(-MAX_SUM, min(MAX_SUM, sum(amounts)))
    assert int(sum_rows(values)) == wanted
    starts = np.zeros(1, np.int64)
    assert add_capped(values, lambda rows: np.add.reduceat(rows, starts)).tolist() == [wanted]


@pytest.fixture(scope="module")
def largest() -> Aggregate:
    """More than 9.3 million events of one series with the largest numbers that may be counted."""
    event = {
        **EVENT,
        "input_tokens": MAX_TOKENS,
        "cached_input_tokens": MAX_TOKENS,
        "cache_write_tokens": 0,
        "output_tokens": MAX_TOKENS,
        "reasoning_tokens": MAX_TOKENS,
        "ttft_ms": MAX_LATENCY_MS,
        "duration_ms": MAX_LATENCY_MS,
        "customer_id": "ann",
    }
    count = 1_000
    values = [
        msgspec.json.encode({**event, "request_id": f"r{number}", "ended_at": NOW})
        for number in range(count)
    ]
    columns = decode(values, np.full(count, NOW, np.int64), None, RULES).columns
    assert len(columns.ended_at_ms) == count
    numbers = np.zeros(count, np.int64)
    [(_, aggregate)] = record(columns, numbers, numbers, Thresholds((), (), ()))
    while count < EVENTS:
        aggregate, count = Aggregate.merged([aggregate, aggregate]), count * 2
    return aggregate


def test_a_sum_at_its_limit_is_stored_and_read_back(largest: Aggregate) -> None:
    assert Aggregate.unpack(largest.pack()).series.values.tolist() == largest.series.values.tolist()
    assert tokens(largest)["input"] == MAX_SUM
    assert int(largest.series.values.min()) >= 0


def test_no_hit_rate_is_computed_from_it(largest: Aggregate) -> None:
    assert cache_hit_ratio(largest) is None
    found = measures(whole(largest))
    assert "cache_hit_ratio" not in found
    assert all(0 <= share <= 1 for share in found["known_ratio"].values())
    assert found["requests"] >= EVENTS


def test_a_window_is_summed_anew_after_such_a_slice_has_left(largest: Aggregate) -> None:
    series = [("m", "", "", "standard", "")]
    scope = Grouping("fleet", (), SERIES_DIMENSIONS)
    scope.follow(series)
    few = Table(largest.series.keys, np.minimum(largest.series.values, 7))
    small = replace(Aggregate.empty(), series=few)
    parts = {
        (0, SliceId(0, at)): summarise(aggregate, [scope], series, ())
        for at, aggregate in ((0, largest), (10, largest), (20, small))
    }
    window = Window(["fleet"])
    window.update(parts, {})
    assert int(window.sums["fleet"].counts.values.max()) == MAX_SUM
    assert measure("fleet", window.sums["fleet"])[0].cache_hit_ratio is None
    for _ in range(2):
        del parts[min(parts)]
        window.update(parts, {})
    assert window.sums["fleet"].counts.values.tolist() == few.values.tolist()


def test_days_of_it_add_up_to_numbers_that_can_be_stored(largest: Aggregate) -> None:
    day = counts_of(
        Sums(largest.series, largest.cells, Table.empty(2), largest.counters),
        _by_fleet(),
    )
    total = Counts.sum(list(day.values()) * 40)
    assert total.input_tokens == MAX_SUM
    assert total.cache_hit_ratio is None


def _by_fleet() -> Grouping:
    scope = Grouping("fleet", (), SERIES_DIMENSIONS)
    scope.follow([("m", "", "", "standard", "")])
    return scope
