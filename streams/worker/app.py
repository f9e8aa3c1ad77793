"""The Faust app: settings, one agent, start and stop. No logic of its own.

Every Faust setting that differs from its default says why.
"""

import asyncio
import gc
import logging
from collections.abc import Awaitable, Iterable, Mapping, Set
from typing import Any, NoReturn, cast

import faust
from aiokafka.errors import IllegalStateError, KafkaError
from faust.types import TP, StreamT
from yarl import URL

from streams.config.security import redis_kwargs
from streams.config.settings import Settings
from streams.kafka.fetch import Batch
from streams.kafka.topics import DLQ_HEADER_BYTES, check_topics
from streams.kafka.transport import BatchConsumer, BatchTransport
from streams.store.archive_topic import KafkaArchive
from streams.store.contract import Lost, StoreError
from streams.store.hash_archive import HashArchive
from streams.store.redis import RedisStore, connected
from streams.store.server_check import check_redis
from streams.watchdog import Lasting, Ticker, Watchdog, die
from streams.worker.pipeline import RECLAIMS, Pipeline

log = logging.getLogger(__name__)

TEN_YEARS_S = 315_360_000.0
# Faust gives up on a seek, and on every one after it, when it takes longer than its request
# timeout, which is set to 90 s below.
LOADING_DEADLINE_S = 80.0
# Less than the grace that orchestrators give, which is 30 s and more.
ENDING_DEADLINE_S = 25.0
# Maintenance windows and deliveries cannot be rebuilt, so what is lost of them is at most this old.
HASHES_INTERVAL_S = 60.0
FIRST_PARTITION = 0


class KafkaDeadLetters:
    """Refused records, byte for byte, with headers that say where they were and why not."""

    def __init__(self, app: faust.App, topic: str) -> None:
        self._app, self._topic = app, topic

    async def send(
        self, batch: Batch, position: int, reason: str, detail: str
    ) -> Awaitable[object]:
        """See `pipeline.DeadLetters`."""
        key, value = batch.key(position), batch.values[position]
        headers = {
            "tokenpulse.topic": batch.topic,
            "tokenpulse.partition": str(batch.partition),
            "tokenpulse.offset": str(batch.offsets[position]),
            "tokenpulse.timestamp_ms": str(batch.timestamps_ms[position]),
            "tokenpulse.reason": reason,
            "tokenpulse.detail": detail,
        }
        if value is None:
            headers["tokenpulse.null_value"] = "true"
        sent: Awaitable[object] = await self._app.producer.send(
            self._topic,
            key,
            value if value is not None else b"",
            None,
            None,
            [(name, text.encode()) for name, text in headers.items()],
        )
        return sent


class KafkaFlow:
    """See `assignment.Flow`."""

    def __init__(self, app: faust.App, topic: str) -> None:
        self._app, self._topic = app, topic

    async def confirm(self, partitions: Iterable[int]) -> Mapping[int, int] | None:
        """See `assignment.Flow`."""
        tps = {TP(self._topic, partition) for partition in partitions}
        while True:
            try:
                found = await cast(BatchConsumer, self._app.consumer).confirm(tps)
                break
            except (KafkaError, TimeoutError) as error:
                if isinstance(error, KafkaError) and not error.retriable:
                    die(f"the group coordinator refuses this worker: {error!r}")
                log.warning("the group coordinator does not answer: %r: asking again", error)
                await asyncio.sleep(1)
        if found is None:
            return None
        return {tp.partition: offset for tp, offset in found.items()}

    async def seek(self, partition: int, offset: int) -> int:
        """See `assignment.Flow`."""
        tp = TP(self._topic, partition)
        try:
            epochs = await cast(BatchConsumer, self._app.consumer).seek_to({tp: offset})
        except IllegalStateError:  # just taken away: whoever gets it next seeks by itself
            log.info("partition %d: no longer assigned, not sought to %d", partition, offset)
            return 0
        return epochs[tp]

    def pause(self, partition: int) -> None:
        """See `assignment.Flow`."""
        self._app.consumer.pause_partitions({TP(self._topic, partition)})

    def resume(self, partition: int) -> None:
        """See `assignment.Flow`."""
        tp = TP(self._topic, partition)
        if tp in self._app.consumer.assignment():
            self._app.consumer.resume_partitions({tp})


class App(faust.App):
    """Keeps nothing on disk."""

    def _create_directories(self) -> None:
        """Faust would make a data directory for its tables wherever the worker is started."""


