"""The shipped mappings of producers: what their own payloads become, traps included."""

import functools
import json
from pathlib import Path
from typing import Any

import pytest

from streams.sources.reading import load_mapping, read_rows, shipped_mappings
from streams.sources.rows import Row
from streams.sources.sql_mapping import MappedBatch, Record, Source, SqlMapping
from tests.support.paths import ROOT
from tests.support.traces import TRACES

NATIVE = TRACES / "native"
CASES = ROOT.parent / "shared" / "cases"
needs_payloads = pytest.mark.skipif(not NATIVE.is_dir(), reason=f"needs payloads: {NATIVE}")
needs_cases = pytest.mark.skipif(not CASES.is_dir(), reason=f"needs cases: {CASES}")

END_MS = 1_795_168_802_000  # 2026-11-20T10:00:02Z


@functools.cache
def mapping_of(name: str) -> SqlMapping:
    return load_mapping(name)


def mapped(name: str, *payloads: Any) -> MappedBatch:
    mapping = mapping_of(name)
    assert isinstance(mapping, SqlMapping)
    records = [Record(line, json.dumps(payload)) for line, payload in enumerate(payloads, 1)]
    return mapping.map(records, Source("log"))


def event(name: str, payload: Any) -> dict[str, Any]:
    batch = mapped(name, payload)
    assert batch.failures == []
    (row,) = batch.rows
    assert row.problems == ()
    return row.event


def native(folder: str, file: str) -> Any:
    return json.loads((NATIVE / folder / file).read_text())


def case(pattern: str, file: str, name: str) -> list[dict[str, Any]]:
    rows = list(read_rows(next(CASES.glob(pattern)) / file, load_mapping(name)))
    events = [row.event for row in rows if isinstance(row, Row)]
    assert len(events) == len(rows)
    return events


def test_every_shipped_mapping_loads_and_has_a_line_about_itself() -> None:
    for name in shipped_mappings():
        assert mapping_of(name).about


def litellm(**changes: Any) -> dict[str, Any]:
    """A stream of 2 s with its first chunk after 0.5 s."""
    usage = {
        "prompt_tokens_details": {"cached_tokens": 1536},
        "completion_tokens_details": {"reasoning_tokens": 64},
    }
    return {
        "id": "chatcmpl-1",
        "litellm_call_id": "call-1",
        "call_type": "acompletion",
        "stream": True,
        "status": "success",
        "model": "gpt-4o",
        "startTime": END_MS / 1_000 - 2,
        "endTime": END_MS / 1_000,
        "completionStartTime": END_MS / 1_000 - 1.5,
        "prompt_tokens": 2048,
        "completion_tokens": 120,
        "metadata": {"usage_object": usage, "user_api_key_team_id": "red"},
        **changes,
    }


def failure(normalized: str | None, code: str = "", name: str = "", **changes: Any) -> Any:
    """A failure, which has its end in place of the first chunk."""
    error = {"normalized_error": normalized, "error_code": code, "error_class": name}
    at = {"completionStartTime": END_MS / 1_000}
    return litellm(status="failure", stream=None, error_information=error, **{**at, **changes})


def test_litellm_stream() -> None:
    assert event("litellm", litellm()) == {
        "request_id": "call-1",
        "ended_at": END_MS,
        "model": "gpt-4o",
        "customer_id": "red",
        "outcome": "success",
        "stream": True,
        "ttft_ms": 500,
        "duration_ms": 2000,
        "input_tokens": 2048,
        "cached_input_tokens": 1536,
        "output_tokens": 120,
        "reasoning_tokens": 64,
    }


@pytest.mark.parametrize("stream", [None, False])
def test_litellm_writes_the_end_as_the_first_chunk_without_a_stream(stream: bool | None) -> None:
    plain = event("litellm", litellm(stream=stream, completionStartTime=END_MS / 1_000))
    assert plain["stream"] is False
    assert "ttft_ms" not in plain


