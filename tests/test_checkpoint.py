"""Claim, load and flush against a real Redis: state and offset move together or not at all."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import msgspec
import pytest
import redis

import streams.checkpoint
from streams.checkpoint import (
    Answer,
    Claimed,
    Lost,
    RedisStore,
    StoreError,
    connect,
    partition_key,
    partitions_key,
)
from streams.embedded import free_port
from streams.local import LocalStack
from streams.partition import Meta, Snapshot
from streams.slices import Thresholds
from tests.servers import RedisServer, start_servers

pytestmark = pytest.mark.stack

GROUP, TOPIC, PARTITION = "g", "t", 3
KEY = partition_key(GROUP, TOPIC, PARTITION)
NOTHING = {
    "index": msgspec.msgpack.encode([{}, {}, {}, {}, {}]),
    "totals": b"opaque here",
    "meta": msgspec.msgpack.encode(
        Meta(
            *(1, 1, None, (0, 0, 0, 0, 0), {}, {}),
            series=0,
            cubes=0,
            edges=Thresholds((), (), ()),
            written_at_ms=0,
        )
    ),
}


def snapshot(
    from_offset: int,
    to_offset: int,
    fields: Mapping[str, bytes] | None = None,
    deletes: tuple[str, ...] = (),
    sequence: int | None = None,
) -> Snapshot:
    number = to_offset if sequence is None else sequence
    return Snapshot(number, from_offset, to_offset, {**NOTHING, **(fields or {})}, deletes)


@asynccontextmanager
async def opened(url: str, timeout_s: float = 2) -> AsyncIterator[RedisStore]:
    client = connect(url, timeout_s)
    try:
        yield RedisStore(client, GROUP, TOPIC)
    finally:
        await client.aclose()


@pytest.fixture
def run(redis_server: RedisServer, redis_client: redis.Redis) -> Callable[..., Any]:
    """Run a story with one or two workers' stores on an empty Redis."""

    def told(story: Callable[..., Awaitable[Any]]) -> Any:
        async def whole() -> Any:
            async with opened(redis_server.url) as one, opened(redis_server.url) as two:
                stores = (one, two)[: story.__code__.co_argcount]  # type: ignore[attr-defined]
                return await story(*stores)

        return asyncio.run(whole())

    return told


def content(client: redis.Redis) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = client.hgetall(KEY)  # type: ignore[assignment]
    return found


# --- claim and load -------------------------------------------------------------------------------


def test_the_first_claim_finds_nothing_and_begins_at_offset_0(
    run: Callable[..., Any], redis_client: redis.Redis
) -> None:
    async def story(store: RedisStore) -> Claimed:
        return await store.claim(PARTITION)

    claim = run(story)
    assert claim.key == KEY
    assert claim.stored.offset == 0
    assert not claim.stored.fields
    assert redis_client.hget(KEY, "owner") == claim.owner.encode()
    assert redis_client.smembers(partitions_key(GROUP, TOPIC)) == {b"3"}


def test_each_claim_has_a_higher_epoch_and_finds_what_was_written(run: Callable[..., Any]) -> None:
    async def story(one: RedisStore, two: RedisStore) -> None:
        first = await one.claim(PARTITION)
        assert await one.flush(first, snapshot(0, 7, {"s:10:20": b"counts"})) is Answer.OK
        second = await two.claim(PARTITION)
        assert [int(claim.owner.split(":")[0]) for claim in (first, second)] == [1, 2]
        assert second.stored.offset == 7
        assert second.stored.fields == NOTHING
        assert await two.load(second, ["s:10:20"]) == {"s:10:20": b"counts"}

    run(story)


def test_whoever_lost_the_partition_can_neither_read_nor_write(
    run: Callable[..., Any], redis_client: redis.Redis
) -> None:
    async def story(one: RedisStore, two: RedisStore) -> None:
        first = await one.claim(PARTITION)
        assert await one.flush(first, snapshot(0, 7, {"s:10:20": b"first"})) is Answer.OK
        await two.claim(PARTITION)
        before = content(redis_client)
        assert await one.flush(first, snapshot(7, 9, {"s:10:20": b"zombie"})) is Answer.FENCED
        # Not even the very flush that was written before: it must not pass for a success.
        assert await one.flush(first, snapshot(0, 7, {"s:10:20": b"first"})) is Answer.FENCED
        with pytest.raises(Lost, match="another worker claimed it"):
            await one.load(first, ["s:10:20"])
        assert content(redis_client) == before

    run(story)


