"""The embedded stack: it starts, stays, and is gone without a trace."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from streams.config.settings import Exporter, Kafka, Local, Redis, Settings, Worker, load_settings
from streams.errors import Unavailable
from streams.kafka.topics import check_broker, create_topics
from streams.store.servers.check import check_redis
from tests.support.processes import gone, is_running, started_stack
from tests.support.script_stack import SLEEPS, StackOfScripts
from tests.support.servers import Broker, RedisServer, start_servers, wait_until
from tokenpulse.local import stack as stack_module
from tokenpulse.local.embedded import StackError, environment, free_port, is_free
from tokenpulse.local.stack import LocalStack

NAMES = ("broker", "redis", "worker-1", "exporter", "simulate", "intake")


# --- starting ------------------------------------------------------------------------------------


def test_two_stacks_side_by_side_share_nothing() -> None:
    with StackOfScripts(Settings(), workers=1, exporter=True, simulate=True) as one:
        pids = [one.pid(name) for name in NAMES]
        with StackOfScripts(Settings(), workers=1, exporter=True, simulate=True) as two:
            assert {one.bootstrap, one.redis_url, one.exporter_url}.isdisjoint(
                {two.bootstrap, two.redis_url, two.exporter_url}
            )
            assert one.settings.worker.customer_key != two.settings.worker.customer_key
            assert one.log_dir != two.log_dir
            with redis.Redis.from_url(one.redis_url) as client:
                client.set("mine", 1)
            with redis.Redis.from_url(two.redis_url) as client:
                assert client.get("mine") is None
        assert [one.pid(name) for name in NAMES] == pids
        asyncio.run(check_broker(one.bootstrap))


def test_a_server_that_lost_its_port_to_another_takes_the_next(
    servers: LocalStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The other stack's broker answers at the port we believed to be free, and ours ends with 0.
    offered = iter([int(servers.bootstrap.split(":")[1])])
    looks = iter([True])
    monkeypatch.setattr(stack_module, "free_port", lambda: next(offered, None) or free_port())
    monkeypatch.setattr(
        stack_module,
        "is_free",
        lambda host, port: next(looks, False) or is_free(host, port),
    )
    with start_servers_here() as stack:
        assert stack.bootstrap != servers.bootstrap
        cluster = asyncio.run(check_broker(stack.bootstrap))
        assert cluster != asyncio.run(check_broker(servers.bootstrap))


@contextmanager
def start_servers_here(**settings: Any) -> Iterator[LocalStack]:
    stack = start_servers(**settings)
    try:
        yield stack
    finally:
        stack.stop()


@pytest.mark.parametrize("setting", ["kafka_port", "redis_port"])
def test_a_configured_port_is_used(setting: str) -> None:
    port = free_port()
    with start_servers_here(local=Local(**{setting: port})) as stack:
        assert f":{port}" in stack.bootstrap + " " + stack.redis_url


def test_a_default_port_in_use_is_noted_and_another_one_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        # A port that no source has set, unlike a configured one, which would be an error.
        exporter = Exporter.model_construct(_fields_set=set(), port=port)
        settings = Settings().model_copy(update={"exporter": exporter})
        stack = StackOfScripts(settings, workers=0, exporter=True, simulate=False)
        try:
            stack.start()
            assert stack.occupied_port == port
            assert stack.settings.exporter.port != port
        finally:
            stack.stop()


@pytest.mark.parametrize(
    "setting", ["local.kafka_port", "local.redis_port", "exporter.port", "intake.port"]
)
def test_a_configured_port_in_use_is_one_line_that_names_it(setting: str) -> None:
    section, key = setting.split(".")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = load_settings(overrides={section: {key: port}})
        stack = StackOfScripts(settings, workers=0, exporter=True, simulate=False, intake=True)
        with pytest.raises(StackError) as caught:
            stack.start()
    assert str(caught.value) == (
        f"{setting}: port {port} on 127.0.0.1 is in use: end what listens there, "
        "or set another, 0 for any free one"
    )
    assert gone([pid for name in NAMES if (pid := stack.pid(name)) is not None])()


def test_a_command_that_ends_at_once_says_what_it_said() -> None:
    class Broken(StackOfScripts):
        scripts = {"exporter": "raise SystemExit('exporter.host: got 1; write an address')"}  # noqa: RUF012

    with pytest.raises(StackError, match=r"exporter ended at its start:\n +exporter\.host: got 1"):
        Broken(Settings(), workers=0, exporter=True, simulate=False).start()


def test_children_read_the_settings_that_the_parent_has(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(
        kafka=Kafka(topic="other", session_timeout_s=7.5),
        worker=Worker(customer_key="k" * 20, ttft_targets_s=(0.1, 2.0), duration_targets_s=()),
    )
    monkeypatch.setenv("TOKENPULSE_KAFKA__TOPIC", "of-the-shell")
    monkeypatch.setenv("TOKENPULSE_KAFKA__GROUP", "of-the-shell")
    for name, text in environment(settings).items():
        monkeypatch.setenv(name, text)
    monkeypatch.delenv("TOKENPULSE_KAFKA__GROUP")  # absent from what a child is given
    assert "TOKENPULSE_KAFKA__GROUP" not in environment(settings)
    assert load_settings().model_dump() == settings.model_dump()


def test_no_secret_stands_in_a_command_line() -> None:
    with StackOfScripts(Settings(), workers=1, exporter=False, simulate=False) as stack:
        secret = stack.settings.worker.customer_key
        assert secret is not None
        key = secret.get_secret_value()
        assert len(key) >= 32
        command = stack._command("worker-1", "worker")
        assert key not in " ".join([command.program, *command.arguments])
        assert command.environment["TOKENPULSE_WORKER__CUSTOMER_KEY"] == key


# --- staying -------------------------------------------------------------------------------------


def test_a_worker_that_dies_is_started_again_and_nothing_else_is() -> None:
    lines: list[str] = []
    stack = StackOfScripts(Settings(), workers=2, exporter=False, simulate=False, say=lines.append)
    with stack:
        others = [stack.pid(name) for name in ("broker", "redis", "worker-2")]
        first = stack.pid("worker-1")
        assert first is not None
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: stack.pid("worker-1") not in (None, first), "a new worker")
        assert [stack.pid(name) for name in ("broker", "redis", "worker-2")] == others
        assert len(stack.worker_pids) == 2
        stack.check()
    assert lines == ["worker-1 was ended by SIGKILL; restarting it once"]


@pytest.mark.parametrize("victim", ["broker", "redis"])
def test_a_stack_ends_with_its_broker_or_its_redis(victim: str) -> None:
    lines: list[str] = []
    stack = StackOfScripts(Settings(), workers=1, exporter=True, simulate=True, say=lines.append)
    with stack:
        pids = [stack.pid(name) or 0 for name in NAMES]
        os.kill(stack.pid(victim) or 0, signal.SIGKILL)
        wait_until(gone(pids), "the stack ends")
        with pytest.raises(StackError, match=f"^{victim} was ended by SIGKILL, and the data in"):
            stack.check()
    assert lines == []


def test_a_child_that_dies_twice_ends_the_stack_with_the_end_of_its_log() -> None:
    class Broken(StackOfScripts):
        scripts = {"worker": "raise SystemExit('redis.url: refused')"}  # noqa: RUF012

    lines: list[str] = []
    ended = threading.Event()
    stack = Broken(
        Settings(),
        workers=1,
        exporter=False,
        simulate=False,
        say=lines.append,
        on_failure=ended.set,
    )
    with stack:
        assert ended.wait(60)
        message = r"^worker-1 ended with status 1, a second time:\n +redis\.url: refused"
        with pytest.raises(StackError, match=message):
            stack.check()
    assert lines == ["worker-1 ended with status 1; restarting it once"]


def test_up_ends_with_a_message_if_its_broker_dies(tmp_path: Path) -> None:
    with up(tmp_path) as (process, pids, _):
        os.kill(pids[0], signal.SIGKILL)
        assert process.stdout is not None
        printed = process.stdout.read()
        assert process.wait(timeout=60) == 1
        assert "broker was ended by SIGKILL, and the data in memory with it" in printed
        assert gone(pids)()
    assert list(tmp_path.iterdir()) == []


# --- leaving -------------------------------------------------------------------------------------

UP = """
import sys
import tokenpulse.local.up
from streams.config.settings import load_settings
from tests.support.script_stack import StackOfScripts
class Loud(StackOfScripts):
    stop_grace_s = {grace_s}
    scripts = StackOfScripts.scripts | {{"worker": {worker!r}}}
    def start(self):
        super().start()
        print("pids", *(self.pid(name) for name in {names!r}), flush=True)
