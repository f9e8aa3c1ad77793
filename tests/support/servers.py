"""Broker and Redis for the tests: those of the embedded stack, started once for the whole run."""

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic, sleep
from typing import Any

import redis
from aiokafka import AIOKafkaConsumer, TopicPartition

from streams.config.settings import Kafka, Settings
from streams.kafka.topics import create_topics
from tokenpulse.local.stack import LocalStack

# The embedded broker gives no answer about the end of a log, so whoever reads says how many.
READ_TIMEOUT_S = 60


@dataclass(frozen=True, slots=True)
class Broker:
    """The embedded broker; every test makes topics of its own."""

    bootstrap: str
    _numbers: Any = field(default_factory=itertools.count)

    def new_topic(self, partitions: int = 1) -> str:
        """A fresh, empty topic, with NAME.dlq beside it."""
        return self.new_kafka(partitions).topic

    def new_kafka(self, partitions: int = 1, **settings: Any) -> Kafka:
        """Settings with a fresh topic, its dead-letter topic and a group of its own."""
        topic = f"test-{next(self._numbers)}"
        kafka = Kafka(
            bootstrap=self.bootstrap,
            topic=topic,
            dlq_topic=f"{topic}.dlq",
            archive_topic=f"{topic}.state",
            group=f"group-of-{topic}",
            partitions=partitions,
            session_timeout_s=2,
            heartbeat_interval_s=0.333,
            **settings,
        )
        asyncio.run(create_topics(Settings(kafka=kafka)))
        return kafka

    def read(self, topic: str, records: int) -> dict[int, list[Any]]:
        """Every record of a topic, in log order per partition; fails if there are not `records`."""
        return asyncio.run(self._read(topic, records))

    async def read_some(self, topic: str) -> list[Any]:
        """The records of a topic that are there now, partition by partition."""
        consumer = AIOKafkaConsumer(bootstrap_servers=self.bootstrap, auto_offset_reset="earliest")
        await consumer.start()
        try:
            tps = [TopicPartition(topic, number) for number in await partitions_of(consumer, topic)]
            consumer.assign(tps)
            await consumer.seek_to_beginning(*tps)
            records: list[Any] = []
            # A fetch that finds nothing new for this long has read all.
            while batches := await consumer.getmany(timeout_ms=1_000):
                records.extend(record for batch in batches.values() for record in batch)
        finally:
            await consumer.stop()
        return records

    async def _read(self, topic: str, records: int) -> dict[int, list[Any]]:
        consumer = AIOKafkaConsumer(bootstrap_servers=self.bootstrap, auto_offset_reset="earliest")
        await consumer.start()
        try:
            partitions = sorted(await partitions_of(consumer, topic))
            log: dict[int, list[Any]] = {number: [] for number in partitions}
            tps = [TopicPartition(topic, number) for number in partitions]
            consumer.assign(tps)
            await consumer.seek_to_beginning(*tps)
            deadline_s = monotonic() + READ_TIMEOUT_S
            while sum(map(len, log.values())) < records and monotonic() < deadline_s:
                for tp, batch in (await consumer.getmany(timeout_ms=200)).items():
                    log[tp.partition].extend(batch)
            for tp in tps:  # the fetch response knows the end: nothing follows what was read
                assert len(log[tp.partition]) == (consumer.highwater(tp) or 0)
        finally:
            await consumer.stop()
        assert sum(map(len, log.values())) == records
        return log


async def partitions_of(consumer: AIOKafkaConsumer, topic: str) -> set[int]:
    """The partitions of a topic; fails where it does not exist."""
    # All names: the embedded broker would create a topic that is asked for.
    metadata = await consumer._client.fetch_all_metadata()
    found: set[int] | None = metadata.partitions_for_topic(topic)
    assert found, f"{topic} does not exist"
    return found


@dataclass(frozen=True, slots=True)
class RedisServer:
    """The embedded Redis; `url` names a database that is empty at the start of each test."""

    url: str

    def client(self) -> redis.Redis:
        """A new connection; the caller closes it."""
        return redis.Redis.from_url(self.url)


def start_servers(**local: Any) -> LocalStack:
    """A running stack with broker and Redis only; the caller stops it."""
    stack = LocalStack(Settings(**local), workers=0, exporter=False, simulate=False)
    stack.start()
    return stack


def wait_until(
    is_so: Callable[[], bool], what: str, timeout_s: float = 30, every_s: float = 0.02
) -> None:
    """Return as soon as `is_so()`; fail, saying what was waited for, when it never is."""
    deadline_s = monotonic() + timeout_s
    while not is_so():
        assert monotonic() < deadline_s, f"waited {timeout_s} s: {what}"
        sleep(every_s)
