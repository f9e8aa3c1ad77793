"""The list of ordered scenarios in Redis, for whoever orders and for the simulators that follow.

Two hashes beside the state of a group and topic: `...:scenarios` holds the orders by id, and
`...:simulators` what each simulator said last, by its seed. No count depends on either.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

import redis.asyncio as aioredis
from redis.exceptions import RedisError

from streams.config.settings import Settings
from streams.simulator.scenario_requests import ScenarioOrder
from streams.simulator.scenarios import TimelineError
from streams.store.contract import StoreError
from streams.store.keys import Keys

T = TypeVar("T")

DEADLINE_S = 5.0
# What is over stays a little, for simulators that have not seen that it is.
GRACE_MS = 60_000
# A simulator says something every quarter of a second.
SILENT_AFTER_MS = 3_000
SIMULATORS_KEPT_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Simulator:
    """What a simulator said last. Times in epoch ms; `said_at_ms` by the clock of Redis."""

    seed: int
    said_at_ms: int
    sent_to_ms: int  # everything sent before this time was sent
    events_per_s: float
    obeyed: tuple[str, ...]  # ids of the orders that are on or will be

    def is_alive(self, now_ms: int) -> bool:
        """Whether it spoke a moment ago."""
        return now_ms - self.said_at_ms < SILENT_AFTER_MS


@dataclass(frozen=True, slots=True)
class Reading:
    """One reading: the orders that can be read, the others by what is wrong, the simulators."""

    now_ms: int  # by the clock of Redis
    orders: tuple[ScenarioOrder, ...]
    unreadable: tuple[str, ...]
    simulators: tuple[Simulator, ...]

    def simulator(self, seed: int) -> Simulator | None:
        """The one of this seed, if it ever spoke."""
        return next((one for one in self.simulators if one.seed == seed), None)


class OrderStore:
    """The list of one group and topic. Every call raises StoreError where Redis does not answer."""

    def __init__(self, client: "aioredis.Redis", settings: Settings) -> None:
        self._client = client
        keys = Keys(settings.kafka.group, settings.kafka.topic)
        self._orders, self._simulators = keys.scenarios, keys.simulators
        self.address = address(settings.redis.url)

    async def read(self) -> Reading:
        """The list as it is now."""

        async def ask() -> list[Any]:
            async with self._client.pipeline(transaction=False) as pipe:
                pipe.time()
                pipe.hgetall(self._orders)
                pipe.hgetall(self._simulators)
                return await pipe.execute()

        (seconds, micros), orders, simulators = await self._answer(ask)
        known, unreadable = [], []
        for id_, text in sorted(orders.items()):
            try:
                known.append(ScenarioOrder.read(id_.decode(), text.decode()))
            except TimelineError as error:
                unreadable.append(str(error))
        return Reading(
            seconds * 1_000 + micros // 1_000,
            tuple(known),
            tuple(unreadable),
            tuple(found for _, text in sorted(simulators.items()) if (found := _simulator(text))),
        )

    async def give(self, order: ScenarioOrder, reading: Reading) -> None:
        """Put an order on the list; what `reading` shows to be long over leaves it."""
        ends_ms = [order.scenario.end_ms]
        over = []
        for known in reading.orders:
            end_ms = known.scenario.end_ms
            if end_ms + GRACE_MS < reading.now_ms:
                over.append(known.id)
            ends_ms.append(end_ms)

        async def ask() -> None:
            async with self._client.pipeline(transaction=True) as pipe:
                pipe.hset(self._orders, order.id, order.text())
                if over:
                    pipe.hdel(self._orders, *over)
                pipe.pexpireat(self._orders, max(ends_ms) + GRACE_MS)
                await pipe.execute()

        await self._answer(ask)

    async def withdraw(self, ids: list[str]) -> None:
        """Take orders off the list."""
        if ids:
            await self._answer(lambda: self._client.hdel(self._orders, *ids))

    async def say(self, simulator: Simulator) -> None:
        """Leave a simulator's sign of life."""

        async def ask() -> None:
            async with self._client.pipeline(transaction=False) as pipe:
                pipe.hset(self._simulators, str(simulator.seed), json.dumps(asdict(simulator)))
                pipe.pexpire(self._simulators, SIMULATORS_KEPT_MS)
                await pipe.execute()

        await self._answer(ask)

    async def _answer(self, ask: Callable[[], Awaitable[T]]) -> T:
        try:
            async with asyncio.timeout(DEADLINE_S):
                return await ask()
        except (RedisError, OSError, TimeoutError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise StoreError(f"Redis at {self.address} does not answer: {reason}") from error


def address(url: str) -> str:
    """Where a Redis URL points, without login and options."""
    parts = urlsplit(url)
    return parts.path if parts.scheme == "unix" else f"{parts.hostname}:{parts.port or 6379}"


def _simulator(text: bytes) -> Simulator | None:
    """None for one of another version."""
    try:
        said = json.loads(text)
        return Simulator(**{**said, "obeyed": tuple(said["obeyed"])})
    except (ValueError, KeyError, TypeError):
        return None
