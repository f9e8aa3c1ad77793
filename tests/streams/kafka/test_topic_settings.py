"""What the settings of the topics risk, as a broker shows them."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import RequestTimedOutError, UnknownTopicOrPartitionError

from streams.config.settings import Settings
from streams.kafka.topic_settings import TopicSettings, partitions_warning, topic_warnings
from streams.kafka.topics import read_configs

SETTINGS = Settings(
    kafka={"bootstrap": "broker:9092", "topic": "calls", "archive_topic": "calls.state"},
    worker={"archive_interval_s": 3_600, "dedup_window_s": 1_800},
)
TYPE, AFTER = "message.timestamp.type", "message.timestamp.after.max.ms"
UNLIMITED = "9223372036854775807"
RUN = "run `kafka-configs --bootstrap-server broker:9092 --alter --topic"


def warned(events: dict[str, str], archive: dict[str, str] | None = None) -> list[str]:
    return list(topic_warnings(SETTINGS, TopicSettings(8, events, archive or {})))


def test_timestamps_of_senders_without_a_limit_are_warned_of_with_the_fix() -> None:
    assert warned({TYPE: "CreateTime", AFTER: UNLIMITED}) == [
        "calls: senders stamp its records (CreateTime), with any time in the future, as "
        "message.timestamp.after.max.ms is not set; "
        f"{RUN} calls --add-config message.timestamp.type=LogAppendTime`"
    ]


@pytest.mark.parametrize("policy", ["compact", "compact,delete"])
def test_compaction_of_the_events_is_warned_of_with_the_fix(policy: str) -> None:
    assert warned({"cleanup.policy": policy}) == [
        f"calls: cleanup.policy is {policy}: Kafka removes each record that is followed by one "
        "with the same key, also before it is counted; "
        f"{RUN} calls --add-config cleanup.policy=delete`"
    ]


def test_a_retention_shorter_than_the_archive_interval_is_warned_of_with_the_fix() -> None:
    assert warned({"cleanup.policy": "delete", "retention.ms": "3599999"}) == [
        "calls: retention.ms is 3599999, less than worker.archive_interval_s (3600 s), for which "
        f"Kafka must keep the records; {RUN} calls --add-config retention.ms=3456000000`"
    ]


def test_an_archive_that_is_deleted_by_age_is_warned_of_with_the_fix() -> None:
    assert warned({}, {"cleanup.policy": "delete"}) == [
        "calls.state: cleanup.policy is delete: Kafka deletes archived states by their age; "
        f"{RUN} calls.state --add-config cleanup.policy=compact`"
    ]


@pytest.mark.parametrize(
    "events",
    [
        {},
        {TYPE: "CreateTime"},
        {AFTER: UNLIMITED},
        {TYPE: "CreateTime", AFTER: "3600000"},
        {TYPE: "LogAppendTime", AFTER: UNLIMITED},
        {"cleanup.policy": "delete", "retention.ms": "3600000"},
        {"cleanup.policy": "delete", "retention.ms": "-1"},
        {"cleanup.policy": "delete", "retention.ms": UNLIMITED},
    ],
)
def test_settings_that_keep_all_records_or_are_unknown_give_no_warning(
    events: dict[str, str],
) -> None:
    assert warned(events, {"cleanup.policy": "compact"}) == []


def test_another_number_of_partitions_than_is_set_is_warned_of() -> None:
    assert partitions_warning(SETTINGS.kafka, TopicSettings(12)) == (
        "calls: has 12 partitions, kafka.partitions is 8; set it to 12"
    )
    assert partitions_warning(SETTINGS.kafka, TopicSettings(8)) is None
    assert partitions_warning(SETTINGS.kafka, TopicSettings()) is None  # no such topic


def described(code: int, *entries: tuple[str, str]) -> dict[str, str]:
    """The settings that a client reads from an answer with an error code of Kafka's protocol."""

    async def answer(_: Any) -> list[Any]:
        return [SimpleNamespace(resources=[(code, None, 2, "calls", list(entries))])]

    admin: Any = SimpleNamespace(describe_configs=answer)
    return asyncio.run(read_configs(admin, "calls"))


def test_only_a_denied_permission_hides_the_settings_of_a_topic() -> None:
    assert described(0, ("cleanup.policy", "delete")) == {"cleanup.policy": "delete"}
    assert described(29) == {}
    with pytest.raises(UnknownTopicOrPartitionError, match="it does not describe calls"):
        described(3)
    with pytest.raises(RequestTimedOutError):
        described(7)
