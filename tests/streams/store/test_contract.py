"""One contract for the checkpoint store, kept by the one in memory, by two real servers and a
cluster.

State and offset move together or not at all, and only for whoever claimed the partition last.
"""

import asyncio
import itertools
import random
import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.checksums import DamagedError
from streams.store.contract import Answer, Claimed, Lost, OperatorCommand, Store, StoreUnfitError
from tests.support.counting import (
    KEY,
    NOTHING,
    PARTITION,
    Counting,
    agreed_offset,
    counts,
    snapshot,
)
from tests.support.redis_servers import KINDS
from tests.support.store_places import PLACES, Memory, Server, opened_place

Story = Callable[..., Awaitable[Any]]


@pytest.fixture(scope="module", params=PLACES)
def kept_in(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Memory | Server]:
    with opened_place(request.param, tmp_path_factory.mktemp(request.param)) as opened:
        yield opened


@pytest.fixture
def place(kept_in: Memory | Server) -> Memory | Server:
    """Where the store is, with nothing in it."""
    kept_in.empty()
    return kept_in


@pytest.fixture
def run(place: Memory | Server) -> Callable[[Story], Any]:
    """Run a story of one or two workers' stores."""

    def told(story: Story) -> Any:
        async def whole() -> Any:
            async with place.opened() as one, place.opened() as two:
                stores = (one, two)[: story.__code__.co_argcount]
                return await story(*stores)

        return asyncio.run(whole())

    return told


def epoch(claim: Claimed) -> int:
    return int(claim.owner.split(":")[0])


# --- claim and load -------------------------------------------------------------------------------


def test_the_first_claim_finds_nothing_and_begins_at_offset_0(
    run: Callable[[Story], Any], place: Memory | Server
) -> None:
    async def story(store: Store) -> None:
        claim = await store.claim(PARTITION)
        assert (claim.key, claim.stored.offset, dict(claim.stored.fields)) == (KEY, 0, {})
        assert place.content() == {b"owner": claim.owner.encode()}

    run(story)
    assert place.claimed() == {PARTITION}


def test_each_claim_has_a_higher_epoch_and_finds_what_was_written(
    run: Callable[[Story], Any],
) -> None:
    async def story(one: Store, two: Store) -> None:
        first = await one.claim(PARTITION)
        assert await one.flush(first, snapshot(0, 7)) is Answer.OK
        second = await two.claim(PARTITION)
        assert (epoch(first), epoch(second)) == (1, 2)
        assert second.stored.offset == 7
        assert second.stored.fields == NOTHING
        assert await two.load(second, list(counts(7))) == counts(7)

    run(story)


def test_whoever_lost_the_partition_can_neither_read_nor_write(
    run: Callable[[Story], Any], place: Memory | Server
) -> None:
    async def story(one: Store, two: Store) -> None:
        first = await one.claim(PARTITION)
        assert await one.flush(first, snapshot(0, 7)) is Answer.OK
        await two.claim(PARTITION)
        before = place.content()
        assert await one.flush(first, snapshot(7, 9)) is Answer.FENCED
        # Not even the very flush that was written before: it must not pass for a success.
        assert await one.flush(first, snapshot(0, 7)) is Answer.FENCED
        with pytest.raises(Lost, match=f"^{re.escape(KEY)}: another worker claimed it"):
            await one.load(first, ["s:10:1"])
        with pytest.raises(Lost, match="another worker claimed it"):
            await one.look(first, ["s:10:1"])
        assert place.content() == before

    run(story)


def test_a_state_with_a_field_missing_is_lost_not_half_loaded(
    run: Callable[[Story], Any], place: Memory | Server
) -> None:
    async def story(store: Store) -> None:
        claim = await store.claim(PARTITION)
        assert await store.flush(claim, snapshot(0, 7)) is Answer.OK
        place.lose("s:10:1")
        with pytest.raises(DamagedError, match=r"s:10:1: is missing"):
            await store.load(claim, ["s:10:0", "s:10:1"])
        # Whoever only looks is told what there is.
        told = await store.look(claim, ["offset", "s:10:0", "s:10:1"])
        assert told == {"offset": b"7", "s:10:0": b"2"}
        place.lose("totals")
        damage = (await store.claim(PARTITION)).stored.damage
        assert str(damage) == "totals: is missing"

    run(story)


# --- flush ----------------------------------------------------------------------------------------


