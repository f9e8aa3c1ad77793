"""Calls a provider through the Anthropic SDK, and exports the spans over OTLP/HTTP.

    python anthropic_traffic.py sdk|openllmetry|openinference PROVIDER_URL OTLP_URL

`sdk`: only its own spans. The instrumentations add one of theirs to each of them. Runs in the
environment of requirements.lock. Prints the seconds to the first token of the whole stream as the
caller measured them, one JSON list.
"""

import json
import sys
import time
from contextlib import suppress

import anthropic
import httpx2
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

ERRORS = (anthropic.AnthropicError, httpx2.HTTPError)


def instrument(producer: str) -> None:
    if producer == "openllmetry":
        from opentelemetry.instrumentation.anthropic import AnthropicInstrumentor

        AnthropicInstrumentor().instrument()
    elif producer == "openinference":
        from openinference.instrumentation.anthropic import AnthropicInstrumentor as Instrumentor

        Instrumentor().instrument()


def main() -> None:
    producer, provider_url, otlp_url = sys.argv[1:]
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{otlp_url}/v1/traces")))
    trace.set_tracer_provider(provider)
    instrument(producer)
    client = anthropic.Anthropic(api_key="k", base_url=provider_url, max_retries=0, timeout=30)
    asked = {"max_tokens": 50, "messages": [{"role": "user", "content": "the patient is Ada"}]}
    first_tokens = []

    def call(model: str, retries: int = 0) -> None:
        with suppress(ERRORS):
            client.with_options(max_retries=retries).messages.create(model=model, **asked)

    def stream(model: str, events: int | None = None) -> None:
        began_s = time.monotonic()
        with suppress(ERRORS):
            answer = client.messages.create(model=model, stream=True, **asked)
            for number, event in enumerate(answer, 1):
                is_content = event.type == "content_block_delta"
                if is_content and model == "claude" and not first_tokens:
                    first_tokens.append(time.monotonic() - began_s)
                if number == events:
                    answer.close()
                    break

    call("claude")
    stream("claude")
    for status in (400, 429, 500, 529):
        call(f"claude-err{status}")
    call("claude-again", retries=1)
    stream("claude-cut")
    stream("claude-slow", events=3)
    provider.shutdown()
    print(json.dumps(first_tokens))


if __name__ == "__main__":
    main()
