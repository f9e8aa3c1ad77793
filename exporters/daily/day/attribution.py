"""Divide the change of a metric among groups, and the part of each group into mix and rate.

Pure. Mix: the group's share of the traffic changed. Rate: the group itself got better or worse.
For every group mix + rate = total; neither order of the two steps is preferred, each
half is taken at the mean of both (midpoint) or averaged over both orders.

Ratios (availability, cache hits). With shares w of the denominator, ratios r and the fleet's ratio
R = sum(w r), before (0) and now (1):

    rate = (w1 + w0) / 2 * (r1 - r0)
    mix  = (w1 - w0) * ((r1 + r0) / 2 - (R1 + R0) / 2)

The parts of all groups add up to R1 - R0: w1 r1 - w0 r0 is rate + (w1 - w0)(r1 + r0)/2, and the
constant that is taken off in the mix is multiplied by sum(w1 - w0) = 0. It makes a group that is
worse than the fleet and grows count against the fleet. This is the decomposition of Kitagawa,
"Components of a Difference Between Two Rates", JASA 50 (1955), with the mean ratio as reference.

Tokens, with n requests a day of t tokens each: mix = (t1 + t0)/2 (n1 - n0), rate = (n1 + n0)/2
(t1 - t0). The parts of all groups add up to the change.

Percentiles do not add up, so a group's part is found by replacing it: in the merged histogram, its
weight w (share of the samples) or its shape s (its own histogram) is exchanged for the second
day's, and the percentile is read again. P(w, s) is that percentile, with the remaining groups as
they are now, and as they were, averaged:

    total = P(w1, s1) - P(w0, s0)
    rate  = ((P(w1, s1) - P(w1, s0)) + (P(w0, s1) - P(w0, s0))) / 2
    mix   = ((P(w1, s1) - P(w0, s1)) + (P(w1, s0) - P(w0, s0))) / 2

the Shapley values of two players. A value that a group has on one side only is used for
both: all of its part is mix.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from exporters.daily.day.counts import P95, Counts
from exporters.daily.day.facts import Metric
from streams.state import histogram
from streams.state.tables import Ints, Table

# Relative tolerance of ranks: weights are no whole numbers here.
_ROUNDING = 1e-9

Weights = npt.NDArray[np.float64]


class Side(NamedTuple):
    """One group before or now."""

    weight: float  # share of the denominator or of the samples; for tokens requests a day
    value: float | None  # its own metric; for tokens, tokens a request


@dataclass(frozen=True, slots=True)
class ChangePart:
    """The share of one group in the change of a metric, in the metric's unit."""

    name: str
    mix: float
    rate: float
    before: Side
    now: Side

    @property
    def total(self) -> float:
        """Return the whole part, mix and rate."""
        return self.mix + self.rate


def parts_of(
    metric: Metric, before: Mapping[str, Counts], now: Mapping[str, Counts], days: int
) -> list[ChangePart]:
    """Return the part of each group; `before` holds sums of `days` days.

    Groups on neither side are left out. The result is empty if one side has no data to compare.
    """
    none = Counts()
    pairs = {
        name: (before.get(name, none), now.get(name, none)) for name in sorted({*before, *now})
    }
    match metric:
        case "tokens":
            return [_tokens(name, *pair, days) for name, pair in pairs.items() if any(pair)]
        case "availability_ratio":
            return _ratios(
                {
                    name: tuple((side.eligible, side.successes) for side in pair)
                    for name, pair in pairs.items()
                }
            )
        case "cache_hit_ratio":
            return _ratios(
                {
                    name: tuple((side.cached_of_tokens, side.cached_tokens) for side in pair)
                    for name, pair in pairs.items()
                }
            )
        case "ttft_p95_s":
            return _percentiles({name: (old.ttft, new.ttft) for name, (old, new) in pairs.items()})
        case "tpot_p95_s":
            return _percentiles({name: (old.tpot, new.tpot) for name, (old, new) in pairs.items()})


def _tokens(name: str, before: Counts, now: Counts, days: int) -> ChangePart:
    n0, n1 = before.requests / days, float(now.requests)
    t0 = before.tokens / before.requests if before.requests else None
    t1 = now.tokens / now.requests if now.requests else None
    low, high = _both(t0, t1)
    return ChangePart(
        name,
        mix=(high + low) / 2 * (n1 - n0),
        rate=(n1 + n0) / 2 * (high - low),
        before=Side(n0, t0),
        now=Side(n1, t1),
    )


