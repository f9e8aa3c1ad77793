"""The shipped mappings, on the real traces they are for: sums, counts and percentiles of the events
equal the answers that came with each trace."""

import json
import math
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streams.events.decoder import EventLimits, decode
from streams.sources.declaration import SHIPPED
from streams.sources.files import RowError
from streams.sources.reading import load_mapping, read_rows, shipped_mappings
from streams.sources.rows import Row
from streams.sources.sql_mapping import SqlMapping
from tests.support.traces import TRACES, needs_traces, reference

ANYTHING = EventLimits(max_event_bytes=10_000, future_tolerance_ms=0, horizon_ms=2**60)

FILES = {
    "azure_llm_2023": "AzureLLMInferenceTrace_conv.csv",
    "mooncake_conversation": "reference_cached_tokens.csv.gz",
    "claude_code_sessions": "requests_with_cached_tokens.csv.gz",
    "exgentic_agent_spans": "spans_2026-04-19_to_21.jsonl",
    "llmperf_leaderboard": "individual/*.json",
    "vllm_overload_logs": "detail_log_*.json",
}
Event = dict[str, Any]


def events_of(trace: str, path: Path, base_ms: int | None = None) -> list[Event]:
    found = []
    for row in read_rows(path, load_mapping(trace), base_ms):
        assert isinstance(row, Row), row
        assert row.event["ended_at"] == row.ended_at_ms
        found.append(row.event)
    return found


def events(trace: str, base_ms: int | None = None) -> list[Event]:
    """Every event of the trace; not one row is reported."""
    paths = sorted((TRACES / trace).glob(FILES[trace]))
    return [event for path in paths for event in events_of(trace, path, base_ms)]


def total(found: Iterable[Event], field: str) -> int:
    return sum(event.get(field, 0) for event in found)


