"""SGLang: its request log and its metrics files."""

import json

from tests.support.shipped_mappings import END_MS, event, mapped


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
