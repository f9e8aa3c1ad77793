"""Sends events to Kafka in large batches.

aiokafka's `send()` handles one record at a time, with a future for each. Here the records of a
chunk are partitioned together (murmur2 on arrays) and packed into record batches of up to
`max.message.bytes`, with one future a batch.

    send / send_many -> waiting records -> one open batch per partition -> queue per partition
                        (a chunk, or the linger is over)    (full, or the linger is over)

One batch per partition is in transit at a time, and the next leaves only after the broker has
confirmed it, so that a retry cannot overtake. A batch that the broker refuses, or does not confirm
within the delivery timeout, ends the producer: no later record is sent, and every later call raises
the error.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterable, Iterable, Sequence
from itertools import islice
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError

from streams.config.settings import Kafka
from streams.errors import Unavailable, one_line
from streams.kafka.topics import EMBEDDED_CLUSTER, check_broker
from streams.security.clients import client_kwargs
from streams.security.permissions import DENIALS, Operation, Permission, Resource, explain

Codec = Literal["gzip", "snappy", "lz4", "zstd", "none"]
Event = tuple[bytes | None, bytes]
Headers = list[tuple[str, bytes]]

# Records partitioned and packed at once: enough that array operations pay, and few enough (some ms)
# that the event loop serves the network in between.
CHUNK_RECORDS = 2_048
# A compressed batch may be larger than its content by this, if the content does not compress.
BATCH_SLACK_BYTES = 1_024
DELIVERY_TIMEOUT_S = 30
_NO_HEADERS: Headers = []


class EventProducer:
    """Sends (key, value) records to one topic; use it as an async context manager.

    `linger_ms`: time that a record may wait until its batch is full. `max_in_flight_bytes`: bytes
    accepted but not confirmed at which `send` waits. `sent`, `batches` and `sent_bytes` (keys and
    values, uncompressed) count confirmed records. Leaving the block sends the waiting records.

    Raises Unavailable if no broker answers, the topic is missing or the broker refuses a batch.
    """

    def __init__(
        self,
        kafka: Kafka,
        *,
        topic: str | None = None,
        linger_ms: float = 500,
        compression: Codec = "lz4",
        max_in_flight_bytes: int = 32 * 1_048_576,
        connect_timeout_s: float = 10,
    ) -> None:
        self.topic = topic or kafka.topic
        self.sent = 0
        self.sent_bytes = 0
        self.batches = 0
        self.end_offsets: dict[int, int] = {}  # per partition, after the last confirmed record
        self._kafka = kafka
        self._linger_s = linger_ms / 1000
        self._compression = compression
        self._max_in_flight_bytes = max_in_flight_bytes
        self._connect_timeout_s = connect_timeout_s
        self._waiting: list[tuple[bytes | None, bytes, int, Headers]] = []
        self._lanes: list[_Lane] = []
        self._unconfirmed_bytes = 0
        self._room = asyncio.Event()
        self._room.set()
        self._linger: asyncio.TimerHandle | None = None
        self._failure: Unavailable | None = None
        self._turn = 0  # partition of the next record without a key

    async def __aenter__(self) -> Self:
        secured = client_kwargs(self._kafka)
        cluster = await check_broker(self._kafka.bootstrap, self._connect_timeout_s, **secured)
        batch_bytes = self._kafka.max_message_bytes - BATCH_SLACK_BYTES
        self._producer = AIOKafkaProducer(
            bootstrap_servers=self._kafka.bootstrap,
            acks="all",
            # Numbers the batches, so that a batch repeated after a lost answer is stored once.
            enable_idempotence=not cluster.startswith(EMBEDDED_CLUSTER),
            compression_type=None if self._compression == "none" else self._compression,
            max_batch_size=batch_bytes,
            max_request_size=batch_bytes,
            request_timeout_ms=DELIVERY_TIMEOUT_S * 1000,
            metadata_max_age_ms=int(self._kafka.metadata_max_age_s * 1000),
            **secured,
        )
        try:
            await self._producer.start()
            # All names are read, as some brokers create a topic that a client asks for by name.
            metadata = await self._producer.client.fetch_all_metadata()
            if self.topic not in metadata.topics():
                raise Unavailable(
                    f"{self.topic}: no such topic at {self._kafka.bootstrap}; run `tokenpulse "
                    "topics create`, or set kafka.topic"
                )
            partitions = await self._producer.partitions_for(self.topic)
        except BaseException as error:
            await self._producer.stop()
            if isinstance(error, KafkaConnectionError):
                raise Unavailable(
                    f"no Kafka broker answers at {self._kafka.bootstrap}: start it, or set "
                    "kafka.bootstrap"
                ) from error
            raise
        self._lanes = [_Lane(partition) for partition in sorted(partitions)]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                await self.flush()
        finally:
            self._stop_linger()
            # After an error batches are left: their tasks must not outlive the producer.
            for lane in self._lanes:
                if lane.task is not None:
                    lane.task.cancel()
            await asyncio.gather(
                *(lane.task for lane in self._lanes if lane.task), return_exceptions=True
            )
            await self._producer.stop()

    async def send(
        self,
        key: bytes | None,
        value: bytes,
        timestamp_ms: int | None = None,
        headers: Headers | None = None,
    ) -> None:
        """Accept one record. Return when there is room, not when it is delivered.

        `timestamp_ms`: the record's Kafka timestamp, default now.
        """
        stamp = now_ms() if timestamp_ms is None else timestamp_ms
        self._waiting.append((key, value, stamp, _NO_HEADERS if headers is None else headers))
        if len(self._waiting) >= CHUNK_RECORDS:
            await self._pack_waiting()
        else:
            self._start_linger()
        if self._failure is not None:
            raise self._failure

    async def send_many(self, events: Sequence[Event], timestamp_ms: int | None = None) -> None:
        """Accept many records at once; much faster than `send` one by one, and in the same order.

        `timestamp_ms` is the Kafka timestamp of all of them, default now.
        """
        stamp = now_ms() if timestamp_ms is None else timestamp_ms
        for start in range(0, len(events), CHUNK_RECORDS):
            chunk = events[start : start + CHUNK_RECORDS]
            self._waiting.extend((key, value, stamp, _NO_HEADERS) for key, value in chunk)
            await self._pack_waiting()
        self._start_linger()

    async def flush(self) -> None:
        """Send all accepted records and wait until the broker has confirmed them."""
        self._stop_linger()
        self._pack()
        self._seal_all()
        # A loop, as a lane that ended may have received more batches meanwhile.
        while tasks := [lane.task for lane in self._lanes if lane.task is not None]:
            await asyncio.wait(tasks)
        if self._failure is not None:
            raise self._failure

    async def _pack_waiting(self) -> None:
        self._pack()
        if self._failure is None and self._unconfirmed_bytes >= self._max_in_flight_bytes:
            self._seal_all()  # open batches count too, and only sealed ones are sent
            self._room.clear()
            await self._room.wait()
        else:
            await asyncio.sleep(0)  # let the event loop serve the network
        if self._failure is not None:
            raise self._failure

    def _pack(self) -> None:
        """Move the waiting records into the open batch of their partition."""
        records, self._waiting = self._waiting, []
        if not records or self._failure is not None:
            return
        self._add_lanes()
        lanes = self._lanes
        numbers = self._partition([key for key, *_ in records])
        for (key, value, stamp, headers), number in zip(records, numbers, strict=True):
            lane = lanes[number]
            if lane.open is None:
                lane.open = self._producer.create_batch()
            record = {"timestamp": stamp, "key": key, "value": value, "headers": headers}
            if lane.open.append(**record) is None:  # it is full
                self._seal(lane)
                lane.open = self._producer.create_batch()
                lane.open.append(**record)
            size = len(value) + (len(key) if key is not None else 0)
            lane.open_bytes += size
            self._unconfirmed_bytes += size

    def _add_lanes(self) -> None:
        """Send to partitions too that were added since the start."""
        partitions = self._producer.client.cluster.partitions_for_topic(self.topic) or set()
        self._lanes += [_Lane(partition) for partition in sorted(partitions)[len(self._lanes) :]]

    def _partition(self, keys: list[bytes | None]) -> list[int]:
        """Return each key's partition: by Kafka's default partitioner, without a key in turn."""
        numbers: list[int] = partition_of([key or b"" for key in keys], len(self._lanes)).tolist()
        if None in keys:
            # In turn by record, not by batch as Kafka's own producer: batches stay equally large.
            for index, key in enumerate(keys):
                if key is None:
                    numbers[index] = self._turn
                    self._turn = (self._turn + 1) % len(self._lanes)
        return numbers

    def _seal_all(self) -> None:
        for lane in self._lanes:
            if lane.open is not None:
                self._seal(lane)

    def _seal(self, lane: "_Lane") -> None:
        assert lane.open is not None
        lane.open.close()
        lane.queue.append((lane.open, lane.open_bytes))
        lane.open, lane.open_bytes = None, 0
        if lane.task is None:
            lane.task = asyncio.create_task(self._deliver(lane))

    async def _deliver(self, lane: "_Lane") -> None:
        """Send a lane's batches one after another, each confirmed before the next leaves."""
        try:
            while lane.queue and self._failure is None:
                batch, size = lane.queue[0]
                delivery = await self._producer.send_batch(
                    batch, self.topic, partition=lane.partition
                )
                confirmed = await delivery
                self.end_offsets[lane.partition] = confirmed.offset + batch.record_count()
                lane.queue.popleft()
                self.sent += batch.record_count()
                self.sent_bytes += size
                self.batches += 1
                self._unconfirmed_bytes -= size
                if self._unconfirmed_bytes < self._max_in_flight_bytes:
                    self._room.set()
        except Exception as error:  # any error: this batch must not count as sent
            write = Permission(Operation.WRITE, Resource.TOPIC, self.topic)
            denied = type(error) in DENIALS
            self._failure = Unavailable(
                f"{self.topic}: partition {lane.partition} at {self._kafka.bootstrap} did not take "
                f"a batch of {batch.record_count()} records: "
                + (explain(error, self._kafka, write) if denied else one_line(error))
            )
            self._room.set()
        finally:
            lane.task = None

    def _start_linger(self) -> None:
        if self._linger is None:
            loop = asyncio.get_running_loop()
            self._linger = loop.call_later(self._linger_s, self._linger_over)

    def _stop_linger(self) -> None:
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None

    def _linger_over(self) -> None:
        self._linger = None
        self._pack()
        self._seal_all()


