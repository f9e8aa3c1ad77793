"""The network between a worker and Redis: what it loses, doubles or brings late counts once.

Real servers behind a proxy that makes single commands and replies go astray.
"""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.store.contract import Answer, Lost, StoreError
from tests.support.counting import KEY, Counting, agreed_offset
from tests.support.redis_proxy import Fate, RedisProxy
from tests.support.redis_servers import KINDS, RedisProcess, opened, recovered, working


@pytest.fixture(params=KINDS)
def proxied(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[tuple[RedisProcess, RedisProxy]]:
    """A server, and a network before it."""
    with RedisProcess(request.param, tmp_path) as server, RedisProxy(server.port) as proxy:
        yield server, proxy


def test_a_lost_reply_makes_the_client_ask_again_and_it_counts_once(
    proxied: tuple[RedisProcess, RedisProxy],
) -> None:
    server, proxy = proxied

    async def story() -> None:
        async with working(proxy.url) as worker:
            rule = proxy.next("FLUSH", Fate.REPLY_LOST)
            sent = proxy.seen["FLUSH"]
            assert await worker.count(7) is Answer.ALREADY
            assert answers(rule.replies) == [Answer.OK]
            assert proxy.seen["FLUSH"] == sent + 2
            assert await worker.count(7) is Answer.OK
            assert agreed_offset(server.content()) == 14
            claim = proxy.next("CLAIM", Fate.REPLY_LOST)
            assert await worker.begin() == 14
            assert len(claim.replies) == 1
            await recovered(worker, server)

    asyncio.run(story())


def test_a_flush_of_which_nothing_was_heard_may_have_been_written_and_is_sent_again(
    proxied: tuple[RedisProcess, RedisProxy],
) -> None:
    server, proxy = proxied

    async def story() -> None:
        async with working(proxy.url, timeout_s=0.5) as worker:
            rules = [proxy.next("FLUSH", Fate.REPLY_HELD) for _ in range(3)]
            with pytest.raises(StoreError, match="cannot write"):
                await worker.count(7)
            assert [answers(rule.replies) for rule in rules] == [
                [Answer.OK],
                [Answer.ALREADY],
                [Answer.ALREADY],
            ]
            assert agreed_offset(server.content()) == 7
            assert await worker.count(7) is Answer.ALREADY
            for rule in rules:
                rule.release()
            assert await worker.count(7) is Answer.OK
            assert agreed_offset(server.content()) == 14

    asyncio.run(story())


def test_a_command_that_the_network_doubles_counts_once(
    proxied: tuple[RedisProcess, RedisProxy],
) -> None:
    server, proxy = proxied

    async def story() -> None:
        async with working(proxy.url) as worker:
            rule = proxy.next("FLUSH", Fate.TWICE)
            assert await worker.count(7) is Answer.OK
            await rule.answered()
            assert answers(rule.replies) == [Answer.OK, Answer.ALREADY]
            assert agreed_offset(server.content()) == 7
            # A claim that is doubled belongs to nobody; the next one does again.
            claim = proxy.next("CLAIM", Fate.TWICE)
            with pytest.raises(Lost, match="another worker claimed it"):
                await worker.begin()
            await claim.answered()
            await recovered(worker, server)

    asyncio.run(story())


@pytest.mark.parametrize("meanwhile", ["the same worker went on", "another worker took over"])
def test_a_flush_that_lands_after_newer_ones_changes_nothing(
    proxied: tuple[RedisProcess, RedisProxy], meanwhile: str
) -> None:
    server, proxy = proxied

    async def story() -> None:
        async with working(proxy.url, timeout_s=0.5) as worker:
            assert await worker.count(25) is Answer.OK
            late = proxy.next("FLUSH", Fate.HELD)
            # The client gives up on it and sends it again, by another connection.
            assert await worker.count(9) is Answer.OK
            await late.met()
            assert late.replies == []
            if meanwhile == "another worker took over":
                async with working(server.url) as other:
                    assert await other.count(13) is Answer.OK
            else:
                assert await worker.count(13) is Answer.OK
            before = server.content()
            late.release()
            await late.answered()
            fenced = meanwhile == "another worker took over"
            assert answers(late.replies) == [Answer.FENCED if fenced else Answer.CONFLICT]
            assert server.content() == before
            assert agreed_offset(before) == 47

    asyncio.run(story())


def test_a_late_claim_takes_the_partition_for_good_and_its_loser_notices(
    proxied: tuple[RedisProcess, RedisProxy],
) -> None:
    server, proxy = proxied

    async def story() -> None:
        async with opened(proxy.url) as store:
            late = proxy.next("CLAIM", Fate.HELD)
            zombie = Counting(store)
            claiming = asyncio.create_task(zombie.begin())
            await late.met()
            async with working(server.url) as worker:
                assert await worker.count(8) is Answer.OK
                late.release()
                assert await claiming == 8
                assert await worker.count(8) is Answer.FENCED
                await recovered(worker, server)
                assert await zombie.count(8) is Answer.FENCED

    asyncio.run(story())


def test_a_slow_server_is_waited_for_and_a_silent_one_is_an_error(
    proxied: tuple[RedisProcess, RedisProxy],
) -> None:
    server, proxy = proxied

    async def story() -> None:
        async with working(proxy.url, timeout_s=0.5) as worker:
            proxy.delay_s = 0.05
            assert await worker.count(7) is Answer.OK
            proxy.hold()
            with pytest.raises(StoreError, match=f"^{re.escape(KEY)}: cannot write: "):
                await worker.count(7)
            proxy.cut()
            with pytest.raises(StoreError, match=f"^{re.escape(KEY)}: cannot write: "):
                await worker.count(7)
            assert agreed_offset(server.content()) == 7
            proxy.mend()
            assert await worker.count(7) is Answer.OK
            assert agreed_offset(server.content()) == 14

    asyncio.run(story())


def answers(replies: list[bytes]) -> list[Answer]:
    """What Redis said to flushes."""
    return [Answer(reply.split(b"\r\n")[-2].removeprefix(b"+").decode()) for reply in replies]