def test_a_flush_moves_the_offset_and_the_slices_together(
    run: Callable[[Story], Any], place: Memory | Server
) -> None:
    async def story(store: Store) -> Claimed:
        claim = await store.claim(PARTITION)
        first = snapshot(0, 5, {"a": b"1", "b": b"1"})
        assert await store.flush(claim, first) is Answer.OK
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
    assert place.content() == {name.encode(): value for name, value in expected.items()}


def test_the_same_flush_sent_again_changes_nothing(
    run: Callable[[Story], Any], place: Memory | Server
) -> None:
    async def story(store: Store) -> None:
        claim = await store.claim(PARTITION)
        assert await store.flush(claim, snapshot(0, 5)) is Answer.OK
        before = place.content()
        assert await store.flush(claim, snapshot(0, 5)) is Answer.ALREADY
        assert place.content() == before

    run(story)


@pytest.mark.parametrize("from_offset", [0, 4, 6])
def test_a_flush_that_builds_on_another_offset_is_a_conflict(
    run: Callable[[Story], Any], place: Memory | Server, from_offset: int
) -> None:
    # The store was set back, or a flush comes late: what memory holds is not what it adds to.
    async def story(store: Store) -> None:
        claim = await store.claim(PARTITION)
        assert await store.flush(claim, snapshot(0, 5)) is Answer.OK
        before = place.content()
        late = snapshot(from_offset, 9, {"s:10:1": b"2"}, deletes=("meta",))
        assert await store.flush(claim, late) is Answer.CONFLICT
        assert place.content() == before

    run(story)


def test_a_state_that_vanished_is_not_written_on(
    run: Callable[[Story], Any], place: Memory | Server
) -> None:
    async def story(store: Store) -> None:
        claim = await store.claim(PARTITION)
        assert await store.flush(claim, snapshot(0, 5)) is Answer.OK
        place.lose_all()
        assert await store.flush(claim, snapshot(5, 6)) is Answer.FENCED
        assert place.content() == {}
        again = await store.claim(PARTITION)
        assert (epoch(again), again.stored.offset, dict(again.stored.fields)) == (1, 0, {})
        # The epochs are the same once more: only the token tells the two owners apart.
        assert await store.flush(claim, snapshot(0, 6)) is Answer.FENCED

    run(story)


def test_thousands_of_fields_are_written_and_deleted_in_one_flush(
    run: Callable[[Story], Any], place: Memory | Server
) -> None:
    many = {f"s:10:{number}": b"%d" % number for number in range(9_001)}
    fresh = {f"s:60:{number}": b"y" for number in range(8_500)}

    async def story(store: Store) -> None:
        claim = await store.claim(PARTITION)
        assert await store.flush(claim, snapshot(0, 1, many)) is Answer.OK
        assert await store.load(claim, list(many)) == many
        second = snapshot(1, 2, fresh, deletes=tuple(many))
        assert await store.flush(claim, second) is Answer.OK
        assert await store.load(claim, list(fresh)) == fresh

    run(story)
    fields = {name.decode() for name in place.content()}
    assert fields == {*NOTHING, *fresh, "owner", "offset", "flush"}


END = 210


def test_two_workers_that_take_the_partition_from_each_other_count_every_record_once(
    run: Callable[[Story], Any], place: Memory | Server
) -> None:
    dice = random.Random(7)
    taken: list[int] = []  # first offset of every flush that was taken

    async def turns(most: int) -> None:
        for _ in range(dice.randrange(most)):
            await asyncio.sleep(0)

    async def work(store: Store) -> None:
        worker = Counting(store)
        for attempt in range(1_000):
            # Longer each time: on a busy machine both would else always lose to each other.
            await asyncio.sleep(dice.random() * min(attempt, 100) / 1_000)
            await turns(20)
            with suppress(Lost):  # claimed away between claim and load
                await worker.begin()
                while worker.offset < END:
                    await turns(4)
                    from_offset = worker.offset
                    if await worker.count(7) is not Answer.OK:
                        break
                    taken.append(from_offset)
                    if len(taken) % 3 == 0:
                        break  # claim again, as after a rebalance
                else:
                    return
        raise AssertionError("never its turn")

    async def story(one: Store, two: Store) -> None:
        await asyncio.gather(work(one), work(two))

    run(story)
    assert taken == list(range(0, END, 7))
    assert agreed_offset(place.content()) == END


# --- pulse, orders, settings ----------------------------------------------------------------------