def _both(before: float | None, now: float | None) -> tuple[float, float]:
    """Return both values; if one side has none, use the other for both."""
    low = before if before is not None else now
    high = now if now is not None else before
    return low or 0.0, high or 0.0


def _ratios(pairs: Mapping[str, tuple[tuple[int, int], ...]]) -> list[ChangePart]:
    """Return the parts of a ratio; `pairs`: name -> (all, good) before and now."""
    all0, good0 = (sum(pair[0][at] for pair in pairs.values()) for at in (0, 1))
    all1, good1 = (sum(pair[1][at] for pair in pairs.values()) for at in (0, 1))
    # Without a denominator on one side there is no ratio to compare with.
    if not all0 or not all1:
        return []
    # The reference of the mix, (R1 + R0) / 2 of the formula above.
    middle = (good0 / all0 + good1 / all1) / 2
    parts = []
    for name, ((n0, g0), (n1, g1)) in pairs.items():
        if not n0 and not n1:
            continue
        before = Side(n0 / all0, g0 / n0 if n0 else None)
        now = Side(n1 / all1, g1 / n1 if n1 else None)
        r0, r1 = _both(before.value, now.value)
        parts.append(
            ChangePart(
                name,
                mix=(now.weight - before.weight) * ((r1 + r0) / 2 - middle),
                rate=(now.weight + before.weight) / 2 * (r1 - r0),
                before=before,
                now=now,
            )
        )
    return parts


def _percentiles(pairs: Mapping[str, tuple[Table, Table]]) -> list[ChangePart]:
    """Return the parts of a P95; `pairs`: name -> histogram before and now."""
    # Dense: one element for each bucket, so that groups can be added and exchanged by arithmetic.
    counts = {name: (_dense(old), _dense(new)) for name, (old, new) in pairs.items() if old or new}
    totals = [np.zeros(1 << histogram.BUCKET_BITS) for _ in range(2)]
    for pair in counts.values():
        for total, group in zip(totals, pair, strict=True):
            total += group
    if not all(total.any() for total in totals):
        return []
    return [_percentile(name, pair, totals) for name, pair in counts.items()]


def _percentile(name: str, pair: tuple[Weights, Weights], totals: list[Weights]) -> ChangePart:
    """Return the part of one group: the Shapley values of its weight and its shape."""
    samples = [float(total.sum()) for total in totals]
    sizes = [float(group.sum()) for group in pair]
    weights = [size / total for size, total in zip(sizes, samples, strict=True)]
    shapes = [group / size if size else None for group, size in zip(pair, sizes, strict=True)]
    # A group on one side only has one shape: all of its part is then mix.
    present = [shape for shape in shapes if shape is not None]
    filled = [shape if shape is not None else present[0] for shape in shapes]
    mix = rate = 0.0
    # The remaining groups as they were (0) and as they are now (1); both count half.
    for side in (0, 1):
        rest = totals[side] - pair[side]

        def p95(
            weight: int, shape: int, rest: Weights = rest, total: float = samples[side]
        ) -> float:
            return _p95_s(rest + weights[weight] * total * filled[shape], filled[shape])

        # Divided by 4: the mean over two orders of exchange and two sides.
        rate += ((p95(1, 1) - p95(1, 0)) + (p95(0, 1) - p95(0, 0))) / 4
        mix += ((p95(1, 1) - p95(0, 1)) + (p95(1, 0) - p95(0, 0))) / 4
    before, now = (
        Side(weight, None if shape is None else _p95_s(shape, shape))
        for weight, shape in zip(weights, shapes, strict=True)
    )
    return ChangePart(name, mix, rate, before, now)


def _dense(table: Table) -> Weights:
    dense = np.zeros(1 << histogram.BUCKET_BITS)
    dense[table.keys] = table.values
    return dense


def _p95_s(weights: Weights, otherwise: Weights) -> float:
    """Return the nearest-rank P95 in seconds; of `otherwise` if `weights` has no samples."""
    running = np.cumsum(weights)
    # Subtracting a group's samples can leave rounding errors in place of zero.
    if running[-1] <= _ROUNDING:
        running = np.cumsum(otherwise)
    # The first bucket that reaches the rank; without the tolerance a rank that is hit exactly could
    # fall into the next bucket.
    bucket = int(np.searchsorted(running, P95 * running[-1] * (1 - _ROUNDING)))
    buckets: Ints = np.array([bucket], np.int64)
    return int(histogram.highest_in(buckets)[0]) / 1e9
