"""The whole daily board, from events in a real Redis."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Never

import pytest
import yaml
from redis import Redis

from exporters.daily.build import DailyBoardBuilder
from exporters.daily.day.counts import Counts
from exporters.daily.day.facts import METRICS
from exporters.daily.day.metrics import NOT_LISTED, segments_of
from exporters.daily.render.view import view_of
from exporters.metrics.objectives import engine_for
from exporters.reference.customers import Customer, Customers
from slo.engine.report import credits
from slo.policy.loading import load_policies
from streams.errors import RequestError
from streams.events.decoder import ELIGIBLE
from streams.store.contract import StoreError
from streams.store.reader import StateReader
from tests.support.checks import not_none
from tests.support.daily_state import DAY_S, HOUR_S, World, at, recount, some_traffic
from tests.support.daily_state import day_of as on
from tests.support.daily_state import in_world as world_runner
from tests.support.exporter_state import event, token_of
from tests.support.servers import RedisServer

MIDNIGHT = at("2026-11-10 00:00")
DIRECTORY = {
    token_of("acme"): Customer("Acme", "enterprise", None, 10_000),
    token_of("globex"): Customer("Globex", "smb"),
}


@pytest.fixture
def in_world(redis_server: RedisServer, redis_client: Redis) -> Callable[..., Any]:
    return world_runner(redis_server)


def steady(number: int, count: int = 60, **changes: Any) -> list[dict[str, Any]]:
    """A day's traffic that differs from other days' only by chance, and little."""
    start = MIDNIGHT + number * DAY_S
    step = DAY_S / count
    return [
        event(
            start + at * step,
            model=("large", "small")[at % 2],
            region=("eu", "us", "ap")[at % 3],
            customer_id=("acme", "globex", "initech")[at % 3],
            ttft_ms=100 + at % 50,
            duration_ms=1_100 + at % 50,
        )
        | changes
        for at in range(count)
    ]


# -- which day -------------------------------------------------------------------------------------


def test_where_nothing_was_ever_counted_there_is_no_board(in_world: Callable[..., Any]) -> None:
    async def use(world: World) -> None:
        assert await DailyBoardBuilder.facts(world.builder(), MIDNIGHT) is None
        await world.writer.send_heartbeat(0, MIDNIGHT)  # claimed, but nothing counted
        assert await DailyBoardBuilder.facts(world.builder(), MIDNIGHT) is None

    in_world(use)


def test_the_board_is_about_the_last_closed_day_or_the_one_asked_for(
    in_world: Callable[..., Any],
) -> None:
    async def use(world: World) -> None:
        for number in range(3):
            await world.add(0, steady(number))
        now_s = MIDNIGHT + 2 * DAY_S + 12 * HOUR_S
        builder = world.builder()
        facts = await builder.facts(now_s)
        assert facts.date == facts.day.date == "2026-11-11"
        assert len(facts.days) == 31
        assert [day.date for day in facts.days[-3:]] == ["2026-11-10", "2026-11-11", "2026-11-12"]
        assert facts.days[-1].state == "running"
        running = await builder.facts(now_s, "2026-11-12")
        assert running.day == facts.days[-1]
        assert running.days == facts.days
        earlier = await builder.facts(now_s, "2026-11-10")
        assert earlier.day == on(facts, "2026-11-10")
        assert [day.date for day in earlier.days[-2:]] == ["2026-11-10", "2026-11-12"]

    in_world(use)


def test_on_the_first_day_of_all_the_board_is_about_that_day(in_world: Callable[..., Any]) -> None:
    async def use(world: World) -> None:
        await world.add(0, steady(0)[:30])
        facts = await world.builder().facts(MIDNIGHT + 13 * HOUR_S)
        assert (facts.date, facts.day.state) == ("2026-11-10", "running")
        view = view_of(facts)
        assert view.previous is None  # there is no board of the days before
        assert [day.date for day in view.days if day.linked] == ["2026-11-10"]
        facts = await world.builder().facts(MIDNIGHT + DAY_S + HOUR_S)
        assert (facts.date, facts.day.state) == ("2026-11-10", "provisional")

    in_world(use)


@pytest.mark.parametrize(
    ("date", "cure"),
    [
        ("2026-11-13", "lies in the future; the running day is 2026-11-12"),
        ("2026-11-09", "no data is stored of 2026-11-09; the first day is 2026-11-10"),
        ("yesterday", "got 'yesterday'; write a day as YYYY-MM-DD"),
        ("2026-02-30", "got '2026-02-30'; write a day as YYYY-MM-DD"),
    ],
)
def test_a_day_that_is_not_known_is_an_error_with_its_cure(
    in_world: Callable[..., Any], date: str, cure: str
) -> None:
    async def use(world: World) -> None:
        for number in range(3):
            await world.add(0, steady(number))
        with pytest.raises(RequestError, match=f"^date: .*{cure}"):
            await world.builder().facts(MIDNIGHT + 2 * DAY_S + HOUR_S, date)

    in_world(use)


def test_a_day_without_an_event_is_absent_and_no_zero(in_world: Callable[..., Any]) -> None:
    async def use(world: World) -> None:
        await world.add(0, steady(0))
        await world.add(0, steady(2))
        facts = await world.builder().facts(MIDNIGHT + 2 * DAY_S + 23 * HOUR_S)
        assert facts.date == "2026-11-11"
        assert facts.day.state == "absent"
        assert all(getattr(facts.day.values, metric).value is None for metric in METRICS)
        assert facts.headline == "Wednesday 11 November 2026: no event was counted."
        assert facts.causes == ()

    in_world(use)


# -- what is said ----------------------------------------------------------------------------------


def test_a_bad_day_is_told_with_what_made_it_bad(in_world: Callable[..., Any]) -> None:
    # Four calm weeks; then large in eu fails for a day, and small is as always.
    async def use(world: World) -> None:
        for number in range(28):
            await world.add(number % 2, steady(number))
        bad = steady(28)
        for one in bad:
            if one["model"] == "large":
                one["ttft_ms"] += 400
                one["duration_ms"] += 400
        await world.add(0, bad)
        end_s = MIDNIGHT + 29 * DAY_S
        await world.tell(end_s + 5 * HOUR_S, 0, 1)
        facts = await world.builder(**DIRECTORY).facts(end_s + 5 * HOUR_S)
        assert facts.headline.startswith("Tuesday 8 December 2026: P95 TTFT at 5")
        assert facts.headline.endswith("missed its target; 4 of 5 targets met.")
        [cause] = facts.causes
        assert (cause.metric, cause.dimension, cause.name) == ("ttft_p95_s", "model", "large")
        assert cause.mix == 0
        assert cause.rate == pytest.approx(0.4, rel=0.02)
        assert cause.words.startswith("P95 TTFT rose by ")
        assert "model large added 398 ms, all by rate (its own P95 TTFT rose from" in cause.words
        found = {one.metric: one for one in facts.trends}
        assert found["ttft_p95_s"].better is False
        assert found["ttft_p95_s"].change_28d == pytest.approx(0.4, rel=0.02)
        assert found["tokens"].change_28d == 0
        assert found["tokens"].better is None
        # As it was explained when it was sealed, it is told for ever.
        await world.add(0, [event(end_s + 6 * HOUR_S)])
        later = await world.builder().facts(end_s + 2 * DAY_S, "2026-12-08")
        assert later.causes == facts.causes
        assert later.segments == facts.segments != ()

    in_world(use)


def test_a_calm_day_has_no_cause(in_world: Callable[..., Any]) -> None:
    async def use(world: World) -> None:
        for number in range(9):
            await world.add(0, steady(number))
        facts = await world.builder().facts(MIDNIGHT + 9 * DAY_S)
        assert facts.causes == ()
        assert "all 5 targets met" in facts.headline
        assert "best in class" in facts.headline

    in_world(use)


def test_the_running_day_is_told_as_such(in_world: Callable[..., Any]) -> None:
    async def use(world: World) -> None:
        await world.add(0, [one for one in steady(0) if one["ended_at"] < 1e3 * (MIDNIGHT + 7_200)])
        facts = await world.builder().facts(MIDNIGHT + 7_200, "2026-11-10")
        assert facts.headline.startswith("Tuesday 10 November 2026 so far: ")
        assert facts.trust == (
            "Running: the day is not over, the numbers reach to 2026-11-10 02:00; "
            "no records are known to be missing."
        )

    in_world(use)


def test_the_board_is_plain_data(in_world: Callable[..., Any]) -> None:
    async def use(world: World) -> None:
        for number in range(3):
            await world.add(0, steady(number))
        facts = await world.builder(**DIRECTORY).facts(MIDNIGHT + 3 * DAY_S)
        assert json.loads(json.dumps(asdict(facts)))["date"] == "2026-11-12"

    in_world(use)


# -- month, objectives, segments -------------------------------------------------------------------


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
    file.write_text(
        yaml.safe_dump(
            {
                "version": 1,
                "name": "acme",
                "objectives": [
                    {
                        "name": "uptime",
                        "scope": {"customer": "acme"},
                        "indicator": {"kind": "request_ratio"},
                        "target": "99.9%",
                        "period": {"calendar": "month"},
                        "sla": {"credit_tiers": [{"below": "99.9%", "credit": "10%"}]},
                    },
                    {
                        "name": "eu",
                        "scope": {"region": ["eu", "us"]},
                        "indicator": {"kind": "request_ratio"},
                        "target": "90%",
                        "period": {"rolling_days": 30},
                    },
                ],
            }
        )
    )
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


# -- trouble ---------------------------------------------------------------------------------------


def test_a_silent_redis_is_an_error_and_its_return_is_read_anew(
    in_world: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def use(world: World) -> None:
        await world.add(0, steady(0))
        builder = world.builder()
        before = await builder.facts(MIDNIGHT + DAY_S)
        with monkeypatch.context() as broken:
            broken.setattr(builder._source._reader, "_client", None)
            broken.setattr(builder._source._reader._reader, "_redis", Broken())
            with pytest.raises(StoreError):
                await builder.facts(MIDNIGHT + DAY_S)
        builder._source._reader.forget()
        assert await builder.facts(MIDNIGHT + DAY_S) == before

    in_world(use)


class Broken:
    async def smembers(self, key: str) -> Never:
        raise OSError("connection lost")


def test_a_state_that_was_lost_and_counted_again_is_not_mixed_with_the_old_one(
    in_world: Callable[..., Any],
) -> None:
    async def use(world: World) -> None:
        await world.add(0, steady(0)[:30])
        await world.add(0, steady(0)[30:])
        builder = world.builder()
        assert (await builder.facts(MIDNIGHT + DAY_S)).day.values.requests == 60
        await world.client.flushdb()
        await world.writer.close()
        again = type(world)(world.settings.redis.url)
        await again.add(0, steady(0, count=7))
        facts = await builder.facts(MIDNIGHT + DAY_S)
        assert facts.day.values.requests == 7
        await again.close()

    in_world(use)


def test_many_askers_at_once_get_the_same_board(in_world: Callable[..., Any]) -> None:
    async def use(world: World) -> None:
        for number in range(3):
            await world.add(0, steady(number))
        builder, now_s = world.builder(), MIDNIGHT + 3 * DAY_S + 5 * HOUR_S
        await world.tell(now_s)
        dates = [None, "2026-11-10", "2026-11-11", None, "2026-11-13"]
        boards = await asyncio.gather(*(builder.facts(now_s, date) for date in dates))
        alone = [await world.builder().facts(now_s, date) for date in dates]
        assert boards == alone

    in_world(use)


def test_askers_wait_for_each_other_as_they_share_what_was_read(
    in_world: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def use(world: World) -> None:
        builder = world.builder()
        inside: list[int] = []
        most: list[int] = []

        async def reading(now_s: int, asked: None) -> None:
            inside.append(1)
            await asyncio.sleep(0)
            most.append(len(inside))
            inside.pop()

        monkeypatch.setattr(builder, "_facts", reading)
        await asyncio.gather(*(DailyBoardBuilder.facts(builder, MIDNIGHT) for _ in range(5)))
        assert max(most) == 1

    in_world(use)
