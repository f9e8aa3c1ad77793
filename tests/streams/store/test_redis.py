"""What only a Redis can do to its client: not answer, answer late, or leave orders unreadable."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import redis

import streams.store.redis
from streams.store.contract import Claimed, OperatorCommand, StoreError
from streams.store.keys import Keys
from streams.store.redis import RedisStore, enqueue_command
from tests.support.counting import GROUP, KEY, PARTITION, TOPIC, snapshot
from tests.support.redis_servers import opened
from tests.support.servers import RedisServer
from tokenpulse.local.embedded import free_port

ORDER = OperatorCommand("1", "resume", None, "because", "ann@host")
CALLS: dict[str, Callable[[RedisStore], Awaitable[Any]]] = {
    "claim": lambda store: store.claim(PARTITION),
    "load": lambda store: store.load(Claimed(KEY, "1:x", Any), ["meta"]),  # type: ignore[arg-type]
    "flush": lambda store: store.flush(Claimed(KEY, "1:x", Any), snapshot(0, 1)),  # type: ignore[arg-type]
    "pulse": lambda store: store.send_heartbeat(PARTITION, {"at_ms": 1}),
    "check": lambda store: store.check(),
    "order": lambda store: enqueue_command(store._redis, GROUP, TOPIC, PARTITION, ORDER),
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
        async with (
            server,
            opened(f"redis://127.0.0.1:{port}/0", timeout_s=0.1) as store,
        ):
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
        async with (
            server,
            opened(f"redis://127.0.0.1:{port}/0", timeout_s=2) as store,
        ):
            with pytest.raises(StoreError, match="TimeoutError"):
                await store.claim(PARTITION)
            with pytest.raises(StoreError, match="TimeoutError"):
                await CALLS["flush"](store)

    monkeypatch.setattr(streams.store.redis, "LOAD_DEADLINE_S", 0.2)
    monkeypatch.setattr(streams.store.redis, "FLUSH_DEADLINE_S", 0.2)
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


@pytest.mark.parametrize(
    "damage", ["a field is gone", "no offset", "an unknown kind", "a move to nowhere", "below 0"]
)
def test_an_order_that_cannot_be_read_is_shown_and_not_guessed(
    redis_server: RedisServer, redis_client: redis.Redis, damage: str
) -> None:
    key = Keys(GROUP, TOPIC).command(PARTITION)

    async def story() -> None:
        async with opened(redis_server.url) as store:
            await enqueue_command(store._redis, GROUP, TOPIC, PARTITION, ORDER)
            if damage == "no offset":
                redis_client.hset(key, "to", "here")
            elif damage == "an unknown kind":
                redis_client.hset(key, "kind", "rewind")
            elif damage == "a move to nowhere":
                redis_client.hset(key, "kind", "move")
            elif damage == "below 0":
                redis_client.hset(key, mapping={"kind": "move", "to": "-1"})
            else:
                redis_client.hdel(key, "kind")
            with pytest.raises(StoreError) as caught:
                await store.send_heartbeat(PARTITION, {"at_ms": 1})
            assert str(caught.value).startswith(f"{key}: got {{'id': '1'")

    asyncio.run(story())
