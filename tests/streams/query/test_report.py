"""The report: exact answers over a range, in steps, at the finest resolution that is left."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from streams.errors import RequestError
from streams.query.report import Question, Range, ReportData, build, choose_range, combine
from streams.query.report_schema import json_schema
from streams.state.slices import Aggregate
from streams.store.heartbeat import Heartbeat
from streams.store.reader import PartitionView
from tests.support.measured import agrees, faults_of_rows, must
from tests.support.oracle import named, recount
from tests.support.oracle_counts import Row
from tests.support.shelf import (
    CUTS,
    DAY_S,
    HASHED,
    HOUR_S,
    LOGS,
    NOON,
    ROOMY,
    Shelf,
    checkpoint,
    count,
    loaded,
    plain,
    shelf_after,
)

QUICK = settings(max_examples=40, deadline=None)
BY = st.sampled_from(
    [
        (),
        ("model",),
        ("region", "service_tier"),
        ("model", "region", "channel", "service_tier"),
        ("customer",),
        ("customer", "model"),
        ("model", "customer"),
    ]
)


LATER_S = NOON + 1_000 * DAY_S


def view_of(shelf: Shelf, partition: int = 0) -> PartitionView:
    totals = Aggregate.unpack(shelf.fields["totals"])
    return PartitionView(partition, shelf.offset, shelf.meta, shelf.index, totals)


def answer(shelves: list[Shelf], **asked: Any) -> dict[str, Any]:
    """Return the report that answers a question."""
    return build(query(shelves, **asked))


def query(shelves: Iterable[Any], **asked: Any) -> ReportData:
    """Answer a question; every partition must have given the same numbers to its names."""
    question = Question(**asked)
    views = [view_of(shelf, number) for number, shelf in enumerate(shelves)]
    read = [
        (view, {of: shelf.aggregate(of) for of in view.index})
        for view, shelf in zip(views, shelves, strict=True)
    ]
    names = [shelf.names() for shelf in shelves]
    assert all(one == names[0] for one in names)
    return combine(question, range_of(question, views), read, *names[0])


def range_of(question: Question, views: list[PartitionView]) -> Range:
    """Return the range of a question after all of its time, when workers have read all records."""
    read = {"at_ms": str(LATER_S * 1_000), "halted": ""}
    heartbeats = [
        Heartbeat(view.partition, {**read, "highwater": str(view.offset)}) for view in views
    ]
    return choose_range(question, views, LATER_S, heartbeats)


def rfc3339(at_s: int) -> str:
    return datetime.fromtimestamp(at_s, UTC).isoformat().replace("+00:00", "Z")


# --- any log -------------------------------------------------------------------------------------


@QUICK
@given(LOGS, CUTS, BY, st.sampled_from([10, 60, 300, HOUR_S, DAY_S]), st.data())
def test_every_number_of_a_report_is_that_of_a_recount(
    log: list[Any],
    cuts: list[tuple[int, str]],
    by: tuple[str, ...],
    step_s: int,
    data: st.DataObject,
) -> None:
    truth = named(recount(log), ROOMY, HASHED).count
    shelf = shelf_after(log, cuts)
    if truth.watermark_ms is None:
        return
    # A stretch of at most 300 steps that ends where something is counted, or now.
    last_s = data.draw(st.sampled_from(sorted(truth.touched_s())))
    asked: dict[str, Any] = {
        "from_s": max(0, last_s - data.draw(st.integers(0, 300)) * step_s),
        "to_s": data.draw(st.sampled_from([None, last_s + 1])),
        "step_s": step_s,
    }
    if (truth.watermark_ms // 1_000 - asked["from_s"]) // step_s > 300:
        asked["to_s"] = last_s + 1
    oldest = truth.watermark_ms // 1_000 - 400 * DAY_S
    if last_s < oldest:
        return
    report = answer([shelf], **asked, by=by)

    found = range_of(Question(**asked), [view_of(shelf)])
    assert (report["from"], report["to"]) == (rfc3339(found.from_s), rfc3339(found.to_s))
    assert found.from_s <= max(asked["from_s"], oldest)
    assert found.to_s >= (asked["to_s"] or truth.watermark_ms // 1_000 + 1)
    assert found.step_s % step_s == 0
    starts = list(range(found.from_s, found.to_s, found.step_s))
    assert [step["start"] for step in report["steps"]] == [rfc3339(start) for start in starts]

    def inside(start_s: int, end_s: int) -> tuple[list[Row], list[str]]:
        rows = [row for row in truth.rows if start_s * 1_000 <= row.at_ms < end_s * 1_000]
        refused = [
            reason for at, reason in truth.refused if at is not None and start_s <= at < end_s
        ]
        return rows, refused

    for start_s, step in zip(starts, report["steps"], strict=True):
        assert whole_agrees(step["measures"], *inside(start_s, start_s + found.step_s))
    all_rows, all_refused = inside(found.from_s, found.to_s)
    assert whole_agrees(report["total"], all_rows, all_refused)
    if not by:
        assert "groups" not in report
        return

    rows_of: dict[tuple[str, ...], list[Row]] = {}
    for row in all_rows:
        key = key_of(row, by)
        if key is not None:
            rows_of.setdefault(key, []).append(row)
    assert [tuple(group["key"].items()) for group in report["groups"]] == [
        tuple(zip(by, key, strict=True)) for key in sorted(rows_of)
    ]
    for group, key in zip(report["groups"], sorted(rows_of), strict=True):
        assert group_agrees(group["total"], rows_of[key], by)
        for step in group["steps"]:
            at_s = int(datetime.fromisoformat(step["start"]).timestamp())
            rows, _ = inside(at_s, at_s + found.step_s)
            assert group_agrees(step["measures"], [r for r in rows if key_of(r, by) == key], by)
        assert (
            sum(step["measures"]["requests"] for step in group["steps"])
            == (group["total"]["requests"])
        )
    for name in ("requests", "outcomes", "tokens"):
        assert summed([group["total"][name] for group in report["groups"]]) == (
            summed([report["total"][name]]) if rows_of else 0
        )


def key_of(row: Row, by: tuple[str, ...]) -> tuple[str, ...] | None:
    """None where a row is in no group: probes belong to no customer."""
    if "customer" in by:
        if row.probe:
            return None
        names = dict(zip(("customer", "model"), row.customer, strict=True))
    else:
        dimensions = ("model", "region", "channel", "service_tier")
        names = dict(zip(dimensions, row.series[:4], strict=True))
    return tuple(names[name] for name in by)


def whole_agrees(found: dict[str, Any], rows: list[Row], refused: list[str]) -> bool:
    assert found["complete"] is True
    measures = {name: one for name, one in found.items() if name != "complete"}
    return agrees(measures, rows, refused, faults=faults_of_rows(rows))


def group_agrees(found: dict[str, Any], rows: list[Row], by: tuple[str, ...]) -> bool:
    assert not {"refused", "duplicates", "field_faults", "complete"} & set(found)
    if "customer" in by:
        expected = must(rows)
        del expected["refused"], expected["duplicates"], expected["field_faults"]
        return found == expected
    return agrees(found | {"refused": {}, "duplicates": 0, "field_faults": {}}, rows)


def summed(values: list[Any]) -> Any:
    """Return the sum of numbers, or of numbers by name."""
    if values and isinstance(values[0], dict):
        return {name: sum(value[name] for value in values) for name in values[0]}
    return sum(values)


# --- what is missing -----------------------------------------------------------------------------


def shelf_after_losses(
    log: list[tuple[dict[str, Any], int]], losses: list[tuple[int, int]]
) -> Shelf:
    """Count a log of which some stretches, [from, to) in offsets, are gone before they are read."""
    shelf = Shelf()
    state = loaded(shelf)
    for from_offset, to_offset in losses:
        count(state, shelf, log, max(from_offset, state.next_offset))
        if to_offset > state.next_offset:
            state.lose(to_offset)
    count(state, shelf, log, len(log))
    checkpoint(state, shelf)
    return shelf


# Within 15 minutes, for which slices of 10 s are kept; beyond, the report widens the step.
@QUICK
@given(
    st.lists(st.integers(1, 22), min_size=2, max_size=40),
    st.lists(st.tuples(st.integers(1, 39), st.integers(1, 6)), max_size=3),
)
def test_a_step_that_is_called_complete_has_every_record_of_the_log(
    steps_s: list[int], lengths: list[tuple[int, int]]
) -> None:
    times_s = [NOON + sum(steps_s[:at]) for at in range(len(steps_s))]
    log = [plain(at_s) for at_s in times_s]
    losses = [(at, min(at + length, len(log))) for at, length in sorted(lengths) if at < len(log)]
    shelf = shelf_after_losses(log, losses)
    report = answer([shelf], step_s=10)
    lost = len(log) - report["total"]["requests"]
    assert report["lost_records"] == lost
    assert sum(gap["records"] for gap in report["gaps"]) == lost
    assert report["total"]["complete"] == (lost == 0)
    for step in report["steps"]:
        start_s = int(datetime.fromisoformat(step["start"]).timestamp())
        truth = sum(start_s <= at_s < start_s + 10 for at_s in times_s)
        found = step["measures"]
        assert found["requests"] == truth or not found["complete"]
    Draft202012Validator(json_schema()).validate(report)


def test_a_gap_is_told_with_its_times_and_spoils_the_steps_it_touches() -> None:
    #  12:00:00   12:00:30 - 12:01:10 gone   12:01:20, 12:01:30   then nothing, three more gone
    log = [plain(NOON + 10 * at) for at in range(13)]
    report = answer([shelf_after_losses(log, [(3, 8), (10, 13)]), shelf_after(log)], step_s=10)
    assert report["gaps"] == [
        {"from": "2023-11-15T12:00:20.000Z", "to": "2023-11-15T12:01:20.001Z", "records": 5},
        {"from": "2023-11-15T12:01:30.000Z", "to": None, "records": 3},
    ]
    assert report["lost_records"] == 8
    complete = [step["measures"]["complete"] for step in report["steps"]]
    assert complete == [True] * 2 + [False] * 11
    assert report["total"]["complete"] is False


# --- shape ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", [(), ("model", "region"), ("customer",)])
def test_a_report_is_what_its_schema_says(by: tuple[str, ...]) -> None:
    log = [plain(NOON), plain(NOON + 900, probe=True), (b"{", 0), plain(NOON + 900, region="eu")]
    report = answer([shelf_after(log)], by=by)
    Draft202012Validator(json_schema()).validate(report)
    assert ("groups" in report) == bool(by)


def test_a_report_has_exactly_the_keys_that_are_promised() -> None:
    log = [plain(NOON, region="eu"), (b"{", 0), plain(NOON + 400, probe=True)]
    report = answer([shelf_after(log)], by=("model", "region"))
    assert list(report) == [
        *("from", "to", "step_s", "as_of", "settled_until", "later"),
        *("gaps", "lost_records"),
        *("total", "steps", "groups"),
    ]
    assert (report["gaps"], report["lost_records"]) == ([], 0)
    assert (report["from"], report["to"]) == ("2023-11-15T12:00:00Z", "2023-11-15T12:10:00Z")
    assert (report["step_s"], report["as_of"]) == (300, "2023-11-15T12:06:40Z")
    assert [step["start"] for step in report["steps"]] == [
        "2023-11-15T12:00:00Z",
        "2023-11-15T12:05:00Z",
    ]
    total = report["total"]
    assert set(total) == {
        *("requests", "outcomes", "refused", "duplicates", "field_faults", "complete", "tokens"),
        *("known", "known_ratio", "estimated", "response_cache"),
        *("provider", "client_errors", "endings", "tier_changed", "first_visible_seconds"),
        *("cache_hit_ratio", "ttft_seconds", "tpot_seconds", "duration_seconds"),
        "availability_ratio",
    }
    assert set(total["tokens"]) == {
        *("input", "cached_input", "cache_write", "output", "reasoning", "total"),
    }
    for name in ("ttft_seconds", "tpot_seconds", "duration_seconds"):
        assert set(total[name]) == {"count", "p50", "p90", "p95", "p99", "max"}
    assert total["refused"] == {"not_json": 1}
    assert [set(step) for step in report["steps"]] == [{"start", "measures"}] * 2
    groups = report["groups"]
    assert [group["key"] for group in groups] == [
        {"model": "a", "region": "eu"},
        {"model": "a", "region": "unknown"},
    ]
    assert [list(group) for group in groups] == [["key", "total", "steps"]] * 2


def test_a_step_in_which_nothing_happened_says_nothing_but_zero_requests() -> None:
    #  12:00       12:05       12:10      12:15
    #    |--event----|--(none)---|--event---|
    report = answer([shelf_after([plain(NOON), plain(NOON + 610)])])
    assert [step["measures"]["requests"] for step in report["steps"]] == [1, 0, 1]
    silent = report["steps"][1]["measures"]
    assert set(silent) == {
        *("requests", "outcomes", "refused", "duplicates", "field_faults", "complete", "tokens"),
        *("known", "known_ratio", "estimated", "response_cache"),
        *("provider", "client_errors", "endings", "tier_changed"),
    }


def test_partitions_are_added_up_each_at_its_own_watermark() -> None:
    #  partition 0   12:00 ........................................ 18:00 (all merged behind it)
    #  partition 1   12:00 .. 12:04 (still in ten-second slices)
    ahead = shelf_after([plain(NOON), plain(NOON + 60), plain(NOON + 6 * HOUR_S)])
    behind = shelf_after([plain(NOON), plain(NOON + 240), plain(NOON + 600)])
    report = answer([ahead, behind], step_s=600)
    assert report["total"]["requests"] == 6
    assert report["as_of"] == "2023-11-15T18:00:00Z"
    requests = [step["measures"]["requests"] for step in report["steps"]]
    assert (requests[0], requests[1], requests[-1]) == (4, 1, 1)


# --- which range, which step ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("age_s", "asked_s", "step_s"),
    [
        (10 * 60, 10, 10),
        (20 * 60, 10, 60),  # 10 s slices are kept for 15 min
        (20 * 60, 300, 300),
        (5 * HOUR_S, 10, 600),  # minutes for 3 h
        (5 * HOUR_S, 300, 600),
        (5 * HOUR_S, 900, 1_200),  # whole slices in a step, whole steps in a day
        (40 * HOUR_S, 3 * HOUR_S, 3 * HOUR_S),
        (5 * HOUR_S, 2_700, HOUR_S),  # 50 min would do, but no whole number of them is a day
        (40 * HOUR_S, 17_280, 6 * HOUR_S),
        (40 * HOUR_S, 300, HOUR_S),  # ten minutes for 30 h
        (34 * DAY_S, 1_800, HOUR_S),
        (36 * DAY_S, 300, DAY_S),  # hours for 35 days
        (399 * DAY_S, 6 * HOUR_S, DAY_S),
    ],
)
def test_older_ranges_are_answered_at_the_coarsest_step_needed_and_say_so(
    age_s: int, asked_s: int, step_s: int
) -> None:
    log = [plain(NOON - age_s), plain(NOON)]
    report = answer([shelf_after(log)], from_s=NOON - age_s, step_s=asked_s, to_s=NOON - age_s + 1)
    assert report["step_s"] == step_s
    assert report["from"] == rfc3339((NOON - age_s) // step_s * step_s)
    assert report["total"]["requests"] == 1


def test_the_begin_of_the_first_step_decides_what_is_still_kept() -> None:
    #  09:00          09:14 = from                         12:10 = watermark
    #    |-- 900 s -----|- the minutes before 09:10 are gone
    shelf = shelf_after([plain(NOON - 3 * HOUR_S), plain(NOON + 600)])
    report = answer([shelf], from_s=NOON - 166 * 60, step_s=900, to_s=NOON - 165 * 60)
    assert (report["step_s"], report["from"]) == (1_200, "2023-11-15T09:00:00Z")
    assert report["total"]["requests"] == 1


def test_left_open_a_report_covers_what_is_stored() -> None:
    shelf = shelf_after([plain(NOON + 7), plain(NOON + 1_000)])
    found = range_of(Question(), [view_of(shelf)])
    assert found == Range(NOON, NOON + 1_200, 300, NOON + 1_000, NOON + 1_200)


def test_what_comes_after_as_of_is_not_part_of_the_answer() -> None:
    shelf = shelf_after([plain(NOON), plain(NOON + 300), plain(NOON + 700)])
    report = answer([shelf], as_of_s=NOON + 299)
    assert (report["to"], report["as_of"]) == ("2023-11-15T12:05:00Z", "2023-11-15T12:04:59Z")
    assert report["total"]["requests"] == 1


def test_nothing_is_older_than_the_horizon() -> None:
    shelf = shelf_after([plain(NOON)])
    found = choose_range(Question(from_s=NOON - 500 * DAY_S), [view_of(shelf)], NOON)
    assert found.from_s == (NOON - 400 * DAY_S) // DAY_S * DAY_S
    assert found.step_s == DAY_S


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"step_s": 15}, "--step: got 15 s; give 10s up to 1d"),
        ({"step_s": 0}, "--step: got 0 s"),
        ({"step_s": 2 * DAY_S}, "--step: got 172800 s"),
        ({"step_s": 420}, "--step: 420 s does not divide a day; try"),
        ({"by": ("modell",)}, "--by: got 'modell'; choose from channel, customer, model"),
        ({"by": ("customer", "region")}, "--by: customers are counted by model only"),
    ],
)
def test_a_question_that_makes_no_sense_is_told_how_to_mend_it(
    asked: dict[str, Any], message: str
) -> None:
    with pytest.raises(RequestError, match=message):
        Question(**asked)


def test_an_empty_range_is_told_how_to_mend_it() -> None:
    view = view_of(shelf_after([plain(NOON)]))
    for question in (Question(from_s=NOON + 600), Question(from_s=NOON - 5, to_s=NOON - 5)):
        with pytest.raises(RequestError, match="--from must lie before --to"):
            choose_range(question, [view], NOON)
