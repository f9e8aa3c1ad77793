"""What neither log nor state can rebuild comes back after Redis lost it, and only then."""

import asyncio
import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import pytest
import redis
import redis.asyncio as aioredis
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio.client import Pipeline

from streams.checksums import seal_json
from streams.config.settings import Kafka
from streams.store.archive import PART_BYTES, keep
from streams.store.archive_topic import KafkaArchive
from streams.store.contract import StoreError
from streams.store.hash_archive import Field, HashArchive, HashesPlace
from tests.support.servers import Broker, RedisServer

PLACE = HashesPlace("group", "topic", 0)
PREFIX = "tp:{group:topic}:"
NAMES = st.sampled_from(["days", "maintenance", "ledger:p:2026-11", "sent:2026-11-28"])
FIELDS = st.tuples(NAMES, st.binary(max_size=12))


@given(st.dictionaries(FIELDS, st.binary(max_size=30), max_size=8))
def test_what_is_archived_is_read_back(contents: dict[Field, bytes]) -> None:
    live: dict[bytes, bytes] = {}
    for field, value in contents.items():
        for record in PLACE.records(field, value):
            keep(live, *record)
    assert all(PLACE.owns(key) for key in live)
    assert PLACE.contents(live) == contents


def test_a_long_value_takes_several_records_and_half_of_it_is_left_out() -> None:
    value = bytes(range(256)) * (PART_BYTES // 128 + 1)
    records = PLACE.records(("days", b"day UTC 2026-11-28"), value)
    live = {key: part for key, part in records if part is not None}
    assert len(live) == 3
    assert PLACE.contents(live) == {("days", b"day UTC 2026-11-28"): value}
    live.popitem()
    assert PLACE.contents(live) == {}


def test_records_of_another_program_are_left_out() -> None:
    live: dict[bytes, bytes] = {}
    for record in PLACE.records(("days", b"day"), b"finalised"):
        keep(live, *record)
    prefix = PLACE.prefix.encode()
    foreign = {b"days|other|0": b"no part", b"days|day|x": b"\x93\x01\x00\xa0", b"\xff|a|0": b""}
    assert PLACE.contents(live | {prefix + key: value for key, value in foreign.items()}) == {
        ("days", b"day"): b"finalised"
    }


# --- on a broker and a Redis ----------------------------------------------------------------------


def in_redis(client: redis.Redis) -> dict[bytes, dict[bytes, bytes]]:
    """Return all hashes of the topic."""
    keys = cast("list[bytes]", client.keys(f"{PREFIX}*"))  # the client decodes no answers
    return {key: cast("dict[bytes, bytes]", client.hgetall(key)) for key in keys}


def fill(client: redis.Redis) -> None:
    """Write one hash of each kind, and keys that the archive has nothing to do with."""
    client.hset(f"{PREFIX}days", "day UTC 2026-11-27", "finalised")
    client.hset(f"{PREFIX}maintenance", "w|17", "{}")
    client.hset(f"{PREFIX}customer-tokens", "ab12", seal_json("ab12", b'"cd34"'))
    client.hset(f"{PREFIX}ledger:a1", "closed:29000000:eu", "{}")
    client.hset(f"{PREFIX}ledger:a1:2026-11", "c:20420:eu", zlib.compress(bytes(range(256))))
    client.hset(f"{PREFIX}sent:2026-11-27", "someone", "1764300000")
    client.hset(f"{PREFIX}scenarios", "one", "not archived")
    client.hset("tp:{other:topic}:days", "day UTC 2026-11-27", "of another group")


@pytest.fixture
def run(
    broker: Broker, redis_server: RedisServer, redis_client: redis.Redis
) -> Callable[[Callable[[Callable[[], HashArchive]], Awaitable[None]]], None]:
    """Run a coroutine function that is given a maker of archives, each as of a new owner."""
    kafka = Kafka(
        bootstrap=broker.bootstrap, archive_topic=broker.new_topic(1), topic="topic", group="group"
    )

    def run(story: Callable[[Callable[[], HashArchive]], Awaitable[None]]) -> None:
        async def main() -> None:
            client = aioredis.Redis.from_url(redis_server.url)
            try:
                await story(
                    lambda: HashArchive(KafkaArchive(kafka), client, kafka.group, kafka.topic)
                )
            finally:
                await client.aclose()

        asyncio.run(main())

    return run


Run = Callable[[Callable[[Callable[[], HashArchive]], Awaitable[None]]], None]


@pytest.mark.parametrize("same_owner", [True, False])
def test_redis_lost_whole_is_given_all_of_it_back(
    run: Run, redis_client: redis.Redis, same_owner: bool
) -> None:
    fill(redis_client)
    before = {key: value for key, value in in_redis(redis_client).items() if b"scen" not in key}

    async def story(owner: Callable[[], HashArchive]) -> None:
        archive = owner()
        assert await archive.synchronise() == 0
        redis_client.flushall()
        assert await (archive if same_owner else owner()).synchronise() == 6

    run(story)
    after = in_redis(redis_client)
    assert after.pop(f"{PREFIX}hashes".encode()) == {b"sequence": b"1"}
    assert after == before
    assert redis_client.ttl(f"{PREFIX}ledger:a1:2026-11") > 400 * 86_400
    assert redis_client.ttl(f"{PREFIX}days") == -1


def test_a_damaged_field_is_restored_and_its_copy_is_not_replaced(
    run: Run, redis_client: redis.Redis
) -> None:
    key, sealed = f"{PREFIX}maintenance", seal_json("w-18", b'{"id": "w-18"}')

    async def story(owner: Callable[[], HashArchive]) -> None:
        fill(redis_client)
        redis_client.hset(key, "w-18", sealed)
        archive = owner()
        await archive.synchronise()
        for again in (archive, owner()):
            redis_client.hset(key, "w-18", sealed.replace(b"18", b"19"))
            assert await again.synchronise() == 1
            assert redis_client.hget(key, "w-18") == sealed
        redis_client.hset(key, "w-20", sealed)  # under another name, and never archived
        assert await archive.synchronise() == 0
        assert redis_client.hget(key, "w-20") == sealed

    run(story)


def test_a_damaged_field_that_the_archive_lacks_is_looked_for_once(
    run: Run, redis_client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    key, sealed = f"{PREFIX}maintenance", seal_json("w-18", b'{"id": "w-18"}')

    async def story(owner: Callable[[], HashArchive]) -> None:
        archive = owner()
        redis_client.hset(key, "w-20", sealed)  # under another name
        for _ in range(3):
            await archive.synchronise()
        assert caplog.text.count("not in the archive either") == 1
        redis_client.hset(key, "w-20", sealed.replace(b"18", b"19"))
        await archive.synchronise()
        assert caplog.text.count("not in the archive either") == 2

    run(story)


@pytest.mark.parametrize("at_watch", [False, True])
def test_a_value_written_during_a_repair_stays(
    run: Run, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch, at_watch: bool
) -> None:
    key, sealed = f"{PREFIX}maintenance", seal_json("w-18", b'{"id": "w-18"}')
    newer = seal_json("w-18", b'{"id": "w-18", "cancelled": true}')

    async def story(owner: Callable[[], HashArchive]) -> None:
        redis_client.hset(key, "w-18", sealed)
        archive = owner()
        await archive.synchronise()
        redis_client.hset(key, "w-18", sealed.replace(b"18", b"19"))
        place, name = (Pipeline, "watch") if at_watch else (KafkaArchive, "live")
        before = getattr(place, name)

        async def write_meanwhile(*arguments: Any) -> Any:
            answer = await before(*arguments)
            redis_client.hset(key, "w-18", newer)
            return answer

        monkeypatch.setattr(place, name, write_meanwhile)
        await archive.synchronise()
        assert redis_client.hget(key, "w-18") == newer

    run(story)


def test_a_redis_that_was_set_back_gets_what_it_lost_and_keeps_what_came_since(
    run: Run, redis_client: redis.Redis
) -> None:
    async def story(owner: Callable[[], HashArchive]) -> None:
        fill(redis_client)
        archive = owner()
        await archive.synchronise()
        snapshot = in_redis(redis_client)
        redis_client.hset(f"{PREFIX}days", "day UTC 2026-11-28", "finalised later")
        await archive.synchronise()
        redis_client.flushall()
        for key, fields in snapshot.items():
            redis_client.hset(key, mapping=cast("dict[Any, Any]", fields))
        redis_client.hset(f"{PREFIX}maintenance", "w-18", "announced after the loss")
        await archive.synchronise()

    run(story)
    days = redis_client.hgetall(f"{PREFIX}days")
    assert days[b"day UTC 2026-11-28"] == b"finalised later"
    assert set(redis_client.hgetall(f"{PREFIX}maintenance")) == {b"w|17", b"w-18"}


def test_what_left_redis_by_age_is_not_brought_back(run: Run, redis_client: redis.Redis) -> None:
    async def story(owner: Callable[[], HashArchive]) -> None:
        fill(redis_client)
        archive = owner()
        await archive.synchronise()
        redis_client.hdel(f"{PREFIX}days", "day UTC 2026-11-27")
        await archive.synchronise()
        redis_client.flushall()
        await owner().synchronise()

    run(story)
    assert not redis_client.exists(f"{PREFIX}days")
    assert redis_client.exists(f"{PREFIX}maintenance")


def test_a_pass_without_a_change_writes_nothing(run: Run, redis_client: redis.Redis) -> None:
    async def story(owner: Callable[[], HashArchive]) -> None:
        fill(redis_client)
        for _ in range(3):
            await owner().synchronise()

    run(story)
    assert redis_client.hget(f"{PREFIX}hashes", "sequence") == b"1"


def test_an_archive_that_cannot_be_written_is_written_by_the_next_pass(
    run: Run, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*_: object) -> None:
        raise StoreError("no broker")

    async def story(owner: Callable[[], HashArchive]) -> None:
        fill(redis_client)
        archive = owner()
        with monkeypatch.context() as patch:
            patch.setattr(KafkaArchive, "send", fails)
            with pytest.raises(StoreError):
                await archive.synchronise()
        await archive.synchronise()
        redis_client.flushall()
        assert await owner().synchronise() == 6

    run(story)


def test_an_archive_topic_that_was_made_again_is_one_error_and_is_written_again(
    run: Run, redis_client: redis.Redis
) -> None:
    async def story(owner: Callable[[], HashArchive]) -> None:
        fill(redis_client)
        archive = owner()
        await archive.synchronise()
        archive._archive._ends[PLACE.prefix] = 1_000_000  # offsets begin at 0 again
        redis_client.hset(f"{PREFIX}days", "day UTC 2026-11-28", "finalised")
        with pytest.raises(StoreError, match="made again"):
            await archive.synchronise()
        redis_client.hset(f"{PREFIX}days", "day UTC 2026-11-29", "finalised")
        await archive.synchronise()

    run(story)


def test_the_shipped_access_list_lets_a_worker_do_it() -> None:
    users = Path("deploy/redis/users.acl").read_text().splitlines()
    [worker] = [line for line in users if line.startswith("user worker ")]
    wanted = {"+scan", "+hgetall", "+hget", "+hset", "+expire", "+watch", "+multi", "+exec"}
    assert wanted <= set(worker.split())
