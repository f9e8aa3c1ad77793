"""A state that grows, and the engine of objectives that reads it."""

import random
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any
from weakref import WeakKeyDictionary

from slo.engine.engine import Engine
from slo.engine.minute_count_store import MinuteCountStore
from slo.engine.minute_status import Attainment
from slo.engine.report import ObjectiveResult
from slo.policy.loading import as_policy
from streams.events.decoder import ELIGIBLE
from streams.state.limits import NO_NAMES
from streams.state.registry import ReservedNames, customer_hasher
from streams.store.reader import StateReader
from streams.store.servers.client import connect
from tests.support.exporter_state import (
    SECRET,
    StateWriter,
    event,
    settings_for,
)

NOON = int(datetime(2026, 11, 10, 12, tzinfo=UTC).timestamp())
READERS: WeakKeyDictionary[Engine, StateReader] = WeakKeyDictionary()
ROLLING = {"rolling_days": 30}
MINUTES = {"kind": "minute_verdicts", "down_above": "5%"}


def policy(*objectives: dict[str, Any], **keys: Any) -> Any:
    base = {"indicator": {"kind": "request_ratio"}, "target": "99%", "period": ROLLING}
    named = [{"name": f"o{at}"} | base | one for at, one in enumerate(objectives)]
    return as_policy({"version": 1, "name": "p", "objectives": named} | keys, "test")


def traffic(seed: int, count: int, from_s: float, to_s: float) -> list[dict[str, Any]]:
    chance = random.Random(seed)
    return [
        event(
            at,
            model=chance.choice(["opus", "haiku"]),
            region=chance.choice(["eu", "us"]),
            customer_id=chance.choice(["acme", "hooli"]),
            outcome=chance.choice(["success"] * 9 + ["overloaded", "stream_error", "cancelled"]),
            ttft_ms=chance.choice([100, 300, 300.001, 900]),
        )
        for at in sorted(chance.uniform(from_s, to_s) for _ in range(count))
    ]


def recount(events: list[dict[str, Any]], **scope: str) -> Attainment:
    mine = [one for one in events if scope.items() <= one.items() and one["outcome"] in ELIGIBLE]
    good = sum(one["outcome"] == "success" for one in mine)
    return Attainment(Fraction(good), len(mine))


class World:
    """A state that grows, and exporters that read it."""

    def __init__(self, url: str) -> None:
        self.settings = settings_for(url)
        self.client = connect(url, 5)
        self.writers = [StateWriter(self.settings)]
        self.events: list[dict[str, Any]] = []
        kafka = self.settings.kafka
        self.store = MinuteCountStore(self.client, kafka.group, kafka.topic)

    def engine(self, of: Any) -> Engine:
        kafka = self.settings.kafka
        engine = Engine(
            [of], self.client, kafka.group, kafka.topic, customer_hasher(SECRET.encode()), {"batch"}
        )
        READERS[engine] = StateReader(self.client, kafka.group, kafka.topic)
        return engine

    async def add(self, partition: int, events: list[dict[str, Any]]) -> None:
        self.events += events
        at_s = max(one["ended_at"] for one in events) / 1_000
        await self.writer.write(partition, events, at_s)

    @property
    def writer(self) -> StateWriter:
        return self.writers[-1]

    def restart_workers(self, reserved: ReservedNames = NO_NAMES, **worker: Any) -> None:
        """Go on with other settings; `reserved`: names of policies."""
        url = self.settings.redis.url
        self.writers.append(StateWriter(settings_for(url, worker), reserved))

    async def close(self) -> None:
        for writer in self.writers:
            await writer.close()
        await self.client.aclose()


async def judge(engine: Engine, now_s: float) -> dict[tuple[str, str], ObjectiveResult]:
    found = None
    while found is None:
        found = await engine.refresh(await READERS[engine].snapshot(), now_s)
    return {(one.objective.name, one.name): one for one in found}
