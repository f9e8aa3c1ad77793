"""An intake that is killed at random: no answered event is lost, no record of a source either.

Events that are sent again, and records that are read again, count once: by their request id.
"""

import asyncio
import json
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import redis
from aiohttp import ClientError, ClientSession

from streams.config.schema_registry import SchemaRegistry
from streams.config.settings import Settings
from streams.kafka.producer import EventProducer, produce
from tests.support.event_samples import EVENT
from tests.support.framed_events import event_schema, framed
from tests.support.intake_process import IntakeProcess
from tests.support.schema_registry import schema_registry
from tests.support.servers import Broker, RedisServer, wait_until
from tests.support.worker_process import State, WorkerProcess, report, worker_settings

RECORDS, KILLS = 3_000, 2
INPUT_TOKENS = 1_000


def event(number: int) -> bytes:
    ended_at = int(time.time() * 1_000)
    return json.dumps(
        {**EVENT, "input_tokens": INPUT_TOKENS, "request_id": f"r-{number}", "ended_at": ended_at}
    ).encode()


def assert_each_counted_once(settings: Settings, log: list[Any], directory: Path) -> None:
    """A worker counts what is in the log, and the report has each request once."""
    ends = Counter(record.partition for record in log)
    with (
        redis.Redis.from_url(settings.redis.url) as client,
        WorkerProcess(settings, directory / "worker.log") as worker,
    ):
        State(settings, client).wait_for(ends)
        assert worker.stop() == 0
    total = report(settings)["total"]
    assert total["requests"] == RECORDS
    assert total["tokens"]["input"] == RECORDS * INPUT_TOKENS
    assert total["duplicates"] == len(log) - RECORDS


def ids_of(log: list[Any]) -> set[str]:
    return {json.loads(record.value)["request_id"] for record in log}


def log_of(broker: Broker, settings: Settings) -> list[Any]:
    return asyncio.run(broker.read_some(settings.kafka.topic))


@pytest.mark.slow
def test_no_answered_event_is_lost(
    broker: Broker, redis_server: RedisServer, tmp_path: Path
) -> None:
    settings = worker_settings(broker, redis_server.url, partitions=2)
    intake = IntakeProcess(settings.kafka)
    answered: set[str] = set()

    async def send(client: ClientSession, first: int) -> None:
        """Send events in small requests, each again until it is answered with 200."""
        for start in range(first, RECORDS, 60):
            numbers = range(start, start + 20)
            body = b"[" + b",".join(map(event, numbers)) + b"]"
            while True:
                try:
                    async with client.post(
                        f"{intake.url}/v1/events",
                        data=body,
                        headers={"Content-Type": "application/json"},
                    ) as response:
                        if response.status == 200:
                            answered.update(f"r-{number}" for number in numbers)
                            break
                except ClientError:
                    pass
                await asyncio.sleep(0.02)

    async def run() -> None:
        dice = random.Random(7)
        async with ClientSession() as client:
            senders = [asyncio.create_task(send(client, first)) for first in (0, 20, 40)]
            for _ in range(KILLS):
                await asyncio.sleep(dice.uniform(0.02, 0.15))
                await asyncio.to_thread(intake.restart)
            await asyncio.gather(*senders)

    with intake:
        asyncio.run(run())
        assert intake.stop() == 0
    assert len(answered) == RECORDS
    log = log_of(broker, settings)
    assert ids_of(log) == answered
    assert_each_counted_once(settings, log, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["plain", "confluent_avro"])
def test_no_record_of_a_source_topic_is_lost(
    encoding: str, broker: Broker, redis_server: RedisServer, tmp_path: Path
) -> None:
    settings = worker_settings(broker, redis_server.url, partitions=2)
    kafka = settings.kafka
    source = broker.new_topic(partitions=2)
    dice = random.Random(3)
    with schema_registry() as registry:
        known = registry.register("a", event_schema("A"))
        late = known + 1  # registered after the first kill: its records wait until then

        def record(number: int) -> tuple[bytes, bytes]:
            value = event(number)
            if encoding != "plain":
                schema = late if number > RECORDS / 2 and number % 50 == 0 else known
                value = framed(json.loads(value), schema)
            return b"%d" % number, value

        async def fill() -> None:
            small = kafka.model_copy(update={"max_message_bytes": 20_000})
            async with EventProducer(small, topic=source, linger_ms=0) as producer:
                await produce(map(record, range(RECORDS)), producer)

        asyncio.run(fill())
        intake = IntakeProcess(
            kafka.model_copy(update={"fetch_max_partition_bytes": 65_536}),
            SchemaRegistry(url=registry.url),
            sources=({"topic": source, "format": "events", "encoding": encoding},),
        )
        expected = {f"r-{number}" for number in range(RECORDS)}
        with intake:
            for kill in range(KILLS):
                time.sleep(dice.uniform(0.1, 1.5))
                intake.restart()
                if kill == 0:
                    assert registry.register("b", event_schema("B")) == late
            wait_until(
                lambda: ids_of(log_of(broker, settings)) >= expected, "all records are events", 60
            )
            assert intake.stop() == 0
    log = log_of(broker, settings)
    assert ids_of(log) == expected
    assert_each_counted_once(settings, log, tmp_path)
