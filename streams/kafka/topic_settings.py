"""Finds settings of existing topics by which records or archived states would be lost.

An administrator, or a tool that manages all topics of a cluster, may change a topic long after it
was created. Each warning is one line with the fix. Warnings are for the log and for
`tokenpulse config check`: a topic may be meant as it is.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiokafka.errors import IncompatibleBrokerVersion

from streams.config.settings import Kafka, Settings
from streams.kafka.topics import open_admin, read_configs
from streams.security.permissions import Operation, Permission, Resource

UNLIMITED_MS = 2**63 - 1  # Kafka's value for no limit

Configs = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class TopicSettings:
    """The event topic and the archive topic as the broker describes them.

    Settings are empty if the topic does not exist, or if the broker does not show them.
    """

    partitions: int = 0  # of the event topic; 0 if it does not exist
    events: Configs = field(default_factory=dict)
    archive: Configs = field(default_factory=dict)
    hidden: tuple[str, ...] = ()  # topics whose settings this user may not read

    @property
    def retention_ms(self) -> int | None:
        """Return how long Kafka keeps the events; None if without limit or unknown."""
        if "delete" not in self.events.get("cleanup.policy", ""):
            return None
        retention_ms = int(self.events.get("retention.ms", -1))
        return retention_ms if 0 <= retention_ms < UNLIMITED_MS else None


async def read_topic_settings(
    kafka: Kafka, secured: Mapping[str, Any], timeout_s: float = 5
) -> TopicSettings:
    """Read the settings of both topics. Raises Unavailable if no broker answers in time.

    `secured` are the arguments that `client_kwargs` returns.
    """
    async with open_admin(kafka.bootstrap, timeout_s, secured) as admin:
        # Only existing names: some brokers create a topic that a client asks for by name.
        there = set(await admin.list_topics())
        if kafka.topic not in there:
            return TopicSettings()
        [described] = await admin.describe_topics([kafka.topic])
        partitions = len(described["partitions"])
        topics = sorted({kafka.topic, kafka.archive_topic} & there)
        try:
            configs = {topic: await read_configs(admin, topic) for topic in topics}
        except IncompatibleBrokerVersion:  # the embedded broker
            return TopicSettings(partitions)
    return TopicSettings(
        partitions,
        configs[kafka.topic],
        configs.get(kafka.archive_topic, {}),
        tuple(topic for topic in topics if not configs[topic]),
    )


def topic_warnings(settings: Settings, topics: TopicSettings) -> Iterator[str]:
    """Yield the risks in the settings of the topics, one line each with the fix."""
    kafka, worker = settings.kafka, settings.worker
    for topic in topics.hidden:
        yield Permission(Operation.DESCRIBE_CONFIGS, Resource.TOPIC, topic).denial(kafka)
    if warning := _timestamp_warning(kafka, topics.events):
        yield warning
    if "compact" in topics.events.get("cleanup.policy", ""):
        yield (
            f"{kafka.topic}: cleanup.policy is {topics.events['cleanup.policy']}: Kafka removes "
            "each record that is followed by one with the same key, also before it is counted; "
            + configure_command(kafka, kafka.topic, "cleanup.policy=delete")
        )
    if (retention_ms := topics.retention_ms) is not None:
        needed_s, setting = max(
            (worker.archive_interval_s, "worker.archive_interval_s"),
            (worker.dedup_window_s, "worker.dedup_window_s"),
        )
        if retention_ms < needed_s * 1_000:
            yield (
                f"{kafka.topic}: retention.ms is {retention_ms}, less than {setting} "
                f"({needed_s:g} s), for which Kafka must keep the records; "
                + configure_command(
                    kafka, kafka.topic, f"retention.ms={int(kafka.retention_h * 3_600_000)}"
                )
            )
    if worker.archive_interval_s and topics.archive.get("cleanup.policy", "compact") != "compact":
        yield (
            f"{kafka.archive_topic}: cleanup.policy is {topics.archive['cleanup.policy']}: Kafka "
            "deletes archived states by their age; "
            + configure_command(kafka, kafka.archive_topic, "cleanup.policy=compact")
        )


def partitions_warning(kafka: Kafka, topics: TopicSettings) -> str | None:
    """Return a warning if the event topic has another number of partitions than is set."""
    if topics.partitions in (0, kafka.partitions):
        return None
    return (
        f"{kafka.topic}: has {topics.partitions} partitions, kafka.partitions is "
        f"{kafka.partitions}; set it to {topics.partitions}"
    )


def _timestamp_warning(kafka: Kafka, configs: Configs) -> str | None:
    """Return a warning if senders may stamp records with any time in the future."""
    limit_ms = configs.get("message.timestamp.after.max.ms")
    # Brokers before Kafka 3.6, and the embedded one, do not have this setting.
    if configs.get("message.timestamp.type") != "CreateTime" or not limit_ms:
        return None
    if int(limit_ms) < UNLIMITED_MS:
        return None
    return (
        f"{kafka.topic}: senders stamp its records (CreateTime), with any time in the future, as "
        "message.timestamp.after.max.ms is not set; "
        + configure_command(kafka, kafka.topic, "message.timestamp.type=LogAppendTime")
    )


def configure_command(kafka: Kafka, topic: str, config: str) -> str:
    """Return the advice to run the command that sets a topic's `config`, as `name=value`."""
    return (
        f"run `kafka-configs --bootstrap-server {kafka.bootstrap} --alter --topic {topic} "
        f"--add-config {config}`"
    )
