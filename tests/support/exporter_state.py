"""State as a worker would leave it, written from events through the real store and state."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from exporters.server.collector import Collected, Collector
from streams.config.settings import Settings, Worker
from streams.events.decoder import OUTCOMES, EventLimits, decode
from streams.state.edges import export_edges
from streams.state.limits import (
    NO_NAMES,
    customer_tokens,
    event_limits,
    name_limits,
    thresholds_of,
)
from streams.state.partition import PartitionState
from streams.state.registry import Registry, ReservedNames, customer_hasher
from streams.state.slices import HORIZON_S
from streams.state.snapshot import decode_meta, decode_names, slice_field
from streams.store.contract import Answer, Claimed
from streams.store.redis import RedisStore
from streams.store.servers.client import connect
from streams.worker.deduplication import deduplicate
from tests.support.checks import not_none
from tests.support.two_clocks import right_clock

SECRET = "0123456789abcdef" * 2
RULES = EventLimits(10_000, 300_000, HORIZON_S * 1_000)
NOW_S = 1_700_000_005  # in the slice [.. 000, .. 010)
token_of = customer_hasher(SECRET.encode())

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def settings_for(redis_url: str, worker: dict[str, Any] | None = None, **exporter: Any) -> Settings:
    return Settings(
        redis={"url": redis_url, "timeout_s": 1},
        worker={"customer_key": SECRET, **(worker or {})},
        exporter=exporter,
    )


def event(ended_at_s: float, **changes: Any) -> dict[str, Any]:
    """A success with TTFT 0.2 s, TPOT 0.02 s, 1,000 input tokens of which 400 cached."""
    return {
        "request_id": "r",
        "ended_at": round(ended_at_s * 1_000),
        "model": "opus",
        "outcome": "success",
        "region": "us-east-1",
        "channel": "direct",
        "service_tier": "standard",
        "customer_id": "acme",
        "ttft_ms": 200,
        "duration_ms": 2_200,
        "input_tokens": 1_000,
        "cached_input_tokens": 400,
        "output_tokens": 101,
        "reasoning_tokens": 60,
    } | changes


def some_events(seed: int, count: int, from_s: float, to_s: float) -> list[dict[str, Any]]:
    """Random events in rising order of time, of several models, regions and customers."""
    chance = random.Random(seed)
    events = []
    for ended_at_s in sorted(chance.uniform(from_s, to_s) for _ in range(count)):
        outcome = chance.choice(["success"] * 12 + list(OUTCOMES))
        ttft_ms = round(chance.lognormvariate(5.3, 0.6), 3)
        made = event(
            ended_at_s,
            model=chance.choice(["opus", "sonnet", "haiku"]),
            region=chance.choice(["us-east-1", "eu-west-1"]),
            customer_id=chance.choice(["acme", "globex", "initech", "hooli"]),
            outcome=outcome,
            ttft_ms=ttft_ms,
            duration_ms=ttft_ms + round(chance.lognormvariate(8, 1), 3),
            input_tokens=chance.randint(100, 5_000),
            cached_input_tokens=chance.randint(0, 100),
            output_tokens=chance.randint(2, 800),
            reasoning_tokens=chance.randint(0, 2),
        )
        if chance.random() < 0.05:
            made["probe"] = True
        events.append(made)
    return events


class StateWriter:
    """Stands in for a worker; use it inside one event loop."""

    def __init__(self, settings: Settings, reserved: ReservedNames = NO_NAMES) -> None:
        self.settings = settings
        self._limits = name_limits(settings.worker, reserved)
        self._rules = replace(RULES, input_limits=event_limits(settings.worker).input_limits)
        self._client = connect(settings.redis.url, 5)
        self._store = RedisStore(self._client, settings.kafka.group, settings.kafka.topic)
        self._owned: dict[int, tuple[Claimed, PartitionState]] = {}

    async def write(
        self,
        partition: int,
        values: Sequence[dict[str, Any] | bytes],
        at_s: float = NOW_S,
        duplicates: int = 0,
        by_sender: bool = False,
    ) -> None:
        """Count records and write one checkpoint and a pulse; `at_s` is the writer's clock. The
        last `duplicates` of the events are set apart as such. `by_sender`: whether the timestamps
        of the records are those of their senders."""
        claim, state = await self.owned(partition)
        raw = [one if isinstance(one, bytes) else msgspec.json.encode(one) for one in values]
        stamps = np.full(len(raw), round(at_s * 1_000), np.int64)
        marks = np.full(len(raw), True) if by_sender else None
        decoded = decode(raw, stamps, state.watermark, self._rules, marks)
        events = len(decoded.columns.ended_at_ms)
        decoded = deduplicate(decoded, np.arange(events) >= events - duplicates)
        missing = state.missing(decoded)
        found = await self._store.load(claim, [slice_field(of) for of in missing])
        state.provide(dict(zip(missing, found.values(), strict=True)))
        state.apply(decoded, state.next_offset + len(raw))
        snapshot = state.snapshot(round(at_s * 1_000))
        assert await self._store.flush(claim, snapshot) is Answer.OK
        state.confirm(snapshot)
        await self.send_heartbeat(partition, at_s)

    async def owned(self, partition: int) -> tuple[Claimed, PartitionState]:
        """A partition as its worker has it: what happens to the log can be told to its state."""
        if partition not in self._owned:
            self._owned[partition] = await self._claimed(partition, self.settings.worker)
        return self._owned[partition]

    async def set_watermark(self, partition: int, to_ms: int, at_s: float) -> None:
        """Set the watermark back, as an operator commands at `at_s`, and write a checkpoint."""
        claim, state = await self.owned(partition)
        missing = state.missing_to_set_back(to_ms)
        found = await self._store.load(claim, [slice_field(of) for of in missing])
        state.provide(dict(zip(missing, found.values(), strict=True)))
        state.set_back(f"at {at_s}", to_ms, round(at_s * 1_000), 0)
        snapshot = state.snapshot(round(at_s * 1_000))
        assert await self._store.flush(claim, snapshot) is Answer.OK
        state.confirm(snapshot)

    async def send_heartbeat(self, partition: int, at_s: float, **changes: Any) -> None:
        values: dict[Any, Any] = {
            "at_ms": round(at_s * 1_000),
            "broker_at_ms": round(at_s * 1_000),
            "worker": f"host:{partition}",
            "highwater": (await self.owned(partition))[1].next_offset + 7,
            "readable": (await self.owned(partition))[1].next_offset + 4,
            "flush_s": 0.0125,
            **dict.fromkeys(("fenced", "conflicts", "rollbacks", "reseeks"), 0),
            **dict.fromkeys(("store_errors", "key_mismatches"), 0),
            **dict.fromkeys(("seen_ids", "seen_forgotten", "archived_ms"), 0),
            **dict.fromkeys(("halted", "halted_detail", "order"), ""),
        }
        await self._store.send_heartbeat(partition, values | changes)

    async def _claimed(self, partition: int, worker: Worker) -> tuple[Claimed, PartitionState]:
        claim = await self._store.claim(partition)
        fields = claim.stored.fields
        names = decode_names(decode_meta(fields["meta"]), fields) if fields else ([], [])
        targets = thresholds_of(worker)
        registry = Registry(self._limits, customer_tokens(worker, claim.tokens), *names)
        return claim, PartitionState(
            claim.stored, registry, targets, export_edges(targets), worker.lateness_s
        )

    async def close(self) -> None:
        await self._client.aclose()


def write_state(settings: Settings, records: dict[int, list[Any]], at_s: float = NOW_S) -> None:
    """Write one checkpoint for each partition."""

    async def write() -> None:
        writer = StateWriter(settings)
        for partition, values in records.items():
            await writer.write(partition, values, at_s)
        await writer.close()

    asyncio.run(write())


def export(settings: Settings, now_s: float = NOW_S, /, **customers: Any) -> Collected:
    """One export by a fresh exporter, whose clock agrees with that of Redis."""

    async def collect() -> Collected:
        client = connect(settings.redis.url, 5)
        try:
            return await Collector(settings, client, customers).collect(right_clock(now_s))
        finally:
            await client.aclose()

    return asyncio.run(collect())


def parsed(text: bytes) -> Samples:
    """Samples of a text in the Prometheus format; a sample that stands twice is an error."""
    found: Samples = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found, f"twice: {key}"
            found[key] = sample.value
    return found


def value(samples: Samples, name: str, **labels: str) -> float | None:
    """One sample; None where it is absent."""
    return samples.get((name, frozenset(labels.items())))


def number(samples: Samples, name: str, **labels: str) -> float:
    """Return one sample that must be there."""
    return not_none(value(samples, name, **labels))


def samples_of(settings: Settings, now_s: float = NOW_S, /, **customers: Any) -> Samples:
    """Samples of one export by a fresh exporter."""
    return parsed(export(settings, now_s, **customers).page.text(openmetrics=False))


def named(samples: Samples, name: str) -> dict[frozenset[tuple[str, str]], float]:
    """Labels -> value of one metric."""
    return {labels: one for (found, labels), one in samples.items() if found == name}
