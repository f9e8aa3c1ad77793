"""Facts of the live board over events that a test writes."""

from typing import Any

from exporters.board.facts import LiveFacts
from streams.config.settings import Settings
from tests.support.exporter_state import NOW_S
from tests.support.live_facts import World, in_world

# The board's window at 22:13:25 is [22:08:30, 22:13:30).
FROM_S, TO_S = NOW_S - 295, NOW_S + 5


def facts_of(settings: Settings, *partitions: Any, now_s: int = NOW_S) -> LiveFacts:
    """The board of a state that holds these events, one list a partition."""

    async def use(world: World) -> LiveFacts:
        for number, events in enumerate(partitions):
            await world.writer.write(number, events, now_s)
        return await world.facts(now_s)

    return in_world(settings, use)
