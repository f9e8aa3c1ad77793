"""Faust's Kafka transport, with whole fetched batches delivered as one message each.

This module overrides all that Faust and aiokafka do per record, or do wrongly for batches:

- records: one message for all records fetched of a partition, its value a `Batch` (fetch.py);
- the offset to read from: that of our own state, not the one committed to Kafka;
- acknowledgements and commits: the offset that the store holds (Kafka's is for lag tools);
- errors of the group coordinator: raised instead of lost.

tests/streams/kafka/test_pinned_sources.py pins the source of every method overridden or bypassed.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Set
from dataclasses import replace
from typing import Any, ClassVar, NoReturn, cast

from aiokafka import AIOKafkaConsumer
from aiokafka.consumer.fetcher import FetchResult
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.errors import (
    CommitFailedError,
    ConsumerStoppedError,
    IllegalStateError,
    KafkaError,
)
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from faust.transport.drivers.aiokafka import (
    AIOKafkaConsumerThread,
    Consumer,
    Transport,
    server_list,
)
from faust.types import TP, ConsumerMessage, Message

from streams.config.settings import Kafka
from streams.kafka.fetch import Batch, keep_bytes, take
from streams.kafka.read_offsets import NoReadOffsets
from streams.kafka.secure_producer import SecureProducer
from streams.security.clients import client_kwargs
from streams.security.permissions import DENIALS, explain, reader_permissions
from streams.watchdog import die

COMMIT_DEADLINE_S = 10.0
GROUP_CHECK_S = 1.0
READ_AGAIN_S = 5.0  # how often a batch that cannot be read is fetched, and reported, again


class BatchThread(AIOKafkaConsumerThread):
    """The consumer's own thread: fetches, seeks, commits."""

    consumer: "BatchConsumer"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.epochs: dict[TP, int] = {}  # number of seeks made, by partition
        self._reported: set[FetchResult] = set()  # whose next batch was reported as unreadable
        self.answered_at: float | None = None  # monotonic; last answer of any broker

    async def on_start(self) -> None:
        """Start to watch the group, as a fetch would.

        While no partition is assigned there is no fetch, which would also check the group's errors.
        """
        await super().on_start()
        self.add_future(self._watch_group())

    async def _watch_group(self) -> None:
        while True:
            await asyncio.sleep(GROUP_CHECK_S)
            self._note_answer(self._ensure_consumer())
            try:
                self._ensure_consumer()._coordinator.check_errors()
            except Exception as error:
                self._end(error)

    def _end(self, error: Exception) -> NoReturn:
        # An error about a topic names it.
        needed = reader_permissions(self.app.conf.id, "".join(map(str, error.args[:1])))
        why = explain(error, self.consumer.transport.kafka, *needed)
        die(f"the brokers refuse this consumer: {why}")

    def _note_answer(self, consumer: AIOKafkaConsumer) -> None:
        """Note when a broker last answered: fetches and group heartbeats are answered every few
        seconds. A connection that closes leaves the client, so the newest time is kept."""
        answers = [connection._last_action for connection in consumer._client._conns.values()]
        if self.answered_at is not None:
            answers.append(self.answered_at)
        self.answered_at = max(answers, default=None)

    def _create_worker_consumer(
        self,
        transport: "BatchTransport",  # type: ignore[override]
    ) -> AIOKafkaConsumer:
        """Return a consumer with settings that Faust lacks: assignor, fetch sizes, isolation."""
        kafka, conf = transport.kafka, self.app.conf
        keep_bytes()
        self._assignor = RoundRobinPartitionAssignor
        return AIOKafkaConsumer(
            client_id=conf.broker_client_id,
            group_id=conf.id,
            bootstrap_servers=server_list(transport.url, transport.default_port),
            partition_assignment_strategy=[RoundRobinPartitionAssignor],
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            # With a limit in use, a standby worker would one day leave the group for good.
            max_poll_interval_ms=int(conf.broker_max_poll_interval * 1_000),
            max_partition_fetch_bytes=kafka.fetch_max_partition_bytes,
            fetch_max_bytes=64 * kafka.fetch_max_partition_bytes,
            fetch_max_wait_ms=500,
            request_timeout_ms=int(conf.broker_request_timeout * 1_000),
            check_crcs=conf.broker_check_crcs,
            session_timeout_ms=int(conf.broker_session_timeout * 1_000),
            rebalance_timeout_ms=int(conf.broker_rebalance_timeout * 1_000),
            heartbeat_interval_ms=int(conf.broker_heartbeat_interval * 1_000),
            isolation_level=kafka.isolation_level,
            metadata_max_age_ms=int(kafka.metadata_max_age_s * 1_000),
            **client_kwargs(kafka),
        )

    async def _fetch_records(
        self,
        consumer: AIOKafkaConsumer,
        active_partitions: Set[TP],
        timeout: float | None = None,
        max_records: int | None = None,
    ) -> Mapping[TP, list[Batch]]:
        """Return all records fetched for these partitions, as one batch each."""
        if not self.consumer.flow_active:
            return {}
        fetcher = consumer._fetcher
        if consumer._closed or fetcher._closed:
            raise ConsumerStoppedError
        subscriptions = fetcher._subscriptions
        # Not aiokafka's context manager: after an exception it would never count down again.
        subscriptions._fetch_count += 1
        try:
            consumer._coordinator.check_errors()
            return await self._next_batches(fetcher, active_partitions, timeout or 0.0)
        except tuple(DENIALS) as error:
            self._end(error)
        finally:
            subscriptions._fetch_count -= 1
            if subscriptions._fetch_count == 0:
                subscriptions._last_fetch_ended = time.monotonic()

    async def _next_batches(
        self, fetcher: Any, partitions: Set[TP], timeout_s: float
    ) -> Mapping[TP, list[Batch]]:
        """Wait up to `timeout_s` for fetched records. Return a list of one batch a partition.

        Replaces aiokafka's `Fetcher.fetched_records`, and raises the errors of the fetcher.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while True:
            if fetcher._subscriptions.reassignment_in_progress:
                await fetcher._subscriptions.wait_for_assignment()
            batches = self._take_all(fetcher, partitions)
            left_s = deadline - loop.time()
            if batches or left_s <= 0:
                return batches
            waiter = fetcher._create_fetch_waiter()
            done, _ = await asyncio.wait([waiter], timeout=left_s)
            if not done or fetcher._closed:
                waiter.cancel()
                return {}
            waiter.result()  # raises an error of the fetcher

    def _take_all(self, fetcher: Any, partitions: Set[TP]) -> dict[TP, list[Batch]]:
        """Take the next batch of each partition whose records are there."""
        batches: dict[TP, list[Batch]] = {}
        for tp in list(fetcher._records):
            response = fetcher._records[tp]
            if tp not in partitions:
                # Those of a paused partition are kept.
                if not fetcher._subscriptions.is_assigned(tp):
                    del fetcher._records[tp]
                continue
            if response in self._reported:  # fetched again after READ_AGAIN_S
                continue
            if not isinstance(response, FetchResult):  # an error
                if batches:
                    break  # deliver these first; the next call raises the error
                _discard(fetcher, tp)
                response.check_raise()
                continue
            batch = self._take_one(fetcher, tp, response)
            if batch is not None:
                batches[TP(tp.topic, tp.partition)] = [batch]
        return batches

    def _take_one(self, fetcher: Any, tp: TopicPartition, response: FetchResult) -> Batch | None:
        generation: int = self.app.consumer_generation_id
        batch = None
        try:
            batch = take(response, generation, self.consumer.transport.max_batch_bytes)
        finally:
            if batch is None or not response.has_more():
                _discard(fetcher, tp)
        if batch is None:
            return None
        if batch.unreadable is not None:
            # Kept for a while, as the fetcher would at once fetch it again.
            self._reported.add(response)
            loop = asyncio.get_running_loop()
            loop.call_later(READ_AGAIN_S, self._read_again, fetcher, tp, response)
        # A seek drops all records that were fetched before it. So these belong to the last seek,
        # however long before it the call began that waited for them.
        return replace(batch, epoch=self.epochs.get(TP(tp.topic, tp.partition), 0))

    def _read_again(self, fetcher: Any, tp: TopicPartition, response: FetchResult) -> None:
        """Drop a response with an unreadable batch, so that it is fetched again."""
        self._reported.discard(response)
        if fetcher._records.get(tp) is response:
            _discard(fetcher, tp)

    async def _seek_wait(self, consumer: AIOKafkaConsumer, partitions: Mapping[TP, int]) -> None:
        """Seek. Batches that are fetched from now on bear the next epoch."""
        for tp, offset in partitions.items():
            consumer.seek(TopicPartition(tp.topic, tp.partition), offset)
            self.epochs[tp] = self.epochs.get(tp, 0) + 1

    async def confirm(self, tps: Set[TP]) -> Mapping[TP, int] | None:
        """Return the committed offsets of partitions, 0 if there is none.

        None if the group coordinator has assigned the partitions to another worker. To find out,
        the offsets are committed once more with our generation: a broker accepts that only from
        the present owner. So a worker that slept through a rebalance does not claim the state of
        another. Raises KafkaError, TimeoutError.
        """
        consumer = self._ensure_consumer()
        wanted = [TopicPartition(tp.topic, tp.partition) for tp in tps]
        async with asyncio.timeout(COMMIT_DEADLINE_S):
            known = await consumer._coordinator.fetch_committed_offsets(wanted)
            offsets = {tp: max(0, known[tp].offset) if tp in known else 0 for tp in wanted}
            try:
                await consumer.commit(
                    {tp: OffsetAndMetadata(offset, "") for tp, offset in offsets.items()}
                )
            except (CommitFailedError, IllegalStateError) as error:
                self.log.warning(
                    "the group has assigned its partitions without this worker: %s", error
                )
                return None
        return {TP(tp.topic, tp.partition): offset for tp, offset in offsets.items()}

    async def log_start(self, tp: TP) -> int:
        """Return the first offset that a partition's log still has. Raises KafkaError."""
        wanted = TopicPartition(tp.topic, tp.partition)
        return int((await self._ensure_consumer().beginning_offsets([wanted]))[wanted])

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        """Commit offsets to Kafka, and return whether it worked.

        Counting does not depend on it: the store has the offsets that matter.
        """
        consumer = self._ensure_consumer()
        assigned = self.assignment()
        commits = {
            TopicPartition(tp.topic, tp.partition): OffsetAndMetadata(offset, "")
            for tp, offset in offsets.items()
            if tp in assigned
        }
        if not commits:
            return False
        try:
            await asyncio.wait_for(consumer.commit(commits), COMMIT_DEADLINE_S)
        except (KafkaError, TimeoutError) as error:
            self.log.warning("offset commit failed, lag tools will lag: %r", error)
            return False
        return True


