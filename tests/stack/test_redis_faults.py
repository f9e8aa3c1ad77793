"""Redis in trouble: what is stored is always a recount up to its offset.

Real servers, each test with its own. A worker here only counts offsets (support/counting.py), so
that "the state is right" can be said of any content found at any moment.
"""

import asyncio
import random
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest
import redis

from streams.store.contract import Answer, StoreError, StoreUnfitError
from tests.support.checks import not_none
from tests.support.counting import PARTITION, Counting, agreed_offset, snapshot
from tests.support.redis_servers import KINDS, RedisProcess, opened, recovered, redis_url, working
from tests.support.servers import wait_until
from tests.support.worker_process import Cable

APPENDING = {"appendonly": "yes", "appendfsync": "everysec"}

Start = Callable[..., RedisProcess]


@pytest.fixture(params=KINDS)
def start(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Start]:
    """Starts servers of one kind, each with settings of its own."""
    started: list[RedisProcess] = []

    def begin(**config: object) -> RedisProcess:
        server = RedisProcess(request.param, tmp_path / f"redis-{len(started)}", **config)
        started.append(server)
        server.start()
        return server

    yield begin
    for server in started:
        server.kill()


# --- the server refuses ---------------------------------------------------------------------------


def test_a_full_redis_refuses_the_whole_flush_and_takes_it_once_there_is_room(start: Start) -> None:
    async def story(server: RedisProcess, client: redis.Redis) -> None:
        async with working(server.url) as worker:
            assert await worker.count(35) is Answer.OK
            before = server.content()
            client.config_set("maxmemory", "1mb")
            # Deletes come first: they must not happen either.
            assert snapshot(35, 70).deletes
            with pytest.raises(StoreError, match=r"cannot write: .*maxmemory"):
                await worker.count(35)
            assert server.content() == before
            client.config_set("maxmemory", "0")
            assert await worker.count(35) is Answer.OK
            assert agreed_offset(server.content()) == 70

    server = start()
    with server.client() as client:
        asyncio.run(story(server, client))


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
def test_a_server_that_was_told_to_evict_is_found_out_while_it_runs(
    start: Start, policy: str
) -> None:
    async def story(server: RedisProcess, client: redis.Redis) -> None:
        async with opened(server.url) as store:
            memory = not_none(await store.check())
            assert memory.used > 100_000
            assert memory.limit is None
            client.config_set("maxmemory", "64mb")
            assert not_none(await store.check()).limit == 64 * 1024**2
            client.config_set("maxmemory-policy", policy)
            with pytest.raises(StoreUnfitError) as caught:
                await store.check()
            assert str(caught.value) == (
                f"Redis: maxmemory-policy is {policy}, which throws state away; run "
                "`CONFIG SET maxmemory-policy noeviction`"
            )
            client.config_set("maxmemory-policy", "noeviction")
            await store.check()

    server = start()
    with server.client() as client:
        asyncio.run(story(server, client))


def test_a_server_that_forgot_its_scripts_gets_them_again(start: Start) -> None:
    async def story(server: RedisProcess, client: redis.Redis) -> None:
        async with working(server.url) as worker:
            assert await worker.count(5) is Answer.OK
            client.script_flush()
            assert await worker.count(1) is Answer.OK
            client.script_flush()
            assert await worker.begin() == 6

    server = start()
    with server.client() as client:
        asyncio.run(story(server, client))


def test_a_full_disk_stops_the_writing_and_loses_at_most_the_last_seconds(start: Start) -> None:
    async def story(server: RedisProcess) -> None:
        async with working(server.url) as worker:
            assert await worker.count(35) is Answer.OK
            server.limit_files(server.aof.stat().st_size + 100)
            with pytest.raises(StoreError, match="MISCONF"):
                await until_refused(worker)
            at = worker.offset
            assert agreed_offset(server.content()) == at
            server.limit_files(-1)
            wait_until(lambda: disk_is_well(server), "the append-only file is written again")
            assert await worker.count(4) is Answer.OK

            server.limit_files(server.aof.stat().st_size + 100)
            with pytest.raises(StoreError, match="MISCONF"):
                await until_refused(worker)
            server.kill()  # what was taken and not written is gone
            server.start()
            assert agreed_offset(server.content()) in worker.history[:-1]
            assert await worker.count(4) is Answer.CONFLICT
            await recovered(worker, server)

    asyncio.run(story(start(**APPENDING)))


