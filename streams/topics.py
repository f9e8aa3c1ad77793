"""Topics are made here, by us, and the servers we depend on are checked here.

A shell around Kafka's admin protocol and Redis' INFO. Faust never creates topics: partitions,
retention and record sizes are decisions, not side effects. Everything is async and answers, or
raises TopicError / ServerError in one line, within the deadline given.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import redis.asyncio
import redis.exceptions
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaConnectionError, KafkaError, for_code

from streams.config import Kafka, Settings

TOPIC_EXISTS = 36  # Kafka error code TOPIC_ALREADY_EXISTS

# Begins the cluster id of our embedded broker, so that a client knows what it cannot do.
EMBEDDED_CLUSTER = "tokenpulse-embedded"

# A refused record goes to the dead-letter topic with headers that say where it came from and why.
DLQ_HEADER_BYTES = 16_384
# Long enough that someone back from a holiday week can still look at it.
DLQ_RETENTION_H = 7 * 24
# Refused records are few; a quarter of the partitions carries them.
DLQ_SHARE = 4


class ServerError(RuntimeError):
    """Kafka or Redis does not answer, or is not set up as we need it."""


class TopicError(ServerError):
    """A topic is missing, or could not be made as asked."""


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic after `create_topics`; `created` is False where it already existed."""

    name: str
    partitions: int
    wanted_partitions: int
    created: bool

    def __str__(self) -> str:
        if self.created:
            return f"{self.name}: created with {self.partitions} partitions"
        found = f"{self.name}: already there with {self.partitions} partitions, left alone"
        if self.partitions == self.wanted_partitions:
            return found
        return (
            f"{found}; kafka.partitions asks for {self.wanted_partitions}: set it to "
            f"{self.partitions}, or make the topic again"
        )


async def create_topics(settings: Settings, timeout_s: float = 15) -> list[Topic]:
    """Make the event topic and the dead-letter topic; existing ones are left as they are.

    Raises ServerError where no broker answers in `timeout_s`, TopicError where it refuses.
    """
    wanted = _wanted(settings.kafka)
    async with _admin(settings.kafka.bootstrap, timeout_s) as admin:
        there = set(await admin.list_topics())
        missing = [topic for topic in wanted if topic.name not in there]
        created = await _create(admin, missing) if missing else set()
        # Asks for existing names only: some brokers create whatever name they hear.
        found = await admin.describe_topics([topic.name for topic in wanted])
    partitions = {entry["topic"]: len(entry["partitions"]) for entry in found}
    return [
        Topic(
            name=topic.name,
            partitions=partitions[topic.name],
            wanted_partitions=topic.num_partitions,
            created=topic.name in created,
        )
        for topic in wanted
    ]


