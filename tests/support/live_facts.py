"""Live board facts of made-up traffic."""

import asyncio
import random

from alerts.evaluation.evaluator import RuleEvaluator, request_groups
from exporters.server.collector import Collector
from slo.policy.loading import load_policies
from streams.store.redis import connect
from tests.support.exporter_state import NOW_S, StateWriter, event


class World:
    """A state that grows, and one exporter that reads it again and again."""

    def __init__(self, settings, **customers) -> None:
        self.settings = settings
        self.client = connect(settings.redis.url, 5)
        self.writer = StateWriter(settings)
        policies = load_policies(settings.exporter.policies)
        rules = RuleEvaluator(request_groups(policies))
        self.collector = Collector(settings, self.client, customers, rules)

    async def facts(self, now_s=NOW_S):
        return (await self.collector.collect(now_s)).live

    async def close(self) -> None:
        await self.writer.close()
        await self.client.aclose()


def in_world(settings, use, **customers):
    async def run():
        world = World(settings, **customers)
        try:
            return await use(world)
        finally:
            await world.close()

    return asyncio.run(run())


def traffic(seed, per_s, from_s, to_s, change=lambda one: {}):
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


def told(facts, alert):
    return [one for one in facts.incidents if one.alert == alert]


def the(facts, alert):
    (found,) = told(facts, alert)
    assert found.runbook == alert
    return found
