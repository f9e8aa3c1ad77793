"""What a source is expected to send while it is silent, and its history in Redis."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from streams.store.contract import StoreError
from streams.store.keys import Keys
from streams.store.servers.client import connect
from streams.store.source_counts import (
    DAY_S,
    DECLARED,
    EVENTS,
    KEEP_S,
    SLOT_S,
    UNREAD_SPANS,
    WEEK_S,
    PendingCounts,
    SourceCount,
    SourceHistory,
    slot_of,
)
from streams.store.source_store import SourceStore
from tests.support.servers import RedisServer
from tests.support.source_history import history_of, sent, steady

NOW_S = 1_700_006_400  # the start of a slot, and of an hour
HOUR_S = 3_600
PER_SLOT = 60


def steady_until(last_s: float, since_s: float) -> PendingCounts:
    pending = PendingCounts()
    steady(pending, "gateway", since_s, last_s, PER_SLOT)
    return pending


# -- what is expected ------------------------------------------------------------------------------


@given(st.integers(10, DAY_S))
def test_a_steady_source_is_expected_to_send_at_its_own_rate(silence_s: int) -> None:
    last_s = NOW_S - silence_s
    pending = PendingCounts()
    for slot in range(slot_of(NOW_S - WEEK_S - DAY_S), NOW_S, SLOT_S):
        if slot + SLOT_S <= last_s:
            pending.add(sent("gateway", PER_SLOT), slot)
    pending.add(sent("gateway", 1), last_s)
    expected = history_of(pending).expected_events("gateway", NOW_S)
    assert expected == pytest.approx(silence_s / SLOT_S * PER_SLOT, abs=PER_SLOT + 1)


def test_while_events_arrive_hardly_any_is_expected() -> None:
    history = history_of(steady_until(NOW_S, NOW_S - 3 * DAY_S))
    expected = history.expected_events("gateway", NOW_S)
    assert expected is not None
    assert expected < 1


def test_a_source_that_sends_by_day_only_is_expected_to_be_silent_at_night() -> None:
    pending = PendingCounts()
    midnight_s = NOW_S
    for day in range(1, 9):
        evening_s = midnight_s - day * DAY_S + 20 * HOUR_S
        steady(pending, "gateway", evening_s - 12 * HOUR_S, evening_s, PER_SLOT)
    history = history_of(pending)
    assert history.expected_events("gateway", midnight_s) == pytest.approx(0, abs=1)
    # In the morning it is due.
    expected = history.expected_events("gateway", midnight_s + 9 * HOUR_S)
    assert expected == pytest.approx(6 * PER_SLOT, abs=1)


def test_a_source_that_is_silent_on_this_day_of_the_week_is_expected_to_be_so_again() -> None:
    friday_s = NOW_S - WEEK_S - HOUR_S
    weekend = steady_until(friday_s, friday_s - DAY_S + 2 * HOUR_S)
    # It returned two days later, and has sent until half an hour ago.
    steady(weekend, "gateway", friday_s + 2 * DAY_S, NOW_S - 1_800, PER_SLOT)
    assert history_of(weekend).expected_events("gateway", NOW_S) == pytest.approx(0, abs=1)


def test_on_its_first_day_a_source_is_expected_at_its_mean_rate_after_an_hour_of_silence() -> None:
    last_s = NOW_S - 3 * HOUR_S
    young = history_of(steady_until(last_s, last_s - 5 * HOUR_S))
    assert young.expected_events("gateway", last_s + HOUR_S - SLOT_S) is None
    expected = young.expected_events("gateway", NOW_S)
    assert expected == pytest.approx(18 * PER_SLOT, 0.05)
    # Then the day before it is known, and in the end it is taken as removed.
    removed = young.expected_events("gateway", last_s + 2 * DAY_S + HOUR_S)
    assert removed == pytest.approx(0, abs=1)


def test_a_source_that_sent_for_less_than_an_hour_or_never_is_not_expected() -> None:
    tried = history_of(steady_until(NOW_S - 3 * HOUR_S, NOW_S - 4 * HOUR_S + SLOT_S))
    assert tried.expected_events("gateway", NOW_S) is None
    assert tried.expected_events("another", NOW_S) is None


def test_sources_that_were_named_and_sent_nothing_are_never_seen() -> None:
    pending = steady_until(NOW_S, NOW_S - HOUR_S)
    for at_s in range(NOW_S - HOUR_S, NOW_S, 60):
        pending.declare(("gateway", "batch"), at_s)
    pending.declare(("removed",), NOW_S - 2 * HOUR_S)
    history = history_of(pending)
    assert history.never_seen(NOW_S) == ["batch"]
    # Once in each slot, however often an intake reports.
    assert history.total(SourceCount(DECLARED, "batch"), HOUR_S, NOW_S - 1) == 6
    pending.declare(("batch",), NOW_S)
    pending.add(sent("batch", 1), NOW_S)
    assert history_of(pending).never_seen(NOW_S) == []


def test_a_source_that_was_removed_is_no_longer_expected_after_two_days() -> None:
    last_s = NOW_S - 2 * DAY_S
    history = history_of(steady_until(last_s, NOW_S - 4 * DAY_S))
    assert history.expected_events("gateway", last_s + DAY_S) == pytest.approx(144 * PER_SLOT, 0.01)
    assert history.expected_events("gateway", NOW_S) == pytest.approx(0, abs=1)


def test_windows_hold_the_present_slot_and_those_before_it() -> None:
    history = history_of(steady_until(NOW_S + 1, NOW_S - DAY_S))
    pending = PendingCounts()
    pending.add(sent("gateway", 7), NOW_S + 5)
    [(slot, report)] = pending.take().items()
    history.put(slot, report.counts)
    what = SourceCount(EVENTS, "gateway")
    assert history.total(what, HOUR_S, NOW_S + 10) == 5 * PER_SLOT + 7
    assert history.since_s(what) == slot_of(NOW_S - DAY_S)


def test_what_is_given_back_is_reported_later_and_too_old_counts_are_dropped() -> None:
    pending = steady_until(NOW_S, NOW_S - HOUR_S)
    pending.add(sent("gateway", 5), NOW_S - KEEP_S - SLOT_S)
    lost = pending.take()
    assert not pending.take()
    pending.add(sent("gateway", 1), NOW_S - 1)
    pending.give_back(lost, NOW_S)
    history = history_of(pending)
    assert history.total(SourceCount(EVENTS, "gateway"), 2 * WEEK_S, NOW_S) == 6 * PER_SLOT + 1


# -- in Redis --------------------------------------------------------------------------------------


def stores(server: RedisServer, use: Callable[[SourceStore, SourceStore], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        clients = [connect(server.url, 5) for _ in range(2)]
        try:
            return await use(*(SourceStore(client, "g", "t") for client in clients))
        finally:
            for client in clients:
                await client.aclose()

    return asyncio.run(run())


def test_all_intakes_add_up_and_a_reader_sees_each_report(
    redis_server: RedisServer, redis_client: redis.Redis
) -> None:
    scope = "net/http|v1"

    async def use(one: SourceStore, two: SourceStore) -> list[tuple[int, int, float | None]]:
        seen = []
        for at_s, store in ((NOW_S - DAY_S, one), (NOW_S - 60, one), (NOW_S - 50, two)):
            pending = PendingCounts()
            counts = sent("gateway", 5) | {SourceCount(UNREAD_SPANS, "gateway", scope): 2}
            pending.add(counts, at_s)
            await store.add(pending.take())
            history: SourceHistory = await two.read(NOW_S)
            seen.append(
                (
                    history.total(SourceCount(EVENTS, "gateway"), WEEK_S, NOW_S),
                    history.total(SourceCount(UNREAD_SPANS, "gateway", scope), HOUR_S, NOW_S),
                    history.last_event_s("gateway"),
                )
            )
            assert history.scopes("gateway") == [scope]
        later = await two.read(NOW_S + KEEP_S + 2 * SLOT_S)
        assert later.sources() == []
        return seen

    assert stores(redis_server, use) == [
        (5, 0, NOW_S - DAY_S),
        (10, 2, NOW_S - 60),
        (15, 4, NOW_S - 50),
    ]
    key = Keys("g", "t").source_counts(slot_of(NOW_S - 60))
    assert 0 < redis_client.ttl(key) <= KEEP_S + SLOT_S


def test_a_redis_that_does_not_answer_is_an_error_of_the_store(unused_port: int) -> None:
    async def use() -> None:
        client = connect(f"redis://127.0.0.1:{unused_port}/0", 1)
        store = SourceStore(client, "g", "t")
        pending = steady_until(NOW_S, NOW_S - HOUR_S)
        with pytest.raises(StoreError, match="cannot write the counts of the sources"):
            await store.add(pending.take())
        with pytest.raises(StoreError, match="cannot read the counts of the sources"):
            await store.read(NOW_S)
        await client.aclose()

    asyncio.run(use())


def shown(history: SourceHistory, now_s: float) -> object:
    """All that a history shows at `now_s`."""
    return {
        source: (
            history.last_event_s(source),
            history.expected_events(source, now_s),
            [
                history.total(SourceCount(EVENTS, source), span_s, now_s)
                for span_s in (HOUR_S, DAY_S, WEEK_S)
            ],
        )
        for source in history.sources()
    }


def test_slots_of_a_version_without_marks_are_read(
    redis_server: RedisServer, redis_client: redis.Redis
) -> None:
    async def use(reader: SourceStore, intake: SourceStore) -> list[int]:
        await intake.add(steady_until(NOW_S, NOW_S - DAY_S).take())
        for day in (NOW_S // DAY_S, NOW_S // DAY_S - 1):
            redis_client.delete(Keys("g", "t").source_changes(day))
        what = SourceCount(EVENTS, "gateway")
        before = (await reader.read(NOW_S)).total(what, DAY_S, NOW_S)
        pending = PendingCounts()
        pending.add(sent("gateway", 1), NOW_S)
        await intake.add(pending.take())
        return [before, (await reader.read(NOW_S)).total(what, DAY_S, NOW_S)]

    before, after = stores(redis_server, use)
    assert before > 100 * PER_SLOT
    assert after == before + 1


@pytest.mark.parametrize("seed", range(4))
def test_a_reader_sees_what_a_new_reader_sees_however_late_counts_are_written(
    redis_server: RedisServer, redis_client: redis.Redis, seed: int
) -> None:
    draw = random.Random(seed)

    async def use(reader: SourceStore, intake: SourceStore) -> None:
        now_s: float = NOW_S
        client = connect(redis_server.url, 5)
        for _ in range(30):
            pending = PendingCounts()
            for _ in range(draw.randint(0, 3)):
                # From beyond the kept time up to a clock that is ahead.
                at_s = now_s - draw.choice((-300, 0, 900, 5_000, DAY_S, KEEP_S, KEEP_S + HOUR_S))
                pending.add(sent(draw.choice("ab"), draw.randint(1, 9)), at_s)
            await intake.add(pending.take())
            if draw.random() < 0.1:  # Redis lost its data
                redis_client.flushdb()
            fresh = SourceStore(client, "g", "t")
            read = shown(await reader.read(now_s), now_s)
            assert read == shown(await fresh.read(now_s), now_s)
            now_s += draw.choice((1, 60, SLOT_S, DAY_S))
        await client.aclose()

    stores(redis_server, use)


def test_only_slots_that_changed_are_read_again(
    redis_server: RedisServer, redis_client: redis.Redis
) -> None:
    async def use(reader: SourceStore, intake: SourceStore) -> list[int]:
        await intake.add(steady_until(NOW_S, NOW_S - DAY_S).take())
        calls = []
        for changed in (0, 0, 2):
            for number in range(changed):
                pending = PendingCounts()
                pending.add(sent("gateway", 1), NOW_S - number * DAY_S / 2)
                await intake.add(pending.take())
            before = redis_client.info("commandstats")["cmdstat_hgetall"]["calls"]
            await reader.read(NOW_S)
            calls.append(redis_client.info("commandstats")["cmdstat_hgetall"]["calls"] - before)
        return calls

    redis_client.hgetall("any")
    first, idle, late = stores(redis_server, use)
    # All kept slots, as those of a version without marks have none.
    assert first - idle == KEEP_S // SLOT_S + 2
    assert late - idle == 2
    assert idle <= (KEEP_S + SLOT_S) // DAY_S + 2  # the marks of each day


def test_the_last_event_of_two_intakes_is_the_later_one_whichever_writes_last(
    redis_server: RedisServer, redis_client: redis.Redis
) -> None:
    async def use(one: SourceStore, two: SourceStore) -> list[float | None]:
        seen = []
        # In one slot: the second intake reports later what it sent before.
        for store, at_s in ((one, NOW_S + 500), (two, NOW_S + 100), (two, NOW_S + 550)):
            pending = PendingCounts()
            pending.add(sent("gateway", 1), at_s)
            await store.add(pending.take())
            history = await two.read(NOW_S + 560)
            seen.append(history.last_event_s("gateway"))
        return seen

    assert stores(redis_server, use) == [NOW_S + 500, NOW_S + 500, NOW_S + 550]


def test_the_last_event_stays_if_a_clock_is_set_back_or_an_older_report_is_given_back(
    redis_server: RedisServer, redis_client: redis.Redis
) -> None:
    async def use(store: SourceStore, _: SourceStore) -> list[float | None]:
        pending, seen = PendingCounts(), []
        for at_s, is_lost in ((NOW_S + 500, False), (NOW_S + 100, False), (NOW_S + 50, True)):
            pending.add(sent("gateway", 1), at_s)
            reports = pending.take()
            if is_lost:
                pending.add(sent("gateway", 1), NOW_S + 510)
                pending.give_back(reports, NOW_S + 520)
                reports = pending.take()
            await store.add(reports)
            seen.append((await store.read(NOW_S + 560)).last_event_s("gateway"))
        return seen

    assert stores(redis_server, use) == [NOW_S + 500, NOW_S + 500, NOW_S + 510]
