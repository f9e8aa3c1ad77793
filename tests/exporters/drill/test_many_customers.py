"""A state with more customers than the steps of the charts keep."""

import asyncio
from collections.abc import Callable

import pytest

from exporters.drill import steps
from exporters.drill.affected import parts_of
from exporters.drill.history import HistoryCache
from exporters.drill.place import Place, place_history
from exporters.drill.ranges import RANGES
from exporters.drill.steps import RangeHistory
from streams.config.settings import Settings
from tests.support.checks import not_none
from tests.support.exporter_state import NOW_S, StateWriter, event, token_of

BUSY, FAILING, SMALL = "busy", "failing", "small-33"


def events() -> list[dict[str, object]]:
    """40 small customers in each of two steps; one with many requests, one with failures."""
    made = []
    for at_s in (NOW_S - 1_800, NOW_S - 60):
        customers = [f"small-{number}" for number in range(40)] + 30 * [BUSY] + 3 * [FAILING]
        made += [
            event(
                at_s,
                request_id=f"{at_s}-{number}",
                customer_id=customer,
                outcome="server_error" if customer == FAILING else "success",
            )
            for number, customer in enumerate(customers)
        ]
    return made


def requests_of(history: RangeHistory, customer: str) -> tuple[int, int]:
    """The requests of a customer in its steps, and the number of steps that are unread."""
    past = place_history(history, Place("customer", token_of(customer)).where)
    return sum(step.measured.requests for step in past.steps), past.unread


def test_a_step_keeps_the_largest_customers_and_those_with_an_open_page(
    configured: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "CUSTOMER_ROWS_MAX", 4)

    async def use() -> None:
        writer = StateWriter(configured())
        await writer.write(0, events())
        await writer.close()
        cache = HistoryCache(configured())
        await cache.read(NOW_S)
        history = not_none(cache.history(RANGES["1h"]))
        assert max(len(step.customers) for step in history.steps) == 2  # both are in each half
        (parts,) = (one for one in parts_of(history, (("model", "opus"),)) if one.is_partial)
        counted = {part.name: (part.requests, part.failed) for part in parts.rows}
        assert counted[token_of(FAILING)] == (6, 6)
        assert counted[token_of(BUSY)] == (60, 0)
        # Steps without all rows of a customer are unread; they are not shown as zero.
        assert requests_of(history, SMALL) == (0, 2)
        cache.ask(RANGES["1h"], token_of(SMALL))
        await cache.read(NOW_S)
        history = not_none(cache.history(RANGES["1h"]))
        assert requests_of(history, SMALL) == (2, 0)
        assert max(len(step.customers) for step in history.steps) == 3

    asyncio.run(use())


def test_few_customers_are_all_kept(configured: Callable[..., Settings]) -> None:
    async def use() -> None:
        writer = StateWriter(configured())
        await writer.write(0, events())
        await writer.close()
        cache = HistoryCache(configured())
        await cache.read(NOW_S)
        history = not_none(cache.history(RANGES["1h"]))
        assert not any(parts.is_partial for parts in parts_of(history, (("model", "opus"),)))
        assert requests_of(history, SMALL) == (2, 0)

    asyncio.run(use())
