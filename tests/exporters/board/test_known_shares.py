"""The live board if a measure is known for a part of the traffic only."""

from collections.abc import Callable
from typing import Any

from tests.support.exporter_state import NOW_S
from tests.support.live_board import facts_of
from tests.support.live_facts import told, traffic

MINUTE_S = 60


def with_unknown_cache(known: int, unknown: int, cached_tokens: int) -> list[dict[str, Any]]:
    """Events of the last minute of 1,000 input tokens each, the first `known` with cached ones."""
    events = traffic(1, (known + unknown) / MINUTE_S, NOW_S - MINUTE_S, NOW_S)
    for at, event in enumerate(events):
        event["cached_input_tokens"] = cached_tokens if at < known else None
    return events


def test_input_with_an_unknown_cached_part_does_not_make_a_hit_rate_judged(
    configured: Callable[..., Any],
) -> None:
    # The policy needs 100,000 tokens. Of 300,000 only 90,000 are known to be cached or not.
    facts = facts_of(configured(), with_unknown_cache(90, 210, 100))
    (objective,) = (row for row in facts.objectives if row.objective == "cache-hit")
    assert (objective.state, objective.value) == ("unknown", "10 %")
    assert told(facts, "TokenpulseCacheHitLow") == []


def test_the_hit_rate_is_of_the_input_whose_cached_part_is_known(
    configured: Callable[..., Any],
) -> None:
    facts = facts_of(configured(), with_unknown_cache(90, 210, 100))
    assert (facts.cache_hit_ratio.value, facts.cache_hit_ratio.samples) == (0.1, 90_000)
