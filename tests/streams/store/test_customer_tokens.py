"""Tokens of customers in Redis: written before their rows, and rows that came first are joined."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest
import redis

from streams.config.settings import Settings
from streams.query.report import Question, make_report
from streams.state.registry import customer_hasher
from streams.state.snapshot import Snapshot
from streams.store.contract import Answer
from streams.store.keys import Keys
from streams.store.reader import StateReader
from streams.store.redis import RedisStore
from streams.store.servers.client import connect
from tests.support.exporter_state import NOW_S, SECRET, StateWriter, event, token_of

OTHER_SECRET = "f" * 32
new_token_of = customer_hasher(OTHER_SECRET.encode())


def changed(settings: Settings, key: str, previous: str | None = None) -> Settings:
    """The same settings with other keys of customer ids."""
    worker = type(settings.worker)(customer_key=key, customer_key_previous=previous)
    return settings.model_copy(update={"worker": worker})


async def write(settings: Settings, partition: int, *customer_ids: str) -> None:
    """Count an event of each customer, as a worker that has just claimed the partition."""
    writer = StateWriter(settings)
    try:
        await writer.write(partition, [event(NOW_S, customer_id=one) for one in customer_ids])
    finally:
        await writer.close()


async def requests_of(settings: Settings) -> dict[str, int]:
    """The requests of each customer, as the report has them."""
    client, kafka = connect(settings.redis.url, 5), settings.kafka
    try:
        report = await make_report(client, kafka.group, kafka.topic, Question(by=("customer",)))
    finally:
        await client.aclose()
    return {group["key"]["customer"]: group["total"]["requests"] for group in report["groups"]}


def test_a_customer_stays_one_while_its_key_is_changed(configured: Callable[..., Settings]) -> None:
    before = configured()
    during, after = changed(before, OTHER_SECRET, SECRET), changed(before, OTHER_SECRET)

    async def story() -> dict[str, int]:
        await write(before, 0, "acme", "globex")
        await write(during, 1, "acme", "hooli")
        await write(before, 2, "acme")  # a worker that was not restarted yet
        await write(after, 0, "acme", "hooli", "initech")
        return await requests_of(after)

    assert asyncio.run(story()) == {
        token_of("acme"): 4,
        token_of("globex"): 1,
        token_of("hooli"): 2,
        new_token_of("initech"): 1,
    }


def test_rows_that_were_counted_before_their_token_was_known_join_its_row(
    configured: Callable[..., Settings],
) -> None:
    settings = configured()
    during, after = changed(settings, OTHER_SECRET, SECRET), changed(settings, OTHER_SECRET)

    async def story() -> None:
        kafka, client = settings.kafka, connect(settings.redis.url, 5)
        try:
            await write(after, 0, "acme", "acme")  # by a worker without the key before
            reader = StateReader(client, kafka.group, kafka.topic)
            first = await reader.snapshot()
            assert {customer for customer, _ in first.names_of(0)[1]} == {new_token_of("acme")}
            versions = {first.views[0].version(of) for of in first.views[0].index}
            await write(during, 1, "acme")
            second = await reader.snapshot()
            for partition in (0, 1):
                names = second.names_of(partition)[1]
                assert {customer for customer, _ in names} == {token_of("acme")}
            # What was derived from the slices under the other name is derived again.
            view = second.views[0]
            assert versions.isdisjoint({view.version(of) for of in view.index})
            # And if a token joins no rows, nothing is read again.
            await write(during, 2, "hooli")
            third = await reader.snapshot()
            assert third.views[0].generation == view.generation
        finally:
            await client.aclose()
        assert await requests_of(after) == {token_of("acme"): 3, token_of("hooli"): 1}

    asyncio.run(story())


def test_tokens_are_stored_before_the_rows_that_have_them(
    configured: Callable[..., Settings], redis_client: redis.Redis
) -> None:
    settings = configured()
    kafka = settings.kafka
    key = Keys(kafka.group, kafka.topic)

    async def story() -> None:
        client = connect(settings.redis.url, 5)
        try:
            store = RedisStore(client, kafka.group, kafka.topic)
            claim = await store.claim(0)
            assert claim.tokens == {}
            tokens = {"2" * 24: "1" * 24}
            await store.claim(0)  # by another worker: this one's flush is refused
            snapshot = Snapshot(1, 0, 1, {"meta": b"m"}, (), tokens)
            assert await store.flush(claim, snapshot) is Answer.FENCED
            assert (await store.claim(0)).tokens == tokens
            assert (await RedisStore(client, kafka.group, kafka.topic).claim(1)).tokens == tokens
        finally:
            await client.aclose()

    asyncio.run(story())
    assert redis_client.ttl(key.customer_tokens) == -1


def test_a_damaged_token_is_left_out_and_logged(
    configured: Callable[..., Settings],
    redis_client: redis.Redis,
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings = configured()
    kafka = settings.kafka
    key = Keys(kafka.group, kafka.topic).customer_tokens
    asyncio.run(write(changed(settings, OTHER_SECRET, SECRET), 0, "acme", "hooli"))
    field = new_token_of("acme")
    data = cast(bytes, redis_client.hget(key, field))
    redis_client.hset(key, field, data.replace(data[1:2], b"x"))

    async def tokens() -> Any:
        client = connect(settings.redis.url, 5)
        try:
            return (await StateReader(client, kafka.group, kafka.topic).snapshot()).tokens
        finally:
            await client.aclose()

    assert asyncio.run(tokens()) == {new_token_of("hooli"): token_of("hooli")}
    assert f"{key}: left out: {field}: " in caplog.text
