"""A verdict on names of which a part may be counted under `__other__` is unknown, never wrong."""

import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

import pytest

from slo.engine.minute_status import Attainment
from slo.policy.reserved import reserved_names
from streams.config.worker import Limits
from streams.state.registry import OTHER, ReservedNames
from tests.support.checks import not_none
from tests.support.engine_world import NOON, World, judge, policy, recount
from tests.support.exporter_state import event, token_of

ONE_MODEL = {"limits": {"models": 1}}
InWorld = Callable[[Callable[[World], Awaitable[None]]], None]

CUSTOMERS = ("acme", "hooli", "globex")
FAILED = {"outcome": "server_error"}
NOW_S = NOON + 120
KEPT = ReservedNames(model=frozenset({"large"}))
OF_PAIR = policy({"scope": {"customer": "acme", "model": "large"}}, {"scope": {"model": "large"}})
BY_MODEL = policy({"scope": {"model": "large"}}, {"scope": {"per": "model"}}, {})


async def half_folded(world: World, reserved: ReservedNames) -> None:
    """100 good requests of a model in one partition, and 100 bad ones in another.

    There a model with another name came first, and the limit is one model.
    """
    world.restart_workers(reserved, **ONE_MODEL)
    await world.add(0, [event(NOON + at / 10, model="large") for at in range(100)])
    await world.add(1, [event(NOON, model="small")])
    await world.add(1, [event(NOON + at / 10, model="large", **FAILED) for at in range(100)])


def test_a_part_of_the_requests_is_no_verdict(in_world: InWorld) -> None:
    async def use(world: World) -> None:
        await half_folded(world, ReservedNames())
        found = await judge(world.engine(BY_MODEL), NOW_S)
        for key in (("o0", ""), ("o1", "large")):
            status = found[key].status
            assert status.attainment.ratio is None
            assert status.burn == {}
            assert not_none(status.unknown).code == "names_folded"
        # The model that came first there is complete, and so is the fleet.
        assert found["o1", "small"].status.attainment == recount(world.events, model="small")
        assert found["o2", ""].status.attainment == recount(world.events)

    in_world(use)


def test_a_running_engine_sees_when_a_name_is_folded(in_world: InWorld) -> None:
    async def use(world: World) -> None:
        world.restart_workers(ReservedNames(), **ONE_MODEL)
        engine = world.engine(BY_MODEL)
        for partition, model in ((0, "large"), (1, "small")):
            await world.add(partition, [event(NOON, model=model)])
            found = await judge(engine, NOW_S)
            assert found["o0", ""].status.attainment == recount(world.events, model="large")
        await world.add(1, [event(NOON + 1, model="large", **FAILED)])
        found = await judge(engine, NOW_S)
        assert not_none(found["o0", ""].status.unknown).code == "names_folded"

    in_world(use)


def test_a_name_that_is_reserved_is_judged(in_world: InWorld) -> None:
    async def use(world: World) -> None:
        await half_folded(world, reserved_names([BY_MODEL]))
        found = await judge(world.engine(BY_MODEL), NOW_S)
        assert found["o0", ""].status.attainment == Attainment(Fraction(100), 200)
        assert found["o1", "large"].status.attainment == Attainment(Fraction(100), 200)
        # The limit of one is used up by the reserved model.
        assert found["o1", OTHER].status.attainment == Attainment(Fraction(1), 1)

    in_world(use)


def test_a_name_that_is_reserved_later_is_judged_from_then_on(in_world: InWorld) -> None:
    async def use(world: World) -> None:
        await half_folded(world, ReservedNames())
        world.restart_workers(KEPT, **ONE_MODEL)
        later_s = NOON + 7_200
        for partition in (0, 1):
            await world.add(partition, [event(later_s + at, model="large") for at in range(30)])
        found = await judge(world.engine(BY_MODEL), later_s + 120)
        status = found["o0", ""].status
        assert status.attainment.ratio is None
        # No bad request of before is in the last hour.
        assert status.burn["1h"] == 0
        assert "6h" not in status.burn
        # A worker that starts again does not forget since when.
        world.restart_workers(KEPT, **ONE_MODEL)
        await world.add(1, [event(later_s + 31, model="large")])
        again = await judge(world.engine(BY_MODEL), later_s + 180)
        assert again["o0", ""].status.burn["1h"] == 0
        assert again["o0", ""].status.attainment.ratio is None

    in_world(use)


def test_an_event_ahead_of_the_watermark_was_folded_too_before_its_name_was_reserved(
    in_world: InWorld,
) -> None:
    async def use(world: World) -> None:
        ahead: dict[str, Any] = {"future_tolerance_s": 3_600, **ONE_MODEL}
        world.restart_workers(**ahead)
        small = [event(NOON, model="small", request_id=f"r{at}") for at in range(20)]
        # A sender whose clock is 50 minutes ahead does not move the watermark.
        await world.writer.write(
            0,
            [*small, event(NOON + 3_000, model="large", **FAILED)],
            NOON + 3_000,
            by_sender=True,
        )
        world.restart_workers(KEPT, **ahead)
        engine = world.engine(BY_MODEL)
        for later_s, is_known in ((NOON + 6_000, False), (NOON + 7_320, True)):
            await world.add(0, [event(later_s - 60 + at, model="large") for at in range(30)])
            status = (await judge(engine, later_s))["o0", ""].status
            assert ("1h" in status.burn) is is_known

    in_world(use)


