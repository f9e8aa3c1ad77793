"""Attainment computed from plain lists, slowly: the oracle for the vectorised engine.

Counts come by minute or by slice, in order, one entry for each without a gap; None is a minute or a
slice that does not count (maintenance).

    failed share  0%  9%  9%  9%  0%  9%  9%  9%  9%  9%  0%     bad above 5 %, down from 5 in a row
    status        up  up  up  up  up |down down down down down|  up
"""

from collections import Counter
from collections.abc import Iterable
from fractions import Fraction
from itertools import groupby
from typing import NamedTuple

from slo.engine.minute_status import Attainment, MinuteStatus
from slo.policy.indicators import (
    LatencyRatio,
    MinuteUptime,
    RequestRatio,
    SlicePercentile,
    SliceRatioMean,
    SliceSpeed,
    Unknown,
)


class Requests(NamedTuple):
    """Requests of one stretch of time; `failed` is part of `eligible`."""

    eligible: int
    failed: int


class Latencies(NamedTuple):
    """Latencies of one stretch of time; `within` (at or under the limit) is part of `measured`."""

    measured: int
    within: int


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


def minute_statuses(
    indicator: MinuteUptime, minutes: Iterable[Requests | None]
) -> list[MinuteStatus]:
    """Return the status of each minute.

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


def slice_status(indicator: SlicePercentile | SliceSpeed, part: Latencies | None) -> MinuteStatus:
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
