"""POST /v1/events: what arrives in Kafka, and how the intake answers."""

import asyncio
import gzip
import json
import time
from base64 import b64encode
from pathlib import Path
from typing import Any

import cramjam
import pytest
from aiohttp import ClientSession

from streams.config.settings import Settings
from streams.intake.delivery import Delivery
from streams.kafka.dead_letters import RECORDS_PER_REQUEST, DeadLetterHeaders
from tests.support.event_samples import EVENT
from tests.support.intake_on_broker import IntakeOnBroker

PATH = "/v1/events"
LINES, CLOUD, CLOUD_BATCH = (
    "application/x-ndjson",
    "application/cloudevents+json",
    "application/cloudevents-batch+json",
)


def event(number: int, **changes: Any) -> dict[str, Any]:
    return {**EVENT, "request_id": f"r-{number}", "ended_at": int(time.time() * 1_000), **changes}


def cloud(data: Any, **attributes: Any) -> dict[str, Any]:
    return {"specversion": "1.0", "id": "e-1", "source": "s", "type": "t", **attributes} | {
        "data": data
    }


def text(content: Any) -> bytes:
    return json.dumps(content).encode()


async def post(
    client: ClientSession, body: bytes, content_type: str = "application/json", **headers: str
) -> tuple[int, dict[str, Any], dict[str, str]]:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    async with client.post(
        PATH, data=body, headers={"Content-Type": content_type, **names}
    ) as response:
        return response.status, await response.json(), dict(response.headers)


@pytest.mark.parametrize(
    ("content_type", "body", "count"),
    [
        ("application/json", text(event(0)), 1),
        ("application/json; charset=utf-8", text([event(0), event(1)]), 2),
        ("application/json", b"[]", 0),
        (LINES, b"\n".join(text(event(n)) for n in range(3)) + b"\n\n", 3),
        ("application/json", b"\n".join(text(event(n)) for n in range(2)), 2),
        (CLOUD, text(cloud(event(0))), 1),
        (CLOUD, text(cloud(json.dumps(event(0)))), 1),
        (CLOUD, text(cloud(None, data_base64=b64encode(text(event(0))).decode())), 1),
        (CLOUD_BATCH, text([cloud(event(0)), cloud(event(1))]), 2),
    ],
)
def test_every_form_of_a_body_becomes_events_under_their_request_ids(
    intake: IntakeOnBroker, content_type: str, body: bytes, count: int
) -> None:
    async def use(client: ClientSession, settings: Settings) -> Settings:
        status, content, _ = await post(client, body, content_type)
        assert (status, content) == (200, {"accepted": count, "rejected": 0})
        return settings

    settings = intake.run(use)
    [records] = intake.broker.read(settings.kafka.topic, count).values()
    assert [record.key for record in records] == [b"r-%d" % n for n in range(count)]
    assert [json.loads(record.value)["request_id"].encode() for record in records] == [
        record.key for record in records
    ]


def test_a_cloud_event_gives_its_id_and_time_to_an_event_without(intake: IntakeOnBroker) -> None:
    data = {name: value for name, value in event(0).items() if name != "request_id"}
    del data["ended_at"]
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())

    async def use(client: ClientSession, settings: Settings) -> str:
        status, *_ = await post(client, text(cloud(data, id="ce-7", time=moment)), CLOUD)
        assert status == 200
        return settings.kafka.topic

    [[record]] = intake.broker.read(intake.run(use), 1).values()
    assert record.key == b"ce-7"
    assert json.loads(record.value)["ended_at"] == moment


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_a_compressed_body_is_read_and_its_content_is_limited(
    intake: IntakeOnBroker, encoding: str
) -> None:
    packed = {"gzip": gzip.compress, "zstd": lambda data: bytes(cramjam.zstd.compress(data))}
    events = text([event(0), event(1)])
    bomb = packed[encoding](b" " * 100_000 + events)
    assert len(bomb) < 2_000

    async def use(client: ClientSession, _settings: Settings) -> list[int]:
        answers = []
        for body in (packed[encoding](events), bomb, packed[encoding](events)[:-9], b"{}"):
            answers.append((await post(client, body, Content_Encoding=encoding))[0])
        return answers

    assert intake.run(use, max_decoded_bytes=50_000) == [200, 413, 400, 400]


def test_what_cannot_be_read_is_answered_with_its_status(intake: IntakeOnBroker) -> None:
    async def use(client: ClientSession, _settings: Settings) -> list[int]:
        answers = [
            await post(client, b"x" * 5_000),
            await post(client, b"not json"),
            await post(client, b"[1, 2]"),
            await post(client, b'[{"a": 1}'),
            await post(client, text([{}] * 11)),
            await post(client, b"\n" * 12, LINES),
            await post(client, b"{}", "text/plain"),
            await post(client, b"{}", Content_Encoding="br"),
        ]
        assert all("error" in content or content["rejected"] for _, content, _ in answers)
        return [status for status, *_ in answers]

    statuses = intake.run(use, max_body_bytes=4_000, max_records=10)
    assert statuses == [413, 400, 400, 400, 413, 413, 415, 415]


