"""Columns become fields: units, nulls, codes, templates and times."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.events.fields import OUTCOMES
from streams.sources.reading import load_mapping, read_rows
from streams.sources.rows import Row
from tests.support.mapped_files import BASE_MS, SIMPLE


def instants(read: Callable[..., Any], declaration: str, *values: Any, **options: Any) -> list[Any]:
    """`ended_at` in ms, or the problem, of rows {at: value, took: 2 s}."""
    mapping = (
        f"format: jsonl\ntime: {declaration}\nfields:\n  model: {{constant: m}}\n"
        "  outcome: {constant: success}\n  duration_ms: {column: took, unit: s}\n"
    )
    content = "".join(json.dumps({"at": value, "took": 2}) + "\n" for value in values)
    return [
        row.ended_at_ms if isinstance(row, Row) else row.problem
        for row in read(content, mapping, **options)
    ]


# Fields -------------------------------------------------------------------------------------------


def test_durations_become_milliseconds_from_any_unit(field: Callable[..., Any]) -> None:
    for unit, value in (("s", 1.5), ("ms", 1500), ("us", 1_500_000), ("ns", "1500000000")):
        assert field(f"{{column: d, unit: {unit}}}", {"d": value}) == [1500]
    assert field("d", {"d": "0.25"}) == [0.25]


def test_numbers_that_are_none_are_reported_and_whole_numbers_may_be_written_as_floats(
    field: Callable[..., Any],
) -> None:
    for value in (
        "abc",
        "1_000",
        "1,000",
        "NaN",
        "inf",
        "1e999",
        "9" * 400,
        True,
        [1],
        {"a": 1},
        -2,
        "-0.5",
    ):
        (problem,) = field("d", {"d": value})
        assert problem.startswith("duration_ms: found ")
    found = field(
        "n", {"n": "12.0"}, {"n": 12.0}, {"n": " 12 "}, {"n": 12.5}, {"n": -3}, name="input_tokens"
    )
    assert found[:3] == [12, 12, 12]
    assert [problem.split("; ")[1] for problem in found[3:]] == [
        "write a whole number",
        "write a number that is not below 0",
    ]


def test_minus_one_means_that_a_number_was_not_measured(field: Callable[..., Any]) -> None:
    assert field("{column: d, unit: s}", {"d": -1}, {"d": "-1"}, {"d": -1.0}) == [None] * 3
    assert field("n", {"n": -1}, name="input_tokens") == [None]


def test_values_that_mean_null_leave_the_field_out(field: Callable[..., Any]) -> None:
    assert field("d", {"d": None}, {"d": ""}, {"d": 0}) == [None, None, 0]
    assert field(
        "{column: d, nulls: ['', '-', 0]}", {"d": "-"}, {"d": 0.0}, {"d": "0.00"}, {"d": 1}
    ) == [
        None,
        None,
        None,
        1,
    ]
    assert field("{column: d, default: 7, unit: s}", {"d": None}, {"d": 1}) == [7, 1000]


def test_a_field_may_depend_on_the_value_of_another_column(field: Callable[..., Any]) -> None:
    rows = [{"d": 1, "code": code} for code in (None, 429, "429", -100, False)]
    assert field("{column: d, when: {column: code, is: [null, -100]}}", *rows) == [
        1,
        None,
        None,
        1,
        None,
    ]
    assert field("{column: d, when: {column: code, is_not: [429]}}", *rows) == [1, None, None, 1, 1]
    assert field("{column: d, when: {column: code, is: [false]}}", *rows) == [None] * 4 + [1]


def test_columns_are_added_and_subtracted_each_in_its_unit(field: Callable[..., Any]) -> None:
    parts = (
        "{add: [{column: wait, unit: s}, run], subtract: [{column: idle, unit: us, default: 0}]}"
    )
    assert field(
        parts, {"wait": 1, "run": 250, "idle": 50_000}, {"wait": 1, "run": 2, "idle": None}
    ) == [1200, 1002]
    assert field(parts, {"wait": None, "run": 250, "idle": 0}) == [None]
    assert "found -1.0; " in field("{add: [a], subtract: [b]}", {"a": 1, "b": 2})[0]
    total = "{add: [fresh, {column: cached, optional: true, default: 0}]}"
    assert field(total, {"fresh": 5, "cached": 2}, {"fresh": 5}, name="input_tokens") == [7, 5]


def test_a_duration_may_be_the_time_between_two_timestamps(field: Callable[..., Any]) -> None:
    between = (
        "{add: [{column: end, unit: timestamp}], subtract: [{column: start, unit: timestamp}]}"
    )
    row = {"start": "2025-03-30T00:59:59.900Z", "end": "2025-03-30T03:00:00.150+02:00"}
    assert field(between, row) == [250]


def test_members_are_found_by_dotted_path_also_where_names_hold_dots(
    field: Callable[..., Any],
) -> None:
    for row in (
        {"usage": {"in": 3}},
        {"usage.in": 3},
    ):
        assert field("usage.in", row, name="input_tokens") == [3]
    deep = {"attributes": {"gen_ai.usage.input_tokens": 3}}
    assert field("attributes.gen_ai.usage.input_tokens", deep, name="input_tokens") == [3]
    assert "no 'usage.in' among these" in field("usage.in", {"usage": {}}, name="input_tokens")[0]
    optional = "{column: usage.in, optional: true}"
    assert field(optional, {"usage": None}, {}, {"usage": 7}, name="input_tokens") == [None] * 3


def test_codes_become_outcomes_and_an_unknown_code_without_default_is_reported(
    field: Callable[..., Any],
) -> None:
    table = "{column: code, table: {null: success, 429: rate_limited, true: timeout, x: cancelled}"
    codes = [{"code": code} for code in (None, "", 429, 429.0, "429", True, "x", 500)]
    known = ["success", "success"] + ["rate_limited"] * 3 + ["timeout", "cancelled"]
    assert field(f"{table}}}", *codes, name="outcome") == [
        *known,
        "outcome: found 500; unknown code: add it to `table`, or give a `default`",
    ]
    assert field(f"{table}, default: server_error}}", *codes, name="outcome") == [
        *known,
        "server_error",
    ]


def test_an_outcome_without_table_must_be_one_of_the_contract(field: Callable[..., Any]) -> None:
    found = field("word", *({"word": word} for word in (*OUTCOMES, "ok")), name="outcome")
    assert found[:-1] == list(OUTCOMES)
    assert "found 'ok'; give a `table`" in found[-1]


def test_a_template_joins_columns_with_the_file_name_line_and_key(read: Callable[..., Any]) -> None:
    mapping = (
        SIMPLE.replace("csv", "json").replace("{constant: m}", '{template: "{@file}/{tier}"}')
        + '  request_id: {template: "{@key}-{@line}-{n}"}\n'
    )
    rows = {"k": {"at": 1, "input": 1, "tier": "pro", "n": 4}}
    rows["l"] = {"at": 1, "input": 1, "tier": None, "n": 5}
    content = json.dumps(rows)
    first, second = read(content, mapping, name="eu.json.gz")
    assert (first.event["model"], first.event["request_id"]) == ("eu/pro", "k-1-4")
    assert "model" not in second.event  # as the tier is null; the worker refuses it by name


def test_a_null_in_a_template_is_empty_for_the_lines_of_its_table(
    field: Callable[..., Any],
) -> None:
    parts = '{template: "{status}/{code}"'
    rows = [
        {"status": status, "code": code}
        for status, code in (("ok", ""), ("ok", None), ("bad", 429), ("bad", "None"), ("bad", ""))
    ]
    table = 'table: {"ok/": success, bad/429: rate_limited, bad/None: timeout}'
    known = ["success", "success", "rate_limited", "timeout"]
    assert field(f"{parts}, {table}, default: server_error}}", *rows, name="outcome") == [
        *known,
        "server_error",
    ]
    unknown = field(f"{parts}, {table}}}", *rows, name="outcome")
    assert unknown[:4] == known
    assert unknown[4].startswith("no outcome and no status_code")


def test_names_pass_as_they_are_and_a_value_that_is_no_name_is_reported(
    field: Callable[..., Any],
) -> None:
    names = ["gpt-4o", "meta/Llama 2:13b@eu", 7, "x" * 600, "naïve", "two\nlines", "auth0|1"]
    for name in ("customer_id", "model"):
        found = field("n", *({"n": value} for value in [*names, {"a": 1}, ["x"]]), name=name)
        assert found[: len(names)] == [str(value) for value in names]
        assert all("write a text or a number" in problem for problem in found[len(names) :])


def test_flags_are_read_from_words_and_digits(field: Callable[..., Any]) -> None:
    values = [True, "False", 1, "0", "TRUE"]
    assert field("f", *({"f": v} for v in values), name="stream") == [
        True,
        False,
        True,
        False,
        True,
    ]
    assert "write true or false" in field("f", {"f": "maybe"}, name="stream")[0]


def test_a_field_that_cannot_be_used_costs_the_field_and_not_the_row(
    read: Callable[..., Any],
) -> None:
    more = "  cached_input_tokens: cached\n  ttft_ms: ttft\n  duration_ms: took\n"
    found = read("at,input,cached,ttft,took\n1,x,6,,-5\n1,5,6,9.5,9\n", SIMPLE + more)
    first, second = found
    assert "input_tokens" not in first.event
    assert first.event["cached_input_tokens"] == 6
    assert first.problems == (
        "input_tokens: found 'x'; write a number, or make it null",
        "duration_ms: found '-5'; write a duration that is not below 0",
    )
    # What contradicts itself is sent as it is: the worker decides, for every producer alike.
    assert second.problems == ()
    assert (second.event["ttft_ms"], second.event["duration_ms"]) == (9.5, 9)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ("  request_id: id\n  status_code: code\n", "request_id: found "),
        ("  outcome: end\n", "outcome: found 'odd'; "),
        ("  outcome: end\n  status_code: code\n", None),
    ],
)
def test_a_row_needs_an_id_a_time_and_an_outcome_or_status(
    read: Callable[..., Any], fields: str, problem: str | None
) -> None:
    mapping = SIMPLE.replace("csv", "jsonl").split("  outcome:")[0] + fields
    (row,) = read('{"at": 1, "id": {}, "end": "odd", "code": 200}\n', mapping)
    if problem is None:
        assert row.event["status_code"] == 200
        assert row.problems[0].startswith("outcome: found 'odd'; ")
    else:
        assert row.problem.startswith(problem)


# Times --------------------------------------------------------------------------------------------


def test_text_times_are_cut_to_milliseconds_whatever_their_digits_and_zone(
    read: Callable[..., Any],
) -> None:
    text = "{column: at, kind: text, marks: end, zone: Europe/Berlin}"
    assert instants(
        read,
        text,
        "2025-01-01T00:00:00Z",
        "2025-01-01 00:00:00.0019990Z",  # seven digits
        "2025-01-01t00:00:00.123456789z",
        "2025-01-01T05:30:00+05:30",
        "2025-01-01 01:00:00",  # the zone's winter time
        "2025-07-01 02:00:00.5",  # its summer time
    ) == [BASE_MS + ms for ms in (0, 1, 123, 0, 0, 15_638_400_500)]


def test_a_local_time_that_the_clocks_skipped_is_reported(read: Callable[..., Any]) -> None:
    text = "{column: at, kind: text, marks: end, zone: Europe/Berlin}"
    mapping = re.sub(r"time: {.*}", f"time: {text}", SIMPLE)
    assert mapping != SIMPLE
    times = ["2026-03-29 01:59:59", "2026-03-29 02:30:00", "2026-03-29 03:00:00"]
    times += ["2026-10-25 02:30:00"]  # twice there: the first is meant
    before, skipped, after, twice = read(
        "at,input\n" + "".join(f"{at},1\n" for at in times), mapping
    )
    assert after.ended_at_ms - before.ended_at_ms == 1_000
    assert twice.ended_at_ms == 1_792_888_200_000
    assert skipped.problem == (
        "ended_at: found '2026-03-29 02:30:00'; does not exist in Europe/Berlin, as the "
        "clocks were set forward; write times with an offset, or in UTC"
    )


def test_a_text_time_without_zone_or_without_sense_is_reported(read: Callable[..., Any]) -> None:
    found = instants(
        read,
        "{column: at, kind: text, marks: end}",
        "2025-01-01T00:00:00",
        "2025-01-01",
        "20250101T000000Z",
        7,
        None,
    )
    assert found[0] == (
        "ended_at: found '2025-01-01T00:00:00'; has no zone; give text_time its zone (YAML: "
        "time.zone)"
    )
    assert all("write YYYY-MM-DDTHH:MM:SS with a zone" in problem for problem in found[1:])


def test_times_of_any_other_look_are_read_by_a_format(read: Callable[..., Any]) -> None:
    log = '{column: at, kind: text, marks: end, format: "%d/%b/%Y:%H:%M:%S %z"}'
    found = instants(read, log, "01/Jan/2025:01:00:00 +0100", "2025-01-01T00:00:00Z")
    assert found[0] == BASE_MS
    assert "write a time like %d/%b" in found[1]


# 2015 to 2100: seconds as a float resolve 0.5 us then.
instants_ms = st.integers(1_420_070_400_000, 4_102_444_800_000)


@settings(max_examples=15)
@given(
    st.sampled_from([("s", 1_000, 1), ("ms", 1, 1), ("us", 1, 1_000), ("ns", 1, 1_000_000)]),
    st.lists(st.tuples(instants_ms, st.booleans()), min_size=1, max_size=100),
)
def test_epoch_times_come_out_to_the_millisecond_from_any_unit(
    tmp_path_factory: pytest.TempPathFactory,
    unit: tuple[str, int, int],
    times: list[tuple[int, bool]],
) -> None:
    name, per, parts = unit
    values = [(at_ms * parts if per == 1 else at_ms / per, as_text) for at_ms, as_text in times]
    lines = [json.dumps({"at": str(at) if as_text else at}) for at, as_text in values]
    folder = tmp_path_factory.getbasetemp()
    (folder / "e.yaml").write_text(
        f"format: jsonl\ntime: {{column: at, kind: epoch, unit: {name}, marks: end}}\n"
        "fields: {model: {constant: m}, outcome: {constant: success}}\n"
    )
    (folder / "e.jsonl").write_text("\n".join(lines))
    rows = [*read_rows(folder / "e.jsonl", load_mapping(str(folder / "e.yaml")))]
    assert [row.ended_at_ms for row in rows if isinstance(row, Row)] == [one for one, _ in times]


@pytest.mark.parametrize("as_text", [False, True])
@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_a_time_in_another_unit_than_the_mapping_says_is_reported_with_the_fix(
    read: Callable[..., Any], unit: str, as_text: bool
) -> None:
    words = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
    for at, (other, word) in enumerate(words.items()):
        sent: Any = 1_795_168_800 * 1_000**at
        sent = str(sent) if as_text else sent
        kind = f"{{column: at, kind: epoch, unit: {unit}, marks: end}}"
        (found,) = instants(read, kind, sent)
        if other == unit:
            assert found == 1_795_168_800_000
        else:
            problem = f"these look like {word}: set time.unit to {other}"
            assert found == f"ended_at: found {sent!r}; {problem}"


def test_relative_times_count_from_the_base_or_from_the_one_handed_in(
    read: Callable[..., Any],
) -> None:
    relative = "{column: at, kind: relative, unit: s, base: 2025-01-01T00:00:00Z, marks: end}"
    assert instants(read, relative, 0, 1.001, "2.5") == [BASE_MS, BASE_MS + 1_001, BASE_MS + 2_500]
    assert instants(read, relative, 1, base_ms=5_000) == [6_000]
    absolute = "{column: at, kind: epoch, unit: ms, marks: end}"
    assert instants(read, absolute, 7, base_ms=5_000) == [7]


def test_a_monotonic_clock_counts_from_the_first_row_that_can_be_used(
    read: Callable[..., Any],
) -> None:
    clock = (
        "{column: at, kind: relative, origin: first, unit: s, marks: end, "
        "base: 2025-01-01T00:00:00Z}"
    )
    found = instants(read, clock, "x", 14592657.5, 14592658.75, 14592657)
    assert found[1:] == [BASE_MS, BASE_MS + 1_250, BASE_MS - 500]


def test_the_instant_counted_is_the_arrival_or_the_end_as_the_mapping_says(
    read: Callable[..., Any],
) -> None:
    #  arrival 10 s ----- took 2 s -----> end 12 s
    for marks, at in (("arrival", 10), ("end", 12)):
        for count_at, expected in (("arrival", 10), ("end", 12)):
            kind = f"{{column: at, kind: epoch, unit: s, marks: {marks}, count_at: {count_at}}}"
            assert instants(read, kind, at) == [expected * 1_000]


def test_a_row_without_duration_is_counted_at_the_instant_it_has(read: Callable[..., Any]) -> None:
    more = "  duration_ms: took\n"
    found = read("at,input,took\n10,1,5\n10,1,\n", SIMPLE + more)
    assert [row.ended_at_ms - BASE_MS for row in found] == [15, 10]


def test_rows_without_any_time_are_spaced_evenly_also_broken_ones(read: Callable[..., Any]) -> None:
    even = SIMPLE.replace("column: at", "every: 250")
    found = read("at,input\n,1\n2\n,1\n", even)
    assert [row.ended_at_ms - BASE_MS for row in found if isinstance(row, Row)] == [0, 500]


def test_a_time_outside_the_years_of_the_contract_is_reported(read: Callable[..., Any]) -> None:
    column = "{column: at, kind: epoch, unit: s, marks: end}"
    found = instants(read, column, -1, 1e15, 9e18, "1e400")
    assert all(problem.startswith("ended_at: found ") for problem in found)
