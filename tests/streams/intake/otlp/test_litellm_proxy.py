"""LiteLLM's proxy: what only the SERVER span has corrects the CLIENT span beside it."""

from typing import Any

import pytest

from streams.intake.otlp.batch import IntakeBatch
from streams.intake.otlp.decode import JSON, read_traces
from streams.intake.otlp.litellm_proxy import EarlierRequests
from streams.intake.otlp.requests import RequestReader
from tests.support.otlp_payloads import read, request, span

SERVER, ROUTE, CLIENT, SECOND = ("aa" * 8, "bb" * 8, "cc" * 8, "dd" * 8)
TRACE = "ab" * 16


def server(status_code: int, *, error: str = "", **fields: object) -> dict[str, Any]:
    attributes: dict[str, object] = {
        "http.route": "/v1/chat/completions",
        "http.response.status_code": status_code,
    }
    if error:
        attributes["error.type"] = error
    return (
        span(
            "POST /v1/chat/completions",
            attributes,
            kind=2,
            status=2 if error else 0,
            duration_ms=1500,
            traceId=TRACE,
            spanId=SERVER,
        )
        | fields
    )


def client(
    span_id: str = CLIENT, *, error: str = "", duration_ms: float = 1000, **fields: object
) -> dict[str, Any]:
    attributes: dict[str, object] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "good",
        "gen_ai.response.time_to_first_chunk": 0.155,
        "litellm.request.streaming": True,
        "gen_ai.usage.input_tokens": 8,
        "gen_ai.usage.output_tokens": 3,
        "gen_ai.usage.cache_read.input_tokens": 0,
    }
    attributes |= {"error.type": error} if error else {"gen_ai.response.finish_reasons": ["stop"]}
    return (
        span(
            "chat good",
            attributes,
            status=2 if error else 0,
            duration_ms=duration_ms,
            traceId=TRACE,
            spanId=span_id,
            parentSpanId=ROUTE,
        )
        | fields
    )


def route() -> dict[str, Any]:
    return span("route good", {}, kind=1, traceId=TRACE, spanId=ROUTE, parentSpanId=SERVER)


def joined(
    servers: list[dict[str, Any]], clients: list[dict[str, Any]], profile: str = "auto"
) -> IntakeBatch:
    return read(request(("fastapi", servers), ("litellm", [route(), *clients])), profile)


def test_a_good_call_is_one_event() -> None:
    batch = joined([server(200)], [client()])
    [event] = batch.events
    assert event["request_id"] == f"{TRACE}/{CLIENT}"
    assert (event["outcome"], event["input_tokens"]) == ("success", 8)
    assert "attempt_of" not in event
    assert dict(batch.skipped) == {("joined", "fastapi"): 1, ("no_request", "litellm"): 1}
    assert batch.spans == 3


def test_a_client_that_left_is_a_cancellation_without_the_estimated_tokens() -> None:
    [event] = joined([server(200, error="ConnectionError")], [client()]).events
    assert (event["outcome"], event["ending"]) == ("cancelled", "cancelled_after_first")
    assert event["ttft_ms"] == 155
    assert not [name for name in event if name.endswith("_tokens")]


def test_a_cut_stream_is_a_stream_error_though_its_server_span_is_good() -> None:
    [event] = joined([server(200)], [client(error="APIConnectionError")]).events
    assert event["outcome"] == "stream_error"
    assert not [name for name in event if name.endswith("_tokens")]


def test_an_unknown_model_has_a_server_span_only_and_is_the_clients_error() -> None:
    batch = joined([server(400)], [])
    [event] = batch.events
    assert event["request_id"] == f"{TRACE}/{SERVER}"
    assert (event["outcome"], event["error_class"]) == ("client_error", "invalid")
    assert event["duration_ms"] == 1500


def test_a_client_that_left_before_the_provider_answered_has_a_server_span_only() -> None:
    [event] = joined([server(200, error="ClientDisconnect")], []).events
    assert (event["outcome"], event["ending"]) == ("cancelled", "cancelled_before_first")


def test_a_server_span_of_an_answer_alone_waits_for_no_client_span() -> None:
    batch = joined([server(200)], [])
    assert batch.events == []
    assert batch.skipped["no_client_span", "fastapi"] == 1


def test_a_fallback_is_two_attempts_at_one_request() -> None:
    failed = client(SECOND, error="InternalServerError", duration_ms=40)
    first, last = sorted(
        joined([server(200)], [client(), failed]).events, key=lambda event: event["final"]
    )
    assert first["request_id"] == f"{TRACE}/{SECOND}"
    assert (first["outcome"], first["final"]) == ("server_error", False)
    assert (last["outcome"], last["final"]) == ("success", True)
    assert {first["attempt_of"], last["attempt_of"]} == {f"{TRACE}/{SERVER}"}


