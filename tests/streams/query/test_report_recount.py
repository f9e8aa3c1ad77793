"""Every number of a report, and what it calls complete, against a recount of random logs."""

from datetime import datetime
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from streams.query.report import Question
from streams.query.report_schema import json_schema
from tests.support.measured import agrees, faults_of_rows, must
from tests.support.oracle import named, recount
from tests.support.oracle_counts import Row
from tests.support.reports import answer, range_of, rfc3339, view_of
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
