"""Rows of recorded files: formats, broken lines, and files that cannot be read."""

import gzip
import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.sources import files
from streams.sources.files import RowError, UnreadableFile
from streams.sources.reading import load_mapping, read_rows
from streams.sources.rows import Row
from streams.sources.sql_mapping import SqlMapping
from tests.support.mapped_files import BASE_MS, SIMPLE


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
    found = read(b'at,input\n1,10\n2\nx,30\n\n4,40,4\n5,\xff\n"6"6,1\n7,70\n')
    assert [(row.line, isinstance(row, Row)) for row in found] == [
        (2, True),
        (3, False),  # a cell is missing
        (4, False),  # not a time
        (6, False),  # a cell too many; the blank line 5 is no row
        (7, False),  # not UTF-8
        (8, False),  # text after the closing quote
        (9, True),
    ]
    assert found[2].problem == "ended_at: found 'x'; write a number, or make it null"
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


def test_a_quoted_cell_may_be_as_long_as_a_long_prompt(tmp_path: Path) -> None:
    """Python's own limit of a cell is 131,072 characters."""
    path = tmp_path / "day.csv"
    path.write_text('at,input,prompt\n1767225600,10,"' + "p" * 140_000 + '"\n')
    yaml = "format: csv\ntime: {column: at, kind: epoch, unit: s, marks: end}\n"
    yaml += "fields: {model: {constant: m}, outcome: {constant: success}, input_tokens: input}\n"
    sql = (
        "-- format: csv\n"
        "SELECT line, (r->>'at')::BIGINT * 1000 AS ended_at, 'm' AS model, 'success' AS outcome, "
        "(r->>'input')::BIGINT AS input_tokens FROM records"
    )
    for name, text in (("m.yaml", yaml), ("m.sql", sql)):
        (tmp_path / name).write_text(text)
        [row] = read_rows(path, load_mapping(str(tmp_path / name)))
        assert isinstance(row, Row), row
        assert row.event["input_tokens"] == 10


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
        (b"at,other\n1,2\n", SIMPLE, "no columns named 'input'; correct the mapping"),
        (b"at,input,input\n1,2,3\n", SIMPLE, "2 columns named 'input'"),
        (b"PAR1....", SIMPLE, "give a readable, complete file"),
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


@pytest.fixture(scope="module")
def simple_mappings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, SqlMapping]:
    """The simple mapping of each form, loaded once for all examples."""
    folder, mappings = tmp_path_factory.mktemp("simple"), {}
    for form in ("csv", "jsonl"):
        path = folder / f"{form}.yaml"
        path.write_text(SIMPLE.replace("csv", form))
        mappings[form] = load_mapping(str(path))
    return mappings


@given(st.binary(max_size=300), st.sampled_from(["csv", "jsonl"]))
def test_arbitrary_bytes_never_end_reading_and_every_line_is_a_row_or_reported(
    tmp_path_factory: pytest.TempPathFactory,
    simple_mappings: dict[str, SqlMapping],
    junk: bytes,
    form: str,
) -> None:
    path = tmp_path_factory.getbasetemp() / "junk"
    head = b"at,input\n1,1\n" if form == "csv" else b'{"at": 1, "input": 1}\n'
    path.write_bytes(head + junk + b"\n")
    found = list(read_rows(path, simple_mappings[form]))
    assert isinstance(found[0], Row)
    lines = [row.line for row in found]
    assert lines == sorted(set(lines))
    first = head.count(b"\n") + 1
    if form == "jsonl":
        filled = [
            n for n, line in enumerate(junk.split(b"\n"), first) if line.strip(b" \t\r\x0b\x0c")
        ]
        assert lines[1:] == filled
