"""A whole state in place of the stored one, by the store in memory and by two real servers."""

import asyncio
from collections.abc import Iterator

import pytest

from streams.store.contract import Answer, Claimed
from tests.support.counting import PARTITION, agreed_offset, snapshot
from tests.support.redis_servers import KINDS, RedisProcess
from tests.support.store_places import Memory, Server


@pytest.fixture(scope="module", params=["memory", *KINDS])
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Memory | Server]:
    if request.param == "memory":
        yield Memory()
        return
    directory = tmp_path_factory.mktemp(request.param)
    with RedisProcess(request.param, directory) as process, process.client() as client:
        yield Server(process.url, client)


def test_a_state_replaces_whatever_is_stored_but_not_under_another_owner(
    place: Memory | Server,
) -> None:
    async def story() -> Claimed:
        async with place.opened() as one, place.opened() as two:
            first = await one.claim(PARTITION)
            assert await one.flush(first, snapshot(0, 7)) is Answer.OK
            second = await two.claim(PARTITION)
            before = place.content()
            assert await one.replace(first, snapshot(0, 3)) is Answer.FENCED
            assert place.content() == before
            for _ in range(2):  # the answer may be lost, and the call repeated
                assert await two.replace(second, snapshot(0, 3)) is Answer.OK
            assert await two.flush(second, snapshot(3, 5)) is Answer.OK
            return second

    asyncio.run(story())
    assert agreed_offset(place.content()) == 5


def test_a_claim_of_a_damaged_owner_begins_to_number_again(place: Memory | Server) -> None:
    async def story() -> None:
        async with place.opened() as store:
            first = await store.claim(PARTITION)
            if isinstance(place, Server):
                place._client.hset(first.key, "owner", b"\xff:damaged")
            second = await store.claim(PARTITION)
            assert second.owner != first.owner
            assert await store.flush(first, snapshot(5, 7)) is Answer.FENCED

    asyncio.run(story())
