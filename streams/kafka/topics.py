"""Creates topics, and checks topics and broker before a process starts.

Faust never creates topics, as partitions, retention, record sizes and the source of timestamps are
decisions of ours. Every function is async and returns within its deadline, or raises Unavailable
with one line.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    for_code,
)

from streams.config.settings import Kafka, Settings
from streams.errors import Unavailable, one_line
from streams.kafka.allowed_operations import TOPIC_DENIED, denied_permissions
from streams.security.clients import client_kwargs
from streams.security.permissions import (
    Operation,
    Permission,
    Resource,
    intake_permissions,
    worker_permissions,
)
from streams.security.tokens import TokenUnavailable

TOPIC_EXISTS = 36  # Kafka error code TOPIC_ALREADY_EXISTS

# Begins the cluster id of our embedded broker, which lacks some features.
EMBEDDED_CLUSTER = "tokenpulse-embedded"

# A rejected record goes to the dead-letter topic with headers for its origin and the reason.
DLQ_HEADER_BYTES = 16_384
# Long enough for an operator to return from a week of holidays.
DLQ_RETENTION_H = 7 * 24
# Rejected records are few, so a quarter of the partitions is enough.
DLQ_SHARE = 4
# From this many replicas on, an acknowledged record still has a copy when one replica is lost.
SAFE_REPLICAS = 3


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic after `create_topics`; `created` is False if it already existed."""

    name: str
    partitions: int
    wanted_partitions: int
    created: bool
    # Settings of an existing topic that differ from ours: name, actual value, our value.
    differences: tuple[tuple[str, str, str], ...] = ()

    def __str__(self) -> str:
        if self.created:
            return f"{self.name}: created with {self.partitions} partitions"
        text = f"{self.name}: already there with {self.partitions} partitions, left alone"
        if self.partitions != self.wanted_partitions:
            text += (
                f"; kafka.partitions asks for {self.wanted_partitions}: set it to "
                f"{self.partitions}, or make the topic again"
            )
        for name, actual, wanted in self.differences:
            text += f"; {name} is {actual or 'not set'}, not {wanted}"
        if self.differences:
            text += ": change that with kafka-configs, or leave it if it is meant"
        return text


async def create_topics(settings: Settings, timeout_s: float = 15) -> list[Topic]:
    """Create the event, dead-letter and archive topics; existing ones are left as they are.

    Raises Unavailable if no broker answers within `timeout_s`, or if it refuses.
    """
    wanted = _new_topics(settings.kafka)
    async with open_admin(
        settings.kafka.bootstrap, timeout_s, client_kwargs(settings.kafka)
    ) as admin:
        there = set(await admin.list_topics())
        missing = [topic for topic in wanted if topic.name not in there]
        created = await _create(admin, settings.kafka, missing) if missing else set()
        # Only existing names: some brokers create a topic that a client asks for by name.
        described = await admin.describe_topics([topic.name for topic in wanted])
        actual = {
            topic.name: await read_configs(admin, topic.name)
            for topic in wanted
            if topic.name not in created
        }
    partitions = {entry["topic"]: len(entry["partitions"]) for entry in described}
    return [
        Topic(
            name=topic.name,
            partitions=partitions[topic.name],
            wanted_partitions=topic.num_partitions,
            created=topic.name in created,
            differences=_differences(actual.get(topic.name, {}), topic.topic_configs),
        )
        for topic in wanted
    ]


async def create_source_topics(settings: Settings, timeout_s: float = 15) -> None:
    """Create the source topics of the intake that are not there, each with one partition.

    Raises Unavailable as `create_topics` does.
    """
    kafka, names = settings.kafka, [source.topic for source in settings.intake.sources]
    async with open_admin(kafka.bootstrap, timeout_s, client_kwargs(kafka)) as admin:
        there = set(await admin.list_topics())
        missing = [NewTopic(name, 1, 1) for name in names if name not in there]
        if missing:
            await _create(admin, settings.kafka, missing)


