"""Rate-limited requests on the live board: how many, of whom or where, and when it is no news."""

import random
from collections.abc import Callable
from typing import Any

import pytest

from exporters.board.facts import LiveFacts
from exporters.reference.customers import Customer
from tests.support.exporter_state import NOW_S, token_of
from tests.support.live_board import facts_of
from tests.support.live_facts import World, in_world, told, traffic

LIMITED, FLOOD = "TokenpulseRateLimitedJump", "TokenpulseCustomerFlood"
TOKEN = token_of("acct-3")


def limited_from(
    since_s: int, share: float, before: float = 0.0, **of_each: Any
) -> Callable[..., Any]:
    """Requests of twenty customers; a share of some is rate-limited since `since_s`."""
    chance = random.Random(5)

    def change(one: dict[str, Any]) -> dict[str, Any]:
        # One customer in four requests, so that the limited ones are no flood.
        customer = "acct-3" if chance.random() < 0.25 else f"acct-{chance.randrange(20, 40)}"
        made = {"customer_id": customer}
        is_hit = one["ended_at"] >= since_s * 1_000 and of_each.items() <= (one | made).items()
        if chance.random() < (share if is_hit else before):
            made["outcome"] = "rate_limited"
        return made

    return change


def last_minute(events: list[dict[str, Any]], **of_each: Any) -> list[dict[str, Any]]:
    return [
        one
        for one in events
        if one["ended_at"] >= (NOW_S - 55) * 1_000 and of_each.items() <= one.items()
    ]


def limited_share(events: list[dict[str, Any]]) -> str:
    limited = sum(one["outcome"] == "rate_limited" for one in events)
    return f"{100 * limited / len(events):.1f} %"


def test_the_requests_of_one_customer_are_named_with_it(configured: Callable[..., Any]) -> None:
    events = traffic(3, 20, NOW_S - 900, NOW_S, limited_from(NOW_S - 30, 0.9, customer_id="acct-3"))
    facts = facts_of(configured(), events)
    (incident,) = facts.incidents
    mine, every = last_minute(events, customer_id="acct-3"), last_minute(events)
    assert incident.words == (
        f"Customer {TOKEN} is rate-limited: {limited_share(mine)} of its {len(mine)} requests of "
        f"the last minute were answered with 429. With those of others {limited_share(every)} of "
        "all requests are rate-limited, usually 0 %; availability does not count them."
    )
    assert (incident.severity, incident.alert, incident.runbook) == ("ticket", LIMITED, LIMITED)
    assert incident.where == (("customer", TOKEN),)
    assert (facts.state, facts.notification) == ("at_risk", "Not paged")
    assert facts.headline == incident.words


@pytest.mark.parametrize(
    ("place", "begin", "end"),
    [
        ({}, "Rate limits: ", ", in all regions and models alike."),
        ({"region": "eu-west-1"}, "Rate limits in region eu-west-1: ", "; elsewhere 0 %."),
    ],
)
def test_those_of_many_customers_are_named_with_their_place(
    configured: Callable[..., Any], place: dict[str, Any], begin: str, end: str
) -> None:
    events = traffic(3, 20, NOW_S - 900, NOW_S, limited_from(NOW_S - 30, 0.6, **place))
    (incident,) = facts_of(configured(), events).incidents
    inside = last_minute(events, **place)
    assert incident.words.startswith(
        f"{begin}{limited_share(inside)} of {len(inside):,} requests of the last minute were "
        f"answered with 429{end} Usually 0 % of all requests are rate-limited"
    )


def test_a_flood_that_is_rate_limited_is_one_incident(configured: Callable[..., Any]) -> None:
    usual = traffic(3, 20, NOW_S - 900, NOW_S, lambda one: {"customer_id": "acme"})
    of_flood = {"customer_id": "acct-3", "outcome": "rate_limited"}
    flood = traffic(4, 20, NOW_S - 40, NOW_S, lambda one: of_flood)
    facts = facts_of(configured(), usual, flood)
    assert [one.alert for one in facts.incidents] == [FLOOD]
    assert "% of them are rate-limited (429)" in facts.incidents[0].words


@pytest.mark.parametrize(
    ("share", "before"),
    [
        (0.03, 0.0),  # a few customers at their limits
        (0.3, 0.2),  # on this service, many always are
    ],
)
def test_few_or_usual_rate_limits_are_no_incident(
    configured: Callable[..., Any], share: float, before: float
) -> None:
    events = traffic(3, 20, NOW_S - 900, NOW_S, limited_from(NOW_S - 60, share, before))
    assert told(facts_of(configured(), events), LIMITED) == []


def test_they_are_named_within_twenty_seconds_until_their_minute_is_over(
    configured: Callable[..., Any],
) -> None:
    #  fine ... | 60 s: the customer acct-3, Acme Corp, is rate-limited | fine ......... |
    fault = limited_from(NOW_S, 1.0, customer_id="acct-3")
    fine = limited_from(NOW_S, 0.0)
    events = traffic(3, 20, NOW_S - 900, NOW_S + 60, fault)
    events += traffic(4, 20, NOW_S + 60, NOW_S + 150, fine)

    async def use(world: World) -> dict[int, LiveFacts]:
        shown, before_s = {}, NOW_S - 900
        for after_s in range(0, 151, 10):
            at_s = NOW_S + after_s
            part = [one for one in events if before_s <= one["ended_at"] / 1_000 < at_s]
            await world.writer.write(0, part, at_s)
            shown[after_s], before_s = await world.facts(at_s), at_s
        return shown

    directory = {TOKEN: Customer("Acme Corp", "enterprise")}
    shown = in_world(configured(), use, **directory)
    named = {
        after_s: [one.words.partition(":")[0] for one in told(facts, LIMITED)]
        for after_s, facts in shown.items()
    }
    assert named[0] == []
    assert all(named[at] == ["Customer Acme Corp is rate-limited"] for at in range(20, 91, 10))
    assert named[150] == []
    assert len({one.id for facts in shown.values() for one in told(facts, LIMITED)}) == 1
