"""Files of other shapes become events: what is read, converted, reported and refused."""

import gzip
import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.events.decoder import EventLimits, decode
from streams.events.fields import FIELDS, OUTCOMES
from streams.sources import files
from streams.sources.conversion import KINDS
from streams.sources.mapping import (
    MappingError,
    Row,
    RowError,
    UnreadableFile,
    load_mapping,
    read_rows,
    shipped_mappings,
)
from tests.support.paths import ROOT

SIMPLE = """
format: csv
time: {column: at, kind: relative, unit: ms, base: 2025-01-01T00:00:00Z, marks: arrival}
fields:
  model: {constant: m}
  outcome: {constant: success}
  input_tokens: input
"""
BASE_MS = 1_735_689_600_000  # 2025-01-01T00:00:00Z


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Any]:
    """Rows of a file with this content, by a mapping with this text."""

    def run(
        content: str | bytes, mapping: str = SIMPLE, name: str = "day.csv", **options: Any
    ) -> list[Row | RowError]:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        (tmp_path / "m.yaml").write_text(mapping)
        return list(read_rows(path, load_mapping(str(tmp_path / "m.yaml")), **options))

    return run


@pytest.fixture
def field(read: Callable[..., Any]) -> Callable[..., Any]:
    """The values of one field, declared so, from rows of JSON objects; errors as their text."""

    def run(declaration: str, *rows: dict[str, Any], name: str = "duration_ms") -> list[Any]:
        mapping = (
            "format: jsonl\n"
            "time: {every: 1, kind: relative, unit: s, base: 2025-01-01T00:00:00Z, marks: end}\n"
            "fields:\n"
            f"  {name}: {declaration}\n"
        )
        for needed, constant in (("model", "m"), ("outcome", "success")):
            if needed != name:
                mapping += f"  {needed}: {{constant: {constant}}}\n"
        content = "".join(json.dumps(row) + "\n" for row in rows)
        return [
            row.event.get(name) if isinstance(row, Row) else row.problem
            for row in read(content, mapping)
        ]

    return run


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


# Reading ------------------------------------------------------------------------------------------


def test_a_row_becomes_an_event_with_an_id_from_file_and_line(read: Callable[..., Any]) -> None:
    assert read("at,input\n5,12\n7,13\n") == [
        Row(
            line=2,
            event={
                "request_id": "day-2",
                "ended_at": BASE_MS + 5,
                "model": "m",
                "outcome": "success",
                "input_tokens": 12,
            },
            ended_at_ms=BASE_MS + 5,
        ),
        Row(
            line=3,
            event={
                "request_id": "day-3",
                "ended_at": BASE_MS + 7,
                "model": "m",
                "outcome": "success",
                "input_tokens": 13,
            },
            ended_at_ms=BASE_MS + 7,
        ),
    ]


def test_gzip_and_a_byte_order_mark_are_seen_from_the_bytes_not_from_the_name(
    read: Callable[..., Any],
) -> None:
    plain = b"at,input\n5,12\n"
    expected = read(plain)
    assert read(gzip.compress(plain)) == expected
    assert read(plain, name="day.csv.gz") == expected
    assert read(b"\xef\xbb\xbf" + plain) == expected
    assert read(gzip.compress(b"\xef\xbb\xbf" + plain), name="day.csv.gz") == expected
    assert read(plain.replace(b"\n", b"\r\n")) == expected


def test_the_same_rows_read_the_same_from_every_format(read: Callable[..., Any]) -> None:
    rows = [{"at": 1, "input": 10}, {"at": 2, "input": 20}]
    as_json = SIMPLE.replace("format: csv", "format: json")

    def events(content: str, mapping: str) -> list[tuple[int, int]]:
        found = read(content, mapping)
        return [(row.ended_at_ms - BASE_MS, row.event["input_tokens"]) for row in found]

    expected = [(1, 10), (2, 20)]
    assert events("at;input\n1;10\n2;20", SIMPLE + "csv: {delimiter: ';'}") == expected
    assert events("1,10\n2,20\n", SIMPLE + "csv: {columns: [at, input]}") == expected
    assert events("\n".join(map(json.dumps, rows)), SIMPLE.replace("csv", "jsonl")) == expected
    assert events(json.dumps(rows), as_json) == expected
    assert events(json.dumps({"b": rows[0], "a": rows[1]}), as_json) == expected
    assert events(json.dumps({"data": {"rows": rows}}), as_json + "rows: data.rows") == expected


