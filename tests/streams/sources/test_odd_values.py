"""Odd values in a file: a mapped row counts as a producer's event with the same value would."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streams.events.columns import Decoded
from streams.events.decoder import OUTCOMES, EventLimits, decode
from streams.sources.files import RowError
from streams.sources.reading import load_mapping, read_rows
from streams.sources.rows import Row

ANY_TIME = EventLimits(max_event_bytes=262_144, future_tolerance_ms=2**60, horizon_ms=2**60)
AT = "2026-11-20T10:00:00Z"
AT_MS = 1_795_168_800_000
MAPPING = """
format: {format}
time: {{column: ended_at, kind: text, marks: end}}
fields:
  request_id: {{column: request_id, optional: true}}
  outcome: {{column: outcome, optional: true}}
  status_code: {{column: status_code, optional: true}}
  error: {{column: error, optional: true}}
  model: {{column: model, optional: true}}
  customer_id: {{column: customer_id, optional: true}}
  stream: {{column: stream, optional: true}}
  ttft_ms: {{column: ttft_ms, optional: true}}
  duration_ms: {{column: duration_ms, optional: true}}
  input_tokens: {{column: input_tokens, optional: true}}
  cached_input_tokens: {{column: cached_input_tokens, optional: true}}
  output_tokens: {{column: output_tokens, optional: true}}
