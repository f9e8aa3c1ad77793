"""Compute the five metrics of a stretch of time against the targets, and those of each segment.

Pure.
"""

from collections.abc import Mapping, Sequence

from exporters.daily.day.counts import Counts, p95_s, samples
from exporters.daily.day.facts import BoardTargets, Mark, Segment, Value, Values
from exporters.reference.customers import Customer
from exporters.windows.measured import is_weak
from slo.policy.targets import Targets

BEST_BAND = "best in class"
NOT_LISTED = "not in the directory"


def board_targets(targets: Targets) -> BoardTargets:
    """Return the targets of the board's metrics."""
    best = next((band for band in targets.cache_hit_bands if band.name == BEST_BAND), None)
    # The strictest of what the policy sets: the ticket threshold lies above the page threshold.
    lower = targets.cache_hit_ticket_ratio
    if lower is None:
        lower = targets.cache_hit_page_ratio
    if lower is None and best is not None:
        lower = float(best.from_ratio)
    return BoardTargets(
        ttft_p95_s=targets.ttft_p95_s,
        tpot_p95_s=targets.tpot_p95_s,
        availability_ratio=targets.availability_ratio,
        cache_hit_ratio=lower,
        cache_hit_best=None if best is None else (float(best.from_ratio), float(best.to_ratio)),
    )


def values_of(counts: Counts, targets: BoardTargets) -> Values:
    """Return the metrics of some requests, marked against the targets."""
    ttft_s, tpot_s = p95_s(counts.ttft), p95_s(counts.tpot)
    available, tokens = counts.availability_ratio, counts.known_tokens if counts else None
    return Values(
        requests=counts.requests,
        tokens=Value(
            None if tokens is None else float(tokens),
            counts.requests,
            "unknown",
            counts.tokens_known_ratio,
        ),
        ttft_p95_s=Value(
            ttft_s,
            samples(counts.ttft),
            latency_mark(ttft_s, targets.ttft_p95_s),
            counts.ttft_known_ratio,
        ),
        tpot_p95_s=Value(tpot_s, samples(counts.tpot), latency_mark(tpot_s, targets.tpot_p95_s)),
        availability_ratio=Value(
            available, counts.eligible, _share(available, targets.availability_ratio)
        ),
        cache_hit_ratio=Value(
            counts.cache_hit_ratio,
            counts.cached_of_tokens,
            _cache_hit(counts, targets),
            counts.cached_known_ratio,
        ),
    )


def latency_mark(value_s: float | None, target_s: float | None) -> Mark:
    """Return the mark of a latency against the limit below which it must stay."""
    if value_s is None or target_s is None:
        return "unknown"
    # Twice as good as the target.
    if value_s <= target_s / 2:
        return "best"
    return "met" if value_s < target_s else "missed"


def _share(value: float | None, target: float | None) -> Mark:
    if value is None or target is None:
        return "unknown"
    if value < target:
        return "missed"
    # At most half of the failures that the target allows.
    return "best" if 1 - value <= (1 - target) / 2 else "met"


def _cache_hit(counts: Counts, targets: BoardTargets) -> Mark:
    value = counts.cache_hit_ratio
    # The unknown part of the input could turn the verdict.
    if is_weak(counts.cached_known_ratio):
        return "unknown"
    if targets.cache_hit_best is None:
        return _share(value, targets.cache_hit_ratio)
    if value is None:
        return "unknown"
    # Above the band is no worse than in it.
    if value >= targets.cache_hit_best[0]:
        return "best"
    if targets.cache_hit_ratio is None:
        return "unknown"
    return "met" if value >= targets.cache_hit_ratio else "missed"


def segments_of(
    by_customer: Mapping[str, Counts],
    customers: Mapping[str, Customer],
    stored: Sequence[Mapping[str, Counts]] = (),
) -> tuple[Segment, ...]:
    """Return the segments by tokens, the largest first; none without a directory.

    Both mappings have the tokens under which the state counts customers as keys. Probes have no
    customer, so they are not in these numbers. `stored`: the counts by segment of further days.
    """
    if not customers:
        return ()
    members = _members(by_customer, customers)
    names = dict.fromkeys([*members, *(name for day in stored for name in day)])
    segments = []
    for name in names:
        counts = [*members.get(name, []), *(day[name] for day in stored if name in day)]
        segments.append(_segment(name, counts, None if stored else len(counts)))
    return tuple(
        sorted(segments, key=lambda one: (one.name == NOT_LISTED, -(one.tokens or 0), one.name))
    )


def counts_by_segment(
    by_customer: Mapping[str, Counts], customers: Mapping[str, Customer]
) -> dict[str, Counts]:
    """Return the counts of each segment; none without a directory."""
    if not customers:
        return {}
    return {name: Counts.sum(counts) for name, counts in _members(by_customer, customers).items()}


def _members(
    by_customer: Mapping[str, Counts], customers: Mapping[str, Customer]
) -> dict[str, list[Counts]]:
    """Return the counts of the customers of each segment."""
    members: dict[str, list[Counts]] = {}
    for token, counts in by_customer.items():
        customer = customers.get(token)
        name = NOT_LISTED if customer is None else customer.segment
        members.setdefault(name, []).append(counts)
    return members


def _segment(name: str, counts: list[Counts], customers: int | None) -> Segment:
    total = Counts.sum(counts)
    return Segment(
        name=name,
        customers=customers,
        requests=total.requests,
        tokens=total.known_tokens,
        availability_ratio=total.availability_ratio,
        cache_hit_ratio=total.cache_hit_ratio,
        tokens_known_ratio=total.tokens_known_ratio,
        cached_known_ratio=total.cached_known_ratio,
    )
