"""Each profile on spans as its producer sends them: which count, and what they say."""

import re
from dataclasses import dataclass, field
from typing import Any

import pytest

from streams.intake.otlp.profiles import AUTO, PROFILES
from tests.support.otlp_payloads import read, request, span
from tests.support.paths import ROOT

Attributes = dict[str, object]


@dataclass
class Case:
    """A span of a producer, its neighbours that do not count, and the event that it gives."""

    profile: str
    scope: str
    name: str
    attributes: Attributes
    expected: dict[str, object]
    kind: int = 3
    status: int = 0
    duration_ms: float = 1000
    resource: Attributes = field(default_factory=dict)
    events: tuple[tuple[str, float, Attributes], ...] = ()
    neighbours: tuple[dict[str, Any], ...] = ()


CHAT: Attributes = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"}
USAGE: Attributes = {
    "gen_ai.usage.input_tokens": 2048,
    "gen_ai.usage.cache_read.input_tokens": 1536,
    "gen_ai.usage.output_tokens": 120,
}
COUNTED: Attributes = {"input_tokens": 2048, "cached_input_tokens": 1536, "output_tokens": 120}
VERCEL_USAGE: Attributes = {
    "ai.model.id": "mock-model",
    "ai.model.provider": "mock",
    "ai.response.finishReason": "stop",
    "ai.usage.inputTokens": 3,
    "ai.usage.outputTokens": 10,
    "ai.usage.totalTokens": 13,
}
ENGINE: Attributes = {
    "gen_ai.latency.time_to_first_token": 0.25,
    "gen_ai.latency.e2e": 0.9,
    "gen_ai.usage.prompt_tokens": 2048,
    "gen_ai.usage.completion_tokens": 120,
}
OPENINFERENCE: Attributes = {
    "openinference.span.kind": "LLM",
    "llm.model_name": "m",
    "llm.token_count.prompt": 2048,
    "llm.token_count.completion": 120,
    "llm.token_count.prompt_details.cache_read": 1536,
}