def test_litellm_cache_hit_has_no_times_and_tokens_of_its_own() -> None:
    hit = event("litellm", litellm(cache_hit=True))
    assert hit["served_from"] == "response_cache"
    assert not {"ttft_ms", "input_tokens", "cached_input_tokens", "output_tokens"} & hit.keys()


def test_litellm_estimates_are_marked() -> None:
    usage = {"prompt_tokens_details": None, "completion_tokens_details": {"text_tokens": 120}}
    assert event("litellm", litellm(metadata={"usage_object": usage}))["estimated_tokens"] is True


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (failure("429_RATE_LIMIT_EXCEEDED", "429"), "rate_limited"),
        (failure("429_NO_HEALTHY_DEPLOYMENTS", "429"), "overloaded"),
        (failure("400_INVALID_REQUEST", "bad"), "client_error"),
        (failure("408_UPSTREAM_TIMEOUT", "408"), "timeout"),
        (failure("503_PROVIDER_OVERLOADED", "503"), "overloaded"),
        (failure("500_PROVIDER_INTERNAL_ERROR", "500"), "server_error"),
        (failure("500_PROVIDER_CONNECTION_ERROR"), "server_error"),
        (
            failure("500_PROVIDER_CONNECTION_ERROR", completionStartTime=END_MS / 1_000 - 1),
            "stream_error",
        ),
        (failure("UNCLASSIFIED"), "server_error"),
        (failure(None, "529"), "overloaded"),
        (failure(None, "", "RateLimitError"), "rate_limited"),
    ],
)
def test_litellm_failures(error: dict[str, Any], outcome: str) -> None:
    failed = event("litellm", error)
    assert failed["outcome"] == outcome
    assert "input_tokens" not in failed


def test_litellm_attempts_of_one_call_are_no_duplicates() -> None:
    first = failure("500_PROVIDER_INTERNAL_ERROR", startTime=END_MS / 1_000 - 3)
    batch = mapped("litellm", [first, litellm()], litellm(call_type="aembedding"))
    assert len({row.event["request_id"] for row in batch.rows}) == 2
    assert batch.skipped == 1


def test_litellm_attempts_in_one_batch_are_one_request_of_the_customer() -> None:
    first = failure("429_RATE_LIMIT_EXCEEDED", "429", startTime=END_MS / 1_000 - 3)
    alone = failure("500_PROVIDER_INTERNAL_ERROR", litellm_call_id="call-2")
    # A record that was sent twice is no second attempt.
    batch = mapped("litellm", first, litellm(), litellm(), alone)
    tied = [(row.event.get("attempt_of"), row.event.get("final")) for row in batch.rows]
    assert tied == [("call-1", False), ("call-1", None), ("call-1", None), (None, None)]


@pytest.mark.parametrize(
    ("first_chunk_s", "ending"), [(0.5, "cancelled_after_first"), (2, "cancelled_before_first")]
)
def test_litellm_client_that_left_has_no_invented_tokens(first_chunk_s: float, ending: str) -> None:
    left = event(
        "litellm",
        litellm(
            error_information={"error_code": "499", "error_class": "ClientDisconnected"},
            completionStartTime=END_MS / 1_000 - 2 + first_chunk_s,
        ),
    )
    assert (left["outcome"], left["ending"]) == ("cancelled", ending)
    assert not {"input_tokens", "cached_input_tokens", "output_tokens"} & left.keys()


def test_litellm_proxy_writes_the_provider_before_the_model() -> None:
    by_proxy = event("litellm", litellm(model="openai/gpt-4o", custom_llm_provider="openai"))
    other = event("litellm", litellm(model="meta/llama", custom_llm_provider="openrouter"))
    assert (by_proxy["model"], other["model"]) == ("gpt-4o", "meta/llama")


