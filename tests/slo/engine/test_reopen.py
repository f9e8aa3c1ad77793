"""Closed periods that an operator opens again: kept with author and reason, and closed anew."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest

from slo.engine.maintenance import SEAL_AFTER_S, ClosedPeriod, ReopenedPeriod
from slo.engine.minute_status import Attainment
from tests.support.engine_world import NOON, World, judge, policy
from tests.support.exporter_state import event

DAY_S = 86_400
OVER_S = NOON + DAY_S // 2 + SEAL_AFTER_S


def test_a_reopened_period_is_packed_exactly() -> None:
    before = ClosedPeriod(0, 1_440, Fraction(10**30, 3), 2**60, 90_000, ("m-1",))
    one = ReopenedPeriod(before, 100_000, "jo", "the clock was two minutes ahead")
    assert ReopenedPeriod.unpack(one.pack()) == one
    with pytest.raises(ValueError, match="author and a reason"):
        ReopenedPeriod(before, 100_000, " ", "why")


def test_a_reopened_period_is_closed_from_its_present_counts_and_the_former_result_stays(
    in_world: Callable[..., Any],
) -> None:
    of = policy({})
    begin = (NOON // DAY_S) * DAY_S // 60

    async def use(world: World) -> None:
        engine = world.engine(of)
        await world.add(0, [event(NOON), event(OVER_S)])
        [first] = (await judge(engine, OVER_S))["o0", ""].closed
        # Events that came after it was closed stand beside it.
        await world.add(0, [event(NOON + 60, outcome="overloaded"), event(OVER_S + 70)])
        found = (await judge(engine, OVER_S + 70))["o0", ""]
        assert found.closed == (first,)
        assert [change.now for change in found.adjustments] == [Attainment(Fraction(1), 2)]
        ledger = engine._kept[0].selection.id
        assert await world.store.reopen(ledger, begin, OVER_S + 80, "jo", "closed early") == 1
        assert await world.store.reopen(ledger, begin, OVER_S + 81, "jo", "twice") == 0
        # Once by an exporter that closed it itself, and for ever by any other.
        reopened = ReopenedPeriod(first, OVER_S + 80, "jo", "closed early")
        for exporter in (engine, world.engine(of), world.engine(of)):
            found = (await judge(exporter, OVER_S + 140))["o0", ""]
            assert found.reopened == (reopened,)
            assert [one.attainment for one in found.closed] == [Attainment(Fraction(1), 2)]
            assert found.adjustments == ()

    in_world(use)


def test_an_earlier_period_than_the_last_one_is_closed_again_too(
    in_world: Callable[..., Any],
) -> None:
    async def use(world: World) -> None:
        engine = world.engine(policy({}))
        for day in range(4):
            await world.add(0, [event(NOON + day * DAY_S), event(OVER_S + day * DAY_S)])
            closed = (await judge(engine, OVER_S + day * DAY_S))["o0", ""].closed
        first = closed[-1]
        ledger, now_s = engine._kept[0].selection.id, OVER_S + 3 * DAY_S
        assert await world.store.reopen(ledger, first.begin, now_s, "jo", "closed early") == 1
        found = (await judge(engine, now_s + 60))["o0", ""]
        assert [one.begin for one in found.closed] == [one.begin for one in closed]
        assert found.closed[-1].closed_at_s > first.closed_at_s

    in_world(use)
