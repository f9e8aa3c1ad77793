"""Find the causes of a day's changes: the metrics that moved and the groups that moved them.

Pure. Only a change beyond the usual day-to-day spread has a cause; missed targets come first. The
dimension (model, region, ...) is the one in which a single name explains more than its share of
the traffic would. attribution.py divides a change among names.

The change is measured against the sum of the 28 days before (else 7, else the day before), since
parts add up only to a difference of sums; the trend on the board is against medians.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from exporters.daily.day import text
from exporters.daily.day.attribution import ChangePart, parts_of
from exporters.daily.day.counts import DIMENSIONS, Counts, Groups, p95_s
from exporters.daily.day.facts import METRICS, BoardTargets, Day, Metric, MetricCause
from exporters.daily.day.text import PROBES
from exporters.daily.day.trends import FALLS_WELL, NEEDED, SPREADS, WEEK, Base
from exporters.windows.incremental import CUSTOMER
from streams.state.registry import OTHER

CAUSES_MAX = 3
# Smaller changes have no cause: as a share of the norm for tokens and latencies, else in points.
LEAST = {
    "tokens": 0.05,
    "ttft_p95_s": 0.05,
    "tpot_p95_s": 0.05,
    "availability_ratio": 0.0005,
    "cache_hit_ratio": 0.005,
}
_OF_THE_NORM = ("tokens", "ttft_p95_s", "tpot_p95_s")
_SECOND_LEAST = 0.2  # share of all that moved which a second name must explain


@dataclass(frozen=True, slots=True)
class Move:
    """A metric that moved beyond its usual spread."""

    metric: Metric
    before: float
    now: float
    missed: bool  # its target, and the move was for the worse
    spreads: float  # how far, in usual spreads

    @property
    def change(self) -> float:
        """Return the signed change."""
        return self.now - self.before


@dataclass(frozen=True, slots=True)
class GroupTraffic:
    """Sums over a stretch of time, in total and by group."""

    fleet: Counts
    groups: Groups
    days: int = 1
    # Of dimensions whose smaller names were added up on some days, the names that never were.
    stored_names: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def fold_names(self, stored_names: Mapping[str, frozenset[str]]) -> "GroupTraffic":
        """Fold the names that one side lacks into the rest, on both sides.

        A name on one side that is part of the rest on the other side would look like a change.
        """
        groups = {dimension: dict(names) for dimension, names in self.groups.items()}
        for dimension, apart in stored_names.items():
            names = groups.get(dimension, {})
            rest = [names.pop(name) for name in list(names) if name not in apart]
            if rest:
                names[OTHER] = Counts.sum(rest)
        return replace(self, groups=groups)


def causes(
    day: Day,
    now: GroupTraffic,
    before: GroupTraffic,
    base: Base,
    targets: BoardTargets,
    metrics: Sequence[Metric] = METRICS,
) -> tuple[MetricCause, ...]:
    """Return at most three causes, of the metric that moved most first; customers by token.

    `metrics`: those to explain.
    """
    explained = [
        (move, *explanation)
        for move in find_moves(day, now, before, base)
        if move.metric in metrics and (explanation := _explanation(move, now, before)) is not None
    ]
    chosen = [(move, dimension, parts[0], True) for move, dimension, parts in explained]
    for move, dimension, parts in explained:
        moving = sum(abs(part.total) for part in parts)
        chosen += [
            (move, dimension, part, False)
            for part in parts[1:]
            if part.total * move.change > 0 and abs(part.total) >= _SECOND_LEAST * moving
        ]
    return tuple(
        MetricCause(
            metric=move.metric,
            dimension=dimension,
            name=part.name,
            total=part.total,
            mix=part.mix,
            rate=part.rate,
            words=text.cause(
                move.metric,
                (move.before, move.now),
                dimension,
                part,
                targets.of(move.metric),
                is_first=is_first,
            ),
        )
        for move, dimension, part, is_first in chosen[:CAUSES_MAX]
    )


def with_customer_name(cause: MetricCause, name_of: Callable[[str], str]) -> MetricCause:
    """Return the cause with the customer's name in place of the token; `name_of`: token -> name."""
    if cause.dimension != CUSTOMER:
        return cause
    return replace(cause, name=name_of(cause.name), words=text.with_names(cause.words, name_of))


def find_moves(day: Day, now: GroupTraffic, before: GroupTraffic, base: Base) -> list[Move]:
    """Return the metrics that moved: missed targets first, then the most unusual."""
    moves = []
    for metric in METRICS:
        # A part of a day has fewer tokens than a whole one, and the first day of all is mostly a
        # part.
        if metric == "tokens" and (day.state == "running" or len(base.days) < NEEDED[WEEK]):
            continue
        value, usual = _value(metric, now), _value(metric, before)
        if value is None or usual is None:
            continue
        least = LEAST[metric] * (usual if metric in _OF_THE_NORM else 1)
        spread = max(base.spread(metric), least / SPREADS)
        size = abs(value - usual)
        if not spread or size <= SPREADS * spread:
            continue
        is_worse = (value > usual) == (metric in FALLS_WELL)
        is_missed = day.values.of(metric).mark == "missed" and is_worse
        moves.append(Move(metric, usual, value, is_missed, size / spread))
    return sorted(moves, key=lambda move: (not move.missed, -move.spreads))


def _value(metric: Metric, traffic: GroupTraffic) -> float | None:
    fleet = traffic.fleet
    match metric:
        case "tokens":
            return fleet.tokens / traffic.days if fleet else None
        case "ttft_p95_s":
            return p95_s(fleet.ttft)
        case "tpot_p95_s":
            return p95_s(fleet.tpot)
        case "availability_ratio":
            return fleet.availability_ratio
        case "cache_hit_ratio":
            return fleet.cache_hit_ratio


def _explanation(
    move: Move, now: GroupTraffic, before: GroupTraffic
) -> tuple[str, list[ChangePart]] | None:
    """Return the dimension that explains most and its parts, the largest first."""
    best: tuple[float, str, list[ChangePart]] | None = None
    for dimension in DIMENSIONS:
        # Parts by this dimension, those that moved the metric in its direction first.
        sides = [_names(dimension, move.metric, traffic) for traffic in (before, now)]
        parts = parts_of(move.metric, sides[0], sides[1], before.days)
        parts.sort(key=lambda part: -part.total if move.change > 0 else part.total)
        # No name moved the metric in the direction in which it went.
        if not parts or parts[0].total * move.change <= 0:
            continue
        score = _concentration(parts)
        # Of equal scores the first dimension stays, in spite of rounding errors.
        if best is None or score > best[0] + 1e-9:
            best = score, dimension, parts
    return None if best is None else best[1:]


def _concentration(parts: list[ChangePart]) -> float:
    """Return by how much the first part exceeds its share of the traffic."""
    weight = sum(part.before.weight + part.now.weight for part in parts)
    share = (parts[0].before.weight + parts[0].now.weight) / weight
    return abs(parts[0].total) / sum(abs(part.total) for part in parts) - share


def _names(dimension: str, metric: Metric, traffic: GroupTraffic) -> Mapping[str, Counts]:
    names = traffic.groups.get(dimension, {})
    if dimension != CUSTOMER or metric != "availability_ratio" or not names:
        return names
    # Probes are in the fleet's availability and belong to no customer.
    eligible = traffic.fleet.eligible - sum(one.eligible for one in names.values())
    successes = traffic.fleet.successes - sum(one.successes for one in names.values())
    return {**names, PROBES: Counts(eligible=eligible, successes=successes)} if eligible else names
