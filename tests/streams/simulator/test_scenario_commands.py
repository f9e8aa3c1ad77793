"""The scenario commands and their list in Redis, with simulators that run."""

import asyncio
import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis

from streams.config.settings import Redis, Settings
from streams.simulator import runner
from streams.simulator.scenario_store import GRACE_MS, ScenarioStore, SimulatorStatus
from streams.simulator.scenarios import KINDS
from streams.store.servers.client import connected
from tests.support.command import assert_one_line, run
from tests.support.paths import ROOT
from tests.support.running_stacks import stack_directory
from tests.support.scenario_traffic import order
from tests.support.servers import Broker, RedisServer, wait_until
from tokenpulse.cli import scenario as cli_scenario
from tokenpulse.local.discovery import RunningStack, running_stacks
from tokenpulse.local.embedded import environment

# --- the list in Redis


@pytest.fixture
def shared(redis_server: RedisServer, redis_client: redis.Redis) -> Settings:
    return Settings(redis=Redis(url=redis_server.url))


def in_store(shared: Settings, call: Any) -> Any:
    async def ask() -> Any:
        client = connected(shared.redis)
        try:
            return await call(ScenarioStore(client, shared))
        finally:
            await client.aclose()

    return asyncio.run(ask())


def test_what_is_over_leaves_the_list_with_the_next_order_and_the_list_goes_by_itself(
    shared: Settings, redis_client: redis.Redis
) -> None:
    async def thrice(store: ScenarioStore) -> Any:
        now_ms = (await store.read()).now_ms
        given = [
            order("latency", now_ms - 20_000, "10s"),
            order("outage", now_ms - GRACE_MS - 20_000, "10s"),
            order("late", now_ms - 30_000, "10s"),
        ]
        for one in given:
            await store.add(one, await store.read())
        return [one.id for one in (await store.read()).requests], given

    ids, (latency, _, late) = in_store(shared, thrice)
    assert sorted(ids) == sorted([latency.id, late.id])
    [key] = redis_client.keys("*:scenarios")
    assert key == b"tp:{tokenpulse:inference.requests}:scenarios"
    assert 40_000 < redis_client.pttl(key) <= GRACE_MS


def test_an_order_that_nobody_can_read_hides_no_other(
    shared: Settings, redis_client: redis.Redis
) -> None:
    for name in ("scenarios", "simulators"):
        redis_client.hset(f"tp:{{tokenpulse:inference.requests}}:{name}", "odd", "{}")

    async def give(store: ScenarioStore) -> Any:
        await store.add(order("outage", (await store.read()).now_ms), await store.read())
        return await store.read()

    reading = in_store(shared, give)
    assert len(reading.requests) == 1
    assert reading.simulators == ()
    assert reading.unreadable == ("odd: not a request of this version; stop it",)


# --- the commands


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_command_with_its_parameters(kind: str) -> None:
    done = run("scenario", kind, "--help")
    assert done.exit_code == 0
    common = {"kind", "start", "duration", "where"}
    names = [name.replace("_", "-") for name in KINDS[kind].model_fields if name not in common]
    for option in (*names, "for", "in", "region", "model", "channel", "tier", "customer"):
        assert f"--{option} " in done.stdout
    assert run("scenario", kind.replace("_", "-"), "--help").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ("outage --region eu-wst --for 5m", "--region: got 'eu-wst', which this traffic does not"),
        ("outage --tier gold --for 5m", "--tier: got 'gold', which this traffic does not have; "),
        (
            "outage --for soon",
            "--for: got 'soon'; write a number with a unit, e.g. 90s",
        ),
        ("outage --for 0s", "--for: got '0s'; "),
        ("outage --for 5m --in never", "--in: got 'never'; write a number with a unit"),
        ("outage --for 5m --error-share 2", "--error-share: got 2.0; "),
        ("latency --for 5m --ttft-factor 0", "--ttft-factor: got 0.0; "),
        ("flood --for 5m", "flood: a flood comes from one customer; add --customer acct-0001"),
        ("late --for 5m --min-delay 20m", "late: min_delay is above max_delay; swap them"),
    ],
)
def test_a_mistake_is_one_line_before_anything_is_asked_of_redis(
    arguments: str, found: str, unused_port: int
) -> None:
    nobody = Settings(redis=Redis(url=f"redis://127.0.0.1:{unused_port}/0"))
    assert_one_line(run("scenario", *arguments.split(), settings=nobody), f"tokenpulse: {found}")


