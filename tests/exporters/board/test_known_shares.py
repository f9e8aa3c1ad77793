"""The live board if a measure is known for a part of the traffic only."""

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from exporters.board.facts import LiveFacts, LiveState, State
from exporters.board.live.page import fragments
from streams.query.report import Question, make_report
from tests.support.board_samples import WELL, place
from tests.support.exporter_state import NOW_S, some_events
from tests.support.live_board import FROM_S, TO_S, facts_of
from tests.support.live_facts import World, in_world, told, traffic

MINUTE_S = 60


def with_unknown_cache(known: int, unknown: int, cached_tokens: int) -> list[dict[str, Any]]:
    """Events of the last minute of 1,000 input tokens each, the first `known` with cached ones."""
    events = traffic(1, (known + unknown) / MINUTE_S, NOW_S - MINUTE_S, NOW_S)
    for at, event in enumerate(events):
        event["cached_input_tokens"] = cached_tokens if at < known else None
    return events


def state_of(facts: LiveFacts, objective: str) -> State:
    """State of an objective by its name."""
    (row,) = (row for row in facts.objectives if row.objective == objective)
    return row.state


def test_input_with_an_unknown_cached_part_does_not_make_a_hit_rate_judged(
    configured: Callable[..., Any],
) -> None:
    # The policy needs 100,000 tokens. Of 300,000 only 90,000 are known to be cached or not.
    facts = facts_of(configured(), with_unknown_cache(90, 210, 100))
    (objective,) = (row for row in facts.objectives if row.objective == "cache-hit")
    assert (objective.state, objective.value) == (
        "unknown",
        "10 %, known for 30 % of input tokens",
    )
    assert told(facts, "TokenpulseCacheHitLow") == []


def test_the_hit_rate_is_of_the_input_whose_cached_part_is_known(
    configured: Callable[..., Any],
) -> None:
    facts = facts_of(configured(), with_unknown_cache(90, 210, 100))
    assert (facts.cache_hit_ratio.value, facts.cache_hit_ratio.samples) == (0.1, 90_000)


@pytest.mark.parametrize(("known", "state"), [(149, "unknown"), (150, "breached")])
def test_a_hit_rate_known_for_less_than_half_of_the_input_has_no_state(
    configured: Callable[..., Any], known: int, state: State
) -> None:
    facts = facts_of(configured(), with_unknown_cache(known, 300 - known, 100))
    assert facts.cache_hit_ratio.state == state
    assert state_of(facts, "cache-hit") == state


def test_known_shares_are_those_of_the_report(configured: Callable[..., Any]) -> None:
    settings = configured()
    chance = random.Random(5)
    events = some_events(3, 2_000, NOW_S - 300, NOW_S)
    for event in events:
        for field in ("ttft_ms", "input_tokens", "cached_input_tokens"):
            if chance.random() < 0.3:
                event[field] = None
        event["stream"] = True

    async def use(world: World) -> tuple[LiveFacts, dict[str, Any]]:
        await world.writer.write(0, events)
        asked = Question(FROM_S, TO_S, 10, ("model",), TO_S)
        kafka = settings.kafka
        report = await make_report(world.client, kafka.group, kafka.topic, asked)
        return await world.facts(), report

    facts, report = in_world(settings, use)
    known = report["total"]["known_ratio"]
    assert 0.4 < min(known.values()) < max(known.values()) < 0.9
    assert facts.ttft_p95_s.known_ratio == known["ttft"]
    assert facts.cache_hit_ratio.known_ratio == known["cached_input"]
    assert facts.tokens_per_s.known_ratio == known["tokens"]
    assert facts.cache_hit_ratio.samples == report["total"]["known"]["cached_input_of"]
    by_model = {group["key"]["model"]: group["total"]["known_ratio"] for group in report["groups"]}
    assert {
        row.name: {
            "tokens": row.tokens_known_ratio,
            "cached_input": row.cached_known_ratio,
            "ttft": row.ttft_known_ratio,
        }
        for row in facts.models
    } == by_model


def test_tokens_that_no_event_reports_are_unknown_and_not_0(
    configured: Callable[..., Any],
) -> None:
    def without_usage(_: dict[str, Any]) -> dict[str, Any]:
        return dict.fromkeys(("input_tokens", "cached_input_tokens", "output_tokens"))

    facts = facts_of(configured(), traffic(1, 2, NOW_S - 60, NOW_S, without_usage))
    assert (facts.tokens, facts.tokens_per_s.value, facts.tokens_per_s.known_ratio) == (
        None,
        None,
        0,
    )
    markup = fragments(LiveState(facts, None, 1.0))
    assert "unknown for all answered requests" in markup["tiles"]
    assert "tokens unknown for all answered requests" in markup["models"]
    assert (
        '<b id="tokens-sum"><span class="num none" data-value="">unknown</span></b>'
        in (markup["status"])
    )


def test_cards_and_rows_show_the_known_share_below_100_percent() -> None:
    facts = replace(
        WELL,
        cache_hit_ratio=replace(WELL.cache_hit_ratio, state="unknown", known_ratio=0.4123),
        ttft_p95_s=replace(WELL.ttft_p95_s, known_ratio=0.99996),
        tokens_per_s=replace(WELL.tokens_per_s, known_ratio=1.0),
        models=(place("a", cached_known_ratio=0.31, ttft_known_ratio=0.5, tokens_known_ratio=0.7),),
        regions=(place("r", cached_known_ratio=1.0, ttft_known_ratio=1.0, tokens_known_ratio=1.0),),
    )
    markup = {
        name: part.replace("\u00a0", " ")
        for name, part in fragments(LiveState(facts, None, 1.0)).items()
    }
    tiles = markup["tiles"].split("</li>")
    assert "known for 99.996 % of streamed requests" in tiles[0]
    assert "known for 41.2 % of input tokens" in tiles[2]
    assert "data-weak" in tiles[2]
    assert not any("known for" in tile for tile in (tiles[1], *tiles[3:]))
    for words in (
        "known for 31 % of input tokens",
        "known for 50 % of streamed requests",
        "tokens known for 70 % of answered requests",
    ):
        assert f'<small class="known">{words}</small>' in markup["models"]
    assert markup["models"].count("data-weak") == 1
    assert "known for" not in markup["regions"]
    assert "data-weak" not in markup["regions"]