@pytest.mark.parametrize("is_folded", [False, True])
def test_a_name_whose_policy_was_away_is_judged_if_none_of_its_requests_was_folded(
    in_world: InWorld, is_folded: bool
) -> None:
    async def use(world: World) -> None:
        world.restart_workers(KEPT, **ONE_MODEL)
        await world.add(0, [event(NOON, model="small")])
        # The policy cannot be read for a time.
        world.restart_workers(ReservedNames(), **ONE_MODEL)
        meanwhile = [event(NOON + 1, model="small"), event(NOON + 1, model="large", **FAILED)]
        await world.add(0, meanwhile[: 1 + is_folded])
        world.restart_workers(KEPT, **ONE_MODEL)
        await world.add(0, [event(NOON + 2, model="large")])
        status = (await judge(world.engine(BY_MODEL), NOW_S))["o0", ""].status
        if is_folded:
            assert not_none(status.unknown).code == "names_folded"
        else:
            assert status.attainment == recount(world.events, model="large")

    in_world(use)


def test_a_name_with_a_row_keeps_its_verdict_when_it_is_reserved_after_a_flood(
    in_world: InWorld,
) -> None:
    async def use(world: World) -> None:
        world.restart_workers(limits={"models": 1, "customers": 1})
        known = {"model": "large", "customer_id": "acme"}
        await world.add(0, [event(NOON, **known)])
        flood = [event(NOON, model=f"m{at}", customer_id=f"c{at}") for at in range(9)]
        await world.add(0, flood)
        of = policy({"scope": {"model": "large"}}, {"scope": {"customer": "acme"}})
        world.restart_workers(reserved_names([of]), limits={"models": 1, "customers": 1})
        await world.add(0, [event(NOON + 1, **known, **FAILED)])
        found = await judge(world.engine(of), NOW_S)
        for objective in ("o0", "o1"):
            assert found[objective, ""].status.attainment == Attainment(Fraction(1), 2)

    in_world(use)


def test_a_period_of_which_a_part_is_missing_is_not_closed(in_world: InWorld) -> None:
    async def use(world: World) -> None:
        await half_folded(world, ReservedNames())
        engine = world.engine(BY_MODEL)
        await judge(engine, NOW_S)
        for partition in (0, 1):
            await world.add(partition, [event(NOON + 2 * 86_400, model="small")])
        found = await judge(engine, NOON + 86_400 + 43_200)
        assert found["o0", ""].closed == ()
        assert found["o2", ""].closed != ()

    in_world(use)


@pytest.mark.parametrize("limits", [{"customers": 1}, {"customer_models": 1}])
def test_a_customer_of_whom_a_part_is_missing_is_not_judged(
    in_world: InWorld, limits: dict[str, int]
) -> None:
    async def use(world: World) -> None:
        world.restart_workers(limits=limits)
        await world.add(0, [event(NOON, customer_id="acme", model="m")])
        await world.add(1, [event(NOON, customer_id="hooli", model="m")])
        await world.add(1, [event(NOON, customer_id="acme", model="m", **FAILED)])
        of = policy({"scope": {"customer": "acme", "model": "m"}}, {"scope": {"customer": "hooli"}})
        found = await judge(world.engine(of), NOW_S)
        assert not_none(found["o0", ""].status.unknown).code == "names_folded"
        assert found["o1", ""].status.attainment == recount(world.events, customer_id="hooli")

    in_world(use)


def test_a_requested_tier_of_which_a_part_is_missing_is_not_judged(in_world: InWorld) -> None:
    async def use(world: World) -> None:
        world.restart_workers(limits={"service_tiers": 2})
        # The last one gives the tier a row, which the request before it did not get.
        tiers = [
            ("flex", "scale"),
            ("flex", "batch"),
            ("flex", "priority"),
            ("priority", "priority"),
        ]
        await world.add(
            0,
            [
                event(NOON, service_tier=served, requested_service_tier=requested)
                for served, requested in tiers
            ],
        )
        of = policy({"scope": {"requested_service_tier": "priority"}}, {})
        found = await judge(world.engine(of), NOW_S)
        assert not_none(found["o0", ""].status.unknown).code == "names_folded"
        assert found["o1", ""].status.attainment == Attainment(Fraction(4), 4)

    in_world(use)


def instant(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).isoformat()


HOUR_BEFORE = {"from": instant(NOON - 7_200), "to": instant(NOON - 3_600)}
TOMORROW = {"from": instant(NOON + 86_400), "to": instant(NOON + 90_000)}


