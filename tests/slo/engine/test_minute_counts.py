"""The minute_counts of minutes: any order, any number of writers, exact to the event."""

import asyncio
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies._internal.random import ArtificialRandom
from redis import Redis

from slo.engine.counting import RequestSelection
from slo.engine.maintenance import ClosedPeriod
from slo.engine.minute_count_store import MinuteCountStore
from slo.engine.minute_counts import BLOCK, DAY, Completeness, MinuteCounts
from slo.policy.loading import as_policy
from streams.store.contract import StoreError
from streams.store.servers.client import connect

FIRST = 20_000  # a day
BEGIN = FIRST * DAY
pairs = st.integers(0, 50).flatmap(lambda total: st.tuples(st.just(total), st.integers(0, total)))


def minute_counts(days: int = 2) -> MinuteCounts:
    return MinuteCounts(FIRST, days)


def added_up(minutes: list[tuple[int, int]]) -> tuple[int, int]:
    return sum(total for total, _ in minutes), sum(bad for _, bad in minutes)


def sums(found: MinuteCounts, name: str = "") -> tuple[int, int]:
    span = found.span(name, found.begin, found.end)
    total, bad = span.counts.sum(axis=0) + span.rest.sum(axis=0)
    return int(total), int(bad)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9)), min_size=1), st.randoms())
def test_counts_that_only_rise_come_to_the_same_in_any_order(
    added: list[tuple[int, int]], chance: ArtificialRandom
) -> None:
    history: list[tuple[int, tuple[int, int]]] = []
    at: Counter[int] = Counter()
    for minute, more in added:
        at[minute] += more
        history.append((minute, (at[minute], 0)))
    shuffled = chance.sample(history, len(history))
    for order in (history, shuffled, history + shuffled):
        found = minute_counts()
        for minute, pair in order:
            found.count(BEGIN + minute, {"": pair})
        assert sums(found) == (sum(at.values()), 0)


@settings(deadline=None)
@given(st.lists(pairs, min_size=60, max_size=60), st.sets(st.integers(0, 59)))
def test_minutes_that_nobody_read_come_back_through_coarser_slices(
    minutes: list[tuple[int, int]], read: set[int]
) -> None:
    found = minute_counts()
    for minute in read:
        found.count(BEGIN + minute, {"": minutes[minute]})
    for block in range(0, 60, BLOCK):
        part = minutes[block : block + BLOCK]
        found.reconcile(BEGIN + block, BLOCK, {"": added_up(part)})
    hour = added_up(minutes)
    for _ in range(2):  # reading it again changes nothing
        found.reconcile(BEGIN, 60, {"": hour})
        assert sums(found) == hour


def test_a_stretch_that_knows_less_than_its_minutes_takes_nothing_away() -> None:
    found = minute_counts()
    found.count(BEGIN, {"": (7, 3)})
    found.reconcile(BEGIN, BLOCK, {"": (5, 5)})
    assert sums(found) == (7, 3)


def test_a_minute_of_which_records_are_missing_is_never_whole_again() -> None:
    found = minute_counts()
    found.see(BEGIN, BEGIN + 3)
    found.lose(BEGIN + 1, BEGIN + 2)
    found.see(BEGIN, BEGIN + 3)
    assert found.seen[:4].tolist() == [
        Completeness.WHOLE,
        Completeness.PARTLY,
        Completeness.WHOLE,
        Completeness.NO,
    ]


@settings(deadline=None)
@given(st.dictionaries(st.integers(0, 2 * DAY - 1), pairs, max_size=40))
def test_what_was_stored_is_read_back_as_it_was(minutes: dict[int, tuple[int, int]]) -> None:
    found = minute_counts()
    for minute, pair in minutes.items():
        found.count(BEGIN + minute, {"eu": pair})
    found.reconcile(BEGIN, 60, {"eu": (4_000, 1)})
    found.see(BEGIN + 10, BEGIN + DAY + 10)
    again = minute_counts()
    for name, day in found.dirty:
        again.unpack(name, day, found.pack(name, day))
    assert np.array_equal(again.seen, found.seen)
    assert np.array_equal(again.rows["eu"].counts, found.rows["eu"].counts)
    assert np.array_equal(again.rows["eu"].rest, found.rows["eu"].rest)


