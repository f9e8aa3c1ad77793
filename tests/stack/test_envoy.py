"""Envoy from PyPI, set up as its page shows: the access log has what the provider served."""

import asyncio
import json
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
from aiohttp import ClientError, ClientPayloadError, ClientSession, ClientTimeout

from streams.sources.reading import load_mapping, read_rows
from streams.sources.rows import Row
from tests.support.envoy import envoy
from tests.support.event_samples import judge
from tests.support.servers import wait_until
from tests.support.stub_provider import FIRST_BYTE_S, stub_provider

pytestmark = [pytest.mark.stack]

CHAT = "/v1/chat/completions"
PROMPT = "the patient's name is Ada"
WITHIN_MS = 20
USAGE = {
    "input_tokens": 2_048,
    "cached_input_tokens": 1_536,
    "output_tokens": 120,
    "reasoning_tokens": 64,
}
STREAM = {"stream": True}
WITH_USAGE = STREAM | {"stream_options": {"include_usage": True}}
SUCCESS = {"outcome": "success", "status_code": 200}


class Call(NamedTuple):
    """A call of a client, and the event that it is expected to become."""

    model: str
    expected: Mapping[str, Any]
    options: Mapping[str, Any] = MappingProxyType({})
    path: str = CHAT
    leaves: bool = False  # after the first chunk, or before an answer

    @property
    def streams(self) -> bool:
        return "stream" in self.options


CALLS = (
    Call("good", SUCCESS | USAGE),
    Call("good", SUCCESS | USAGE, WITH_USAGE),
    Call("good", SUCCESS, STREAM),
    Call("good", SUCCESS | USAGE, {"user": "u" * 2_000_000}),  # larger than Envoy's own limit
    Call("err400", {"outcome": "client_error", "status_code": 400}),
    Call("err429", {"outcome": "rate_limited", "status_code": 429}),
    Call("err500", {"outcome": "server_error", "status_code": 500}, STREAM),
    Call("err503", {"outcome": "overloaded", "status_code": 503}),
    Call("cut", {"outcome": "stream_error", "status_code": 200}, WITH_USAGE),
    Call("slow", {"outcome": "cancelled", "status_code": 200}, WITH_USAGE, leaves=True),
    Call("good", {"outcome": "cancelled"}, path=f"/silent{CHAT}", leaves=True),
    Call("good", {"outcome": "timeout", "status_code": 504}, path=f"/hasty{CHAT}"),
    Call("good", {"outcome": "overloaded", "status_code": 503}, path=f"/nowhere{CHAT}"),
)
ANSWERED = [call for call in CALLS if call.path.startswith("/v1/")]
FIELDS = ("model", "outcome", "status_code", "stream", *USAGE)


async def call_all(url: str) -> list[float]:
    """Make the calls; return the milliseconds to the first chunk of each whole stream."""
    first_chunks_ms = []
    async with ClientSession(url) as client:
        async with client.get("/health") as health:
            assert health.status == 200
        for call in CALLS:
            messages = [{"role": "user", "content": PROMPT}]
            body = {"model": call.model, "messages": messages, **call.options}
            limit = ClientTimeout(sock_read=0.3 if call.path.startswith("/silent/") else 60)
            began_s = time.monotonic()
            try:
                async with client.post(call.path, json=body, timeout=limit) as answer:
                    async for _ in answer.content.iter_any():
                        if call.model == "good" and call.streams:
                            first_chunks_ms.append(1_000 * (time.monotonic() - began_s))
                            break
                        if call.leaves:
                            answer.close()
                            break
                    await answer.read()
            except ClientPayloadError:
                assert call.model == "cut"
            except (ClientError, TimeoutError):
                assert call.leaves
    return first_chunks_ms


def test_the_lines_are_the_calls_that_the_provider_served(tmp_path: Path) -> None:
    with stub_provider() as provider, envoy(provider.url, tmp_path) as proxy:
        measured_ms = asyncio.run(call_all(proxy.url))
        lines = 1 + len(CALLS)
        wait_until(lambda: proxy.access_log.read_text().count("\n") == lines, f"{lines} lines")
    assert PROMPT not in proxy.access_log.read_text()
    read = list(read_rows(proxy.access_log, load_mapping("envoy_ai_gateway")))
    assert all(isinstance(row, Row) and row.problems == () for row in read)
    events = [row.event for row in read if isinstance(row, Row)]
    facts = [{key: event[key] for key in FIELDS if key in event} for event in events]
    assert facts == [
        {"model": call.model, **call.expected} | (STREAM if call.streams else {}) for call in CALLS
    ]
    assert provider.ended == [(call.model, call.expected["outcome"]) for call in ANSWERED]
    assert len({event["request_id"] for event in events}) == len(CALLS)

    first_byte_ms = 1_000 * FIRST_BYTE_S
    first_tokens_ms = [
        event["ttft_ms"] for event in events if event["model"] == "good" and "stream" in event
    ]
    for ttft_ms, client_ms in zip(first_tokens_ms, measured_ms, strict=True):
        assert first_byte_ms <= ttft_ms <= client_ms + 1
    assert min(first_tokens_ms) <= first_byte_ms + WITHIN_MS

    records = [json.dumps(event).encode() for event in events]
    assert not judge(records, [int(event["ended_at"]) for event in events]).rejections