def test_elements_of_an_array_that_are_no_objects_cost_only_themselves(
    intake: IntakeOnBroker,
) -> None:
    body = text([event(0), None, 5, [], "x", event(1)])

    async def use(client: ClientSession, _: Settings) -> tuple[int, Any]:
        assert (await post(client, b"[1" + b",1" * 1_000_001 + b"]"))[0] == 413
        assert (await post(client, text([event(0), *[1] * 10])))[0] == 413
        status, content, _headers = await post(client, body)
        return status, content

    status, content = intake.run(use, max_records=10)
    assert (status, content["accepted"], content["rejected"]) == (200, 2, 4)
    errors = content["partial_success"]["errors"]
    assert [(error["index"], error["reason"]) for error in errors] == [
        (index, "bad_type") for index in (1, 2, 3, 4)
    ]


def test_an_element_of_an_array_that_is_nested_too_deep_costs_only_itself(
    intake: IntakeOnBroker,
) -> None:
    deep = '{"a": ' + "[" * 5_000 + '"],[{" ' + "]" * 5_000 + "}"
    good = [json.dumps(event(number, error='a "],[{\\" b')) for number in range(2)]

    async def use(client: ClientSession, _: Settings) -> tuple[tuple[int, Any, Any], list[int]]:
        answer = await post(client, f" [{good[0]} , {deep},{good[1]}] ".encode())
        broken = (f"[{good[0]}, {deep}", f"[{deep}] {good[0]}", f"[{deep}, 1, 2, 3, 4, 5]")
        return answer, [(await post(client, body.encode()))[0] for body in broken]

    (status, content, _headers), statuses = intake.run(use, max_records=4)
    assert (status, content["accepted"], content["rejected"]) == (200, 2, 1)
    [error] = content["partial_success"]["errors"]
    assert (error["index"], error["reason"]) == (1, "too_deep")
    assert statuses == [400, 400, 413]


def test_a_token_may_name_a_mapping_that_is_also_a_profile(
    intake: IntakeOnBroker, tmp_path: Path
) -> None:
    tokens = tmp_path / "tokens.yaml"
    tokens.write_text("senders: [{token: 0123456789abcdef, tenant: gateway, source: kong}]")
    entry = {"started_at": event(0)["ended_at"], "latencies": {"request": 5}}
    entry |= {"response": {"status": 200}, "request": {"id": "k"}, "ai": {"proxy": {"usage": {}}}}

    async def use(client: ClientSession, _: Settings) -> tuple[int, int]:
        login = "Bearer 0123456789abcdef"
        status, content, _headers = await post(client, text([entry]), Authorization=login)
        return status, content["accepted"]

    assert intake.run(use, tokens_file=tokens) == (200, 1)


def test_a_body_for_the_other_path_is_answered_with_that_path(intake: IntakeOnBroker) -> None:
    traces: dict[str, list[Any]] = {"resourceSpans": []}

    async def use(client: ClientSession, _: Settings) -> None:
        for body, content_type in ((text(traces), "application/json"), (text(traces), LINES)):
            status, content, _headers = await post(client, body, content_type)
            assert (status, content["error"]) == (
                400,
                "the body contains OpenTelemetry traces; send it to /v1/traces",
            )
        # An event that only names the word is an event.
        status, content, _headers = await post(client, text(event(0, use_case="resourceSpans")))
        assert (status, content["accepted"]) == (200, 1)
        headers = {"Content-Type": "application/json"}
        async with client.post("/v1/traces", data=text(event(1)), headers=headers) as response:
            assert response.status == 400
            assert "send events to /v1/events" in await response.text()

    intake.run(use)


def test_a_rejected_record_is_answered_with_its_fix_and_becomes_a_dead_letter(
    intake: IntakeOnBroker,
) -> None:
    bad = event(1, ended_at="yesterday")

    async def use(client: ClientSession, settings: Settings) -> Settings:
        status, content, _ = await post(client, text([event(0), bad]))
        assert status == 200
        assert (content["accepted"], content["rejected"]) == (1, 1)
        [error] = content["partial_success"]["errors"]
        assert (error["index"], error["reason"]) == (1, "bad_type")
        assert error["detail"].startswith("ended_at: ")
        assert error["fix"]
        status, content, _ = await post(client, text([bad]))
        assert (status, content["accepted"]) == (400, 0)
        return settings

    settings = intake.run(use)
    intake.broker.read(settings.kafka.topic, 1)
    letters = [
        letter
        for records in intake.broker.read(settings.kafka.dlq_topic, 2).values()
        for letter in records
    ]
    assert {letter.value for letter in letters} == {text(bad)}
    origins = [DeadLetterHeaders.parse(letter.headers) for letter in letters]
    assert {(origin.topic, origin.reason) for origin in origins} == {
        ("/v1/events:anonymous", "bad_type")
    }
    # Their places in the two requests.
    assert {origin.offset % RECORDS_PER_REQUEST for origin in origins} == {0, 1}
    assert len({origin.offset for origin in origins}) == 2


