"""Floods of the last minute, as an early sign: the rule about a flood looks at an hour.

Pure. The share that each customer has of all requests is compared with that of the last day:

    last day       customer a  2 %    others 98 %
    last minute    customer a 40 %    others 60 %    33 times as many beside those of the rest
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from exporters import formatting as fmt
from exporters.board.alerts import CUSTOMER_FLOOD
from exporters.board.facts import Extent, Incident
from exporters.board.incidents.failures import INCIDENTS_MAX, OUTAGE_WINDOW
from exporters.board.incidents.notifications import incident_key
from exporters.board.input import BoardInput
from exporters.windows.incremental import CUSTOMER, Sums
from exporters.windows.measured import Amounts
from slo.policy.conditions import (
    FLOOD_SHARE,
    FLOOD_TIMES_OTHERS,
    FLOOD_TIMES_OWN,
    USUAL_MIN_REQUESTS,
)
from streams.events.decoder import OUTCOMES
from streams.events.fields import OTHER
from streams.state.slices import PROBES_AT
from streams.state.tables import Ints

FLOOD_DAY = "24h"
_MINUTES_BEFORE = 24 * 60 - 1  # of the day, without the last one
# Requests of all others in the day before, for each one in the minute: so that a share is usual.
_USUAL_MINUTES = 10
_LIMITED_AT = OUTCOMES.index("rate_limited")
_LIMITED_SHOWN = 0.01  # share of the customer's requests


@dataclass(frozen=True, slots=True)
class CustomerFlood:
    """A customer that sends many more requests than usual, in the last minute."""

    customer: str  # token
    sent: Amounts
    rate_limited: int
    requests: int  # of the fleet
    usual_share: float  # of the requests of the day before

    @property
    def share(self) -> float:
        return self.sent.requests / self.requests

    @property
    def limited_share(self) -> float:
        return self.rate_limited / self.sent.requests

    @property
    def is_rate_limited(self) -> bool:
        """Return whether its incident tells the share of requests that are rate-limited."""
        return self.limited_share >= _LIMITED_SHOWN

    @property
    def key(self) -> str:
        """Return the key of its incident, which is that of the alert about it."""
        return incident_key(CUSTOMER_FLOOD, self.customer)


def floods(reading: BoardInput) -> list[CustomerFlood]:
    """Return the customers that flood the service, the largest first."""
    minute, day = (reading.windows[window][CUSTOMER] for window in (OUTAGE_WINDOW, FLOOD_DAY))
    now = _requests(minute)
    fleet, fleet_day = int(now.sum()), int(_requests(day).sum())
    large = np.flatnonzero((now >= USUAL_MIN_REQUESTS) & (now > float(FLOOD_SHARE) * fleet))
    found = []
    for at in large[np.argsort(-now[large], kind="stable")].tolist():
        number, sent = int(minute.counts.keys[at]), int(now[at])
        (customer,) = reading.names[CUSTOMER][number]
        before = int(_requests(day)[day.counts.keys == number].sum()) - sent
        others, others_before = fleet - sent, fleet_day - fleet - before
        if customer == OTHER or others_before < _USUAL_MINUTES * others:
            continue
        # Both, as in the rule: a customer alone follows the hours of the day, and beside all others
        # one that never changes stands out at night.
        if sent * _MINUTES_BEFORE <= FLOOD_TIMES_OWN * before:
            continue
        if sent * others_before <= FLOOD_TIMES_OTHERS * before * others:
            continue
        row = minute.counts.values[at].tolist()
        usual_share = before / (fleet_day - fleet)
        found.append(
            CustomerFlood(
                customer, Amounts.from_row(CUSTOMER, row), row[_LIMITED_AT], fleet, usual_share
            )
        )
    return found


def _requests(sums: Sums) -> Ints:
    requests: Ints = sums.counts.values[:, :PROBES_AT].sum(axis=1)
    return requests


def without_alert(
    found: Sequence[CustomerFlood], alerted: Sequence[Incident]
) -> list[CustomerFlood]:
    """Return the largest floods that no incident of `alerted`, for the alert about one, names."""
    known = {incident.key for incident in alerted}
    return [flood for flood in found[:INCIDENTS_MAX] if flood.key not in known]


def early_floods(found: Sequence[CustomerFlood]) -> Iterator[Incident]:
    """Yield the incidents of floods without an alert."""
    for flood in found:
        share = fmt.percent(flood.share)
        yield Incident(
            "ticket",
            f"Customer {flood.customer} sent {share} of all requests in the "
            f"{fmt.last_window(OUTAGE_WINDOW)}, {flood.sent.requests:,} of {flood.requests:,}, "
            f"usually {fmt.percent(flood.usual_share)}{_details(flood)}.",
            CUSTOMER_FLOOD,
            CUSTOMER_FLOOD,
            flood.key,
            extent=Extent(flood.share, f"{share} of all requests"),
            where=((CUSTOMER, flood.customer),),
        )


def _details(flood: CustomerFlood) -> str:
    details = []
    if flood.is_rate_limited:
        details.append(f"{fmt.percent(flood.limited_share)} of them are rate-limited (429)")
    cached = flood.sent.cache_hit_ratio
    if cached is not None:
        details.append(f"{fmt.percent(cached)} of its input is read from the cache")
    return "".join(f"; {detail}" for detail in details)
