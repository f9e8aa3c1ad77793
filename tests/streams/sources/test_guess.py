"""What `tokenpulse try` finds out about a file: the mapping that fits, and a draft if none does."""

import json
from pathlib import Path
from typing import Any

import pytest

from streams.sources.guess import contract_events, guesses, read_sample
from streams.sources.records import read_records
from streams.sources.sql_mapping import FileOptions, Record, Source, SqlMapping
from streams.sources.starter import starter
from tests.support.traces import TRACES, needs_traces

ENVOY = {
    "start_time": "2026-11-20T10:00:00Z",
    "response_code": 200,
    "response_flags": "-",
    "duration": 2_000,
    "gen_ai.request.model": "gpt 4",
    "gen_ai.usage.input_tokens": 15,
}
EVENT = {
    "request_id": "a",
    "ended_at": 1_795_168_802_000,
    "model": "m\N{SNOWMAN}",
    "outcome": "success",
    "duration_ms": 5,
}


def lines(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_mapping_that_fits_is_found_whatever_the_file_is_called(tmp_path: Path) -> None:
    (guess,) = guesses(lines(tmp_path / "misnamed.csv", ENVOY, ENVOY))
    assert guess.name == "envoy_ai_gateway"
    assert guess.fits
    assert len(guess.rows) == 2
    absent, partly = guess.unknown()
    assert {"ttft_ms", "region", "output_tokens"} <= set(absent)
    assert partly == {}


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(ENVOY, indent=1),
        json.dumps([ENVOY, ENVOY]),
        json.dumps([ENVOY, ENVOY], indent=1),
        "".join(
            ["[2026-11-20 10:00:00.000][1][info] starting\n", *[json.dumps(ENVOY) + "\n"] * 20]
        ),
    ],
    ids=["broken lines", "list", "list with broken lines", "log with a first line of text"],
)
def test_a_sample_of_a_log_may_be_formatted_again(text: str, tmp_path: Path) -> None:
    path = tmp_path / "sample"
    path.write_text(text)
    assert [guess.name for guess in guesses(path)] == ["envoy_ai_gateway"]


def test_lines_may_be_lists_of_records(tmp_path: Path) -> None:
    entry = {
        "start_time": 1_795_168_800_000,
        "latency": 2_000,
        "response": {"status": 200},
        "llm_summary": {"model": "m", "prompt_tokens": 11, "duration": 12},
    }
    (guess,) = guesses(lines(tmp_path / "topic", [entry, entry], entry))
    assert (guess.name, len(guess.rows)) == ("apisix", 3)


def test_fields_of_some_rows_are_known_in_part(tmp_path: Path) -> None:
    other = {**ENVOY, "gen_ai.usage.input_tokens": None}
    (guess,) = guesses(lines(tmp_path / "day.jsonl", ENVOY, ENVOY, other, ENVOY))
    assert guess.unknown()[1] == {"input_tokens": 0.75}


@pytest.mark.parametrize(
    "row", [{"a": 1}, {"model": "m", "time": "2026-11-20T10:00:00Z"}, {"endTime": "never"}]
)
def test_rows_without_a_measured_number_fit_no_mapping(tmp_path: Path, row: Any) -> None:
    assert guesses(lines(tmp_path / "day.jsonl", row, row)) == []


def test_the_log_of_an_unknown_gateway_fits_no_server_whose_fields_have_the_same_names(
    tmp_path: Path,
) -> None:
    """SGLang's mapping once took it, with each failed request as a success."""
    line = {
        "id": "a",
        "timestamp": "2026-11-30T10:00:00Z",
        "model": "m",
        "status_code": 500,
        "latency_ms": 2731,
        "prompt_tokens": 308,
        "completion_tokens": 135,
    }
    assert guesses(lines(tmp_path / "gateway.jsonl", line, line)) == []


def test_many_failures_are_no_fit(tmp_path: Path) -> None:
    rows = [ENVOY, *({"start_time": "x", "gen_ai.request.model": "m"} for _ in range(3))]
    assert guesses(lines(tmp_path / "day.jsonl", *rows)) == []


def test_events_of_the_contract_need_no_mapping(tmp_path: Path) -> None:
    guess = contract_events(lines(tmp_path / "day.jsonl", EVENT, EVENT, {"ended_at": "x"}))
    assert guess is not None
    assert (guess.name, len(guess.rows)) == ("events", 2)
    assert [failure.line for failure in guess.failures] == [3]
    assert contract_events(lines(tmp_path / "other.jsonl", ENVOY)) is None


def test_the_verdicts_of_the_worker_are_counted(tmp_path: Path) -> None:
    broken = {**EVENT, "request_id": ""}
    guess = contract_events(lines(tmp_path / "day.jsonl", EVENT, broken))
    assert guess is not None
    verdicts = guess.verdicts()
    assert verdicts["model: renamed"] == 1
    assert [text.partition(":")[0] for text in verdicts if "request_id" in text] == ["rejected"]


@needs_traces
def test_every_trace_is_recognised() -> None:
    for name, pattern in (
        ("azure_llm_2023", "*.csv"),
        ("mooncake_conversation", "*.csv.gz"),
        ("vllm_overload_logs", "detail_log_*.json"),
        ("llmperf_leaderboard", "individual/*.json"),
    ):
        path = min((TRACES / name).glob(pattern))
        assert [guess.name for guess in guesses(path)] == [name]


