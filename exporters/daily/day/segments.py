"""Customers of each segment of the directory on one day. Pure."""

from collections.abc import Mapping

from exporters.daily.day.counts import Counts
from exporters.daily.day.facts import Segment
from exporters.reference.customers import Customer

OTHERS = "not in the directory"


def segments_of(
    by_customer: Mapping[str, Counts], customers: Mapping[str, Customer]
) -> tuple[Segment, ...]:
    """The segments by tokens, the largest first; none without a directory.

    `by_customer` and `customers` by the token that the state knows a customer by. Probes have no
    customer, so they are not in these numbers.
    """
    if not customers:
        return ()
    members: dict[str, list[Counts]] = {}
    for token, counts in by_customer.items():
        known = customers.get(token)
        members.setdefault(OTHERS if known is None else known.segment, []).append(counts)
    found = [_segment(name, group) for name, group in members.items()]
    return tuple(sorted(found, key=lambda one: (one.name == OTHERS, -one.tokens, one.name)))


def _segment(name: str, group: list[Counts]) -> Segment:
    total = Counts.merged(group)
    return Segment(
        name=name,
        customers=len(group),
        requests=total.requests,
        tokens=total.tokens,
        availability_ratio=total.availability_ratio,
        cache_hit_ratio=total.cache_hit_ratio,
    )