CASES = {
    "semconv, current names": Case(
        "semconv",
        "opentelemetry.instrumentation.openai_v2",
        "chat m",
        CHAT
        | USAGE
        | {
            "gen_ai.provider.name": "openai",
            "gen_ai.usage.cache_write.input_tokens": 30,
            "gen_ai.usage.reasoning.output_tokens": 64,
            "gen_ai.request.stream": True,
            "gen_ai.response.time_to_first_chunk": 0.157,
            "openai.response.service_tier": "priority",
        },
        COUNTED
        | {
            "model": "m",
            "channel": "openai",
            "cache_write_tokens": 30,
            "reasoning_tokens": 64,
            "stream": True,
            "ttft_ms": 157,
            "service_tier": "priority",
            "region": "eu-west-1",
        },
        resource={"cloud.region": "eu-west-1"},
        neighbours=(span("invoke_agent a", {"gen_ai.operation.name": "invoke_agent"}),),
    ),
    "semconv, previous names": Case(
        "semconv",
        "opentelemetry.instrumentation.openai_v2",
        "chat m",
        CHAT
        | {
            "gen_ai.system": "openai",
            "gen_ai.usage.prompt_tokens": 2048,
            "gen_ai.usage.completion_tokens": 120,
            "gen_ai.openai.response.service_tier": "default",
        },
        {
            "channel": "openai",
            "input_tokens": 2048,
            "output_tokens": 120,
            "stream": False,
            "service_tier": "default",
        },
    ),
    "openllmetry, previous names": Case(
        "openllmetry",
        "opentelemetry.instrumentation.openai.v1",
        "openai.chat",
        {
            "llm.request.type": "chat",
            "gen_ai.request.model": "m",
            "gen_ai.usage.prompt_tokens": 2048,
            "gen_ai.usage.completion_tokens": 120,
            "gen_ai.usage.cache_read_input_tokens": 1536,
            "llm.is_streaming": "True",
            "gen_ai.response.finish_reasons": ["stop"],
        },
        COUNTED | {"stream": True, "ttft_ms": 150, "ending": "complete"},
        events=(("gen_ai.content.completion.chunk", 150, {}),),
        neighbours=(span("openai.embeddings", {"llm.request.type": "embedding"}),),
    ),
    "strands": Case(
        "strands",
        "strands.telemetry.tracer",
        "chat",
        CHAT
        | USAGE
        | {"gen_ai.usage.prompt_tokens": 2048, "gen_ai.server.time_to_first_token": 150},
        COUNTED | {"stream": True, "ttft_ms": 150},
        kind=1,
        status=1,
        neighbours=(span("invoke_agent a", {"gen_ai.operation.name": "invoke_agent", **USAGE}),),
    ),
    "the anthropic SDK": Case(
        "anthropic-sdk",
        "com.anthropic.sdk.python",
        "anthropic.messages.create",
        CHAT
        | USAGE
        | {
            "http.response.status_code": 200,
            "gen_ai.usage.cache_write.input_tokens": 300,
            "anthropic.message.stop_reason": "max_tokens",
        },
        COUNTED
        | {"outcome": "success", "stream": False, "cache_write_tokens": 300, "ending": "length"},
        status=1,
        neighbours=(span("anthropic.messages.count_tokens", {"gen_ai.request.model": "m"}),),
    ),
    "openinference frameworks": Case(
        "openinference-frameworks",
        "openinference.instrumentation.langchain",
        "ChatOpenAI",
        OPENINFERENCE,
        COUNTED | {"model": "m"},
        kind=1,
        status=1,
        neighbours=(span("RunnableSequence", {"openinference.span.kind": "CHAIN"}, kind=1),),
    ),
    "envoy": Case(
        "envoy-ai-gateway",
        "envoyproxy/ai-gateway",
        "Message",
        OPENINFERENCE | {"llm.invocation_parameters": '{"stream": true}'},
        COUNTED | {"stream": True, "ttft_ms": 164},
        kind=1,
        status=1,
        events=(("First Token Stream Event", 164, {}),),
        neighbours=(span("CreateEmbeddings", {"openinference.span.kind": "EMBEDDING"}, kind=1),),
    ),
    "vercel up to 6": Case(
        "vercel-ai-sdk-legacy",
        "ai",
        "ai.streamText.doStream",
        VERCEL_USAGE
        | {
            "ai.response.msToFirstChunk": 500,
            "gen_ai.response.model": "mock-model",
            "ai.usage.inputTokenDetails.cacheReadTokens": 2,
            "ai.usage.outputTokenDetails.reasoningTokens": 4,
        },
        {
            "model": "mock-model",
            "channel": "mock",
            "input_tokens": 3,
            "cached_input_tokens": 2,
            "output_tokens": 10,
            "reasoning_tokens": 4,
            "ttft_ms": 500,
            "stream": True,
            "ending": "complete",
        },
        kind=1,
        neighbours=(
            span("ai.streamText", VERCEL_USAGE, kind=1),
            span("ai.toolCall", {"ai.toolCall.name": "t"}, kind=1),
        ),
    ),
    "vercel 7": Case(
        "vercel-ai-sdk",
        "gen_ai",
        "chat m",
        CHAT | USAGE | {"gen_ai.client.operation.time_to_first_chunk": 0.5},
        COUNTED | {"ttft_ms": 500, "stream": True},
        neighbours=(
            span("invoke_agent", {"gen_ai.operation.name": "invoke_agent"} | USAGE, kind=1),
            span("step 1", USAGE, kind=1),
        ),
    ),
    "vllm": Case(
        "vllm",
        "vllm.llm_engine",
        "llm_request",
        ENGINE,
        {
            "model": "llama",
            "input_tokens": 2048,
            "output_tokens": 120,
            "ttft_ms": 250,
            "duration_ms": 900,
        },
        kind=2,
        resource={"service.name": "llama"},
        neighbours=(span("model_forward", {}, kind=1),),
    ),
    "sglang": Case(
        "sglang",
        "sglang",
        "Req 5f2c",
        ENGINE | {"gen_ai.usage.cached_tokens": 1536, "gen_ai.response.model": "qwen"},
        COUNTED | {"model": "qwen", "ttft_ms": 250, "duration_ms": 900},
        kind=2,
        neighbours=(span("Tokenizer", {}, kind=1), span("decode_loop", {}, kind=1)),
    ),
    "agentgateway": Case(
        "agentgateway",
        "agentgateway",
        "POST /v1/chat/completions",
        CHAT
        | USAGE
        | {
            "http.status": 503,
            "gen_ai.usage.reasoning_tokens": 64,
            "agw.ai.time_to_first_token": 0.2,
        },
        COUNTED | {"outcome": "overloaded", "reasoning_tokens": 64, "ttft_ms": 200},
        kind=2,
        neighbours=(span("GET /healthz", {"http.status": 200}, kind=2),),
    ),
    "kong": Case(
        "kong",
        "kong-internal",
        "kong.gen_ai",
        CHAT | USAGE | {"gen_ai.response.finish_reasons": ["tool_calls"]},
        COUNTED | {"ending": "tool"},
        neighbours=(span("kong", {}, kind=2), span("kong.access.plugin.ai-proxy", {}, kind=1)),
    ),
    "openrouter": Case(
        "openrouter",
        "openrouter",
        "LLM Generation",
        {
            "gen_ai.request.model": "m",
            "gen_ai.usage.input_tokens": 2048,
            "gen_ai.usage.input_tokens.cached": 1536,
            "gen_ai.usage.input_tokens.cache_write": 30,
            "gen_ai.usage.output_tokens": 120,
            "gen_ai.usage.output_tokens.reasoning": 64,
            "gen_ai.response.finish_reason": "stop",
            "trace.metadata.openrouter.provider_slug": "azure",
            "trace.metadata.openrouter_generation.streamed": True,
        },
        COUNTED
        | {
            "cache_write_tokens": 30,
            "reasoning_tokens": 64,
            "channel": "azure",
            "stream": True,
            "ending": "complete",
        },
        neighbours=(span("provider attempt 1: azure", {}), span("generation", {})),
    ),
}