def test_a_state_with_a_field_missing_is_lost_not_half_loaded(
    run: Callable[..., Any], redis_client: redis.Redis
) -> None:
    async def story(store: RedisStore) -> None:
        claim = await store.claim(PARTITION)
        assert await store.flush(claim, snapshot(0, 7, {"s:10:20": b"x"})) is Answer.OK
        redis_client.hdel(KEY, "s:10:20")
        with pytest.raises(Lost, match=r"field s:10:20 is gone"):
            await store.load(claim, ["s:10:20"])
        redis_client.hdel(KEY, "totals")
        with pytest.raises(Lost, match="field totals is gone: the state was damaged"):
            await store.claim(PARTITION)

    run(story)


# --- flush ----------------------------------------------------------------------------------------


def test_a_flush_moves_the_offset_and_the_slices_together(
    run: Callable[..., Any], redis_client: redis.Redis
) -> None:
    async def story(store: RedisStore) -> Claimed:
        claim = await store.claim(PARTITION)
        assert await store.flush(claim, snapshot(0, 5, {"a": b"1", "b": b"1"})) is Answer.OK
        assert await store.flush(claim, snapshot(5, 8, {"b": b"2"}, deletes=("a",))) is Answer.OK
        return claim

    claim = run(story)
    expected = {
        **NOTHING,
        "b": b"2",
        "owner": claim.owner.encode(),
        "offset": b"8",
        "flush": f"{claim.owner}:8".encode(),
    }
    assert content(redis_client) == {name.encode(): value for name, value in expected.items()}


def test_the_same_flush_sent_again_changes_nothing(
    run: Callable[..., Any], redis_client: redis.Redis
) -> None:
    async def story(store: RedisStore) -> None:
        claim = await store.claim(PARTITION)
        assert await store.flush(claim, snapshot(0, 5, {"a": b"1"})) is Answer.OK
        before = content(redis_client)
        assert await store.flush(claim, snapshot(0, 5, {"a": b"1"})) is Answer.ALREADY
        assert content(redis_client) == before

    run(story)


@pytest.mark.parametrize("from_offset", [0, 4, 6])
def test_a_flush_that_builds_on_another_offset_is_a_conflict(
    run: Callable[..., Any], redis_client: redis.Redis, from_offset: int
) -> None:
    # Redis was set back, or a flush comes late: what memory holds is not what it adds to.
    async def story(store: RedisStore) -> None:
        claim = await store.claim(PARTITION)
        assert await store.flush(claim, snapshot(0, 5, {"a": b"1"})) is Answer.OK
        before = content(redis_client)
        late = snapshot(from_offset, 9, {"a": b"2"}, deletes=("meta",))
        assert await store.flush(claim, late) is Answer.CONFLICT
        assert content(redis_client) == before

    run(story)


def test_a_state_that_vanished_is_not_written_on(
    run: Callable[..., Any], redis_client: redis.Redis
) -> None:
    async def story(store: RedisStore) -> None:
        claim = await store.claim(PARTITION)
        assert await store.flush(claim, snapshot(0, 5)) is Answer.OK
        redis_client.flushdb()
        assert await store.flush(claim, snapshot(5, 6)) is Answer.FENCED
        assert content(redis_client) == {}

    run(story)


def test_thousands_of_fields_are_written_and_deleted_in_one_flush(
    run: Callable[..., Any], redis_client: redis.Redis
) -> None:
    many = {f"s:10:{number}": b"%d" % number for number in range(9_001)}

    async def story(store: RedisStore) -> None:
        claim = await store.claim(PARTITION)
        assert await store.flush(claim, snapshot(0, 1, many)) is Answer.OK
        found = await store.load(claim, list(many))
        assert found == many
        fresh = {f"s:60:{number}": b"y" for number in range(8_500)}
        second = snapshot(1, 2, fresh, deletes=tuple(many))
        assert await store.flush(claim, second) is Answer.OK
        assert await store.load(claim, list(fresh)) == fresh

    run(story)
    fields = {name.decode() for name in content(redis_client)}
    assert fields == {*NOTHING, "owner", "offset", "flush"} | {
        f"s:60:{number}" for number in range(8_500)
    }