@needs_payloads
def test_litellm_payloads_of_its_loggers() -> None:
    stream = event("litellm", native("litellm-generic-api", "success-stream-usage.json"))
    assert stream["ttft_ms"] == pytest.approx(1632.366, abs=0.01)
    assert (stream["input_tokens"], stream["cached_input_tokens"]) == (2048, 1536)
    spend = event("litellm", native("litellm-gcs-pubsub", "spend_logs_payload.json"))
    assert spend["ended_at"] == 1737710446851
    assert (spend["input_tokens"], spend["output_tokens"]) == (10, 20)


@needs_cases
def test_litellm_cases_have_the_answers_worked_out_by_hand() -> None:
    payloads = case("03*", "payloads.jsonl", "litellm")
    assert [row["ttft_ms"] for row in payloads if "ttft_ms" in row] == [200, 400, 400]
    assert sum(row.get("cached_input_tokens", 0) for row in payloads) == 4887
    assert sum(row["input_tokens"] for row in payloads) == 6849
    outcomes = [row["outcome"] for row in case("09*", "payloads.jsonl", "litellm")]
    not_counted = {"rate_limited", "client_error"}
    assert outcomes.count("success") == 1
    assert sum(outcome in not_counted for outcome in outcomes) == 3


def envoy(**changes: Any) -> dict[str, Any]:
    return {
        "start_time": "2026-11-20T10:00:00.000Z",
        "duration": 2000,
        "response_duration": 400,
        "response_code": 200,
        "response_flags": "-",
        "x-request-id": "e1",
        "gen_ai.request.model": "llama",
        "gen_ai.provider.name": "default/tars/route/aigw/rule/0/ref/0",
        "gen_ai.usage.input_tokens": 15,
        "gen_ai.usage.output_tokens": "-",
        "x-envoy-origin-path": "/v1/chat/completions",
        **changes,
    }


def test_envoy_ai_gateway_line() -> None:
    assert event("envoy_ai_gateway", envoy()) == {
        "request_id": "e1",
        "ended_at": END_MS,
        "model": "llama",
        "channel": "tars",
        "outcome": "success",
        "status_code": 200,
        "ttft_ms": 400,
        "duration_ms": 2000,
        "input_tokens": 15,
    }


@pytest.mark.parametrize(
    ("code", "flags", "outcome"),
    [
        (200, "DC", "cancelled"),
        (0, "DC", "cancelled"),
        (0, "UF", "server_error"),
        (200, "UPE", "stream_error"),
        (504, "UT", "timeout"),
        (503, "UF,URX", "overloaded"),
        (101, "-", "success"),
        (429, "RL", "rate_limited"),
    ],
)
def test_envoy_flags_decide_before_the_status(code: int, flags: str, outcome: str) -> None:
    line = envoy(response_code=code, response_flags=flags)
    assert event("envoy_ai_gateway", line)["outcome"] == outcome


def test_envoy_routes_without_a_model_are_left_out() -> None:
    other = {"gen_ai.request.model": None, "x-envoy-origin-path": "/health"}
    assert mapped("envoy_ai_gateway", envoy(**other)).skipped == 1


@needs_payloads
def test_envoy_line_of_the_gateways_documentation() -> None:
    line = event("envoy_ai_gateway", native("envoy-ai-gateway-access-log", "access-log.json"))
    assert line["ended_at"] == 1756572699420
    assert (line["model"], line["input_tokens"], line["output_tokens"]) == ("gpt-4o-mini", 15, 7)
    assert "ttft_ms" not in line


@needs_cases
def test_envoy_case_has_the_answer_worked_out_by_hand() -> None:
    lines = case("06*", "access.jsonl", "envoy_ai_gateway")
    assert sum(line.get("input_tokens", 0) for line in lines) == 3300
    outcomes = [line["outcome"] for line in lines]
    assert outcomes == [
        *("success", "cancelled", "cancelled", "stream_error", "overloaded", "success", "success")
    ]


