"""Live board facts of made-up traffic."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from alerts.evaluation.evaluator import RuleEvaluator, board_groups
from exporters.board.facts import Incident, LiveFacts
from exporters.server.collector import Collector
from slo.policy.loading import load_policies
from streams.config.settings import Settings
from streams.store.servers.client import connect
from tests.support.exporter_state import NOW_S, StateWriter, event
from tests.support.two_clocks import right_clock

T = TypeVar("T")


class World:
    """A state that grows, and one exporter that reads it again and again."""

    def __init__(self, settings: Settings, **customers: Any) -> None:
        self.settings = settings
        self.client = connect(settings.redis.url, 5)
        self.writer = StateWriter(settings)
        policies = load_policies(settings.exporter.policies)
        rules = RuleEvaluator(board_groups(policies))
        self.collector = Collector(settings, self.client, customers, rules)

    async def facts(self, now_s: float = NOW_S) -> LiveFacts:
        facts = (await self.collector.collect(right_clock(now_s))).live
        assert facts is not None
        return facts

    async def close(self) -> None:
        await self.writer.close()
        await self.client.aclose()


def in_world(settings: Settings, use: Callable[[World], Awaitable[T]], **customers: Any) -> T:
    async def run() -> T:
        world = World(settings, **customers)
        try:
            return await use(world)
        finally:
            await world.close()

    return asyncio.run(run())


def traffic(
    seed: int, per_s: float, from_s: int, to_s: int, change: Callable[..., Any] = lambda one: {}
) -> list[dict[str, Any]]:
    """Healthy requests of all models in all regions, evenly over time; `change`: what is otherwise
    of each."""
    chance = random.Random(seed)
    events = []
    for number in range(round(per_s * (to_s - from_s))):
        ttft_ms = chance.uniform(80, 240)
        one = event(
            from_s + number / per_s,
            request_id=f"{seed}-{number}",
            model=chance.choice(["opus", "sonnet", "haiku"]),
            region=chance.choice(["us-east-1", "eu-west-1", "ap-south-1"]),
            channel=chance.choice(["direct", "bedrock"]),
            ttft_ms=ttft_ms,
            duration_ms=ttft_ms + 2_000,
            cached_input_tokens=450,
        )
        events.append(one | change(one))
    return events


def told(facts: LiveFacts, alert: str) -> list[Incident]:
    return [one for one in facts.incidents if one.alert == alert]


def the(facts: LiveFacts, alert: str) -> Incident:
    (found,) = told(facts, alert)
    assert found.runbook == alert
    return found


def failing(
    since_s: int, share: float = 1.0, outcome: str = "server_error", **place: Any
) -> Callable[..., Any]:
    """Change the outcome of a share of the requests of a place that end since `since_s`."""
    chance = random.Random(5)

    def change(one: dict[str, Any]) -> dict[str, str]:
        hit = one["ended_at"] >= since_s * 1_000 and place.items() <= one.items()
        return {"outcome": outcome} if hit and chance.random() < share else {}

    return change
