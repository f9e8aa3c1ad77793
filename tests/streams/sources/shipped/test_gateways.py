"""Envoy AI Gateway, APISIX and Kong: lines of their access logs."""

from typing import Any

import pytest

from tests.support.shipped_mappings import (
    END_MS,
    case,
    event,
    mapped,
    native,
    needs_cases,
    needs_payloads,
)


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


def test_kong_entries_may_be_a_list_and_a_failed_one_has_an_empty_ai() -> None:
    answered = kong({"ai-proxy": {"usage": {"prompt_tokens": 25}, "meta": {"request_model": "m"}}})
    other_route = {**kong({}, 503), "ai": None}
    batch = mapped("kong", [answered, kong({}, 429)], other_route, kong({}))
    assert batch.failures == []
    assert [row.event["outcome"] for row in batch.rows] == ["success", "rate_limited"]
    assert batch.skipped == 2  # a route of another service has an empty `ai`, too


@needs_payloads
def test_kong_log_of_the_documentation_is_a_hit_of_the_response_cache() -> None:
    answer = event("kong", kong(native("kong", "ai-proxy-log-ai-part.json")["ai"]))
    assert answer["served_from"] == "response_cache"
    assert "ttft_ms" not in answer