def apisix(status: int = 200, **summary: Any) -> dict[str, Any]:
    counts = {"prompt_tokens": 11, "completion_tokens": 22, "total_tokens": 33}
    given = {"model": "m", "duration": "120", "stream": "true", **counts, **summary}
    return {
        "start_time": END_MS - 900,
        "latency": 900.0,
        "response": {"status": status},
        "llm_summary": given,
    }


def test_apisix_entries_alone_and_in_a_list() -> None:
    batch = mapped("apisix", apisix(), [apisix(), apisix()], {"start_time": END_MS})
    assert [row.event["request_id"] for row in batch.rows] == ["log-1", "log-2", "log-2.2"]
    assert batch.skipped == 1
    first = batch.rows[0].event
    assert (first["ttft_ms"], first["duration_ms"], first["ended_at"]) == (120, 900, END_MS)


def test_apisix_input_includes_the_cache_whatever_api_it_was() -> None:
    cache = {"cache_read_input_tokens": 5, "cache_creation_input_tokens": 6}
    assert event("apisix", apisix(**cache))["input_tokens"] == 11
    assert event("apisix", apisix(**cache, total_tokens=44))["input_tokens"] == 22


def test_apisix_errors_have_no_ttft_and_tokens() -> None:
    failed = event("apisix", apisix(429, prompt_tokens="0"))
    assert failed["outcome"] == "rate_limited"
    assert not {"ttft_ms", "input_tokens", "output_tokens"} & failed.keys()


@needs_payloads
def test_apisix_entry_of_its_tests() -> None:
    entry = event("apisix", native("apisix", "kafka-logger-with-llm-summary.json"))
    assert (entry["input_tokens"], entry["cached_input_tokens"]) == (11, 5)
    assert (entry["ttft_ms"], entry["reasoning_tokens"]) == (12, 7)


def kong(ai: dict[str, Any], status: int = 200) -> dict[str, Any]:
    return {
        "started_at": END_MS - 2_700,
        "latencies": {"request": 2700},
        "response": {"status": status},
        "request": {"id": "k1"},
        "ai": ai,
    }


def test_kong_enterprise_and_open_source() -> None:
    usage = {
        "prompt_tokens": 14,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens": 21,
        "time_to_first_token": 631,
    }
    meta = {"request_model": "command", "provider_name": "cohere", "request_mode": "stream"}
    assert event("kong", kong({"proxy": {"usage": usage, "meta": meta}})) == {
        "request_id": "k1",
        "ended_at": END_MS,
        "model": "command",
        "channel": "cohere",
        "outcome": "success",
        "status_code": 200,
        "stream": True,
        "ttft_ms": 631,
        "duration_ms": 2700,
        "input_tokens": 14,
        "cached_input_tokens": 4,
        "output_tokens": 21,
    }
    # 0 stands for a count that the open-source gateway does not have.
    counts = {"prompt_tokens": 25, "completion_tokens": 0}
    plain = event("kong", kong({"ai-proxy": {"usage": counts, "meta": meta}}))
    assert plain["input_tokens"] == 25
    assert "output_tokens" not in plain


@needs_payloads
def test_kong_log_of_the_documentation_is_a_hit_of_the_response_cache() -> None:
    answer = event("kong", kong(native("kong", "ai-proxy-log-ai-part.json")["ai"]))
    assert answer["served_from"] == "response_cache"
    assert "ttft_ms" not in answer