def test_members_of_other_names_reach_no_topic(intake: IntakeOnBroker) -> None:
    others: dict[str, Any] = {"prompt": "Ada", "messages": [{"content": "Ada"}], "api_key": "Ada"}

    async def use(client: ClientSession, settings: Settings) -> Settings:
        body = text([event(0, **others), event(1, ended_at="yesterday", **others), event(2)])
        status, content, _ = await post(client, body)
        assert (status, content["accepted"], content["rejected"]) == (200, 2, 1)
        return settings

    settings = intake.run(use)
    for topic, count in ((settings.kafka.topic, 2), (settings.kafka.dlq_topic, 1)):
        records = [r for part in intake.broker.read(topic, count).values() for r in part]
        assert all(b"request_id" in record.value for record in records)
        assert "Ada" not in repr(records)


async def metrics_page(client: ClientSession) -> str:
    async with client.get("/metrics") as answer:
        return await answer.text()


def test_senders_that_stop_within_a_body_take_no_room_of_others(intake: IntakeOnBroker) -> None:
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        "Content-Length: 60000\r\n\r\n["
    ).encode()

    async def use(client: ClientSession, settings: Settings) -> None:
        base = client._base_url
        assert base is not None
        stalled = [await asyncio.open_connection(base.host, base.port) for _ in range(8)]
        for _reader, writer in stalled:
            writer.write(head)
            await writer.drain()
        await asyncio.sleep(0.1)
        assert (await post(client, text(event(0))))[0] == 200
        for reader, writer in stalled:
            answer = await reader.readuntil(b"\r\n")
            assert answer.startswith(b"HTTP/1.1 503")
            writer.close()
        # That says nothing about Kafka, so it is not one of the answers that page.
        assert "tokenpulse_intake_undelivered_total{" not in await metrics_page(client)

    intake.run(
        use,
        answer_timeout_s=1,
        max_body_bytes=60_000,
        max_decoded_bytes=60_000,
        max_in_flight_bytes=100_000,
    )


def test_a_sender_needs_its_token(intake: IntakeOnBroker, tokens_file: Path) -> None:
    async def use(client: ClientSession, _settings: Settings) -> str:
        for token in ("", "Bearer", "Bearer 0123456789abcdeX", "Basic 0123456789abcdef"):
            status, _, headers = await post(client, text(event(0)), Authorization=token)
            assert status == 401
            assert headers["WWW-Authenticate"].startswith("Bearer")
        status, *_ = await post(client, text(event(0)), Authorization="Bearer 0123456789abcdef")
        assert status == 200
        async with client.get("/metrics") as response:
            return await response.text()

    page = intake.run(use, tokens_file=tokens_file)
    assert 'tokenpulse_intake_events_total{source="gateway"} 1.0' in page
    assert 'tokenpulse_intake_answers_total{code="401",source="unknown"} 4.0' in page
    assert "tokenpulse_intake_in_flight_bytes 0.0" in page


def test_a_broker_that_stands_still_costs_answers_and_no_memory(
    intake: IntakeOnBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = asyncio.Event()
    send = Delivery._send

    async def stand_still(self: Delivery, group: list[Any]) -> None:
        await released.wait()
        await send(self, group)

    monkeypatch.setattr(Delivery, "_send", stand_still)
    body = text([event(number) for number in range(20)])

    async def use(client: ClientSession, settings: Settings) -> None:
        room = settings.intake.max_in_flight_bytes
        for _ in range(room // len(body)):
            status, content, headers = await post(client, body)
            assert (status, headers["Retry-After"]) == (503, "7")
            assert "does not confirm" in content["error"]
        began_s = time.monotonic()
        status, content, _ = await post(client, body)
        assert status == 503
        assert "wait for Kafka (intake.max_in_flight_bytes)" in content["error"]
        assert time.monotonic() - began_s < settings.intake.answer_timeout_s
        waited = f"{room // len(body) + 1}.0"
        assert f'undelivered_total{{source="anonymous"}} {waited}' in await metrics_page(client)
        released.set()
        for _ in range(100):  # the first may find the bytes of those that waited
            if (await post(client, body))[0] == 200:
                return
        pytest.fail("the intake takes no events although the broker does")

    size = len(body)
    intake.run(
        use,
        answer_timeout_s=0.15,
        retry_after_s=7,
        max_in_flight_bytes=size * 5 // 2,
        max_decoded_bytes=size,
    )


def test_the_health_pages_answer(intake: IntakeOnBroker) -> None:
    async def use(client: ClientSession, _settings: Settings) -> list[int]:
        return [(await client.get(path)).status for path in ("/healthz", "/readyz", PATH)]

    assert intake.run(use) == [200, 200, 405]
