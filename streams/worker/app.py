"""The Faust app of a worker process: settings, one agent, start and stop.

All logic is in worker.py and the modules it uses; streams/kafka/faust_app.py has Faust's settings.
"""

import asyncio
import gc
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Set
from dataclasses import dataclass
from typing import Any, NoReturn, cast

import faust
from aiokafka.errors import IllegalStateError, KafkaError
from faust.types import TP, StreamT

from streams.config.connections import Connections
from streams.config.settings import Kafka, Settings, Worker
from streams.errors import ConfigError
from streams.http.connections import ConnectionPool
from streams.http.listener import Listener, check_address
from streams.kafka.dead_letters import DeadLetterHeaders
from streams.kafka.faust_app import broker_urls, create_batch_app
from streams.kafka.fetch import Batch
from streams.kafka.topic_watch import FIRST_PARTITION, TopicWatch, Waiting
from streams.kafka.topics import DLQ_HEADER_BYTES, check_topics
from streams.kafka.transport import BatchConsumer, BatchTransport
from streams.logs.partition_log import PartitionLog
from streams.logs.setup import set_up_logs
from streams.security.permissions import (
    DENIALS,
    Operation,
    Permission,
    Resource,
    explain,
    reader_permissions,
)
from streams.state.limits import NO_NAMES
from streams.state.registry import ReservedNames
from streams.store.archive_topic import KafkaArchive
from streams.store.contract import Lost, StoreError
from streams.store.hash_archive import HashArchive
from streams.store.redis import RedisStore
from streams.store.servers.check import check_redis
from streams.store.servers.client import connected
from streams.watchdog import Lasting, Ticker, Watchdog, die
from streams.worker.metrics import create_metrics_app
from streams.worker.worker import RECLAIMS, StreamWorker

log = logging.getLogger(__name__)

# If a seek takes longer than Faust's request timeout, set to 90 s below, it fails and so do all
# later ones.
LOADING_DEADLINE_S = 80.0
# Less than the time that orchestrators wait before they kill, which is 30 s and more.
ENDING_DEADLINE_S = 25.0
# If no more can be saved, as Kafka or Redis is away: the libraries would wait for them.
HOPELESS_DEADLINE_S = 1.0
# For the last try to save, if the store did not answer before.
LAST_TRY_DEADLINE_S = 2.5
# Maintenance windows and deliveries cannot be rebuilt from the log: at most this much is lost.
HASHES_INTERVAL_S = 60.0
METRICS_SETTINGS = ("worker", "metrics_port", "metrics_host")


@dataclass(frozen=True, slots=True)
class KafkaDeadLetterQueue:
    """Sends rejected records, byte for byte, with headers that give their origin and the reason."""

    app: faust.App
    kafka: Kafka

    async def send(
        self, batch: Batch, position: int, reason: str, detail: str
    ) -> Awaitable[object]:
        """Send one record of a batch. See `context.DeadLetterQueue`."""
        value = batch.values[position]
        headers = DeadLetterHeaders(
            batch.topic,
            batch.partition,
            batch.offsets[position],
            batch.timestamps_ms[position],
            reason,
            detail,
            has_value=value is not None,
        )
        try:
            delivery: Awaitable[object] = await self.app.producer.send(
                self.kafka.dlq_topic,
                batch.key(position),
                value if value is not None else b"",
                None,
                None,
                headers.encode(),
            )
        except tuple(DENIALS) as error:
            self._end(error)
        return self._deliver(delivery)

    async def _deliver(self, delivery: Awaitable[object]) -> object:
        try:
            return await delivery
        except tuple(DENIALS) as error:
            self._end(error)

    def _end(self, error: Exception) -> NoReturn:
        # No checkpoint may pass a rejected record that is not in Kafka.
        write = Permission(Operation.WRITE, Resource.TOPIC, self.kafka.dlq_topic)
        die(f"a rejected record cannot be kept: {explain(error, self.kafka, write)}")