def test_a_ledger_moves_on_and_forgets_the_days_before() -> None:
    found = minute_counts()
    found.count(BEGIN + 1, {"": (1, 0), "old": (1, 0)})
    found.count(BEGIN + DAY + 1, {"": (2, 1)})
    found.see(BEGIN, BEGIN + DAY + 2)
    found.move(FIRST + 1)
    assert found.begin == BEGIN + DAY
    assert list(found.rows) == [""]
    assert sums(found) == (2, 1)
    assert found.seen[:3].tolist() == [1, 1, 0]
    found.move(FIRST + 100)
    assert not found.rows
    assert not found.seen.any()


# -- which requests ----------------------------------------------------------------------------


def selection(**objective: object) -> RequestSelection:
    policy = as_policy(
        {
            "version": 1,
            "name": "p",
            "objectives": [
                {
                    "name": "o",
                    "indicator": {"kind": "request_ratio"},
                    "target": "99.9%",
                    "period": {"rolling_days": 30},
                }
                | objective
            ],
        },
        "test",
    )
    [selected] = policy.error_budget_objectives()
    return RequestSelection(policy, selected, lambda customer: f"hash of {customer}", {"batch"})


def test_another_promise_begins_another_ledger_and_another_target_does_not() -> None:
    base = selection().id
    assert selection(target="99%", about="other words", severity="none").id == base
    assert selection(period={"rolling_days": 7}).id == base
    others = [
        selection(indicator={"kind": "request_ratio", "probes": False}).id,
        selection(indicator={"kind": "request_ratio", "min_samples": 2}).id,
        selection(scope={"model": "a"}).id,
        selection(scope={"per": "model"}).id,
        selection(exclusions=[{"where": {"model": "a"}, "author": "x", "reason": "y"}]).id,
    ]
    assert len({base, *others}) == 6
    maintenance = {"from": "2026-01-01T00:00Z", "to": "2026-01-01T01:00Z"}
    assert selection(exclusions=[maintenance | {"author": "x", "reason": "y"}]).id == base


# -- stored ------------------------------------------------------------------------------------


def test_a_writer_that_knows_less_leaves_what_is_there(store_of: Callable[..., Any]) -> None:
    async def use(store: MinuteCountStore) -> None:
        rich, poor = minute_counts(), minute_counts()
        rich.count(BEGIN, {"": (9, 0)})
        poor.count(BEGIN, {"": (4, 0)})
        day = ("c", "", FIRST)
        assert await store.write("o", {0: (0, 5), 1: (0, 5)}, {day: rich.pack("", FIRST)}, {})
        assert (
            await store.write("o", {0: (0, 4), 1: (0, 9)}, {day: poor.pack("", FIRST)}, {}) is None
        )
        assert await store.write("o", {0: (0, 9)}, {day: poor.pack("", FIRST)}, {}) is None
        found = minute_counts()
        await store.fill("o", found)
        assert sums(found) == (9, 0)
        # A state that was built again counts its checkpoints anew.
        assert await store.write("o", {0: (1, 1), 1: (0, 5)}, {day: poor.pack("", FIRST)}, {})

    store_of(use)


def test_a_closed_period_stays_as_it_was_closed(store_of: Callable[..., Any]) -> None:
    async def use(store: MinuteCountStore) -> None:
        first = ClosedPeriod(BEGIN, BEGIN + DAY, Fraction(10**30, 7), 5, 100, ("m1",))
        second = ClosedPeriod(BEGIN, BEGIN + DAY, Fraction(1), 5, 200, ())
        for closed_period in (first, second):
            assert await store.write("o", {}, {}, {("eu:x", BEGIN): closed_period})
        assert (await store.head("o")).closed_periods == {("eu:x", BEGIN): first}

    store_of(use)


def test_ledgers_go_long_after_they_were_last_written(
    store_of: Callable[..., Any], redis_client: Redis
) -> None:
    async def use(store: MinuteCountStore) -> None:
        await store.write(
            "o", {0: (0, 1)}, {("s", None, FIRST): minute_counts().pack(None, FIRST)}, {}
        )

    store_of(use)
    keys = redis_client.keys("*")
    assert sorted(keys) == [b"tp:{g:t}:ledger:o", b"tp:{g:t}:ledger:o:2024-10"]
    assert all(redis_client.ttl(key) > 400 * 86_400 for key in keys)


def test_a_store_that_does_not_answer_is_said_in_one_line(unused_port: int) -> None:
    async def use() -> None:
        client = connect(f"redis://127.0.0.1:{unused_port}/0", 1)
        try:
            store = MinuteCountStore(client, "g", "t")
            for call in (store.head("o"), store.windows(), store.write("o", {}, {}, {})):
                with pytest.raises(StoreError, match="cannot"):
                    await call
        finally:
            await client.aclose()

    asyncio.run(use())
