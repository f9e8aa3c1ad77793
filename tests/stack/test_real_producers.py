"""Unmodified SDKs and instrumentations from PyPI: the report is what the provider served.

`bash tests/provision.sh` makes the environment that they run in.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.support.counted_traffic import CountedTraffic
from tests.support.producers import TRAFFIC, sent_by
from tests.support.servers import Broker, RedisServer
from tests.support.stub_provider import FIRST_BYTE_S, stub_provider

pytestmark = [pytest.mark.stack]

USAGE = {"input_tokens": 2048, "cached_input_tokens": 1536, "output_tokens": 120}
GOOD: dict[str, Any] = {"model": "good", "outcome": "success"}
CALLS: list[dict[str, Any]] = [
    GOOD | USAGE,
    GOOD | USAGE,
    GOOD,  # a stream without usage
    {"model": "err429", "outcome": "rate_limited"},
    {"model": "err500", "outcome": "server_error"},
    {"model": "err400", "outcome": "client_error"},
    {"model": "again", "outcome": "success"} | USAGE,  # one call with a retry of the SDK
    {"model": "err503", "outcome": "overloaded"},  # and the model that it falls back to
    GOOD | USAGE,
]
CUT, LEFT = {"model": "cut", "outcome": "stream_error"}, GOOD | {"outcome": "cancelled"}
CLAUDE = {
    "model": "claude",
    "outcome": "success",
    "input_tokens": 2112,
    "cached_input_tokens": 1800,
    "cache_write_tokens": 300,
    "output_tokens": 40,
}
EXPECTED = {
    "openinference": [*CALLS, CUT, LEFT],
    # Its cut streams look like those that the client left.
    "openllmetry": [*CALLS, CUT | {"outcome": "cancelled"}, LEFT, CLAUDE],
}
FIELDS = ("model", "outcome", *CLAUDE)
TOKENS = {
    "input": "input_tokens",
    "cached_input": "cached_input_tokens",
    "output": "output_tokens",
}


@pytest.mark.parametrize("producer", EXPECTED)
def test_the_events_are_the_calls_that_the_provider_served(
    producer: str, broker: Broker, redis_server: RedisServer, tmp_path: Path
) -> None:
    expected = EXPECTED[producer]
    with stub_provider() as provider, CountedTraffic(broker, redis_server) as traffic:
        printed = sent_by(TRAFFIC, producer, provider.url, traffic.url)
        events = traffic.events(len(expected))
    facts = [{key: event[key] for key in FIELDS if key in event} for event in events]
    assert facts == expected
    assert len(provider.ended) == len(events) + 1  # the retry
    assert "Ada" not in repr(events)
    for model, measures in traffic.measures_by_model(tmp_path).items():
        calls = [call for call in expected if call["model"] == model]
        outcomes = {name: count for name, count in measures["outcomes"].items() if count}
        assert outcomes == Counter(call["outcome"] for call in calls)
        for name, field in TOKENS.items():
            assert measures["tokens"][name] == sum(call.get(field, 0) for call in calls)
    measured_ms = [1000 * seconds for seconds in json.loads(printed.splitlines()[-1])]
    first_tokens_ms = [event["ttft_ms"] for event in events if "ttft_ms" in event]
    assert first_tokens_ms == pytest.approx(measured_ms, abs=20)
    assert min(first_tokens_ms) >= 1000 * FIRST_BYTE_S