@pytest.mark.parametrize(
    ("where", "time", "is_known"),
    [
        ({"model": "canary"}, {}, False),
        ({"model": "small"}, {}, True),
        # Before the hour of the burn rate, and after the counts.
        ({"model": "canary"}, HOUR_BEFORE, True),
        ({"model": "canary"}, TOMORROW, True),
    ],
)
def test_requests_that_an_exclusion_misses_are_no_verdict(
    in_world: InWorld, where: dict[str, str], time: dict[str, str], is_known: bool
) -> None:
    async def use(world: World) -> None:
        world.restart_workers(limits={"models": 1})
        await world.add(0, [event(NOON, model="small")])
        await world.add(0, [event(NOON + at, model="canary", **FAILED) for at in range(50)])
        of = policy({"exclusions": [{"where": where, "author": "ops", "reason": "a test", **time}]})
        status = (await judge(world.engine(of), NOW_S))["o0", ""].status
        assert ("1h" in status.burn) == is_known
        if not is_known:
            assert not_none(status.unknown).code == "names_folded"

    in_world(use)


def test_an_exclusion_of_another_model_takes_no_verdict_away(in_world: InWorld) -> None:
    async def use(world: World) -> None:
        world.restart_workers(limits={"models": 1})
        await world.add(0, [event(NOON, model=model) for model in ("small", "canary", "a")])
        missed = {"where": {"model": "canary"}, "author": "ops", "reason": "a test"}
        of = policy({"scope": {"per": "model"}, "exclusions": [missed]})
        found = await judge(world.engine(of), NOW_S)
        assert found["o0", "small"].status.attainment == recount(world.events, model="small")

    in_world(use)


@pytest.mark.parametrize("reserved", [ReservedNames(), reserved_names([OF_PAIR])])
def test_a_pair_is_no_verdict_on_a_part_if_its_model_is_reserved_later(
    in_world: InWorld, reserved: ReservedNames
) -> None:
    async def use(world: World) -> None:
        limits = {"customer_models": 1}
        first = reserved._replace(model=frozenset())
        world.restart_workers(first, limits=limits)
        await world.add(0, [event(NOON, customer_id="acme", model="small")])
        await world.add(0, [event(NOON, customer_id="acme", model="large", **FAILED)])
        world.restart_workers(reserved_names([OF_PAIR]), limits=limits)
        later = [event(NOON + 7_200 + at, customer_id="acme", model="large") for at in range(9)]
        await world.add(0, later)
        found = await judge(world.engine(OF_PAIR), NOON + 7_320)
        status = found["o0", ""].status
        assert status.attainment.ratio is None
        assert status.burn["1h"] == 0
        # The pair alone was folded; the model has all its requests.
        assert found["o1", ""].status.attainment == recount(world.events, model="large")

    in_world(use)


def random_events(chance: random.Random) -> list[dict[str, Any]]:
    return [
        event(
            NOON + at / 10,
            model=chance.choice("abc"),
            region=chance.choice("xy"),
            customer_id=chance.choice(CUSTOMERS),
            **(FAILED if chance.random() < 0.3 else {}),
        )
        for at in range(40)
    ]


@pytest.mark.parametrize("seed", range(12))
def test_every_verdict_is_unknown_or_right(in_world: InWorld, seed: int) -> None:
    async def use(world: World) -> None:
        chance = random.Random(seed)
        limited = ("models", "regions", "series", "customers", "customer_models")
        most = {name: chance.randint(1, 4) for name in limited}
        assert most.keys() <= Limits.model_fields.keys()
        acme = ReservedNames(customer=frozenset({"acme"}))
        kept = [ReservedNames(), ReservedNames(frozenset("c"), frozenset("y")), acme]
        kept.append(kept[1]._replace(customer=acme.customer))
        for _ in range(3):
            world.restart_workers(chance.choice(kept), limits=most)
            for partition in range(3):
                await world.add(partition, random_events(chance))
        of = policy(
            {"scope": {"per": "model"}},
            {"scope": {"per": "region"}},
            {"scope": {"per": "customer"}},
            {"scope": {"model": "c", "region": "y"}},
            {"scope": {"model": ["a", "b"], "per": "region"}},
            {"scope": {"customer": "acme", "model": "c"}},
        )
        known = 0
        found = await judge(world.engine(of), NOW_S)
        for (objective, name), result in found.items():
            if name == OTHER or result.status.attainment.ratio is None:
                continue
            scopes: list[dict[str, str]] = {
                "o0": [{"model": name}],
                "o1": [{"region": name}],
                "o2": [{"customer_id": one} for one in CUSTOMERS if token_of(one) == name],
                "o3": [{"model": "c", "region": "y"}],
                "o4": [{"model": model, "region": name} for model in "ab"],
                "o5": [{"customer_id": "acme", "model": "c"}],
            }[objective]
            parts = [recount(world.events, **scope) for scope in scopes]
            told = result.status.attainment
            assert told.good == sum(part.good for part in parts)
            assert told.counted == sum(part.counted for part in parts)
            known += 1
        # Two rows of each name, or all verdicts may be unknown.
        assert known or min(most.values()) < 3

    in_world(use)