def per_5min(found: Iterable[Event]) -> dict[str, int]:
    """Events by the start of their five minutes, in seconds."""
    return dict(Counter(str(event["ended_at"] // 300_000 * 300) for event in found))


def assert_percentiles(
    found: Iterable[Event], field: str, answer: dict[str, Any], unit_ms: float
) -> None:
    """Nearest rank over the successes, as the reference has it over the rows without error."""
    values = sorted(
        event[field] for event in found if event["outcome"] == "success" and field in event
    )
    assert len(values) == answer["n"]
    for percent in (50, 90, 95, 99):
        if values:
            value = values[math.ceil(percent * len(values) / 100) - 1]
            assert value == pytest.approx(answer[f"p{percent}_nearest_rank"] * unit_ms, rel=1e-9)


def test_every_shipped_mapping_loads_and_every_trace_with_requests_has_one() -> None:
    assert set(FILES) <= set(shipped_mappings())
    for name in shipped_mappings():
        assert load_mapping(name).about, name


@needs_traces
@pytest.mark.parametrize("trace", FILES)
def test_every_event_of_a_trace_is_taken_by_the_contract_and_has_an_id_of_its_own(
    trace: str,
) -> None:
    found = events(trace)
    values = [json.dumps(event).encode() for event in found]
    times = np.array([event["ended_at"] for event in found], np.int64)
    assert decode(values, times, None, ANYTHING).rejections == []
    assert len({event["request_id"] for event in found}) == len(found)


@needs_traces
def test_azure_counts_and_tokens_equal_the_reference_in_every_five_minutes() -> None:
    answer, found = reference("azure_llm_2023"), events("azure_llm_2023")
    assert len(found) == answer["rows"]
    assert total(found, "input_tokens") == answer["total_input_tokens"]
    assert total(found, "output_tokens") == answer["total_output_tokens"]
    assert per_5min(found) == answer["requests_per_5min_window_utc_epoch_start"]
    for start, (input_tokens, output_tokens) in answer[
        "tokens_per_5min_window_utc_epoch_start"
    ].items():
        window = [event for event in found if per_5min([event]) == {start: 1}]
        assert total(window, "input_tokens") == input_tokens
        assert total(window, "output_tokens") == output_tokens


@needs_traces
def test_mooncake_counts_tokens_and_cached_tokens_equal_the_reference_in_every_five_minutes() -> (
    None
):
    answer, found = reference("mooncake_conversation"), events("mooncake_conversation", base_ms=0)
    assert len(found) == answer["rows"]
    assert total(found, "cached_input_tokens") == answer["cached_input_tokens"]
    assert per_5min(found).keys() == answer["per_5min_window_start_s"].keys()
    for start, expected in answer["per_5min_window_start_s"].items():
        window = [event for event in found if per_5min([event]) == {start: 1}]
        assert len(window) == expected["requests"]
        for field in ("input_tokens", "cached_input_tokens", "output_tokens"):
            assert total(window, field) == expected[field]


@needs_traces
def test_claude_sessions_equal_the_reference_per_model_and_in_every_five_minutes() -> None:
    answer, found = reference("claude_code_sessions"), events("claude_code_sessions", base_ms=0)
    assert len({event["customer_id"] for event in found}) == answer["conversations"]
    assert per_5min(found) == answer["requests_per_5min_window_all_conversations_started_at_t0"]
    assert all(event["stream"] for event in found if "ttft_ms" in event)
    assert {event["model"] for event in found} == answer["by_model"].keys()
    for expected, group in [
        (answer, found),
        *((e, [x for x in found if x["model"] == m]) for m, e in answer["by_model"].items()),
    ]:
        assert len(group) == expected["rows"]
        for field in ("input_tokens", "cached_input_tokens", "output_tokens"):
            assert total(group, field) == expected[field]
        assert_percentiles(group, "ttft_ms", expected["ttft_s"], 1_000)
        assert_percentiles(group, "duration_ms", expected["api_time_s"], 1_000)


@needs_traces
def test_exgentic_counts_errors_tokens_and_durations_equal_the_reference() -> None:
    answer, found = reference("exgentic_agent_spans"), events("exgentic_agent_spans")
    windows = answer["per_5min_window_utc_epoch_start"]
    assert per_5min(found) == {start: window["requests"] for start, window in windows.items()}
    failed = [event for event in found if event["outcome"] != "success"]
    expected_errors = {
        start: window["errors"] for start, window in windows.items() if window["errors"]
    }
    assert per_5min(failed) == expected_errors
    sessions = answer["by_session"].items()
    for expected, group in [
        (answer, found),
        *((e, [x for x in found if x["model"] == m]) for m, e in answer["by_model"].items()),
        *((e, [x for x in found if x["customer_id"] == s]) for s, e in sessions),
    ]:
        assert len(group) == expected["rows"]
        assert sum(event["outcome"] != "success" for event in group) == expected["errors"]
        assert total(group, "input_tokens") == expected["input_tokens"]
        assert total(group, "output_tokens") == expected["output_tokens"]
        if "duration_ms_no_error" in expected:
            assert_percentiles(group, "duration_ms", expected["duration_ms_no_error"], 1)


@needs_traces
def test_llmperf_runs_equal_the_reference_and_errors_stay_out_of_the_percentiles() -> None:
    answer = reference("llmperf_leaderboard")
    outcomes = {"-100": "stream_error", "429": "rate_limited"}
    for run, expected in answer["runs"].items():
        path = TRACES / "llmperf_leaderboard" / "individual" / f"{run}.json"
        found = events_of("llmperf_leaderboard", path)
        assert {event["model"] for event in found} == {run}
        assert len(found) == expected["rows"]
        failed = Counter(e["outcome"] for e in found if e["outcome"] != "success")
        assert failed == {outcomes[code]: n for code, n in expected["error_codes"].items()}
        assert failed.total() / len(found) == expected["failure_share"]
        assert total(found, "input_tokens") == expected["input_tokens"]
        assert total(found, "output_tokens") == expected["output_tokens"]
        assert_percentiles(found, "ttft_ms", expected["ttft_s_no_error"], 1_000)
        assert_percentiles(found, "duration_ms", expected["end_to_end_latency_s_no_error"], 1_000)


@needs_traces
def test_vllm_logs_equal_the_reference_and_characters_are_not_taken_for_tokens() -> None:
    answer = reference("vllm_overload_logs")
    for name, expected in answer["files"].items():
        found = events_of("vllm_overload_logs", TRACES / "vllm_overload_logs" / name, base_ms=0)
        assert len(found) == expected["rows"]
        assert total(found, "input_tokens") == expected["total_input_tokens"]
        assert not any("output_tokens" in event for event in found)
        assert per_5min(found) == expected["requests_per_5min_window_by_derived_start_s"]
        assert_percentiles(found, "ttft_ms", expected["ttft_s"], 1_000)
        assert_percentiles(found, "duration_ms", expected["duration_s"], 1_000)


@needs_traces
def test_a_trace_read_with_the_wrong_mapping_is_reported_row_by_row() -> None:
    path = TRACES / "exgentic_agent_spans" / FILES["exgentic_agent_spans"]
    sql = (SHIPPED / "exgentic_agent_spans.sql").read_text()
    found = list(read_rows(path, SqlMapping(sql.replace("start_time_iso", "when"), "wrong")))
    assert len(found) == reference("exgentic_agent_spans")["rows"]
    assert all(isinstance(row, RowError) for row in found)
