"""The archive in Kafka: states are written to a compacted topic about once an hour, and read back
on the day on which the store has lost them.

A shell around archive.py. It needs neither transactions nor an idempotent producer: a record sent
twice, late, or by a worker that no longer owns the partition changes no archive that is found.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from streams.config.settings import Kafka
from streams.errors import one_line
from streams.security.clients import client_kwargs
from streams.security.permissions import DENIALS, Operation, Permission, Resource, explain
from streams.store.archive import (
    Archived,
    ArchiveError,
    ArchivePlace,
    Ledger,
    Look,
    Record,
    Send,
    keep,
    restored,
    write,
)

log = logging.getLogger(__name__)

WRITE_DEADLINE_S = 120.0
READ_DEADLINE_S = 60.0
REQUEST_DEADLINE_S = 15.0  # also bounds how long a producer takes to stop
# More than a part of a value (archive.PART_BYTES) with its key.
BATCH_BYTES = 1_000_000
POLL_MS = 200

Client = TypeVar("Client", AIOKafkaConsumer, AIOKafkaProducer)


class KafkaArchive:
    """Archived states of one consumer group and topic in `kafka.archive_topic`."""

    def __init__(self, kafka: Kafka) -> None:
        """Raises ConfigError if a file of the security settings cannot be used."""
        self._kafka, self._topic = kafka, kafka.archive_topic
        self._clients: dict[str, Any] = {
            "bootstrap_servers": kafka.bootstrap,
            "request_timeout_ms": int(REQUEST_DEADLINE_S * 1_000),
            **client_kwargs(kafka),
        }
        self._ledgers: dict[int, Ledger] = {}
        self._ends: dict[str, int] = {}  # last offset written, by the prefix of a place
        self._reading = asyncio.Lock()

    async def write(self, partition: int, owner: str, look: Look) -> int | None:
        """Archive the state that `look` reads; return its offset, None if there is no state yet.

        Checkpoints may be written meanwhile.

        The first time for an `owner` (its token in the store) every field is written, after that
        those that changed. Raises ArchiveError, and what `look` raises; the archive before, if
        any, is then still there. Only one call at a time for a partition.
        """
        ledger = self._ledgers.pop(
            partition, None
        )  # after a failure half way, a new ledger is begun
        try:
            async with asyncio.timeout(WRITE_DEADLINE_S):
                if ledger is None or ledger.owner != owner:
                    # This precedes the first look, which confirms the ownership: each key found
                    # was written before a next owner could begin, so this owner may delete it.
                    place = self._place(partition)
                    found = await self._live(place, values=False)
                    ledger = Ledger(place, owner, uuid.uuid4().hex[:8], set(found))
                    self._ends[place.prefix] = -1
                async with self._sender(ledger.place) as send:
                    offset = await write(ledger, look, send, time.time_ns() // 1_000_000)
        except (KafkaError, OSError, TimeoutError) as error:
            raise self._unusable(partition, "written", error) from error
        self._ledgers[partition] = ledger
        return offset

    async def read(self, partition: int) -> Archived | None:
        """Return the newest complete state in the archive; None if there is none.

        States are large, so only one is read at a time. Raises ArchiveError.
        """
        place = self._place(partition)
        async with self._reading:
            try:
                async with asyncio.timeout(READ_DEADLINE_S):
                    live = await self._live(place, values=True)
                found, faults = restored(place, live)
            except (KafkaError, OSError, TimeoutError, ValueError) as error:
                raise self._unusable(partition, "read", error) from error
        for fault in faults:
            log.warning("%s: passed over: %s", self._topic, fault)
        return found

    async def live(self, place: ArchivePlace) -> dict[bytes, bytes]:
        """Return every key of `place` that has a value, with it. Raises ArchiveError."""
        # A topic that was made again has lower offsets, and its content is known from here on.
        self._ends[place.prefix] = -1
        try:
            async with self._reading, asyncio.timeout(READ_DEADLINE_S):
                return await self._live(place, values=True)
        except (KafkaError, OSError, TimeoutError) as error:
            raise self._unusable(place.partition, "read", error) from error

    async def send(self, place: ArchivePlace, records: Sequence[Record]) -> None:
        """Write records of `place`, and return when Kafka has them. Raises ArchiveError."""
        try:
            async with asyncio.timeout(WRITE_DEADLINE_S):
                self._ends.setdefault(place.prefix, -1)
                async with self._sender(place) as send:
                    await send(records)
        except (KafkaError, OSError, TimeoutError) as error:
            raise self._unusable(place.partition, "written", error) from error

    def _place(self, partition: int) -> ArchivePlace:
        return ArchivePlace(self._kafka.group, self._kafka.topic, partition)

    async def _live(self, place: ArchivePlace, values: bool) -> dict[bytes, bytes]:
        """Return the keys of `place` that have a value, in log order, with empty or real values."""
        live: dict[bytes, bytes] = {}
        consumer = AIOKafkaConsumer(
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=4 * 1_048_576,
            fetch_max_wait_ms=POLL_MS,
            **self._clients,
        )
        async with self._running(consumer):
            # All names: some brokers create a topic that is asked for.
            metadata = await consumer._client.fetch_all_metadata()
            tp = self._tp(place, metadata.partitions_for_topic(self._topic))
            consumer.assign([tp])
            await consumer.seek_to_beginning(tp)
            # The end of the log is that of the fetch response; other requests answer it wrongly on
            # some brokers.
            while consumer.highwater(tp) is None or (
                await consumer.position(tp) < consumer.highwater(tp)
            ):
                for record in (await consumer.getmany(tp, timeout_ms=POLL_MS)).get(tp, ()):
                    if place.owns(record.key):
                        value = record.value if values or record.value is None else b""
                        keep(live, record.key, value)
        return live

    def _tp(self, place: ArchivePlace, partitions: Iterable[int] | None) -> TopicPartition:
        """Return the partition of the archive topic that holds a partition's records."""
        if not partitions:
            raise ArchiveError(
                f"{self._topic}: no such topic at {self._kafka.bootstrap}; run `tokenpulse topics "
                "create`, or set kafka.archive_topic"
            )
        # The archive topic may have fewer partitions than that of the events.
        return TopicPartition(self._topic, place.partition % len(set(partitions)))

    @asynccontextmanager
    async def _sender(self, place: ArchivePlace) -> AsyncIterator[Send]:
        producer = AIOKafkaProducer(
            acks="all",
            compression_type="zstd",
            max_batch_size=BATCH_BYTES,
            linger_ms=5,
            **self._clients,
        )
        async with self._running(producer):
            metadata = await producer.client.fetch_all_metadata()
            tp = self._tp(place, metadata.partitions_for_topic(self._topic))

            async def send(records: Sequence[Record]) -> None:
                acks = [
                    await producer.send(tp.topic, value, key, tp.partition)
                    for key, value in records
                ]
                offsets = [sent.offset for sent in await asyncio.gather(*acks)]
                # A log that was emptied or made again continues at a lower offset.
                end = self._ends[place.prefix]
                if min(offsets, default=end + 1) <= end:
                    raise ArchiveError(
                        f"{tp.topic}: partition {tp.partition} has lost records or was made again: "
                        "the next archive will be written whole"
                    )
                self._ends[place.prefix] = max([end, *offsets])

            yield send

    def _unusable(self, partition: int, done: str, error: BaseException) -> ArchiveError:
        why = "no answer in time" if isinstance(error, TimeoutError) else one_line(error)
        return ArchiveError(
            f"{self._topic}: the archive of partition {partition} cannot be {done}: "
            f"{why or type(error).__name__}; see to the broker at {self._kafka.bootstrap}"
        )

    @asynccontextmanager
    async def _running(self, client: Client) -> AsyncIterator[Client]:
        """Start a client, and stop it. Raises ArchiveError if it is denied what it does."""
        reads = isinstance(client, AIOKafkaConsumer)
        operation = Operation.READ if reads else Operation.WRITE
        try:
            await client.start()
            yield client
        except tuple(DENIALS) as error:
            needed = Permission(operation, Resource.TOPIC, self._topic)
            raise ArchiveError(explain(error, self._kafka, needed)) from error
        finally:
            await client.stop()
