"""The Anthropic SDK from PyPI, alone and instrumented: the report is what the provider served.

The SDK writes spans of its own. An instrumentation adds one to each call, which must not count.
"""

import json
from collections import Counter
from pathlib import Path

import pytest

from tests.support.counted_traffic import CountedTraffic
from tests.support.producers import ANTHROPIC_TRAFFIC, sent_by
from tests.support.servers import Broker, RedisServer
from tests.support.stub_provider import FIRST_BYTE_S, stub_provider

pytestmark = [pytest.mark.stack]

PROMPT = {"input_tokens": 2112, "cached_input_tokens": 1800, "cache_write_tokens": 300}
WHOLE = PROMPT | {"output_tokens": 40}
TOKENS = {
    "input": "input_tokens",
    "cached_input": "cached_input_tokens",
    "output": "output_tokens",
}
RETRY = Counter({("claude-again", "rate_limited"): 1})  # of the SDK, within one call
TTFT_WITHIN_MS = 20


@pytest.mark.parametrize("producer", ["sdk", "openllmetry", "openinference"])
def test_each_call_counts_once_with_the_tokens_that_the_provider_served(
    producer: str, broker: Broker, redis_server: RedisServer, tmp_path: Path
) -> None:
    with stub_provider() as provider, CountedTraffic(broker, redis_server) as traffic:
        printed = sent_by(ANTHROPIC_TRAFFIC, producer, provider.url, traffic.url)
        served = Counter(provider.ended) - RETRY
        events = traffic.events(served.total())
    assert Counter((event["model"], event["outcome"]) for event in events) == served
    for event in events:
        # The prompt's tokens come with the first event of a stream, those of the answer at its end.
        begun = WHOLE if event["outcome"] == "success" else PROMPT
        tokens = begun if "err" not in event["model"] else {}
        assert {name: event[name] for name in WHOLE if name in event} == tokens, event
    assert "Ada" not in repr(events)
    measures = traffic.measures_by_model(tmp_path)
    counted = {
        (model, outcome): count
        for model, measured in measures.items()
        for outcome, count in measured["outcomes"].items()
        if count
    }
    assert counted == served
    for name, field in TOKENS.items():
        known = sum(event.get(field, 0) for event in events)
        assert sum(measured["tokens"][name] for measured in measures.values()) == known
    (ttft_ms,) = [e["ttft_ms"] for e in events if e["model"] == "claude" and e["stream"]]
    (measured_s,) = json.loads(printed)
    assert 1_000 * FIRST_BYTE_S <= ttft_ms <= 1_000 * measured_s + TTFT_WITHIN_MS
