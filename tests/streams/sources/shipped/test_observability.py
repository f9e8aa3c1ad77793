"""CloudEvents and Langfuse: events and observations that other products store."""

import base64
import json
from pathlib import Path
from typing import Any

from tests.support.shipped_mappings import END_MS, NATIVE, event, mapped, needs_payloads


def test_cloudevents_lend_their_id_subject_and_time_to_the_event() -> None:
    envelope = {
        "specversion": "1.0",
        "id": "7",
        "source": "gateway",
        "subject": "red",
        "time": "2026-11-20T10:00:02Z",
    }
    data = {"model": "m", "status_code": 429, "usage": {"prompt_tokens": 5}}
    expected = {
        "request_id": "gateway/7",
        "ended_at": END_MS,
        "model": "m",
        "customer_id": "red",
        "outcome": "rate_limited",
        "status_code": 429,
        "input_tokens": 5,
    }
    assert event("cloudevents", {**envelope, "data": data}) == expected
    assert event("cloudevents", {**envelope, "data": json.dumps(data)}) == expected


@needs_payloads
def test_metering_events_of_openmeter_are_successes() -> None:
    for path in Path(NATIVE / "cloudevents-openmeter").glob("*.json"):
        assert event("cloudevents", json.loads(path.read_text()))["outcome"] == "success"


def langfuse(usage: dict[str, int], **changes: Any) -> dict[str, Any]:
    return {
        "id": "o1",
        "type": "GENERATION",
        "startTime": "2026-11-20T10:00:00.000Z",
        "completionStartTime": "2026-11-20T10:00:00.500Z",
        "endTime": "2026-11-20T10:00:02.000Z",
        "model": "m",
        "usageDetails": usage,
        **changes,
    }


def test_langfuse_usage_has_the_cache_beside_the_input_or_within_it() -> None:
    beside = {"input": 100, "input_cached_tokens": 50, "output": 10, "total": 160}
    within = {**beside, "total": 110}
    assert event("langfuse", langfuse(beside))["input_tokens"] == 150
    assert event("langfuse", langfuse(within))["input_tokens"] == 100
    assert event("langfuse", langfuse(within))["ttft_ms"] == 500
    failed = langfuse(within, level="ERROR", statusMessage="Error code: 429 - slow down")
    assert event("langfuse", failed)["outcome"] == "rate_limited"
    assert mapped("langfuse", langfuse(within, type="SPAN")).skipped == 1


def test_cloudevents_of_binary_data_are_in_base64() -> None:
    envelope = {"id": "7", "source": "gateway", "time": "2026-11-20T10:00:02Z"}
    packed = base64.b64encode(b'{"model": "m", "duration_ms": 4}').decode()
    found = event("cloudevents", {**envelope, "data_base64": packed})
    assert (found["model"], found["duration_ms"]) == ("m", 4)
    # What is no JSON, or no base64, is an event of which only the envelope is known.
    for damaged in ("AAEC", "%"):
        assert event("cloudevents", {**envelope, "data_base64": damaged})["ended_at"] == END_MS


def test_cloudevents_that_meter_input_and_output_apart_are_no_requests() -> None:
    envelope = {"id": "7", "source": "gateway", "time": "2026-11-20T10:00:02Z"}
    metered = {"model": "gpt-4", "type": "input", "tokens": "100"}
    batch = mapped("cloudevents", {**envelope, "data": metered})
    assert (batch.rows, batch.failures, batch.skipped) == ([], [], 1)
    assert mapped("cloudevents", {**envelope, "data": {**metered, "type": "chat"}}).skipped == 0


def test_langfuse_answers_of_the_api_are_lists_and_unfinished_generations_are_left_out() -> None:
    usage = {"input": 100, "output": 10, "total": 110}
    limited = langfuse({}, id="o2", level="ERROR", statusMessage="429 Too Many Requests")
    unfinished = langfuse(usage, id="o3", endTime=None)
    answer = {"data": [langfuse(usage), limited, unfinished], "meta": {"page": 1}}
    batch = mapped("langfuse", answer)
    assert batch.failures == []
    assert [(row.event["request_id"], row.event["outcome"]) for row in batch.rows] == [
        ("o1", "success"),
        ("o2", "rate_limited"),
    ]
    assert mapped("langfuse", unfinished).skipped == 1