class _Lane:
    """One partition's batches: the open one, and those in the queue."""

    __slots__ = ("open", "open_bytes", "partition", "queue", "task")

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.open: Any = None  # aiokafka's BatchBuilder
        self.open_bytes = 0
        self.queue: deque[tuple[Any, int]] = deque()
        self.task: asyncio.Task[None] | None = None


async def produce(events: Iterable[Event] | AsyncIterable[Event], producer: EventProducer) -> int:
    """Send all events as fast as the broker takes them. Return the number that it confirmed."""
    before = producer.sent
    if isinstance(events, AsyncIterable):
        chunk: list[Event] = []
        async for event in events:
            chunk.append(event)
            if len(chunk) == CHUNK_RECORDS:
                await producer.send_many(chunk)
                chunk = []
        await producer.send_many(chunk)
    else:
        source = iter(events)
        while chunk := list(islice(source, CHUNK_RECORDS)):
            await producer.send_many(chunk)
    await producer.flush()
    return producer.sent - before


def partition_of(keys: Sequence[bytes], partitions: int) -> npt.NDArray[np.int64]:
    """Return Kafka's default partition of each key: murmur2 without sign bit, modulo `partitions`.

    Pure. Source: org.apache.kafka.clients.producer.internals.BuiltInPartitioner and
    org.apache.kafka.common.utils.Utils.murmur2, computed for all keys of one length together.
    """
    by_length: dict[int, list[int]] = {}
    for index, key in enumerate(keys):
        by_length.setdefault(len(key), []).append(index)
    numbers = np.empty(len(keys), np.int64)
    for length, indexes in by_length.items():
        joined = b"".join([keys[index] for index in indexes])
        # One row a key: all keys of one length are hashed by the same array operations.
        hashes = _murmur2(np.frombuffer(joined, np.uint8).reshape(len(indexes), length))
        numbers[indexes] = (hashes & np.uint32(0x7FFFFFFF)) % np.uint32(partitions)
    return numbers


def _murmur2(keys: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint32]:
    """Return the murmur2 hash of each row; arithmetic wraps at 32 bits, as in Java."""
    count, length = keys.shape
    m = np.uint32(0x5BD1E995)
    h = np.full(count, np.uint32(0x9747B28C) ^ np.uint32(length), np.uint32)
    words = length // 4
    # Little-endian words, one column a step: (word 0 of every key), (word 1 of every key), ...
    columns = np.ascontiguousarray(keys[:, : words * 4]).view("<u4").T if words else ()
    for column in columns:
        k = column.astype(np.uint32) * m
        k ^= k >> np.uint32(24)
        h *= m
        h ^= k * m
    rest = length % 4  # bytes after the last whole word
    for byte in range(rest - 1, -1, -1):
        h ^= keys[:, words * 4 + byte].astype(np.uint32) << np.uint32(8 * byte)
    if rest:
        h *= m
    # Kafka's final mix, with its constants.
    h ^= h >> np.uint32(13)
    h *= m
    h ^= h >> np.uint32(15)
    return h


def now_ms() -> int:
    """Return the present time in milliseconds, as Kafka stamps records."""
    return time.time_ns() // 1_000_000
