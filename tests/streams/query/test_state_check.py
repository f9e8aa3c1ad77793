"""`tokenpulse state check` names what is damaged, and what can rebuild it."""

import asyncio
import json
from collections.abc import Callable
from typing import cast

import pytest
import redis

from streams.config.settings import Settings
from streams.store.keys import Keys
from tests.support.command import run
from tests.support.exporter_state import NOW_S, StateWriter, some_events
from tests.support.servers import Broker


@pytest.fixture
def settings(configured: Callable[..., Settings], broker: Broker) -> Settings:
    """Settings over a Redis with the states of two partitions, and an empty topic."""
    base = configured()
    kafka = broker.new_kafka(2)
    worker = base.worker.model_copy(update={"archive_interval_s": 0})
    written = base.model_copy(update={"kafka": kafka, "worker": worker})

    async def write() -> None:
        writer = StateWriter(written)
        for partition in (0, 1):
            await writer.write(partition, some_events(partition, 40, NOW_S - 900, NOW_S))
        await writer.close()

    asyncio.run(write())
    return written


def test_whole_states_are_said_to_be_whole(settings: Settings) -> None:
    done = run("state", "check", settings=settings)
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["partition 0", "partition 1"]
    assert all(line.endswith(" fields, all whole") for line in lines)
    repaired = run("state", "repair", "--reason", "a test", settings=settings)
    assert (repaired.exit_code, repaired.output) == (0, "no stored field is damaged\n")


@pytest.mark.parametrize("kind", ["s:", "totals", "series:0", "offset"])
def test_damage_is_named_with_what_rebuilds_it(
    settings: Settings, redis_client: redis.Redis, kind: str
) -> None:
    key = Keys(settings.kafka.group, settings.kafka.topic).partition(1)
    stored = cast(list[bytes], redis_client.hkeys(key))
    names = [name.decode() for name in stored]
    name = min(one for one in names if one.startswith(kind))
    redis_client.hset(key, name, b"7")
    done = run("state", "check", settings=settings)
    assert done.exit_code == 1, done.output
    lines = done.output.splitlines()
    assert lines[0].endswith("all whole")
    assert lines[1].startswith(f"partition 1: DAMAGED: {name}: ")
    # The log of this topic begins at 0, where counting began.
    assert "counts the whole log of the partition again" in lines[2]
    [whole, damaged] = json.loads(run("state", "check", "--json", settings=settings).output)
    assert (whole["damaged"], whole["rebuilt_from"]) == ([], None)
    assert [one["field"] for one in damaged["damaged"]] == [name]
    assert damaged["rebuilt_from"] == "log"
