"""A customer that sends many more requests than usual is named within a minute."""

import random
from collections.abc import Callable
from typing import Any

import pytest

from exporters.board.facts import Incident, LiveFacts
from slo.alert_state import AlertState
from tests.support.exporter_state import NOW_S, token_of
from tests.support.live_board import FixedRules, facts_of, facts_with
from tests.support.live_facts import told, traffic

FLOOD = "TokenpulseCustomerFlood"
TOKEN = token_of("acct-7")


def flood(per_s: float, since_s: int = NOW_S - 40, **of_each: Any) -> list[dict[str, Any]]:
    """Requests of one customer, in addition to those of all others."""
    return traffic(99, per_s, since_s, NOW_S, lambda one: {"customer_id": "acct-7", **of_each})


def calm(seed: int = 3) -> list[dict[str, Any]]:
    chance = random.Random(seed)

    def change(one: dict[str, Any]) -> dict[str, Any]:
        return {"customer_id": f"acct-{chance.randrange(20)}"}

    return traffic(seed, 20, NOW_S - 900, NOW_S, change)


def about_cache(facts: LiveFacts) -> list[Incident]:
    return [one for one in facts.incidents if "The cache fails" in one.words]


def test_a_flood_is_named_with_its_share_and_what_of_it_is_rate_limited(
    configured: Callable[..., Any],
) -> None:
    usual, extra = calm(), flood(30, outcome="rate_limited")
    (incident,) = told(facts_of(configured(), usual, extra), FLOOD)
    last = [one for one in (*usual, *extra) if one["ended_at"] >= (NOW_S - 55) * 1_000]
    sent = sum(one["customer_id"] == "acct-7" for one in last)
    limited = sum(one["outcome"] == "rate_limited" for one in last)
    assert incident.words.startswith(
        f"Customer {TOKEN} sent {100 * sent / len(last):.1f} % of all requests in the last "
        f"minute, {sent:,} of {len(last):,}, usually "
    )
    assert f"; {100 * limited / sent:.1f} % of them are rate-limited (429)" in incident.words
    assert incident.where == (("customer", TOKEN),)
    assert (incident.severity, incident.notification.state) == ("ticket", "none")


def test_a_flood_without_cached_input_is_no_cache_failure(configured: Callable[..., Any]) -> None:
    #  45 % of the input is cached; of the flood, which is two thirds of all requests, nothing
    facts = facts_of(configured(), calm(), flood(40, cached_input_tokens=0))
    assert len(told(facts, FLOOD)) == 1
    assert about_cache(facts) == []


def test_a_cache_failure_of_all_others_is_named_beside_a_flood(
    configured: Callable[..., Any],
) -> None:
    usual = [
        one | ({"cached_input_tokens": 0} if one["ended_at"] >= (NOW_S - 40) * 1_000 else {})
        for one in calm()
    ]
    facts = facts_of(configured(), usual, flood(10, cached_input_tokens=0))
    assert len(told(facts, FLOOD)) == 1
    assert len(about_cache(facts)) == 1


@pytest.mark.parametrize(
    ("per_s", "since_s"),
    [
        (0.5, NOW_S - 40),  # a small customer that grows
        (20, NOW_S - 900),  # a customer that is always large
    ],
)
def test_customers_that_send_little_or_as_usual_are_no_flood(
    configured: Callable[..., Any], per_s: float, since_s: int
) -> None:
    assert told(facts_of(configured(), calm(), flood(per_s, since_s)), FLOOD) == []


def test_a_customer_that_never_changes_is_no_flood_when_all_others_stop(
    configured: Callable[..., Any],
) -> None:
    #  acct-7  150 a minute for 16 hours; all others until the last minutes
    steady = flood(2.5, NOW_S - 16 * 3_600)
    others = [one for one in calm() if one["ended_at"] < (NOW_S - 120) * 1_000]
    assert told(facts_of(configured(), steady, others), FLOOD) == []


def test_in_the_first_minutes_no_share_is_unusual(configured: Callable[..., Any]) -> None:
    young = [one for one in calm() if one["ended_at"] >= (NOW_S - 120) * 1_000]
    assert told(facts_of(configured(), young, flood(30)), FLOOD) == []


def test_a_flood_that_its_rule_names_is_named_once(configured: Callable[..., Any]) -> None:
    alert = AlertState(FLOOD, "ticket", {}, {"customer": TOKEN}, 0.4, NOW_S, NOW_S, True, 0)
    facts = facts_with(configured(), FixedRules([alert]), calm() + flood(30))
    (incident,) = told(facts, FLOOD)
    assert "of the last hour" in incident.words