def test_a_redis_that_forgot_its_scripts_gets_them_again(
    run: Callable[..., Any], redis_client: redis.Redis
) -> None:
    async def story(store: RedisStore) -> None:
        claim = await store.claim(PARTITION)
        assert await store.flush(claim, snapshot(0, 5)) is Answer.OK
        redis_client.script_flush()
        assert await store.flush(claim, snapshot(5, 6)) is Answer.OK
        redis_client.script_flush()
        assert (await store.claim(PARTITION)).stored.offset == 6

    run(story)


# --- a Redis in trouble ---------------------------------------------------------------------------


@contextmanager
def redis_of_its_own() -> Iterator[LocalStack]:
    stack = start_servers()
    try:
        yield stack
    finally:
        stack.stop()


def test_a_full_redis_refuses_the_whole_flush_and_takes_it_once_there_is_room() -> None:
    async def story(url: str, client: redis.Redis) -> None:
        async with opened(url) as store:
            claim = await store.claim(PARTITION)
            assert await store.flush(claim, snapshot(0, 5, {"a": b"1"})) is Answer.OK
            before = content(client)
            client.config_set("maxmemory", "1mb")
            # Deletes come first: they must not happen either.
            large = snapshot(5, 9, {"b": bytes(100_000)}, deletes=("a",))
            with pytest.raises(StoreError, match=r"cannot write: .*maxmemory"):
                await store.flush(claim, large)
            assert content(client) == before
            client.config_set("maxmemory", "0")
            assert await store.flush(claim, large) is Answer.OK

    with redis_of_its_own() as stack, redis.Redis.from_url(stack.redis_url) as client:
        asyncio.run(story(stack.redis_url, client))


CALLS: dict[str, Callable[[RedisStore], Awaitable[Any]]] = {
    "claim": lambda store: store.claim(PARTITION),
    "load": lambda store: store.load(Claimed(KEY, "1:x", Any), ["meta"]),  # type: ignore[arg-type]
    "flush": lambda store: store.flush(Claimed(KEY, "1:x", Any), snapshot(0, 1)),  # type: ignore[arg-type]
    "pulse": lambda store: store.pulse(PARTITION, {"at_ms": 1}),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_redis_that_accepts_and_never_answers_is_an_error_not_a_wait(call: str) -> None:
    async def story() -> None:
        async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while await reader.read(4_096):
                pass
            writer.close()

        server = await asyncio.start_server(never, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, opened(f"redis://127.0.0.1:{port}/0", timeout_s=0.1) as store:
            with pytest.raises(StoreError) as caught:
                await CALLS[call](store)
            assert "\n" not in str(caught.value)

    asyncio.run(story())


def test_the_deadline_holds_however_often_the_client_would_try(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def story() -> None:
        async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while await reader.read(4_096):
                pass
            writer.close()

        server = await asyncio.start_server(never, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        # The client itself would wait for seconds, and then say so in other words.
        async with server, opened(f"redis://127.0.0.1:{port}/0", timeout_s=2) as store:
            with pytest.raises(StoreError, match="TimeoutError"):
                await store.claim(PARTITION)
            with pytest.raises(StoreError, match="TimeoutError"):
                await CALLS["flush"](store)

    monkeypatch.setattr(streams.checkpoint, "LOAD_DEADLINE_S", 0.2)
    monkeypatch.setattr(streams.checkpoint, "FLUSH_DEADLINE_S", 0.2)
    asyncio.run(story())


def test_no_redis_at_all_is_one_line_without_the_password() -> None:
    async def story() -> str:
        async with opened(f"redis://me:hunter2@127.0.0.1:{free_port()}/0") as store:
            with pytest.raises(StoreError) as caught:
                await store.claim(PARTITION)
            return str(caught.value)

    told = asyncio.run(story())
    assert told.startswith(f"{KEY}: cannot claim: ")
    assert "hunter2" not in told
    assert "\n" not in told