def draft(*rows: Any) -> str:
    return starter([Record(line, json.dumps(row)) for line, row in enumerate(rows, 1)])


def test_a_draft_maps_the_columns_whose_names_are_clear(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(
        "time,request_uid,model_name,http_status,latencyMs,ttft_s,prompt_tokens,colour\n"
        "2026-11-20T10:00:02Z,a,llama,200,1200,0.3,100,red\n"
        "2026-11-20T10:00:02Z,b,llama,429,10,,100,red\n"
    )
    records = [row for row in read_records(path, FileOptions()) if isinstance(row, Record)]
    sql = starter(records)
    assert "-- not used: r->>'colour'" in sql
    guess = read_sample(path, SqlMapping(sql, "draft"))
    assert guess.failures == []
    first, second = (row.event for row in guess.rows)
    assert first == {
        "request_id": "a",
        "ended_at": 1_795_168_802_000,
        "model": "llama",
        "outcome": "success",
        "ttft_ms": 300,
        "duration_ms": 1200,
        "input_tokens": 100,
    }
    assert second["outcome"] == "rate_limited"


def test_a_draft_reaches_into_objects_and_adds_the_duration_to_a_start() -> None:
    row = {"start": 1_795_168_800, "x": {"usage": {"input_tokens": 7}}, "it's": 1, "duration_s": 2}
    sql = draft(row)
    (mapped,) = SqlMapping(sql, "draft").map([Record(1, json.dumps(row))], Source("log")).rows
    assert mapped.event["ended_at"] == 1_795_168_802_000
    assert mapped.event["input_tokens"] == 7
    assert mapped.event["duration_ms"] == 2_000


def test_a_draft_invents_no_success_for_a_record_without_a_status() -> None:
    rows = [
        {"time": 1_795_168_800, "status": status, "error": error}
        for status, error in ((200, None), (None, "read timeout"), (None, None), ("null", "-"))
    ]
    records = [Record(line, json.dumps(row)) for line, row in enumerate(rows, 1)]
    batch = SqlMapping(draft(*rows), "draft").map(records, Source("log"))
    assert [row.event["outcome"] for row in batch.rows] == ["success", "timeout"]
    assert [failure.line for failure in batch.failures] == [3, 4]


def test_a_draft_reads_a_status_in_words() -> None:
    words = ["OK", "completed", "failed", "Timeout", "rate limited", 503]
    rows = [{"time": 1_795_168_800, "state": "x", "status": word} for word in words]
    records = [Record(line, json.dumps(row)) for line, row in enumerate(rows, 1)]
    batch = SqlMapping(draft(*rows), "draft").map(records, Source("log"))
    assert [row.event["outcome"] for row in batch.rows] == [
        *("success", "success", "server_error", "timeout", "rate_limited", "overloaded"),
    ]


@pytest.mark.parametrize(
    ("column", "values", "expected_ms"),
    [
        ("latency", [1.5, 0, 2, 30], [1_500, 0, 2_000, 30_000]),
        ("latency", [1_500, 0, 12], [1_500, 0, 12]),
        ("latency_ms", [1.5, 2, 3], [1.5, 2, 3]),
        ("latency_s", [150, 200, 300], [150_000, 200_000, 300_000]),
    ],
)
def test_a_draft_takes_numbers_too_small_for_milliseconds_for_seconds(
    column: str, values: list[float], expected_ms: list[float]
) -> None:
    rows = [{"time": 1_795_168_800, column: value, "status": 200} for value in values]
    sql = draft(*rows)
    records = [Record(line, json.dumps(row)) for line, row in enumerate(rows, 1)]
    batch = SqlMapping(sql, "draft").map(records, Source("log"))
    assert [row.event["duration_ms"] for row in batch.rows] == expected_ms
    guessed = expected_ms != values and column == "latency"
    assert (f"-- in seconds, by its numbers: r->>'{column}'" in sql) is guessed


def test_a_draft_takes_texts_for_no_value_as_null() -> None:
    rows = [
        {"time": 1_795_168_800, "status": 200, "prompt_tokens": text}
        for text in ("NULL", "n/a", "-", "\\N", "7", "oops")
    ]
    records = [Record(line, json.dumps(row)) for line, row in enumerate(rows, 1)]
    batch = SqlMapping(draft(*rows), "draft").map(records, Source("log"))
    assert [row.event.get("input_tokens") for row in batch.rows] == [*[None] * 4, 7, None]
    assert [len(row.problems) for row in batch.rows] == [*[0] * 5, 1]


def test_a_draft_says_that_it_knows_no_outcome() -> None:
    note = "-- no column says how a request ended: all are successes\n"
    assert note in draft({"time": 1_795_168_800})
    assert note not in draft({"time": 1_795_168_800, "error": None})


def test_a_draft_says_that_it_knows_no_time() -> None:
    note = "-- no column has a time: select it as ended_at\n"
    assert note in draft({"model": "m"})
    assert note not in draft({"model": "m", "start": 1_795_168_800})


def test_a_draft_of_nothing_is_still_a_mapping() -> None:
    SqlMapping(draft(), "draft")
    SqlMapping(draft({}, 5, [1]), "draft")