def create_app(settings: Settings) -> tuple[faust.App, Pipeline]:
    """The worker's Faust app and what it does with its partitions."""
    kafka = settings.kafka
    brokers = [URL(f"aiokafka://{one.strip()}") for one in kafka.bootstrap.split(",")]
    app = App(
        kafka.group,
        broker=brokers,
        # Topics are made with `tokenpulse topics create`, where partitions, retention and sizes
        # are ours to say.
        topic_allow_declare=False,
        topic_disable_leader=True,
        # With 0 and no tables the assignor is a plain round robin.
        table_standby_replicas=0,
        web_enabled=False,
        # A batch that waits for a silent Redis must not hold up a rebalance.
        stream_wait_empty=False,
        # Counts batches of up to fetch_max_partition_bytes each.
        stream_buffer_maxsize=2,
        stream_processing_timeout=60,
        key_serializer="raw",
        value_serializer="raw",
        # A worker idle for longer would leave the group and could never come back.
        broker_max_poll_interval=TEN_YEARS_S,
        broker_session_timeout=kafka.session_timeout_s,
        broker_heartbeat_interval=kafka.heartbeat_interval_s,
        broker_rebalance_timeout=60,
        broker_request_timeout=90,
        broker_commit_interval=5,
        broker_check_crcs=True,
        producer_request_timeout=30,
        producer_acks=-1,
        producer_compression_type="gzip",  # every Kafka client reads it without extra packages
        # Whatever can be read can be refused, and must fit into the dead-letter topic.
        producer_max_request_size=settings.worker.max_batch_mb * 1_000_000 + DLQ_HEADER_BYTES,
        producer_linger=0.02,
        consumer_auto_offset_reset="earliest",
        worker_redirect_stdouts=False,
    )
    client = connected(settings.redis)
    store = RedisStore(client, kafka.group, kafka.topic)
    archive = KafkaArchive(kafka) if settings.worker.archive_interval_s else None
    pipeline = Pipeline(
        settings.worker,
        store,
        KafkaDeadLetters(app, kafka.dlq_topic),
        KafkaFlow(app, kafka.topic),
        archive,
    )
    app.transport = BatchTransport(
        brokers,
        app,
        kafka=kafka,
        max_batch_bytes=settings.worker.max_batch_mb * 1_000_000,
        load=lambda tps, generation: _load(pipeline, kafka.topic, tps, generation),
        sought=lambda epochs: pipeline.sought(
            {tp.partition: epoch for tp, epoch in epochs.items()}
        ),
        durable=lambda: {
            TP(kafka.topic, partition): offset for partition, offset in pipeline.durable().items()
        },
    )
    topic = app.topic(kafka.topic, key_serializer="raw", value_serializer="raw")

    @app.agent(topic, concurrency=1, name="count")
    async def count(batches: StreamT[Batch]) -> None:
        async for batch in batches:
            try:
                await pipeline.consume(batch)
            except Exception:
                # Faust would acknowledge the batch and go on with the next.
                log.exception("partition %d: cannot count", batch.partition)
                die("an unexpected error while counting; the batch will be read again")

    hashes = HashArchive(archive, client, kafka.group, kafka.topic) if archive is not None else None
    _install_life_cycle(app, pipeline, hashes, settings.worker.archive_interval_s)
    return app, pipeline


async def _load(pipeline: Pipeline, topic: str, tps: Set[TP], generation: int) -> Mapping[TP, int]:
    """Load within a deadline or end the process: Faust would wait for ever after a slow seek."""
    lost = 0
    try:
        async with asyncio.timeout(LOADING_DEADLINE_S):
            while True:
                try:
                    offsets = await pipeline.load(
                        (tp.partition for tp in tps if tp.topic == topic), generation
                    )
                    return {TP(topic, partition): offset for partition, offset in offsets.items()}
                except (StoreError, Lost) as error:
                    lost += isinstance(error, Lost)  # claimed away meanwhile, or damaged
                    if lost > RECLAIMS:
                        die(f"cannot load the state: {error}")
                    log.warning("%s: trying again", error)
                    await asyncio.sleep(1)
    except TimeoutError:
        die(f"cannot load the state within {LOADING_DEADLINE_S:g} s")


def _install_life_cycle(
    app: faust.App, pipeline: Pipeline, hashes: HashArchive | None, archive_interval_s: int
) -> None:
    main_ticker = Ticker("main", 20)
    consumer_ticker = Ticker("consumer", 20)
    watchdog = Watchdog(
        [
            main_ticker.check,
            consumer_ticker.check,
            Lasting("rebalancing", 60, lambda: bool(app.rebalancing)).check,
            pipeline.stall,
        ]
    )

    @app.task  # type: ignore[untyped-decorator]
    async def start(app: faust.App) -> None:
        consumer = cast(BatchConsumer, app.consumer)
        tune_collector()
        app.add_future(main_ticker.run())
        asyncio.run_coroutine_threadsafe(consumer_ticker.run(), consumer._thread.thread_loop)
        watchdog.start()
        app.add_future(pipeline.archives())
        if hashes is not None:
            app.add_future(_archive_hashes(pipeline, hashes, archive_interval_s))
        try:
            await pipeline.checkpoints()
        except Exception:
            log.exception("cannot write checkpoints")
            die("an unexpected error while writing a checkpoint")

    @app.on_partitions_revoked.connect  # type: ignore[arg-type]
    async def give_back(app: Any, *_: Any, **__: Any) -> None:
        await pipeline.revoke()
        cast(BatchConsumer, app.consumer).given_back()

    @app.on_before_shutdown.connect  # type: ignore[arg-type]
    async def write_all(app: Any, *_: Any, **__: Any) -> None:
        watchdog.expect_end(ENDING_DEADLINE_S)
        await pipeline.revoke(ending=True)  # bounded by itself


async def _archive_hashes(pipeline: Pipeline, hashes: HashArchive, interval_s: float) -> None:
    """Archive the hashes beside the state for ever, while this worker owns the first partition."""
    while True:
        await asyncio.sleep(min(interval_s, HASHES_INTERVAL_S))
        if not pipeline.owns(FIRST_PARTITION):
            hashes.forget()
            continue
        try:
            await hashes.synchronise()
        except StoreError as error:
            log.warning("SLO counts and finalised days are not archived: %s", error)


def tune_collector() -> None:
    """What exists now lives as long as the process, and decoding makes many short-lived tuples: the
    collector looks less often, and only at what came later (measured: a tenth of the time)."""
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)


def run_worker(settings: Settings) -> NoReturn:
    """Run one worker until it is told to stop.

    Raises Unavailable where Kafka or Redis does not answer, a topic is missing, or Redis may evict
    state.
    """
    # Here, where an error is still one line, and not amid the start of Faust.
    asyncio.run(check_topics(settings))
    asyncio.run(check_redis(settings.redis.url, **redis_kwargs(settings.redis)))
    app, _ = create_app(settings)
    worker = faust.Worker(app, loglevel="INFO", redirect_stdouts=False)
    worker.execute_from_commandline()
