"""Facts of the live board over events that a test writes."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from exporters.board.alerts import AlertRules
from exporters.board.facts import LiveFacts
from exporters.server.collector import Collector
from slo.alert_state import AlertState, Samples
from streams.config.settings import Settings
from streams.store.servers.client import connect
from tests.support.exporter_state import NOW_S, StateWriter
from tests.support.live_facts import World, in_world, traffic
from tests.support.two_clocks import right_clock

# The board's window at 22:13:25 is [22:08:30, 22:13:30).
FROM_S, TO_S = NOW_S - 295, NOW_S + 5


def facts_of(settings: Settings, *partitions: Any, now_s: int = NOW_S) -> LiveFacts:
    """The board of a state that holds these events, one list a partition."""

    async def use(world: World) -> LiveFacts:
        for number, events in enumerate(partitions):
            await world.writer.write(number, events, now_s)
        return await world.facts(now_s)

    return in_world(settings, use)


@dataclass
class FixedRules:
    """Rules whose alerts are given beforehand; keeps the samples that they are asked about."""

    states: Sequence[AlertState] = ()
    metrics: frozenset[str] = frozenset({"tokenpulse_window_requests"})
    reads: frozenset[tuple[str, str]] = frozenset({("region", "1m")})
    seen: list[Samples] = field(default_factory=list)

    def evaluate(self, samples: Samples, now_s: float) -> Sequence[AlertState]:
        self.seen.append(samples)
        return self.states

    def resume(self, firing: Iterable[AlertState], seen_s: float, now_s: float) -> None:
        """Continue nothing: the states are given."""


def facts_under(settings: Settings, rules: AlertRules | None, cold: bool) -> LiveFacts:
    """The board of ten minutes of traffic, all of it failing, slow and without cache if `cold`."""
    bad = {"outcome": "server_error", "ttft_ms": 900, "duration_ms": 2_900}
    events = traffic(3, 10, NOW_S - 600, NOW_S, lambda one: bad if cold else {})
    return facts_with(settings, rules, events)


def facts_with(
    settings: Settings, rules: AlertRules | None, events: Sequence[dict[str, Any]]
) -> LiveFacts:
    """The board of these events under some rules."""

    async def collect() -> LiveFacts | None:
        client, writer = connect(settings.redis.url, 5), StateWriter(settings)
        try:
            await writer.write(0, events, NOW_S)
            return (await Collector(settings, client, {}, rules).collect(right_clock(NOW_S))).live
        finally:
            await writer.close()
            await client.aclose()

    facts = asyncio.run(collect())
    assert facts is not None
    return facts
