"""What the settings of the event topic risk, as a broker shows them."""

import pytest

from streams.config.settings import Kafka
from streams.kafka.topics import timestamp_warning

KAFKA = Kafka(bootstrap="broker:9092", topic="calls")
TYPE, AFTER = "message.timestamp.type", "message.timestamp.after.max.ms"
UNLIMITED = "9223372036854775807"


def test_timestamps_of_senders_without_a_limit_are_warned_of_with_the_fix() -> None:
    assert timestamp_warning(KAFKA, {TYPE: "CreateTime", AFTER: UNLIMITED}) == (
        "calls: senders stamp its records (CreateTime), with any time in the future, as "
        "message.timestamp.after.max.ms is not set; run `kafka-configs --bootstrap-server "
        "broker:9092 --alter --topic calls --add-config message.timestamp.type=LogAppendTime`"
    )


@pytest.mark.parametrize(
    "configs",
    [
        {},
        {TYPE: "CreateTime"},
        {AFTER: UNLIMITED},
        {TYPE: "CreateTime", AFTER: "3600000"},
        {TYPE: "LogAppendTime", AFTER: UNLIMITED},
    ],
)
def test_a_limit_the_brokers_clock_or_unknown_settings_give_no_warning(
    configs: dict[str, str],
) -> None:
    assert timestamp_warning(KAFKA, configs) is None
