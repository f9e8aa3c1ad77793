"""Incidents of threshold objectives in words: latencies, the cache, token volume. Pure.

Whether an alert holds comes from the rules (alerts.py); the place comes from localisation.py.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from fractions import Fraction

import numpy as np

from exporters import formatting as fmt
from exporters.board.alerts import severity_of
from exporters.board.facts import Extent, Incident, Where
from exporters.board.incidents.localisation import (
    Localisation,
    SeriesGroups,
    Split,
    elsewhere_words,
    localise,
    verb,
)
from exporters.board.incidents.notifications import incident_key, notification_of
from exporters.board.input import BoardInput
from exporters.board.objectives import (
    NameOf,
    mildest_threshold,
    scope_where,
    scope_words,
    value_text,
)
from exporters.board.thresholds import DROP_SCOPES, ThresholdStatus
from exporters.windows.measured import Measured, cache_misses, slow
from slo.policy.indicators import LATENCY_WORDS, CacheHitRatio, RollingPercentile, TokenVolumeDrop
from slo.policy.policy import LatencyThresholdObjective, ShareThresholdObjective
from slo.policy.scope import Scope
from streams.state.measures import SERIES_DIMENSIONS
from streams.state.tables import Ints
from streams.state.windows import ROLLING_S

LOCALISATION_WINDOW = "5m"  # the newest with enough requests
NAMES_SHOWN = 3  # of one objective
CACHE_GROUP = "cache"


def slow_group(latency: str) -> str:
    """Return the group of the incidents about a latency: those of its alerts, and early signs."""
    return f"slow {latency}"


def threshold_incidents(
    statuses: Iterable[ThresholdStatus], reading: BoardInput, groups: SeriesGroups, name_of: NameOf
) -> Iterator[Incident]:
    """Yield the threshold objectives with an active alert; of one objective a few names only."""
    # By identity of the objective: policies may use one name twice.
    shown = Counter[int]()
    for status in statuses:
        # Only the rules decide: a value beyond its target without an alert is a card, no incident.
        if status.alert is None:
            continue
        shown[id(status.objective)] += 1
        if shown[id(status.objective)] <= NAMES_SHOWN:
            explained_by = _localise(status, reading, groups)
            alert = status.alert.alert
            scope = scope_words(status.objective.scope, status.name, name_of)
            yield Incident(
                severity_of(status.alert),
                f"{_threshold_words(status, explained_by, reading, name_of)}.",
                alert,
                alert,
                incident_key(alert, status.policy.name, status.objective.name, scope),
                notification_of([status.alert]),
                _extent(status),
                where=_where(status, groups.where(explained_by)),
                group=_group(status),
                objective=(status.policy.name, status.objective.name, status.name),
            )


def _where(status: ThresholdStatus, explained_by: Where) -> Where:
    """Return the places of an objective's scope, narrowed to those that explain the miss."""
    narrowed = {dimension for dimension, _ in explained_by}
    scope = scope_where(status.objective.scope, status.name)
    return (*(place for place in scope if place[0] not in narrowed), *explained_by)


def _group(status: ThresholdStatus) -> str:
    indicator = status.objective.indicator
    if isinstance(indicator, RollingPercentile):
        return slow_group(indicator.measure)
    return CACHE_GROUP if isinstance(indicator, CacheHitRatio) else ""


def _localise(
    status: ThresholdStatus, reading: BoardInput, groups: SeriesGroups
) -> Localisation | None:
    """Return the places that explain a miss; None if no place stands out."""
    objective = status.objective
    if isinstance(objective.indicator, TokenVolumeDrop):
        # Windows by name are of the fleet; a part of it has no such breakdown.
        if objective.scope != Scope():
            return None
        return localise(_missing_tokens(objective.indicator, reading), 0.5)
    if "customer" in objective.scope.dimensions():
        return None  # series have no customers
    inside = series_inside(status, reading)
    sums = reading.windows[LOCALISATION_WINDOW]["series"]
    if isinstance(objective, LatencyThresholdObjective):
        limit_us = int(mildest_threshold(objective) * 10**6)
        bad, total = slow(sums, len(inside), objective.indicator.measure, limit_us)
        allowed = 1 - objective.indicator.percentile / 100
    else:
        bad, total = cache_misses(sums, len(inside))
        allowed = float(1 - mildest_threshold(objective))
    # Requests outside the objective's scope must not attract the localisation.
    splits = groups.splits(bad * inside, total * inside)
    question = "|".join((status.policy.name, objective.name, status.name))
    return groups.localise(question, splits, allowed)


def _extent(status: ThresholdStatus) -> Extent | None:
    if status.value is None:
        return None
    # A latency is worse if it is higher, a share if it is lower.
    is_latency = isinstance(status.objective, LatencyThresholdObjective)
    return Extent(status.value if is_latency else 1 - status.value, value_text(status))


