"""A cluster of three primaries: slots move and primaries are lost while workers write, and no event
is lost or counted twice."""

import asyncio
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast
from urllib.parse import quote

import pytest
import redis

from streams.config.settings import Redis, Settings
from streams.errors import RequestError, Unavailable
from streams.store.contract import Answer, OperatorCommand, StoreError
from streams.store.keys import Keys
from streams.store.redis import enqueue_command
from streams.store.servers.check import check_redis
from streams.store.servers.cluster import ClusterClient
from tests.support.certificates import Authority
from tests.support.command import run
from tests.support.counting import GROUP, KEY, PARTITION, TOPIC, Counting, agreed_offset
from tests.support.exporter_process import ExporterProcess
from tests.support.guarded_redis import as_user, password
from tests.support.recounted import TARGETS, assert_recounted, logs_of
from tests.support.redis_kinds import (
    Cluster,
    ClusterProcess,
    GuardedNode,
    begin_move,
    flush_until_confirmed,
    move_keys,
    move_slot,
)
from tests.support.redis_servers import opened, working
from tests.support.servers import Broker, RedisServer, wait_until
from tests.support.worker_process import (
    State,
    WorkerProcess,
    report,
    send,
    worker_settings,
)
from tests.support.worker_stories import events

pytestmark = pytest.mark.stack
ORDER = OperatorCommand("1", "resume", None, "because", "ann@host")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("cluster"), replicas=True) as found:
        yield found


def content(cluster: Cluster) -> dict[bytes, bytes]:
    """The partition's hash, wherever it is."""
    with cluster.client() as client:
        return cast(dict[bytes, bytes], client.hgetall(KEY))


def next_to(node: ClusterProcess, cluster: Cluster) -> ClusterProcess:
    """Another primary."""
    return cluster.primaries[(cluster.primaries.index(node) + 1) % len(cluster.primaries)]


def test_a_slot_that_moves_between_checkpoints_takes_the_state_along(cluster: Cluster) -> None:
    async def story() -> None:
        async with working(cluster.url) as worker, opened(cluster.url) as store:
            assert await worker.count(10) is Answer.OK
            client = store._redis
            await enqueue_command(client, GROUP, TOPIC, PARTITION, ORDER)
            source = cluster.primary_of(KEY)
            target = next_to(source, cluster)
            await asyncio.to_thread(begin_move, KEY, source, target)
            # The keys are at the source; a key that does not exist is asked for at the target.
            await flush_until_confirmed(worker, 10)
            assert await worker.store.send_heartbeat(PARTITION, {"at_ms": 1}) == ORDER
            await asyncio.to_thread(move_keys, KEY, source, target)
            # All are at the target, which the source still has to be asked for.
            await flush_until_confirmed(worker, 10)
            assert await worker.store.send_heartbeat(PARTITION, {"at_ms": 2}) == ORDER
            await asyncio.to_thread(move_slot, KEY, source, target)
            await flush_until_confirmed(worker, 10)
            assert await worker.store.send_heartbeat(PARTITION, {"at_ms": 3}) == ORDER
            await enqueue_command(client, GROUP, TOPIC, PARTITION, ORDER)
            assert agreed_offset(content(cluster)) == worker.offset == 40

    with cluster.client() as client:
        client.flushall()
    asyncio.run(story())


def test_slots_move_while_flushes_are_on_their_way(cluster: Cluster) -> None:
    async def story() -> None:
        async with working(cluster.url) as worker:

            async def count() -> None:
                while not moved.done():
                    await flush_until_confirmed(worker, 3)

            def move_around() -> None:
                for _ in range(6):
                    source = cluster.primary_of(KEY)
                    move_slot(KEY, source, next_to(source, cluster))

            moved = asyncio.create_task(asyncio.to_thread(move_around))
            await count()
            await moved
            await flush_until_confirmed(worker, 3)
            assert agreed_offset(content(cluster)) == worker.offset > 30

    with cluster.client() as client:
        client.flushall()
    asyncio.run(story())


