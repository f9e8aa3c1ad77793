"""Faust asks from two places at once where to read on; only one of them may claim."""

import asyncio
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from faust.types import TP

from streams.kafka.transport import BatchConsumer

ZERO = TP("t", 0)


class Asked(BatchConsumer):
    """A consumer without a network, and how often its state was claimed."""

    def __init__(self) -> None:
        self.app: Any = SimpleNamespace(consumer_generation_id=1)
        self.transport: Any = SimpleNamespace(load=self.load, note_seeks=lambda epochs: None)
        self.claims, self.epoch, self.partitions = 0, 0, {ZERO}
        self._seeking = asyncio.Lock()
        self.forget_assignment()

    def assignment(self) -> set[TP]:
        return self.partitions

    async def load(self, tps: set[TP], generation: int) -> dict[TP, int]:
        await asyncio.sleep(0)  # so that another call can come in between
        self.claims += 1
        return dict.fromkeys(tps, 7)

    async def seek_to(self, offsets: Mapping[TP, int]) -> dict[TP, int]:
        self.epoch += 1
        return dict.fromkeys(offsets, self.epoch)


def test_an_assignment_is_claimed_once_however_often_it_is_asked_for() -> None:
    async def ask() -> None:
        consumer = Asked()
        answers = await asyncio.gather(*(consumer.seek_to_committed() for _ in range(3)))
        assert (consumer.claims, consumer.epoch) == (1, 1)
        assert answers == [{ZERO: 7}] * 3

    asyncio.run(ask())


def test_every_new_assignment_is_claimed_even_under_the_number_of_the_last() -> None:
    async def ask() -> None:
        consumer = Asked()
        await consumer.seek_to_committed()
        consumer.app.consumer_generation_id = 2
        await consumer.seek_to_committed()
        assert consumer.claims == 2
        consumer.partitions = {ZERO, TP("t", 1)}
        await consumer.seek_to_committed()
        assert consumer.claims == 3
        consumer.forget_assignment()
        await consumer.seek_to_committed()
        assert consumer.claims == 4
        consumer.partitions = set()
        assert await consumer.seek_to_committed() == {}
        assert consumer.claims == 4

    asyncio.run(ask())
