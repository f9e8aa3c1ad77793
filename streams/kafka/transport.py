"""Faust's Kafka transport, with whole fetched batches delivered as one message each.

Everything that Faust and aiokafka do per record, or get wrong for batches, is overridden here:

- records: one message a fetched partition, its value a `Batch` (fetch.py);
- where to read from: the offset in our own state, not the one committed to Kafka;
- acknowledgements and commits: what the state says is durable (Kafka's offset is for lag tools);
- errors of the group coordinator: raised instead of lost.

tests/streams/kafka/test_pinned_sources.py pins the source of every method overridden or bypassed.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Set
from dataclasses import replace
from typing import Any, ClassVar, cast

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
    Producer,
    Transport,
    server_list,
)
from faust.types import TP, ConsumerMessage, Message

from streams.config.security import client_kwargs
from streams.config.settings import Kafka
from streams.kafka.fetch import Batch, keep_bytes, take
from streams.watchdog import die

COMMIT_DEADLINE_S = 10.0
LOOK_AT_GROUP_S = 1.0
READ_AGAIN_S = 5.0  # how often a batch that cannot be read is fetched, and reported, again


class BatchThread(AIOKafkaConsumerThread):
    """The consumer's own thread: fetches, seeks, commits."""

    consumer: "BatchConsumer"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.epochs: dict[TP, int] = {}  # seeks made, by partition
        self._reported: set[FetchResult] = set()  # those whose next batch cannot be read

    async def on_start(self) -> None:
        """Watch the group from the first moment: while nothing is assigned, nothing is fetched,
        and nobody would ask whether the group refuses us."""
        await super().on_start()
        self.add_future(self._watch_group())

    async def _watch_group(self) -> None:
        while True:
            await asyncio.sleep(LOOK_AT_GROUP_S)
            try:
                self._ensure_consumer()._coordinator.check_errors()
            except Exception as error:
                die(f"the consumer group does not take this worker: {error!r}")

    def _create_worker_consumer(
        self,
        transport: "BatchTransport",  # type: ignore[override]
    ) -> AIOKafkaConsumer:
        """A consumer with our assignor, fetch sizes and isolation (Faust offers none of them)."""
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
        """Everything that has been fetched for these partitions, one batch each."""
        if not self.consumer.flow_active:
            return {}
        fetcher = consumer._fetcher
        if consumer._closed or fetcher._closed:
            raise ConsumerStoppedError
        consumer._coordinator.check_errors()
        subscriptions = fetcher._subscriptions
        # Not its own context manager, which an exception leaves counting for ever.
        subscriptions._fetch_count += 1
        try:
            return await self._fetched(fetcher, active_partitions, timeout or 0.0)
        finally:
            subscriptions._fetch_count -= 1
            if subscriptions._fetch_count == 0:
                subscriptions._last_fetch_ended = time.monotonic()

    async def _fetched(
        self, fetcher: Any, partitions: Set[TP], timeout_s: float
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
                if found in self._reported:
                    continue
                if not isinstance(found, FetchResult) and drained:
                    break  # hand over what there is; the error comes with the next call
                batch = None
                try:
                    if isinstance(found, FetchResult):
                        batch = self._taken(found)
                    else:
                        found.check_raise()
                finally:
                    if not isinstance(found, FetchResult) or not found.has_more() or batch is None:
                        del fetcher._records[tp]
                        fetcher._notify(fetcher._wait_consume_future)
                if batch is not None:
                    drained[TP(tp.topic, tp.partition)] = [batch]
                    if batch.unreadable is not None:  # kept: at once it would be fetched again
                        self._reported.add(found)
                        loop.call_later(READ_AGAIN_S, self._read_again, fetcher, tp, found)
            left_s = deadline - loop.time()
            if drained or left_s <= 0:
                return drained
            waiter = fetcher._create_fetch_waiter()
            done, _ = await asyncio.wait([waiter], timeout=left_s)
            if not done or fetcher._closed:
                waiter.cancel()
                return {}
            waiter.result()  # raises what the fetcher ran into

    def _read_again(self, fetcher: Any, tp: TopicPartition, found: FetchResult) -> None:
        self._reported.discard(found)
        if fetcher._records.get(tp) is found:
            del fetcher._records[tp]
            fetcher._notify(fetcher._wait_consume_future)

    def _taken(self, found: FetchResult) -> Batch | None:
        """The next records of a response, with the generation and the epoch of this moment.

        A seek throws away what was fetched before it. So these records belong to whoever made the
        last seek, however long before it the call began that waited for them.
        """
        generation: int = self.app.consumer_generation_id
        batch = take(found, generation, self.consumer.transport.max_batch_bytes)
        if batch is None:
            return None
        return replace(batch, epoch=self.epochs.get(TP(batch.topic, batch.partition), 0))

    async def _seek_wait(self, consumer: AIOKafkaConsumer, partitions: Mapping[TP, int]) -> None:
        """Seek; what is fetched from now on bears the next epoch."""
        for tp, offset in partitions.items():
            consumer.seek(TopicPartition(tp.topic, tp.partition), offset)
            self.epochs[tp] = self.epochs.get(tp, 0) + 1

    async def confirm(self, tps: Set[TP]) -> Mapping[TP, int] | None:
        """The committed offsets of partitions, 0 where there are none; None where the group
        coordinator says that they are not ours any more.

        The offsets are committed once more, with our generation: a broker accepts that only from
        the present owner. A worker that slept through a rebalance finds out here, before it claims
        state that belongs to another. Raises KafkaError, TimeoutError.
        """
        consumer = self._ensure_consumer()
        wanted = [TopicPartition(tp.topic, tp.partition) for tp in tps]
        async with asyncio.timeout(COMMIT_DEADLINE_S):
            known = await consumer._coordinator.fetch_committed_offsets(wanted)
            offsets = {one: max(0, known[one].offset) if one in known else 0 for one in wanted}
            try:
                await consumer.commit(
                    {one: OffsetAndMetadata(offset, "") for one, offset in offsets.items()}
                )
            except (CommitFailedError, IllegalStateError) as error:
                self.log.warning(
                    "the group has assigned its partitions without this worker: %s", error
                )
                return None
        return {TP(one.topic, one.partition): offset for one, offset in offsets.items()}

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


class _NothingRead(dict[TP, Any]):
    """Faust drops messages below the offset it delivered last, also after a seek back that it has
    not noticed. Which batch is the next one is decided in streams/worker/admission.py."""

    def __missing__(self, tp: TP) -> None:
        return None

    def __setitem__(self, tp: TP, offset: Any) -> None:
        pass

    def update(self, *args: Any, **kwargs: Any) -> None:
        pass


class BatchConsumer(Consumer):
    """The consumer as Faust's main thread sees it."""

    transport: "BatchTransport"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._read_offset = _NothingRead()
        self._seeking = asyncio.Lock()
        self.given_back()

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

    def given_back(self) -> None:
        """Partitions were given back: what is assigned next is to be loaded, even if it looks the
        same, as a group that was empty for a moment may number its generations anew."""
        self._sought: tuple[int, Set[TP], Mapping[TP, int]] = (-1, set(), {})

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Claim and load the state of all assigned partitions, and seek to where it ends.

        Faust calls this whenever it wants to know where to read on, after every assignment.
        """
        # Faust asks from two places at once; a second claim would fence the first.
        async with self._seeking:
            generation: int = self.app.consumer_generation_id
            assigned = set(self.assignment())
            if not assigned:
                return {}
            if self._sought[:2] == (generation, assigned):
                return self._sought[2]
            offsets = await self.transport.load(assigned, generation)
            if offsets:
                # Also to 0: else a partition would start at the offset committed to Kafka.
                self.transport.note_seeks(await self.seek_to(offsets))
                self._sought = (generation, assigned, offsets)
            return offsets

    async def confirm(self, tps: Set[TP]) -> Mapping[TP, int] | None:
        """See `BatchThread.confirm`."""
        thread = cast(BatchThread, self._thread)
        found: Mapping[TP, int] | None = await thread.call_thread(thread.confirm, tps)
        return found

    async def seek_to(self, offsets: Mapping[TP, int]) -> Mapping[TP, int]:
        """Seek; the epochs that batches bear from now on."""
        await self.seek_wait(offsets)
        epochs = cast(BatchThread, self._thread).epochs
        return {tp: epochs[tp] for tp in offsets}

    def ack(self, message: Message) -> bool:
        """Nothing to remember: what counts as done is what the state holds."""
        message.acked = True
        self._unacked_messages.discard(message)
        return True

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Batches span many offsets; Faust would keep them all as gaps."""

    async def force_commit(self, topics: object = None, start_new_transaction: bool = True) -> bool:
        """Commit what the state store has confirmed."""
        offsets = self.transport.durable_offsets()
        return bool(offsets) and bool(await self._commit(offsets))

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Faust's detector compares two different clocks here; the watchdog looks instead."""


class SecureProducer(Producer):
    """Faust's producer with our login: Faust's own turns a login without TLS files into plain
    text, silently."""

    transport: "BatchTransport"

    def _settings_auth(self) -> Mapping[str, Any]:
        return client_kwargs(self.transport.kafka)


class BatchTransport(Transport):
    """Transport with batch delivery; knows where the state's offsets come from."""

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