def _discard(fetcher: Any, tp: TopicPartition) -> None:
    """Drop a partition's response, so that the fetcher asks for the next one."""
    del fetcher._records[tp]
    fetcher._notify(fetcher._wait_consume_future)


class BatchConsumer(Consumer):
    """The consumer in Faust's main thread; its calls go to the `BatchThread`."""

    transport: "BatchTransport"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._read_offset = NoReadOffsets()
        self._seeking = asyncio.Lock()  # held while partitions are claimed and loaded
        self.forget_assignment()

    def _new_consumer_thread(self) -> BatchThread:
        return BatchThread(self, loop=self.loop, beacon=self.beacon)

    def _to_message(self, tp: TP, record: Batch) -> ConsumerMessage:
        return ConsumerMessage(
            record.topic,
            record.partition,
            record.fetch_offset,
            0.0,
            0,
            None,
            None,
            record,  # type: ignore[arg-type]  # Faust passes any value through
            None,
            tp=tp,
            generation_id=record.generation,
        )

    def forget_assignment(self) -> None:
        """Forget the loaded assignment after its partitions were given back.

        The next one is then loaded even if it looks the same: a group that was empty for a moment
        may number its generations anew.
        """
        self._loaded: tuple[int, Set[TP], Mapping[TP, int]] = (-1, set(), {})

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Claim and load the state of all assigned partitions, and seek to its end.

        Faust calls this after every assignment. Return the offset of each partition.
        """
        # Faust calls it from two places at once; a second claim would lock out the first.
        async with self._seeking:
            generation: int = self.app.consumer_generation_id
            assigned = set(self.assignment())
            if not assigned:
                return {}
            if self._loaded[:2] == (generation, assigned):
                return self._loaded[2]
            offsets = await self.transport.load(assigned, generation)
            if offsets:
                # Also to 0: else a partition would start at the offset committed to Kafka.
                self.transport.note_seeks(await self.seek_to(offsets))
                self._loaded = (generation, assigned, offsets)
            return offsets

    async def confirm(self, tps: Set[TP]) -> Mapping[TP, int] | None:
        """Return committed offsets. See `BatchThread.confirm`."""
        thread = cast(BatchThread, self._thread)
        offsets: Mapping[TP, int] | None = await thread.call_thread(thread.confirm, tps)
        return offsets

    async def log_start(self, tp: TP) -> int:
        thread = cast(BatchThread, self._thread)
        return cast(int, await thread.call_thread(thread.log_start, tp))

    def broker_silence_s(self) -> float | None:
        """Return the seconds since a broker last answered; None before the first answer."""
        answered_at = cast(BatchThread, self._thread).answered_at
        return None if answered_at is None else time.monotonic() - answered_at

    async def seek_to(self, offsets: Mapping[TP, int]) -> Mapping[TP, int]:
        """Seek, and return the epochs of all batches that are fetched from now on."""
        await self.seek_wait(offsets)
        epochs = cast(BatchThread, self._thread).epochs
        return {tp: epochs[tp] for tp in offsets}

    def ack(self, message: Message) -> bool:
        """Accept an acknowledgement, and ignore it: only the stored offset counts."""
        message.acked = True
        self._unacked_messages.discard(message)
        return True

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Do not keep gaps: a batch spans many offsets, which Faust would all keep."""

    async def force_commit(self, topics: object = None, start_new_transaction: bool = True) -> bool:
        """Commit the offsets that the store has confirmed."""
        # Not Faust's acknowledged offsets: they run ahead of the store.
        offsets = self.transport.durable_offsets()
        return bool(offsets) and bool(await self._commit(offsets))

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Do not look for stalls: Faust compares two different clocks, and we have a watchdog."""


class BatchTransport(Transport):
    """Transport that delivers batches, with callbacks to the worker."""

    Consumer: ClassVar[type[BatchConsumer]] = BatchConsumer
    Producer: ClassVar[type[SecureProducer]] = SecureProducer

    def __init__(
        self,
        *args: Any,
        kafka: Kafka,
        max_batch_bytes: int,
        load: Callable[[Set[TP], int], Awaitable[Mapping[TP, int]]],
        note_seeks: Callable[[Mapping[TP, int]], None],
        durable_offsets: Callable[[], Mapping[TP, int]],
        **kwargs: Any,
    ) -> None:
        """`load` claims and loads partitions for a generation, and returns their offsets;
        `note_seeks` receives the epochs after the seeks to these offsets; `durable_offsets`
        returns the offsets before which all records are in the store."""
        super().__init__(*args, **kwargs)
        self.kafka, self.max_batch_bytes = kafka, max_batch_bytes
        self.load, self.note_seeks, self.durable_offsets = load, note_seeks, durable_offsets
