"""Faust's Kafka transport, with whole fetched batches delivered as one message each.

Everything that Faust and aiokafka do per record, or get wrong for batches, is overridden here:

- records: one message a fetched partition, its value a `Batch` (batches.py);
- where to read from: the offset in our own state, not the one committed to Kafka;
- acknowledgements and commits: what the state says is durable (Kafka's offset is for lag tools);
- errors of the group coordinator: raised instead of lost.

tests/test_pinned_sources.py pins the source of every method overridden or bypassed.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Set
from typing import Any, ClassVar

from aiokafka import AIOKafkaConsumer
from aiokafka.consumer.fetcher import FetchResult
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.errors import ConsumerStoppedError, KafkaError
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from faust.transport.drivers.aiokafka import (
    AIOKafkaConsumerThread,
    Consumer,
    Transport,
    credentials_to_aiokafka_auth,
    server_list,
)
from faust.types import TP, ConsumerMessage, Message

from streams.batches import Batch, take
from streams.config import Kafka

COMMIT_DEADLINE_S = 10.0
FETCH_PARTITIONS = 8  # partitions' worth of records in one answer of one broker


class BatchThread(AIOKafkaConsumerThread):
    """The consumer's own thread: fetches, seeks, commits."""

    consumer: "BatchConsumer"

    def _create_worker_consumer(
        self,
        transport: "BatchTransport",  # type: ignore[override]
    ) -> AIOKafkaConsumer:
        """A consumer with our assignor, fetch sizes and isolation (Faust offers none of them)."""
        kafka, conf = transport.kafka, self.app.conf
        self._assignor = RoundRobinPartitionAssignor
        return AIOKafkaConsumer(
            client_id=conf.broker_client_id,
            group_id=conf.id,
            bootstrap_servers=server_list(transport.url, transport.default_port),
            partition_assignment_strategy=[RoundRobinPartitionAssignor],
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            # Any limit in seconds would one day put a standby worker out of the group for good.
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
            metadata_max_age_ms=60_000,
            **credentials_to_aiokafka_auth(conf.broker_credentials, conf.ssl_context),
        )

    async def _fetch_records(
        self,
        consumer: AIOKafkaConsumer,
        active_partitions: Set[TP],
        timeout: float | None = None,
        max_records: int | None = None,
    ) -> Mapping[TP, list[Batch]]:
        """Everything that has been fetched for these partitions, one batch each."""
        if not self.consumer.flow_active:
            return {}
        fetcher = consumer._fetcher
        if consumer._closed or fetcher._closed:
            raise ConsumerStoppedError
        consumer._coordinator.check_errors()
        # Taken before the fetch: what arrives after a rebalance must not pass for the new owner's.
        generation: int = self.app.consumer_generation_id
        subscriptions = fetcher._subscriptions
        # Not its own context manager, which an exception leaves counting for ever.
        subscriptions._fetch_count += 1
        try:
            return await self._fetched(fetcher, active_partitions, generation, timeout or 0.0)
        finally:
            subscriptions._fetch_count -= 1
            if subscriptions._fetch_count == 0:
                subscriptions._last_fetch_ended = time.monotonic()

    async def _fetched(
        self, fetcher: Any, partitions: Set[TP], generation: int, timeout_s: float
    ) -> Mapping[TP, list[Batch]]:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while True:
            if fetcher._subscriptions.reassignment_in_progress:
                await fetcher._subscriptions.wait_for_assignment()
            drained: dict[TP, list[Batch]] = {}
            for tp in list(fetcher._records):
                found = fetcher._records[tp]
                if tp not in partitions:
                    if not fetcher._subscriptions.is_assigned(tp):
                        del fetcher._records[tp]
                    continue
                if not isinstance(found, FetchResult) and drained:
                    break  # hand over what there is; the error comes with the next call
                batch = None
                try:
                    if isinstance(found, FetchResult):
                        batch = take(found, generation)
                    else:
                        found.check_raise()
                finally:
                    if not isinstance(found, FetchResult) or not found.has_more() or batch is None:
                        del fetcher._records[tp]
                        fetcher._notify(fetcher._wait_consume_future)
                if batch is not None:
                    drained[TP(tp.topic, tp.partition)] = [batch]
            left_s = deadline - loop.time()
            if drained or left_s <= 0:
                return drained
            waiter = fetcher._create_fetch_waiter()
            done, _ = await asyncio.wait([waiter], timeout=left_s)
            if not done or fetcher._closed:
                waiter.cancel()
                return {}
            waiter.result()  # raises what the fetcher ran into

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        """Tell Kafka how far the state is. Best effort: nothing depends on it."""
        consumer = self._ensure_consumer()
        assigned = self.assignment()
        told = {
            TopicPartition(tp.topic, tp.partition): OffsetAndMetadata(offset, "")
            for tp, offset in offsets.items()
            if tp in assigned
        }
        if not told:
            return False
        try:
            await asyncio.wait_for(consumer.commit(told), COMMIT_DEADLINE_S)
        except (KafkaError, TimeoutError) as error:
            self.log.warning("offset commit failed, lag tools will lag: %r", error)
            return False
        return True


class BatchConsumer(Consumer):
    """The consumer as Faust's main thread sees it."""

    transport: "BatchTransport"

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

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Claim and load the state of all assigned partitions, and seek to where it ends.

        Faust calls this whenever it wants to know where to read on, after every assignment.
        """
        generation: int = self.app.consumer_generation_id
        assigned = set(self.assignment())
        offsets = await self.transport.load(assigned, generation)
        if offsets:
            # Also to 0: without a seek a partition would start at the offset committed to Kafka.
            await self.seek_wait(offsets)
        return offsets

    def ack(self, message: Message) -> bool:
        """Nothing to remember: what counts as done is what the state holds."""
        message.acked = True
        self._unacked_messages.discard(message)
        return True

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Batches span many offsets; Faust would keep them all as gaps."""

    async def force_commit(self, topics: object = None, start_new_transaction: bool = True) -> bool:
        """Commit what the state store has confirmed."""
        offsets = self.transport.durable()
        return bool(offsets) and bool(await self._commit(offsets))

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Faust's detector compares two different clocks here; the watchdog looks instead."""


class BatchTransport(Transport):
    """Transport with batch delivery; knows where the state's offsets come from."""

    Consumer: ClassVar[type[BatchConsumer]] = BatchConsumer

    def __init__(
        self,
        *args: Any,
        kafka: Kafka,
        load: Callable[[Set[TP], int], Awaitable[Mapping[TP, int]]],
        durable: Callable[[], Mapping[TP, int]],
        **kwargs: Any,
    ) -> None:
        """`load`: claim and load these partitions for this generation, answer their offsets.
        `durable`: the offsets whose records are in the store."""
        super().__init__(*args, **kwargs)
        self.kafka, self.load, self.durable = kafka, load, durable
