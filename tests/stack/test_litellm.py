"""LiteLLM from PyPI, SDK and proxy: the report is what the provider knows that it served.

Each call is logged twice, by `generic_api` and by OTLP, to an intake of its own.
"""

import asyncio
import json
import os
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
from aiohttp import ClientPayloadError, ClientSession

from tests.support.counted_traffic import CountedTraffic
from tests.support.litellm_proxy import LiteLLMProxy, litellm_proxy, logging_environment
from tests.support.producers import LITELLM_SDK, producers_python
from tests.support.servers import Broker, RedisServer
from tests.support.stub_provider import FIRST_BYTE_S, StubProvider, stub_provider

pytestmark = [pytest.mark.stack, pytest.mark.timeout(900)]

TOKENS = {"input": 2_048, "cached_input": 1_536, "output": 120}
PROMPT = "the patient's name is Ada"
CACHED = {"cache": {"use-cache": True}}
TTFT_WITHIN_MS = 20


class Call(NamedTuple):
    """A call of a client of the proxy; `leaves`: after the first chunk."""

    model: str
    stream: bool = False
    leaves: bool = False
    options: Mapping[str, Any] = MappingProxyType({})


CALLS = (
    *(Call("good"), Call("good", True), Call("good", True), Call("good", True)),
    Call("good", True, options={"stream_options": {"include_usage": True}}),
    *(Call("err429"), Call("err500"), Call("err400"), Call("err429", True)),
    *(Call("again"), Call("err503"), Call("cut", True), Call("slow", True, leaves=True)),
    *(Call("good", options=CACHED), Call("good", options=CACHED), Call("absent")),
)
# One attempt more than calls each: a retry, and a fallback to `good`.
EARLIER_ATTEMPTS = Counter({("again", "rate_limited"): 1, ("err503", "overloaded"): 1})
HITS = Counter({("good", "success"): 1})  # answers of the gateway's response cache
# The SDK logs a retry as one call. Its router logs each deployment that it asks as a call.
SDK_RETRIES = Counter({("again", "rate_limited"): 1})


@pytest.fixture
def logs(broker: Broker, redis_server: RedisServer) -> Iterator[dict[str, CountedTraffic]]:
    """The intakes of both logs."""
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(CountedTraffic(broker, redis_server))
            for name in ("generic_api", "otlp")
        }


def environment_of(
    provider: StubProvider, logs: dict[str, CountedTraffic], batch: int
) -> dict[str, str]:
    variables = logging_environment(logs["generic_api"].url, logs["otlp"].url, batch)
    return {**variables, "PROVIDER": f"{provider.url}/v1"}


async def call_all(proxy: LiteLLMProxy) -> list[float]:
    """Make the calls; return the milliseconds to the first chunk of each whole stream."""
    first_chunks_ms = []
    headers = {"Authorization": f"Bearer {proxy.key}"}
    async with ClientSession(proxy.url, headers=headers) as client:
        for call in CALLS:
            body = {
                "model": call.model,
                "messages": [{"role": "user", "content": PROMPT}],
                "stream": call.stream,
                **call.options,
            }
            began_s = time.monotonic()
            async with client.post("/v1/chat/completions", json=body) as answer:
                first_ms = None
                try:
                    async for _ in answer.content.iter_any():
                        first_ms = first_ms or 1_000 * (time.monotonic() - began_s)
                        if call.leaves:
                            answer.close()
                            break
                except ClientPayloadError:
                    assert call.model == "cut"
                if call.stream and call.model == "good":
                    assert first_ms is not None
                    first_chunks_ms.append(first_ms)
            await asyncio.sleep(0.3)  # an answer is cached after it was sent
    return first_chunks_ms


def assert_counted(
    measures: dict[str, dict[str, Any]],
    attempts: Counter[tuple[str, str]],
    hits: Counter[tuple[str, str]],
    earlier: Counter[tuple[str, str]],
) -> None:
    """The report has the attempts of each model, those of customers without the earlier ones."""
    counted, final = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for model, measured in measures.items():
        for outcome, count in measured["provider"]["outcomes"].items():
            counted[model, outcome] += count
        for outcome, count in measured["outcomes"].items():
            final[model, outcome] += count
        served = attempts[model, "success"]
        tokens = {name: measured["tokens"][name] for name in TOKENS}
        assert tokens == {name: served * count for name, count in TOKENS.items()}, model
        assert measured["response_cache"] == hits[model, "success"], model
    assert +counted == attempts  # no provider was asked for the hits
    assert +final == attempts + hits - earlier


def assert_first_tokens(
    events: list[dict[str, Any]], caller_ms: list[float], *, from_provider: bool
) -> None:
    """The first tokens come between the provider's first byte and what the caller measured.

    `from_provider`: the log begins with the call of the provider, so that it has nothing of
    LiteLLM's own work.
    """
    first_byte_ms = 1_000 * FIRST_BYTE_S
    streams_ms = [
        event["ttft_ms"] for event in events if event.get("model") == "good" and "ttft_ms" in event
    ]
    assert len(streams_ms) == len(caller_ms)
    for ttft_ms, measured_ms in zip(streams_ms, caller_ms, strict=True):
        assert first_byte_ms <= ttft_ms <= measured_ms + 1
    # The first stream of a process waits for imports, and a loaded machine delays some.
    if from_provider:
        assert min(streams_ms) <= first_byte_ms + TTFT_WITHIN_MS


def test_the_sdk(logs: dict[str, CountedTraffic], tmp_path: Path) -> None:
    logged = 13
    with stub_provider() as provider:
        done = subprocess.run(
            [producers_python("litellm"), LITELLM_SDK, provider.url],
            env={**os.environ, **environment_of(provider, logs, logged)},
            capture_output=True,
            text=True,
            timeout=300,
        )
    assert done.returncode == 0, done.stderr
    attempts = Counter(provider.ended) - SDK_RETRIES
    assert attempts.total() == logged - 1
    for name, log in logs.items():
        events = log.events(logged)
        assert_first_tokens(events, json.loads(done.stdout), from_provider=name == "otlp")
        assert PROMPT not in json.dumps(events)
        (tmp_path / name).mkdir()
        assert_counted(log.measures_by_model(tmp_path / name), attempts, HITS, Counter())


def test_the_proxy(logs: dict[str, CountedTraffic], tmp_path: Path) -> None:
    logged = len(CALLS) + EARLIER_ATTEMPTS.total()
    with stub_provider() as provider:
        environment = environment_of(provider, logs, logged)
        with litellm_proxy(environment, tmp_path / "proxy.log") as proxy:
            measured_ms = asyncio.run(call_all(proxy))
            logs["generic_api"].events(logged)
            proxy.stop()
    attempts = Counter(provider.ended)
    assert ("slow", "cancelled") in attempts
    for name, log in logs.items():
        events = log.events(logged)
        assert_first_tokens(events, measured_ms, from_provider=name == "otlp")
        assert PROMPT not in json.dumps(events)
        (tmp_path / name).mkdir()
        measures = log.measures_by_model(tmp_path / name)
        # No provider saw the call of an unknown model; its span has no model.
        absent = measures.pop("absent" if name == "generic_api" else "unknown")
        assert absent["outcomes"]["client_error"] == absent["requests"] == 1
        served = attempts
        if name == "otlp":
            # Its spans do not show that the client left, and have estimated tokens.
            served = attempts - Counter({("slow", "cancelled"): 1})
            assert measures.pop("slow")["requests"] == 1
        assert_counted(measures, served, HITS, EARLIER_ATTEMPTS)
