"""Dollars of the prompt cache as exported, against a plain recount of the raw events."""

import asyncio
import random
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest

from exporters.server.collector import Collector
from streams.config.settings import Settings
from streams.store.servers.client import connect
from tests.support.exporter_state import (
    NOW_S,
    Samples,
    StateWriter,
    named,
    number,
    parsed,
    samples_of,
    some_events,
    token_of,
    value,
    write_state,
)
from tests.support.paths import TESTS
from tests.support.script_stack import StackOfScripts
from tests.support.two_clocks import right_clock

BOOK = str(TESTS / "prices" / "models.yaml")
SAVED, LOST, UNPRICED = (
    f"tokenpulse_window_{name}" for name in ("cache_saved_usd", "cache_lost_usd", "unpriced_tokens")
)
# model -> (USD a token, read ratio, write ratio, tiers), as in the book; sonnet has none
PRICES = {
    "opus": ("0.00001537", "0.13", "1.37", {"priority": "1.71", "batch": "0.5"}),
    "haiku": ("0.0000008", "0.25", "1", {}),
}
TARGET = Fraction(2, 5)  # where the default policy's best in class begins


def priced_events(seed: int, count: int, from_s: int, to_s: int) -> list[dict[str, Any]]:
    """Events in several tiers; hit rates on both sides of the target, some failures and probes.

    The cached tokens of every fifth request are unknown.
    """
    chance = random.Random(seed)
    events = some_events(seed, count, from_s, to_s)
    for one in events:
        share = {"opus": 0.3, "sonnet": 0.5, "haiku": 0.6}[one["model"]]
        one["service_tier"] = chance.choice(["standard", "priority", "batch"])
        one["cached_input_tokens"] = int(one["input_tokens"] * share * chance.uniform(0.5, 1.5))
        one["cache_write_tokens"] = min(
            one["input_tokens"], chance.choice([0, 0, chance.randint(1, 2_000)])
        )
        if chance.random() < 0.2:
            one["cached_input_tokens"] = None
    return events


def worth(one: dict[str, Any], with_tier: bool) -> Fraction:
    price, read, _, tiers = PRICES[one["model"]]
    factor = tiers.get(one["service_tier"], "1") if with_tier else "1"
    return Fraction(price) * Fraction(factor) * (1 - Fraction(read))


def recounted(
    events: list[dict[str, Any]], with_tier: bool = True
) -> tuple[Fraction, Fraction, int]:
    """(saved, lost, unpriced), event by event."""
    saved = lost = Fraction(0)
    for model in PRICES:
        mine = [one for one in events if one["model"] == model]
        for one in mine:
            saved += (one["cached_input_tokens"] or 0) * worth(one, with_tier)
            price, _, write, tiers = PRICES[model]
            factor = tiers.get(one["service_tier"], "1") if with_tier else "1"
            extra = Fraction(price) * Fraction(factor) * (Fraction(write) - 1)
            saved -= one["cache_write_tokens"] * extra
        known = [one for one in mine if one["cached_input_tokens"] is not None]
        tokens = sum(one["input_tokens"] for one in known)
        cached = sum(one["cached_input_tokens"] for one in known)
        if tokens:
            mean = sum(one["input_tokens"] * worth(one, with_tier) for one in known) / tokens
            lost += max(0, TARGET * tokens - cached) * mean
    unpriced = sum(one["input_tokens"] for one in events if one["model"] not in PRICES)
    return saved, lost, unpriced


def check(
    samples: Samples,
    labels: dict[str, str],
    events: list[dict[str, Any]],
    with_tier: bool = True,
) -> None:
    saved, lost, _ = recounted(events, with_tier)
    priced = any(
        one["model"] in PRICES and one["cached_input_tokens"] is not None for one in events
    )
    if not priced:
        assert value(samples, SAVED, **labels) is None
        assert value(samples, LOST, **labels) is None
        return
    assert value(samples, SAVED, **labels) == pytest.approx(float(saved), rel=1e-15)
    assert value(samples, LOST, **labels) == pytest.approx(float(lost), rel=1e-15)


