"""The permissions that a Kafka user needs, and the command that grants each of them."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import IntEnum, StrEnum

from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    TopicAuthorizationFailedError,
)

from streams.config.settings import Kafka, Settings

NAMED_BY_USERNAME = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")


class Operation(IntEnum):
    """Operations, with the numbers of Kafka's protocol."""

    READ = 3
    WRITE = 4
    CREATE = 5
    DESCRIBE_CONFIGS = 10

    @property
    def title(self) -> str:
        """Return the name as kafka-acls writes it."""
        return "".join(part.capitalize() for part in self.name.split("_"))


class Resource(StrEnum):
    """The subject of an operation; the value is the option of kafka-acls."""

    TOPIC = "topic"
    GROUP = "group"


# A producer that may write to no topic is refused its number, by the cluster.
DENIALS = {
    TopicAuthorizationFailedError: Resource.TOPIC,
    GroupAuthorizationFailedError: Resource.GROUP,
    ClusterAuthorizationFailedError: Resource.TOPIC,
}


@dataclass(frozen=True, slots=True)
class Permission:
    """One operation on one topic or group."""

    operation: Operation
    resource: Resource
    name: str

    def denial(self, kafka: Kafka) -> str:
        """Return the line that names the denied permission, with the fix."""
        return (
            f"{self.name}: this user has no permission {self.operation.title} on the "
            f"{self.resource}; {self.advice(kafka)}"
        )

    def advice(self, kafka: Kafka) -> str:
        """Return the advice to run the command that grants it."""
        # With certificates and tokens, the brokers decide how a user is called.
        known = kafka.username and kafka.sasl_mechanism in NAMED_BY_USERNAME
        return (
            f"run `kafka-acls --bootstrap-server {kafka.bootstrap} --add --allow-principal "
            f"User:{kafka.username if known else 'NAME'} --operation {self.operation.title} "
            f"--{self.resource} {self.name}`"
        )


def reader_permissions(group: str, topic: str) -> tuple[Permission, ...]:
    """Return the operations that a consumer of a topic needs."""
    return (
        Permission(Operation.READ, Resource.TOPIC, topic),
        Permission(Operation.READ, Resource.GROUP, group),
    )


def worker_permissions(settings: Settings) -> Iterator[Permission]:
    """Yield the operations that a worker needs."""
    kafka = settings.kafka
    yield from reader_permissions(kafka.group, kafka.topic)
    yield Permission(Operation.WRITE, Resource.TOPIC, kafka.dlq_topic)
    if settings.worker.archive_interval_s:
        yield Permission(Operation.READ, Resource.TOPIC, kafka.archive_topic)
        yield Permission(Operation.WRITE, Resource.TOPIC, kafka.archive_topic)


def intake_group(kafka: Kafka) -> str:
    """Return the consumer group of the intake: its members read the sources, not the events."""
    return f"{kafka.group}-intake"


def intake_permissions(kafka: Kafka, sources: Collection[str]) -> Iterator[Permission]:
    """Yield the operations that an intake with these source topics needs."""
    yield Permission(Operation.WRITE, Resource.TOPIC, kafka.topic)
    yield Permission(Operation.WRITE, Resource.TOPIC, kafka.dlq_topic)
    for topic in sorted(sources):
        yield Permission(Operation.READ, Resource.TOPIC, topic)
    if sources:
        yield Permission(Operation.READ, Resource.GROUP, intake_group(kafka))


def explain(error: BaseException, kafka: Kafka, *needed: Permission) -> str:
    """Return an error in one line, with the fix if it denies one of the `needed` permissions."""
    resource = DENIALS.get(type(error))
    for permission in needed:
        if permission.resource is resource:
            return f"{type(error).__name__}: {permission.denial(kafka)}"
    return repr(error)
