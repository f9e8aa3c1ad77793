"""An intake that is killed at random: no answered event is lost, no record of a source either."""

import asyncio
import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp import ClientError, ClientSession

from streams.config.settings import Intake, Kafka, Settings
from streams.kafka.producer import EventProducer, produce
from tests.support.event_samples import EVENT
from tests.support.servers import Broker, wait_until
from tokenpulse.local.embedded import environment, free_port, listens

RECORDS, KILLS = 3_000, 2


def event(number: int) -> bytes:
    ended_at = int(time.time() * 1_000)
    return json.dumps({**EVENT, "request_id": f"r-{number}", "ended_at": ended_at}).encode()


class KilledIntake:
    """`tokenpulse intake` in a process of its own, killed and started again."""

    def __init__(self, kafka: Kafka, **intake: Any) -> None:
        self.port = free_port()
        settings = Settings(kafka=kafka, intake=Intake(port=self.port, **intake))
        self._environment = environment(settings)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "tokenpulse.cli.main", "intake"]
        self._process = subprocess.Popen(command, env=self._environment)
        wait_until(lambda: listens("127.0.0.1", self.port), "the intake listens")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def restart(self) -> None:
        self.kill()
        self.start()

    def stop(self) -> int:
        """End it in an orderly way; return its exit status."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(timeout=60)


@pytest.fixture
def killed() -> Iterator[list[KilledIntake]]:
    running: list[KilledIntake] = []
    yield running
    for intake in running:
        intake.kill()


def ids_on(broker: Broker, topic: str) -> set[str]:
    log = asyncio.run(broker.read_some(topic))
    return {json.loads(record.value)["request_id"] for record in log}


@pytest.mark.slow
def test_no_answered_event_is_lost(broker: Broker, killed: list[KilledIntake]) -> None:
    kafka = broker.new_kafka(partitions=2)
    intake = KilledIntake(kafka)
    killed.append(intake)
    intake.start()
    answered: set[str] = set()

    async def send(client: ClientSession, first: int) -> None:
        """Send events in small requests, each again until it is answered with 200."""
        for start in range(first, RECORDS, 60):
            numbers = range(start, start + 20)
            body = b"[" + b",".join(map(event, numbers)) + b"]"
            while True:
                try:
                    url = f"http://127.0.0.1:{intake.port}/v1/events"
                    async with client.post(
                        url, data=body, headers={"Content-Type": "application/json"}
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

    asyncio.run(run())
    assert intake.stop() == 0
    assert len(answered) == RECORDS
    assert ids_on(broker, kafka.topic) == answered


@pytest.mark.slow
def test_no_record_of_a_source_topic_is_lost(broker: Broker, killed: list[KilledIntake]) -> None:
    kafka = broker.new_kafka(partitions=2)
    source = broker.new_topic(partitions=2)

    async def fill() -> None:
        records = [(b"%d" % number, event(number)) for number in range(RECORDS)]
        small = kafka.model_copy(update={"max_message_bytes": 20_000})
        async with EventProducer(small, topic=source, linger_ms=0) as producer:
            await produce(records, producer)

    asyncio.run(fill())
    intake = KilledIntake(
        kafka.model_copy(update={"fetch_max_partition_bytes": 65_536}),
        sources=({"topic": source, "format": "events"},),
    )
    killed.append(intake)
    dice = random.Random(3)
    for _ in range(KILLS):
        intake.restart()
        time.sleep(dice.uniform(0.1, 1.5))
    intake.restart()
    expected = {f"r-{number}" for number in range(RECORDS)}
    wait_until(lambda: ids_on(broker, kafka.topic) >= expected, "all records are events", 60)
    assert ids_on(broker, kafka.topic) == expected
    assert intake.stop() == 0
