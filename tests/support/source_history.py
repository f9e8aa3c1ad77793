"""Histories of the intake's sources, written through the real store."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping

from streams.config.settings import Settings
from streams.store.servers.client import connect
from streams.store.source_counts import (
    EVENTS,
    RECORDS,
    SLOT_S,
    SUCCESSES,
    WITH_USAGE,
    PendingCounts,
    SourceCount,
    SourceHistory,
)
from streams.store.source_store import SourceStore

Counts = dict[SourceCount, int]


def sent(source: str, events: int, changes: Mapping[str, int] | None = None) -> Counts:
    """The counts of some events of a source, all with usage; `changes`: by kind."""
    kinds = dict.fromkeys((RECORDS, EVENTS, SUCCESSES, WITH_USAGE), events) | dict(changes or {})
    return {SourceCount(kind, source): count for kind, count in kinds.items()}


def steady(pending: PendingCounts, source: str, from_s: float, to_s: float, events: int) -> None:
    """Add `events` in every slot of [from_s, to_s), the last ones at its end."""
    at_s = from_s + SLOT_S - 1
    while at_s < to_s:
        pending.add(sent(source, events), at_s)
        at_s += SLOT_S


def history_of(*pending: PendingCounts) -> SourceHistory:
    """What a reader makes of the counts, without a store."""
    history = SourceHistory()
    fields: dict[int, Counter[str]] = {}
    for number, counts in enumerate(pending):
        for slot, report in counts.take().items():
            into = fields.setdefault(slot, Counter())
            into.update(report.counts)
            into.update(report.fields(f"intake-{number}"))
    for slot, of_slot in fields.items():
        history.put(slot, of_slot)
    return history


def write_sources(settings: Settings, pending: Iterable[PendingCounts]) -> None:
    """Store the counts of some intakes."""

    async def write() -> None:
        client = connect(settings.redis.url, 5)
        try:
            store = SourceStore(client, settings.kafka.group, settings.kafka.topic)
            for counts in pending:
                await store.add(counts.take())
        finally:
            await client.aclose()

    asyncio.run(write())