"""
GOOD = {
    "request_id": "r",
    "ended_at": AT,
    "model": "m",
    "outcome": "success",
    "stream": True,
    "ttft_ms": 250,
    "duration_ms": 1_250,
    "input_tokens": 10,
    "cached_input_tokens": 4,
    "output_tokens": 5,
}


def judged(values: list[bytes | None]) -> Decoded:
    return decode(values, np.zeros(len(values), np.int64), None, ANY_TIME)


def outcome_in(decoded: Decoded) -> str | None:
    """Return the outcome of the only record, None if it was rejected."""
    return next((OUTCOMES[at] for at in decoded.columns.outcome), None)


def mapped(folder: Path, event: dict[str, Any], file_format: str = "jsonl") -> Row | RowError:
    (folder / "m.yaml").write_text(MAPPING.format(format=file_format))
    lines = [json.dumps(event)]
    if file_format == "csv":
        cells = ["" if value is None else str(value) for value in event.values()]
        lines = [",".join(event), ",".join(cells)]
    (folder / "rows").write_text("\n".join(lines))
    (row,) = read_rows(folder / "rows", load_mapping(str(folder / "m.yaml")))
    return row


def mapped_outcome(folder: Path, event: dict[str, Any], file_format: str = "jsonl") -> str | None:
    row = mapped(folder, event, file_format)
    if isinstance(row, RowError):
        return None
    decoded = judged([row.encode()])
    # What the mapping passes has an outcome: the worker must not have to reject it.
    assert decoded.rejections == []
    return outcome_in(decoded)


@pytest.mark.parametrize(
    "error",
    [None, "", False, 0, 0.0, {}, [], True, 1, 1.5, "x", "none", {"code": 1}, ["x"], [None]],
)
def test_an_error_is_one_unless_it_is_empty_as_in_a_direct_event(
    tmp_path: Path, error: Any
) -> None:
    event = {"request_id": "r", "ended_at": AT, "status_code": 200, "error": error}
    direct = outcome_in(judged([json.dumps(event).encode()]))
    assert mapped_outcome(tmp_path, event) == direct
    assert direct == ("stream_error" if error else "success")


@pytest.mark.parametrize("error", ["false", "False", "0", ""])
def test_an_error_of_a_table_is_none_if_its_cell_is_false_or_0(tmp_path: Path, error: str) -> None:
    event = {"ended_at": AT, "status_code": 200, "error": error}
    assert mapped_outcome(tmp_path, event, "csv") == "success"
    assert mapped_outcome(tmp_path, event | {"error": "reset"}, "csv") == "stream_error"


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        *((200, "success"), (200.0, "success"), ("200", "success"), ("503", "overloaded")),
        *((0, "cancelled"), (999, None), (700, None), (1_000, None), (1_200, None), (-1, None)),
        *((None, None), ("", None), ("None", None), ("OK", None), (True, None), ([200], None)),
        *((20.5, None), (10**30, None), (-7, None)),
    ],
)
def test_a_status_that_gives_no_outcome_makes_no_event(
    tmp_path: Path, status: Any, outcome: str | None
) -> None:
    event = {"request_id": "r", "ended_at": AT, "status_code": status}
    assert mapped_outcome(tmp_path, event) == outcome
    # With an outcome the status is not needed.
    assert mapped_outcome(tmp_path, event | {"outcome": "timeout"}) == "timeout"


def test_a_row_without_an_outcome_is_reported_with_its_line_and_the_reason(tmp_path: Path) -> None:
    problems = {
        None: "no outcome and no status_code: map a column that has one, or give it a constant",
        1_200: "status_code: found 1200; write an HTTP status, 0 to 999",
        700: "status_code: found 700, for which no outcome is known; map an outcome",
    }
    for status, problem in problems.items():
        row = mapped(tmp_path, {"ended_at": AT, "status_code": status})
        assert row == RowError(1, problem)
    row = mapped(tmp_path, {"ended_at": AT, "outcome": "Success"})
    assert isinstance(row, RowError)
    assert row.problem.startswith("outcome: found 'Success'; give a `table`")


@pytest.mark.parametrize("file_format", ["jsonl", "csv"])
@pytest.mark.parametrize("odd", [None, "", -1, "-1", "NaN", "None", "null", -5, "-0.5", "x"])
@pytest.mark.parametrize(
    "name",
    ["ttft_ms", "duration_ms", "input_tokens", "cached_input_tokens", "output_tokens", "stream"],
)
def test_a_value_that_is_none_leaves_its_field_unknown_and_the_rest_counts(
    tmp_path: Path, file_format: str, odd: Any, name: str
) -> None:
    row = mapped(tmp_path, GOOD | {name: odd}, file_format)
    assert isinstance(row, Row)
    assert row.event == {key: value for key, value in GOOD.items() if key != name} | {
        "ended_at": AT_MS
    }
    assert outcome_in(judged([row.encode()])) == "success"
    # Null, the empty text, and -1 for a number mean unknown; any other value is reported.
    means_unknown = odd in (None, "") or (name != "stream" and odd in (-1, "-1"))
    assert len(row.problems) == (0 if means_unknown else 1)


@pytest.mark.parametrize("file_format", ["jsonl", "csv"])
def test_numbers_and_flags_written_as_text_are_read(tmp_path: Path, file_format: str) -> None:
    texts = {key: str(value) for key, value in GOOD.items()}
    row = mapped(tmp_path, texts | {"input_tokens": "10.0"}, file_format)
    assert isinstance(row, Row)
    assert (row.event, row.problems) == (GOOD | {"ended_at": AT_MS}, ())


@pytest.mark.parametrize("name", [name for name in GOOD if name not in ("ended_at", "outcome")])
def test_a_column_that_a_row_lacks_costs_its_field(tmp_path: Path, name: str) -> None:
    for event in (GOOD | {name: None}, {key: GOOD[key] for key in GOOD if key != name}):
        assert mapped_outcome(tmp_path, event) == "success"


@pytest.mark.parametrize(
    ("name", "word", "outcome"),
    [
        ("ending", "complete", "success"),
        ("ending", "cut", "stream_error"),
        ("ending", "stop", None),
        ("error_class", "rate", "rate_limited"),
        ("error_class", "Rate", None),
    ],
)
def test_an_ending_or_error_class_alone_gives_an_outcome(
    tmp_path: Path, name: str, word: str, outcome: str | None
) -> None:
    (tmp_path / "m.yaml").write_text(
        "format: jsonl\ntime: {column: at, kind: epoch, unit: ms, marks: end}\n"
        f"fields: {{model: {{constant: m}}, {name}: word}}\n"
    )
    (tmp_path / "rows").write_text(json.dumps({"at": AT_MS, "word": word}))
    (row,) = read_rows(tmp_path / "rows", load_mapping(str(tmp_path / "m.yaml")))
    if outcome is None:
        assert isinstance(row, RowError)
        assert row.problem.startswith(f"{name}: found {word!r}; give a `table`")
    else:
        assert isinstance(row, Row)
        assert outcome_in(judged([row.encode()])) == outcome


def test_a_word_that_the_contract_lacks_is_reported_with_those_that_it_has(tmp_path: Path) -> None:
    mapping = MAPPING.format(format="jsonl") + "  served_from: {column: from, optional: true}\n"
    (tmp_path / "m.yaml").write_text(mapping)
    (tmp_path / "rows").write_text(json.dumps(GOOD | {"from": "Response_Cache"}))
    (row,) = read_rows(tmp_path / "rows", load_mapping(str(tmp_path / "m.yaml")))
    assert isinstance(row, Row)
    assert row.problems == (
        "served_from: found 'Response_Cache'; give a `table` that leads to one of "
        "model, response_cache",
    )


def test_names_written_as_text_that_means_nothing_are_names_unless_listed_as_nulls(
    tmp_path: Path,
) -> None:
    row = mapped(tmp_path, GOOD | {"model": "None", "customer_id": "null"})
    assert isinstance(row, Row)
    assert (row.event["model"], row.event["customer_id"]) == ("None", "null")


@pytest.mark.parametrize("file_format", ["jsonl", "json"])
@pytest.mark.parametrize(
    "odd", ["NaN", "-Infinity", "1e999", "9" * 4_400, "-" + "9" * 4_400, '"\\ud800"']
)
@pytest.mark.parametrize("name", ["input_tokens", "duration_ms", "model", "not_mapped", "error"])
def test_a_value_that_json_cannot_hold_costs_its_field_and_not_the_row(
    tmp_path: Path, file_format: str, odd: str, name: str
) -> None:
    text = json.dumps({key: value for key, value in GOOD.items() if key != name})
    text = f'{text[:-1]}, "{name}": {odd}}}'
    (tmp_path / "m.yaml").write_text(MAPPING.format(format=file_format))
    (tmp_path / "rows").write_text(text if file_format == "jsonl" else f"[{text}]")
    (row,) = read_rows(tmp_path / "rows", load_mapping(str(tmp_path / "m.yaml")))
    assert isinstance(row, Row)
    # NaN is what data frames write for null.
    is_used = name in ("input_tokens", "duration_ms", "model")
    assert len(row.problems) == (is_used and odd != "NaN")
    assert name == "error" or name not in row.event
    assert outcome_in(judged([row.encode()])) == "success"
    without_outcome = text.replace('"outcome": "success"', '"status_code": 200')
    (tmp_path / "rows").write_text(
        without_outcome if file_format == "jsonl" else f"[{without_outcome}]"
    )
    (row,) = read_rows(tmp_path / "rows", load_mapping(str(tmp_path / "m.yaml")))
    assert isinstance(row, Row)
    is_error = name == "error" and odd != "NaN"
    assert outcome_in(judged([row.encode()])) == ("stream_error" if is_error else "success")


@pytest.mark.parametrize(
    "name", ["request_id", "error", "model", "customer_id", "trace_id", "use_case"]
)
def test_half_a_surrogate_pair_costs_its_field_or_row_and_not_the_file(
    tmp_path: Path, name: str
) -> None:
    model = "" if name == "model" else "  model: {constant: m}\n"
    (tmp_path / "m.yaml").write_text(
        "format: json\ntime: {column: at, kind: epoch, unit: ms, marks: end}\nfields:\n"
        f"  status_code: {{constant: 200}}\n{model}  {name}: odd\n"
    )
    odd = [{"at": AT_MS, "odd": value} for value in ("\ud800", "a\udc00", ["\ud800"], "\U0001f600")]
    (tmp_path / "rows").write_text(json.dumps(odd))
    rows = list(read_rows(tmp_path / "rows", load_mapping(str(tmp_path / "m.yaml"))))
    for row in rows:
        if isinstance(row, Row):
            assert judged([row.encode()]).rejections == []
    assert isinstance(rows[-1], Row)
    assert rows[-1].event[name] == "\U0001f600"
    unusable = [isinstance(row, RowError) or bool(row.problems) for row in rows]
    # An error that cannot be written is an error nevertheless.
    assert unusable == [name != "error"] * 3 + [False]
    if name == "error":
        outcomes = {outcome_in(judged([row.encode()])) for row in rows if isinstance(row, Row)}
        assert outcomes == {"stream_error"}
