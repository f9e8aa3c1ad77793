"""Days of events in the state, for the tests of the daily board, and a plain recount of them."""

import asyncio
import math
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, cast
from zoneinfo import ZoneInfo

from exporters.daily.build import DailyBoardBuilder
from exporters.daily.day.facts import DailyFacts, Day, PeriodKind
from exporters.reference.customers import Customer
from slo.policy.loading import load_policies
from streams.clock import RedisClock
from streams.events.decoder import ELIGIBLE
from streams.store.keys import Keys
from streams.store.servers.client import connect
from tests.support.exporter_state import StateWriter, event, settings_for
from tests.support.two_clocks import right_clock

DAY_S = 86_400
HOUR_S = 3_600
MODELS = ("large", "small")
REGIONS = ("eu", "us")
CUSTOMERS = ("acme", "globex", "initech")


def at(text: str, zone: str = "UTC") -> int:
    """`2026-11-10 04:00` on the clocks of a zone, in seconds since the epoch."""
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp())


def some_traffic(
    seed: int, count: int, from_s: float, to_s: float, **changes: Any
) -> list[dict[str, Any]]:
    """Random events in rising order of time."""
    chance = random.Random(seed)
    events = []
    for ended_at_s in sorted(chance.uniform(from_s, to_s - 0.01) for _ in range(count)):
        ttft_ms = round(chance.lognormvariate(5.2, 0.4), 3)
        made = event(
            ended_at_s,
            model=chance.choice(MODELS),
            region=chance.choice(REGIONS),
            customer_id=chance.choice(CUSTOMERS),
            outcome=chance.choice(["success"] * 30 + ["server_error", "client_error", "timeout"]),
            ttft_ms=ttft_ms,
            duration_ms=ttft_ms + chance.randint(100, 6_000),
            input_tokens=chance.randint(100, 5_000),
            cached_input_tokens=chance.randint(0, 100),
            output_tokens=chance.randint(2, 300),
            reasoning_tokens=0,
        )
        if chance.random() < 0.05:
            made["probe"] = True
        events.append(made | changes)
    return events


class Builder(DailyBoardBuilder):
    """The exporter's, for days that have facts."""

    async def facts(
        self, clock: RedisClock | float, date: str | None = None, kind: PeriodKind = "day"
    ) -> DailyFacts:
        """`clock`: or the time, of a clock that agrees with that of Redis."""
        if not isinstance(clock, RedisClock):
            clock = right_clock(clock)
        facts = await super().facts(clock, date, kind)
        assert facts is not None
        return facts


class World:
    """A state that grows, and exporters that make the daily board of it."""

    def __init__(
        self, url: str, zone: str = "UTC", policies: Sequence[str] = ("default",), **daily: Any
    ) -> None:
        self.settings = settings_for(url, time_zone=zone, policies=list(policies)).model_copy(
            update={"daily": _daily(daily)}
        )
        self.zone = zone
        self.client = connect(url, 5)
        self.writer = StateWriter(self.settings)
        self.events: list[dict[str, Any]] = []

    def builder(self, **customers: Customer) -> Builder:
        """A fresh exporter's; customers by token."""
        policies = load_policies(self.settings.exporter.policies)
        return Builder(self.settings, policies, self.client, customers)

    async def add(self, partition: int, events: Sequence[dict[str, Any]], at_s: float = 0) -> None:
        """Count events; the writer's clock is `at_s`, or the time of the last of them."""
        self.events += events
        last_s = max((one["ended_at"] for one in events), default=0) / 1_000
        await self.writer.write(partition, events, at_s or last_s)

    async def tell(self, until_s: float, *partitions: int) -> None:
        """The stream goes on: an event of that moment in the first of these partitions, and a
        live worker's word that it has read them to the end."""
        await self.add((partitions or (0,))[0], [event(until_s)])
        await self.quiet(until_s, *partitions)

    async def quiet(self, until_s: float, *partitions: int) -> None:
        """A live worker's word that it has read its partitions to the end."""
        for partition in partitions or (0,):
            _, state = await self.writer.owned(partition)
            await self.writer.send_heartbeat(partition, until_s, highwater=state.next_offset)

    async def stored(self) -> Mapping[bytes, bytes]:
        """The sealed days as they are in Redis."""
        kafka = self.settings.kafka
        days = await self.client.hgetall(Keys(kafka.group, kafka.topic).days)
        return cast("Mapping[bytes, bytes]", days)  # the client decodes no answers

    def within(self, from_s: float, to_s: float) -> list[dict[str, Any]]:
        """The events of a stretch of time."""
        return [one for one in self.events if from_s * 1_000 <= one["ended_at"] < to_s * 1_000]

    async def close(self) -> None:
        """Close what is open."""
        await self.writer.close()
        await self.client.aclose()


def _daily(changes: Mapping[str, Any]) -> Any:
    from streams.config.settings import Daily

    return Daily(**changes)


def in_world(redis_server: Any) -> Callable[..., None]:
    """Runs a story over an empty store."""

    def run(use: Callable[[World], Awaitable[None]], **how: Any) -> None:
        async def go() -> None:
            world = World(redis_server.url, **how)
            try:
                await use(world)
            finally:
                await world.close()

        asyncio.run(go())

    return run


def recount(events: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The five metrics of plain events, as one would count them by hand."""
    events = list(events)
    real = [one for one in events if not one.get("probe")]
    done = [one for one in real if one["outcome"] == "success"]
    judged = [one for one in events if one["outcome"] in ELIGIBLE]
    good = sum(one["outcome"] == "success" for one in judged)
    total_in = sum(one["input_tokens"] for one in real)
    cached = sum(one["cached_input_tokens"] for one in real)
    return {
        "requests": len(real),
        "tokens": total_in + sum(one["output_tokens"] for one in real) if events else None,
        "ttft_p95_s": nearest_rank([one["ttft_ms"] / 1e3 for one in done]),
        "tpot_p95_s": nearest_rank(
            [
                (one["duration_ms"] - one["ttft_ms"]) / 1e3 / (one["output_tokens"] - 1)
                for one in done
                if one["output_tokens"] > 1
            ]
        ),
        "availability_ratio": good / len(judged) if judged else None,
        "cache_hit_ratio": cached / total_in if total_in else None,
    }


def nearest_rank(values: Sequence[float]) -> float | None:
    """P95 of plain values."""
    return sorted(values)[math.ceil(round(0.95 * len(values), 6)) - 1] if values else None


def day_of(facts: DailyFacts, date: str) -> Day:
    """One day of the board."""
    return next(day for day in facts.days if day.date == date)


def utc(at_s: float) -> str:
    """An instant as `report --from` takes it."""
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
