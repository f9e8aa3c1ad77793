"""A state written by the version before the packages were laid out anew is read unchanged.

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

import pytest
import redis

from streams.config.settings import Settings
from streams.state.snapshot import slice_field
from streams.store.contract import Answer
from tests.support.command import run
from tests.support.exporter_state import StateWriter, parsed, samples_of
from tests.support.paths import GOLDEN

WRITTEN = json.loads(gzip.decompress((GOLDEN / "state-before-house.json.gz").read_bytes()))
LIMITS = {"models": 2, "customers": 3, "series": 40}  # of the worker that wrote the state
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


def assert_same_reports(settings: Settings) -> None:
    for report in WRITTEN["reports"]:
        done = run("report", "--json", *report["arguments"], settings=settings)
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout) == report["answer"], report["arguments"]


def test_reports_from_the_older_state_are_identical(older: Settings) -> None:
    assert len(WRITTEN["reports"]) == 9
    assert_same_reports(older)


def test_metrics_from_the_older_state_are_identical(older: Settings) -> None:
    assert samples_of(older, END_S) == parsed(WRITTEN["metrics"].encode())


def test_a_worker_takes_the_older_state_over_and_writes_it_back_unchanged(
    older: Settings, redis_client: redis.Redis
) -> None:
    partitions = sorted(key for key in WRITTEN["hashes"] if key.endswith("}"))
    before = {key: redis_client.hgetall(key) for key in partitions}

    async def take_over() -> None:
        writer = StateWriter(older)
        for partition in range(len(partitions)):
            claim, state = await writer.owned(partition)
            stored = list(state.index)
            fields = await writer._store.load(claim, [slice_field(of) for of in stored])
            state.provide(dict(zip(stored, fields.values(), strict=True)))
            state._dirty.update(stored)  # else no unchanged slice is written
            snapshot = state.snapshot(written_at_ms=0)
            assert await writer._store.flush(claim, snapshot) is Answer.OK
        await writer.close()

    asyncio.run(take_over())
    for key in partitions:
        after = redis_client.hgetall(key)
        changing = {b"owner", b"flush", b"meta", b"index"}  # these hold the checkpoint's number
        assert after.keys() == before[key].keys()
        assert {name for name in after if after[name] != before[key][name]} <= changing
    assert_same_reports(older)
