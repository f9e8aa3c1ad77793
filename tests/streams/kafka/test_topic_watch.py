"""What a running worker logs about the settings of its topics."""

import asyncio
from typing import Any

import pytest

from streams.config.settings import Settings
from streams.kafka.topic_settings import TopicSettings
from streams.kafka.topic_watch import TopicWatch, Waiting

SETTINGS = Settings(
    kafka={"bootstrap": "broker:9092", "topic": "calls", "partitions": 2, "retention_h": 8},
    worker={"archive_interval_s": 0, "dedup_window_s": 0},
)
HOUR_MS = 3_600_000
NOW_MS = 1_000 * HOUR_MS


class Watched:
    """A watch over the partitions that a test sets, and the lines it has logged since the last
    question."""

    def __init__(self, log: pytest.LogCaptureFixture) -> None:
        self.owned: dict[int, Waiting | None] = {0: None}
        self.watch, self._log = TopicWatch(SETTINGS, lambda: self.owned), log

    def lines(
        self, policy: str = "delete", retention_ms: int = -1, partitions: int = 2
    ) -> list[str]:
        self._log.clear()
        events = {"cleanup.policy": policy, "retention.ms": str(retention_ms)}
        self.watch.check(TopicSettings(partitions, events), NOW_MS)
        return [record.getMessage() for record in self._log.records]


@pytest.fixture
def watched(caplog: pytest.LogCaptureFixture) -> Watched:
    return Watched(caplog)


def test_a_mistake_is_logged_once_and_again_after_it_was_corrected(watched: Watched) -> None:
    assert watched.lines() == []
    [line] = watched.lines("compact")
    assert "calls: cleanup.policy is compact" in line
    assert watched.lines("compact") == []
    assert watched.lines() == []
    assert watched.lines("compact") == [line]


def test_risks_are_counted_while_they_last(watched: Watched) -> None:
    watched.owned = {0: None, 1: Waiting(600, NOW_MS - 5 * HOUR_MS)}
    watched.lines("compact,delete", retention_ms=8 * HOUR_MS)
    assert watched.watch.risks == 2  # the setting, and one partition
    watched.owned = {1: None}
    watched.lines("compact,delete", retention_ms=8 * HOUR_MS)
    assert watched.watch.risks == 0  # the owner of the first partition counts the setting
    watched.owned = {0: None}
    watched.lines()
    assert watched.watch.risks == 0


def test_of_several_workers_the_owner_of_the_first_partition_logs_it(watched: Watched) -> None:
    watched.owned = {1: None}
    assert watched.lines("compact") == []


def test_partitions_that_were_added_are_logged_once(watched: Watched) -> None:
    assert watched.lines(partitions=2) == []
    assert watched.lines(partitions=3) == [
        "calls: has 3 partitions, 2 before: a request that is sent again may be in another one "
        "than before, and is then counted twice; set kafka.partitions to 3"
    ]
    assert watched.lines(partitions=3) == []


@pytest.mark.parametrize("age_h", [3.9, 4.1])
def test_a_partition_is_late_when_its_last_counted_record_has_half_of_its_life_behind_it(
    watched: Watched, age_h: float
) -> None:
    watched.owned = {0: None, 1: Waiting(600, NOW_MS - round(age_h * HOUR_MS))}
    lines = watched.lines(retention_ms=8 * HOUR_MS)
    if age_h < 4:
        assert lines == []
        return
    assert lines == [
        "records wait here, and Kafka deletes them 8.0 h after they came; the last counted one "
        "came 4.1 h ago: run `kafka-configs --bootstrap-server broker:9092 --alter --topic calls "
        "--add-config retention.ms=57600000`, then resume a halted partition, or add workers"
    ]
    assert watched.lines(retention_ms=8 * HOUR_MS) == []
    watched.owned = {0: None, 1: None}
    assert watched.lines(retention_ms=8 * HOUR_MS) == []


def test_a_log_without_retention_makes_no_partition_late(watched: Watched) -> None:
    watched.owned = {1: Waiting(600, 0)}
    assert watched.lines(retention_ms=-1) == []
    assert watched.lines() == []


def test_an_answer_that_cannot_be_used_does_not_end_the_watch(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    answers: list[Exception | TopicSettings] = [
        AttributeError("no controller"),  # aiokafka's, during an election
        TopicSettings(2, {"cleanup.policy": "delete", "retention.ms": "a week"}),
        TopicSettings(2, {"cleanup.policy": "compact"}),
    ]

    async def answer(*_: Any) -> TopicSettings:
        given = answers.pop(0)
        if isinstance(given, Exception):
            raise given
        return given

    async def run() -> None:
        watch = TopicWatch(settings, lambda: {0: None})
        task = asyncio.create_task(watch.run())
        try:
            async with asyncio.timeout(20):
                while not watch.risks:
                    assert not task.done()
                    await asyncio.sleep(0.01)
        finally:
            task.cancel()

    kafka = SETTINGS.kafka.model_copy(update={"metadata_max_age_s": 0.01})
    settings = SETTINGS.model_copy(update={"kafka": kafka})
    monkeypatch.setattr("streams.kafka.topic_watch.read_topic_settings", answer)
    asyncio.run(run())
    lines = [record.getMessage() for record in caplog.records]
    assert lines[:2] == ["cannot check the settings of the topics"] * 2
    assert "calls: cleanup.policy is compact" in lines[2]
