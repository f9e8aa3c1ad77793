"""Unmodified SDKs and instrumentations from PyPI: their spans give what the provider served.

`bash tests/provision.sh` makes the environment that they run in.
"""

import json
import subprocess
from typing import Any

import pytest

from tests.support.otlp_payloads import read
from tests.support.producers import TRAFFIC, producers_python
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


@pytest.mark.parametrize("producer", EXPECTED)
def test_the_events_are_the_calls_that_the_provider_served(producer: str) -> None:
    python = producers_python()
    with stub_provider() as provider:
        done = subprocess.run(
            [python, TRAFFIC, producer, provider.url, provider.url],
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
    batches = [read(body) for body in provider.traces]
    events = sorted(
        (event for batch in batches for event in batch.events), key=lambda item: item["ended_at"]
    )
    facts = [{key: event[key] for key in FIELDS if key in event} for event in events]
    assert facts == EXPECTED[producer]
    assert len(provider.served) == len(events) + 1  # the retry
    assert not [batch for batch in batches if batch.rejected]
    measured_ms = [1000 * seconds for seconds in json.loads(done.stdout.splitlines()[-1])]
    first_tokens_ms = [event["ttft_ms"] for event in events if "ttft_ms" in event]
    assert first_tokens_ms == pytest.approx(measured_ms, abs=20)
    assert min(first_tokens_ms) >= 1000 * FIRST_BYTE_S
    assert "Ada" not in repr(batches)