tokenpulse.local.up.LocalStack = Loud
sys.exit(tokenpulse.local.up.run_up(load_settings()))
"""


@contextmanager
def up(
    temporary: Path, worker: str = SLEEPS, grace_s: float = 10
) -> Iterator[tuple["subprocess.Popen[str]", list[int], str]]:
    """`run_up` in a process of its own: the process, its children's ids, what it printed."""
    code = UP.format(names=NAMES, worker=worker, grace_s=grace_s)
    with started_stack(["-c", code], temporary) as (process, printed):
        first = next(line for line in printed.splitlines() if line.startswith("pids"))
        yield process, [int(pid) for pid in first.split()[1:]], printed


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_everything_and_leaves_nothing(tmp_path: Path, number: int) -> None:
    with up(tmp_path) as (process, pids, printed):
        assert all(map(is_running, pids))
        assert list(tmp_path.iterdir())
        for wanted in (
            "/metrics",
            "  intake   http://127.0.0.1:",
            "Kafka    127.0.0.1:",
            "redis://127.0.0.1:",
            "Ctrl-C stops it",
        ):
            assert wanted in printed
        process.send_signal(number)
        assert process.wait(timeout=60) == 0
        assert gone(pids)()
        assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
def test_no_child_outlives_a_parent_that_is_killed(tmp_path: Path) -> None:
    with up(tmp_path) as (process, pids, _):
        process.kill()
        wait_until(gone(pids), "the children of a killed parent end")
        assert len(list(tmp_path.iterdir())) == 1  # nobody was left to remove it
    with up(tmp_path) as (process, _, _):
        assert len(list(tmp_path.iterdir())) == 1  # the next start did
        process.terminate()
        assert process.wait(timeout=60) == 0
    assert list(tmp_path.iterdir()) == []