def test_a_broken_csv_line_is_reported_with_its_number_and_reading_goes_on(
    read: Callable[..., Any],
) -> None:
    found = read(b'at,input\n1,10\n2\n3,x\n\n4,40,4\n5,\xff\n"6"6,1\n7,70\n')
    assert [(row.line, isinstance(row, Row)) for row in found] == [
        (2, True),
        (3, False),  # a cell is missing
        (4, False),  # not a number
        (6, False),  # a cell too many; the blank line 5 is no row
        (7, False),  # not UTF-8
        (8, False),  # text after the closing quote
        (9, True),
    ]
    assert (
        found[2].problem
        == "input_tokens (column input): found 'x'; write a number, or list it under `nulls`"
    )
    assert found[4].problem.startswith("not UTF-8: ")


def test_a_broken_json_line_is_reported_with_its_number_and_reading_goes_on(
    read: Callable[..., Any],
) -> None:
    lines = [
        b'{"at": 1, "input": 10}',
        b"{",
        b"",
        b"[1]",
        b'{"at": NaN}',
        b"[" * 9_999,
        b'"\xff"',
        b'{"input": 1}',
    ]
    found = read(b"\n".join([*lines, lines[0]]), SIMPLE.replace("csv", "jsonl"))
    assert [row.line for row in found] == [1, 2, 4, 5, 6, 7, 8, 9]
    assert [isinstance(row, Row) for row in found] == [True] + [False] * 6 + [True]
    assert all("\n" not in row.problem for row in found if isinstance(row, RowError))


def test_a_quote_that_is_never_closed_costs_one_row_and_not_the_rest_of_the_file(
    read: Callable[..., Any],
) -> None:
    found = read('at,input\n1,10\n2,"20\n3,30\n4,40\n')
    assert [(row.line, isinstance(row, Row)) for row in found] == [
        (2, True),
        (3, False),
        (4, True),
        (5, True),
    ]


def test_a_quoted_cell_may_hold_line_breaks_and_the_row_has_the_number_of_its_first_line(
    read: Callable[..., Any],
) -> None:
    found = read('at,note,input\n1,"two\nlines",10\n2,x,20\n')
    assert [(row.line, row.event["input_tokens"]) for row in found] == [(2, 10), (4, 20)]


