"""The profiles, one a producer: scopes, names, attributes and units as measured or published.

Pure: plain data. Attributes that hold prompts or answers are in no profile, so they are never read.
"""

from dataclasses import replace

from streams.errors import ConfigError
from streams.intake.otlp.profile import (
    ANY,
    INFERENCE,
    INSIDE,
    OF_CALLERS,
    OF_CLIENTS,
    OF_SERVERS,
    Cut,
    Fields,
    SpanProfile,
    Ttft,
)
from streams.intake.otlp.scopes import (
    ANTHROPIC_SDK,
    OPENINFERENCE_SCOPES,
    OPENLLMETRY_SCOPES,
    SEMCONV_SCOPES,
)
from streams.intake.otlp.spans import FIRST_CHUNK_EVENT, FIRST_TOKEN_EVENT

SECOND_MS = 1000.0
AUTO = "auto"

_USAGE = "gen_ai.usage."
# Current names of the semantic conventions first, then those before them.
_GEN_AI: Fields = {
    "model": ("gen_ai.response.model", "gen_ai.request.model"),
    "channel": ("gen_ai.provider.name", "gen_ai.system"),
    "region": ("server.address",),
    "service_tier": (
        "openai.response.service_tier",
        "gen_ai.openai.response.service_tier",
        "anthropic.response.service_tier",
    ),
    "input_tokens": (_USAGE + "input_tokens", _USAGE + "prompt_tokens", "llm.usage.prompt_tokens"),
    "cached_input_tokens": (
        _USAGE + "cache_read.input_tokens",
        _USAGE + "cache_read_input_tokens",
        _USAGE + "input_tokens.cached",
        _USAGE + "cached_tokens",
        _USAGE + "cached_input_tokens",
    ),
    "cache_write_tokens": (
        _USAGE + "cache_write.input_tokens",
        _USAGE + "cache_creation.input_tokens",
        _USAGE + "cache_creation_input_tokens",
        _USAGE + "cache_write_input_tokens",
        _USAGE + "cache_write_tokens",
        _USAGE + "input_tokens.cache_write",
        _USAGE + "input_tokens.cache_creation",
    ),
    "output_tokens": (
        _USAGE + "output_tokens",
        _USAGE + "completion_tokens",
        "llm.usage.completion_tokens",
    ),
    "reasoning_tokens": (
        _USAGE + "reasoning.output_tokens",
        _USAGE + "reasoning_tokens",
        _USAGE + "output_tokens.reasoning",
    ),
    "total_tokens": (_USAGE + "total_tokens", "llm.usage.total_tokens"),
    "stream": ("gen_ai.request.stream", "gen_ai.is_streaming", "llm.is_streaming"),
    "finish": (
        "gen_ai.response.finish_reasons",
        "gen_ai.response.finish_reason",
        "anthropic.message.stop_reason",
    ),
    "status_code": ("http.response.status_code", "http.status_code"),
    "error_type": ("error.type", "exception.type"),
}
_LITELLM: Fields = {
    **_GEN_AI,
    # The provider's code is a status only if it has three digits; it may be a word such as `bad`.
    "stream": ("litellm.request.streaming", "llm.is_streaming"),
    "status_code": (
        "http.response.status_code",
        "litellm.provider.error.code",
        "error.code",
    ),
    "from_cache": ("litellm.cache_hit",),
}
_OPENINFERENCE: Fields = {
    "model": ("llm.model_name",),
    "channel": ("llm.provider", "llm.system"),
    "input_tokens": ("llm.token_count.prompt",),
    "cached_input_tokens": ("llm.token_count.prompt_details.cache_read",),
    "cache_write_tokens": ("llm.token_count.prompt_details.cache_write",),
    "output_tokens": ("llm.token_count.completion",),
    "reasoning_tokens": ("llm.token_count.completion_details.reasoning",),
    "total_tokens": ("llm.token_count.total",),
    "finish": ("llm.finish_reason",),
    "status_code": ("http.response.status_code", "http.status_code"),
    "error_type": ("error.type", "exception.type"),
}
_VERCEL: Fields = {
    **_GEN_AI,
    "model": (*_GEN_AI["model"], "ai.response.model", "ai.model.id"),
    "channel": ("gen_ai.provider.name", "gen_ai.system", "ai.model.provider"),
    "input_tokens": ("ai.usage.inputTokens", "ai.usage.promptTokens", *_GEN_AI["input_tokens"]),
    "cached_input_tokens": (
        "ai.usage.inputTokenDetails.cacheReadTokens",
        "ai.usage.cachedInputTokens",
    ),
    "cache_write_tokens": ("ai.usage.inputTokenDetails.cacheWriteTokens",),
    "output_tokens": (
        "ai.usage.outputTokens",
        "ai.usage.completionTokens",
        *_GEN_AI["output_tokens"],
    ),
    "reasoning_tokens": (
        "ai.usage.outputTokenDetails.reasoningTokens",
        "ai.usage.reasoningTokens",
    ),
    "total_tokens": ("ai.usage.totalTokens",),
    "finish": (*_GEN_AI["finish"], "ai.response.finishReason"),
}

