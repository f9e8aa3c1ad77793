"""Spans per second from the bytes of OTLP records to events ready to send, on one core.

    python -m bench.intake [--seconds 5]

A record is 100 spans of LiteLLM's second engine, 34 attributes each, as its exporter sends them.
Ids, token counts, times and costs differ from span to span. Seconds are those of the process's own
CPU time.
"""

import argparse
import random
import time
import uuid
from collections.abc import Callable, Sequence
from itertools import cycle

import msgspec
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from streams.intake.otlp.decode import read_traces
from streams.intake.otlp.profiles import select_profiles
from streams.intake.otlp.requests import RequestReader

SPANS = 100
RECORDS = 50
START_NS = 1_790_000_000_000_000_000
# The same in every span.
TEXTS = {
    "litellm.metadata.user_api_key_alias": "team-a",
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o",
    "gen_ai.response.model": "gpt-4o",
    "server.address": "127.0.0.1",
    "litellm.call_type": "acompletion",
    "litellm.provider.model": "openai/gpt-4o",
    "gen_ai.system": "openai",
}
FLAGS = {"litellm.cache_hit": False, "litellm.request.streaming": True, "llm.is_streaming": True}
COSTS = (
    *("total", "input", "output", "cache_read", "tool_usage", "original", "discount_amount"),
    *("discount_percent", "margin_fixed_amount", "margin_percent", "margin_total_amount"),
)


def records() -> list[bytes]:
    """Return RECORDS different `ExportTraceServiceRequest`s of SPANS spans, always the same."""
    draws = random.Random(0)
    return [_record(draws) for _ in range(RECORDS)]


def _record(draws: random.Random) -> bytes:
    request = ExportTraceServiceRequest()
    scope_spans = request.resource_spans.add().scope_spans.add()
    scope_spans.scope.name = "litellm"
    for _ in range(SPANS):
        duration_ms = draws.randint(300, 20_000)
        span = scope_spans.spans.add(
            trace_id=draws.randbytes(16),
            span_id=draws.randbytes(8),
            name="chat gpt-4o",
            kind=Span.SPAN_KIND_CLIENT,
            start_time_unix_nano=START_NS,
            end_time_unix_nano=START_NS + duration_ms * 1_000_000,
        )
        for key, value in _attributes(draws).items():
            sent = span.attributes.add(key=key).value
            match value:
                case bool():
                    sent.bool_value = value
                case int():
                    sent.int_value = value
                case float():
                    sent.double_value = value
                case str():
                    sent.string_value = value
        reasons = span.attributes.add(key="gen_ai.response.finish_reasons").value
        reasons.array_value.values.add().string_value = "stop"
    return request.SerializeToString()


def _attributes(draws: random.Random) -> dict[str, str | int | float]:
    """Return the attributes of one span, but for the list of its finish reasons."""
    sent, received = draws.randint(200, 8_000), draws.randint(1, 1_200)
    usage = {
        "input_tokens": sent,
        "output_tokens": received,
        "cache_read.input_tokens": draws.randint(0, sent),
        "prompt_tokens": sent,
        "completion_tokens": received,
        "total_tokens": sent + received,
    }
    return {
        **TEXTS,
        **FLAGS,
        "gen_ai.response.id": f"chatcmpl-{draws.getrandbits(60):x}",
        "litellm.call_id": str(uuid.UUID(int=draws.getrandbits(128))),
        "server.port": 443,
        **{f"gen_ai.usage.{name}": tokens for name, tokens in usage.items()},
        "gen_ai.response.time_to_first_chunk": draws.uniform(0.1, 2.0),
        **{f"litellm.cost.{name}": draws.uniform(0.0, 0.01) for name in COSTS},
    }


def rate(read: Callable[[bytes], object], bodies: Sequence[bytes], seconds: float) -> float:
    """Return the spans per second of reading the records in turn, the best of five runs."""
    best = 0.0
    for _ in range(5):
        rounds, started = 0, time.process_time()
        turns = cycle(bodies)
        while (passed := time.process_time() - started) < seconds / 5:
            read(next(turns))
            rounds += 1
        best = max(best, rounds * SPANS / passed)
    return best


def main() -> None:
    """Print the rates."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=5)
    seconds = parser.parse_args().seconds
    bodies = records()
    reader = RequestReader(select_profiles("litellm-v2"))
    encode = msgspec.json.Encoder().encode
    attributes = len(_attributes(random.Random(0))) + 1

    def read(body: bytes) -> None:
        batch = reader.read(read_traces(body, "otlp_proto"))
        assert len(batch.events) == SPANS
        for event in batch.events:
            encode(event)

    decoded = rate(ExportTraceServiceRequest.FromString, bodies, seconds / 5)
    print(f"OTLP protobuf, {attributes} attributes a span, {len(bodies[0]):,} bytes a record")
    print(f"  decode alone     {decoded:>10,.0f} spans/s")
    print(f"  decode to event  {rate(read, bodies, seconds):>10,.0f} spans/s")


if __name__ == "__main__":
    main()
