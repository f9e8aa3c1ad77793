"""`tokenpulse state check` names what is damaged, and what can rebuild it."""

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import cast

import msgspec
import pytest
import redis

from streams.config.settings import Settings
from streams.query.state_check import check_partition
from streams.state.snapshot import decode_meta, encode_meta
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
    unknown = run("state", "repair", "--partition", "99", "--reason", "a test", settings=settings)
    assert unknown.exit_code == 2
    assert "partition 99: unknown; workers have claimed: 0, 1" in unknown.output


def test_a_partition_halted_for_damage_is_repaired_after_a_backup_was_put_back(
    settings: Settings, redis_client: redis.Redis
) -> None:
    keys = Keys(settings.kafka.group, settings.kafka.topic)
    redis_client.hset(keys.heartbeat(1), mapping={"halted": "damaged", "at_ms": "1"})
    # No field is damaged, but this worker would never look; here it is not there at all.
    done = run("state", "repair", "--reason", "a test", settings=settings)
    assert done.exit_code == 2, done.output
    assert "partition 1: no worker is there to execute the command" in done.output


def test_a_state_that_is_removed_during_the_check_has_no_damage(
    settings: Settings, redis_client: redis.Redis
) -> None:
    key = Keys(settings.kafka.group, settings.kafka.topic).partition(1)
    asked = []

    async def look(names: Sequence[str]) -> dict[str, bytes]:
        asked.append(names)
        if len(asked) == 3:  # the first slices
            redis_client.delete(key)
        values = zip(names, cast(list[bytes | None], redis_client.hmget(key, names)), strict=True)
        return {name: value for name, value in values if value is not None}

    check = asyncio.run(check_partition(1, look))
    assert (check.fields, check.damage) == (0, ())


def test_a_report_of_damaged_states_names_them_and_what_to_do(
    settings: Settings, redis_client: redis.Redis
) -> None:
    keys = Keys(settings.kafka.group, settings.kafka.topic)
    for partition in (0, 1):
        redis_client.hset(keys.partition(partition), "totals", b"7")
    done = run("report", settings=settings)
    assert done.exit_code == 2, done.output
    [line] = done.output.splitlines()
    assert "partition 0: totals: its checksum is wrong, partition 1: totals: its" in line
    assert line.endswith(": use `tokenpulse state check`")


@pytest.mark.parametrize("command", ["report", "state check"])
def test_a_damaged_offset_of_a_version_without_checksums_is_one_line(
    settings: Settings, redis_client: redis.Redis, command: str
) -> None:
    for partition in (0, 1):
        key = Keys(settings.kafka.group, settings.kafka.topic).partition(partition)
        meta = decode_meta(cast(bytes, redis_client.hget(key, "meta")))
        old = msgspec.structs.replace(meta, offset=None, checksums={})
        redis_client.hset(key, mapping={"meta": encode_meta(old), "offset": b"4x"})
    done = run(*command.split(), settings=settings)
    assert done.exit_code in (1, 2), done.output
    assert "offset: is '4x', not a number" in done.output


def test_a_state_of_a_newer_version_is_one_line(
    settings: Settings, redis_client: redis.Redis
) -> None:
    key = Keys(settings.kafka.group, settings.kafka.topic).partition(1)
    meta = decode_meta(cast(bytes, redis_client.hget(key, "meta")))
    newer = msgspec.structs.replace(meta, schema=meta.schema + 1)
    redis_client.hset(key, "meta", encode_meta(newer))
    for command in (("state", "check"), ("report",)):
        done = run(*command, settings=settings)
        assert done.exit_code == 2, done.output
        [line] = done.output.splitlines()
        assert line.endswith("upgrade the program")


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
