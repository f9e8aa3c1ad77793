"""Mapping files: checked against the contract and the manual, each error on one line."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import numpy as np
import pytest

from streams.events.decoder import EventLimits, decode
from streams.events.faults import faults_of
from streams.events.fields import FIELDS
from streams.sources.conversion import KINDS
from streams.sources.declaration import MappingError
from streams.sources.reading import load_mapping, read_rows, shipped_mappings
from tests.support.mapped_files import SIMPLE
from tests.support.paths import ROOT


def test_every_field_of_the_contract_can_be_mapped_and_no_other() -> None:
    assert set(KINDS) | {"ended_at"} == {field.name for field in FIELDS}


def test_events_from_a_mapping_are_taken_by_the_contract(read: Callable[..., Any]) -> None:
    by_kind = {"label": "x", "text": "x", "whole": 1, "duration": 1, "truth": "true"}
    by_kind |= {"status": 200, "error": "none"}
    mapped_by_simple = ("model", "outcome", "input_tokens")
    constants = {
        field.name: get_args(field.kind.type)[0]
        if get_origin(field.kind.type) is Literal
        else by_kind[KINDS[field.name]]
        for field in FIELDS
        if field.name in KINDS and field.name not in mapped_by_simple
    }
    everything = SIMPLE + "".join(
        f"  {name}: {{constant: {value}}}\n"
        for name, value in (constants | {"total_tokens": 13}).items()
    )
    rows = read("at,input\n5,12\n", everything)
    assert set(rows[0].event) == {field.name for field in FIELDS}
    rules = EventLimits(max_event_bytes=10_000, future_tolerance_ms=0, horizon_ms=0)
    values = [json.dumps(row.event).encode() for row in rows]
    times = np.array([row.ended_at_ms for row in rows], np.int64)
    decoded = decode(values, times, None, rules)
    assert decoded.rejections == []
    # No class is one of a success.
    found = [faults_of(int(bits)) for bits in decoded.columns.faults]
    assert found == [[("error_class", "inconsistent")]]


@pytest.mark.parametrize(
    ("wrong", "finding"),
    [
        ("", "found null; write keys"),
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


def blocks(manual: str) -> dict[str, str]:
    text = (ROOT / "docs" / manual).read_text()
    return dict(re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL))


def test_the_examples_of_the_manuals_do_what_the_manuals_say(
    read: Callable[..., Any], tmp_path: Path
) -> None:
    block = blocks("mappings-yaml.md")
    assert_example(block, read(block["csv"], block["yaml"], name="gateway.csv"))
    block = blocks("mappings.md")
    mapping, log = tmp_path / "gateway.sql", tmp_path / "gateway.csv"
    mapping.write_text(block["sql"])
    log.write_text(block["csv"])
    assert_example(block, list(read_rows(log, load_mapping(str(mapping)))))


def assert_example(block: dict[str, str], rows: list[Any]) -> None:
    assert [row.event for row in rows] == [json.loads(line) for line in block["json"].splitlines()]
    messages = [f"line {row.line}: {problem}" for row in rows for problem in row.problems]
    assert "\n".join(messages) == block["text"].strip()


def test_every_shipped_mapping_has_its_paragraph_or_page() -> None:
    manual = (ROOT / "docs" / "mappings.md").read_text()
    paragraphs = set(re.findall(r"^\*\*(\w+)\*\*", manual, re.MULTILINE))
    pages = {path.stem for path in (ROOT / "docs" / "sources").glob("*.md")}
    assert paragraphs | pages == set(shipped_mappings())
    assert pages == set(re.findall(r"\(sources/(\w+)\.md\)", manual))