def read_in_turn(*records: list[tuple[str, list[dict[str, Any]]]]) -> list[IntakeBatch]:
    """What one reader makes of the records of a proxy, one after the other."""
    reader = RequestReader()
    resource: dict[str, object] = {"service.name": "litellm"}
    return [
        reader.read(read_traces(request(*groups, resource=resource), JSON)) for groups in records
    ]


@pytest.mark.parametrize("end", [server(500), server(200, error="ConnectionError")])
def test_spans_in_two_records_are_one_event(end: dict[str, Any]) -> None:
    failed = client(error="InternalServerError", parentSpanId=SERVER)
    # The SERVER span of another call in the same trace has an event.
    other = end | {"spanId": "ee" * 8}
    first, second, third = read_in_turn(
        [("litellm", [failed])], [("fastapi", [end])], [("fastapi", [other])]
    )
    assert [event["outcome"] for event in first.events] == ["server_error"]
    assert second.events == []
    assert second.skipped["no_client_span", "fastapi"] == 1
    assert not second.notes  # the outcome is right
    assert len(third.events) == 1
    assert dict(third.notes) == {("server_span_only", "fastapi"): 1}


LEFT = server(200, error="ConnectionError")


@pytest.mark.parametrize(
    ("error", "end", "expected"),
    [("", LEFT, 1), ("", server(200), 0), ("InternalServerError", LEFT, 0)],
)
def test_a_cancellation_that_counts_as_a_success_is_noted(
    error: str, end: dict[str, Any], expected: int
) -> None:
    answered = client(error=error, parentSpanId=SERVER)
    first, second = read_in_turn([("litellm", [answered])], [("fastapi", [end])])
    assert [event["outcome"] for event in first.events] == ["server_error" if error else "success"]
    assert (second.events, sum(first.notes.values())) == ([], 0)
    assert second.notes["split_request", "fastapi"] == expected


def test_an_attempt_that_counts_as_a_request_of_its_own_is_noted() -> None:
    failed = client(SECOND, error="InternalServerError", duration_ms=40, parentSpanId=SERVER)
    answered = client(parentSpanId=SERVER)
    first, second = read_in_turn(
        [("litellm", [failed])], [("litellm", [answered]), ("fastapi", [server(200)])]
    )
    assert ["final" in batch.events[0] for batch in (first, second)] == [False, False]
    assert dict(second.notes) == {("split_request", "fastapi"): 1}
    third = read_in_turn(
        [("litellm", [failed])], [("litellm", [answered])], [("fastapi", [server(200)])]
    )[-1]
    assert dict(third.notes) == {("split_request", "fastapi"): 1}


def test_the_newest_earlier_requests_are_remembered() -> None:
    earlier = EarlierRequests(most=4)
    for number in range(7):
        earlier.add(str(number), is_success=number == 5)
    # A failed attempt does not undo the success of another.
    earlier.add("5", is_success=False)
    remembered = [earlier.get(str(number)) for number in range(8)]
    assert remembered == [None] * 4 + [(1, False), (2, True), (1, False), None]


def test_two_calls_of_one_trace_find_their_own_server_span_along_the_parents() -> None:
    other_server = server(200, error="ConnectionError", spanId="ee" * 8)
    other_client = client(SECOND, parentSpanId="ee" * 8)
    batch = joined([server(200), other_server], [client(), other_client])
    assert {event["request_id"][-16:]: event["outcome"] for event in batch.events} == {
        CLIENT: "success",
        SECOND: "cancelled",
    }


def test_other_routes_are_no_requests() -> None:
    health = server(200) | {"name": "GET /health/liveliness", "attributes": []}
    counting = server(
        404,
        attributes=span("", {"http.route": "/v1/messages/count_tokens"})["attributes"],
    )
    batch = joined([health, counting], [])
    assert batch.events == []
    assert batch.skipped["no_request", "fastapi"] == 2


def test_server_spans_of_another_application_are_not_those_of_a_proxy() -> None:
    body = request(("fastapi", [server(500)]))
    batch = read(body)
    assert batch.events == []
    assert dict(batch.skipped) == {("unknown_scope", "fastapi"): 1}
    assert len(read(body, "litellm-v2").events) == 1


def test_a_span_without_times_gives_no_event() -> None:
    batch = joined([server(400, startTimeUnixNano="0")], [])
    assert batch.events == []
