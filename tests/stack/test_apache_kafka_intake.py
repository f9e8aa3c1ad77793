"""Intakes on Apache Kafka: they share the partitions of a source topic, and no record is lost."""

import asyncio
import itertools
import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from streams.config.settings import Settings
from streams.kafka.producer import EventProducer, produce
from tests.support.apache_kafka import ApacheKafka
from tests.support.event_samples import EVENT
from tests.support.intake_process import IntakeProcess
from tests.support.servers import RedisServer, wait_until
from tests.support.worker_process import WorkerProcess, report, worker_settings

pytestmark = pytest.mark.stack

PARTITIONS, CHUNK = 4, 200
INPUT_TOKENS = 1_000


class Source:
    """A source topic that a producer fills."""

    def __init__(self, settings: Settings, topic: str) -> None:
        self._settings, self._topic = settings, topic
        self._numbers = itertools.count()
        self.sent: set[str] = set()

    def fill(self) -> None:
        """Send one chunk of events with new request ids."""
        ids = [f"r-{number}" for number in itertools.islice(self._numbers, CHUNK)]
        at_ms = int(time.time() * 1_000)
        records = [
            (
                name.encode(),
                json.dumps(
                    {**EVENT, "request_id": name, "ended_at": at_ms, "input_tokens": INPUT_TOKENS}
                ).encode(),
            )
            for name in ids
        ]

        async def run() -> None:
            async with EventProducer(self._settings.kafka, topic=self._topic) as producer:
                await produce(records, producer)

        asyncio.run(run())
        self.sent |= set(ids)

    def fill_until(self, is_so: Callable[[], bool], what: str) -> None:
        """Send chunks until something is so, and two more."""

        def is_so_after_a_chunk() -> bool:
            self.fill()
            return is_so()

        wait_until(is_so_after_a_chunk, what, 60)
        self.fill()
        self.fill()


def taken(intake: IntakeProcess) -> float:
    """Return how many records of source topics an intake has delivered."""
    with urlopen(f"{intake.url}/metrics") as answer:
        page = answer.read().decode()
    return sum(
        sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name == "tokenpulse_intake_records_total"
    )


def test_intakes_that_come_leave_and_die_lose_no_record_of_a_source(
    apache_kafka: ApacheKafka, redis_server: RedisServer, state_of: Any, tmp_path: Path
) -> None:
    broker = apache_kafka.broker
    settings = worker_settings(broker, redis_server.url, partitions=2)
    topic = broker.new_topic(PARTITIONS)
    source = Source(settings, topic)
    first, second = (
        IntakeProcess(settings.kafka, sources=({"topic": topic, "format": "events"},))
        for _ in range(2)
    )

    def log() -> list[Any]:
        return asyncio.run(broker.read_some(settings.kafka.topic))

    def ids() -> set[str]:
        return {json.loads(record.value)["request_id"] for record in log()}

    with first, second:
        source.fill_until(lambda: taken(first) > 0 and taken(second) > 0, "both take records")
        second.kill()  # the first takes its partitions over, from the committed offsets
        before = taken(first)
        source.fill_until(lambda: taken(first) > before, "the first takes records alone")
        second.start()
        source.fill_until(lambda: taken(second) > 0, "the second takes records again")
        assert first.stop() == 0
        source.fill()
        wait_until(lambda: ids() == source.sent, "all records are events", 60)
        assert second.stop() == 0
    records = log()
    ends = Counter(record.partition for record in records)
    with WorkerProcess(settings, tmp_path / "worker.log") as worker:
        state_of(settings).wait_for(ends)
        assert worker.stop() == 0
    total = report(settings)["total"]
    assert total["requests"] == len(source.sent)
    assert total["duplicates"] == len(records) - len(source.sent)
    assert total["tokens"]["input"] == len(source.sent) * INPUT_TOKENS
