"""Cache failures of the last minute, as an early sign: the rules about the cache look at an hour.

Pure. The cached tokens that each series usually has for its input are compared with those of the
last minute:

    usual, last hour     region a  48 %   region b  52 %   region c  0 %
    last minute          region a   3 %   region b  51 %   region c  0 %
    missing              region a  94 %   region b   2 %   (expects none)
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import sqrt

import numpy as np
import numpy.typing as npt

from exporters import formatting as fmt
from exporters.board.facts import Extent, Incident, Severity, covers
from exporters.board.incidents.clusters import EVERYWHERE
from exporters.board.incidents.failures import INCIDENTS_MAX, OUTAGE_WINDOW, USUAL_WINDOW
from exporters.board.incidents.floods import CustomerFlood
from exporters.board.incidents.localisation import SeriesGroups
from exporters.board.incidents.notifications import incident_key
from exporters.board.incidents.thresholds import CACHE_GROUP
from exporters.board.input import BoardInput
from exporters.board.thresholds import ThresholdStatus
from exporters.windows.incremental import Sums
from exporters.windows.measured import cache_misses
from slo.policy.conditions import RECENT_MIN_REQUESTS, USUAL_MIN_REQUESTS
from slo.policy.indicators import CacheHitRatio
from slo.policy.policy import ShareThresholdObjective
from slo.policy.scope import Scope
from streams.state.slices import KNOWN, KNOWN_AT
from streams.state.tables import Ints

CACHE_LOW = "TokenpulseCacheHitLow"
_MISSING_MIN = 0.4  # share of the usual cached tokens; normal minutes miss a few hundredths
# The usual share of n requests varies from minute to minute like that of n / 3 independent ones,
# as a few long prompts have most of the tokens, and each is read from the cache nearly all or not.
_REQUESTS_PER_INDEPENDENT = 3
_CHANCE_DEVIATIONS = 4.5
_REQUESTS_AT = KNOWN_AT + KNOWN.index("cached_input")


@dataclass(frozen=True, slots=True)
class _CacheMinute:
    """Input tokens by series whose cached part is known: in the last minute, and usually."""

    misses: Ints
    tokens: Ints
    requests: Ints
    usual_ratio: npt.NDArray[np.float64]  # 0 for a series with too few requests

    @classmethod
    def of(cls, reading: BoardInput) -> "_CacheMinute":
        """Return the last minute, beside the rest of the last hour."""
        count = len(reading.names["series"])
        now, hour = (reading.windows[window]["series"] for window in (OUTAGE_WINDOW, USUAL_WINDOW))
        misses, tokens = cache_misses(now, count)
        hour_misses, hour_tokens = cache_misses(hour, count)
        requests = _requests(now, count)
        usual_tokens = hour_tokens - tokens
        # The hour without its last minute, so that a failure does not lower what is usual.
        is_usual = (_requests(hour, count) - requests >= RECENT_MIN_REQUESTS) & (usual_tokens > 0)
        hits = usual_tokens - (hour_misses - misses)
        usual_ratio = np.where(is_usual, hits / np.maximum(usual_tokens, 1), 0.0)
        return cls(misses, tokens, requests, usual_ratio)

    @property
    def expected(self) -> Ints:
        """Return the cached tokens that the input of the last minute would usually have."""
        return np.rint(self.usual_ratio * self.tokens).astype(np.int64)

    def hit_ratio(self, inside: npt.NDArray[np.bool_]) -> float:
        """Return the share of input tokens read from the cache in the last minute."""
        return 1 - int(self.misses[inside].sum()) / max(int(self.tokens[inside].sum()), 1)

    def usual_of(self, inside: npt.NDArray[np.bool_]) -> float:
        """Return the usual share, for the mix of the last minute."""
        return int(self.expected[inside].sum()) / max(int(self.tokens[inside].sum()), 1)

    def is_explained(
        self, inside: npt.NDArray[np.bool_], flooding: Sequence[CustomerFlood]
    ) -> bool:
        """Return whether these places read nearly as much as usual without the floods.

        Customers are not counted by place: places with less input than the floods are not
        explained.
        """
        tokens = int(self.tokens[inside].sum()) - sum(one.sent.cached_of_tokens for one in flooding)
        if not flooding or tokens <= 0:
            return False
        cached = int((self.tokens - self.misses)[inside].sum())
        cached -= sum(one.sent.cached_tokens for one in flooding)
        return cached > (1 - _MISSING_MIN) * self.usual_of(inside) * tokens

    def may_be_chance(self, inside: npt.NDArray[np.bool_]) -> bool:
        """Return whether so few requests could lose so much of the usual share by chance."""
        usual, ratio = self.usual_of(inside), self.hit_ratio(inside)
        independent = max(int(self.requests[inside].sum()), 1) / _REQUESTS_PER_INDEPENDENT
        return usual - ratio < _CHANCE_DEVIATIONS * sqrt(usual * (1 - usual) / independent)


def early_cache_failures(
    reading: BoardInput,
    groups: SeriesGroups,
    statuses: Sequence[ThresholdStatus],
    alerted: Sequence[Incident],
    flooding: Sequence[CustomerFlood],
) -> Iterator[Incident]:
    """Yield the places that lost much of their usual cached tokens in the last minute.

    Those inside the places of an incident of `alerted` about the cache are left out.
    So are those whose whole loss a flood explains, whose input was never cached.
    """
    about_cache = [incident for incident in alerted if incident.alert == CACHE_LOW]
    is_fleet_alerted = any(status.alert is not None for status, _ in _of_fleet(statuses))
    for incident in _cache_failures(reading, groups, statuses, flooding):
        if incident.where:
            is_told = any(covers(other.where, incident.where) for other in about_cache)
        else:
            is_told = is_fleet_alerted
        if not is_told:
            yield incident


def _cache_failures(
    reading: BoardInput,
    groups: SeriesGroups,
    statuses: Sequence[ThresholdStatus],
    flooding: Sequence[CustomerFlood],
) -> Iterator[Incident]:
    """Yield the incident of each place; without a place if all are alike."""
    minute = _CacheMinute.of(reading)
    expected = minute.expected
    # Misses beyond the usual ones; a series that reads more than usual does not hide another.
    missing = np.clip(expected - (minute.tokens - minute.misses), 0, expected)
    is_left = np.ones(len(expected), np.bool_)
    for at in range(INCIDENTS_MAX):
        splits = groups.splits(missing * is_left, expected * is_left)
        # A place needs half of the share: the incident itself is decided below.
        where = groups.localise(f"cache {at}", splits, _MISSING_MIN / 2, _MISSING_MIN)
        inside = is_left & (np.True_ if where is None else groups.inside(where))
        expects = int(expected[inside].sum())
        if int(minute.requests[inside].sum()) < USUAL_MIN_REQUESTS or not expects:
            return
        if int(missing[inside].sum()) < _MISSING_MIN * expects or minute.may_be_chance(inside):
            return
        # Chance alone makes some of many small series miss much; the place as a whole must, too.
        if minute.hit_ratio(inside) > (1 - _MISSING_MIN) * minute.usual_of(inside):
            return
        if minute.is_explained(inside, flooding):
            return
        place = None if where is None else where.words
        incident = _incident(minute, place, inside, statuses)
        yield replace(incident, where=groups.where(where), group=CACHE_GROUP)
        # The next round looks for a second place outside this one.
        is_left &= ~inside


def _incident(
    minute: _CacheMinute,
    where: str | None,
    inside: npt.NDArray[np.bool_],
    statuses: Sequence[ThresholdStatus],
) -> Incident:
    ratio, usual = minute.hit_ratio(inside), minute.usual_of(inside)
    words = (
        f"{fmt.percent(ratio)} of the input tokens were read from the cache in the "
        f"{fmt.last_window(OUTAGE_WINDOW)}, usually {fmt.percent(usual)}"
    )
    if where is None:
        words = f"The cache fails: {words}, in all regions and models alike."
    else:
        outside = ~inside & (minute.tokens > 0)
        elsewhere = f"; elsewhere {fmt.percent(minute.hit_ratio(outside))}" if outside.any() else ""
        words = f"The cache fails in {where}: {words}{elsewhere}."
    affected = int(minute.tokens[inside].sum()) / max(int(minute.tokens.sum()), 1)
    return Incident(
        _severity(ratio, statuses),
        words,
        CACHE_LOW,
        CACHE_LOW,
        incident_key("cache", where or EVERYWHERE),
        extent=Extent(1 - ratio, f"{fmt.percent(ratio)} cache hit rate", affected),
    )


def _severity(ratio: float, statuses: Sequence[ThresholdStatus]) -> Severity:
    """Return the severity of the fleet's alert if it were at this ratio; "info" without one."""
    crossed = {
        level.severity
        for _, objective in _of_fleet(statuses)
        for level in objective.levels
        if ratio < float(level.below)
    }
    return "page" if "page" in crossed else "ticket" if crossed else "info"


def _of_fleet(
    statuses: Sequence[ThresholdStatus],
) -> Iterator[tuple[ThresholdStatus, ShareThresholdObjective]]:
    """Yield the objectives about the cache of the whole fleet, with their status."""
    for status in statuses:
        objective = status.objective
        if (
            isinstance(objective, ShareThresholdObjective)
            and isinstance(objective.indicator, CacheHitRatio)
            and objective.scope == Scope()
        ):
            yield status, objective


def _requests(sums: Sums, count: int) -> Ints:
    """Return the requests whose cached tokens are known, by series."""
    requests = np.zeros(count, np.int64)
    np.add.at(requests, sums.counts.keys, sums.counts.values[:, _REQUESTS_AT])
    return requests
