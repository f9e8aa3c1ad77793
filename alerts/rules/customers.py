"""Rules about one customer: a flood of requests, and silence of a large one.

Pure. They compare the last hour with the day, and the customer with all others: a rise or fall that
all customers share, as by day and night, is no change of a single customer. Below, `c` are the
requests of the customer and `f` those of the fleet.

    flood      c / f of the hour is large, and c / (f - c) many times that of the rest of the day
    silence    c / f of the day is large, and c of the hour is hardly any of f of the hour * c / f
"""

from fractions import Fraction

from alerts.promql import any_of, newest, number, on, total_of
from alerts.rules.model import KEEP_FIRING_S, Alert, Read, dashboard
from exporters.catalogue import requests as catalogue
from slo.policy.conditions import (
    FLOOD_MIN_REQUESTS,
    FLOOD_SHARE,
    FLOOD_TIMES_OTHERS,
    FLOOD_TIMES_OWN,
    HOUR_OF_DAY_MOST,
    SILENT_BELOW,
    SILENT_MIN_EXPECTED,
    SILENT_USUAL_SHARE,
)
from slo.policy.units import percent_text

_DAY, _HOUR = "24h", "1h"
_CUSTOMER = "customer"
_SHARE = "{{ $value | humanizePercentage }}"
_PER_CUSTOMER = f"{on()} group_left ()"


def customer_alerts() -> tuple[Alert, ...]:
    """Return the alerts on the traffic of one customer; both are tickets."""
    return (_flood(), _silence())


def _requests(window: str, by: tuple[str, ...] = ()) -> str:
    """Return PromQL for the requests of the fleet, or of each customer."""
    chosen = {"scope": any_of(by or ("fleet",)), "window": any_of((window,))}
    return total_of(newest(catalogue.WINDOW_REQUESTS, chosen, (*by, "outcome")), by)


def _has_a_day() -> str:
    """Return PromQL that holds if the day has more than its last hour; always after the first."""
    return f"{on()} ({_requests(_HOUR)} <= {number(HOUR_OF_DAY_MOST)} * {_requests(_DAY)})"


def _flood() -> Alert:
    hour, fleet_hour = _requests(_HOUR, (_CUSTOMER,)), _requests(_HOUR)
    rest = f"({_requests(_DAY, (_CUSTOMER,))} - {hour})"
    fleet_rest = f"({_requests(_DAY)} - {fleet_hour})"
    # The others' requests are negative on both sides, as only the left operand may have many
    # series: so `<` stands for "more".
    others_hour = f"({hour} - {_PER_CUSTOMER} {fleet_hour})"
    others_rest = f"({rest} - {_PER_CUSTOMER} {fleet_rest})"
    # The own rate alone would fire when a working day begins, the ratio to the others alone when
    # theirs ends.
    return _ticket(
        "TokenpulseCustomerFlood",
        f"{hour} / {_PER_CUSTOMER} {fleet_hour} > {number(FLOOD_SHARE)}"
        f"\nand {hour} >= {FLOOD_MIN_REQUESTS}"
        f"\nand {hour} > {number(Fraction(FLOOD_TIMES_OWN, 23))} * {rest}"
        f"\nand {hour} * {others_rest} < {FLOOD_TIMES_OTHERS} * {rest} * {others_hour}"
        f"\nand {_has_a_day()}",
        f"Customer {{{{ $labels.customer }}}} sends {_SHARE} of all requests",
        f"Over the last {_HOUR} customer {{{{ $labels.customer }}}} sent {_SHARE} of all requests: "
        f"at least {FLOOD_MIN_REQUESTS}, over {FLOOD_TIMES_OWN} times as many an hour as in the "
        f"day before, and over {FLOOD_TIMES_OTHERS} times as many beside those of all others.",
        f"{_SHARE} of all requests",
        f"at most {percent_text(FLOOD_SHARE)}, or as usual",
    )


def _silence() -> Alert:
    day = _requests(_DAY, (_CUSTOMER,))
    # By the traffic of this hour, not of the day: at night a customer is expected to send less too.
    expected = f"{day} * {_PER_CUSTOMER} ({_requests(_HOUR)} / {_requests(_DAY)})"
    return _ticket(
        "TokenpulseCustomerSilent",
        f"{day} / {_PER_CUSTOMER} {_requests(_DAY)} > {number(SILENT_USUAL_SHARE)}"
        f"\nand {expected} >= {SILENT_MIN_EXPECTED}"
        f"\nand {_has_a_day()}"
        # A customer without any request has no series of the last hour.
        f"\nunless {_requests(_HOUR, (_CUSTOMER,))} >= {number(SILENT_BELOW)} * ({expected})",
        f"Customer {{{{ $labels.customer }}}} sends no requests, and usually {_SHARE} of all",
        f"Over the last {_HOUR} customer {{{{ $labels.customer }}}} sent less than "
        f"{percent_text(SILENT_BELOW)} of the requests that its share of the last {_DAY}, {_SHARE} "
        "of all requests, lets expect, while other customers send as usual. A customer that works "
        "by day only is silent each night too.",
        f"hardly any request; {_SHARE} of the day's",
        f"at least {percent_text(SILENT_BELOW)} of the expected requests",
    )


def _ticket(name: str, expr: str, summary: str, description: str, value: str, target: str) -> Alert:
    return Alert(
        name=name,
        severity="ticket",
        expr=expr,
        summary=summary,
        description=description,
        value=value,
        target=target,
        for_s=300,
        keep_firing_s=KEEP_FIRING_S,
        labels={"derived_from": "state", "route": "sre"},
        link=dashboard("live"),
        reads=tuple(
            Read(scope, window) for scope in (_CUSTOMER, "fleet") for window in (_HOUR, _DAY)
        ),
    )
