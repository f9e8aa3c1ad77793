"""The stored incidents of the live board, which all exporters of one state share."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from exporters.board.facts import Extent, Incident
from exporters.board.incidents.log import KEEP_S, REOPEN_S, IncidentLog, IncidentRecord
from exporters.server.incident_store import BoardIncidentStore
from streams.store.keys import Keys
from streams.store.servers.client import connect


def failing(key: str, share: float) -> Incident:
    words = f"{share:.0%} failed"
    return Incident("page", words, "A", "A", key, extent=Extent(share, words))


class Exporter:
    """One exporter: its log, and its store in the hash that all share."""

    def __init__(self, client: Any, log: IncidentLog | None = None) -> None:
        self.log = log or IncidentLog()
        self.store = BoardIncidentStore(client, "g", "t")

    async def refresh(self, now_s: float, *incidents: Incident) -> tuple[Incident, ...]:
        shown = self.log.update(incidents, now_s, False)
        await self.store.write(self.log, now_s)
        return shown


def with_redis(settings: Any, use: Callable[[Any], Any]) -> Any:
    async def run() -> Any:
        client = connect(settings.redis.url, 5)
        try:
            return await use(client)
        finally:
            await client.aclose()

    return asyncio.run(run())


async def records(client: Any) -> list[IncidentRecord]:
    return await BoardIncidentStore(client, "g", "t").read()


@pytest.mark.parametrize("offset_s", [0.5, 4])
def test_two_exporters_agree_on_one_record(configured: Callable[..., Any], offset_s: float) -> None:
    async def use(client: Any) -> None:
        first, second = Exporter(client), Exporter(client)
        for at_s in range(1_000, 1_200):
            incidents = [failing("a", 0.9 if at_s == 1_030 else 0.4)] if at_s < 1_060 else []
            (shown,) = await first.refresh(at_s, *incidents) or (None,)
            (also,) = await second.refresh(at_s + offset_s, *incidents) or (None,)
            if shown and also and at_s > 1_025:
                assert (shown.since_s, shown.id) == (also.since_s, also.id) == (1_000, shown.id)
        (record,) = await records(client)
        assert (record.start_s, record.is_open, record.peak) == (1_000, False, "90% failed")
        assert first.log.past() == second.log.past()
        third = IncidentLog(await records(client))
        assert third.past() == first.log.past()

    with_redis(configured(), use)


def test_duplicates_of_before_are_joined(configured: Callable[..., Any]) -> None:
    async def use(client: Any) -> None:
        for start_s in (1_000, 1_002):
            exporter = Exporter(client)
            for at_s in (start_s, start_s + 20):
                exporter.log.update([failing("a", 0.4)], at_s, False)
            fields, _ = exporter.log.changes(start_s + 20)
            await client.hset(Keys("g", "t").board_incidents, mapping=fields)
        assert len(await records(client)) == 2
        exporter = Exporter(client, IncidentLog(await records(client)))
        (shown,) = await exporter.refresh(1_030, failing("a", 0.4))
        assert shown.since_s == 1_000
        assert [one.start_s for one in await records(client)] == [1_000]

    with_redis(configured(), use)


def test_an_incident_of_an_exporter_that_is_gone_ends(configured: Callable[..., Any]) -> None:
    async def use(client: Any) -> None:
        gone, running = Exporter(client), Exporter(client)
        for at_s in (1_000, 1_020):
            await gone.refresh(at_s, failing("a", 0.4))
        await running.refresh(1_040)
        assert running.log.past() == ()
        await running.refresh(1_030 + 2 * REOPEN_S)
        assert [(one.start_s, one.end_s) for one in running.log.past()] == [(1_000, 1_020)]

    with_redis(configured(), use)


def test_unreadable_records_are_deleted_after_a_day(configured: Callable[..., Any]) -> None:
    async def use(client: Any) -> None:
        key = Keys("g", "t").board_incidents
        await client.hset(key, mapping={"1000|a": "no json", "x": "no json"})
        await client.hset(key, f"{int(KEEP_S) * 1_000}|b", "no json")
        await Exporter(client).refresh(KEEP_S + 100)
        assert await client.hkeys(key) == [f"{int(KEEP_S) * 1_000}|b".encode()]

    with_redis(configured(), use)