# Seconds from the start of the span, whether or not a client or an engine measured them.
_FIRST_CHUNK = Ttft("gen_ai.response.time_to_first_chunk", SECOND_MS)
_FIRST_CHUNK_OF_OPERATION = Ttft("gen_ai.client.operation.time_to_first_chunk", SECOND_MS)
_ENGINE_TTFT = Ttft("gen_ai.latency.time_to_first_token", SECOND_MS)
_ENGINE_DURATION = Ttft("gen_ai.latency.e2e", SECOND_MS)
_REGION: Fields = {"region": ("cloud.region",)}
OPERATION = "gen_ai.operation.name"
_OPERATION = {OPERATION: INFERENCE}
_LLM_SPAN = {"openinference.span.kind": frozenset({"LLM"})}
_LEGACY_CALLS = frozenset(
    {
        *("completion", "acompletion", "text_completion", "atext_completion"),
        *("responses", "aresponses", "anthropic_messages", "generate_content"),
        *("agenerate_content", "agenerate_content_stream", "pass_through_endpoint"),
    }
)

_SEMCONV = SpanProfile(
    "semconv",
    SEMCONV_SCOPES,
    _GEN_AI,
    title="Semantic conventions of OpenTelemetry, current and previous names",
    kinds=OF_CALLERS,
    requires=_OPERATION,
    resource=_REGION,
    ttft=(_FIRST_CHUNK, _FIRST_CHUNK_OF_OPERATION),
    stream=False,
    takes_any_scope=True,
)

_STRANDS = replace(
    _SEMCONV,
    name="strands",
    title="Strands Agents",
    scopes=("strands*",),
    ttft=(Ttft("gen_ai.server.time_to_first_token"),),
    takes_any_scope=False,
)

_GOOGLE_ADK = replace(
    _SEMCONV,
    name="google-adk",
    title="Agent Development Kit of Google",
    scopes=("gcp.vertex.agent*",),
    ttft=(),
    # Its spans of streams look like those of other answers.
    stream=None,
    takes_any_scope=False,
)

# New instrumentations appear faster than a list of their scopes could: a span that has all that the
# conventions require of a call of a model is one. Agents and frameworks around it have less, or its
# span within their own.
UNLISTED_SCOPES = replace(
    _SEMCONV,
    scopes=ANY,
    needs=(("gen_ai.provider.name", "gen_ai.system"), ("gen_ai.request.model",)),
)

