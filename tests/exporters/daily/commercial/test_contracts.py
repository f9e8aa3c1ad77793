"""Contracts up for renewal: in order of their dates, at risk only with a reason."""

from collections.abc import Callable
from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from exporters.daily.commercial.contracts import contracts_of
from exporters.daily.day.counts import Counts
from exporters.daily.day.facts import BoardTargets, Risk
from exporters.daily.render.view import view_of
from exporters.reference.customers import Customer
from tests.support.daily_samples import some_facts
from tests.support.daily_state import DAY_S, HOUR_S, World
from tests.support.exporter_state import token_of
from tests.support.steady_days import MIDNIGHT, steady

ON = date(2026, 11, 10)
TARGETS = BoardTargets(None, None, 0.999, None, None)
ACME, GLOBEX, INITECH = map(token_of, ("acme", "globex", "initech"))
CUSTOMERS = {
    ACME: Customer("Acme", "enterprise", "e-1", 10_000.0, date(2027, 1, 31)),
    GLOBEX: Customer("Globex", "smb", None, None, date(2026, 11, 12)),
    INITECH: Customer("Initech", "smb"),
}


def risk(token: str, left: float | None, credit: str | None = None) -> Risk:
    return Risk("sla", "uptime", f"customer {token}", 0.999, 0.9985, left, None, credit, False)


def counts(successes: int) -> Counts:
    return Counts(requests=1_000, eligible=1_000, successes=successes)


def test_they_are_listed_by_date_and_without_a_date_not_at_all() -> None:
    found = contracts_of(CUSTOMERS, [], {}, ON, TARGETS)
    assert [(one.name, one.renewal, one.days_left) for one in found] == [
        ("Globex", "2026-11-12", 2),
        ("Acme", "2027-01-31", 82),
    ]
    later = contracts_of(CUSTOMERS, [], {}, date(2026, 12, 14), TARGETS)
    assert [one.name for one in later] == ["Acme"]  # the other one is over for a month


@pytest.mark.parametrize(
    ("risks", "successes", "at_risk"),
    [
        ([], 1_000, False),
        ([], 998, True),  # no objective of its own, and below the fleet's target
        ([], None, False),
        ([risk(ACME, 0.9)], 998, False),  # its own objective decides
        ([risk(ACME, 0.9), risk(ACME, -0.1)], 1_000, True),
        ([risk(ACME, 0.9, "0.01 USD")], 1_000, True),
        ([risk(ACME, 0.9, "0.00 USD")], 1_000, False),
        ([risk(GLOBEX, -0.1)], 1_000, False),
    ],
)
def test_at_risk_is_an_objective_that_may_miss_or_uptime_below_the_target(
    risks: list[Risk], successes: int | None, at_risk: bool
) -> None:
    month = {} if successes is None else {ACME: counts(successes)}
    acme = next(
        one for one in contracts_of(CUSTOMERS, risks, month, ON, TARGETS) if one.name[0] == "A"
    )
    assert acme.at_risk is at_risk
    own = [one for one in risks if ACME in one.scope]
    assert (acme.objective is None) == (not own)
    assert acme.target_ratio == 0.999
    expected = 0.9985 if own else None if successes is None else successes / 1_000
    assert acme.attained_ratio == expected


def test_only_contracts_that_are_due_soon_are_shown_and_the_stake_is_of_those_at_risk() -> None:
    view = view_of(some_facts())
    assert [(one.name, one.due, one.words) for one in view.contracts] == [
        ("Acme Corp", "in 27 days", "at risk"),
        ("Globex", "in 73 days", "safe"),
    ]
    assert view.contracts_note == (
        "2 contracts to renew within 90 days, 1 at risk with 250,000.00 USD a month at stake; "
        "1 later."
    )
    calm = tuple(replace(one, at_risk=False) for one in some_facts().contracts)
    assert view_of(replace(some_facts(), contracts=calm)).contracts_note == (
        "2 contracts to renew within 90 days, none at risk; 1 later."
    )


def test_uptime_of_the_month_is_a_recount_of_the_customers_requests(
    in_world: Callable[..., Any],
) -> None:
    async def use(world: World) -> None:
        for number in range(-12, 3):
            events = steady(number, count=12)
            if number == 1:
                events[0]["outcome"] = "server_error"  # a request of acme
            await world.add(0, events)
        end_s = MIDNIGHT + 3 * DAY_S
        await world.tell(end_s + 5 * HOUR_S)
        facts = await world.builder(**CUSTOMERS).facts(end_s + 5 * HOUR_S)
        globex, acme = facts.contracts
        of_acme = [
            one for one in world.within(MIDNIGHT - 9 * DAY_S, end_s) if one["customer_id"] == "acme"
        ]
        assert acme.attained_ratio == (len(of_acme) - 1) / len(of_acme)
        assert (acme.at_risk, globex.attained_ratio, globex.at_risk) == (True, 1.0, False)

    in_world(use)