def test_a_line_too_long_to_hold_is_reported_and_the_next_one_read(
    read: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MAX_LINE_BYTES", 64)
    found = read("at,input\n1,10\n" + "9" * 200 + ",1\n2,20\n")
    assert [(row.line, isinstance(row, Row)) for row in found] == [(2, True), (3, False), (4, True)]


def test_rows_under_a_repeated_key_are_all_read(read: Callable[..., Any]) -> None:
    content = '{"a": {"at": 1, "input": 10}, "a": {"at": 2, "input": 20}, "b": 7}'
    found = read(content, SIMPLE.replace("csv", "json"))
    assert [row.event["input_tokens"] for row in found[:2]] == [10, 20]
    assert found[2] == RowError(
        3, "found the value 7, not an object; name the place of the rows in `rows`"
    )


@pytest.mark.parametrize(
    ("content", "mapping", "finding"),
    [
        (b"", SIMPLE, "is empty"),
        (b"at,other\n1,2\n", SIMPLE, "no columns named 'input' for fields.input_tokens"),
        (b"at,input,input\n1,2,3\n", SIMPLE, "2 columns named 'input'"),
        (b"PAR1....", SIMPLE, "is a Parquet file"),
        (b"\xff\xfea\x00", SIMPLE, "is UTF-16"),
        (gzip.compress(random.Random(1).randbytes(9_000))[:5_000], SIMPLE, "end-of-stream"),
        (b"\x1f\x8bnot gzip", SIMPLE, "nknown compression method"),
        (b"{", SIMPLE.replace("csv", "json"), "not a JSON document"),
        (b"[" * 99_999, SIMPLE.replace("csv", "json"), "not a JSON document"),
        (b"7", SIMPLE.replace("csv", "json"), "found the value 7 where the rows should be"),
        (
            b'{"a": 1}',
            SIMPLE.replace("csv", "json") + "rows: b",
            "'b' is not among a; correct `rows`",
        ),
    ],
)
def test_a_file_without_any_use_is_refused_in_one_line_that_names_it(
    read: Callable[..., Any], content: bytes, mapping: str, finding: str
) -> None:
    with pytest.raises(UnreadableFile) as rejection:
        read(content, mapping)
    message = str(rejection.value)
    assert "day.csv: " in message
    assert finding in message
    assert "\n" not in message


def test_an_absent_file_and_a_directory_are_refused_in_one_line(tmp_path: Path) -> None:
    mapping = load_mapping("azure_llm_2023")
    for path, reason in ((tmp_path / "none", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(UnreadableFile, match=f"^{re.escape(str(path))}: {reason}.*; give a"):
            list(read_rows(path, mapping))


@given(st.binary(max_size=300), st.sampled_from(["csv", "jsonl"]))
def test_arbitrary_bytes_never_end_reading_and_every_line_is_a_row_or_reported(
    tmp_path_factory: pytest.TempPathFactory, junk: bytes, form: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "junk"
    head = b"at,input\n1,1\n" if form == "csv" else b'{"at": 1, "input": 1}\n'
    path.write_bytes(head + junk + b"\n")
    mapping_path = tmp_path_factory.getbasetemp() / f"{form}.yaml"
    mapping_path.write_text(SIMPLE.replace("csv", form))
    found = list(read_rows(path, load_mapping(str(mapping_path))))
    assert isinstance(found[0], Row)
    lines = [row.line for row in found]
    assert lines == sorted(set(lines))
    first = head.count(b"\n") + 1
    if form == "jsonl":
        filled = [
            n for n, line in enumerate(junk.split(b"\n"), first) if line.strip(b" \t\r\x0b\x0c")
        ]
        assert lines[1:] == filled


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
        -1,
        "-0.5",
    ):
        (problem,) = field("d", {"d": value})
        assert problem.startswith("duration_ms (column d): found ")
    found = field(
        "n", {"n": "12.0"}, {"n": 12.0}, {"n": " 12 "}, {"n": 12.5}, {"n": -3}, name="input_tokens"
    )
    assert found[:3] == [12, 12, 12]
    assert [problem.split("; ")[1] for problem in found[3:]] == [
        "write a whole number",
        "write a number that is not below 0",
    ]


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
        "outcome (column code): found 500; unknown code: add it to `table`, or give a `default`",
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


def test_names_are_labels_of_the_contract_or_reported(field: Callable[..., Any]) -> None:
    good = ["gpt-4o", "meta/Llama 2:13b@eu", 7, "x" * 96]
    bad = ["x" * 97, "naïve", "two\nlines", "tail\n", {"a": 1}, ["x"]]
    found = field("n", *({"n": name} for name in [*good, *bad]), name="customer_id")
    assert found[:4] == [str(name) for name in good]
    assert all("use 1-96 of" in problem for problem in found[4:])


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


def test_more_cached_than_input_tokens_is_reported_and_so_is_ttft_beyond_the_end(
    read: Callable[..., Any],
) -> None:
    more = "  cached_input_tokens: cached\n  ttft_ms: ttft\n  duration_ms: took\n"
    found = read(
        "at,input,cached,ttft,took\n1,5,5,9,9\n1,5,6,,\n1,5,5,9.5,9\n1,5,5,9,\n", SIMPLE + more
    )
    assert [isinstance(row, Row) for row in found] == [True, False, False, True]
    assert found[1].problem.startswith("cached_input_tokens: found 6, more than input_tokens 5; ")
    assert found[2].problem.startswith("ttft_ms: found 9.5, more than duration_ms 9.0; ")


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
    assert found[0] == "time (column at): found '2025-01-01T00:00:00'; says no zone; set time.zone"
    assert all("write YYYY-MM-DDTHH:MM:SS with a zone" in problem for problem in found[1:])


def test_times_of_any_other_look_are_read_by_a_format(read: Callable[..., Any]) -> None:
    log = '{column: at, kind: text, marks: end, format: "%d/%b/%Y:%H:%M:%S %z"}'
    found = instants(read, log, "01/Jan/2025:01:00:00 +0100", "2025-01-01T00:00:00Z")
    assert found[0] == BASE_MS
    assert "write a time like %d/%b" in found[1]


@given(
    st.integers(0, 4_102_444_800_000),  # to 2100: seconds as a float resolve 0.5 us then
    st.sampled_from([("s", 1_000, 1), ("ms", 1, 1), ("us", 1, 1_000), ("ns", 1, 1_000_000)]),
    st.booleans(),
)
def test_epoch_times_come_out_to_the_millisecond_from_any_unit(
    tmp_path_factory: pytest.TempPathFactory,
    ended_at_ms: int,
    unit: tuple[str, int, int],
    as_text: bool,
) -> None:
    name, per, parts = unit
    value: Any = ended_at_ms * parts if per == 1 else ended_at_ms / per
    folder = tmp_path_factory.getbasetemp()
    (folder / "e.yaml").write_text(
        f"format: jsonl\ntime: {{column: at, kind: epoch, unit: {name}, marks: end}}\n"
        "fields: {model: {constant: m}, outcome: {constant: success}}\n"
    )
    (folder / "e.jsonl").write_text(json.dumps({"at": str(value) if as_text else value}))
    (row,) = read_rows(folder / "e.jsonl", load_mapping(str(folder / "e.yaml")))
    assert isinstance(row, Row)
    assert row.ended_at_ms == ended_at_ms


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


def test_rows_without_any_time_are_spaced_evenly_broken_ones_included(
    read: Callable[..., Any],
) -> None:
    even = SIMPLE.replace("column: at", "every: 250")
    found = read("at,input\n,1\n,x\n,1\n", even)
    assert [row.ended_at_ms - BASE_MS for row in found if isinstance(row, Row)] == [0, 500]


def test_a_time_outside_the_years_of_the_contract_is_reported(read: Callable[..., Any]) -> None:
    found = instants(
        read, "{column: at, kind: epoch, unit: s, marks: end}", -1, 1e15, 9e18, "1e400"
    )
    assert all(problem.startswith("time") for problem in found)


# The mapping --------------------------------------------------------------------------------------


def test_every_field_of_the_contract_can_be_mapped_and_no_other() -> None:
    assert set(KINDS) | {"ended_at"} == {field.name for field in FIELDS}


def test_events_from_a_mapping_are_taken_by_the_contract(read: Callable[..., Any]) -> None:
    everything = SIMPLE + "".join(
        f"  {name}: {{constant: {value}}}\n"
        for name, value in {
            **dict.fromkeys(("region", "channel", "service_tier", "customer_id", "use_case"), "x"),
            **dict.fromkeys(("ttft_ms", "duration_ms", "cached_input_tokens", "output_tokens"), 1),
            **dict.fromkeys(("cache_write_tokens", "reasoning_tokens"), 1),
            **dict.fromkeys(("stream", "probe"), "false"),
            "status_code": 200,
            "error": "none",
            "trace_id": "t",
            "request_id": "r",
        }.items()
    )
    rows = read("at,input\n5,12\n", everything)
    assert set(rows[0].event) == {field.name for field in FIELDS}
    rules = EventLimits(max_event_bytes=10_000, future_tolerance_ms=0, horizon_ms=0)
    values = [json.dumps(row.event).encode() for row in rows]
    times = np.array([row.ended_at_ms for row in rows], np.int64)
    assert decode(values, times, None, rules).rejections == []


@pytest.mark.parametrize(
    ("wrong", "finding"),
    [
        ("", "found None; write keys"),
        ("format: [", "not YAML: "),
        ("format: csv\nformat: csv", "the key format is given twice"),
        (
            SIMPLE.replace("csv", "xml"),
            "format: got 'xml'; it should be 'csv', 'jsonl' or 'json'",
        ),
        (SIMPLE + "speed: 3", "speed: got 3; no such key"),
        (SIMPLE.replace("marks: arrival", "zone: UTC"), "time.marks: got"),
        (
            SIMPLE.replace("unit: ms", "unit: h"),
            "time.unit: got 'h'; it should be 's', 'ms', 'us' or 'ns'",
        ),
        (SIMPLE.replace("unit: ms, ", ""), "`unit` (s, ms, us, ns) belongs to"),
        (
            SIMPLE.replace("base: 2025-01-01T00:00:00Z, ", ""),
            "`base`, an RFC 3339 time, belongs to",
        ),
        (SIMPLE.replace("00Z", "00"), "time.base: got "),
        (SIMPLE.replace("column: at", "every: 0"), "time.every: got 0; "),
        (SIMPLE.replace("column: at, ", ""), "give `column`, or `every`"),
        (
            SIMPLE.replace("marks: arrival", "marks: end, count_at: arrival"),
            "time.count_at: arrival cannot",
        ),
        (
            SIMPLE.replace("relative, unit: ms, base: 2025-01-01T00:00:00Z", "text, zone: Mars"),
            "IANA name",
        ),
        (SIMPLE.replace("  model: {constant: m}\n", ""), "fields: no model; "),
        (
            SIMPLE.replace("  outcome: {constant: success}\n", ""),
            "fields: neither outcome nor status_code",
        ),
        (
            SIMPLE.replace("constant: success", "constant: ok"),
            "fields.outcome.constant: found 'ok'; ",
        ),
        (SIMPLE.replace("constant: m", "constant: ö"), "fields.model.constant: found 'ö'; "),
        (
            SIMPLE.replace("constant: m", "constant: m, column: n"),
            "exactly one of column, constant, ",
        ),
        (
            SIMPLE.replace("constant: m", "column: m, units: s"),
            "fields.model.units: got 's'; no such key",
        ),
        (
            SIMPLE.replace("constant: m", "column: m, unit: s"),
            "fields.model.unit: model is no duration",
        ),
        (SIMPLE.replace("constant: m", "add: [a, b]"), "fields.model.add: model is no number"),
        (
            SIMPLE.replace("constant: m", 'template: "{@name}"'),
            "found @name; use @file, @line, @key",
        ),
        (SIMPLE.replace("constant: m", "column: m, when: {column: x}"), "give `is` or `is_not`"),
        (SIMPLE + "  ttft: x\n", "fields.ttft: no such field; use request_id, model, "),
        (SIMPLE + "  stream: {column: t, table: {s: 7}}\n", "fields.stream.table.s: found 7; "),
        (
            SIMPLE + "  stream: {column: t, table: {true: true, 'true': false}}\n",
            "a code is given twice",
        ),
        (SIMPLE + "  ttft_ms: {column: t, default: x}\n", "fields.ttft_ms.default: found 'x'; "),
        (
            SIMPLE + "  ttft_ms: {add: [{column: t, default: x}]}\n",
            "fields.ttft_ms.add.default: found 'x'",
        ),
        (SIMPLE + "  ttft_ms: {add: [{unit: s}]}\n", "a term without column"),
        (SIMPLE + "  ttft_ms: {column: t, subtract: [u]}\n", "`subtract` needs an `add`"),
        (SIMPLE + "  ttft_ms: {constant: 1, unit: s}\n", "fields.ttft_ms.unit: belongs to"),
        (SIMPLE + "rows: data\n", "rows: found with another format"),
        (SIMPLE.replace("csv", "json") + "csv: {delimiter: ;}\n", "csv: found with another format"),
    ],
)
def test_a_bad_mapping_yields_one_line_with_file_key_finding_and_cure(
    tmp_path: Path, wrong: str, finding: str
) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(wrong)
    with pytest.raises(MappingError) as rejection:
        load_mapping(str(path))
    message = str(rejection.value)
    assert message.startswith(f"{path}: ")
    assert finding in message
    assert "\n" not in message


def test_an_unknown_name_is_answered_with_the_shipped_ones() -> None:
    with pytest.raises(
        MappingError, match=f"^azure: .*shipped mapping: {', '.join(shipped_mappings())}$"
    ):
        load_mapping("azure")


def test_the_example_of_the_manual_does_what_the_manual_says(read: Callable[..., Any]) -> None:
    manual = (ROOT / "docs" / "mappings.md").read_text()
    block = dict(re.findall(r"```(\w+)\n(.*?)```", manual, re.DOTALL))
    *rows, refused = read(block["csv"], block["yaml"], name="gateway.csv")
    assert [row.event for row in rows] == [json.loads(line) for line in block["json"].splitlines()]
    assert f"line {refused.line}: {refused.problem}" == block["text"].strip()


def test_every_shipped_mapping_has_its_paragraph_in_the_manual() -> None:
    manual = (ROOT / "docs" / "mappings.md").read_text()
    assert sorted(re.findall(r"^\*\*(\w+)\*\*", manual, re.MULTILINE)) == shipped_mappings()