def _wanted(kafka: Kafka) -> list[NewTopic]:
    if kafka.dlq_topic == kafka.topic:
        raise TopicError(
            f"kafka.dlq_topic: got {kafka.dlq_topic!r}, which is kafka.topic; name another"
        )
    return [
        NewTopic(
            kafka.topic,
            kafka.partitions,
            kafka.replication,
            topic_configs=_configs(kafka.retention_h, kafka.max_message_bytes),
        ),
        NewTopic(
            kafka.dlq_topic,
            max(1, kafka.partitions // DLQ_SHARE),
            kafka.replication,
            topic_configs=_configs(
                min(kafka.retention_h, DLQ_RETENTION_H),
                kafka.max_message_bytes + DLQ_HEADER_BYTES,
            ),
        ),
    ]


def _configs(retention_h: float, max_message_bytes: int) -> dict[str, str]:
    return {
        "retention.ms": str(int(retention_h * 3_600_000)),
        "max.message.bytes": str(max_message_bytes),
        "cleanup.policy": "delete",
        # The producer's own time decides slices, lateness and replays.
        "message.timestamp.type": "CreateTime",
    }


async def _create(admin: AIOKafkaAdminClient, topics: list[NewTopic]) -> set[str]:
    """Names made by this call; one that somebody else made meanwhile is not among them."""
    try:
        response = await admin.create_topics(topics)
    except AttributeError as error:  # aiokafka's, while the cluster elects a controller
        raise TopicError("the Kafka cluster has no controller right now: try again") from error
    created = set()
    for name, code, *text in response.topic_errors:
        if code == 0:
            created.add(name)
        elif code != TOPIC_EXISTS:
            why = (text[0] if text and text[0] else None) or for_code(code).__name__
            raise TopicError(f"{name}: the broker did not create the topic: {one_line(why)}")
    return created


async def check_broker(bootstrap: str, timeout_s: float = 5) -> str:
    """The cluster's id; ServerError in one line where no broker answers in time."""
    async with _admin(bootstrap, timeout_s) as admin:
        cluster = await admin.describe_cluster()
        return str(cluster.get("cluster_id") or "")


async def check_redis(url: str, timeout_s: float = 2) -> int:
    """The server's process id; ServerError where it does not answer or would evict state.

    Eviction tears the state without an error anywhere, so only `noeviction` is accepted.
    """
    where = redis_address(url)
    try:
        client = redis.asyncio.Redis.from_url(
            url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s, retry=None
        )
    except ValueError as error:
        raise ServerError(f"redis.url: {one_line(error)}; write redis://HOST:PORT/0") from error
    try:
        async with asyncio.timeout(timeout_s):
            info = await client.info()
    except redis.exceptions.AuthenticationError as error:
        raise ServerError(
            f"Redis at {where} refuses the login: {one_line(error)}; put user and password into "
            "redis.url"
        ) from error
    except (redis.exceptions.RedisError, OSError, TimeoutError) as error:
        raise ServerError(
            f"no Redis answers at {where}: start it, or set redis.url ({_reason(error)})"
        ) from error
    finally:
        await client.aclose()
    policy = info.get("maxmemory_policy")
    if policy != "noeviction":
        raise ServerError(
            f"Redis at {where}: maxmemory-policy is {policy}, which throws state away; run "
            "`CONFIG SET maxmemory-policy noeviction`"
        )
    return int(info["process_id"])


def redis_address(url: str) -> str:
    """Host and port, or socket path, of a Redis URL, without user and password."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return parts.path
    return f"{parts.hostname or 'localhost'}:{parts.port or 6379}"


@asynccontextmanager
async def _admin(bootstrap: str, timeout_s: float) -> AsyncIterator[AIOKafkaAdminClient]:
    """A started admin client; what it raises becomes one line that names the broker."""
    silent = f"no Kafka broker answers at {bootstrap}: start it, or set kafka.bootstrap"
    try:
        async with asyncio.timeout(timeout_s):
            # Without this look first, aiokafka logs every refused connection as an error.
            await _any_listens(bootstrap)
            admin = AIOKafkaAdminClient(
                bootstrap_servers=bootstrap, request_timeout_ms=max(1, int(timeout_s * 1000))
            )
            try:
                await admin.start()
                yield admin
            finally:
                await admin.close()
    except (TimeoutError, KafkaConnectionError, OSError) as error:
        raise ServerError(silent) from error
    except KafkaError as error:
        raise TopicError(f"{bootstrap}: the broker refused: {one_line(error)}") from error


async def _any_listens(bootstrap: str) -> None:
    for address in bootstrap.split(","):
        host, _, port = address.strip().rpartition(":")
        if not port.isdecimal() or not 0 < int(port) < 65_536:
            raise ServerError(f"kafka.bootstrap: got {address.strip()!r}; write HOST:PORT")
        try:
            _, writer = await asyncio.open_connection(host.strip("[]") or "localhost", int(port))
        except OSError:
            continue
        writer.close()
        return
    raise ConnectionRefusedError(bootstrap)


def _reason(error: BaseException) -> str:
    return "no answer in time" if isinstance(error, TimeoutError) else one_line(error)


def one_line(text: object) -> str:
    """Text on one line, so that an error stays one line."""
    return " ".join(str(text).split())
