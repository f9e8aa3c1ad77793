"""The offset of a source topic moves past a batch only when Kafka has all its events."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
from faust.types import TP

from streams.config.settings import Kafka, Worker
from streams.errors import Unavailable
from streams.intake import source_topics
from streams.intake.conversion import Converted, Converter, EventConverter
from streams.intake.delivery import Delivery
from streams.intake.metrics import IntakeMetrics
from streams.intake.processing import Processor
from streams.intake.source_topics import SourceTopics
from streams.kafka.fetch import Batch
from streams.sources.sql_mapping import Record
from tests.support.event_samples import EVENT

SOURCE, OTHER = TP("source", 0), TP("source", 1)


class HeldDelivery:
    """Takes events, and confirms them when the test says so."""

    def __init__(self) -> None:
        self.taken: list[tuple[list[Any], asyncio.Future[None]]] = []

    def deliver(self, events: list[Any], _letters: list[Any]) -> asyncio.Future[None]:
        future = asyncio.get_running_loop().create_future()
        self.taken.append((events, future))
        return future


class Sources(SourceTopics):
    """Source topics of one partition, assigned at offset 10 with epoch 1."""

    def __init__(self, converter: Converter) -> None:
        self.held = HeldDelivery()
        self.metrics = metrics = IntakeMetrics(lambda: 0)
        super().__init__(
            Kafka(),
            {SOURCE.topic: converter},
            cast(Delivery, self.held),
            Processor(Worker(), metrics),
            metrics,
            1_000_000,
        )
        self.sought: list[dict[TP, int]] = []
        self.paused: set[TP] = set()

    async def assign(self, offset: int, epoch: int) -> None:
        async def confirm(tps: set[TP]) -> dict[TP, int]:
            return dict.fromkeys(tps, offset)

        async def seek_to(offsets: dict[TP, int]) -> dict[TP, int]:
            self.sought.append(offsets)
            return dict.fromkeys(offsets, epoch + 1)

        self.app = cast(
            Any,
            SimpleNamespace(
                consumer=SimpleNamespace(
                    confirm=confirm,
                    seek_to=seek_to,
                    pause_partitions=self.paused.update,
                    resume_partitions=self.paused.difference_update,
                )
            ),
        )
        await self._load({SOURCE, OTHER}, 1)
        self._note_seeks({SOURCE: epoch, OTHER: epoch})

    @property
    def offset(self) -> int:
        return self._delivered_offsets()[SOURCE]


def batch(offset: int, count: int = 2, epoch: int = 1, tp: TP = SOURCE) -> Batch:
    value = json.dumps({**EVENT, "request_id": f"r-{offset}"}).encode()
    end = offset + count
    return Batch(
        *(tp.topic, tp.partition, 1, offset, end, end + 5, end + 5),
        range(offset, end),
        [0] * count,
        [value] * count,
        [],
        epoch=epoch,
    )


def run(use: Callable[[Sources], Awaitable[None]], converter: Converter | None = None) -> None:
    async def main() -> None:
        sources = Sources(converter or EventConverter())
        await sources.assign(10, epoch=1)
        await use(sources)

    asyncio.run(main())


def test_an_offset_moves_when_the_events_are_confirmed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_topics, "RETRY_AFTER_S", 0)

    async def use(sources: Sources) -> None:
        taking = asyncio.create_task(sources.take(batch(10)))
        await asyncio.sleep(0)
        assert sources.offset == 10
        # A failure is tried again with the same events.
        sources.held.taken[0][1].set_exception(Unavailable("no broker"))
        for _ in range(10):
            await asyncio.sleep(0)
        assert sources.held.taken[0][0] == sources.held.taken[1][0]
        assert sources.offset == 10
        sources.held.taken[1][1].set_result(None)
        await taking
        assert sources.offset == 12

    run(use)


def test_a_batch_that_is_not_the_next_one_is_dropped_or_read_again() -> None:
    async def use(sources: Sources) -> None:
        await sources.take(batch(10, epoch=0))  # fetched before the last seek
        assert (sources.held.taken, sources.sought) == ([], [])
        await sources.take(batch(14))  # the one before it was dropped
        assert (sources.held.taken, sources.sought) == ([], [{SOURCE: 10}])
        await sources.take(batch(14))  # and this one was fetched before the new seek
        assert sources.offset == 10

    run(use)


def test_a_batch_in_transit_moves_no_offset_of_a_later_assignment() -> None:
    async def use(sources: Sources) -> None:
        taking = asyncio.create_task(sources.take(batch(10)))
        await asyncio.sleep(0)
        await sources.assign(10, epoch=2)
        sources.held.taken[0][1].set_result(None)
        await taking
        assert sources.offset == 10

    run(use)


class LateSchema:
    """Converts records once the test says that their schema is there.

    Those of the partition OTHER need none.
    """

    def __init__(self) -> None:
        self.is_there = False
        self.attempts = 0

    async def convert(self, records: Sequence[Record], origin: str) -> Converted:
        self.attempts += 1
        if not self.is_there and origin == "source-0":
            raise Unavailable("schema id 7: answered 404")
        return await EventConverter().convert(records, origin)


def waits(sources: Sources, tp: TP = SOURCE) -> float:
    return float(sources.metrics.waiting.labels(*map(str, tp))._value.get())


async def turn() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_records_wait_for_their_schema_and_none_is_lost_or_skipped(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(source_topics, "RETRY_AFTER_S", 0)
    schema = LateSchema()

    async def use(sources: Sources) -> None:
        await sources.take(batch(10))
        await turn()
        assert schema.attempts > 2
        assert (sources.offset, sources.held.taken, waits(sources)) == (10, [], 1)
        assert sources.paused == {SOURCE}
        assert caplog.messages == ["source-0: waiting: schema id 7: answered 404"]
        # This batch was in a queue when the partition was paused.
        await sources.take(batch(12))
        schema.is_there = True
        await turn()
        [(events, confirmed)] = sources.held.taken
        assert sources.paused == {SOURCE}
        confirmed.set_result(None)
        await turn()
        assert (len(events), sources.offset, waits(sources)) == (2, 12, 0)
        # The batches after it were dropped, and are read again.
        assert (sources.sought, sources.paused) == ([{SOURCE: 12}], set())
        taking = asyncio.create_task(sources.take(batch(12, epoch=2)))
        await turn()
        sources.held.taken[1][1].set_result(None)
        await taking
        assert sources.offset == 14

    run(use, schema)


def test_a_partition_that_waits_holds_no_other_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_topics, "RETRY_AFTER_S", 0)

    async def use(sources: Sources) -> None:
        await sources.take(batch(10))
        taking = asyncio.create_task(sources.take(batch(10, tp=OTHER)))
        await turn()
        [(_, confirmed)] = sources.held.taken
        confirmed.set_result(None)
        await taking
        assert sources._delivered_offsets() == {SOURCE: 10, OTHER: 12}
        assert (waits(sources), waits(sources, OTHER)) == (1, 0)

    run(use, LateSchema())


def test_a_partition_that_is_given_away_waits_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_topics, "RETRY_AFTER_S", 0)

    async def use(sources: Sources) -> None:
        await sources.take(batch(10))
        await sources.assign(10, epoch=2)
        await turn()
        assert (sources.offset, sources.held.taken, waits(sources)) == (10, [], 0)
        assert sources.sought == []

    run(use, LateSchema())