@contextmanager
def new_node(directory: Path, met: ClusterProcess) -> Iterator[ClusterProcess]:
    """Yield a node that has joined the cluster of another one, without slots."""
    # A node that loses its last slot would become a replica of the one that gets it.
    stays = {"cluster-allow-replica-migration": "no"}
    with ClusterProcess(directory, **stays) as new:
        new.ask("CLUSTER", "MEET", "127.0.0.1", met.port, met.bus_port)
        wait_until(lambda: met.node_id.encode() in new.ask("CLUSTER", "NODES"), "it has met one")
        wait_until(lambda: new.node_id.encode() in met.ask("CLUSTER", "NODES"), "one has met it")
        wait_until(lambda: b"cluster_state:ok" in new.ask("CLUSTER", "INFO"), "it serves keys")
        yield new


def test_the_first_slot_of_a_new_node_is_written_while_it_moves(tmp_path: Path) -> None:
    async def story() -> None:
        async with working(cluster.url) as worker:
            assert await worker.count(10) is Answer.OK
            assert new.holds(KEY)

    with Cluster(tmp_path) as cluster:
        source = cluster.primary_for(KEY)
        with new_node(tmp_path / "new", source) as new:
            begin_move(KEY, source, new)
            # The key does not exist, so each command on it is for the new node.
            asyncio.run(story())


def test_no_connection_to_a_node_without_slots_is_kept(cluster: Cluster, tmp_path: Path) -> None:
    def connections() -> int:
        return int(new.ask("CLIENT", "LIST", "TYPE", "normal").count(b"\n")) - 1  # that of `ask`

    async def story() -> None:
        async with opened(cluster.url) as store:
            worker = Counting(store)
            await worker.begin()
            await asyncio.to_thread(move_slot, KEY, source, new)
            await flush_until_confirmed(worker, 10)
            await asyncio.to_thread(move_slot, KEY, new, source)
            await flush_until_confirmed(worker, 10)
            assert connections() > 0
            client: object = store._redis
            assert isinstance(client, ClusterClient)
            # As after a lost connection.
            await client.follow(redis.ConnectionError())
            await asyncio.to_thread(wait_until, lambda: connections() == 0, "they are closed")

    with cluster.client() as client:
        client.flushall()
    source = cluster.primary_for(KEY)
    with new_node(tmp_path / "new", source) as new:
        asyncio.run(story())
        for node in (*cluster.primaries, *cluster.replicas):
            node.ask("CLUSTER", "FORGET", new.node_id)


def test_a_lost_primary_does_not_delay_the_first_writes_at_others(tmp_path: Path) -> None:
    async def story() -> float:
        began_s = time.monotonic()
        # Longer than a write may take.
        async with working(f"redis+cluster://127.0.0.1:{own.port}", timeout_s=30) as worker:
            assert await worker.count(10) is Answer.OK
        return time.monotonic() - began_s

    with Cluster(tmp_path) as cluster:
        own = cluster.primary_for(KEY)
        # The partition's key and those of its topic need not be at the same node.
        shared = cluster.primary_for(Keys(GROUP, TOPIC).partitions)
        lost = next(node for node in cluster.primaries if node not in (own, shared))
        for node in cluster.primaries:
            node.ask("CONFIG", "SET", "cluster-require-full-coverage", "no")
        lost.signal(signal.SIGSTOP)
        try:
            assert asyncio.run(story()) < 5
        finally:
            lost.signal(signal.SIGCONT)


def lose_primary(cluster: Cluster, lost: ClusterProcess, replica: ClusterProcess) -> None:
    """Kill a primary whose replica has missed its latest writes; return when that one leads."""
    lost.kill()
    replica.signal(signal.SIGCONT)
    wait_until(lambda: b"master" in replica.ask("ROLE")[0], "the replica leads")


