"""What a reader does with any producer: times, labels, tokens, outcomes, rejections and notes."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from streams.errors import ConfigError
from streams.intake.otlp.batch import Event, IntakeBatch
from streams.intake.otlp.profiles import AUTO, PROFILES, select_profiles
from tests.support.otlp_payloads import SPAN_ID, START_NS, TRACE_ID, read, request, span

CHAT: dict[str, object] = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"}


def batch_of(
    attributes: dict[str, object] | None = None,
    *,
    customer_attributes: Sequence[str] = (),
    **fields: Any,
) -> IntakeBatch:
    body = request(("scope", [span("chat m", CHAT | (attributes or {}), **fields)]))
    return read(body, "semconv", customer_attributes)


def event_of(attributes: dict[str, object] | None = None, **fields: Any) -> Event:
    [event] = batch_of(attributes, **fields).events
    return event


def test_identity_and_times() -> None:
    event = event_of(duration_ms=1234.5)
    assert event == {
        "request_id": f"{TRACE_ID}/{SPAN_ID}",
        "trace_id": TRACE_ID,
        "ended_at": START_NS // 1_000_000 + 1234,
        "duration_ms": 1234.5,
        "model": "m",
        "stream": False,
        "outcome": "success",
    }


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"traceId": "0" * 32}, "bad_id"),
        ({"traceId": ""}, "bad_id"),
        ({"traceId": "ab"}, "bad_id"),
        ({"spanId": "0" * 16}, "bad_id"),
        ({"endTimeUnixNano": "0"}, "bad_time"),
        ({"startTimeUnixNano": "0"}, "bad_time"),
        ({"endTimeUnixNano": str(START_NS - 1)}, "bad_time"),
    ],
)
def test_a_request_without_identity_or_time_is_rejected_alone(
    fields: dict[str, object], reason: str
) -> None:
    good = span("chat m", CHAT)
    batch = read(request(("scope", [good, good | fields])), "semconv")
    assert len(batch.events) == 1
    [rejected] = batch.rejected
    assert (rejected.reason, rejected.position) == (reason, 1)
    assert rejected.fields["model"] == "m"


@pytest.mark.parametrize(
    ("attributes", "outcome", "error_class"),
    [
        ({"http.response.status_code": 429}, "rate_limited", None),
        ({"error.type": "429"}, "rate_limited", None),
        ({"error.type": "openai.RateLimitError"}, "rate_limited", "rate"),
        ({"error.type": "ThrottlingException"}, "rate_limited", "rate"),
        ({"error.type": "APITimeoutError"}, "timeout", None),
        ({"error.type": "com.openai.errors.RateLimitException"}, "rate_limited", "rate"),
        ({"error.type": "System.OperationCanceledException"}, "cancelled", None),
        ({"error.type": "INVALID_ARGUMENT"}, "client_error", "invalid"),
        ({"error.type": "content_filter"}, "client_error", "policy"),
        ({"error.type": "504"}, "timeout", None),
        ({"error.type": "overloaded_error"}, "overloaded", None),
        ({"http.response.status_code": 529}, "overloaded", None),
        ({"error.type": "InternalServerError"}, "server_error", None),
        ({"error.type": "_OTHER"}, "server_error", None),
        ({"error.type": "AuthenticationError"}, "client_error", "auth"),
        ({"error.type": "401"}, "client_error", "auth"),
        (
            {"error.type": "ContentPolicyViolationError", "http.response.status_code": 400},
            "client_error",
            "policy",
        ),
        ({"error.type": "APIConnectionError"}, "server_error", None),
        ({"error.type": "aiohttp.client_exceptions.ClientPayloadError"}, "stream_error", None),
        ({"error.type": "ServerDisconnectedError"}, "server_error", None),
        (
            {"error.type": "APIConnectionError", "gen_ai.response.time_to_first_chunk": 0.2},
            "stream_error",
            None,
        ),
        (
            {"error.type": "InternalServerError", "http.response.status_code": 200},
            "stream_error",
            None,
        ),
        ({"error.type": "asyncio.CancelledError"}, "cancelled", None),
        ({"http.response.status_code": 499}, "cancelled", None),
        ({"gen_ai.response.finish_reasons": ["abort"]}, "cancelled", None),
    ],
)
def test_outcomes(attributes: dict[str, object], outcome: str, error_class: str | None) -> None:
    for status in (0, 2):
        event = event_of(attributes, status=status)
        assert (event["outcome"], event.get("error_class")) == (outcome, error_class)


@pytest.mark.parametrize(
    ("message", "outcome"),
    [
        ("Error code: 429 - quota", "rate_limited"),
        ("Error code: 4290", "server_error"),
        ("503 UNAVAILABLE. {'error': {'code': 503}}", "overloaded"),
        ("503 None. {}", "overloaded"),
        ("503 tokens were used", "server_error"),
        ("no Error code: 429", "server_error"),
    ],
)
def test_the_status_of_an_error_may_be_in_the_message_of_its_exception_only(
    message: str, outcome: str
) -> None:
    attributes = {"exception.type": "openai.APIStatusError", "exception.message": message}
    event = event_of(status=2, events=(("exception", 5, attributes),))
    assert event["outcome"] == outcome


def test_an_error_that_nothing_explains_is_counted_as_one_of_unknown_class() -> None:
    batch = batch_of(status=2)
    assert batch.events[0]["outcome"] == "server_error"
    assert batch.notes["unknown_error", "scope"] == 1


@pytest.mark.parametrize(
    ("reason", "ending", "outcome"),
    [
        (["stop"], "complete", "success"),
        ('["length"]', "length", "success"),
        ("tool_calls", "tool", "success"),
        (["CONTENT_FILTER"], "filtered", "success"),
        (["error"], "error_finish", "stream_error"),
        (["another"], None, "success"),
        ([], None, "success"),
    ],
)
def test_endings(reason: object, ending: str | None, outcome: str) -> None:
    event = event_of({"gen_ai.response.finish_reasons": reason})
    assert (event.get("ending"), event["outcome"]) == (ending, outcome)


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ({"input": 12, "cached": 1800, "write": 300, "output": 40, "total": 2152}, (2112, 40)),
        ({"input": 10, "output": 5, "reasoning": 20, "total": 35}, (10, 25)),
        ({"input": 10, "output": 5, "total": 15}, (10, 5)),
        ({"input": 10, "output": 5, "total": 99}, (10, 5)),
        ({"input": "10", "output": 5.0}, (10, 5)),
        ({"input": -1, "output": "many"}, (None, None)),
    ],
)
def test_tokens_are_inclusive_if_the_total_shows_it(
    sent: dict[str, object], expected: tuple[int | None, int | None]
) -> None:
    names = {
        "input": "gen_ai.usage.input_tokens",
        "output": "gen_ai.usage.output_tokens",
        "cached": "gen_ai.usage.cache_read.input_tokens",
        "write": "gen_ai.usage.cache_write.input_tokens",
        "reasoning": "gen_ai.usage.reasoning.output_tokens",
        "total": "gen_ai.usage.total_tokens",
    }
    event = event_of({names[name]: content for name, content in sent.items()})
    assert (event.get("input_tokens"), event.get("output_tokens")) == expected


@pytest.mark.parametrize("huge", [10**15, 10**40, "9" * 300, 1e300, 0.5])
def test_a_number_that_is_no_count_is_left_out_and_the_event_can_be_encoded(huge: object) -> None:
    wide = {"key": "gen_ai.usage.input_tokens", "value": {"intValue": huge}}
    sent = span("chat m", CHAT | {"gen_ai.usage.output_tokens": huge})
    sent["attributes"].append(wide if isinstance(huge, int | str) else sent["attributes"][0])
    [event] = read(request(("scope", [sent])), "semconv").events
    assert not {"input_tokens", "output_tokens"} & set(event)
    msgspec.json.encode(event)


def test_a_time_of_more_than_64_bits_costs_its_span() -> None:
    sent = span("chat m", CHAT, endTimeUnixNano=10**40)
    batch = read(request(("scope", [sent])), "semconv")
    assert [rejected.reason for rejected in batch.rejected] == ["bad_time"]


def test_only_a_named_attribute_is_the_customer_and_the_first_one_wins() -> None:
    attributes: dict[str, object] = {"user.id": "u-1", "enduser.id": "e-1"}
    assert "customer_id" not in event_of(attributes)
    [event] = batch_of(attributes, customer_attributes=["team", "user.id", "enduser.id"]).events
    assert event["customer_id"] == "u-1"


@pytest.mark.parametrize(
    ("attributes", "trace_state", "expected"),
    [
        ({}, "ot=th:c", 1),
        ({}, "vendor=1,ot=rv:0123;th:8", 1),
        ({}, "ot=th:0", 0),
        ({}, "other=th:c", 0),
        ({"sampling.probability": 0.1}, "", 1),
        ({"sampling.probability": 1.0}, "", 0),
        ({"SampleRate": 10}, "", 1),
    ],
)
def test_a_sampled_stream_is_noted(
    attributes: dict[str, object], trace_state: str, expected: int
) -> None:
    batch = batch_of(attributes, traceState=trace_state)
    assert batch.notes["sampled", "scope"] == expected
    assert len(batch.events) == 1


def test_operations_that_are_no_inference_are_skipped_and_those_with_usage_counted_apart() -> None:
    usage: dict[str, object] = {"gen_ai.usage.input_tokens": 5}
    batch = read(
        request(
            (
                "scope",
                [
                    span("execute_tool t", {"gen_ai.operation.name": "execute_tool"}),
                    span("invoke_agent a", {"gen_ai.operation.name": "invoke_agent"} | usage),
                    span("odd", {"gen_ai.operation.name": ["chat"]}),
                ],
            )
        ),
        "semconv",
    )
    assert batch.events == []
    assert dict(batch.skipped) == {("no_request", "scope"): 2, ("repeats_usage", "scope"): 1}


def test_every_span_is_counted_once() -> None:
    batch = batch_of()
    total = len(batch.events) + batch.skipped.total() + len(batch.rejected)
    assert total == batch.spans == 1


def test_profiles_are_chosen_by_name() -> None:
    assert select_profiles(AUTO) == PROFILES
    names = [profile.name for profile in PROFILES]
    assert len(set(names)) == len(names)
    assert all(
        [profile.name] == [p.name for p in select_profiles(profile.name)] for profile in PROFILES
    )
    with pytest.raises(ConfigError, match="litellm-v2"):
        select_profiles("litellm")