# In this order the profile of a scope is looked for.
PROFILES: tuple[SpanProfile, ...] = (
    SpanProfile(
        "litellm-legacy",
        ("litellm",),
        {**_LITELLM, "stream": ("llm.is_streaming",)},
        title="LiteLLM, callback `otel`",
        # `raw_gen_ai_request` below it repeats the call, the proxy's span above it has no model.
        names=("litellm_request",),
        kinds=INSIDE,
        allows={"llm.request.type": _LEGACY_CALLS},
        resource=_REGION,
        usage_text="metadata.usage_object",
        invents_usage=True,
    ),
    SpanProfile(
        "litellm-v2",
        ("litellm",),
        _LITELLM,
        title="LiteLLM with LITELLM_OTEL_V2=true, SDK and proxy",
        kinds=OF_CLIENTS,
        requires={"gen_ai.operation.name": INFERENCE | {"responses", "messages"}},
        resource=_REGION,
        ttft=(_FIRST_CHUNK,),
        stream=False,
        invents_usage=True,
        servers=("fastapi", "opentelemetry.instrumentation.fastapi", "litellm"),
    ),
    SpanProfile(
        "openllmetry",
        OPENLLMETRY_SCOPES,
        _GEN_AI,
        title="OpenLLMetry",
        kinds=OF_CLIENTS,
        requires={**_OPERATION, "llm.request.type": frozenset({"chat", "completion"})},
        resource=_REGION,
        ttft=(Ttft(event=FIRST_CHUNK_EVENT), _FIRST_CHUNK),
        # Cut and cancelled streams end with status OK, without usage.
        cut=Cut.NO_FINISH_REASON,
        # The SDK's own spans, in traces of their own, are complete: these have no TTFT, none for a
        # stream that broke or was left, and the first output token of a stream twice.
        yields_to={"opentelemetry.instrumentation.anthropic": (ANTHROPIC_SDK,)},
    ),
    SpanProfile(
        "anthropic-sdk",
        (ANTHROPIC_SDK,),
        _GEN_AI,
        title="Spans of the Anthropic SDK itself",
        kinds=OF_CLIENTS,
        requires=_OPERATION,
        resource=_REGION,
        ttft=(_FIRST_CHUNK, _FIRST_CHUNK_OF_OPERATION),
        # The flag is only on spans of streams.
        stream=False,
        # A stream that the client left.
        cut=Cut.NO_STATUS,
        yields_to={"*": ("litellm",)},
    ),
    SpanProfile(
        "openinference",
        OPENINFERENCE_SCOPES,
        _OPENINFERENCE,
        title="OpenInference, clients of providers",
        requires=_LLM_SPAN,
        resource=_REGION,
        ttft=(Ttft(event=FIRST_TOKEN_EVENT),),
        parameters="llm.invocation_parameters",
        cut=Cut.NO_STATUS,
    ),
    SpanProfile(
        "openinference-frameworks",
        ("openinference.instrumentation.*", "@arizeai/openinference-instrumentation-*"),
        _OPENINFERENCE,
        title="OpenInference, frameworks such as LangChain",
        requires=_LLM_SPAN,
        resource=_REGION,
        ttft=(Ttft(event=FIRST_TOKEN_EVENT),),
        parameters="llm.invocation_parameters",
        cut=Cut.NO_STATUS,
        yields_to={"*": OPENINFERENCE_SCOPES},
    ),
    SpanProfile(
        "envoy-ai-gateway",
        ("envoyproxy/ai-gateway*",),
        _OPENINFERENCE,
        title="Envoy AI Gateway",
        not_names=("*TOKEN_COUNTER*", "*CountTokens*", "*Embedding*"),
        requires=_LLM_SPAN,
        resource=_REGION,
        ttft=(Ttft(event=FIRST_TOKEN_EVENT),),
        parameters="llm.invocation_parameters",
        cut=Cut.NO_STATUS,
    ),
    SpanProfile(
        "vercel-ai-sdk-legacy",
        ("ai",),
        _VERCEL,
        title="Vercel AI SDK up to 6",
        # The span around them adds up the usage of all steps.
        names=("ai.*.doStream*", "ai.*.doGenerate*"),
        resource=_REGION,
        ttft=(Ttft("ai.response.msToFirstChunk"), Ttft("ai.stream.msToFirstChunk")),
        stream=False,
    ),
    SpanProfile(
        "vercel-ai-sdk",
        ("gen_ai",),
        _GEN_AI,
        title="Vercel AI SDK 7, @ai-sdk/otel",
        kinds=OF_CLIENTS,
        requires=_OPERATION,
        resource=_REGION,
        ttft=(_FIRST_CHUNK_OF_OPERATION, _FIRST_CHUNK),
        stream=False,
    ),
    SpanProfile(
        "vllm",
        ("vllm*",),
        {**_GEN_AI, "model": (*_GEN_AI["model"], "vllm.model"), "region": ()},
        title="vLLM",
        names=("llm_request",),
        resource={**_REGION, "model": ("service.name",)},
        ttft=(_ENGINE_TTFT,),
        duration=_ENGINE_DURATION,
        takes_any_scope=True,
    ),
    SpanProfile(
        "sglang",
        ("sglang*",),
        {**_GEN_AI, "region": ()},
        title="SGLang",
        # Its stages, from tokenizer to decode loop, are children of this root.
        names=("Req *",),
        resource={**_REGION, "model": ("service.name",)},
        ttft=(_ENGINE_TTFT,),
        duration=_ENGINE_DURATION,
        takes_any_scope=True,
    ),
    SpanProfile(
        "agentgateway",
        ("agentgateway*",),
        {**_GEN_AI, "status_code": (*_GEN_AI["status_code"], "http.status"), "region": ()},
        title="agentgateway",
        kinds=OF_SERVERS,
        # Spans of routes to other services have no operation.
        requires=_OPERATION,
        resource=_REGION,
        ttft=(Ttft("agw.ai.time_to_first_token", SECOND_MS), _FIRST_CHUNK),
        takes_any_scope=True,
    ),
    SpanProfile(
        "kong",
        ("kong*",),
        _GEN_AI,
        title="Kong AI Gateway",
        names=("kong.gen_ai",),
        allows=_OPERATION,
        resource=_REGION,
        ttft=(_FIRST_CHUNK,),
        takes_any_scope=True,
    ),
    SpanProfile(
        "openrouter",
        ("openrouter*", "broadcast*"),
        {
            **_GEN_AI,
            "channel": (
                "trace.metadata.openrouter.provider_slug",
                "trace.metadata.openrouter.provider_name",
                *_GEN_AI["channel"],
            ),
            "region": (),
            "stream": ("trace.metadata.openrouter_generation.streamed", *_GEN_AI["stream"]),
            "finish": (
                *_GEN_AI["finish"],
                "trace.metadata.openrouter.finish_reason",
            ),
        },
        title="OpenRouter Broadcast",
        names=("LLM Generation",),
        ttft=(Ttft("trace.metadata.openrouter.first_token_ms"), _FIRST_CHUNK),
        cut=Cut.NO_FINISH_REASON,
        takes_any_id=True,
        takes_any_scope=True,
    ),
    _STRANDS,
    _GOOGLE_ADK,
    _SEMCONV,
)


def select_profiles(name: str = AUTO) -> tuple[SpanProfile, ...]:
    """Return the profiles of a source: all of them if it is `auto`, else the named one.

    A named profile may take spans of any scope. Raise ConfigError if there is no such profile.
    """
    if name == AUTO:
        return PROFILES
    for profile in PROFILES:
        if profile.name == name:
            return (replace(profile, scopes=ANY) if profile.takes_any_scope else profile,)
    names = ", ".join(profile.name for profile in PROFILES)
    raise ConfigError(f"there is no profile {name!r}; take auto or one of {names}")
