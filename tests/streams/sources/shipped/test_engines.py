"""SGLang: its request log and its metrics files; vLLM: its request log."""

import json

import pytest

from streams.sources.sql_mapping import Record, Source
from tests.support.shipped_mappings import END_MS, event, mapped, mapping_of


def test_sglang_log_and_metrics_file() -> None:
    info = {
        "id": "r1",
        "finish_reason": {"type": "stop"},
        "prompt_tokens": 100,
        "cached_tokens": 64,
        "completion_tokens": 20,
        "e2e_latency": 1.5,
        "first_token_latency": 0.2,
        "request_finished_ts": END_MS / 1_000,
    }
    request = {"stream": True, "model": "llama"}
    line = {"event": "request.finished", "obj": request, "out": {"meta_info": info}}
    flat = {**info, "request_parameters": json.dumps(request)}
    batch = mapped("sglang_requests", line, flat, {"event": "request.received", "rid": "r1"})
    assert batch.rows[0].event == batch.rows[1].event
    assert batch.rows[0].event == {
        "request_id": "r1",
        "ended_at": END_MS,
        "model": "llama",
        "outcome": "success",
        "stream": True,
        "ttft_ms": 200,
        "duration_ms": 1500,
        "input_tokens": 100,
        "cached_input_tokens": 64,
        "output_tokens": 20,
    }
    assert batch.skipped == 1
    abort = {**info, "finish_reason": {"type": "abort"}}
    assert event("sglang_requests", abort)["outcome"] == "cancelled"


@pytest.mark.parametrize(
    ("status", "outcome"),
    [(None, "cancelled"), (400, "client_error"), (499, "cancelled"), (503, "overloaded")],
)
def test_sglang_aborts_of_the_server_have_a_status(status: int | None, outcome: str) -> None:
    reason = {"type": "abort", "message": "no room", "status_code": status}
    info = {"id": "r1", "finish_reason": reason, "request_finished_ts": END_MS / 1_000}
    line = {"event": "request.finished", "rid": "r1", "out": {"meta_info": info}}
    assert event("sglang_requests", line)["outcome"] == outcome


def test_sglang_requests_of_a_batch_are_several() -> None:
    infos = [{"id": name, "request_finished_ts": END_MS / 1_000} for name in ("a", "b")]
    outputs = [{"meta_info": info} for info in infos]
    line = {"event": "request.finished", "rid": ["a", "b"], "obj": {}, "out": outputs}
    batch = mapped("sglang_requests", line)
    assert batch.failures == []
    assert [row.event["request_id"] for row in batch.rows] == ["a", "b"]


@pytest.mark.parametrize("name", ["sglang_requests", "vllm_requests"])
def test_the_model_of_a_topic_has_no_number_of_a_partition(name: str) -> None:
    lines = {
        "sglang_requests": {"id": "r", "e2e_latency": 1, "request_finished_ts": END_MS / 1_000},
        "vllm_requests": {"message": "Request r aborted."},
    }
    record = Record(7, json.dumps(lines[name]), timestamp_ms=END_MS)
    [row] = mapping_of(name).map([record], Source("qwen-3")).rows
    assert (row.event["model"], row.ended_at_ms) == ("qwen", END_MS)


PREFIX = "(APIServer pid=7) INFO 11-20 10:00:02 [logger.py:49] "
ANSWER = "output: '', output_token_ids: None, finish_reason: "


@pytest.mark.parametrize("prefix", [PREFIX, "INFO 11-20 10:00:02 [async_llm.py:382] ", ""])
@pytest.mark.parametrize(
    ("line", "outcome", "stream"),
    [
        (f"Generated response chatcmpl-1: {ANSWER}stop", "success", False),
        (f"Generated response chatcmpl-1: {ANSWER}length\n", "success", False),
        (
            f"Generated response chatcmpl-1 (streaming complete): {ANSWER}streaming_complete",
            "success",
            True,
        ),
        (f"Generated response chatcmpl-1: {ANSWER}abort", "cancelled", False),
        ("Generated response chatcmpl-1: output: '', finish_reason: length", "success", False),
        ("Request chatcmpl-1 aborted.", "cancelled", None),
        ("Request chatcmpl-1 failed (engine dead).", "server_error", None),
        ("Request chatcmpl-1 failed (bad request): too long.", "client_error", None),
        ("Request chatcmpl-1 failed due to KeyError.", "server_error", None),
    ],
)
def test_vllm_log_says_how_a_request_ended(
    prefix: str, line: str, outcome: str, stream: bool | None
) -> None:
    found = event("vllm_requests", {"log": prefix + line, "time": "2026-11-20T10:00:02Z"})
    expected = {"request_id": "chatcmpl-1", "ended_at": END_MS, "model": "log", "outcome": outcome}
    assert found == expected | ({} if stream is None else {"stream": stream})


def test_vllm_lines_that_end_no_request_are_left_out() -> None:
    said = "output: 'Request chatcmpl-2 aborted.', output_token_ids: None, finish_reason: stop"
    lines = [
        f"{PREFIX}Received request chatcmpl-1: prompt: 'Request chatcmpl-2 aborted.', params: None",
        f"{PREFIX}Added request chatcmpl-1-a8a65d16.",
        f"{PREFIX}Generated response chatcmpl-1 (streaming delta): output: 'Hi'",
        'INFO:     10.0.0.9:51408 - "POST /v1/chat/completions HTTP/1.1" 200 OK',
        f"{PREFIX}Generated response chatcmpl-1: {said}",
        f"{PREFIX}Request chatcmpl-3 was rejected due to a full waiting queue",
    ]
    at = {"@timestamp": "2026-11-20T10:00:02Z", "model": "qwen"}
    batch = mapped("vllm_requests", *({"message": line, **at} for line in lines), {"other": 1})
    assert batch.failures == []
    # What an answer says is no line of the log, and stays out of the event.
    [row] = batch.rows
    assert (row.line, row.event["request_id"], row.event["outcome"]) == (5, "chatcmpl-1", "success")
    assert "aborted" not in json.dumps(row.event)
