"""Confluent's producer and serialisers, unmodified: their records become the events they held.

`bash tests/provision.sh` makes the environment that they run in.
"""

import asyncio
import json
import subprocess
import time
from collections.abc import Iterator
from typing import Any
from urllib.request import urlopen

import pytest
from aiokafka import AIOKafkaProducer

from streams.config.schema_registry import SchemaRegistry
from tests.support.framed_events import event_schema, framed
from tests.support.intake_process import IntakeProcess
from tests.support.producers import CONFLUENT, producers_python
from tests.support.schema_registry import Registry, schema_registry
from tests.support.servers import Broker, wait_until

pytestmark = [pytest.mark.stack]

LOGIN = ("intake", "a secret")
ENCODINGS = ("confluent_avro", "confluent_json", "confluent_protobuf")


def events() -> list[dict[str, Any]]:
    """Return an answer, a stream whose usage is not known, and an error without a first token."""
    common = {"ended_at": int(time.time() * 1_000), "model": "opus", "duration_ms": 2_100}
    answer = common | {"input_tokens": 2**40, "output_tokens": 120, "stream": False}
    return [
        {"request_id": "r-1", "outcome": "success", "ttft_ms": 240} | answer,
        {"request_id": "r-2", "outcome": "success", "ttft_ms": 250, "stream": True} | common,
        {"request_id": "r-3", "outcome": "rate_limited", "stream": True} | common,
    ]


@pytest.fixture
def registry() -> Iterator[Registry]:
    with schema_registry() as running:
        yield running


def produce(broker: Broker, registry: Registry, *arguments: str) -> None:
    python = producers_python("confluent")
    done = subprocess.run(
        [python, CONFLUENT, broker.bootstrap, registry.url, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


def read(broker: Broker, topic: str) -> list[dict[str, Any]]:
    found = [json.loads(record.value) for record in asyncio.run(broker.read_some(topic))]
    # Avro writes what is not known as null.
    known = [{name: value for name, value in e.items() if value is not None} for e in found]
    return sorted(known, key=lambda event: str(event["request_id"]))


@pytest.mark.parametrize("place", ["prefix", "header"])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_events_are_those_that_the_producer_serialised(
    encoding: str, place: str, broker: Broker, registry: Registry
) -> None:
    kafka, source = broker.new_kafka(), broker.new_topic(partitions=1)
    produce(broker, registry, source, encoding, json.dumps(events()), place)
    registry.login = LOGIN
    login = {"username": LOGIN[0], "password": LOGIN[1], "allow_login_without_tls": True}
    section = SchemaRegistry(url=registry.url, **login)
    sources = ({"topic": source, "format": "events", "encoding": encoding},)
    with IntakeProcess(kafka, section, sources=sources):
        wait_until(lambda: len(read(broker, kafka.topic)) >= 3, "three events", 60)
    found = read(broker, kafka.topic)
    for event in found:
        event.pop("ended_at")
    assert found == [
        {name: value for name, value in event.items() if name != "ended_at"} for event in events()
    ]


def test_records_wait_while_the_registry_is_down(broker: Broker, registry: Registry) -> None:
    kafka, source = broker.new_kafka(), broker.new_topic(partitions=1)
    produce(broker, registry, source, "confluent_avro", json.dumps(events()))
    registry.answers_503 = True
    registry.asked.clear()
    sources = ({"topic": source, "format": "events", "encoding": "confluent_avro"},)
    with IntakeProcess(kafka, SchemaRegistry(url=registry.url), sources=sources) as intake:
        wait_until(lambda: len(registry.asked) >= 2, "the intake asks again", 60)
        assert read(broker, kafka.topic) == []
        # What was not converted is read again by the next process.
        intake.restart()
        registry.answers_503 = False
        wait_until(lambda: len(read(broker, kafka.topic)) >= 3, "three events", 60)
    assert read(broker, kafka.dlq_topic) == []


def test_a_partition_that_waits_for_a_schema_holds_no_other_one(
    broker: Broker, registry: Registry
) -> None:
    kafka, source = broker.new_kafka(), broker.new_topic(partitions=2)
    known = registry.register("a", event_schema("A"))
    late = known + 1
    event = {**events()[0], "input_tokens": 7}

    async def send(partition: int, number: int, schema: int) -> None:
        value = framed({**event, "request_id": f"r-{partition}-{number}"}, schema)
        async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap) as producer:
            await producer.send_and_wait(source, value, partition=partition)

    def ids() -> list[str]:
        return [str(found["request_id"]) for found in read(broker, kafka.topic)]

    sources = ({"topic": source, "format": "events", "encoding": "confluent_avro"},)
    with IntakeProcess(kafka, SchemaRegistry(url=registry.url), sources=sources) as intake:
        asyncio.run(send(0, 1, late))
        wait_until(lambda: _waits(intake, source, 0), "partition 0 waits", 60)
        for number in (1, 2):
            asyncio.run(send(1, number, known))
            wait_until(lambda: len(ids()) == number, "partition 1 is read", 30)  # noqa: B023
        asyncio.run(send(0, 2, known))
        assert ids() == ["r-1-1", "r-1-2"]
        registry.register("b", event_schema("B"))
        wait_until(lambda: len(ids()) == 4, "partition 0 is read", 30)
        assert not _waits(intake, source, 0)
    assert ids() == ["r-0-1", "r-0-2", "r-1-1", "r-1-2"]


def _waits(intake: IntakeProcess, topic: str, partition: int) -> bool:
    name = f'waiting_for_schema{{partition="{partition}",source="{topic}"}} 1.0'
    with urlopen(f"{intake.url}/metrics", timeout=5) as page:
        return name in page.read().decode()
