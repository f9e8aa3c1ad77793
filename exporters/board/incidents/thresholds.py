"""Incidents of threshold objectives in words: latencies, the cache, token volume. Pure.

Whether an alert holds comes from the rules (alerts.py); the place comes from localisation.py.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from fractions import Fraction

import numpy as np

from exporters import formatting as fmt
from exporters.board.alerts import severity_of
from exporters.board.facts import Extent, Incident
from exporters.board.incidents.localisation import (
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
            words = f"{_threshold_words(status, reading, groups, name_of)}."
            alert = status.alert.alert
            scope = scope_words(status.objective.scope, status.name, name_of)
            yield Incident(
                severity_of(status.alert),
                words,
                alert,
                alert,
                incident_key(alert, status.policy.name, status.objective.name, scope),
                notification_of([status.alert]),
                _extent(status),
                where=scope_where(status.objective.scope, status.name),
            )


def _extent(status: ThresholdStatus) -> Extent | None:
    if status.value is None:
        return None
    # A latency is worse if it is higher, a share if it is lower.
    is_latency = isinstance(status.objective, LatencyThresholdObjective)
    return Extent(status.value if is_latency else 1 - status.value, value_text(status))


def _threshold_words(
    status: ThresholdStatus, reading: BoardInput, groups: SeriesGroups, name_of: NameOf
) -> str:
    indicator = status.objective.indicator
    scope = scope_words(status.objective.scope, status.name, name_of)
    of_scope = "" if scope == "fleet" else f" of {scope}"
    if isinstance(indicator, RollingPercentile):
        return _latency_words(status, of_scope, reading, groups)
    if isinstance(indicator, CacheHitRatio):
        return _cache_words(status, of_scope, reading, groups)
    return _volume_words(status, indicator, of_scope, reading)


def _latency_words(
    status: ThresholdStatus, of_scope: str, reading: BoardInput, groups: SeriesGroups
) -> str:
    assert isinstance(status.objective, LatencyThresholdObjective)
    indicator = status.objective.indicator
    target_s = mildest_threshold(status.objective)
    inside = series_inside(status, reading)
    sums = reading.windows[LOCALISATION_WINDOW]["series"]
    bad, total = slow(sums, len(inside), indicator.measure, int(target_s * 10**6))
    # Requests outside the objective's scope must not attract the localisation.
    splits = groups.splits(bad * inside, total * inside)
    where = groups.localise(_question(status), splits, 1 - indicator.percentile / 100)
    target = fmt.exact_latency(target_s)
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
    return words + (", in all regions and models alike" if len(inside) > 1 else "")


def _cache_words(
    status: ThresholdStatus, of_scope: str, reading: BoardInput, groups: SeriesGroups
) -> str:
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
    if "customer" in status.objective.scope.dimensions():
        return words  # series have no customers
    inside = series_inside(status, reading)
    bad, total = cache_misses(reading.windows[LOCALISATION_WINDOW]["series"], len(inside))
    splits = groups.splits(bad * inside, total * inside)
    where = groups.localise(_question(status), splits, float(1 - target))
    if where is not None:
        words += (
            f": {where.words} {verb(where, 'reads', 'read')} {fmt.percent(where.good, target)} "
            f"of {verb(where, 'its', 'their')} input from the cache"
        )
        if where.good_elsewhere is not None:
            words += f", elsewhere it is {fmt.percent(where.good_elsewhere, target)}"
    return words


def _question(status: ThresholdStatus) -> str:
    return "|".join((status.policy.name, status.objective.name, status.name))


def _volume_words(
    status: ThresholdStatus, indicator: TokenVolumeDrop, of_scope: str, reading: BoardInput
) -> str:
    window = fmt.last_window(indicator.window)
    words = f"Token volume{of_scope} over the {window} fell to {value_text(status)}"
    # Windows by name are of the fleet; a part of it has no such breakdown.
    if status.objective.scope != Scope():
        return words
    where = localise(_missing_tokens(indicator, reading), 0.5)
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
    scope = status.objective.scope
    wanted = scope.names()
    inside = []
    for key in reading.names["series"]:
        values: dict[str, str] = dict(zip(SERIES_DIMENSIONS, key, strict=True))
        is_named = all(values[dimension] in names for dimension, names in wanted.items())
        inside.append(is_named and (scope.per is None or values[scope.per] == status.name))
    return np.array(inside, np.int64)
