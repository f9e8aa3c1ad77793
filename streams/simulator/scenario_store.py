"""The list of requested scenarios in Redis, shared by the commands and the simulators.

Two hashes beside the state of a group and topic: `...:scenarios` holds the requests by id, and
`...:simulators` the last status of each simulator, by its seed. No count depends on either.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import redis.asyncio as aioredis
from redis.exceptions import RedisError

from streams.config.settings import Settings
from streams.simulator.scenario_requests import ScenarioRequest
from streams.simulator.scenarios import TimelineError
from streams.store.contract import StoreError
from streams.store.keys import Keys
from streams.store.servers.reasons import redis_reason

T = TypeVar("T")

DEADLINE_S = 5.0
# Ended requests stay a minute, so that each simulator reads them before they go.
GRACE_MS = 60_000
# A simulator reports its status every quarter of a second.
SILENT_AFTER_MS = 3_000
STATUS_KEPT_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class SimulatorStatus:
    """The last status that a simulator reported. Times in epoch ms."""

    seed: int
    reported_at_ms: int  # by the clock of Redis
    sent_to_ms: int  # all records before this time are sent
    events_per_s: float
    active_ids: tuple[str, ...]  # of the requests that are active or planned

    def is_alive(self, now_ms: int) -> bool:
        """Tell if the status is recent."""
        return now_ms - self.reported_at_ms < SILENT_AFTER_MS

    def pack(self) -> str:
        """Encode for the store."""
        return json.dumps(
            {
                "seed": self.seed,
                # Stored names keep their spelling.
                "said_at_ms": self.reported_at_ms,
                "sent_to_ms": self.sent_to_ms,
                "events_per_s": self.events_per_s,
                "obeyed": self.active_ids,
            }
        )

    @classmethod
    def unpack(cls, text: bytes) -> "SimulatorStatus | None":
        """Decode from the store; None for another version's format."""
        try:
            fields = json.loads(text)
            return cls(
                fields["seed"],
                fields["said_at_ms"],
                fields["sent_to_ms"],
                fields["events_per_s"],
                tuple(fields["obeyed"]),
            )
        except (ValueError, KeyError, TypeError):
            return None


@dataclass(frozen=True, slots=True)
class Reading:
    """The list as it was read. `unreadable`: an error message for each request that is invalid."""

    now_ms: int  # by the clock of Redis
    requests: tuple[ScenarioRequest, ...]
    unreadable: tuple[str, ...]
    simulators: tuple[SimulatorStatus, ...]

    def simulator(self, seed: int) -> SimulatorStatus | None:
        """Return the status of the simulator of this seed, if it ever reported."""
        return next((status for status in self.simulators if status.seed == seed), None)

    def pending(self) -> list[ScenarioRequest]:
        """Return the requests whose scenario is active or planned."""
        return [request for request in self.requests if request.scenario.end_ms > self.now_ms]


class ScenarioStore:
    """The list of one group and topic. Every call raises StoreError if Redis does not answer."""

    def __init__(self, client: "aioredis.Redis", settings: Settings) -> None:
        self._client = client
        keys = Keys(settings.kafka.group, settings.kafka.topic)
        self._requests, self._simulators = keys.scenarios, keys.simulators
        self.address = str(settings.redis.address)

    async def read(self) -> Reading:
        """Read the present list."""

        async def call() -> list[Any]:
            async with self._client.pipeline(transaction=False) as pipe:
                # The time of Redis in the same round trip, as clocks of machines differ.
                pipe.time()
                pipe.hgetall(self._requests)
                pipe.hgetall(self._simulators)
                return await pipe.execute()

        (seconds, micros), requests, simulators = await self._answer(call)
        readable, unreadable = [], []
        for id_, text in sorted(requests.items()):
            try:
                readable.append(ScenarioRequest.unpack(id_.decode(), text.decode()))
            except TimelineError as error:
                unreadable.append(str(error))
        statuses = [SimulatorStatus.unpack(text) for _, text in sorted(simulators.items())]
        return Reading(
            seconds * 1_000 + micros // 1_000,
            tuple(readable),
            tuple(unreadable),
            tuple(status for status in statuses if status is not None),
        )

    async def add(self, request: ScenarioRequest, reading: Reading) -> None:
        """Add a request, and remove those of `reading` that ended long ago."""
        end_of = {known.id: known.scenario.end_ms for known in (*reading.requests, request)}
        ended = [id_ for id_, end_ms in end_of.items() if end_ms + GRACE_MS < reading.now_ms]

        async def call() -> None:
            async with self._client.pipeline(transaction=True) as pipe:
                pipe.hset(self._requests, request.id, request.pack())
                # HDEL without fields is an error.
                if ended:
                    pipe.hdel(self._requests, *ended)
                pipe.pexpireat(self._requests, max(end_of.values()) + GRACE_MS)
                await pipe.execute()

        await self._answer(call)

    async def remove(self, ids: list[str]) -> None:
        """Remove requests, which ends their scenarios."""
        if ids:
            await self._answer(lambda: self._client.hdel(self._requests, *ids))

    async def report(self, status: SimulatorStatus) -> None:
        """Store the status of a simulator."""

        async def call() -> None:
            async with self._client.pipeline(transaction=False) as pipe:
                pipe.hset(self._simulators, str(status.seed), status.pack())
                pipe.pexpire(self._simulators, STATUS_KEPT_MS)
                await pipe.execute()

        await self._answer(call)

    async def _answer(self, call: Callable[[], Awaitable[T]]) -> T:
        try:
            async with asyncio.timeout(DEADLINE_S):
                return await call()
        except (RedisError, OSError, TimeoutError) as error:
            raise StoreError(
                f"Redis at {self.address} does not answer: {redis_reason(error)}; start it, or "
                "set redis.url"
            ) from error
