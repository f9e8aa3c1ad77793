"""A reader over states that a store set back."""

import asyncio
from collections.abc import Callable
from typing import Any

import redis

from streams.state.slices import Aggregate
from streams.store.keys import Keys
from streams.store.reader import StateReader
from streams.store.servers.client import connect
from streams.store.slice_cache import SliceCache
from tests.support.exporter_state import NOW_S, StateWriter, event


def test_slices_of_another_checkpoint_with_the_same_number_are_read_again(
    configured: Callable[..., Any], redis_client: redis.Redis
) -> None:
    """Redis loses the last write; the next owner's first checkpoint has its number."""
    settings = configured()
    kafka = settings.kafka
    key = Keys(kafka.group, kafka.topic).partition(0)

    async def run() -> None:
        client = connect(settings.redis.url, 5)
        reader = StateReader(client, kafka.group, kafka.topic)
        cache = SliceCache(lambda view: [one for one in view.index if one.level == 0])

        async def requests() -> int:
            snapshot = await reader.snapshot()
            await snapshot.load([cache])
            [view] = snapshot.views
            slices = Aggregate.merged(list(cache.aggregates(view).values()))
            assert slices.series.values.sum() == view.totals.series.values.sum()
            return int(view.totals.series.values[:, 0].sum())

        writer = StateWriter(settings)
        await writer.write(0, [event(NOW_S)])
        before = redis_client.dump(key)
        await writer.write(0, [event(NOW_S)])
        assert await requests() == 2
        redis_client.restore(key, 0, before, replace=True)  # type: ignore[arg-type]
        await StateWriter(settings).write(0, [event(NOW_S)] * 3, NOW_S + 1)
        assert await requests() == 4
        await client.aclose()

    asyncio.run(run())