def _threshold_words(
    status: ThresholdStatus, where: Localisation | None, reading: BoardInput, name_of: NameOf
) -> str:
    """Return the sentence of a miss; `where`: the places that explain it."""
    indicator = status.objective.indicator
    scope = scope_words(status.objective.scope, status.name, name_of)
    of_scope = "" if scope == "fleet" else f" of {scope}"
    if isinstance(indicator, RollingPercentile):
        is_one_series = len(reading.names["series"]) == 1
        return _latency_words(status, of_scope, where, is_one_series)
    if isinstance(indicator, CacheHitRatio):
        return _cache_words(status, of_scope, where)
    return _volume_words(status, indicator, of_scope, where)


def _latency_words(
    status: ThresholdStatus, of_scope: str, where: Localisation | None, is_one_series: bool
) -> str:
    assert isinstance(status.objective, LatencyThresholdObjective)
    indicator = status.objective.indicator
    target = fmt.exact_latency(mildest_threshold(status.objective))
    words = (
        f"P{indicator.percentile} {LATENCY_WORDS[indicator.measure]}{of_scope} is "
        f"{value_text(status)} over the {fmt.last_window(indicator.window)}, target under {target}"
    )
    if where is not None:
        there = (
            f"{words}: {where.words} {verb(where, 'has', 'have')} {fmt.percent(where.explained)} "
            f"of the slow requests, {fmt.percent(where.share)} of "
            f"{fmt.counted(where.total, 'request')} there took over {target}"
        )
        return there + elsewhere_words(where)
    return words if is_one_series else f"{words}, in all regions and models alike"


def _cache_words(status: ThresholdStatus, of_scope: str, where: Localisation | None) -> str:
    assert isinstance(status.objective, ShareThresholdObjective)
    indicator, target = status.objective.indicator, mildest_threshold(status.objective)
    shorter = ""
    if status.shorter is not None:
        window, value = status.shorter
        shorter = f" and {fmt.percent(value, target)} over the {fmt.last_window(window)}"
    words = (
        f"Cache hit ratio{of_scope} is {value_text(status)} over the "
        f"{fmt.last_window(indicator.window)}{shorter}, target at least "
        f"{fmt.exact_percent(target)}"
    )
    if where is not None:
        words += (
            f": {where.words} {verb(where, 'reads', 'read')} {fmt.percent(where.good, target)} "
            f"of {verb(where, 'its', 'their')} input from the cache"
        )
        if where.good_elsewhere is not None:
            words += f", elsewhere it is {fmt.percent(where.good_elsewhere, target)}"
    return words


def _volume_words(
    status: ThresholdStatus, indicator: TokenVolumeDrop, of_scope: str, where: Localisation | None
) -> str:
    window = fmt.last_window(indicator.window)
    words = f"Token volume{of_scope} over the {window} fell to {value_text(status)}"
    if where is not None:
        words += f": {where.words} {verb(where, 'is', 'are')} at {fmt.percent(where.good)}"
        if where.good_elsewhere is not None:
            words += f", elsewhere it is {fmt.percent(where.good_elsewhere)}"
    return words


def _missing_tokens(indicator: TokenVolumeDrop, reading: BoardInput) -> dict[str, Split]:
    """Return the tokens expected by the baseline for each place, and how many are missing."""
    times = Fraction(ROLLING_S[indicator.window], ROLLING_S[indicator.baseline])
    splits = {}
    for scope in DROP_SCOPES:
        now = reading.by_name(indicator.window, scope)
        baseline = reading.by_name(indicator.baseline, scope)
        expected = np.array([int(one.tokens * times) for one in baseline.values()], np.int64)
        counted = np.array([now.get(name, Measured()).tokens for name in baseline], np.int64)
        # More than expected in one place must not hide what is missing in another.
        splits[scope] = Split(list(baseline), np.maximum(expected - counted, 0), expected)
    return splits


def series_inside(status: ThresholdStatus, reading: BoardInput) -> Ints:
    """Return 1 for each series that an objective is about, else 0."""
    return scope_series(status.objective.scope, status.name, reading)


def scope_series(scope: Scope, name: str, reading: BoardInput) -> Ints:
    """Return 1 for each series in a scope, else 0; `name`: of its `per` dimension."""
    wanted = scope.names()
    inside = []
    for key in reading.names["series"]:
        values: dict[str, str] = dict(zip(SERIES_DIMENSIONS, key, strict=True))
        is_named = all(values[dimension] in names for dimension, names in wanted.items())
        inside.append(is_named and (scope.per is None or values[scope.per] == name))
    return np.array(inside, np.int64)
