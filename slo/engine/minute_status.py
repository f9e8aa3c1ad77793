"""From counts to what a contract says of them: attainment, error budget, credit.

Pure and exact: Fractions and Decimal, no floats. Counts come by minute or by slice, in order, one
entry for each without a gap; None is a stretch that does not count (maintenance).

    failed share  0%  9%  9%  9%  0%  9%  9%  9%  9%  9%  0%     bad above 5 %, down from 5 in a row
    verdict       up  up  up  up  up |down down down down down|  up
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import IntEnum
from fractions import Fraction
from itertools import groupby
from math import floor
from typing import NamedTuple

from slo.policy.indicators import (
    LatencyRatio,
    MinuteUptime,
    RequestRatio,
    SlicePercentile,
    SliceRatioMean,
    SliceSpeed,
    Unknown,
)
from slo.policy.policy import Policy
from slo.policy.sla import Sla
from slo.policy.units import Money


class Requests(NamedTuple):
    """Requests of one stretch of time; `failed` is part of `eligible`."""

    eligible: int
    failed: int


class Latencies(NamedTuple):
    """Latencies of one stretch of time; `within` (at or under the limit) is part of `measured`."""

    measured: int
    within: int


class MinuteStatus(IntEnum):
    """What a minute or a slice was; two bits."""

    UNKNOWN = 0
    UP = 1
    DOWN = 2
    EXCLUDED = 3


@dataclass(frozen=True, slots=True)
class Attainment:
    """`good` of `counted`: requests, minutes or slices. Attainments of parts add up."""

    good: Fraction
    counted: int

    def __add__(self, other: "Attainment") -> "Attainment":
        return Attainment(self.good + other.good, self.counted + other.counted)

    @property
    def ratio(self) -> Fraction | None:
        """Good share, 0 to 1. None when nothing counted: unknown is not healthy."""
        return self.good / self.counted if self.counted else None


def request_ratio(indicator: RequestRatio, parts: Iterable[Requests | None]) -> Attainment:
    """Attainment over any cut of the period; nothing below `min_samples` in all."""
    counted = [part for part in parts if part is not None]
    eligible = sum(part.eligible for part in counted)
    if eligible < indicator.min_samples:
        return Attainment(Fraction(0), 0)
    return Attainment(Fraction(eligible - sum(part.failed for part in counted)), eligible)


def latency_ratio(indicator: LatencyRatio, parts: Iterable[Latencies | None]) -> Attainment:
    """Attainment over any cut of the period; nothing below `min_samples` in all."""
    counted = [part for part in parts if part is not None]
    measured = sum(part.measured for part in counted)
    if measured < indicator.min_samples:
        return Attainment(Fraction(0), 0)
    return Attainment(Fraction(sum(part.within for part in counted)), measured)


def minute_verdicts(
    indicator: MinuteUptime, minutes: Iterable[Requests | None]
) -> list[MinuteStatus]:
    """A verdict for each minute.

    A run of bad minutes may begin before the period or end after it: give `down_run - 1` minutes
    more on both sides and cut the answer. At the newest end a run may still become long enough.
    """
    found: list[MinuteStatus] = []
    for verdict, run in groupby(_minute(indicator, minute) for minute in minutes):
        length = len(list(run))
        is_blip = verdict is MinuteStatus.DOWN and length < indicator.down_run
        found += [MinuteStatus.UP if is_blip else verdict] * length
    return found


def _minute(indicator: MinuteUptime, minute: Requests | None) -> MinuteStatus:
    if minute is None:
        return MinuteStatus.EXCLUDED
    if minute.eligible < indicator.min_samples:
        return MinuteStatus.UNKNOWN
    is_bad = minute.failed > indicator.down_above * minute.eligible
    return MinuteStatus.DOWN if is_bad else MinuteStatus.UP


def slice_verdict(indicator: SlicePercentile | SliceSpeed, part: Latencies | None) -> MinuteStatus:
    """Return whether the percentile of a slice kept the limit."""
    if part is None:
        return MinuteStatus.EXCLUDED
    if part.measured < indicator.min_samples:
        return MinuteStatus.UNKNOWN
    return MinuteStatus.UP if percentile_kept(indicator, part) else MinuteStatus.DOWN


def percentile_kept(indicator: SlicePercentile | SliceSpeed, part: Latencies) -> bool:
    """Return whether the nearest-rank percentile of at least one sample keeps the limit.

    The percentile is the sample at this rank, counted from 1 in rising order. As latencies rise,
    speeds fall, so for a speed the samples below the rank are the slow ones.
    """
    rank = -(-indicator.percentile * part.measured // 100)
    if isinstance(indicator, SliceSpeed):
        return part.measured - part.within < rank
    return part.within >= rank


def uptime(verdicts: Iterable[MinuteStatus], unknown: Unknown) -> Attainment:
    """Share of the minutes or slices that were up; `unknown`: what unknown ones count as."""
    counts = Counter(verdicts)
    up, down = counts[MinuteStatus.UP], counts[MinuteStatus.DOWN]
    up += counts[MinuteStatus.UNKNOWN] * (unknown == "up")
    down += counts[MinuteStatus.UNKNOWN] * (unknown == "down")
    return Attainment(Fraction(up), up + down)


def slice_ratio_mean(indicator: SliceRatioMean, slices: Iterable[Requests | None]) -> Attainment:
    """Sum of the slices' success ratios, of as many slices."""
    ratios = []
    for part in slices:
        if part is None:
            continue
        if part.eligible >= indicator.min_samples:
            ratios.append(1 - Fraction(part.failed, part.eligible))
        elif indicator.unknown != "excluded":
            ratios.append(Fraction(indicator.unknown == "up"))
    return Attainment(sum(ratios, Fraction(0)), len(ratios))