def test_a_primary_that_is_lost_under_a_worker_with_its_latest_writes(
    broker: Broker, cluster: Cluster, tmp_path: Path
) -> None:
    # Partitions on all three primaries.
    settings = worker_settings(broker, cluster.url, 6, archive_interval_s=1, **TARGETS)
    parts = [events(1_500, seed=seed) for seed in range(3)]
    with (
        cluster.client() as any_kind,
        WorkerProcess(settings, tmp_path / "worker.log") as worker,
    ):
        client = cast(redis.Redis, any_kind)
        state = State(settings, client)
        state.wait_for(send(settings.kafka, parts[0]))
        lost = cluster.primary_of(state.key(0))
        replica = cluster.replicas[cluster.primaries.index(lost)]
        replica.signal(signal.SIGSTOP)
        lost.ask("CLIENT", "KILL", "TYPE", "replica")
        state.wait_for(send(settings.kafka, parts[1]))
        ends = send(settings.kafka, parts[2])
        lose_primary(cluster, lost, replica)
        state.wait_for(ends)
        assert "the store went back to this offset" in worker.log
        total = report(settings)["total"]
        assert (total["requests"], total["duplicates"]) == (4_500, 0)
        assert worker.stop() == 0
        assert_recounted(client, settings, logs_of(broker, settings, sum(ends.values())))
        done = run("partitions", "list", settings=settings)
        assert done.exit_code == 0, done.output
    lost.start()
    wait_until(lambda: lost.ask("ROLE")[0] == b"slave", "it follows the one that took its place")
    at = cluster.primaries.index(lost)
    cluster.primaries[at], cluster.replicas[at] = replica, lost


def test_a_primary_without_a_replica_that_comes_back_empty_is_filled_again(
    broker: Broker, tmp_path: Path
) -> None:
    with Cluster(tmp_path) as cluster, cluster.client() as any_kind:
        client = cast(redis.Redis, any_kind)
        settings = worker_settings(broker, cluster.url, 6, **TARGETS)
        state = State(settings, client)
        with WorkerProcess(settings, tmp_path / "worker.log") as worker:
            state.wait_for(send(settings.kafka, events(500)))
            lost = cluster.primary_of(state.key(0))
            stays = [one for one in range(6) if not lost.holds(state.key(one))]
            lost.kill()
            ends = send(settings.kafka, events(500, seed=2))
            wait_until(lambda: "trying again" in worker.log, "the worker misses it")
            lost.start()
            state.wait_for(ends)
            rebuilt = {
                int(number)
                for number in re.findall(r"partition=(\d+) .*state lost from the store", worker.log)
            }
            assert rebuilt == set(range(6)) - set(stays)
            assert worker.stop() == 0
        assert 0 < len(stays) < 6
        assert_recounted(client, settings, logs_of(broker, settings, sum(ends.values())))


def check(url: str) -> str:
    """What the check says of a Redis, or its error."""
    try:
        facts = asyncio.run(check_redis(Redis(url=url)))
    except Unavailable as error:
        return str(error)
    return "; ".join((facts.describe(), *facts.limitations()))


def test_the_check_names_the_kind_and_what_is_wrong(
    cluster: Cluster, redis_server: RedisServer
) -> None:
    found = check(cluster.url)
    assert found.startswith("a cluster of 3 primaries, without TLS; version 7")
    assert "; 3 replicas; append-only file off; maxmemory off; " in found
    assert "each partition is on one primary" in found
    assert "it is a node of a cluster; write redis+cluster://" in check(cluster.primaries[0].url)
    one_server = check(redis_server.url.replace("redis://", "redis+cluster://"))
    assert "no node is one of a cluster" in one_server
    assert "\n" not in one_server


