"""Payloads of real producers: one event for each call, equal to what the stub provider served."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from streams.intake.otlp.batch import Event, IntakeBatch
from tests.support.event_samples import judge, rows
from tests.support.otlp_payloads import PAYLOADS, envoy_request, read, read_file

OPENAI = {
    "model": "gpt-4o",
    "outcome": "success",
    "input_tokens": 2048,
    "output_tokens": 120,
    "cached_input_tokens": 1536,
}
REASONING = {"reasoning_tokens": 64}
ANTHROPIC = {
    "model": "claude-sonnet-4-5",
    "outcome": "success",
    "stream": False,
    "input_tokens": 2112,
    "output_tokens": 40,
    "cached_input_tokens": 1800,
    "cache_write_tokens": 300,
}
ESTIMATED = {"model": "gpt-4o", "outcome": "success", "input_tokens": 8, "output_tokens": 9}
GEMINI = OPENAI | {"model": "gemini-good", "reasoning_tokens": 64}
NO_USAGE = {"model": "gpt-4o", "outcome": "success"}
FAILURES: dict[str, dict[str, object]] = {
    "429": {"model": "err429", "outcome": "rate_limited", "error_class": "rate"},
    "500": {"model": "err500", "outcome": "server_error"},
    "400": {"model": "err400", "outcome": "client_error", "error_class": "invalid"},
    "slow": {"model": "slow", "outcome": "timeout"},
    "cut": {"model": "cut", "outcome": "stream_error"},
}
LEFT = {"model": "gpt-4o", "outcome": "cancelled"}
STREAM, WHOLE = {"stream": True}, {"stream": False}
FIELDS = (
    *("model", "outcome", "error_class", "stream", "estimated_tokens", "served_from"),
    *("input_tokens", "output_tokens", "cached_input_tokens", "cache_write_tokens"),
    "reasoning_tokens",
)


def facts(event: Event) -> dict[str, Any]:
    return {name: event[name] for name in FIELDS if name in event}


def batches(folder: str, ending: str) -> list[IntakeBatch]:
    paths = sorted((PAYLOADS / folder).glob(f"otlp-*.{ending}"))
    assert paths
    return [read_file(path) for path in paths]


def events(folder: str, ending: str = "pb") -> list[Event]:
    return [event for batch in batches(folder, ending) for event in batch.events]


@pytest.mark.parametrize("folder", sorted({path.parent.name for path in PAYLOADS.glob("*/*.pb")}))
def test_protobuf_and_json_of_a_request_give_the_same(folder: str) -> None:
    assert batches(folder, "pb") == batches(folder, "json")


def test_litellm_v2() -> None:
    assert [facts(event) for event in events("litellm-otel-v2")] == [
        OPENAI | WHOLE,
        OPENAI | STREAM,
        ESTIMATED | STREAM,
        ANTHROPIC | WHOLE,
        *(FAILURES[name] | WHOLE for name in ("429", "500", "400", "slow")),
        FAILURES["cut"] | STREAM,
    ]
    assert [round(event.get("ttft_ms", -1)) for event in events("litellm-otel-v2")] == [
        *(-1, 1243, 159, -1, -1, -1, -1, -1, 165),
    ]


def test_litellm_legacy_has_details_in_the_usage_object_and_shows_an_estimate() -> None:
    assert [facts(event) for event in events("litellm-otel-legacy")] == [
        OPENAI | REASONING | WHOLE,
        OPENAI | REASONING | STREAM,
        ESTIMATED | STREAM | {"estimated_tokens": True},
        ANTHROPIC | WHOLE | {"reasoning_tokens": 0},
        *(FAILURES[name] | WHOLE for name in ("429", "500", "400", "slow")),
        FAILURES["cut"] | STREAM,
        OPENAI | REASONING | WHOLE,
        {"model": "gpt-4o", "outcome": "server_error"} | WHOLE,  # ModuleNotFoundError
    ]


def test_openllmetry_counts_an_anthropic_call_once() -> None:
    [batch] = batches("openllmetry", "pb")
    assert [facts(event) for event in batch.events] == [
        OPENAI | REASONING | WHOLE,
        OPENAI | STREAM,
        NO_USAGE | STREAM,
        *(FAILURES[name] | WHOLE for name in ("429", "500", "slow")),
        # A cut stream and one that the client left look alike: neither is held against anyone.
        {"model": "cut", "outcome": "cancelled"} | STREAM,
        LEFT | STREAM,
        ANTHROPIC,
    ]
    assert [round(event["ttft_ms"]) for event in batch.events if "ttft_ms" in event] == [
        *(172, 156, 164, 160),
    ]
    assert dict(batch.skipped) == {("repeats_usage", "opentelemetry.instrumentation.anthropic"): 1}
    scope = "opentelemetry.instrumentation.openai.v1"
    assert dict(batch.notes) == {("no_finish_reason", scope): 2, ("no_usage", scope): 1}


def test_the_spans_of_the_anthropic_sdk_count_if_the_source_asks_for_them() -> None:
    batch = read_file(PAYLOADS / "openllmetry" / "otlp-0.pb", "anthropic-sdk")
    [event] = batch.events
    assert facts(event) == ANTHROPIC
    assert event["service_tier"] == "standard"
    assert {reason for reason, _ in batch.skipped} == {"other_profile"}
    assert batch.skipped.total() == 9


def test_the_spans_of_openllmetry_count_beside_those_of_the_sdk_if_the_source_names_it() -> None:
    events = read_file(PAYLOADS / "openllmetry" / "otlp-0.pb", "openllmetry").events
    [event] = [event for event in events if event["model"] == ANTHROPIC["model"]]
    assert facts(event) | {"stream": False} == ANTHROPIC


def test_openinference() -> None:
    [batch] = batches("openinference", "pb")
    assert [facts(event) for event in batch.events] == [
        OPENAI | REASONING,
        OPENAI | REASONING | STREAM,
        NO_USAGE | STREAM,
        *(FAILURES[name] for name in ("429", "500", "slow")),
        FAILURES["cut"] | STREAM,
        LEFT | STREAM,
    ]
    assert [round(event["ttft_ms"]) for event in batch.events if "ttft_ms" in event] == [
        *(164, 165, 160, 164),
    ]


def test_google_adk_counts_a_call_once_whatever_agents_and_workflows_are_around_it() -> None:
    read = events("google-adk")
    gemini = GEMINI | {"outcome": "success"}
    assert [facts(event) for event in read[:8]] == [
        gemini,
        gemini,  # a stream
        gemini | {"model": "gemini-long"},
        {"model": "gemini-err429", "outcome": "rate_limited", "error_class": "rate"},
        {"model": "gemini-err500", "outcome": "server_error"},
        {"model": "gemini-err400", "outcome": "client_error", "error_class": "invalid"},
        {"model": "gemini-err503", "outcome": "overloaded"},
        {"model": "gemini-cut", "outcome": "stream_error", "input_tokens": 2048},
    ]
    assert [event.get("ending") for event in read[:3]] == ["complete", "complete", "length"]
    # By LiteLlm: it adds the reasoning to an output that has it.
    both = GEMINI | {"model": "openai/good", "outcome": "success", "output_tokens": 120 + 64}
    failures = [FAILURES[name] for name in ("429", "500", "400", "cut")]
    assert [facts(event) for event in read[8:]] == [
        both,
        both,
        *(failure | {"model": f"openai/{failure['model']}"} for failure in failures),
    ]
    skipped = sum((batch.skipped for batch in batches("google-adk", "pb")), Counter())
    assert skipped == {("no_request", "gcp.vertex.agent"): 2 * len(read)}


def test_google_genai_counts_instead_of_the_adk_above_it_and_knows_streams() -> None:
    assert [facts(event) for event in events("google-genai")] == [
        GEMINI | {"outcome": "success"} | WHOLE,
        GEMINI | {"outcome": "success"} | STREAM,
        GEMINI | {"model": "gemini-long", "outcome": "success"} | WHOLE,
        {"model": "gemini-err429", "outcome": "rate_limited"} | WHOLE,
        {"model": "gemini-err500", "outcome": "server_error"} | WHOLE,
        {"model": "gemini-err400", "outcome": "client_error", "error_class": "invalid"} | WHOLE,
        {"model": "gemini-err503", "outcome": "overloaded"} | STREAM,
        {"model": "gemini-cut", "outcome": "stream_error", "input_tokens": 2048} | STREAM,
    ]
    assert [round(event.get("ttft_ms", -1)) for event in events("google-genai")] == [
        *(-1, 186, -1, -1, -1, -1, -1, 212),
    ]
    assert {scope for batch in batches("google-genai", "pb") for _, scope in batch.skipped} == {
        "gcp.vertex.agent"
    }


def test_vllm_has_an_event_for_each_answer_and_none_for_requests_that_did_not_finish() -> None:
    [batch] = batches("vllm", "pb")
    tokens = [(event["input_tokens"], event["output_tokens"]) for event in batch.events]
    # The last request but one had n=2. Between it and the last one came a prompt that was too long,
    # an unknown model and a client that left.
    assert tokens == [
        *((22, 4), (18, 20), (18, 40), (16, 15), (2, 10), (105, 5), (105, 5)),
        *((23, 6), (23, 6), (18, 3)),
    ]
    assert {(event["model"], event["outcome"]) for event in batch.events} == {("tiny", "success")}
    # The client saw the first tokens of its three streams after these times.
    streams = [batch.events[number]["ttft_ms"] for number in (2, 3, 9)]
    for ttft_ms, client_ms in zip(streams, (27.9, 16.1, 23.6), strict=True):
        assert client_ms - 20 <= ttft_ms <= client_ms
    assert (batch.rejected, batch.skipped) == ([], Counter())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("chat-basic", {"outcome": "success"}),
        ("chat-reasoning", {"outcome": "success"}),
        ("chat-streaming", {"outcome": "success"} | STREAM),
        (
            "chat-streaming-detailed-usage",
            {
                "model": "gpt-5-nano-2025-08-07",
                "outcome": "success",
                "input_tokens": 12,
                "output_tokens": 100,
                "cached_input_tokens": 0,
                "reasoning_tokens": 100,
            }
            | STREAM,
        ),
        (
            "chat-bad-request",
            {"model": "gpt-5-nano", "outcome": "client_error", "error_class": "invalid"},
        ),
        (
            "chat-unknown-model",
            {
                "model": "gpt-4.1-nano-wrong",
                "outcome": "client_error",
                "error_class": "not_found",
            },
        ),
    ],
)
def test_envoy_ai_gateway(name: str, expected: dict[str, object]) -> None:
    [event] = read(envoy_request(name)).events
    assert {key: event.get(key) for key in expected} == expected


def test_a_span_of_a_scope_that_no_profile_takes_is_skipped_and_its_scope_counted() -> None:
    batch = read_file(PAYLOADS / "trace.json")
    assert (batch.events, batch.rejected) == ([], [])
    assert dict(batch.skipped) == {("unknown_scope", "my.library"): 1}


def every_payload() -> list[Path]:
    return sorted(PAYLOADS.glob("*/otlp-*.*"))


def test_every_event_is_accepted_by_the_worker_as_it_is() -> None:
    recorded = [event for path in every_payload() for event in read_file(path).events]
    # Producers were recorded on different days.
    recorded.sort(key=lambda event: float(event["ended_at"]))
    records = [json.dumps(event).encode() for event in recorded]
    assert len(records) == 2 * (9 + 11 + 9 + 8 + 14 + 8 + 10)
    now_ms = 1_900_000_000_000
    decoded = judge(records, [now_ms] * len(records))
    assert not decoded.rejections
    assert [row["faults"] for row in rows(decoded)] == [[]] * len(records)


def test_ids_follow_from_the_span_so_that_a_resent_record_is_a_duplicate() -> None:
    event = events("litellm-otel-v2")[0]
    assert event["request_id"] == "b787fb0ef05708a3db29a68330aeed68/92065e403fd5ca28"
    assert event["trace_id"] == "b787fb0ef05708a3db29a68330aeed68"
    assert events("litellm-otel-v2") == events("litellm-otel-v2")
