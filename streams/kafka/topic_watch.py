"""Watches, while a worker runs, whether the settings of its topics put records at risk."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from streams.config.settings import Settings
from streams.errors import Unavailable
from streams.kafka.topic_settings import (
    TopicSettings,
    configure_command,
    read_topic_settings,
    topic_warnings,
)
from streams.logs.partition_log import PartitionLog
from streams.security.clients import client_kwargs

log = logging.getLogger(__name__)

FIRST_PARTITION = 0
MS_PER_H = 3_600_000


@dataclass(frozen=True, slots=True)
class Waiting:
    """A partition of which records wait to be counted."""

    offset: int  # of the first of them
    counted_to_ms: int  # Kafka timestamp of the last counted record


class TopicWatch:
    """Logs each risk once when it arises, with the fix.

    `read_owned`: the partitions of this worker; None if no record of a partition waits.
    """

    def __init__(
        self, settings: Settings, read_owned: Callable[[], Mapping[int, Waiting | None]]
    ) -> None:
        self._settings, self._read_owned = settings, read_owned
        self._partitions = 0  # of the topic, when it was last read
        self._warned: set[str] = set()
        self._late: set[int] = set()  # partitions that were warned of

    @property
    def risks(self) -> int:
        """Return how many risks there were at the last look."""
        return len(self._warned) + len(self._late)

    async def run(self) -> None:
        """Look at the topics for ever, as often as the consumer looks for new partitions."""
        # Once, so that an access token is used until it ends.
        secured = client_kwargs(self._settings.kafka)
        while True:
            try:
                topics = await read_topic_settings(self._settings.kafka, secured)
                self.check(topics, time.time_ns() // 1_000_000)
            except Unavailable:
                pass  # the consumer reports a broker that does not answer
            except Exception:  # an error here must not end a worker that counts
                log.exception("cannot check the settings of the topics")
            await asyncio.sleep(self._settings.kafka.metadata_max_age_s)

    def check(self, topics: TopicSettings, now_ms: int) -> None:
        """Log the changes since the last call."""
        owned = self._read_owned()
        self._check_partitions(topics)
        self._check_retention(topics, owned, now_ms)
        # All workers see the same settings, and one of them owns the first partition.
        is_first = FIRST_PARTITION in owned
        warnings = set(topic_warnings(self._settings, topics)) if is_first else set()
        for warning in sorted(warnings - self._warned):
            log.warning("%s", warning)
        self._warned = warnings

    def _check_partitions(self, topics: TopicSettings) -> None:
        # Each worker, as the first partition may move to another one at the same time.
        if 0 < self._partitions < topics.partitions:
            log.warning(
                "%s: has %d partitions, %d before: a request that is sent again may be in another "
                "one than before, and is then counted twice; set kafka.partitions to %d",
                self._settings.kafka.topic,
                topics.partitions,
                self._partitions,
                topics.partitions,
            )
        self._partitions = topics.partitions

    def _check_retention(
        self, topics: TopicSettings, owned: Mapping[int, Waiting | None], now_ms: int
    ) -> None:
        kafka, retention_ms = self._settings.kafka, topics.retention_ms
        if retention_ms is None:
            self._late.clear()
            return
        late = dict(_late(owned, retention_ms, now_ms))
        # Twice as long, if what `topics create` would set is no longer than that.
        longer_ms = max(int(kafka.retention_h * MS_PER_H), 2 * retention_ms)
        for partition in sorted(late.keys() - self._late):
            waiting = late[partition]
            PartitionLog(log, partition).at(waiting.offset).warning(
                "records wait here, and Kafka deletes them %.1f h after they came; the last "
                "counted one came %.1f h ago: %s, then resume a halted partition, or add workers",
                retention_ms / MS_PER_H,
                (now_ms - waiting.counted_to_ms) / MS_PER_H,
                configure_command(kafka, kafka.topic, f"retention.ms={longer_ms}"),
            )
        self._late = set(late)


def _late(
    owned: Mapping[int, Waiting | None], retention_ms: int, now_ms: int
) -> Iterator[tuple[int, Waiting]]:
    """Yield the partitions whose last counted record has lived for half of the retention."""
    for partition, waiting in owned.items():
        if waiting is not None and 2 * (now_ms - waiting.counted_to_ms) > retention_ms:
            yield partition, waiting