def test_a_silent_primary_hides_nothing_of_the_others(cluster: Cluster) -> None:
    async def story() -> None:
        async with opened(cluster.url, timeout_s=0.2) as store:
            assert await store.check() is not None
            cluster.primaries[1].ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
            with pytest.raises(StoreError, match="maxmemory-policy is allkeys-lru"):
                await store.check()

    silent = cluster.primaries[0]
    other = ",".join(f"127.0.0.1:{node.port}" for node in cluster.primaries[1:])
    # Shorter than the time after which its replica takes over.
    silent.signal(signal.SIGSTOP)
    try:
        facts = asyncio.run(check_redis(Redis(url=f"redis+cluster://{other}"), timeout_s=0.2))
        asyncio.run(story())
    finally:
        silent.signal(signal.SIGCONT)
        cluster.primaries[1].ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
    assert facts.describe().startswith("a cluster of 3 primaries, ")
    assert len(facts.primaries) == 2
    assert next(facts.limitations()).startswith(f"no answer from 127.0.0.1:{silent.port}: ")


def test_eviction_by_one_primary_is_found_out(cluster: Cluster) -> None:
    async def story() -> None:
        async with opened(cluster.url) as store:
            await store.check()
            cluster.primaries[2].ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
            with pytest.raises(StoreError, match="maxmemory-policy is allkeys-lru"):
                await store.check()

    try:
        asyncio.run(story())
        assert "maxmemory-policy is allkeys-lru" in check(cluster.url)
    finally:
        cluster.primaries[2].ask("CONFIG", "SET", "maxmemory-policy", "noeviction")


def requests(settings: Settings) -> int:
    """The requests of the report; 0 if no worker has claimed a partition yet."""
    try:
        return int(report(settings)["total"].get("requests") or 0)
    except RequestError:
        return 0


def test_with_tls_and_the_least_rights_worker_exporter_and_commands_do_their_work(
    broker: Broker, tmp_path: Path
) -> None:
    authority = Authority(tmp_path / "ca")
    with Cluster(tmp_path, make=lambda directory: GuardedNode(directory, authority)) as cluster:
        base = worker_settings(broker, cluster.url, 3, archive_interval_s=1)

        def settings_of(user: str) -> Settings:
            file = tmp_path / f"{user}.password"
            file.write_text(password(user))
            login = {"username": user, "password_file": file, "ssl_ca_file": authority.cert}
            url = cluster.url.replace("redis+", "rediss+")
            return as_user(base, Redis.model_validate({"url": url, **login}))

        as_worker, as_exporter = settings_of("worker"), settings_of("exporter")
        with WorkerProcess(as_worker, tmp_path / "worker.log") as worker:
            send(base.kafka, events(500))
            wait_until(lambda: requests(as_exporter) == 500, "all are counted")
            # From now on the worker needs ASKING for the operator command that is not there.
            key = Keys(base.kafka.group, base.kafka.topic).partition(0)
            source = cluster.primary_of(key)
            begin_move(key, source, next_to(source, cluster))
            window = ("--from", "2026-01-31T22:00Z", "--to", "2026-01-31T23:00Z", "--reason", "x")
            for user, *command in (
                ("operator", "maintenance", "add", *window),
                ("exporter", "sla", "--json"),
                ("exporter", "partitions", "list"),
                ("simulator", "scenario", "list"),
                ("worker", "config", "check", "--role", "worker"),
            ):
                done = run(*command, settings=settings_of(user))
                assert done.exit_code == 0, (command, done.output)
            assert "# Redis: a cluster of 3 primaries, with TLS; " in done.stdout
            with ExporterProcess(as_exporter, tmp_path / "exporter.log") as exporter:
                wait_until(
                    lambda: run("health", "exporter", settings=exporter.settings).exit_code == 0,
                    "the exporter shows the state",
                )
            login = f"rediss+cluster://worker:{quote(password('worker'))}@"
            in_url = cluster.url.replace("redis+cluster://", login)
            facts = asyncio.run(check_redis(Redis(url=in_url, ssl_ca_file=authority.cert)))
            assert len(facts.primaries) == 3
            marker = Keys(base.kafka.group, base.kafka.topic).archived_hashes
            wait_until(lambda: any(node.holds(marker) for node in cluster.primaries), "archived")
            assert worker.stop() == 0
        denied = [entry for node in cluster.primaries for entry in node.ask("ACL", "LOG")]
    assert denied == []