def _new_topics(kafka: Kafka) -> list[NewTopic]:
    """Return the topics as they should be. Raises Unavailable if two have the same name."""
    names = {"topic": kafka.topic, "dlq_topic": kafka.dlq_topic}
    for setting, name in (("dlq_topic", kafka.dlq_topic), ("archive_topic", kafka.archive_topic)):
        for earlier, taken in names.items():
            if name == taken and earlier != setting:
                raise Unavailable(
                    f"kafka.{setting}: got {name!r}, which is kafka.{earlier}; choose another"
                )
        names[setting] = name
    safe = {}  # settings that keep acknowledged records when a replica is lost
    if kafka.replication >= SAFE_REPLICAS:
        safe = {
            "min.insync.replicas": str(kafka.replication - 1),
            "unclean.leader.election.enable": "false",
        }
    return [
        NewTopic(
            kafka.topic,
            kafka.partitions,
            kafka.replication,
            topic_configs={
                **_configs(kafka.retention_h, kafka.max_message_bytes),
                # The broker's clock: with a producer's wrong clock its events would look late or
                # early, and Kafka would keep or drop them at the wrong time.
                "message.timestamp.type": "LogAppendTime",
                **safe,
            },
        ),
        NewTopic(
            kafka.dlq_topic,
            max(1, kafka.partitions // DLQ_SHARE),
            kafka.replication,
            topic_configs={
                **_configs(
                    min(kafka.retention_h, DLQ_RETENTION_H),
                    kafka.max_message_bytes + DLQ_HEADER_BYTES,
                ),
                **safe,
            },
        ),
        NewTopic(
            kafka.archive_topic,
            kafka.partitions,
            kafka.replication,
            topic_configs={
                "cleanup.policy": "compact",
                # Compaction alone removes archived states that newer ones replace.
                "retention.ms": "-1",
                "max.message.bytes": str(kafka.max_message_bytes),
                **safe,
            },
        ),
    ]


def _configs(retention_h: float, max_message_bytes: int) -> dict[str, str]:
    return {
        "cleanup.policy": "delete",
        "retention.ms": str(int(retention_h * 3_600_000)),
        "max.message.bytes": str(max_message_bytes),
    }


async def read_configs(admin: AIOKafkaAdminClient, topic: str) -> dict[str, str]:
    """Return the settings of an existing topic, empty if this user may not read them.

    Raises KafkaError if the broker does not describe it for another reason.
    """
    answers = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    configs: dict[str, str] = {}
    for answer in answers:
        for code, _, _, _, entries in answer.resources:
            if code not in (0, TOPIC_DENIED):
                raise for_code(code)(f"it does not describe {topic}")
            configs |= {entry[0]: entry[1] for entry in entries}
    return configs


def _differences(
    actual: Mapping[str, str], wanted: Mapping[str, str]
) -> tuple[tuple[str, str, str], ...]:
    if not actual:
        return ()
    return tuple(
        (name, actual.get(name, ""), value)
        for name, value in wanted.items()
        if actual.get(name) != value
    )


async def check_topics(settings: Settings, timeout_s: float = 5) -> None:
    """Raise Unavailable if a topic that a worker needs does not exist, or a permission is denied.

    Does not create topics.
    """
    kafka = settings.kafka
    needed = {"topic": kafka.topic, "dlq_topic": kafka.dlq_topic}
    if settings.worker.archive_interval_s:
        needed["archive_topic"] = kafka.archive_topic
    there, denied = await _read_access(kafka, worker_permissions(settings), timeout_s)
    for setting, name in needed.items():
        if name not in there:
            raise Unavailable(
                f"{name}: no such topic at {kafka.bootstrap}, or this user may not see it; run "
                f"`tokenpulse topics create`, or set kafka.{setting}"
            )
    _refuse(kafka, denied)


async def check_permissions(
    kafka: Kafka, permissions: Iterable[Permission], timeout_s: float = 5
) -> None:
    """Raise Unavailable if one of `permissions` is denied, on a group or on an existing topic."""
    _, denied = await _read_access(kafka, permissions, timeout_s)
    _refuse(kafka, denied)


async def check_sources(kafka: Kafka, topics: Collection[str], timeout_s: float = 5) -> None:
    """Raise Unavailable if a source topic does not exist, or the intake lacks a permission."""
    permissions = intake_permissions(kafka, topics)
    there, denied = await _read_access(kafka, permissions, timeout_s)
    if missing := sorted(set(topics) - there):
        raise Unavailable(
            f"{missing[0]}: no such topic at {kafka.bootstrap}, or this user may not see it; "
            "create it, or change intake.sources"
        )
    _refuse(kafka, denied)


async def _read_access(
    kafka: Kafka, permissions: Iterable[Permission], timeout_s: float
) -> tuple[set[str], list[Permission]]:
    """Return the names of all topics, and those of `permissions` that are denied on them."""
    async with open_admin(kafka.bootstrap, timeout_s, client_kwargs(kafka)) as admin:
        # All names are read, as some brokers create a topic that a client asks for by name.
        there = set(await admin.list_topics())
        needed = [
            permission
            for permission in permissions
            if permission.resource is Resource.GROUP or permission.name in there
        ]
        return there, await denied_permissions(admin, needed)


def _refuse(kafka: Kafka, denied: Collection[Permission]) -> None:
    if denied:
        raise Unavailable("\n".join(permission.denial(kafka) for permission in denied))


async def _create(admin: AIOKafkaAdminClient, kafka: Kafka, topics: list[NewTopic]) -> set[str]:
    """Create topics. Return their names, without those that another client created meanwhile."""
    try:
        response = await admin.create_topics(topics)
    except AttributeError as error:  # aiokafka's, while the cluster elects a controller
        raise Unavailable("the Kafka cluster has no controller right now: try again") from error
    created = set()
    for name, code, *text in response.topic_errors:
        if code == 0:
            created.add(name)
        elif code != TOPIC_EXISTS:
            why = one_line((text[0] if text and text[0] else None) or for_code(code).__name__)
            if code == TOPIC_DENIED:
                create = Permission(Operation.CREATE, Resource.TOPIC, name)
                why = f"{why.rstrip('.')}; {create.advice(kafka)}"
            raise Unavailable(f"{name}: the broker did not create the topic: {why}")
    return created


async def check_broker(bootstrap: str, timeout_s: float = 5, **secured: Any) -> str:
    """Return the cluster's id. Raises Unavailable if no broker answers in time.

    `secured` are the arguments that `client_kwargs` returns.
    """
    async with open_admin(bootstrap, timeout_s, secured) as admin:
        cluster = await admin.describe_cluster()
        return str(cluster.get("cluster_id") or "")


@asynccontextmanager
async def open_admin(
    bootstrap: str, timeout_s: float, secured: Mapping[str, Any]
) -> AsyncIterator[AIOKafkaAdminClient]:
    """Yield a started admin client; its errors become Unavailable with the broker's address."""
    silent = f"no Kafka broker answers at {bootstrap}: start it, or set kafka.bootstrap"
    if secured.get("security_protocol", "PLAINTEXT") != "PLAINTEXT":
        # aiokafka reports a refused login like a broker that does not answer.
        silent += ", or it refuses login or certificate: see the line before, and kafka.username"
    try:
        # aiokafka would report a failure of the token endpoint as a silent broker.
        if (tokens := secured.get("sasl_oauth_token_provider")) is not None:
            await tokens.token()  # it has a time limit of its own
        async with asyncio.timeout(timeout_s):
            # Otherwise aiokafka would log every refused connection as an error.
            await _check_port(bootstrap)
            admin = AIOKafkaAdminClient(
                bootstrap_servers=bootstrap,
                request_timeout_ms=max(1, int(timeout_s * 1000)),
                **secured,
            )
            try:
                await admin.start()
                yield admin
            finally:
                await admin.close()
    except TokenUnavailable as error:
        raise Unavailable(str(error)) from error
    except (TimeoutError, KafkaConnectionError, OSError, UnicodeError) as error:
        raise Unavailable(silent) from error
    except KafkaError as error:
        raise Unavailable(f"{bootstrap}: the broker refused: {one_line(error)}") from error


async def _check_port(bootstrap: str) -> None:
    """Return if a broker listens; raise ConnectionRefusedError if none does."""
    for address in bootstrap.split(","):
        host, _, port = address.strip().rpartition(":")
        if not port.isdecimal() or not 0 < int(port) < 65_536:
            raise Unavailable(f"kafka.bootstrap: got {address.strip()!r}; write HOST:PORT")
        try:
            _, writer = await asyncio.open_connection(host.strip("[]") or "localhost", int(port))
        except OSError:
            continue  # one of several brokers is enough
        writer.close()
        return
    raise ConnectionRefusedError(bootstrap)