def test_no_redis_is_one_line_without_the_password(unused_port: int) -> None:
    url = f"redis://:hunter2@127.0.0.1:{unused_port}/0"
    done = run("scenario", "list", "--url", url)
    assert_one_line(done, f"Redis at 127.0.0.1:{unused_port} does not answer")
    assert "hunter2" not in done.output


def test_an_order_that_no_simulator_takes_is_withdrawn(
    shared: Settings, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli_scenario, "ACKNOWLEDGED_WITHIN_S", 0.3)
    done = run("scenario", "outage", "--for", "5m", settings=shared)
    assert done.exit_code == 1
    assert "no simulator acknowledged it within 0 s; it is removed" in done.stderr
    assert redis_client.hlen("tp:{tokenpulse:inference.requests}:scenarios") == 0
    listed = run("scenario", "list", settings=shared)
    assert (listed.stdout, listed.stderr) == ("no scenario is active\n", "no simulator runs\n")


def test_what_to_stop_is_said_when_it_is_not_clear(shared: Settings) -> None:
    async def two(store: ScenarioStore) -> Any:
        now = await store.read()
        orders = [order(kind, now.now_ms) for kind in ("late", "outage")]
        for one in orders:
            await store.add(one, now)
        return [one.id for one in orders]

    assert_one_line(run("scenario", "stop", settings=shared), "active are: none")
    late, outage = in_store(shared, two)
    for arguments in ([], ["outage-000000"]):
        done = run("scenario", "stop", *arguments, settings=shared)
        assert_one_line(done, f"active are: {late}, {outage}")
    assert run("scenario", "stop", late, "--all", settings=shared).exit_code == 2
    assert run("scenario", "stop", late, settings=shared).stdout == f"{late}: stopped\n"
    assert run("scenario", "stop", settings=shared).stdout == f"{outage}: stopped\n"


# --- which stack is meant


def stack(board: int, started_at_ms: int) -> RunningStack:
    settings = {
        "redis": {"url": f"redis://127.0.0.1:{board + 1}/0"},
        "kafka": {"group": "g", "topic": "t"},
    }
    return RunningStack(os.getpid(), started_at_ms, f"http://127.0.0.1:{board}/", settings)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_the_newest_stack_that_lives_is_meant_and_the_others_are_named(
    temporary: Path, unused_port: int
) -> None:
    done = run("scenario", "list")
    assert_one_line(done, "no `tokenpulse up` of this user runs on this machine", "--url")
    with (
        stack_directory(temporary, stack(1_000, 5), alive=True),
        stack_directory(temporary, stack(unused_port - 1, 7), alive=True) as newest,
        stack_directory(temporary, stack(3_000, 9), alive=False),
    ):
        assert [stack.started_at_ms for stack in running_stacks()] == [7, 5]
        assert (newest / "up.json").stat().st_mode & 0o777 == 0o600
        done = run("scenario", "list")
        told, failure = done.stderr.splitlines()
        assert told == (
            f"2 stacks run; this goes to the newest, whose board is "
            f"http://127.0.0.1:{unused_port - 1}/; for another give --url "
            "redis://127.0.0.1:1001/0 (board http://127.0.0.1:1000/)"
        )
        assert failure.startswith(f"tokenpulse: Redis at 127.0.0.1:{unused_port} does not answer")
        for change in (("outage", "--for", "5m"), ("stop", "--all")):
            refused = run("scenario", *change)
            assert_one_line(refused, "2 stacks run; give --url ", "--url redis://127.0.0.1:1001/0")
        chosen = run("scenario", "list", "--url", "redis://127.0.0.1:1001/0")
        assert_one_line(chosen, "Redis at 127.0.0.1:1001 does not answer")


def test_a_state_file_of_another_version_is_no_stack(temporary: Path) -> None:
    with stack_directory(temporary, stack(1_000, 5), alive=True) as directory:
        (directory / "up.json").write_text('{"pid": 1}')
        assert running_stacks() == []


# --- a simulator by itself, with and without Redis


