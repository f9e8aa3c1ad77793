"""Calls a provider through instrumented SDKs, and exports their spans over OTLP/HTTP.

    python traffic.py openllmetry|openinference PROVIDER_URL OTLP_URL

Runs in the environment of requirements.lock. Prints the seconds to the first chunk of each stream
as the caller measured them, one JSON list.
"""

import json
import sys
import time
from contextlib import suppress

import anthropic
import openai
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor


def instrument(producer: str, provider: TracerProvider) -> None:
    if producer == "openinference":
        from openinference.instrumentation.openai import OpenAIInstrumentor

        OpenAIInstrumentor().instrument(tracer_provider=provider)
        return
    from opentelemetry.instrumentation.anthropic import AnthropicInstrumentor
    from opentelemetry.instrumentation.openai import OpenAIInstrumentor as Instrumentor

    trace.set_tracer_provider(provider)
    Instrumentor().instrument(tracer_provider=provider)
    AnthropicInstrumentor().instrument(tracer_provider=provider)


def main() -> None:
    producer, provider_url, otlp_url = sys.argv[1:]
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{otlp_url}/v1/traces")))
    instrument(producer, provider)
    client = openai.OpenAI(api_key="k", base_url=f"{provider_url}/v1", max_retries=0, timeout=30)
    messages = [{"role": "user", "content": "the patient's name is Ada"}]
    first_chunks = []

    def call(model: str, retries: int = 0) -> None:
        with suppress(openai.OpenAIError):
            client.with_options(max_retries=retries).chat.completions.create(
                model=model, messages=messages
            )

    def stream(model: str, chunks: int | None = None, usage: bool = True) -> None:
        options = {"stream_options": {"include_usage": True}} if usage else {}
        began = time.monotonic()
        with suppress(openai.OpenAIError, Exception):
            answer = client.chat.completions.create(
                model=model, messages=messages, stream=True, **options
            )
            for number, _ in enumerate(answer, 1):
                if number == 1:
                    first_chunks.append(time.monotonic() - began)
                if number == chunks:
                    answer.close()
                    break

    call("good")
    stream("good")
    stream("good", usage=False)
    call("err429")
    call("err500")
    call("err400")
    call("again", retries=1)
    call("err503")  # a fallback of the application, to the next model
    call("good")
    stream("cut")
    stream("good", chunks=1)
    if producer == "openllmetry":
        anthropic.Anthropic(api_key="k", base_url=provider_url).messages.create(
            model="claude", max_tokens=50, messages=messages
        )
    provider.shutdown()
    print(json.dumps(first_chunks))


if __name__ == "__main__":
    main()