@pytest.mark.parametrize("profile", ["named", AUTO])
@pytest.mark.parametrize("name", CASES)
def test_one_event_of_a_call_with_its_fields_in_our_units(name: str, profile: str) -> None:
    case = CASES[name]
    sent = span(
        case.name,
        case.attributes,
        kind=case.kind,
        status=case.status,
        duration_ms=case.duration_ms,
        events=case.events,
    )
    body = request((case.scope, [*case.neighbours, sent]), resource=case.resource)
    batch = read(body, case.profile if profile == "named" else AUTO)
    assert batch.rejected == []
    [event] = batch.events
    assert {key: event.get(key) for key in case.expected} == case.expected
    assert batch.skipped.total() == len(case.neighbours)
    assert {scope for _, scope in batch.skipped} <= {case.scope}


def test_spans_that_repeat_usage_are_counted_by_scope() -> None:
    case = CASES["vercel 7"]
    batch = read(request((case.scope, list(case.neighbours))))
    assert batch.events == []
    assert dict(batch.skipped) == {("repeats_usage", "gen_ai"): 2}


def test_a_framework_beside_the_client_that_it_calls_repeats_its_usage() -> None:
    sent = span("x", OPENINFERENCE, kind=1, status=1)
    scopes = [f"openinference.instrumentation.{name}" for name in ("langchain", "openai")]
    batch = read(request(*((scope, [sent]) for scope in scopes)))
    assert len(batch.events) == 1
    assert dict(batch.skipped) == {("repeats_usage", scopes[0]): 1}


def test_an_id_of_openrouter_may_be_any_text() -> None:
    case = CASES["openrouter"]
    sent = span(case.name, case.attributes, traceId="order 17", spanId="1")
    [event] = read(request((case.scope, [sent]))).events
    assert (event["request_id"], event["trace_id"]) == ("order 17/1", "order 17")


def test_a_stream_of_openrouter_without_finish_reason_was_cancelled() -> None:
    case = CASES["openrouter"]
    attributes = {**case.attributes, "gen_ai.response.finish_reason": ""}
    batch = read(request((case.scope, [span(case.name, attributes)])))
    assert batch.events[0]["outcome"] == "cancelled"
    assert batch.notes["no_finish_reason", case.scope] == 1


def test_a_stream_of_the_anthropic_sdk_that_the_client_left_was_cancelled() -> None:
    case = CASES["the anthropic SDK"]
    attributes = {**case.attributes, "gen_ai.request.stream": True}
    del attributes["anthropic.message.stop_reason"]
    batch = read(request((case.scope, [span(case.name, attributes, status=0)])))
    assert batch.events[0]["outcome"] == "cancelled"
    assert batch.notes["no_finish_reason", case.scope] == 1


def test_only_anthropics_spans_of_openllmetry_repeat_those_of_the_anthropic_sdk() -> None:
    case = CASES["openllmetry, previous names"]
    ours = [span(case.name, case.attributes, kind=3, status=1)]
    scopes = [f"opentelemetry.instrumentation.{name}" for name in ("openai.v1", "anthropic")]
    sdk = CASES["the anthropic SDK"]
    other = span(sdk.name, sdk.attributes, kind=3, status=1, spanId="c" * 16)
    batch = read(request(*((scope, ours) for scope in scopes), (sdk.scope, [other])))
    assert len(batch.events) == 2
    assert dict(batch.skipped) == {("repeats_usage", scopes[1]): 1}


def test_an_answer_from_litellms_cache_did_not_come_from_the_model() -> None:
    sent = span("chat m", CHAT | USAGE | {"litellm.cache_hit": True})
    [event] = read(request(("litellm", [sent]))).events
    assert event["served_from"] == "response_cache"


def test_every_profile_has_a_case_here_or_a_recorded_payload() -> None:
    recorded = {"litellm-v2", "litellm-legacy", "openinference", "google-adk"}
    assert {case.profile for case in CASES.values()} | recorded == {
        profile.name for profile in PROFILES
    }


def test_the_page_lists_every_profile() -> None:
    page = (ROOT / "docs" / "otlp.md").read_text()
    listed = re.findall(r"^\| `([a-z0-9-]+)` \| [^|]+ \| (?:yes|no|if sent) \|", page, re.MULTILINE)
    assert sorted(listed) == sorted(profile.name for profile in PROFILES)


@pytest.mark.parametrize("name", CASES)
def test_a_named_profile_of_an_engine_or_gateway_takes_any_scope(name: str) -> None:
    case = CASES[name]
    sent = span(case.name, case.attributes, kind=case.kind, status=case.status)
    batch = read(request(("renamed", [sent])), case.profile)
    takes = case.profile in {"semconv", "vllm", "sglang", "agentgateway", "kong", "openrouter"}
    assert len(batch.events) == takes
    assert batch.skipped == ({} if takes else {("unknown_scope", "renamed"): 1})
