"""Damaged incidents and finalised days: left out and named, and no other text or number."""

import asyncio
import random
from collections.abc import Iterator
from typing import Any, cast

import pytest
from redis import Redis

from exporters.daily.day.store import DayStore
from exporters.status_page.incidents import IncidentUpdate, PublicIncident
from exporters.status_page.store import IncidentStore
from slo.engine.maintenance import Maintenance
from slo.engine.minute_count_store import MinuteCountStore
from streams.store.contract import StoreError
from streams.store.servers.client import connect
from tests.support.exporter_state import NOW_S, event, samples_of, settings_for, write_state
from tests.support.servers import RedisServer

UPDATE = IncidentUpdate("u1", 1_700_000_000, "investigating", "We look into it.", "ann")
INCIDENT = PublicIncident("i1", "Errors in eu", "major", ("api",), (UPDATE,))
DATE = "2026-11-28"


def flips(client: Redis, key: str, field: str, count: int = 40) -> Iterator[None]:
    """Store a field with one wrong bit at a time, and the right one in the end."""
    whole, dice = cast(bytes, client.hget(key, field)), random.Random(field)
    for _ in range(count):
        wrong = bytearray(whole)
        bit = dice.randrange(8 * len(wrong))
        wrong[bit // 8] ^= 1 << bit % 8
        client.hset(key, field, bytes(wrong))
        yield
    client.hset(key, field, whole)


def test_a_damaged_incident_is_left_out(redis_server: RedisServer, redis_client: Redis) -> None:
    async def story() -> None:
        client = connect(redis_server.url, 2)
        store = IncidentStore(client, "g", "t")
        await store.put(INCIDENT, UPDATE)
        for field in ("i1", "i1:u1"):
            for _ in flips(redis_client, "tp:{g:t}:incidents", field):
                assert list((await store.read()).incidents) == []
        assert list((await store.read()).incidents) == [INCIDENT]
        await client.aclose()

    asyncio.run(story())


def test_a_damaged_maintenance_window_hides_the_objectives_and_nothing_else(
    redis_server: RedisServer, redis_client: Redis
) -> None:
    settings = settings_for(redis_server.url, policies=["default"])
    kafka = settings.kafka
    write_state(settings, {0: [event(NOW_S - one) for one in range(40)]})

    async def put_window() -> None:
        client = connect(redis_server.url, 2)
        begin_s = NOW_S // 60 * 60 - 900
        window = Maintenance("w-1", begin_s, begin_s + 300, "ann", "a move", begin_s)
        await MinuteCountStore(client, kafka.group, kafka.topic).put_window(window)
        await client.aclose()

    def names() -> set[str]:
        return {name for name, _ in samples_of(settings)}

    asyncio.run(put_window())
    before = names()
    (key,) = cast(list[bytes], redis_client.keys("*:maintenance"))
    whole = cast(bytes, redis_client.hget(key, "w-1"))
    redis_client.hset(key, "w-1", whole.replace(b"ann", b"bob"))
    left_out = before - names()
    assert left_out
    assert all(name.startswith("tokenpulse_objective_") for name in left_out), left_out
    redis_client.hset(key, "w-1", whole)
    assert names() == before


def test_a_damaged_day_is_left_out_and_never_written_again(
    redis_server: RedisServer, redis_client: Redis
) -> None:
    async def story() -> None:
        client = connect(redis_server.url, 2)
        store = DayStore(client, "g", "t", "UTC")
        day: Any = b'{"version": 1, "requests": 7}'
        assert (await store.write_once(DATE, day, b"{}")).strip() == day
        for _ in flips(redis_client, store.key, f"day UTC {DATE}"):
            damaged = redis_client.hget(store.key, f"day UTC {DATE}")
            assert await store.read([DATE]) == {}
            with pytest.raises(StoreError, match="restores it from the archive"):
                await store.write_once(DATE, b'{"version": 1, "requests": 8}', b"{}")
            assert redis_client.hget(store.key, f"day UTC {DATE}") == damaged
        assert (await store.read([DATE]))[DATE].strip() == day
        await client.aclose()

    asyncio.run(story())
