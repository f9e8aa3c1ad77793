"""Of the spans that a framework, its client and a gateway write for one call, one counts."""

from typing import Any

import pytest

from streams.intake.otlp.decode import read_traces
from streams.intake.otlp.requests import RequestReader
from tests.support.otlp_payloads import request, span

GEN_AI: dict[str, object] = {"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": 7}
LLM: dict[str, object] = {"openinference.span.kind": "LLM", "llm.token_count.prompt": 7}
OPENINFERENCE, SEMCONV = "openinference.instrumentation", "opentelemetry.instrumentation"
HTTP = "opentelemetry.instrumentation.httpx"


def at(number: int, parent: int = 0, attributes: dict[str, object] = GEN_AI) -> dict[str, Any]:
    """Return a span of one trace below another one; 0: the root."""
    parent_id = f"{parent:016x}" if parent else ""
    name = "chat m"
    return span(name, attributes, spanId=f"{number:016x}", parentSpanId=parent_id)


def ids(*bodies: bytes) -> list[str]:
    """Return the span ids of the events of records that are read one after the other."""
    reader = RequestReader()
    events = [event for body in bodies for event in reader.read(read_traces(body)).events]
    return [str(int(event["request_id"].partition("/")[2], 16)) for event in events]


@pytest.mark.parametrize(
    ("outer", "inner"),
    [
        ((f"{OPENINFERENCE}.litellm", LLM), (f"{OPENINFERENCE}.openai", LLM)),
        ((f"{OPENINFERENCE}.langchain", LLM), (f"{SEMCONV}.openai.v1", GEN_AI)),
        (("pydantic-ai", GEN_AI), (f"{SEMCONV}.openai_v2", GEN_AI)),
        (("pydantic-ai", GEN_AI), (f"{OPENINFERENCE}.openai", LLM)),
        ((f"{OPENINFERENCE}.openai", LLM), ("envoyproxy/ai-gateway", LLM)),
        ((f"{OPENINFERENCE}.openai", LLM), (f"{OPENINFERENCE}.openai", LLM)),
    ],
)
def test_the_innermost_of_the_spans_of_a_call_counts(
    outer: tuple[str, dict[str, object]], inner: tuple[str, dict[str, object]]
) -> None:
    around = outer[0], [at(1, 9, outer[1])]
    within = inner[0], [at(2, 1, inner[1])]
    assert ids(request(around, within)) == ["2"]
    # Spans between the two are of scopes that no profile takes.
    far = inner[0], [at(3, 2, inner[1])]
    between = HTTP, [at(2, 1, {})]
    assert ids(request(around, between, far)) == ["3"]
    # An exporter without batches sends each span as it ends, and again if it got no answer.
    assert ids(request(within), request(around), request(around)) == ["2"]
    assert ids(request(within), request(within)) == ["2", "2"]
    # The inner span may arrive while the outer one waits to be sent again.
    assert ids(request(around), request(within), request(around)) == ["1", "1"]
    # Another process may send its outer span first: that one has counted then.
    inmost = inner[0], [at(3, 2, inner[1])]
    assert ids(request(around), request(around), request(within), request(inmost)) == ["1", "1"]


def test_calls_beside_each_other_and_below_an_agent_all_count() -> None:
    agent = "agent", [at(1, 0, {})]
    assert ids(request(agent, (f"{SEMCONV}.openai_v2", [at(2, 1), at(3, 1), at(4)]))) == [
        *("2", "3", "4"),
    ]


def test_the_attempts_below_a_span_that_comes_last_all_count() -> None:
    scope = f"{SEMCONV}.openai_v2"
    attempts = [request((scope, [at(number, 1)])) for number in (2, 3)]
    around = request(("pydantic-ai", [at(1)]))
    assert ids(attempts[0], around, attempts[1]) == ["2", "3"]


def test_parents_in_a_circle_end() -> None:
    circle = [at(1, 2), at(2, 1), at(3, 3)]
    assert ids(request((f"{SEMCONV}.openai_v2", circle))) == ["3"]


def test_skipped_spans_are_counted_and_their_notes_are_not() -> None:
    operation: dict[str, object] = {"gen_ai.operation.name": "chat"}
    body = request(
        ("pydantic-ai", [at(1, 0, operation)]), (f"{SEMCONV}.openai_v2", [at(2, 1, operation)])
    )
    batch = RequestReader().read(read_traces(body))
    assert dict(batch.skipped) == {("repeats_usage", "pydantic-ai"): 1}
    assert dict(batch.notes) == {("no_usage", f"{SEMCONV}.openai_v2"): 1}
    assert len(batch.events) + batch.skipped.total() == batch.spans
