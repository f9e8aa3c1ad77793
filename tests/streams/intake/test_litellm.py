"""LiteLLM's payloads at /v1/events: recognised, counted, and without their prompts."""

import asyncio
import json
import time
from typing import Any

import pytest
from aiohttp import ClientSession

from streams.config.settings import Settings
from streams.intake.conversion import recognise
from tests.support.event_samples import EVENT
from tests.support.intake_on_broker import IntakeOnBroker
from tests.support.traces import TRACES

PAYLOADS = TRACES / "native" / "litellm-generic-api"
SECRET = "a planted prompt"


def payload(**changes: Any) -> dict[str, Any]:
    """A success of 2,048 input tokens, of which 1,536 cached; TTFT 0.15 s."""
    end_s = time.time()
    return {
        "id": "chatcmpl-1",
        "litellm_call_id": "call-1",
        "call_type": "acompletion",
        "cache_hit": None,
        "stream": True,
        "status": "success",
        "custom_llm_provider": "openai",
        "model": "gpt-5",
        "startTime": end_s - 2,
        "completionStartTime": end_s - 1.85,
        "endTime": end_s,
        "prompt_tokens": 2_048,
        "completion_tokens": 120,
        "metadata": {
            "user_api_key_team_id": "team-a",
            "usage_object": {"prompt_tokens_details": {"cached_tokens": 1_536}},
        },
        "messages": [{"role": "user", "content": SECRET}],
        "response": SECRET,
        **changes,
    }


@pytest.mark.parametrize("text", ["NaN", "Infinity", '"cut \\ud83d"'])
def test_a_value_that_is_no_json_costs_itself(intake: IntakeOnBroker, text: str) -> None:
    body = json.dumps([payload(response_cost="COST"), payload(litellm_call_id="call-2")])

    async def use(client: ClientSession, _: Settings) -> dict[str, Any]:
        content = body.replace('"COST"', text).encode()
        headers = {"Content-Type": "application/json"}
        async with client.post("/v1/events", data=content, headers=headers) as response:
            return dict(await response.json())

    assert intake.run(use) == {"accepted": 2, "rejected": 0}


def test_payloads_are_recognised_and_their_prompts_go_nowhere(intake: IntakeOnBroker) -> None:
    broken = payload(litellm_call_id="call-2", endTime=SECRET, startTime=SECRET)

    async def use(client: ClientSession, settings: Settings) -> tuple[Settings, str]:
        body = json.dumps([payload(), payload(call_type="aembedding"), broken]).encode()
        async with client.post(
            "/v1/events", data=body, headers={"Content-Type": "application/json"}
        ) as response:
            assert response.status == 200
            answer = await response.text()
        async with client.get("/metrics") as response:
            return settings, answer + await response.text()

    settings, text = intake.run(use)
    assert SECRET not in text
    assert json.loads(text.partition("\n")[0].partition("# HELP")[0])["accepted"] == 1
    [[record]] = intake.broker.read(settings.kafka.topic, 1).values()
    event = json.loads(record.value)
    assert record.key == b"call-1"
    assert (event["input_tokens"], event["cached_input_tokens"]) == (2_048, 1_536)
    assert event["ttft_ms"] == pytest.approx(150, abs=1)
    letters = asyncio.run(intake.broker.read_some(settings.kafka.dlq_topic))
    assert len(letters) == 1
    assert SECRET.encode() not in b"".join(
        [letters[0].value, *(value for _, value in letters[0].headers)]
    )


def test_an_array_may_have_payloads_and_events(intake: IntakeOnBroker) -> None:
    event = {**EVENT, "request_id": "r-1", "ended_at": int(time.time() * 1_000)}
    bad = {**event, "outcome": 5}
    body = json.dumps([payload(), bad, event, payload(litellm_call_id="c", endTime=None)])

    async def use(client: ClientSession, settings: Settings) -> tuple[Settings, Any]:
        headers = {"Content-Type": "application/json"}
        async with client.post("/v1/events", data=body, headers=headers) as response:
            return settings, await response.json()

    settings, answer = intake.run(use)
    assert (answer["accepted"], answer["rejected"]) == (2, 2)
    places = [(part["index"], part["reason"]) for part in answer["partial_success"]["errors"]]
    assert places == [(1, "bad_type"), (3, "not_mapped")]
    records = asyncio.run(intake.broker.read_some(settings.kafka.topic))
    assert sorted(record.key for record in records) == [b"call-1", b"r-1"]


@pytest.mark.skipif(not PAYLOADS.is_dir(), reason=f"needs payloads: {PAYLOADS}")
@pytest.mark.parametrize("file", sorted(PAYLOADS.glob("*.json")), ids=lambda file: file.stem)
def test_every_recorded_payload_is_recognised(file: Any) -> None:
    assert recognise(file.read_bytes()) == "litellm"
