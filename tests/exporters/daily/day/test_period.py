"""The month to date, the objectives and the segments of a day's board."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from exporters.daily.day.counts import Counts
from exporters.daily.day.metrics import NOT_LISTED, segments_of
from exporters.metrics.objectives import engine_for
from exporters.reference.customers import Customer, Customers
from slo.engine.report import credits
from slo.policy.loading import load_policies
from streams.events.decoder import ELIGIBLE
from streams.store.reader import StateReader
from tests.support.checks import not_none
from tests.support.daily_state import DAY_S, HOUR_S, World, at, recount, some_traffic
from tests.support.exporter_state import event
from tests.support.policy_files import acme_contract
from tests.support.steady_days import DIRECTORY, MIDNIGHT, steady


def test_the_month_to_date_ends_with_the_boards_day(in_world: Callable[..., Any]) -> None:
    async def use(world: World) -> None:
        for number in range(-12, 3):
            await world.add(0, steady(number, count=20))
        await world.add(0, [event(MIDNIGHT + 3 * DAY_S + 60)])  # of the running day
        now_s = MIDNIGHT + 3 * DAY_S + 120
        facts = await world.builder().facts(now_s)
        assert (facts.month, facts.date) == ("2026-11", "2026-11-12")
        expected = recount(world.within(at("2026-11-01 00:00"), MIDNIGHT + 3 * DAY_S))
        assert facts.month_to_date.requests == expected["requests"]
        assert facts.month_to_date.tokens.value == expected["tokens"]
        october = await world.builder().facts(now_s, "2026-10-31")
        expected = recount(world.within(0, at("2026-11-01 00:00")))
        assert october.month_to_date.requests == expected["requests"]
        running = await world.builder().facts(now_s, "2026-11-13")
        expected = recount(world.within(at("2026-11-01 00:00"), now_s))
        assert running.month_to_date.requests == expected["requests"]

    in_world(use)


def test_a_zone_of_half_hours_has_its_month_and_causes_from_sealed_days(
    in_world: Callable[..., Any],
) -> None:
    zone = "Asia/Kolkata"

    async def use(world: World) -> None:
        begin = at("2026-11-01 00:00", zone)
        builder = world.builder()
        for number in range(9):
            start = begin + number * DAY_S
            await world.add(0, some_traffic(number, 40, start, start + DAY_S, ttft_ms=100))
            await world.tell(start + DAY_S + 4.2 * HOUR_S)
            await builder.facts(start + DAY_S + 4.2 * HOUR_S)
        start += DAY_S
        slow = some_traffic(99, 40, start, start + DAY_S, ttft_ms=100)
        for one in slow:
            if one["region"] == "eu":
                one["ttft_ms"], one["duration_ms"] = 900, one["duration_ms"] + 900
        await world.add(0, slow)
        await world.tell(start + DAY_S + 4.2 * HOUR_S)
        facts = await world.builder().facts(start + DAY_S + 4.2 * HOUR_S)
        counted = world.within(0, start + DAY_S)
        expected = recount(counted)
        assert facts.month_to_date.requests == expected["requests"]
        assert facts.month_to_date.availability_ratio.value == expected["availability_ratio"]
        assert facts.month_to_date.ttft_p95_s.samples == sum(
            one["outcome"] == "success" and not one.get("probe") for one in counted
        )
        [cause] = [one for one in facts.causes if one.metric == "ttft_p95_s"]
        assert (cause.dimension, cause.name) == ("region", "eu")
        # Two days later none of it can be counted from slices any more.
        later = await world.builder().facts(start + 3 * DAY_S, facts.date)
        assert later.day == facts.day
        assert later.month_to_date == facts.month_to_date
        assert "not known" not in later.trust

    in_world(use, zone=zone)


def acme_policy(tmp_path: Path) -> str:
    file = tmp_path / "acme.yaml"
    eu = {
        "name": "eu",
        "scope": {"region": ["eu", "us"]},
        "indicator": {"kind": "request_ratio"},
        "target": "90%",
        "period": {"rolling_days": 30},
    }
    file.write_text(yaml.safe_dump(acme_contract(eu)))
    return str(file)


def test_objectives_stand_as_at_the_end_of_the_boards_day(
    in_world: Callable[..., Any], tmp_path: Path
) -> None:
    async def use(world: World) -> None:
        for number in range(3):
            await world.add(0, some_traffic(number, 200, *stretch(number)))
        end_s = MIDNIGHT + 2 * DAY_S
        facts = await world.builder(**DIRECTORY).facts(end_s + DAY_S, "2026-11-11")
        mine = [
            one
            for one in world.within(0, end_s)
            if one["customer_id"] == "acme" and one["outcome"] in ELIGIBLE and not one.get("probe")
        ]
        good = sum(one["outcome"] == "success" for one in mine)
        first, second = facts.risks
        assert (first.policy, first.objective, first.scope) == ("acme", "uptime", "customer Acme")
        assert second.scope == "region eu or us"
        assert first.attained_ratio == good / len(mine)
        assert first.budget_left_ratio == pytest.approx(1 - (1 - good / len(mine)) / 0.001)
        assert first.credit_due == "1,000.00 USD"
        assert first.credit_projected == "1,000.00 USD"
        assert not_none(first.budget_left_ratio) < not_none(second.budget_left_ratio)
        assert not first.adjusted

    def stretch(number: int) -> tuple[int, int]:
        return MIDNIGHT + number * DAY_S, MIDNIGHT + (number + 1) * DAY_S

    in_world(use, policies=[acme_policy(tmp_path)])


def test_objectives_of_the_running_day_are_those_of_the_engine_and_nothing_is_written(
    in_world: Callable[..., Any], tmp_path: Path
) -> None:
    async def use(world: World) -> None:
        await world.add(0, steady(0))
        now_s = MIDNIGHT + 23.9 * HOUR_S
        facts = await world.builder(**DIRECTORY).facts(now_s, "2026-11-10")
        policies = load_policies(world.settings.exporter.policies)
        engine = engine_for(world.settings, policies, world.client)
        kafka = world.settings.kafka
        reader = StateReader(world.client, kafka.group, kafka.topic)
        found = not_none(await engine.refresh(await reader.snapshot(), now_s, keep=False))
        due = credits(found, lambda one: one.status.attainment.ratio, Customers(DIRECTORY).fee_of)
        by_name = {one.objective: one for one in facts.risks}
        for one in found:
            risk = by_name[one.objective.name]
            assert risk.attained_ratio == float(not_none(one.status.attainment.ratio))
            assert risk.budget_left_ratio == float(not_none(one.status.budget_left))
            assert (risk.credit_due is None) == (one.key not in due)
        assert await world.client.keys("*ledger*") == []
        assert await world.stored() == {}

    in_world(use, policies=[acme_policy(tmp_path)])


def test_segments_are_those_of_the_directory_and_the_rest_has_a_name(
    in_world: Callable[..., Any],
) -> None:
    async def use(world: World) -> None:
        await world.add(0, some_traffic(5, 90, MIDNIGHT, MIDNIGHT + DAY_S))
        facts = await world.builder(**DIRECTORY).facts(MIDNIGHT + DAY_S)
        found = {one.name: one for one in facts.segments}
        assert set(found) == {"enterprise", "smb", NOT_LISTED}
        assert facts.segments[-1].name == NOT_LISTED
        for segment, customer in (
            ("enterprise", "acme"),
            ("smb", "globex"),
            (NOT_LISTED, "initech"),
        ):
            real = [
                one
                for one in world.events
                if one["customer_id"] == customer and not one.get("probe")
            ]
            expected = recount(real)
            assert found[segment].customers == 1
            assert found[segment].requests == expected["requests"]
            assert found[segment].tokens == expected["tokens"]
            assert found[segment].availability_ratio == expected["availability_ratio"]
            assert found[segment].cache_hit_ratio == expected["cache_hit_ratio"]
        assert (await world.builder().facts(MIDNIGHT + DAY_S)).segments == ()

    in_world(use)


def test_customers_of_one_segment_are_added_up() -> None:
    customers = {name: Customer(name, "smb") for name in ("a", "b")}
    counts = {name: Counts(requests=2, eligible=2, successes=1) for name in ("a", "b")}
    [found] = segments_of(counts, customers)
    assert (found.customers, found.requests, found.availability_ratio) == (2, 4, 0.5)