def burn_rate(ratio: Fraction, target: Fraction) -> Fraction:
    """Speed at which the error budget is spent; 1 spends all of it in exactly the period."""
    return (1 - ratio) / (1 - target)


def budget_left(ratio: Fraction, target: Fraction) -> Fraction:
    """Share of the error budget that is left; negative once the target is missed."""
    return 1 - burn_rate(ratio, target)


def credit_share(sla: Sla, ratio: Fraction | None) -> Fraction:
    """Share of the fee that is due; 0 where nothing is known."""
    due = Fraction(0)
    for tier in sla.credit_tiers:
        if ratio is not None and ratio < tier.below:
            due = tier.credit
    return due


def credit(sla: Sla, ratio: Fraction | None, base: Money) -> Money:
    """Credit of one objective, of the fee `base`, to the hundredth, halves up.

    Raises ValueError where `min_credit` is in another currency.
    """
    exact = Fraction(base.amount) * credit_share(sla, ratio)
    if sla.min_credit is not None:
        if sla.min_credit.currency != base.currency:
            raise ValueError(f"min_credit is in {sla.min_credit.currency}, the fee {base}; use one")
        if exact <= Fraction(sla.min_credit.amount):
            exact = Fraction(0)
    return Money(Decimal(floor(exact * 100 + Fraction(1, 2))).scaleb(-2), base.currency)


def credits_due(
    policy: Policy, ratios: Mapping[str, Fraction | None], fee: Money | None
) -> dict[str, Money]:
    """Credit by objective name, of those that have an SLA and a fee.

    `ratios`: attainment by objective. `fee`: for objectives that name none (the commitment in the
    customer directory). Of a `greatest_of` group only the greatest counts, of equals the first; the
    others are left out.
    """
    due: dict[str, Money] = {}
    leader: dict[str, str] = {}
    for objective in policy.error_budget_objectives():
        if objective.sla is None:
            continue
        base = objective.sla.base or fee
        if base is None:
            continue
        found = credit(objective.sla, ratios.get(objective.name), base)
        group = objective.sla.greatest_of
        if group in leader:
            if found.amount <= due[leader[group]].amount:
                continue
            del due[leader[group]]
        if group is not None:
            leader[group] = objective.name
        due[objective.name] = found
    return due