async def until_refused(worker: Counting) -> None:
    """Count on, a few records a time, for as long as the server takes it."""
    deadline_s = time.monotonic() + 30
    while time.monotonic() < deadline_s:
        assert await worker.count(4) is Answer.OK
    raise AssertionError("it was never refused")


def disk_is_well(server: RedisProcess) -> bool:
    with server.client() as client:
        return bool(client.info("persistence")["aof_last_write_status"] == "ok")


# --- the server comes back with less --------------------------------------------------------------


def test_a_server_killed_while_it_writes_comes_back_with_a_state_that_was(start: Start) -> None:
    async def story(server: RedisProcess) -> None:
        async with working(server.url) as worker:
            assert await worker.count(7) is Answer.OK
            killing = asyncio.create_task(asyncio.to_thread(server.kill))
            with pytest.raises(StoreError, match="cannot write"):
                await until_refused(worker)
            await killing
            server.start()
            offset, known = agreed_offset(server.content()), worker.offset
            assert offset in [*worker.history, known + 4]
            # The worker that lived on notices by itself what became of its last flush and of those
            # before it.
            expected = {known: Answer.OK, known + 4: Answer.ALREADY}.get(offset, Answer.CONFLICT)
            assert await worker.count(4) is expected
            await recovered(worker, server)

    asyncio.run(story(start(**APPENDING)))


@pytest.mark.parametrize("seed", range(3))
def test_an_append_only_file_cut_anywhere_holds_a_state_that_was(start: Start, seed: int) -> None:
    dice = random.Random(seed)

    async def story(server: RedisProcess, kept: Path) -> None:
        async with working(server.url) as worker:
            for _ in range(30):
                assert await worker.count(dice.randrange(1, 30)) is Answer.OK
            server.stop()
            shutil.copytree(server.directory / "appendonlydir", kept)
            size, found = server.aof.stat().st_size, set()
            claimed = server.aof.read_bytes().index(worker.claim.owner.encode())
            for cut in [size - 1, *(dice.randrange(claimed, size) for _ in range(3))]:
                shutil.rmtree(server.directory / "appendonlydir")
                shutil.copytree(kept, server.directory / "appendonlydir")
                with server.aof.open("r+b") as file:
                    file.truncate(cut)
                server.start()
                offset = agreed_offset(server.content())
                assert offset in worker.history
                found.add(offset)
                answer = await worker.count(7)
                assert answer in (Answer.CONFLICT, Answer.FENCED)
                assert agreed_offset(server.content()) == offset
                server.kill()
            assert max(found) < worker.offset, "even the last byte is needed"
            server.start()
            await recovered(worker, server)

    server = start(**APPENDING)
    asyncio.run(story(server, server.directory / "kept"))


def restarted(server: RedisProcess) -> None:
    server.kill()
    server.start()


def test_a_restart_without_persistence_and_flushall_leave_nothing_and_nothing_is_built_on_it(
    start: Start,
) -> None:
    async def story(server: RedisProcess, client: redis.Redis) -> None:
        async with working(server.url) as worker:
            assert await worker.count(20) is Answer.OK
            for lose in (client.flushall, partial(restarted, server)):
                lose()
                assert await worker.count(5) is Answer.FENCED
                assert server.content() == {}
                assert await worker.begin() == 0
                assert await worker.count(25) is Answer.OK
                assert agreed_offset(server.content()) == 25

    server = start()
    with server.client() as client:
        asyncio.run(story(server, client))


# --- replicas -------------------------------------------------------------------------------------


