"""The state of a partition equals a recount of its log, however the log was cut."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from streams.errors import Unavailable
from streams.state.edges import export_edges
from streams.state.partition import PartitionState
from streams.state.registry import NameLimits
from streams.state.slices import LEVELS, Aggregate, SliceId
from streams.state.snapshot import Meta, slice_field
from streams.state.windows import ROLLING_S, cover, rolling
from tests.support.oracle import judge, named, recount
from tests.support.oracle_counts import LIMITS, readable, told
from tests.support.shelf import (
    CUTS,
    DAY_S,
    EDGES,
    HASHED,
    HOUR_S,
    LATENESS_S,
    LOGS,
    NOON,
    REFUSED,
    ROOMY,
    TIGHT,
    Shelf,
    answerable,
    checkpoint,
    count,
    loaded,
    plain,
    shelf_after,
)

# --- the laws ------------------------------------------------------------------------------------

MANY = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


NAMED_BY_A_REFUSED = [
    (plain(NOON, region="eu")[0], -1),
    plain(NOON, model="b"),
    plain(NOON, region="eu"),
]


@MANY
@given(LOGS, CUTS, LATENESS_S, st.sampled_from([ROOMY, TIGHT]))
@example([plain(NOON), REFUSED], [(1, "restart")], 30, ROOMY)
@example(NAMED_BY_A_REFUSED, [], 30, TIGHT)
def test_the_store_equals_a_recount_however_the_log_was_cut(
    log: list[Any], cuts: list[tuple[int, str]], lateness_s: int, caps: NameLimits
) -> None:
    shelf = shelf_after(log, cuts, caps, lateness_s)
    must = named(recount(log), caps, HASHED)
    truth = must.count

    assert shelf.names() == (must.series, must.customers)
    assert shelf.meta.watermark_ms == truth.watermark_ms
    assert list(shelf.meta.merged_until_s) == truth.merged_until_s(lateness_s)
    assert shelf.meta.unplaced == dict(truth.unplaced())
    assert shelf.meta.overflowed == dict(must.overflowed)

    kept = truth.slices(lateness_s)
    assert set(shelf.index) == set(kept)
    assert {name for name in shelf.fields if name.startswith("s:")} == set(map(slice_field, kept))
    for of, counts in kept.items():
        assert shelf.readable([of]) == counts

    totals = readable(Aggregate.unpack(shelf.fields["totals"]), *shelf.names())
    everything = told(truth.rows, [reason for _, reason in truth.refused], limits=EDGES)
    assert totals == everything | {"buckets": {}, "customers": {}, "customer_counters": {}}
    assert len(log) == len(truth.rows) + sum(totals["refused"].values())


@MANY
@given(LOGS, CUTS, CUTS, LATENESS_S, st.sampled_from([ROOMY, TIGHT]))
@example([plain(NOON), REFUSED], [(1, "restart")], [], 30, ROOMY)
@example(NAMED_BY_A_REFUSED, [], [(1, "")], 30, ROOMY)
def test_the_stored_bytes_do_not_depend_on_the_cuts(
    log: list[Any],
    cuts: list[tuple[int, str]],
    other_cuts: list[tuple[int, str]],
    lateness_s: int,
    caps: NameLimits,
) -> None:
    once = shelf_after(log, cuts, caps, lateness_s)
    again = shelf_after(log, other_cuts, caps, lateness_s)
    assert once.lasting() == again.lasting()


@MANY
@given(LOGS, CUTS, LATENESS_S, st.data())
def test_every_window_that_is_still_kept_equals_a_recount(
    log: list[Any], cuts: list[tuple[int, str]], lateness_s: int, data: st.DataObject
) -> None:
    shelf = shelf_after(log, cuts, lateness_s=lateness_s)
    truth = named(recount(log), ROOMY, HASHED).count
    if truth.watermark_ms is None:
        assert shelf.index == {}
        return
    watermark_s = truth.watermark_ms // 1_000
    oldest = watermark_s // DAY_S * DAY_S - LEVELS[-1].keep_s + DAY_S
    ranges = [
        rolling(span_s, watermark_s + silent_s, watermark_s)
        for span_s in ROLLING_S.values()
        for silent_s in (0, 47)
    ]
    for _ in range(4):
        # Ends where something is counted, or a little beside it; then moved to what is kept.
        ends = st.sampled_from(sorted(truth.touched_s()))
        one, other = data.draw(ends), data.draw(ends)
        spread = data.draw(st.integers(0, 2 * DAY_S) | st.integers(0, 90))
        from_s, to_s = min(one, other) - spread, max(one, other) + spread
        ranges.append(answerable(max(from_s, oldest), to_s, watermark_s))
    for from_s, to_s in ranges:
        found = cover(shelf.index, shelf.meta.merged_until_s, from_s, to_s)
        assert shelf.readable(found) == truth.between(from_s, to_s)


# --- single facts --------------------------------------------------------------------------------


def test_a_worker_that_begins_with_a_refused_record_counts_it_where_the_watermark_stands() -> None:
    #  [12:00:00 event | restart | refused, refused ...
    shelf = shelf_after([plain(NOON), REFUSED, REFUSED], [(1, "restart"), (1, "restart")])
    assert shelf.readable([SliceId(0, NOON)])["refused"] == {"not_json": 2}


def test_refused_before_the_first_event_are_counted_where_that_one_is() -> None:
    log = [REFUSED, (b"", 0), plain(NOON + 25), plain(NOON - 100)]
    shelf = shelf_after(log[:2])
    assert (shelf.index, shelf.meta.unplaced) == ({}, {"not_json": 1, "empty": 1})
    shelf = shelf_after(log, [(1, "restart"), (1, "restart"), (1, "")])
    assert shelf.meta.unplaced == {}
    assert shelf.readable([SliceId(0, NOON + 20)])["refused"] == {"not_json": 1, "empty": 1}


def levels_holding(shelf: Shelf, at_s: int) -> list[int]:
    """Lengths of the slices that hold the second."""
    return [LEVELS[of.level].step_s for of in sorted(shelf.index) if of.start_s <= at_s < of.end_s]


@pytest.mark.parametrize(
    ("age_s", "lengths"),
    [
        (0, [10]),
        (89, [10]),  # the minute ended 29 s ago; it waits 30 s
        (90, [10, 60]),
        (629, [10, 60]),
        (630, [10, 60, 600]),
        (909, [10, 60, 600]),
        (910, [60, 600]),  # [12:00:00, 12:00:10) ended 15 min ago
        (HOUR_S + 30, [60, 600, HOUR_S]),
        (3 * HOUR_S + 60, [600, HOUR_S]),
        (12 * HOUR_S + 30, [600, HOUR_S, DAY_S]),  # midnight
        (30 * HOUR_S + 600, [HOUR_S, DAY_S]),
        (35 * DAY_S + HOUR_S, [DAY_S]),
        (400 * DAY_S + 12 * HOUR_S - 1, [DAY_S]),
        (400 * DAY_S + 12 * HOUR_S, []),
    ],
)
def test_as_the_stream_goes_on_a_slice_is_merged_upwards_and_the_fine_ones_go(
    age_s: int, lengths: list[int]
) -> None:
    log = [plain(NOON), plain(NOON + age_s)]
    for cuts in ([], [(1, "restart")]):
        assert levels_holding(shelf_after(log, cuts), NOON) == lengths


def test_a_late_event_is_counted_at_every_resolution_that_still_keeps_its_time() -> None:
    #  12:00:00 late one ......... 4 h: 10 s and 1 min are gone ......... 16:00 = watermark
    log = [plain(NOON), plain(NOON + 4 * HOUR_S), plain(NOON, model="b")]
    shelf = shelf_after(log, [(1, "restart"), (1, "restart")])
    assert levels_holding(shelf, NOON) == [600, HOUR_S]
    for of in (SliceId(2, NOON), SliceId(3, NOON)):
        models = {key[0] for key in shelf.readable([of])["series"]}
        assert models == {"a", "b"}


def test_an_event_for_a_slice_that_has_just_expired_does_not_bring_it_back() -> None:
    #  12:00:00 |10 s| ... 15 min ... 12:15:10 = watermark, then a late one of 12:00:01
    log = [plain(NOON), plain(NOON + 910), plain(NOON + 1, model="b")]
    for cuts in ([], [(1, ""), (1, "")], [(1, "restart"), (1, "restart")]):
        shelf = shelf_after(log, cuts)
        assert levels_holding(shelf, NOON) == [60, 600]
        assert len(shelf.readable([SliceId(1, NOON)])["series"]) == 2


def test_forgetting_keeps_what_is_not_in_the_store() -> None:
    shelf = Shelf()
    state = loaded(shelf)
    log = [plain(NOON), plain(NOON + 20)]
    count(state, shelf, log, 1)
    state.evict(0)
    assert state.missing(judge(log[:1], state.watermark)) == []
    checkpoint(state, shelf)
    state.evict(10**9)
    assert state.missing(judge(log[:1], state.watermark)) == []
    state.evict(0)
    assert state.missing(judge(log[:1], state.watermark)) == [SliceId(0, NOON)]
    count(state, shelf, log, 2)
    checkpoint(state, shelf)
    assert shelf.readable(list(shelf.index)) == recount_of(log)


def recount_of(log: list[tuple[dict[str, Any], int]]) -> dict[str, Any]:
    return named(recount(log), ROOMY, HASHED).count.everything()


def test_a_batch_that_could_not_be_counted_leaves_nothing_behind() -> None:
    shelf = shelf_after([plain(NOON), plain(NOON, model="b")], caps=TIGHT)
    state = loaded(shelf, TIGHT)
    batch = judge([plain(NOON, model="c"), plain(NOON, customer_id="eve")], state.watermark)
    before = state.registry.overflowed.copy()
    with pytest.raises(RuntimeError, match=f"s:10:{NOON} is stored but was not provided"):
        state.apply(batch, 4)
    assert (state.next_offset, state.unflushed) == (2, 0)
    assert state.registry.overflowed == before
    checkpoint(state, shelf)
    assert (
        shelf.lasting() == shelf_after([plain(NOON), plain(NOON, model="b")], caps=TIGHT).lasting()
    )


def test_offsets_without_records_are_passed_over() -> None:
    shelf = Shelf()
    state = loaded(shelf)
    state.apply(judge([plain(NOON)]), 1)
    state.apply(judge([]), 7)
    assert state.unflushed == 7
    checkpoint(state, shelf)
    assert (shelf.offset, loaded(shelf).next_offset, state.unflushed) == (7, 7, 0)


def test_only_what_changed_is_written() -> None:
    shelf = Shelf()
    state = loaded(shelf)
    log = [plain(NOON), plain(NOON + 20), plain(NOON + 20)]
    for until, slices in ((1, [NOON]), (2, [NOON + 20]), (3, [NOON + 20])):
        count(state, shelf, log, until)
        snapshot = state.snapshot(1)
        written = [name for name in snapshot.fields if name.startswith("s:")]
        assert written == [slice_field(SliceId(0, start_s)) for start_s in slices]
        shelf.write(snapshot)
        state.confirm(snapshot)


def test_other_edges_begin_their_histograms_at_zero_and_keep_all_other_totals() -> None:
    log = [plain(NOON), plain(NOON), REFUSED]
    shelf = shelf_after(log)
    other = export_edges(LIMITS._replace(ttft_us=(700_000,)))
    state = loaded(shelf, edges=other)
    checkpoint(state, shelf)
    totals = readable(Aggregate.unpack(shelf.fields["totals"]), *shelf.names())
    (row,) = totals["series"].values()
    assert (row["success"], row["input tokens"], totals["refused"]) == (2, 1_800, {"not_json": 1})
    assert totals["within"] == {}
    assert not any(name.endswith(" us") for name in row)
    assert shelf.meta.edges == other


def test_state_of_a_newer_program_is_refused() -> None:
    shelf = shelf_after([plain(NOON)])
    schema, *rest = msgspec.msgpack.decode(shelf.fields["meta"])
    shelf.fields["meta"] = msgspec.msgpack.encode([schema + 1, *rest, "something new"])
    with pytest.raises(Unavailable, match="schema 6, this program reads up to 5: upgrade"):
        shelf.names()


def test_the_state_remembers_since_when_it_knows_anything_whatever_came_later() -> None:
    #   log:  refused   12:00:07   11:59:40 (late)   12:30:00
    #                   ^ since
    at_s = 1_700_000_007
    log = [REFUSED, *(plain(at_s + ago_s) for ago_s in (0, -27, 1_800))]
    for size in (1, 2, 4):
        shelf = shelf_after(log, [(size, "restart")] * 4)
        assert shelf.meta.since_ms == at_s * 1_000


def meta_after(*steps: Any) -> Meta:
    """The stored meta after steps on a state that begins empty, written after each."""
    shelf = Shelf()
    state = loaded(shelf)
    for step in steps:
        step(state)
        checkpoint(state, shelf)
    assert loaded(shelf).gaps == state.gaps
    return shelf.meta


def counted(*log: Any) -> Callable[..., Any]:
    return lambda state: state.apply(judge(list(log), state.watermark), state.next_offset + 1)


def test_records_that_are_gone_leave_a_gap_until_the_next_event() -> None:
    #   12:00:00 counted | offsets 1 to 5 gone | 12:00:40 counted
    before = counted(plain(NOON))
    lost = lambda state: state.lose(6)  # noqa: E731
    open_gap = meta_after(before, lost)
    assert (open_gap.lost_records, open_gap.gaps) == (5, ((NOON * 1_000, None, 5),))
    closed = meta_after(before, lost, counted(plain(NOON + 40)))
    assert closed.gaps == ((NOON * 1_000, (NOON + 40) * 1_000 + 1, 5),)
    again = meta_after(before, lost, lambda state: state.lose(8), counted(plain(NOON + 40)))
    assert again.gaps == ((NOON * 1_000, (NOON + 40) * 1_000 + 1, 7),)
    assert again.lost_records == 7


def test_a_gap_that_ends_with_a_late_event_is_never_turned_around() -> None:
    late = meta_after(counted(plain(NOON)), lambda state: state.lose(3), counted(plain(NOON - 60)))
    assert late.gaps == ((NOON * 1_000, NOON * 1_000 + 1, 2),)


def test_gaps_beyond_what_is_kept_are_forgotten_and_too_many_become_one() -> None:
    def lose_and_count(number: int) -> Callable[..., Any]:
        def step(state: PartitionState) -> None:
            state.lose(state.next_offset + 1)
            counted(plain(NOON + 10 * number))(state)

        return step

    many = meta_after(counted(plain(NOON)), *map(lose_and_count, range(1, 80)))
    assert len(many.gaps) == 64
    assert sum(gap.records for gap in many.gaps) == many.lost_records == 79
    assert many.gaps[0].from_ms == NOON * 1_000
    far = counted(plain(NOON + 401 * DAY_S))
    late = meta_after(counted(plain(NOON)), lose_and_count(1), far)
    assert (late.gaps, late.lost_records) == ((), 1)


def test_counting_that_begins_inside_a_log_says_where_and_misses_nothing() -> None:
    begun = meta_after(lambda state: state.begin_at(700), counted(plain(NOON)))
    assert (begun.begun_at, begun.lost_records, begun.gaps) == (700, 0, ())
    assert meta_after(counted(plain(NOON))).begun_at == 0


def test_a_log_made_again_is_counted_from_where_an_operator_says() -> None:
    shelf = Shelf()
    state = loaded(shelf)
    state.apply(judge([plain(NOON)]), 900)
    checkpoint(state, shelf)
    state.begin_again(0)
    assert state.changed
    checkpoint(state, shelf)
    state = loaded(shelf)
    assert (state.next_offset, state.witness, state.changed) == (0, None, False)
    count(state, shelf, [plain(NOON + 10)], 1)
    checkpoint(state, shelf)
    assert shelf.offset == 1
    assert shelf.meta.gaps == ((NOON * 1_000, (NOON + 10) * 1_000 + 1, 0),)


def test_marks_are_written_even_when_nothing_was_counted() -> None:
    meta = meta_after(lambda state: state.mark_rebuilt(2), lambda state: state.mark_archived(77))
    assert (meta.rebuilt, meta.archived_at_ms) == (2, 77)


@given(LOGS, st.integers(1, 5))
def test_a_checkpoint_that_got_lost_is_part_of_the_next_one(log: list[Any], size: int) -> None:
    shelf = Shelf()
    state = loaded(shelf)
    for until in [*range(size, len(log), size), len(log)]:
        count(state, shelf, log, until)
        state.snapshot(7)  # never arrives
        state.evict(0)  # of what was not written, nothing
    assert state.changed
    checkpoint(state, shelf)
    assert not state.changed
    assert shelf.lasting() == shelf_after(log).lasting()
