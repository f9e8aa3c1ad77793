"""A mapping in YAML, translated to SQL, gives the results of the evaluator that it once had."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from streams.sources.reading import load_mapping, read_rows
from streams.sources.rows import Row
from tests.support.mapped_files import BASE_MS, SIMPLE
from tests.support.paths import ROOT
from tokenpulse.cli.main import main

# Files with odd values, and what the evaluator of YAML made of them before it was removed: the
# events, the names of their fields that were left out, and only the line of a row that failed.
RECORDED = [
    json.loads(line)
    for line in (ROOT / "tests" / "golden" / "yaml-mappings.jsonl").read_text().splitlines()
]


def results(rows: list[Any]) -> list[dict[str, Any]]:
    return [
        {
            "line": row.line,
            "event": row.event,
            "left_out": sorted(problem.partition(":")[0] for problem in row.problems),
        }
        if isinstance(row, Row)
        else {"line": row.line}
        for row in rows
    ]


@pytest.mark.parametrize("number", range(len(RECORDED)))
def test_a_translated_mapping_gives_the_recorded_events_and_rejected_lines(
    read: Callable[..., Any], number: int
) -> None:
    case = RECORDED[number]
    rows = read(case["content"], case["mapping"], case["name"], base_ms=case.get("base_ms"))
    assert results(rows) == case["rows"]


def test_the_printed_sql_is_a_mapping_with_the_results_of_the_yaml(tmp_path: Path) -> None:
    case = next(case for case in RECORDED if "first" in case["mapping"])
    (tmp_path / case["name"]).write_text(case["content"])
    (tmp_path / "m.yaml").write_text(case["mapping"])
    printed = CliRunner().invoke(main, ["mapping", "sql", str(tmp_path / "m.yaml")])
    assert printed.exit_code == 0, printed.output
    (tmp_path / "m.sql").write_text(printed.stdout)
    rows = read_rows(
        tmp_path / case["name"], load_mapping(str(tmp_path / "m.sql")), case.get("base_ms")
    )
    assert results(list(rows)) == case["rows"]


def test_a_record_is_parsed_once_for_all_of_its_columns(tmp_path: Path) -> None:
    with_first = (case for case in RECORDED if '"origin": "first"' in case["mapping"])
    case = next(case for case in with_first if "every" not in case["mapping"])
    (tmp_path / "m.yaml").write_text(case["mapping"])
    sql = CliRunner().invoke(main, ["mapping", "sql", str(tmp_path / "m.yaml")]).stdout
    for root in ("r", "first"):
        # Each function of JSON parses its text, however few values it reads.
        assert len(re.findall(rf"json_extract\({root}\b", sql)) == 1
        assert not re.search(rf"\b{root}->", sql)


def test_a_mapping_that_is_no_yaml_is_not_translated(tmp_path: Path) -> None:
    (tmp_path / "m.sql").write_text("SELECT 1")
    printed = CliRunner().invoke(main, ["mapping", "sql", str(tmp_path / "m.sql")])
    assert printed.exit_code == 2
    assert "give a mapping in YAML" in printed.stderr


def test_columns_whose_names_differ_in_case_or_have_signs_of_sql_stay_apart(
    field: Callable[..., Any],
) -> None:
    total = "{add: ['it''s', \"It's\", 'a\"b', 'a\\b']}"
    row = {"it's": 1, "It's": 20, 'a"b': 300, "a\\b": 4000}
    assert field(total, row, name="input_tokens") == [4321]


def test_names_with_commas_of_a_table_without_header_are_kept(read: Callable[..., Any]) -> None:
    mapping = SIMPLE.replace("input_tokens: input", "input_tokens: 'in, all'")
    mapping += "csv: {columns: [at, 'in, all'], delimiter: ';'}\n"
    assert [row.event["input_tokens"] for row in read("1;12\n2;13\n", mapping)] == [12, 13]


ODD = ["a\nb", "a\r\nb", "a\x1cb", "a\u2028b", "a\x00b", "a\tb", 'a"b', "a, b", "[a", "\u00e9\n"]


@pytest.mark.parametrize("name", ODD)
def test_a_column_or_path_whose_name_has_any_characters_is_found(
    read: Callable[..., Any], name: str
) -> None:
    mapping = SIMPLE.replace("input_tokens: input", f"input_tokens: {json.dumps(name)}")
    quoted = name.replace('"', '""')
    # The reader of CSV removes blanks around a name.
    if name == name.strip():
        [row] = read(f'at,"{quoted}"\n1,12\n', mapping)
        assert row.event["input_tokens"] == 12
    rows = mapping.replace("format: csv", f"format: json\nrows: {json.dumps(name)}")
    [row] = read(json.dumps({name: [{"at": 1, name: 12}]}), rows, "rows.json")
    assert row.event["input_tokens"] == 12


def test_a_text_of_several_lines_stays_as_it_is(field: Callable[..., Any]) -> None:
    template = json.dumps("{a}\n  it's \\n\r\n{a}")
    assert field(f"{{template: {template}}}", {"a": "x"}, name="error") == ["x\n  it's \\n\r\nx"]


EPOCH = (
    "time: {column: at, kind: epoch, unit: s, marks: end}\n"
    "fields:\n  outcome: {constant: success}\n"
)
# Columns whose names the query might use for other values.
CLASHES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "clock": (
        "time: {column: instant, kind: relative, unit: s, origin: first, marks: arrival, "
        "count_at: end, base: 2025-01-01T00:00:00Z}\nfields:\n  outcome: {constant: success}\n"
        "  model: {constant: m}\n  duration_ms: {column: took, unit: s}\n",
        {"instant": 5, "took": 1, "first_number": 7},
        {"model": "m", "duration_ms": 1_000},
    ),
    "text": (
        f"{EPOCH}  model: {{template: '{{model}}-{{v}}'}}\n  region: {{column: text_of_model}}\n",
        {"at": 1_735_689_600, "model": "m", "v": 1, "text_of_model": "zz"},
        {"model": "m-1", "region": "zz"},
    ),
    "code": (
        f"{EPOCH}  model: {{column: a, table: {{1: one}}}}\n  channel: {{column: a_code}}\n",
        {"at": 1_735_689_600, "a": 1, "a_code": "direct"},
        {"model": "one", "channel": "direct"},
    ),
}


@pytest.mark.parametrize("name", CLASHES)
def test_a_column_may_have_any_name(read: Callable[..., Any], name: str) -> None:
    mapping, row, expected = CLASHES[name]
    [found] = read(json.dumps(row), f"format: jsonl\n{mapping}", "rows.jsonl")
    assert {field: found.event[field] for field in expected} == expected
    assert found.ended_at_ms == BASE_MS


def test_the_first_usable_row_is_the_origin_also_if_rows_before_it_fail(
    read: Callable[..., Any],
) -> None:
    mapping = SIMPLE.replace("base:", "origin: first, base:")
    found = read("at,input\nx,1\n500,1\n750,1\n", mapping)
    assert [row.ended_at_ms - found[1].ended_at_ms for row in found[1:]] == [0, 250]
    assert not isinstance(found[0], Row)
