"""Keys that the workers may not have counted: what an objective then counts, and what it says."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest

from slo.engine.minute_status import Attainment
from slo.engine.report import instant
from slo.policy.loading import load_policy
from tests.support.engine_world import (
    MINUTES,
    NOON,
    World,
    judge,
    policy,
)
from tests.support.exporter_state import (
    event,
)

LONG_OR_SHORT = [
    event(NOON + at, input_tokens=tokens, cached_input_tokens=0, outcome=outcome)
    for at, (tokens, outcome) in enumerate(
        [(900, "success"), (1_000, "overloaded"), (1_001, "overloaded"), (9_000, "success")] * 3
        + [(None, "overloaded"), (None, "success")]
    )
]


def test_objectives_by_input_length_count_unknown_lengths_and_exclude_only_known_ones(
    in_world: Callable[..., Any],
) -> None:
    exclusion = {"where": {"input_tokens": {"above": 1_000}}, "author": "a", "reason": "b"}

    async def use(world: World) -> None:
        world.restart_workers(input_token_limits=[1_000, 5_000])
        of = policy(
            {"scope": {"input_tokens": {"at_most": 1_000}}},
            {"scope": {"input_tokens": {"above": 1_000, "at_most": 5_000}}},
            {"exclusions": [exclusion]},
            {"scope": {"per": "model", "input_tokens": {"above": 5_000}}},
            {},
        )
        await world.add(0, LONG_OR_SHORT)
        found = await judge(world.engine(of), NOON + 60)
        attained = {key: one.status.attainment for key, one in found.items()}
        assert attained == {
            ("o0", ""): Attainment(Fraction(4), 8),
            ("o1", ""): Attainment(Fraction(1), 5),
            ("o2", ""): Attainment(Fraction(4), 8),
            ("o3", "opus"): Attainment(Fraction(4), 5),
            ("o4", ""): Attainment(Fraction(7), 14),
        }

    in_world(use)


def test_the_provider_answers_for_its_attempts_and_for_some_client_errors(
    in_world: Callable[..., Any],
) -> None:
    openrouter = load_policy("openrouter").objectives[0].indicator.model_dump(by_alias=True)
    ratio = {"kind": "request_ratio"}
    refused = [
        event(NOON + at, status_code=status, outcome=None, final=final, channel=channel)
        for channel, final in (("a", True), ("b", False))
        for at, status in enumerate((400, 401, 402, 403, 404, 413, 429, 500))
    ]
    answered = [event(NOON + at, channel=channel) for at in (10, 11) for channel in "ab"]
    broken = event(NOON + 12, channel="a", ending="error_finish")
    # An attempt at a check, which the provider's availability counts as checks.
    probe = event(NOON + 13, channel="b", probe=True, final=False, outcome="timeout")

    async def use(world: World) -> None:
        of = policy(
            {"scope": {"per": "channel"}, "indicator": {**openrouter, "min_samples": 1}},
            {"scope": {"per": "channel"}, "indicator": ratio},
            {"scope": {"per": "channel"}, "indicator": ratio | {"view": "provider"}},
            {
                "indicator": ratio
                | {"eligible": ["success", "client_error"], "failed": []}
                | {"error_classes": ["auth"]}
            },
        )
        await world.add(0, [*refused, *answered, broken, probe])
        found = await judge(world.engine(of), NOON + 60)
        attained = {key: one.status.attainment for key, one in found.items()}
        assert attained == {
            ("o0", "a"): Attainment(Fraction(2), 7),  # 401, 402, 404, 500 and the broken answer
            ("o0", "b"): Attainment(Fraction(2), 6),
            ("o1", "a"): Attainment(Fraction(2), 4),
            ("o1", "b"): Attainment(Fraction(2), 2),
            ("o2", "a"): Attainment(Fraction(2), 4),
            ("o2", "b"): Attainment(Fraction(2), 4),
            ("o3", ""): Attainment(Fraction(9), 10),  # of 400, 401, 402, 403, 404, 413
        }

    in_world(use)


def test_no_provider_answers_for_a_response_cache(in_world: Callable[..., Any]) -> None:
    ratio = {"kind": "request_ratio", "view": "provider"}
    events = [
        *(event(NOON + at, channel="a", served_from="response_cache") for at in range(4)),
        event(NOON + 5, channel="a", outcome="timeout"),
        event(NOON + 6, channel="a"),
        event(NOON + 7, channel="b", served_from="response_cache"),
        event(NOON + 8, channel="b", served_from="response_cache", customer_id="globex"),
    ]

    async def use(world: World) -> None:
        of = policy(
            {"scope": {"per": "channel"}, "indicator": ratio},
            {"scope": {"per": "customer"}, "indicator": ratio},
            {"indicator": ratio | {"view": "customer"}},
        )
        await world.add(0, events)
        found = await judge(world.engine(of), NOON + 60)
        attained = {key: one.status.attainment.counted for key, one in found.items()}
        token = next(name for objective, name in found if objective == "o1")
        assert attained == {("o0", "a"): 2, ("o1", token): 2, ("o2", ""): 8}
        assert found["o0", "a"].status.attainment == Attainment(Fraction(1), 2)
        assert found["o1", token].status.attainment == Attainment(Fraction(1), 2)

    in_world(use)


def test_client_errors_of_probes_count_as_their_objective_says(
    in_world: Callable[..., Any],
) -> None:
    missing = {"kind": "request_ratio", "error_classes": ["not_found"]}
    probes = [
        event(NOON + at, probe=True, outcome=None, status_code=status, final=final)
        for at, (status, final) in enumerate([(200, True), (404, True), (404, False), (401, True)])
    ]

    async def use(world: World) -> None:
        of = policy(
            {"indicator": missing},
            {"indicator": missing | {"view": "provider"}},
            {"indicator": missing | {"view": "provider", "probes": False}},
        )
        await world.add(0, [*probes, event(NOON + 9)])
        found = await judge(world.engine(of), NOON + 60)
        attained = {key: one.status.attainment for key, one in found.items()}
        assert attained == {
            ("o0", ""): Attainment(Fraction(2), 3),
            ("o1", ""): Attainment(Fraction(2), 4),
            ("o2", ""): Attainment(Fraction(1), 1),
        }

    in_world(use)


@pytest.mark.parametrize("waiting", [{"highwater": 3}, {"halted": "unreadable"}])
def test_no_minute_is_known_while_a_partition_with_records_has_no_state(
    in_world: Callable[..., Any], waiting: dict[str, Any]
) -> None:
    async def use(world: World) -> None:
        await world.add(0, [event(NOON), event(NOON + 180)])
        engine = world.engine(policy({"indicator": MINUTES}))
        await world.writer.send_heartbeat(1, NOON + 180, **{"highwater": 0} | waiting)
        found = await judge(engine, NOON + 300)
        assert found["o0", ""].status.attainment == Attainment(Fraction(0), 0)
        # The worker has no record of it: an empty partition hides nothing.
        await world.writer.send_heartbeat(1, NOON + 200, highwater=0)
        found = await judge(engine, NOON + 300)
        assert found["o0", ""].status.attainment == Attainment(Fraction(1), 1)

    in_world(use)


def test_objectives_by_requested_tier_count_downgraded_requests(
    in_world: Callable[..., Any],
) -> None:
    async def use(world: World) -> None:
        of = policy({"scope": {"requested_service_tier": "priority"}}, {})
        asked = {"requested_service_tier": "priority"}
        events = [
            event(NOON, service_tier="priority"),
            event(NOON + 1, **asked, outcome="overloaded"),
            event(NOON + 2, **asked),
            event(NOON + 3),
        ]
        await world.add(0, events)
        found = await judge(world.engine(of), NOON + 60)
        assert found["o0", ""].status.attainment == Attainment(Fraction(2), 3)
        assert found["o1", ""].status.attainment == Attainment(Fraction(3), 4)

    in_world(use)


def test_an_unknown_objective_says_which_limit_is_not_counted(in_world: Callable[..., Any]) -> None:
    async def use(world: World) -> None:
        indicator = {"kind": "latency_ratio", "measure": "ttft"}
        of = policy(
            {"indicator": indicator | {"limit": "123ms"}},
            {"indicator": indicator | {"limit": "300ms"}},
            {"indicator": indicator | {"limit": "123ms"}, "scope": {"model": "none"}},
            {"indicator": indicator | {"limit": "123ms"}, "scope": {"per": "model"}},
            {"indicator": indicator | {"limit": "300ms"}, "scope": {"per": "model"}},
        )
        await world.add(0, [event(NOON, ttft_ms=100), event(NOON + 60, ttft_ms=900)])
        engine = world.engine(of)
        found = await judge(engine, NOON + 300)
        unknown = found["o0", ""].status.unknown
        assert unknown is not None
        assert unknown.code == "limit_not_counted"
        assert "ttft within 123ms" in unknown.words
        assert instant(NOON // 60)[11:16] in unknown.words
        assert unknown.words.endswith("add 0.123 to worker.ttft_targets_s")
        assert found["o1", ""].status.unknown is None
        assert engine.counted_from(found["o1", ""]) == NOON // 60
        assert engine.counted_from(found["o2", ""]) is None
        unknown = found["o2", ""].status.unknown
        assert unknown is not None
        assert unknown.code == "no_requests"
        # Objectives per model have no model yet, and still their reason.
        assert ("o3", "") not in found
        [without] = engine.results_without_names(NOON + 300)
        assert (without.objective.name, without.scope(str)) == ("o3", {})
        assert without.status.unknown is not None
        assert without.status.unknown.code == "limit_not_counted"

    in_world(use)


def test_minutes_whose_lengths_were_not_counted_are_unknown_and_never_up(
    in_world: Callable[..., Any],
) -> None:
    async def use(world: World) -> None:
        up = {"indicator": MINUTES | {"unknown": "up"}}
        of = policy(up | {"scope": {"input_tokens": {"at_most": 1_000}}}, up)
        await world.add(0, [event(NOON), event(NOON + 60)])
        world.restart_workers(input_token_limits=[2_000])
        await world.add(0, [event(NOON + 120), event(NOON + 150, input_tokens=2_001)])
        world.restart_workers(input_token_limits=[1_000])
        await world.add(0, [event(NOON + 180), event(NOON + 200), event(NOON + 250)])
        engine = world.engine(of)
        found = await judge(engine, NOON + 300)
        assert found["o0", ""].status.attainment == Attainment(Fraction(1), 1)
        assert found["o1", ""].status.attainment == Attainment(Fraction(4), 4)
        (kept, _) = engine._kept
        assert kept.gaps.input_length == (NOON // 60, NOON // 60 + 2)

    in_world(use)
