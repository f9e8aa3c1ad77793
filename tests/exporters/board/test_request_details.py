"""Attempts, first visible tokens and endings on the live board; absent without such events."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from exporters.board.facts import LiveState, ModelDetails, RequestDetails
from exporters.board.live.page import fragments
from tests.support.board_samples import WELL
from tests.support.checks import not_none
from tests.support.exporter_state import NOW_S, event
from tests.support.live_board import facts_of


def shown(details: RequestDetails | None) -> str:
    """The part of the page, with plain spaces."""
    facts = replace(WELL, details=details)
    return fragments(LiveState(facts, None, 1.0))["details"].replace("\u00a0", " ")


def test_events_of_today_add_nothing_to_the_board(configured: Callable[..., Any]) -> None:
    facts = facts_of(configured(), [event(NOW_S), event(NOW_S, outcome="timeout")])
    assert facts.details is None
    assert shown(facts.details) == ""


def test_both_availabilities_stand_side_by_side(configured: Callable[..., Any]) -> None:
    events = [
        *(event(NOW_S, model="opus") for _ in range(6)),
        *(event(NOW_S, model="opus", outcome="timeout", final=False) for _ in range(2)),
        *(event(NOW_S, model="broken", outcome="overloaded", final=False) for _ in range(3)),
        event(NOW_S, model="sonnet"),
    ]
    details = not_none(facts_of(configured(), events).details)
    # The worst provider first; a model whose attempts were all final is not listed.
    assert details.models == (
        ModelDetails("broken", 0, None, 3, 0.0, None, None, 0),
        ModelDetails("opus", 6, 1.0, 8, 0.75, details.models[1].ttft_p95_s, None, 0),
    )
    assert (details.has_attempts, details.has_first_visible) == (True, False)
    markup = shown(details)
    assert "no requests" in markup
    assert 'data-metric="provider"><span class="num" data-value="0.75">75 %</span>' in markup
    assert "First visible" not in markup


def test_a_response_cache_leaves_the_provider_s_availability_to_what_it_answered(
    configured: Callable[..., Any],
) -> None:
    cached = [event(NOW_S, model="opus", served_from="response_cache") for _ in range(2)]
    # As many attempts as requests, by chance: one retry, and one answer from the cache.
    retried = event(NOW_S, model="sonnet", outcome="timeout", final=False)
    events = [*cached, retried, event(NOW_S, model="sonnet"), cached[0] | {"model": "sonnet"}]
    details = not_none(facts_of(configured(), events).details)
    by_name = {row.name: row for row in details.models}
    assert (by_name["opus"].attempts, by_name["opus"].provider_availability_ratio) == (0, None)
    assert (by_name["sonnet"].attempts, by_name["sonnet"].requests) == (2, 2)
    assert by_name["sonnet"].provider_availability_ratio == 0.5


def test_the_first_visible_token_stands_beside_the_ttft(configured: Callable[..., Any]) -> None:
    events = [
        event(NOW_S, model="reasoner", first_visible_token_ms=5_000, duration_ms=9_000),
        event(NOW_S, model="plain"),
    ]
    details = not_none(facts_of(configured(), events).details)
    (row,) = details.models
    assert (row.name, row.first_visible_samples) == ("reasoner", 1)
    assert 5 <= not_none(row.first_visible_p95_s) <= 5.04
    assert 0.2 <= not_none(row.ttft_p95_s) <= 0.202
    markup = shown(details)
    assert "First visible token" in markup
    assert "Attempts</abbr>" not in markup


def test_endings_classes_and_changed_tiers_are_counted(configured: Callable[..., Any]) -> None:
    events = [
        *(event(NOW_S, ending="complete") for _ in range(3)),
        event(NOW_S, ending="length", requested_service_tier="priority"),
        event(NOW_S, outcome="cancelled", ending="cancelled_after_first"),
        event(NOW_S, outcome="client_error", error_class="not_found"),
        # An attempt that was not final is no request, and has no ending here.
        event(NOW_S, outcome="stream_error", ending="cut", final=False),
    ]
    details = not_none(facts_of(configured(), events).details)
    assert details.endings == (("complete", 3), ("cancelled_after_first", 1), ("length", 1))
    assert details.client_errors == (("not_found", 1),)
    assert details.tier_changed == 1
    markup = shown(details)
    assert "cancelled after first" in markup
    assert "Served in another tier than requested" in markup


def test_a_model_s_name_cannot_become_markup() -> None:
    row = ModelDetails("<b>x</b>", 1, 1.0, 2, 0.5, 0.2, None, 0)
    markup = shown(RequestDetails((row,), True, False, (), (), 0))
    assert "<b>" not in markup
    assert "&lt;b&gt;" in markup
