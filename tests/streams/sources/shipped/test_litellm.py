"""LiteLLM: payloads of its loggers, of streams, failures, attempts and cached answers."""

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


def test_a_litellm_payload_without_a_status_has_no_outcome() -> None:
    batch = mapped("litellm", litellm(status=None))
    assert batch.rows == []
    assert "no outcome" in batch.failures[0].problem


@pytest.mark.parametrize(
    ("count", "tokens"), [(2_048.0, 2_048), ("7", 7), (1.5, None), ("x", None)]
)
def test_a_token_count_of_litellm_that_is_no_whole_number_costs_its_field(
    count: object, tokens: int | None
) -> None:
    (row,) = mapped("litellm", litellm(prompt_tokens=count)).rows
    assert row.event.get("input_tokens") == tokens
    assert ["input_tokens" in problem for problem in row.problems] == [True] * (tokens is None)