def test_dollars_of_windows_that_roll_on_equal_a_recount_at_every_export(
    configured: Callable[..., Any],
) -> None:
    settings = configured(
        windows=["1m", "5m", "30m"], customer_windows=["1m", "30m"], price_book=BOOK
    )
    begin_s, minutes = NOW_S - 2_400, 40
    events = priced_events(11, 900, begin_s, NOW_S)

    async def run() -> None:
        writer = StateWriter(settings)
        client = connect(settings.redis.url, 5)
        collector = Collector(settings, client, {})
        for minute in range(1, minutes + 1):
            at_s = begin_s + 60 * minute
            for partition in range(2):
                batch = events[partition::2]
                batch = [one for one in batch if at_s - 60 <= one["ended_at"] / 1_000 < at_s]
                await writer.write(partition, batch)
            if minute % 10 == 0 or minute > 34:
                page = (await collector.collect(right_clock(at_s))).page
                samples = parsed(page.text(openmetrics=False))
                check_windows(samples, [one for one in events if one["ended_at"] / 1_000 < at_s])
        await writer.close()
        await client.aclose()

    asyncio.run(run())


def check_windows(samples: Samples, counted: list[dict[str, Any]]) -> None:
    for window in ("1m", "5m", "30m"):
        from_s = number(samples, "tokenpulse_window_start_timestamp_seconds", window=window)
        inside = [
            one for one in counted if one["ended_at"] / 1_000 >= from_s and not one.get("probe")
        ]
        fleet = {"scope": "fleet", "window": window}
        check(samples, fleet, inside)
        assert value(samples, UNPRICED, **fleet) == recounted(inside)[2]
        for model in ("opus", "sonnet", "haiku"):
            mine = [one for one in inside if one["model"] == model]
            labels = {"scope": "model", "window": window, "model": model}
            check(samples, labels, mine)
            unpriced = recounted(mine)[2] or None
            assert value(samples, UNPRICED, **labels) == unpriced
        for customer in ("acme", "globex", "initech", "hooli") if window != "5m" else ():
            mine = [one for one in inside if one["customer_id"] == customer]
            labels = {"scope": "customer", "window": window, "customer": token_of(customer)}
            check(samples, labels, mine, with_tier=False)


def test_without_a_price_book_there_are_no_dollars(configured: Callable[..., Any]) -> None:
    settings = configured()
    write_state(settings, {0: priced_events(1, 50, NOW_S - 100, NOW_S)})
    samples = samples_of(settings)
    assert value(samples, "tokenpulse_window_input_tokens", scope="fleet", window="5m")
    assert not any(named(samples, name) for name in (SAVED, LOST, UNPRICED))


def test_without_a_target_nothing_is_said_to_be_lost(configured: Callable[..., Any]) -> None:
    # sla-only policies have no cache hit objective
    contract = str(TESTS / "policies" / "contract.yaml")
    settings = configured(price_book=BOOK, policies=[contract])
    write_state(settings, {0: priced_events(1, 50, NOW_S - 100, NOW_S)})
    samples = samples_of(settings)
    assert named(samples, SAVED)
    assert not named(samples, LOST)


def test_dollars_change_no_other_sample(configured: Callable[..., Any]) -> None:
    events = priced_events(4, 200, NOW_S - 600, NOW_S)
    write_state(configured(), {0: events})
    plain, priced = samples_of(configured()), samples_of(configured(price_book=BOOK))
    own = {SAVED, LOST, UNPRICED}
    assert {key: one for key, one in priced.items() if key[0] not in own} == plain


@pytest.mark.parametrize(
    ("simulate", "asked", "book"),
    [(True, {}, "simulated"), (True, {"price_book": BOOK}, BOOK), (False, {}, None)],
)
def test_simulated_traffic_has_its_prices_by_itself(
    simulate: bool, asked: dict[str, str], book: str | None
) -> None:
    settings = Settings(exporter={"port": 0, **asked})
    with StackOfScripts(settings, workers=1, exporter=True, simulate=simulate) as stack:
        assert stack.settings.exporter.price_book == book
