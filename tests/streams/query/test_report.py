"""The report: exact answers over a range, in steps, at the finest resolution that is left."""

from typing import Any

import pytest
from jsonschema import Draft202012Validator

from streams.errors import RequestError
from streams.query.report import Question, Range, choose_range
from streams.query.report_schema import json_schema
from tests.support.reports import answer, range_of, rfc3339, view_of
from tests.support.shelf import (
    DAY_S,
    HOUR_S,
    NOON,
    plain,
    shelf_after,
)

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
        *("provider", "failures", "client_errors", "endings", "tier_changed"),
        "first_visible_seconds",
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
        *("provider", "failures", "client_errors", "endings", "tier_changed"),
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
    with pytest.raises(RequestError, match=r"the newest event that is counted is of 20.*:00:0\dZ"):
        choose_range(Question(from_s=NOON + 600), [view], NOON)
    for question in (
        Question(from_s=NOON + 600, to_s=NOON + 700),
        Question(from_s=NOON - 5, to_s=NOON - 5),
    ):
        with pytest.raises(RequestError, match="--from must lie before --to"):
            choose_range(question, [view], NOON)
