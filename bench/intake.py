"""Spans per second from the bytes of an OTLP record to events ready to send, on one core.

    python -m bench.intake [--seconds 5]

The record is 100 spans of LiteLLM's second engine, 34 attributes each, as its exporter sends
them. Seconds are those of the process's own CPU time.
"""

import argparse
import time
from collections.abc import Callable

import msgspec
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from streams.intake.otlp.decode import read_traces
from streams.intake.otlp.profiles import select_profiles
from streams.intake.otlp.requests import RequestReader

SPANS = 100
START_NS = 1_790_000_000_000_000_000
TEXTS = {
    "litellm.metadata.user_api_key_alias": "team-a",
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o",
    "gen_ai.response.model": "gpt-4o",
    "gen_ai.response.id": "chatcmpl-abc1",
    "server.address": "127.0.0.1",
    "litellm.call_id": "8278371d-296f-4a9c-9621-0cd27eef82e3",
    "litellm.call_type": "acompletion",
    "litellm.provider.model": "openai/gpt-4o",
    "gen_ai.system": "openai",
}
COUNTS = {
    "gen_ai.usage.input_tokens": 2048,
    "gen_ai.usage.output_tokens": 120,
    "gen_ai.usage.cache_read.input_tokens": 1536,
    "server.port": 443,
    "gen_ai.usage.prompt_tokens": 2048,
    "gen_ai.usage.completion_tokens": 120,
    "gen_ai.usage.total_tokens": 2168,
}
SHARES = {
    "gen_ai.response.time_to_first_chunk": 0.159,
    **{
        f"litellm.cost.{name}": 0.0032
        for name in (
            *("total", "input", "output", "cache_read", "tool_usage", "original"),
            *("discount_amount", "discount_percent", "margin_fixed_amount", "margin_percent"),
            "margin_total_amount",
        )
    },
}
FLAGS = {"litellm.cache_hit": False, "litellm.request.streaming": True, "llm.is_streaming": True}


def record() -> bytes:
    """Return an `ExportTraceServiceRequest` of SPANS spans."""
    request = ExportTraceServiceRequest()
    scope_spans = request.resource_spans.add().scope_spans.add()
    scope_spans.scope.name = "litellm"
    for at in range(SPANS):
        span = scope_spans.spans.add(
            trace_id=(at + 1).to_bytes(16, "big"),
            span_id=(at + 1).to_bytes(8, "big"),
            name="chat gpt-4o",
            kind=Span.SPAN_KIND_CLIENT,
            start_time_unix_nano=START_NS,
            end_time_unix_nano=START_NS + 381_000_000,
        )
        for key, text in TEXTS.items():
            span.attributes.add(key=key).value.string_value = text
        for key, count in COUNTS.items():
            span.attributes.add(key=key).value.int_value = count
        for key, share in SHARES.items():
            span.attributes.add(key=key).value.double_value = share
        for key, flag in FLAGS.items():
            span.attributes.add(key=key).value.bool_value = flag
        reasons = span.attributes.add(key="gen_ai.response.finish_reasons").value
        reasons.array_value.values.add().string_value = "stop"
    return request.SerializeToString()


def rate(step: Callable[[], object], seconds: float) -> float:
    """Return the spans per second of a step that reads one record, the best of five runs."""
    best = 0.0
    for _ in range(5):
        rounds, started = 0, time.process_time()
        while (passed := time.process_time() - started) < seconds / 5:
            step()
            rounds += 1
        best = max(best, rounds * SPANS / passed)
    return best


def main() -> None:
    """Print the rates."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=5)
    seconds = parser.parse_args().seconds
    body = record()
    reader = RequestReader(select_profiles("litellm-v2"))
    encode = msgspec.json.Encoder().encode
    attributes = len(TEXTS) + len(COUNTS) + len(SHARES) + len(FLAGS) + 1

    def read() -> None:
        batch = reader.read(read_traces(body, "otlp_proto"))
        assert len(batch.events) == SPANS
        for event in batch.events:
            encode(event)

    decoded = rate(lambda: ExportTraceServiceRequest.FromString(body), seconds / 5)
    print(f"OTLP protobuf, {attributes} attributes a span, {len(body):,} bytes a record")
    print(f"  decode alone     {decoded:>10,.0f} spans/s")
    print(f"  decode to event  {rate(read, seconds):>10,.0f} spans/s")


if __name__ == "__main__":
    main()