def test_bedrock_log_excludes_the_cache_and_names_models_by_arn() -> None:
    arn = "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-v1:0"
    counts = {
        "inputTokenCount": 3,
        "cacheReadInputTokenCount": 2074,
        "cacheWriteInputTokenCount": 1,
    }
    log = {
        "schemaType": "ModelInvocationLog",
        "timestamp": "2026-11-20T10:00:02Z",
        "requestId": "b1",
        "operation": "ConverseStream",
        "modelId": arn,
        "region": "us-east-1",
        "input": counts,
        "output": {"outputTokenCount": 61, "outputBodyJson": {"metrics": {"latencyMs": 249}}},
    }
    assert event("bedrock_invocations", log) == {
        "request_id": "b1",
        "ended_at": END_MS,
        "model": "us.anthropic.claude-v1:0",
        "region": "us-east-1",
        "outcome": "success",
        "stream": True,
        "duration_ms": 249,
        "input_tokens": 2078,
        "cached_input_tokens": 2074,
        "cache_write_tokens": 1,
        "output_tokens": 61,
    }
    for error, outcome in (
        ("ThrottlingException", "rate_limited"),
        ("ModelTimeoutException", "timeout"),
        ("ServiceUnavailableException", "overloaded"),
        ("ModelStreamErrorException", "stream_error"),
        ("ValidationException", "client_error"),
        ("AccessDeniedException", "client_error"),
    ):
        assert event("bedrock_invocations", {**log, "errorCode": error})["outcome"] == outcome


def test_azure_diagnostics_in_batches_of_event_hubs() -> None:
    entry = {
        "time": "2026-11-20T10:00:01.88Z",
        "category": "RequestResponse",
        "operationName": "ChatCompletions_Create",
        "location": "eastus",
        "durationMs": "120",
        "resultSignature": "200",
        "correlationId": "c1",
        "properties": '{"streamType": "Streaming", "modelName": "gpt-4o"}',
    }
    limited = {
        **entry,
        "durationMs": -1,
        "resultSignature": "429",
        "correlationId": "c2",
        "properties": {"modelDeploymentName": "d"},
    }
    batch = mapped("azure_openai_diagnostics", {"records": [entry, limited, {"category": "Audit"}]})
    first, second = (row.event for row in batch.rows)
    assert (first["ended_at"], first["duration_ms"], first["stream"]) == (END_MS, 120, True)
    assert (second["outcome"], second["model"]) == ("rate_limited", "d")
    assert "duration_ms" not in second


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


def test_cloudevents_lend_their_id_subject_and_time_to_the_event() -> None:
    envelope = {
        "specversion": "1.0",
        "id": "7",
        "source": "gateway",
        "subject": "red",
        "time": "2026-11-20T10:00:02Z",
    }
    data = {"model": "m", "status_code": 429, "usage": {"prompt_tokens": 5}}
    expected = {
        "request_id": "gateway/7",
        "ended_at": END_MS,
        "model": "m",
        "customer_id": "red",
        "outcome": "rate_limited",
        "status_code": 429,
        "input_tokens": 5,
    }
    assert event("cloudevents", {**envelope, "data": data}) == expected
    assert event("cloudevents", {**envelope, "data": json.dumps(data)}) == expected


@needs_payloads
def test_metering_events_of_openmeter_are_successes() -> None:
    for path in Path(NATIVE / "cloudevents-openmeter").glob("*.json"):
        assert event("cloudevents", json.loads(path.read_text()))["outcome"] == "success"


def langfuse(usage: dict[str, int], **changes: Any) -> dict[str, Any]:
    return {
        "id": "o1",
        "type": "GENERATION",
        "startTime": "2026-11-20T10:00:00.000Z",
        "completionStartTime": "2026-11-20T10:00:00.500Z",
        "endTime": "2026-11-20T10:00:02.000Z",
        "model": "m",
        "usageDetails": usage,
        **changes,
    }


def test_langfuse_usage_has_the_cache_beside_the_input_or_within_it() -> None:
    beside = {"input": 100, "input_cached_tokens": 50, "output": 10, "total": 160}
    within = {**beside, "total": 110}
    assert event("langfuse", langfuse(beside))["input_tokens"] == 150
    assert event("langfuse", langfuse(within))["input_tokens"] == 100
    assert event("langfuse", langfuse(within))["ttft_ms"] == 500
    failed = langfuse(within, level="ERROR", statusMessage="Error code: 429 - slow down")
    assert event("langfuse", failed)["outcome"] == "rate_limited"
    assert mapped("langfuse", langfuse(within, type="SPAN")).skipped == 1