@pytest.mark.parametrize("lost", ["flushes", "the claim too"])
def test_a_promoted_replica_without_the_tail_is_not_written_on(start: Start, lost: str) -> None:
    first, replica = start(repl_diskless_sync_delay=0), start()

    async def story(link: Cable) -> None:
        async with working(first.url) as before:
            assert await before.count(20) is Answer.OK
        in_step(first, replica)
        if lost == "the claim too":
            link.hold()
        async with working(first.url) as worker, AsyncExitStack() as stack:
            if lost == "flushes":
                in_step(first, replica)
                link.hold()
            for _ in range(5):
                assert await worker.count(9) is Answer.OK
            replica.lead()
            first.kill()
            assert agreed_offset(replica.content()) == 20
            # The same worker's next flush, now that the name of the server means the replica.
            worker.store = await stack.enter_async_context(opened(replica.url))
            expected = Answer.CONFLICT if lost == "flushes" else Answer.FENCED
            assert await worker.count(9) is expected
            # Nor may a flush that was confirmed before pass for one that is there.
            worker.offset -= 9
            assert await worker.count(9) is expected
            assert agreed_offset(replica.content()) == 20
            await recovered(worker, replica)

    with Cable(first.port) as link:
        replica.follow(link.port)
        asyncio.run(story(link))


def in_step(first: RedisProcess, replica: RedisProcess) -> None:
    """Return when a replica has all that its primary has."""
    wait_until(lambda: first.content() == replica.content(), "the replica has everything")


def test_a_name_that_leads_to_a_new_primary_is_followed_though_the_former_one_answers(
    start: Start,
) -> None:
    former, new = start(repl_diskless_sync_delay=0), start(repl_diskless_sync_delay=0)

    async def story(name: Cable) -> None:
        async with working(redis_url(name.port)) as worker:
            assert await worker.count(20) is Answer.OK
            in_step(former, new)
            new.lead()
            former.follow(new.port)
            # The open connection still leads to the former one, which refuses to write.
            name.lead_to(new.port)
            assert await worker.count(9) is Answer.OK
            await worker.store.send_heartbeat(PARTITION, {"at_ms": 1})
            assert agreed_offset(new.content()) == 29

    new.follow(former.port)
    with Cable(former.port) as name:
        asyncio.run(story(name))


def test_the_minority_of_a_split_brain_stops_and_loses_what_it_took(start: Start) -> None:
    old = start(repl_diskless_sync_delay=0, min_replicas_to_write=1, min_replicas_max_lag=1)
    new = start(repl_diskless_sync_delay=0)

    async def story(link: Cable) -> None:
        async with working(old.url) as left_behind:
            assert await left_behind.count(20) is Answer.OK
            in_step(old, new)
            link.hold()
            new.lead()
            async with working(new.url) as chosen:
                assert chosen.offset == 20
                assert await chosen.count(5) is Answer.OK
                # The old one takes writes until it misses its replica, then none.
                with pytest.raises(StoreError, match="NOREPLICAS"):
                    await until_refused(left_behind)
                at = left_behind.offset
                assert agreed_offset(old.content()) == at
                assert await chosen.count(6) is Answer.OK

                with old.client() as client:  # the parts find each other again
                    client.config_set("min-replicas-to-write", 0)
                old.follow(new.port)
                in_step(new, old)
                with pytest.raises(StoreError, match="read only replica"):
                    await left_behind.count(4)
                async with opened(new.url) as store:
                    left_behind.store = store
                    assert await left_behind.count(4) is Answer.FENCED
                assert await chosen.count(7) is Answer.OK
                assert agreed_offset(new.content()) == 38

    with Cable(old.port) as link:
        new.follow(link.port)
        # The replica tells every second how far it is; without that the old one takes nothing.
        wait_until(lambda: replicas(old) == 1, "the replica is counted")
        asyncio.run(story(link))


def replicas(server: RedisProcess) -> int:
    with server.client() as client:
        return int(client.info("replication")["min_slaves_good_slaves"])