def test_a_sign_of_life_is_answered_with_the_last_order_and_with_nothing_of_older_ones(
    run: Callable[[Story], Any], place: Memory | Server
) -> None:
    move = OperatorCommand("1", "move", 70, "unreadable", "ann@host")
    resume = OperatorCommand("2", "resume", None, "mended: é", "bob@host")
    set_back = OperatorCommand("3", "set-watermark", 1_700_000_000_000, "clocks", "ann@host", 7)

    async def story(store: Store) -> None:
        assert await store.send_heartbeat(PARTITION, {"at_ms": 1}) is None
        await place.order(move)
        assert await store.send_heartbeat(PARTITION + 1, {"at_ms": 1}) is None
        assert [await store.send_heartbeat(PARTITION, {"at_ms": 2}) for _ in range(2)] == [
            move,
            move,
        ]
        await place.order(resume)
        assert await store.send_heartbeat(PARTITION, {"at_ms": 3}) == resume
        await place.order(set_back)
        assert await store.send_heartbeat(PARTITION, {"at_ms": 4}) == set_back

    run(story)


def test_a_store_that_may_throw_state_away_is_found_out(
    run: Callable[[Story], Any], place: Memory | Server
) -> None:
    async def story(store: Store) -> None:
        await store.check()
        place.set_policy("volatile-ttl")
        with pytest.raises(
            StoreUnfitError, match=r"maxmemory-policy is volatile-ttl, which .*CONFIG SET"
        ):
            await store.check()
        place.set_policy("noeviction")
        await store.check()

    run(story)


# --- any calls in any order -----------------------------------------------------------------------

OFFSETS = st.integers(0, 4)
NAMES = st.sampled_from([*NOTHING, "a", "b", "c"])
READABLE = st.lists(NAMES | st.just("offset"), min_size=1, max_size=3, unique=True)
CALLS = st.one_of(
    st.tuples(st.just("claim"), st.integers(0, 1)),
    st.tuples(
        st.just("flush"),
        st.integers(0, 3),  # by the owner so many claims ago
        OFFSETS | st.just(None),  # from; None: the stored one
        OFFSETS,
        st.dictionaries(NAMES, st.binary(max_size=3), max_size=3).map(
            lambda fields: {**fields, **NOTHING}
        ),
        st.lists(NAMES, max_size=3, unique=True),
        st.integers(0, 5),
    ),
    st.tuples(st.just("resend"), st.integers(0, 3)),
    st.tuples(
        st.sampled_from(["load", "look"]),
        st.integers(0, 3),
        st.lists(NAMES, min_size=1, max_size=3),
    ),
    st.tuples(st.just("lose all")),
)


async def told(place: Memory | Server, calls: list[Any]) -> list[Any]:
    """What a sequence of calls is answered and leaves behind, owners named by their number."""
    owners: list[str] = []

    def named(text: str) -> str:
        for number, owner in enumerate(owners):
            text = text.replace(owner, f"owner {number}")
        return text

    answers: list[Any] = []
    async with place.opened() as one, place.opened() as two:
        claims: list[tuple[Store, Claimed]] = []
        sent: list[tuple[Store, Claimed, Any]] = []

        async def answer(call: str, *arguments: Any) -> Any:
            if call == "lose all":
                return place.lose_all()
            if call == "claim":
                store = (one, two)[arguments[0]]
                claim = await store.claim(PARTITION)
                owners.append(claim.owner)
                claims.append((store, claim))
                return epoch(claim), claim.stored.offset, dict(claim.stored.fields)
            if not claims or (call == "resend" and not sent):
                return "nobody's turn"
            if call == "resend":
                store, claim, what = sent[-1 - arguments[0] % len(sent)]
                return await store.flush(claim, what)
            store, claim = claims[-1 - arguments[0] % len(claims)]
            if call in ("load", "look"):
                return await getattr(store, call)(claim, arguments[1])
            _, start, end, fields, deletes, sequence = arguments
            if start is None:
                start = int(place.content().get(b"offset", 0))
            what = snapshot(start, end, fields, tuple(deletes), sequence)
            sent.append((store, claim, what))
            return await store.flush(claim, what)

        for call in calls:
            try:
                answers.append(await answer(*call))
            except (Lost, DamagedError) as error:
                answers.append(str(error))
            content = place.content().items()
            answers.append({name: named(value.decode("latin-1")) for name, value in content})
    return answers


@pytest.mark.parametrize("kept_in", KINDS, indirect=True)
@given(calls=st.lists(CALLS, min_size=4, max_size=25))
def test_any_calls_are_answered_alike_by_the_store_in_memory(
    kept_in: Memory | Server, calls: list[Any]
) -> None:
    kept_in.empty()
    first = asyncio.run(told(kept_in, calls))
    for number, (mine, its) in enumerate(
        itertools.zip_longest(asyncio.run(told(Memory(), calls)), first)
    ):
        assert mine == its, f"after call {number // 2}"
