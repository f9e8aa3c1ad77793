"""Topics are made here, by us, and the servers we depend on are checked here.

A shell around Kafka's admin protocol and Redis' INFO. Faust never creates topics: partitions,
retention, record sizes and whose clock stamps a record are decisions, not side effects. Everything
is async and answers, or raises Unavailable in one line, within the deadline given.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaConnectionError, KafkaError, for_code

from streams.config.security import client_kwargs
from streams.config.settings import Kafka, Settings
from streams.errors import Unavailable, one_line

TOPIC_EXISTS = 36  # Kafka error code TOPIC_ALREADY_EXISTS

# Begins the cluster id of our embedded broker, so that a client knows what it cannot do.
EMBEDDED_CLUSTER = "tokenpulse-embedded"

# A refused record goes to the dead-letter topic with headers that say where it came from and why.
DLQ_HEADER_BYTES = 16_384
# Long enough that someone back from a holiday week can still look at it.
DLQ_RETENTION_H = 7 * 24
# Refused records are few; a quarter of the partitions carries them.
DLQ_SHARE = 4
# From this many replicas on, one may be gone and an acknowledged record still has another copy.
SAFE_REPLICAS = 3


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic after `create_topics`; `created` is False where it already existed."""

    name: str
    partitions: int
    wanted_partitions: int
    created: bool
    # Settings of one that existed which are not as we would make them: name, found, wanted.
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
        for name, found, wanted in self.differences:
            text += f"; {name} is {found or 'not set'}, not {wanted}"
        if self.differences:
            text += ": change that with kafka-configs, or leave it if it is meant"
        return text


async def create_topics(settings: Settings, timeout_s: float = 15) -> list[Topic]:
    """Make the event, dead-letter and archive topics; existing ones are left as they are.

    Raises Unavailable if no broker answers within `timeout_s`, or if it refuses.
    """
    wanted = _wanted(settings.kafka)
    async with _admin(settings.kafka.bootstrap, timeout_s, client_kwargs(settings.kafka)) as admin:
        there = set(await admin.list_topics())
        missing = [topic for topic in wanted if topic.name not in there]
        created = await _create(admin, missing) if missing else set()
        # Asks for existing names only: some brokers create whatever name they hear.
        described = await admin.describe_topics([topic.name for topic in wanted])
        found = {
            topic.name: await _found_configs(admin, topic.name)
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
            differences=_differences(found.get(topic.name, {}), topic.topic_configs),
        )
        for topic in wanted
    ]


def _wanted(kafka: Kafka) -> list[NewTopic]:
    names = {"topic": kafka.topic, "dlq_topic": kafka.dlq_topic}
    for setting, name in (("dlq_topic", kafka.dlq_topic), ("archive_topic", kafka.archive_topic)):
        for other, taken in names.items():
            if name == taken and other != setting:
                raise Unavailable(
                    f"kafka.{setting}: got {name!r}, which is kafka.{other}; name another"
                )
        names[setting] = name
    safe = {}
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
                # The broker's clock: a producer whose clock is wrong cannot make its own events
                # look late or early, nor Kafka keep or drop them at the wrong time.
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


async def _found_configs(admin: AIOKafkaAdminClient, topic: str) -> dict[str, str]:
    """Settings of an existing topic; none where we may not read them."""
    answers = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    return {
        entry[0]: entry[1]
        for answer in answers
        for error, _, _, _, entries in answer.resources
        if error == 0
        for entry in entries
    }


def _differences(
    found: Mapping[str, str], wanted: Mapping[str, str]
) -> tuple[tuple[str, str, str], ...]:
    if not found:
        return ()
    return tuple(
        (name, found.get(name, ""), value)
        for name, value in wanted.items()
        if found.get(name) != value
    )


async def check_topics(settings: Settings, timeout_s: float = 5) -> None:
    """Unavailable in one line where a topic that a worker needs is not there; none is made."""
    kafka = settings.kafka
    needed = {"topic": kafka.topic, "dlq_topic": kafka.dlq_topic}
    if settings.worker.archive_interval_s:
        needed["archive_topic"] = kafka.archive_topic
    async with _admin(kafka.bootstrap, timeout_s, client_kwargs(kafka)) as admin:
        # All names: asking for one would make some brokers create it.
        there = set(await admin.list_topics())
    for setting, name in needed.items():
        if name not in there:
            raise Unavailable(
                f"{name}: no such topic at {kafka.bootstrap}, or this user may not see it; run "
                f"`tokenpulse topics create`, or set kafka.{setting}"
            )


async def _create(admin: AIOKafkaAdminClient, topics: list[NewTopic]) -> set[str]:
    """Names made by this call; one that somebody else made meanwhile is not among them."""
    try:
        response = await admin.create_topics(topics)
    except AttributeError as error:  # aiokafka's, while the cluster elects a controller
        raise Unavailable("the Kafka cluster has no controller right now: try again") from error
    created = set()
    for name, code, *text in response.topic_errors:
        if code == 0:
            created.add(name)
        elif code != TOPIC_EXISTS:
            why = (text[0] if text and text[0] else None) or for_code(code).__name__
            raise Unavailable(f"{name}: the broker did not create the topic: {one_line(why)}")
    return created


async def check_broker(bootstrap: str, timeout_s: float = 5, **secured: Any) -> str:
    """The cluster's id; Unavailable in one line where no broker answers in time.

    `secured`: what `client_kwargs` says.
    """
    async with _admin(bootstrap, timeout_s, secured) as admin:
        cluster = await admin.describe_cluster()
        return str(cluster.get("cluster_id") or "")


@asynccontextmanager
async def _admin(
    bootstrap: str, timeout_s: float, secured: Mapping[str, Any]
) -> AsyncIterator[AIOKafkaAdminClient]:
    """A started admin client; what it raises becomes one line that names the broker."""
    silent = f"no Kafka broker answers at {bootstrap}: start it, or set kafka.bootstrap"
    if secured.get("security_protocol", "PLAINTEXT") != "PLAINTEXT":
        # aiokafka does not tell a refused login from silence.
        silent += ", or it refuses login or certificate: see the line before, and kafka.username"
    try:
        async with asyncio.timeout(timeout_s):
            # Without this look first, aiokafka logs every refused connection as an error.
            await _any_listens(bootstrap)
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
    except (TimeoutError, KafkaConnectionError, OSError) as error:
        raise Unavailable(silent) from error
    except KafkaError as error:
        raise Unavailable(f"{bootstrap}: the broker refused: {one_line(error)}") from error


async def _any_listens(bootstrap: str) -> None:
    for address in bootstrap.split(","):
        host, _, port = address.strip().rpartition(":")
        if not port.isdecimal() or not 0 < int(port) < 65_536:
            raise Unavailable(f"kafka.bootstrap: got {address.strip()!r}; write HOST:PORT")
        try:
            _, writer = await asyncio.open_connection(host.strip("[]") or "localhost", int(port))
        except OSError:
            continue
        writer.close()
        return
    raise ConnectionRefusedError(bootstrap)