@dataclass(frozen=True, slots=True)
class KafkaConsumerControl:
    """Controls Faust's consumer of the events. See `context.ConsumerControl`."""

    app: faust.App
    kafka: Kafka

    async def confirm(self, partitions: Iterable[int]) -> Mapping[int, int] | None:
        """Return committed offsets, None if the partitions belong to another worker.

        Waits until the group coordinator answers; ends the process if it refuses this worker.
        """
        tps = {TP(self.kafka.topic, partition) for partition in partitions}
        while True:
            try:
                offsets = await cast(BatchConsumer, self.app.consumer).confirm(tps)
                break
            except (KafkaError, TimeoutError) as error:
                if isinstance(error, KafkaError) and not error.retriable:
                    needed = reader_permissions(self.kafka.group, self.kafka.topic)
                    why = explain(error, self.kafka, *needed)
                    die(f"the group coordinator refuses this worker: {why}")
                log.warning("the group coordinator does not answer: %r: asking again", error)
                await asyncio.sleep(1)
        if offsets is None:
            return None
        return {tp.partition: offset for tp, offset in offsets.items()}

    async def log_start(self, partition: int) -> int:
        """Return the first offset of the log; waits until a broker answers."""
        while True:
            try:
                tp = TP(self.kafka.topic, partition)
                return await cast(BatchConsumer, self.app.consumer).log_start(tp)
            except (KafkaError, TimeoutError) as error:
                log.warning("no broker says where the log begins: %r: asking again", error)
                await asyncio.sleep(1)

    async def seek(self, partition: int, offset: int) -> int:
        """Seek, and return the epoch of later batches; 0 if the partition was just revoked."""
        tp = TP(self.kafka.topic, partition)
        try:
            epochs = await cast(BatchConsumer, self.app.consumer).seek_to({tp: offset})
        except IllegalStateError:  # the next owner seeks by itself
            PartitionLog(log, partition).at(offset).info("skip seek: partition revoked")
            return 0
        return epochs[tp]

    def broker_silence_s(self) -> float | None:
        """Return the seconds since a broker last answered; None before the first answer."""
        return cast(BatchConsumer, self.app.consumer).broker_silence_s()

    def pause(self, partition: int) -> None:
        """Stop fetching a partition."""
        self.app.consumer.pause_partitions({TP(self.kafka.topic, partition)})

    def resume(self, partition: int) -> None:
        """Fetch a partition again, if it is still assigned."""
        tp = TP(self.kafka.topic, partition)
        if tp in self.app.consumer.assignment():
            self.app.consumer.resume_partitions({tp})


def create_app(
    settings: Settings, reserved: ReservedNames = NO_NAMES
) -> tuple[faust.App, StreamWorker]:
    """Return the Faust app of a worker process, and the worker that it feeds.

    `reserved`: names that always have rows of their own.
    """
    kafka = settings.kafka
    app = create_batch_app(
        kafka,
        kafka.group,
        broker_commit_interval=5,
        # Any record that can be read may be rejected, and must fit into the dead-letter topic.
        producer_max_request_size=settings.worker.max_batch_mb * 1_000_000 + DLQ_HEADER_BYTES,
    )
    client = connected(settings.redis)
    store = RedisStore(client, kafka.group, kafka.topic, settings.redis.max_clock_offset_s)
    archive = KafkaArchive(kafka) if settings.worker.archive_interval_s else None
    worker = StreamWorker(
        settings.worker,
        store,
        KafkaDeadLetterQueue(app, kafka),
        KafkaConsumerControl(app, kafka),
        archive,
        reserved,
    )
    app.transport = BatchTransport(
        broker_urls(kafka),
        app,
        kafka=kafka,
        max_batch_bytes=settings.worker.max_batch_mb * 1_000_000,
        load=lambda tps, generation: _load(worker, kafka.topic, tps, generation),
        note_seeks=lambda epochs: worker.note_seeks(
            {tp.partition: epoch for tp, epoch in epochs.items()}
        ),
        durable_offsets=lambda: {
            TP(kafka.topic, partition): offset
            for partition, offset in worker.durable_offsets().items()
        },
    )
    topic = app.topic(kafka.topic, key_serializer="raw", value_serializer="raw")

    @app.agent(topic, concurrency=1, name="count")
    async def count(batches: StreamT[Batch]) -> None:
        async for batch in batches:
            try:
                await worker.consume(batch)
            except Exception:
                # Faust would acknowledge the batch and continue with the next.
                partition_log = PartitionLog(log, batch.partition).at(batch.fetch_offset)
                partition_log.exception("cannot count a batch")
                die("an unexpected error while counting; the batch will be read again")

    hashes = HashArchive(archive, client, kafka.group, kafka.topic) if archive is not None else None
    watch = TopicWatch(settings, lambda: _waiting_records(worker))
    worker.metrics.topic_risks.set_function(lambda: watch.risks)
    _install_life_cycle(app, worker, hashes, watch, settings.worker)
    return app, worker


def _waiting_records(worker: StreamWorker) -> Mapping[int, Waiting | None]:
    """Return of each owned partition since when records wait; None if none does."""
    waiting: dict[int, Waiting | None] = {}
    for number, partition in worker.partitions.items():
        next_offset, last = partition.state.next_offset, partition.state.witness
        # Before the first counted record there is no time, and nothing that began to wait.
        if last is None or partition.admission.highwater <= next_offset:
            waiting[number] = None
        else:
            waiting[number] = Waiting(next_offset, last.timestamp_ms)
    return waiting