@contextmanager
def simulator(settings: Settings, *options: str) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tokenpulse.cli.main", "simulate", *options],
        env=environment(settings),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_simulator_that_shares_the_redis_obeys(broker: Broker, shared: Settings) -> None:
    shared = shared.model_copy(update={"kafka": broker.new_kafka()})

    def spoken() -> tuple[SimulatorStatus, ...]:
        found: tuple[SimulatorStatus, ...] = in_store(shared, ScenarioStore.read).simulators
        return found

    with simulator(shared, "--seed", "4", "--rate", "80") as process:
        wait_until(lambda: bool(spoken()), "the simulator speaks")
        done = run("scenario", "outage", "--region", "eu-west-1", "--for", "5m", settings=shared)
        assert done.exit_code == 0, done.output
        first, *rest = done.stdout.splitlines()
        id_ = first.partition(":")[0]
        assert first.startswith(f"{id_}: outage of region eu-west-1, error_share 1, until 20")
        assert rest == [f"  end it    tokenpulse scenario stop {id_}"]
        assert first.endswith(" (ends in 5 min)")
        [listed] = run("scenario", "list", settings=shared).stdout.splitlines()
        assert listed.startswith(f"{id_}: ")
        assert " (ends in " in listed
        taken_ms = spoken()[0].sent_to_ms
        wait_until(lambda: spoken()[0].sent_to_ms > taken_ms + 4_000, "some seconds of it")
        assert run("scenario", "stop", settings=shared).stdout == f"{id_}: stopped\n"
        stopped_ms = spoken()[0].sent_to_ms
        wait_until(lambda: spoken()[0].sent_to_ms > stopped_ms + 3_000, "some seconds after it")
        process.terminate()
        out, told = process.communicate(timeout=30)
    assert told.splitlines() == [
        told.splitlines()[0],
        f"tokenpulse: scenario {id_} was stopped",
    ]
    [log] = broker.read(shared.kafka.topic, int(out.split()[0])).values()
    events = [msgspec.json.decode(one.value) for one in log]
    inside = [
        event["outcome"] == "server_error"
        for event in events
        if event["region"] == "eu-west-1" and taken_ms <= event["ended_at"] < taken_ms + 4_000
    ]
    assert all(inside)
    assert len(inside) > 10
    others = [
        event
        for event in events
        if event["outcome"] == "server_error"
        and (event["region"] != "eu-west-1" or event["ended_at"] >= stopped_ms)
    ]
    assert len(others) < 10  # as on any calm day


def test_without_redis_the_traffic_goes_on_and_says_so_once(
    broker: Broker, unused_port: int
) -> None:
    nobody = Settings(
        kafka=broker.new_kafka(), redis=Redis(url=f"redis://127.0.0.1:{unused_port}/0")
    )
    with simulator(nobody, "--for", "4s", "--rate", "40") as process:
        out, told = process.communicate(timeout=60)
    assert process.returncode == 0
    assert int(out.split()[0]) > 60
    [line] = told.splitlines()
    assert line.startswith(f"tokenpulse: Redis at 127.0.0.1:{unused_port} does not answer: ")
    assert line.endswith("; traffic continues, but no scenario can be requested until it does")


def test_the_past_is_sent_once_and_goes_over_into_the_present(
    broker: Broker, shared: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "READ_INTERVAL_S", 60)  # so its end alone stores where it was
    shared = shared.model_copy(update={"kafka": broker.new_kafka()})
    sent = 0
    for _ in range(2):  # as when the first one died and is started again
        done = run("simulate", "--past", "10m", "--rate", 5, "--for", "2s", settings=shared)
        assert done.exit_code == 0, done.output
        sent += int(done.stdout.split()[0])
    [log] = broker.read(shared.kafka.topic, sent).values()
    events = [json.loads(one.value) for one in log]
    ids = [event["request_id"] for event in events]
    assert len(ids) == len(set(ids))
    ended = sorted(event["ended_at"] for event in events)
    assert ended[-1] - ended[0] > 590_000
    assert ended[-1] <= log[-1].timestamp
    gaps_ms = [later - before for before, later in itertools.pairwise(ended)]
    assert max(gaps_ms) < 6_000  # probes alone come every 1.25 s
