"""The status of partitions, and operator commands: sent only if valid, and acknowledged."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis
from click.testing import Result

from streams.config.settings import Settings
from streams.errors import RequestError
from streams.query.instants import rfc3339_ms
from streams.query.partitions import (
    Partitions,
    new_command,
)
from streams.state.snapshot import slice_field
from streams.store.contract import Answer, OperatorCommand
from streams.store.heartbeat import HaltReason
from streams.store.keys import Keys
from streams.store.redis import RedisStore
from streams.store.servers.client import connect
from tests.support.command import assert_one_line, run
from tests.support.exporter_state import StateWriter, event, settings_for
from tests.support.servers import RedisServer, wait_until
from tokenpulse.cli.operator import partitions as cli_partitions

BEGIN_S = 1_700_000_000  # 2023-11-14 22:13:20 UTC


Apply = Callable[[OperatorCommand], dict[str, Any]]


class StandIn:
    """A worker that only sends heartbeats, and applies and acknowledges commands."""

    def __init__(
        self, settings: Settings, partition: int, fields: dict[str, Any], apply: Apply
    ) -> None:
        self._settings, self._partition = settings, partition
        self._fields, self._apply = fields, apply
        self._ended = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self.applied: list[OperatorCommand] = []

    async def _run(self) -> None:
        client = connect(self._settings.redis.url, 5)
        kafka = self._settings.kafka
        store = RedisStore(client, kafka.group, kafka.topic)
        while not self._ended.is_set():
            at_ms = now_ms()
            values: dict[Any, Any] = {**self._fields, "at_ms": at_ms, "broker_at_ms": at_ms}
            order = await store.send_heartbeat(self._partition, values)
            if order is not None and self._fields["order"] != order.id:
                self.applied.append(order)
                self._fields |= {"order": order.id} | self._apply(order)
            await asyncio.sleep(0.02)
        await client.aclose()

    def __enter__(self) -> "StandIn":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


def now_ms() -> int:
    return time.time_ns() // 1_000_000


RESUMED = {"halted": "", "halted_detail": ""}


@pytest.fixture
def settings(redis_server: RedisServer, redis_client: redis.Redis) -> Settings:
    """Two partitions: 0 is counted, 1 is halted at its offset, 2, and goes up to 9."""
    found = settings_for(redis_server.url)

    async def write() -> None:
        writer = StateWriter(found)
        await writer.write(0, [event(BEGIN_S), event(BEGIN_S + 1.5)], duplicates=1)
        await writer.write(1, [event(BEGIN_S), b"{"])
        (await writer.owned(1))[1].lose(4)
        await writer.write(1, [b"{"])
        await writer.send_heartbeat(0, now_ms() / 1_000)
        await writer.close()

    asyncio.run(write())
    return found


@contextmanager
def halted(
    settings: Settings,
    client: redis.Redis,
    why: HaltReason = HaltReason.UNREADABLE,
    apply: Apply | None = None,
) -> Iterator[StandIn]:
    """Run a worker that has halted partition 1 at offset 5, until the store shows the halt."""
    fields = {
        "worker": "host:7",
        "highwater": 9,
        "halted": why,
        "halted_at": 5,
        "halted_detail": "wrong checksum",
        "order": "",
    }
    with StandIn(settings, 1, fields, apply or (lambda order: RESUMED)) as worker:
        kafka = settings.kafka
        key = f"tp:{{{kafka.group}:{kafka.topic}:1}}:pulse"
        wait_until(lambda: client.hget(key, "halted") == why.encode(), "the halt is seen")
        yield worker


def pulse_key(settings: Settings) -> str:
    return Keys(settings.kafka.group, settings.kafka.topic).heartbeat(1)


def no_command(settings: Settings, client: redis.Redis) -> bool:
    return not client.exists(Keys(settings.kafka.group, settings.kafka.topic).command(1))


def cells(done: Result) -> list[list[str]]:
    return [[cell for cell in line.split("  ") if cell] for line in done.stdout.splitlines()]


def test_the_list_shows_the_status_of_every_partition(
    settings: Settings, redis_client: redis.Redis
) -> None:
    with halted(settings, redis_client):
        table = run("partitions", "list", settings=settings)
        told = json.loads(run("partitions", "list", "--json", settings=settings).stdout)
    head, first, second, *details = cells(table)
    assert [one.strip() for one in head] == [
        *("PARTITION", "OFFSET", "LAG", "WATERMARK", "WORKER"),
        *("HEARTBEAT", "LOST", "DUPLICATES", "HALTED"),
    ]
    shown = [one.strip() for one in first]
    del shown[5]
    assert shown == ["0", "2", "7", "2023-11-14T22:13:21.500Z", "host:0", "0", "1", "-"]
    shown = [one.strip() for one in second]
    assert shown[5].endswith(" s ago")
    del shown[5]
    assert shown == ["1", "5", "4", "2023-11-14T22:13:20.000Z", "host:7", "2", "0", "unreadable@5"]
    assert details == [["partition 1: wrong checksum"]]
    assert [one["partition"] for one in told] == [0, 1]
    assert told[1].pop("pulse_age_s") < 15
    assert told[1] == {
        "partition": 1,
        "offset": 5,
        "lag": 4,
        "watermark_ms": BEGIN_S * 1_000,
        "settled_ms": BEGIN_S * 1_000,
        "worker": "host:7",
        "halted": "unreadable",
        "halted_at": 5,
        "halted_detail": "wrong checksum",
        "log_end": 9,
        "lost_records": 2,
        "duplicates": 0,
        "set_back": None,
    }
    assert (told[0]["halted"], told[0]["halted_at"]) == (None, None)


def test_a_partition_without_any_state_is_listed(
    redis_server: RedisServer, redis_client: redis.Redis
) -> None:
    settings = settings_for(redis_server.url)

    async def claim() -> None:
        writer = StateWriter(settings)
        await writer.owned(6)
        await writer.close()

    asyncio.run(claim())
    _, only = cells(run("partitions", "list", settings=settings))
    assert [one.strip() for one in only] == ["6", "-", "-", "-", "-", "-", "0", "0", "-"]


def test_resume_reaches_the_worker_with_author_and_reason(
    settings: Settings, redis_client: redis.Redis
) -> None:
    with halted(settings, redis_client, HaltReason.DEAD_LETTERS) as worker:
        done = run("partitions", "resume", 1, "--reason", "fixed upstream", settings=settings)
    assert done.exit_code == 0, done.output
    assert done.stdout == "partition 1: worker host:7 resumes where it stopped\n"
    [order] = worker.applied
    assert (order.kind, order.to, order.reason) == ("resume", None, "fixed upstream")
    assert "@" in order.by


def test_move_asks_first_and_a_no_sends_no_command(
    settings: Settings, redis_client: redis.Redis
) -> None:
    arguments = ("partitions", "move", 1, "--to", 7, "--reason", "bad batch")
    with halted(settings, redis_client) as worker:
        done = run(*arguments, settings=settings, send_in=b"n\n")
        assert done.exit_code == 1
        assert "halted at offset 5 (unreadable); resume at 7" in done.stdout
        assert no_command(settings, redis_client)
        done = run(*arguments, settings=settings, send_in=b"y\n")
        assert done.exit_code == 0, done.output
        assert done.stdout.endswith("partition 1: worker host:7 resumes at offset 7\n")
    [order] = worker.applied
    assert (order.kind, order.to, order.reason) == ("move", 7, "bad batch")


def run_apart(work: Coroutine[Any, Any, None]) -> None:
    """Run to its end in another thread, as this one has a running event loop."""
    thread = threading.Thread(target=asyncio.run, args=(work,))
    thread.start()
    thread.join()


@pytest.fixture
def poisoned(redis_server: RedisServer, redis_client: redis.Redis) -> Settings:
    """Partition 1 at the present time, its watermark an hour ahead."""
    found = settings_for(redis_server.url)

    async def write() -> None:
        writer = StateWriter(found)
        now_s = time.time() // 60 * 60
        await writer.write(1, [event(now_s), event(now_s + 3_600)], now_s + 3_600)
        await writer.close()

    asyncio.run(write())
    return found


@pytest.mark.parametrize("accepted", [True, False])
def test_a_watermark_set_back_is_reported_in_one_line_and_listed(
    poisoned: Settings, redis_client: redis.Redis, accepted: bool
) -> None:
    def apply(order: OperatorCommand) -> dict[str, Any]:
        async def write() -> None:
            writer = StateWriter(poisoned)
            claim, state = await writer.owned(1)
            to_ms = order.to or 0
            missing = {slice_field(of): of for of in state.missing_to_set_back(to_ms)}
            loaded = await writer._store.load(claim, list(missing))
            state.provide({missing[name]: data for name, data in loaded.items()})
            state.set_back(order.id, to_ms, order.at_ms, 0)
            assert await writer._store.flush(claim, state.snapshot(now_ms())) is Answer.OK
            await writer.close()

        if accepted:
            run_apart(write())
        return {}

    to_s = int(time.time() // 60 * 60) + 5
    fields = {"worker": "host:7", "highwater": 2, "order": "", "halted": ""}
    with StandIn(poisoned, 1, fields, apply):
        wait_until(
            lambda: redis_client.hget(pulse_key(poisoned), "worker") == b"host:7", "it is seen"
        )
        done = run(
            *("partitions", "set-watermark", 1, "--to", to_s, "--reason", "wrong clocks"),
            settings=poisoned,
        )
        table = run("partitions", "list", settings=poisoned).stdout
    if not accepted:
        assert (done.exit_code, done.stdout) == (1, "")
        assert "worker host:7 rejected the command" in done.stderr
        return
    assert done.exit_code == 0, done.output
    told = "watermark set back from "
    assert done.stdout.startswith("partition 1: worker host:7 set the watermark back from 20")
    assert done.stdout.endswith(f" to {rfc3339_ms(to_s * 1_000)} at offset 2\n")
    assert f"partition 1: {told}" in table


def test_a_partition_that_halts_again_at_once_is_no_success(
    settings: Settings, redis_client: redis.Redis
) -> None:
    def apply(order: OperatorCommand) -> dict[str, Any]:
        return {"halted": "log_truncated", "halted_at": 7, "halted_detail": "ends at 6"}

    with halted(settings, redis_client, apply=apply):
        done = run(
            *("partitions", "move", 1, "--to", 7, "--reason", "x", "--yes"), settings=settings
        )
    assert done.exit_code == 1
    assert done.stdout == ""
    assert "host:7 acknowledged the command" in done.stderr
    assert done.stderr.endswith("halted: log_truncated@7: ends at 6\n")


@pytest.mark.parametrize(
    ("order", "told"),
    [
        (("resume", 0), "partition 0: is not halted"),
        (("resume", 2), "partition 2: unknown; workers have claimed: 0, 1"),
        (("move", 1, "--to", 5), "--to: got 5"),
        (("move", 1, "--to", 10, "--yes"), "--to: got 10, but the log ends at 9"),
        (("set-watermark", 0, "--to", BEGIN_S + 9), "--to: got 2023-11-14T22:13:29.000Z for"),
    ],
)
def test_a_refused_command_is_one_line_and_never_sent(
    settings: Settings, redis_client: redis.Redis, order: tuple[Any, ...], told: str
) -> None:
    with halted(settings, redis_client):
        done = run("partitions", *order, "--reason", "x", settings=settings)
        assert_one_line(done, told)
        assert no_command(settings, redis_client)


def test_a_command_that_no_worker_acknowledges_in_time_fails(
    settings: Settings, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli_partitions, "ACKNOWLEDGED_WITHIN_S", 0.5)
    # It sends heartbeats, but never acknowledges.
    with halted(settings, redis_client, apply=lambda order: {"order": ""}):
        done = run("partitions", "resume", 1, "--reason", "x", settings=settings)
    assert done.exit_code == 1
    assert done.stderr.startswith(
        "tokenpulse: partition 1: no worker acknowledged the command within "
    )
    assert len(done.stderr.splitlines()) == 1


def test_without_redis_every_command_is_one_line(unused_port: int) -> None:
    settings = settings_for(f"redis://:hunter2@127.0.0.1:{unused_port}/0")
    for command in (("list",), ("resume", 1, "--reason", "x")):
        done = run("partitions", *command, settings=settings)
        assert_one_line(done, "cannot read the state", "set redis.url")
        assert "hunter2" not in done.output


def test_a_worker_without_a_recent_heartbeat_gets_no_command(
    settings: Settings, redis_client: redis.Redis
) -> None:
    with halted(settings, redis_client):
        pass  # and has gone

    async def send() -> None:
        client = connect(settings.redis.url, 5)
        partitions = Partitions(client, settings.kafka.group, settings.kafka.topic, -1.0)
        try:
            await partitions.send(1, new_command("resume", None, "x"), 5)
        finally:
            await client.aclose()

    with pytest.raises(RequestError, match="no worker is there to execute"):
        asyncio.run(send())
    assert no_command(settings, redis_client)