async def _load(
    worker: StreamWorker, topic: str, tps: Set[TP], generation: int
) -> Mapping[TP, int]:
    """Claim and load partitions, or end the process: Faust would wait for ever on a slow seek.

    Return the offset at which to read each of them.
    """
    times_lost = 0
    try:
        async with asyncio.timeout(LOADING_DEADLINE_S):
            while True:
                try:
                    offsets = await worker.load(
                        (tp.partition for tp in tps if tp.topic == topic), generation
                    )
                    return {TP(topic, partition): offset for partition, offset in offsets.items()}
                except (StoreError, Lost) as error:
                    times_lost += isinstance(error, Lost)  # claimed away meanwhile, or damaged
                    if times_lost > RECLAIMS:
                        die(f"cannot load the state: {error}")
                    log.warning("%s: trying again", error)
                    await asyncio.sleep(1)
    except TimeoutError:
        die(f"cannot load the state within {LOADING_DEADLINE_S:g} s")


def _install_life_cycle(
    app: faust.App,
    worker: StreamWorker,
    hashes: HashArchive | None,
    watch: TopicWatch,
    settings: Worker,
) -> None:
    # Two loops: Faust's consumer has a thread of its own.
    main_ticker = Ticker("main", 20)
    consumer_ticker = Ticker("consumer", 20)
    watchdog = Watchdog(
        [
            main_ticker.check,
            consumer_ticker.check,
            Lasting("rebalancing", 60, lambda: bool(app.rebalancing)).check,
            worker.stall,
        ]
    )

    listener = Listener(
        ConnectionPool(Connections()), create_metrics_app(worker.metrics, worker.stall)
    )

    @app.task  # type: ignore[untyped-decorator]
    async def serve_metrics(_: faust.App) -> None:
        if settings.metrics_port is None:
            return
        try:
            await listener.start(settings.metrics_host, settings.metrics_port, *METRICS_SETTINGS)
        except ConfigError as error:  # the port was free before the start
            die(str(error))
        log.info("metrics on http://%s:%d/metrics", *listener.address)

    @app.task  # type: ignore[untyped-decorator]
    async def start(app: faust.App) -> None:
        consumer = cast(BatchConsumer, app.consumer)
        tune_collector()
        app.add_future(main_ticker.run())
        asyncio.run_coroutine_threadsafe(consumer_ticker.run(), consumer._thread.thread_loop)
        watchdog.start()
        app.add_future(worker.write_archives())
        app.add_future(watch.run())
        if hashes is not None:
            app.add_future(_archive_hashes(worker, hashes, settings.archive_interval_s))
        try:
            await worker.write_checkpoints()
        except Exception:
            log.exception("cannot write checkpoints")
            die("an unexpected error while writing a checkpoint")

    @app.on_partitions_revoked.connect  # type: ignore[arg-type]
    async def give_back(app: Any, *_: Any, **__: Any) -> None:
        await worker.revoke()
        cast(BatchConsumer, app.consumer).forget_assignment()

    @app.on_before_shutdown.connect  # type: ignore[arg-type]
    async def write_all(app: Any, *_: Any, **__: Any) -> None:
        # The limit is for the last try too: a library may hold the loop while its server is away.
        watchdog.expect_end(ENDING_DEADLINE_S if worker.store_answers else LAST_TRY_DEADLINE_S)
        if await worker.revoke(ending=True):  # bounded by itself
            watchdog.expect_end(ENDING_DEADLINE_S)
        else:
            watchdog.expect_end(HOPELESS_DEADLINE_S)
        await listener.stop()


async def _archive_hashes(worker: StreamWorker, hashes: HashArchive, interval_s: float) -> None:
    """Archive the hashes beside the state for ever, if this worker owns the first partition."""
    while True:
        await asyncio.sleep(min(interval_s, HASHES_INTERVAL_S))
        if FIRST_PARTITION not in worker.partitions:
            hashes.forget()
            continue
        try:
            await hashes.synchronise()
        except StoreError as error:
            log.warning("SLO counts and finalised days are not archived: %s", error)


def tune_collector() -> None:
    """Run the garbage collector less often, and only over objects created from now on.

    Present objects live as long as the process, and decoding makes many short-lived tuples
    (measured: the collector took a tenth of the time).
    """
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)


def run_worker(settings: Settings, read_reserved: Callable[[], ReservedNames]) -> NoReturn:
    """Run one worker until it receives SIGTERM or SIGINT.

    `read_reserved`: returns the names that always have rows of their own.

    Raises Unavailable if Kafka or Redis does not answer, a topic is missing, or Redis may evict
    state.
    """
    # Checked before Faust starts, so that an error is one line.
    asyncio.run(check_topics(settings))
    asyncio.run(check_redis(settings.redis))
    host, port = settings.worker.metrics_host, settings.worker.metrics_port
    if port is not None:
        asyncio.run(check_address(host, port, *METRICS_SETTINGS))
    set_up_logs(settings.logs)
    app, _ = create_app(settings, read_reserved())
    # Quiet: Faust would print beside the log, in frames and with signs for a terminal.
    worker = faust.Worker(app, quiet=True, override_logging=False, redirect_stdouts=False)
    worker.spinner = None
    worker.execute_from_commandline()
