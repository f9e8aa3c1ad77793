"""Prompts and answers are in no event, no rejection, no error and no log."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from streams.intake.otlp.decode import read_traces
from streams.intake.otlp.profiles import AUTO, PROFILES, select_profiles
from streams.intake.otlp.requests import RequestReader
from streams.intake.otlp.spans import NotTraces
from tests.support.otlp_payloads import PAYLOADS, document, pairs, span

SECRET = "the patient's name is Ada"
# Attributes of the producers that hold prompts, answers, tools or messages of errors.
PROMPT_ATTRIBUTES = (
    *("gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.system_instructions"),
    *("gen_ai.prompt", "gen_ai.completion", "gen_ai.prompt.0.content", "gen_ai.tool.definitions"),
    *("gen_ai.completion.0.content", "gen_ai.completion.0.tool_calls.0.arguments"),
    *("gen_ai.tool.call.arguments", "gen_ai.tool.call.result", "gen_ai.content.prompt"),
    *("input.value", "output.value", "llm.input_messages.0.message.content", "llm.prompts"),
    *("llm.output_messages.0.message.content", "llm.prompt_template.template", "llm.tools"),
    *("ai.prompt", "ai.prompt.messages", "ai.prompt.tools", "ai.response.text"),
    *("ai.response.toolCalls", "ai.response.object", "ai.toolCall.args", "ai.toolCall.result"),
    *("traceloop.entity.input", "traceloop.entity.output", "langfuse.observation.input"),
    *("langfuse.observation.output", "trace.input", "trace.output", "span.input", "span.output"),
    *("metadata.requester_metadata", "metadata.spend_logs_metadata", "hidden_params"),
    *("llm.openai.messages", "llm.openai.tools", "llm.openai.functions", "error.message"),
    *("litellm.provider.error.stack_trace", "error.stack_trace", "exception.message"),
    *("exception.stacktrace", "http.request.body", "http.response.body", "db.statement"),
)
EVENTS: tuple[tuple[str, float, dict[str, object]], ...] = (
    ("exception", 1.0, {"exception.message": SECRET, "exception.stacktrace": SECRET}),
    ("gen_ai.user.message", 2.0, {"content": SECRET, "gen_ai.event.content": SECRET}),
    ("gen_ai.content.completion.chunk", 3.0, {"content": SECRET}),
    ("First Token Stream Event", 4.0, {"content": SECRET}),
)
SPAN_NAMES = {
    "litellm-legacy": "litellm_request",
    "vercel-ai-sdk-legacy": "ai.streamText.doStream",
    "vllm": "llm_request",
    "sglang": "Req 1",
    "kong": "kong.gen_ai",
    "openrouter": "LLM Generation",
}


def planted() -> dict[str, object]:
    parameters = json.dumps({"model": "m", "stream": True, "messages": [{"content": SECRET}]})
    usage = f"{{'completion_tokens': 9, 'note': '{SECRET}', 'prompt_tokens_details': None}}"
    return {
        **dict.fromkeys(PROMPT_ATTRIBUTES, SECRET),
        "llm.invocation_parameters": parameters,
        "metadata.usage_object": usage,
        "gen_ai.operation.name": "chat",
        "openinference.span.kind": "LLM",
        "gen_ai.request.model": "m",
        "gen_ai.usage.input_tokens": 7,
    }


def synthetic(profile: str) -> dict[str, Any]:
    """Return a request of spans of the profile: good, failed and without ids."""
    chosen = next(item for item in PROFILES if item.name == profile)
    kind = min(chosen.kinds, default=3)
    sent = span(SPAN_NAMES.get(profile, "chat m"), planted(), kind=kind, events=EVENTS)
    failed = sent | {"status": {"code": 2, "message": SECRET}, "spanId": "11" * 8}
    return document(
        (chosen.scopes[0].replace("*", "x"), [sent, failed, sent | {"spanId": "0" * 16}]),
        ("another " + profile, [sent]),
        resource={"process.command_args": SECRET},
    )


def plant(recorded: dict[str, Any]) -> dict[str, Any]:
    """Add the secret to every span of a recorded request."""
    for resource_spans in recorded["resourceSpans"]:
        for scope_spans in resource_spans["scopeSpans"]:
            for recorded_span in scope_spans["spans"]:
                recorded_span["attributes"] += pairs(dict.fromkeys(PROMPT_ATTRIBUTES, SECRET))
                recorded_span["events"] = [
                    *recorded_span.get("events", ()),
                    *span("", {}, events=EVENTS)["events"],
                ]
                recorded_span.setdefault("status", {})["message"] = SECRET
    return recorded


def documents() -> Iterator[tuple[str, dict[str, Any]]]:
    for profile in PROFILES:
        yield profile.name, synthetic(profile.name)
    for path in sorted(PAYLOADS.glob("*/otlp-*.json")):
        yield f"{path.parent.name}/{path.name}", plant(json.loads(path.read_text()))


@pytest.mark.parametrize(("name", "sent"), list(documents()), ids=lambda item: str(item)[:40])
def test_a_secret_in_every_prompt_attribute_comes_out_nowhere(
    name: str,
    sent: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    body = json.dumps(sent).encode()
    with caplog.at_level(logging.DEBUG):
        batch = RequestReader(select_profiles(AUTO)).read(read_traces(body))
        errors = [error_of(body[:length]) for length in range(1, len(body), len(body) // 50)]
    assert batch.events
    assert SECRET.encode() in body
    outputs = (repr(batch), *errors, caplog.text, *capfd.readouterr())
    assert [output for output in outputs if SECRET in output or "Ada" in output] == []


def error_of(body: bytes) -> str:
    """Return the message for a body that was cut, with those of the errors behind it."""
    try:
        read_traces(body, "otlp_json")
    except NotTraces as error:
        return f"{error} {error.__cause__}"
    return ""


def test_no_profile_reads_an_attribute_of_prompts() -> None:
    reader = RequestReader()
    assert reader.attribute_names.isdisjoint(PROMPT_ATTRIBUTES)
