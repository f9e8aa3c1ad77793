"""Reads what a topic contains now, beside the workers: without a group, and without commits."""

from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from streams.config.settings import Kafka
from streams.errors import Unavailable
from streams.security.clients import client_kwargs
from streams.security.permissions import DENIALS, Operation, Permission, Resource, explain

_BATCH = 4_096
_POLL_MS = 500
# So many empty polls in a row, 30 s, mean that the brokers are silent.
_SILENCE_POLLS = 60

Records = list[ConsumerRecord[Any, Any]]


class TopicReader:
    """A consumer of one topic; use it as an async context manager.

    `begins` and `ends`: offsets by partition, as they were on entry. What is written later is not
    read: a busy topic would never end. Raises Unavailable if Kafka does not answer or has no such
    topic.
    """

    def __init__(self, kafka: Kafka, topic: str) -> None:
        self.topic = topic
        self.begins: dict[int, int] = {}
        self.ends: dict[int, int] = {}
        self._kafka = kafka

    async def __aenter__(self) -> Self:
        kafka = self._kafka
        self._consumer: AIOKafkaConsumer[Any, Any] = AIOKafkaConsumer(
            bootstrap_servers=kafka.bootstrap,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            isolation_level=kafka.isolation_level,
            max_partition_fetch_bytes=kafka.fetch_max_partition_bytes,
            **client_kwargs(kafka),
        )
        try:
            await self._consumer.start()
            # All names: asking for one name would make some brokers create it. The consumer's own
            # metadata lacks topics that it is not assigned yet, so its answer is used.
            metadata = await self._consumer._client.fetch_all_metadata()
            numbers = metadata.partitions_for_topic(self.topic)
            if not numbers:
                raise Unavailable(
                    f"{self.topic}: no such topic at {kafka.bootstrap}; run `tokenpulse topics "
                    "create`, or correct the setting"
                )
            partitions = [TopicPartition(self.topic, number) for number in sorted(numbers)]
            self._consumer.assign(partitions)
            for partition in partitions:
                self.begins[partition.partition] = await self._consumer.position(partition)
            await self._find_ends(partitions)
        except (KafkaError, OSError) as error:
            await self._consumer.stop()
            raise self._unavailable(error) from error
        # After a cancellation too: an open consumer would keep its tasks.
        except BaseException:
            await self._consumer.stop()
            raise
        return self

    async def _find_ends(self, partitions: list[TopicPartition]) -> None:
        """Take the ends from answers to fetches: the embedded broker lists wrong ones."""
        for _ in range(_SILENCE_POLLS):
            for partition in partitions:
                end = self._consumer.highwater(partition)
                if end is not None:
                    self.ends.setdefault(partition.partition, end)
            if len(self.ends) == len(partitions):
                return
            # The record itself is read again after a seek.
            await self._consumer.getmany(timeout_ms=_POLL_MS, max_records=1)
        raise self._silence()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._consumer.stop()

    async def read(
        self, starts: Mapping[int, int] | None = None
    ) -> AsyncIterator[tuple[TopicPartition, Records]]:
        """Yield the records by partition, from `starts` or else from the begin, up to `ends`."""
        # A partition without records is left out: none of it would ever come.
        wanted = {
            TopicPartition(self.topic, number): (starts or self.begins)[number]
            for number, end in self.ends.items()
            if (starts or self.begins)[number] < end
        }
        if not wanted:
            return
        try:
            self._consumer.assign(list(wanted))
            for partition, start in wanted.items():
                self._consumer.seek(partition, start)
            silent = 0
            while not await self._is_read(list(wanted)):
                batches = await self._consumer.getmany(timeout_ms=_POLL_MS, max_records=_BATCH)
                for partition, records in batches.items():
                    end = self.ends[partition.partition]
                    # A fetch may reach beyond the end, as producers write meanwhile.
                    yield partition, [record for record in records if record.offset < end]
                silent = 0 if batches else silent + 1
                if silent > _SILENCE_POLLS:
                    raise self._silence()
        except (KafkaError, OSError) as error:
            raise self._unavailable(error) from error

    async def fetch(self, number: int, offset: int) -> ConsumerRecord[Any, Any] | None:
        """Return the record at an offset of a partition; None if Kafka no longer has it."""
        # Beyond the end a fetch would wait for a record that may never come.
        if not self.begins.get(number, 0) <= offset < self.ends.get(number, 0):
            return None
        partition = TopicPartition(self.topic, number)
        try:
            self._consumer.assign([partition])
            self._consumer.seek(partition, offset)
            for _ in range(_SILENCE_POLLS):
                batches = await self._consumer.getmany(timeout_ms=_POLL_MS, max_records=1)
                for record in batches.get(partition, ()):
                    # Compaction or a transaction may have left a gap.
                    return record if record.offset == offset else None
        except (KafkaError, OSError) as error:
            raise self._unavailable(error) from error
        raise self._silence()

    async def _is_read(self, partitions: list[TopicPartition]) -> bool:
        # Positions pass records that are not handed out, such as the markers of transactions.
        return all(
            [
                await self._consumer.position(partition) >= self.ends[partition.partition]
                for partition in partitions
            ]
        )

    def _silence(self) -> Unavailable:
        return Unavailable(
            f"{self.topic}: no record came for {_SILENCE_POLLS * _POLL_MS // 1_000} s before its "
            "end; look at the brokers"
        )

    def _unavailable(self, error: Exception) -> Unavailable:
        if type(error) in DENIALS:
            read = Permission(Operation.READ, Resource.TOPIC, self.topic)
            return Unavailable(explain(error, self._kafka, read))
        return Unavailable(f"kafka.bootstrap: {self._kafka.bootstrap}: {error}; is Kafka running?")