def test_a_second_ctrl_c_does_not_wait_for_a_child_that_will_not_leave(tmp_path: Path) -> None:
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + SLEEPS
    with up(tmp_path, worker=stubborn, grace_s=1e6) as (process, pids, _):
        process.send_signal(signal.SIGINT)
        wait_until(gone(pids[3:]), "those that leave when asked")
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0
        assert gone(pids)()
        assert list(tmp_path.iterdir()) == []


def test_stopping_twice_or_before_the_start_is_harmless() -> None:
    stack = LocalStack(Settings(), workers=0, exporter=False, simulate=False)
    stack.stop()
    stack.start()
    stack.stop()
    stack.stop()


# --- topics and checks ---------------------------------------------------------------------------


def test_topics_are_made_with_the_partitions_asked_for_and_then_left_alone(broker: Broker) -> None:
    kafka = broker.new_kafka(partitions=6)
    names = {"topic": "six", "dlq_topic": "six.dlq", "archive_topic": "six.state"}
    asked = Settings(kafka=kafka.model_copy(update=names))
    first = asyncio.run(create_topics(asked))
    assert [(t.name, t.partitions, t.created) for t in first] == [
        ("six", 6, True),
        ("six.dlq", 1, True),
        ("six.state", 6, True),
    ]
    other = Settings(kafka=asked.kafka.model_copy(update={"partitions": 9}))
    again = asyncio.run(create_topics(other))
    assert [(t.name, t.partitions, t.created) for t in again] == [
        ("six", 6, False),
        ("six.dlq", 1, False),
        ("six.state", 6, False),
    ]
    assert str(again[0]) == (
        "six: already there with 6 partitions, left alone; kafka.partitions asks for 9: set it to "
        "6, or make the topic again"
    )


def test_refused_records_cannot_go_back_into_the_topic_they_came_from(broker: Broker) -> None:
    same = Kafka(bootstrap=broker.bootstrap, topic="same", dlq_topic="same")
    with pytest.raises(Unavailable, match=r"^kafka\.dlq_topic: got 'same', which is kafka\.topic"):
        asyncio.run(create_topics(Settings(kafka=same)))


def test_no_broker_is_one_line(unused_port: int) -> None:
    kafka = Kafka(bootstrap=f"127.0.0.1:{unused_port}")
    expected = f"no Kafka broker answers at {kafka.bootstrap}: start it, or set kafka.bootstrap"
    for question in (check_broker(kafka.bootstrap), create_topics(Settings(kafka=kafka))):
        with pytest.raises(Unavailable) as caught:
            asyncio.run(question)
        assert str(caught.value) == expected


def test_something_that_is_no_broker_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(Unavailable, match=f"^no Kafka broker answers at {address}"):
            asyncio.run(check_broker(address, timeout_s=0.3))


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
def test_a_redis_that_would_evict_state_is_refused_with_the_cure(
    redis_server: RedisServer, redis_client: redis.Redis, policy: str
) -> None:
    asyncio.run(check_redis(Redis(url=redis_server.url)))
    redis_client.config_set("maxmemory-policy", policy)
    try:
        with pytest.raises(Unavailable) as caught:
            asyncio.run(check_redis(Redis(url=redis_server.url)))
    finally:
        redis_client.config_set("maxmemory-policy", "noeviction")
    assert str(caught.value).endswith(
        f"maxmemory-policy is {policy}, which throws state away; run "
        "`CONFIG SET maxmemory-policy noeviction`"
    )


def test_a_redis_that_accepts_and_never_answers_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(Unavailable, match=f"^no Redis answers at {address}") as caught:
            asyncio.run(check_redis(Redis(url=f"redis://{address}/0"), timeout_s=0.1))
        assert "\n" not in str(caught.value)


def test_no_redis_is_one_line_without_the_password(unused_port: int) -> None:
    url = f"redis://user:hunter2@127.0.0.1:{unused_port}/0"
    with pytest.raises(
        Unavailable, match=f"^no Redis answers at 127.0.0.1:{unused_port}: start"
    ) as (caught):
        asyncio.run(check_redis(Redis(url=url)))
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_redis_that_wants_another_password_says_so(redis_server: RedisServer) -> None:
    url = redis_server.url.replace("redis://", "redis://someone:else@")
    with pytest.raises(Unavailable, match="refuses the login"):
        asyncio.run(check_redis(Redis(url=url)))
