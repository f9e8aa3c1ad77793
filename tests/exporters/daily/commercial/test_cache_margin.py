"""Dollars of the cache: a recount of the events, the largest losses first, kept by a final day."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.checks import not_none
from tests.support.daily_state import DAY_S, HOUR_S, World
from tests.support.steady_days import DIRECTORY, MIDNIGHT, steady

BOOK = """
version: 1
models:
  large: {input_usd_per_mtok: 3, cache_read_ratio: 0.1, cache_write_ratio: 1.25}
"""


def test_dollars_are_a_recount_and_stay_as_they_were_finalised(
    in_world: Callable[..., Any], tmp_path: Path
) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text(BOOK)

    async def use(world: World) -> None:
        exporter = world.settings.exporter.model_copy(update={"price_book": str(path)})
        world.settings = world.settings.model_copy(update={"exporter": exporter})
        events = steady(0, count=12, input_tokens=1_000_000, cached_input_tokens=100_000)
        for one in events:
            if one["customer_id"] == "globex":
                one["cached_input_tokens"] = 900_000
        await world.add(0, events)
        end_s = MIDNIGHT + DAY_S
        await world.tell(end_s + 5 * HOUR_S)
        facts = await world.builder(**DIRECTORY).facts(end_s + 5 * HOUR_S)
        margin = not_none(facts.cache)
        assert (facts.day.state, margin.target_ratio) == ("sealed", 0.4)
        large = [one for one in events if one["model"] == "large"]
        rows = {(row.dimension, row.name): row for row in margin.rows}

        def saved(customer: str) -> float:
            """Dollars: 3 for a million tokens, less a tenth."""
            cached: int = sum(
                one["cached_input_tokens"] for one in large if customer in ("", one["customer_id"])
            )
            return cached / 1e6 * 3 * 0.9

        assert rows["fleet", ""].saved_usd == pytest.approx(saved(""))
        assert rows["model", "large"].saved_usd == pytest.approx(saved(""))
        assert rows["customer", "Globex"].saved_usd == pytest.approx(saved("globex"))
        assert rows["customer", "Globex"].lost_usd == 0
        acme = [one for one in large if one["customer_id"] == "acme"]
        assert rows["customer", "Acme"].lost_usd == pytest.approx(len(acme) * 0.3 * 3 * 0.9)
        assert rows["customer", "Acme"].hit_ratio == 0.1
        assert ("model", "small") not in rows  # it has no price
        assert margin.unpriced_tokens == sum(one["input_tokens"] for one in events) // 2
        customers = [row for row in margin.rows if row.dimension == "customer"]
        assert customers == sorted(customers, key=lambda row: -(row.lost_usd or 0))
        # Another price later changes nothing about a final day.
        path.write_text(BOOK.replace("mtok: 3", "mtok: 30"))
        assert (await world.builder(**DIRECTORY).facts(end_s + 6 * HOUR_S, "2026-11-10")).cache == (
            margin
        )

    in_world(use)


def test_without_a_price_book_there_are_no_dollars(in_world: Callable[..., Any]) -> None:
    async def use(world: World) -> None:
        await world.add(0, steady(0))
        assert (await world.builder().facts(MIDNIGHT + DAY_S)).cache is None

    in_world(use)
