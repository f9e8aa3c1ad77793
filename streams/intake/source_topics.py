"""Source topics: Faust agents turn their records into events.

The offset of a source moves past a batch only after the broker has all its events and dead letters,
so that each record is read at least once, whenever the process ends. A batch that is read again
makes the same request ids, which workers recognise.

    batch -> is it the next one? -> events -> delivery -> position, committed once a second

A partition whose records wait for their schema is paused, and the remaining ones are read
meanwhile.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, cast

from aiokafka.errors import KafkaError
from faust.types import TP, StreamT

from streams.config.settings import Intake, Kafka, SchemaRegistry, Settings
from streams.errors import ConfigError, Unavailable
from streams.intake.confluent.registry import SchemaDecoders
from streams.intake.confluent.wire_format import ENCODINGS, with_header
from streams.intake.conversion import Converted, Converter, MappingConverter, converter_of
from streams.intake.delivery import Delivery
from streams.intake.framed_conversion import FramedConverter, needs_schemas
from streams.intake.metrics import IntakeMetrics
from streams.intake.otlp.decode import FORMATS
from streams.intake.processing import Origin, Processor
from streams.intake.span_conversion import SpanConverter
from streams.kafka.faust_app import App, broker_urls, create_batch_app
from streams.kafka.fetch import Batch
from streams.kafka.producer import now_ms
from streams.kafka.transport import BatchConsumer, BatchTransport
from streams.security.permissions import Operation, Permission, Resource, explain, intake_group
from streams.sources.sql_mapping import Record
from streams.watchdog import Lasting, Ticker, Watchdog, die

log = logging.getLogger(__name__)

RETRY_AFTER_S = 1.0
LONGEST_PAUSE_S = 10.0
ENDING_DEADLINE_S = 25.0
COMMIT_INTERVAL_S = 1.0
_NO_EPOCH = -1  # before the first seek


@dataclass(slots=True)
class _Position:
    """How far one partition was read and delivered, since it was assigned to this process."""

    next_offset: int
    epoch: int = _NO_EPOCH
    waits: bool = False  # for a schema; batches that were fetched before it was paused are dropped


@dataclass(frozen=True, slots=True)
class _TakenBatch:
    """A batch that this process delivers, while `position` is still that of its partition."""

    batch: Batch
    tp: TP
    position: _Position
    records: Sequence[Record]


class SourceTopics:
    """Reads all source topics of one process."""

    def __init__(
        self,
        kafka: Kafka,
        converters: Mapping[str, Converter],
        delivery: Delivery,
        processor: Processor,
        metrics: IntakeMetrics,
        max_batch_bytes: int,
    ) -> None:
        """`converters`: by topic."""
        self._kafka, self._converters = kafka, converters
        self._delivery, self._processor, self._metrics = delivery, processor, metrics
        self._positions: dict[TP, _Position] = {}
        self._waiting: set[asyncio.Task[None]] = set()
        self.app = create_batch_app(
            kafka, intake_group(kafka), broker_commit_interval=COMMIT_INTERVAL_S
        )
        self.app.transport = BatchTransport(
            broker_urls(kafka),
            self.app,
            kafka=kafka,
            max_batch_bytes=max_batch_bytes,
            load=self._load,
            note_seeks=self._note_seeks,
            durable_offsets=self._delivered_offsets,
        )
        for topic in converters:
            self._add_agent(self.app, topic)
        self._install_watchdog(self.app)

    def _add_agent(self, app: App, topic: str) -> None:
        channel = app.topic(topic, key_serializer="raw", value_serializer="raw")

        @app.agent(channel, concurrency=1, name=f"intake-{topic}")
        async def read(batches: StreamT[Batch]) -> None:
            async for batch in batches:
                try:
                    await self.take(batch)
                except Exception:
                    # Faust would acknowledge the batch and continue with the next.
                    log.exception("%s-%d: cannot convert a batch", batch.topic, batch.partition)
                    die("an unexpected error in a source topic; the batch will be read again")

    async def take(self, batch: Batch) -> None:
        """Deliver the events of a batch, if it is the next one of its partition."""
        tp = TP(batch.topic, batch.partition)
        position = self._positions.get(tp)
        # Batches wait in queues: this one was fetched before a seek, or for an earlier assignment.
        if position is None or batch.epoch != position.epoch or position.waits:
            return
        # Faust drops queued batches in a rebalance; the next one then leaves a gap.
        if batch.fetch_offset != position.next_offset:
            log.warning("%s: no batch at offset %d: reading it again", tp, position.next_offset)
            consumer = cast(BatchConsumer, self.app.consumer)
            self._note_seeks(await consumer.seek_to({tp: position.next_offset}))
            return
        if batch.unreadable is not None:
            log.error("%s: stopped: %s", tp, batch.unreadable.why)
            return
        self._note_lag(batch, position)
        if batch.values:
            records = _records(batch, self._converters[batch.topic])
            taken = _TakenBatch(batch, tp, position, records)
            try:
                converted = await self._convert(taken)
            except Unavailable as error:
                self._start_waiting(taken, error)
                return
            await self._deliver(taken, converted)
        self._advance(batch, position)

    def _advance(self, batch: Batch, position: _Position) -> None:
        position.next_offset = batch.next_offset
        self._note_lag(batch, position)

    def _note_lag(self, batch: Batch, position: _Position) -> None:
        lag = max(0, batch.readable - position.next_offset)
        self._metrics.lag.labels(batch.topic, str(batch.partition)).set(lag)

    async def _convert(self, taken: _TakenBatch) -> Converted:
        """Return the events of a batch. Raises Unavailable if a schema is not there."""
        place = f"{taken.tp.topic}-{taken.tp.partition}"
        return await self._converters[taken.tp.topic].convert(taken.records, place)

    def _is_given_away(self, taken: _TakenBatch) -> bool:
        return self._positions.get(taken.tp) is not taken.position

    async def _deliver(self, taken: _TakenBatch, converted: Converted) -> None:
        """Return once the broker has all events of a batch, or the partition was given away."""
        batch = taken.batch
        place = Origin(batch.topic, batch.partition, batch.offsets, batch.timestamps_ms)
        processed = self._processor.process(converted, place)
        # After a rebalance the new owner reads the batch again, so this process gives it up.
        while not self._is_given_away(taken):
            try:
                await self._delivery.deliver(processed.events, processed.letters)
            except Unavailable:  # reported by the delivery
                await asyncio.sleep(RETRY_AFTER_S)
            else:
                self._processor.count(batch.topic, len(taken.records), converted, processed)
                age_s = max(0, now_ms() - min(batch.timestamps_ms)) / 1_000
                self._metrics.delay.labels(batch.topic).observe(age_s)
                return

    def _start_waiting(self, taken: _TakenBatch, problem: Unavailable) -> None:
        """Pause a partition until the schemas of its next batch are there.

        Without them the records cannot be judged, and no other partition has to wait.
        """
        taken.position.waits = True
        self.app.consumer.pause_partitions({taken.tp})
        task = asyncio.create_task(self._wait(taken, problem))
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

    async def _wait(self, taken: _TakenBatch, problem: Unavailable) -> None:
        tp, position = taken.tp, taken.position
        try:
            converted = await self._convert_later(taken, problem)
            if converted is None:
                return
            await self._deliver(taken, converted)
            if self._is_given_away(taken):
                return
            self._advance(taken.batch, position)
            consumer = cast(BatchConsumer, self.app.consumer)
            self._note_seeks(await consumer.seek_to({tp: position.next_offset}))
            position.waits = False
            if not self._is_given_away(taken):
                consumer.resume_partitions({tp})
        except Exception:
            log.exception("%s-%d: cannot convert a batch", tp.topic, tp.partition)
            die("an unexpected error in a source topic; the batch will be read again")

    async def _convert_later(self, taken: _TakenBatch, problem: Unavailable) -> Converted | None:
        """Return the events of a batch once its schemas are there.

        None if the partition was given away.
        """
        tp = taken.tp
        waiting = self._metrics.waiting.labels(tp.topic, str(tp.partition))
        pause_s, reported = RETRY_AFTER_S, ""
        waiting.set(1)
        try:
            while not self._is_given_away(taken):
                # One warning for a problem that repeats with every attempt.
                if str(problem) != reported:
                    reported = str(problem)
                    log.warning("%s-%d: waiting: %s", tp.topic, tp.partition, reported)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
                try:
                    return await self._convert(taken)
                except Unavailable as error:
                    problem = error
            return None
        finally:
            waiting.set(0)

    async def _load(self, tps: Set[TP], generation: int) -> Mapping[TP, int]:
        """Return the committed offset of each assigned partition; empty if the group moved on."""
        consumer = cast(BatchConsumer, self.app.consumer)
        sources = {tp for tp in tps if tp.topic in self._converters}
        while True:
            try:
                offsets = await consumer.confirm(sources)
                break
            except (KafkaError, TimeoutError) as error:
                if isinstance(error, KafkaError) and not error.retriable:
                    needed = Permission(Operation.READ, Resource.GROUP, self.app.conf.id)
                    why = explain(error, self._kafka, needed)
                    die(f"the group coordinator refuses this intake: {why}")
                log.warning("the group coordinator does not answer: %r: asking again", error)
                await asyncio.sleep(RETRY_AFTER_S)
        offsets = offsets or {}
        # New objects: a batch in transit still has the old one, and cannot move the new position.
        self._positions = {tp: _Position(offset) for tp, offset in offsets.items()}
        return offsets

    def _note_seeks(self, epochs: Mapping[TP, int]) -> None:
        for tp, epoch in epochs.items():
            if (position := self._positions.get(tp)) is not None:
                position.epoch = epoch

    def _delivered_offsets(self) -> Mapping[TP, int]:
        return {tp: position.next_offset for tp, position in self._positions.items()}

    def _install_watchdog(self, app: App) -> None:
        consumer_ticker = Ticker("consumer", 20)
        watchdog = Watchdog(
            [
                consumer_ticker.check,
                Lasting("rebalancing", 60, lambda: bool(app.rebalancing)).check,
                # Faust would leave the HTTP server running without its agents.
                lambda: f"Faust ended: {app.crash_reason!r}" if app.crashed else None,
            ]
        )

        @app.task  # type: ignore[untyped-decorator]
        async def start(app: Any) -> None:
            consumer = cast(BatchConsumer, app.consumer)
            asyncio.run_coroutine_threadsafe(consumer_ticker.run(), consumer._thread.thread_loop)
            watchdog.start()

        @app.on_partitions_revoked.connect  # type: ignore[arg-type]
        async def give_back(app: Any, *_: Any, **__: Any) -> None:
            consumer = cast(BatchConsumer, app.consumer)
            # Less for the next owner to read again.
            await consumer.force_commit()
            self._positions = {}
            consumer.forget_assignment()

        @app.on_before_shutdown.connect  # type: ignore[arg-type]
        async def expect_end(app: Any, *_: Any, **__: Any) -> None:
            watchdog.expect_end(ENDING_DEADLINE_S)
            for task in self._waiting:
                task.cancel()


def source_converters(intake: Intake, registry: SchemaRegistry) -> dict[str, Converter]:
    """Return the converter of each source topic.

    Raises ConfigError if a profile or mapping does not exist, or if a topic needs schemas and
    neither a registry nor files of schemas are set.
    """
    decoders: SchemaDecoders | None = None
    converters: dict[str, Converter] = {}
    for source in intake.sources:
        are_spans = source.format in FORMATS
        converter: Converter = (
            SpanConverter(source.profile, source.format, intake.customer_attributes)
            if are_spans
            else converter_of(source.format)
        )
        if source.encoding in ENCODINGS:
            if needs_schemas(source.encoding, are_spans) and not (registry.url or registry.files):
                raise ConfigError(
                    f"intake.sources: topic {source.topic} is {source.encoding}, whose records "
                    "need their schemas; set schema_registry.url or schema_registry.files"
                )
            decoders = decoders or SchemaDecoders(registry)
            converter = FramedConverter(source.encoding, converter, decoders, are_spans)
        converters[source.topic] = converter
    return converters


def create_source_topics(
    settings: Settings, delivery: Delivery, processor: Processor, metrics: IntakeMetrics
) -> SourceTopics | None:
    """Return the reader of the source topics; None without any. Raises ConfigError."""
    if not settings.intake.sources:
        return None
    return SourceTopics(
        settings.kafka,
        source_converters(settings.intake, settings.schema_registry),
        delivery,
        processor,
        metrics,
        settings.worker.max_batch_mb * 1_000_000,
    )


def _records(batch: Batch, converter: Converter) -> Sequence[Record]:
    """Return the records of a batch; keys and headers only for converters that read them."""
    values = [value or b"" for value in batch.values]
    if isinstance(converter, FramedConverter):
        # A header may name the schema in place of the value.
        pairs = zip(values, batch.records, strict=True)
        values = [with_header(value, record.headers) for value, record in pairs]
        converter = converter.inner
    if not isinstance(converter, MappingConverter):
        return list(map(Record, batch.offsets, values))
    records = []
    for position, offset in enumerate(batch.offsets):
        key = batch.key(position)
        headers = {
            name: (value or b"").decode(errors="replace")
            for name, value in batch.records[position].headers
        }
        records.append(
            Record(
                offset,
                values[position],
                None if key is None else key.decode(errors="replace"),
                batch.timestamps_ms[position],
                headers or None,
            )
        )
    return records
