"""A state of schema 2 is read: all that it counted is unchanged, and what is new is derived.

`golden/state-before-house.json.gz` holds every key that the older worker left in Redis (values in
base64), the answers that the older `tokenpulse report` gave from them, and the older exporter's
page. The state has three days of events of two partitions (probes, late events, duplicates,
rejected records, names beyond the registry's limits, gaps), and a third partition in which no
record was accepted.
"""

import asyncio
import base64
import gzip
import json
from collections.abc import Callable
from typing import Any

import pytest
import redis

from streams.config.settings import Settings
from streams.state.slices import Aggregate
from streams.state.snapshot import slice_field
from streams.store.contract import Answer
from tests.support.command import run
from tests.support.exporter_state import StateWriter, parsed, samples_of
from tests.support.paths import GOLDEN

WRITTEN = json.loads(gzip.decompress((GOLDEN / "state-before-house.json.gz").read_bytes()))
LIMITS = {"models": 2, "customers": 3, "series": 40}  # of the worker that wrote the state
PARTITIONS = sorted(key for key in WRITTEN["hashes"] if key.endswith("}"))
END_S = 1_700_070_000  # the state's newest event


@pytest.fixture
def older(configured: Callable[..., Settings], redis_client: redis.Redis) -> Settings:
    """Settings over a Redis that holds what the older version wrote."""
    for key, fields in WRITTEN["hashes"].items():
        redis_client.hset(
            key, mapping={name: base64.b64decode(value) for name, value in fields.items()}
        )
    for key, members in WRITTEN["sets"].items():
        redis_client.sadd(key, *members)
    return configured(worker={"limits": LIMITS})


def assert_same_reports(settings: Settings, client: redis.Redis) -> None:
    for key in PARTITIONS:
        # The older version called records that wait, and a step that is not over, complete.
        offset = base64.b64decode(WRITTEN["hashes"][key]["offset"])
        later_ms = (END_S + 86_400) * 1_000
        client.hset(f"{key}:pulse", mapping={"highwater": offset, "at_ms": later_ms})
    for report in WRITTEN["reports"]:
        done = run("report", "--json", *report["arguments"], settings=settings)
        assert done.exit_code == 0, done.output
        answer = json.loads(done.stdout)
        for new in measures_of(answer):
            assert_derived(new)
        # All of these ranges end where the watermark stands, or before.
        assert answer.pop("later") is None
        assert answer.pop("settled_until") == answer["to"]
        assert answer == report["answer"], report["arguments"]


def measures_of(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the measures in a report: of the total, the groups, and the steps of both."""
    parts = [answer, *answer.get("groups", [])]
    steps = [step["measures"] for part in parts for step in part["steps"]]
    return [*(part["total"] for part in parts), *steps]


def assert_derived(measures: dict[str, Any]) -> None:
    """Take the measures out that schema 2 did not have: it read absent cached tokens as none."""
    known, tokens = measures.pop("known"), measures["tokens"]
    successes = measures["outcomes"]["success"]
    assert known == {
        "tokens": successes,
        "cached_input": successes,
        "cached_input_of": tokens["input"],
    }
    shares = measures.pop("known_ratio")
    assert set(shares) <= {"tokens", "cached_input", "ttft"}
    assert set(shares.values()) <= {1.0}
    assert measures.pop("estimated") == {"requests": 0, "tokens": 0}
    assert measures.pop("response_cache") == 0
    assert measures.pop("field_faults", {}) == {}
    assert measures.pop("client_errors") == measures.pop("endings") == {}
    assert measures.pop("tier_changed") == 0
    failures = measures.pop("failures")
    assert (failures["streamed"], failures["unstreamed"]) == (0, 0)
    assert measures.pop("first_visible_seconds", {"count": 0}) == {"count": 0}
    provider = measures.pop("provider")
    assert (provider["attempts"], provider["outcomes"]) == (
        measures["requests"],
        measures["outcomes"],
    )
    assert provider["tokens"] == tokens
    assert provider.get("availability_ratio") == measures.get("availability_ratio")


def test_reports_from_the_older_state_are_identical(
    older: Settings, redis_client: redis.Redis
) -> None:
    assert len(WRITTEN["reports"]) == 9
    assert_same_reports(older, redis_client)


def test_metrics_from_the_older_state_are_identical(older: Settings) -> None:
    new = {
        "tokenpulse_archive_interval_seconds",
        "tokenpulse_clock_agrees",
        "tokenpulse_clock_offset_limit_seconds",
        "tokenpulse_clock_offset_seconds",
        "tokenpulse_counted_total",
        "tokenpulse_known_ratio",
        "tokenpulse_window_failing_customers",
        "tokenpulse_estimated_tokens_total",
        "tokenpulse_response_cache_total",
    }
    samples = samples_of(older, END_S)
    new |= {f"tokenpulse_latency_seconds_{part}" for part in ("bucket", "sum", "count")}
    kept = {sample: value for sample, value in samples.items() if sample[0] not in new}
    overflowed = frozenset({("dimension", "customer_model")})
    assert kept.pop(("tokenpulse_folded_total", overflowed)) == 0
    assert kept == parsed(WRITTEN["metrics"].encode())
    known = [value for sample, value in samples.items() if sample[0] == "tokenpulse_known_ratio"]
    assert set(known) == {1.0}


def test_a_worker_takes_the_older_state_over_and_writes_back_the_same_counts(
    older: Settings, redis_client: redis.Redis
) -> None:
    before = {key: redis_client.hgetall(key) for key in PARTITIONS}

    async def take_over() -> None:
        writer = StateWriter(older)
        for partition in range(len(PARTITIONS)):
            claim, state = await writer.owned(partition)
            stored = list(state.index)
            fields = await writer._store.load(claim, [slice_field(of) for of in stored])
            state.provide(dict(zip(stored, fields.values(), strict=True)))
            state._dirty.update(stored)  # else no unchanged slice is written
            snapshot = state.snapshot(written_at_ms=0)
            assert await writer._store.flush(claim, snapshot) is Answer.OK
        await writer.close()

    asyncio.run(take_over())
    for key in PARTITIONS:
        after = redis_client.hgetall(key)
        changing = {b"owner", b"flush", b"meta", b"index"}  # these hold the checkpoint's number
        assert after.keys() == before[key].keys()
        for name in {name for name in after if after[name] != before[key][name]} - changing:
            was = before[key][name]
            assert isinstance(was, bytes)
            now = after[name]
            assert isinstance(now, bytes)
            assert Aggregate.unpack(now).pack() == Aggregate.unpack(was).pack()
    assert_same_reports(older, redis_client)
