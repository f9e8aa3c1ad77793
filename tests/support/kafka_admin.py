"""What an administrator does to a Kafka cluster, by aiokafka; a Java tool would take seconds each.

`kafka` says where, as whom and which topic.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from enum import IntEnum
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, for_code
from aiokafka.protocol.admin import CreateAclsRequest, DeleteAclsRequest

from streams.config.settings import Kafka
from streams.security.clients import client_kwargs
from tests.support.servers import wait_until

Found = TypeVar("Found")


class Of(IntEnum):
    """Kinds of resources, with the numbers of Kafka's protocol."""

    TOPIC = 2
    GROUP = 3


class To(IntEnum):
    """Operations, likewise."""

    READ = 3
    WRITE = 4
    CREATE = 5
    DESCRIBE = 8
    DESCRIBE_CONFIGS = 10


def rights_of_worker(kafka: Kafka) -> list[tuple[Of, str, To]]:
    """Return all that a worker needs, as docs/security.md says."""
    return [
        (Of.TOPIC, kafka.topic, To.READ),
        (Of.GROUP, kafka.group, To.READ),
        (Of.TOPIC, kafka.dlq_topic, To.WRITE),
        (Of.TOPIC, kafka.archive_topic, To.READ),
        (Of.TOPIC, kafka.archive_topic, To.WRITE),
        (Of.TOPIC, kafka.topic, To.DESCRIBE_CONFIGS),
        (Of.TOPIC, kafka.archive_topic, To.DESCRIBE_CONFIGS),
    ]


GROUPS_TOPIC = "__consumer_offsets"
LITERAL, ALLOW = 3, 3  # pattern and permission types


def add_partitions(kafka: Kafka, total: int) -> None:
    """Give the topic more partitions."""

    async def do(admin: AIOKafkaAdminClient) -> None:
        response = await admin.create_partitions({kafka.topic: NewPartitions(total)})
        for _, code, *_ in response.topic_errors:
            _expect(code)

    _ask(kafka, do)


def delete_records(kafka: Kafka, before: Mapping[int, int]) -> None:
    """Have each partition's log begin at an offset, as retention does."""
    wanted = {
        TopicPartition(kafka.topic, partition): RecordsToDelete(before_offset=offset)
        for partition, offset in before.items()
    }

    async def do(admin: AIOKafkaAdminClient) -> None:
        assert (await admin.delete_records(wanted)) == {
            tp: one.before_offset for tp, one in wanted.items()
        }

    _ask(kafka, do)


def log_starts(kafka: Kafka, partitions: int) -> dict[int, int]:
    """The first offset that each partition's log still has."""

    async def run() -> dict[int, int]:
        consumer = AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap, **client_kwargs(kafka))
        await consumer.start()
        try:
            tps = [TopicPartition(kafka.topic, number) for number in range(partitions)]
            starts = await consumer.beginning_offsets(tps)
            return {tp.partition: start for tp, start in starts.items()}
        finally:
            await consumer.stop()

    return asyncio.run(run())


def configure_topic(kafka: Kafka, configs: Mapping[str, str]) -> None:
    """Replace the settings of the topic."""

    async def do(admin: AIOKafkaAdminClient) -> None:
        resource = ConfigResource(ConfigResourceType.TOPIC, kafka.topic, configs=dict(configs))
        for response in await admin.alter_configs([resource]):
            for code, *_ in response.resources:
                _expect(code)

    _ask(kafka, do)


def delete_topic(kafka: Kafka) -> None:
    """Delete the topic; returns when it is gone."""

    async def do(admin: AIOKafkaAdminClient) -> None:
        response = await admin.delete_topics([kafka.topic])
        for _, code in response.topic_error_codes:
            _expect(code)

    async def there(admin: AIOKafkaAdminClient) -> bool:
        return kafka.topic in await admin.list_topics()

    _ask(kafka, do)
    wait_until(lambda: not _ask(kafka, there), f"{kafka.topic} is gone")


def in_sync(kafka: Kafka) -> bool:
    """Whether all replicas of the topic and of the groups' offsets have all records."""

    async def look(admin: AIOKafkaAdminClient) -> bool:
        topics = await admin.describe_topics([kafka.topic, GROUPS_TOPIC])
        return all(
            set(partition["isr"]) == set(partition["replicas"])
            for topic in topics
            for partition in topic["partitions"]
        )

    return _ask(kafka, look)


def coordinator(kafka: Kafka) -> int | None:
    """The number of the node that coordinates the group; None while the cluster cannot tell."""

    async def find(admin: AIOKafkaAdminClient) -> int:
        return int(await admin.find_coordinator(kafka.group))

    try:
        return _ask(kafka, find)
    except KafkaError:
        return None


def grant(kafka: Kafka, user: str, *rights: tuple[Of, str, To]) -> None:
    """Let a user do something to the resource of a name."""

    async def do(admin: AIOKafkaAdminClient) -> None:
        for of, name, to in rights:
            response = await _send(
                admin, CreateAclsRequest(of, name, LITERAL, f"User:{user}", "*", to, ALLOW)
            )
            for code, *_ in response.creation_responses:
                _expect(code)

    _ask(kafka, do)


def revoke(kafka: Kafka, user: str, of: Of, name: str, to: To) -> None:
    """Take that back."""

    async def do(admin: AIOKafkaAdminClient) -> None:
        response = await _send(
            admin, DeleteAclsRequest(of, name, LITERAL, f"User:{user}", "*", to, ALLOW)
        )
        [(code, _, deleted)] = response.filter_responses
        _expect(code)
        assert len(deleted) == 1

    _ask(kafka, do)


async def _send(admin: AIOKafkaAdminClient, request: Any) -> Any:
    return await admin._send_request(request)


def _expect(code: int) -> None:
    if code:
        raise for_code(code)


def _ask(kafka: Kafka, what: Callable[[AIOKafkaAdminClient], Awaitable[Found]]) -> Found:
    async def run() -> Found:
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap, **client_kwargs(kafka))
        await admin.start()
        try:
            return await what(admin)
        finally:
            await admin.close()

    return asyncio.run(run())
