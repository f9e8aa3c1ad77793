"""Incidents of the traffic in words: how bad they are, where, and how it is elsewhere.

Pure. Whether the condition of an alert holds comes from the rules (alerts.py); an alert waits
before it fires, the board shows it at once. Failures are localised over the last minute, so that an
outage is shown within seconds.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from exporters import formatting as fmt
from exporters.board.alerts import BURN, CLIENT_ERRORS, MISSED, OUTAGE, URGENCY, severity_of
from exporters.board.breakdown import FleetTargets
from exporters.board.facts import Incident, Severity
from exporters.board.input import BoardInput
from exporters.board.localisation import Localisation, SeriesGroups, Split, localise
from exporters.board.objectives import (
    NameOf,
    burning,
    mildest_threshold,
    result_scope,
    scope_words,
    value_text,
)
from exporters.board.thresholds import DROP_SCOPES, ThresholdStatus
from exporters.windows.incremental import Sums
from exporters.windows.measured import Measured, cache_misses, failures, outcome_counts, slow
from slo.alert_state import AlertState
from slo.engine.report import ObjectiveResult
from slo.policy.conditions import BURN_MIN_FAILURES, OUTAGE_BELOW
from slo.policy.indicators import LATENCY_WORDS, CacheHitRatio, RollingPercentile, TokenVolumeDrop
from slo.policy.policy import LatencyThresholdObjective, ShareThresholdObjective
from slo.policy.scope import Scope
from streams.events.decoder import ELIGIBLE
from streams.state.measures import SERIES_DIMENSIONS
from streams.state.tables import Ints
from streams.state.windows import ROLLING_S

OUTAGE_WINDOW = "1m"
NEWEST_S = 20  # the slice of ten seconds that is filling, and the one before it
LOCALISATION_WINDOW = "5m"  # of latency and caching: the newest with enough requests
_NEWEST_MIN_REQUESTS = 20  # for their share of failures to be shown
_INCIDENTS_MAX = 3
_NAMES_MAX = 3  # of one objective


@dataclass(frozen=True, slots=True)
class FailureCluster:
    """Failures in one place, or in all places alike if `where` is None."""

    where: Localisation | None
    bad: int
    total: int


# -- availability ----------------------------------------------------------------------------------


def outages(reading: BoardInput, groups: SeriesGroups, limits: FleetTargets) -> Iterator[Incident]:
    """Yield the places whose failures of the last minute spend the error budget too fast.

    A place of an active outage alert is an outage. Any further place is an early sign: no rule
    looks at a single minute, and the burn-rate alerts follow if the failures continue.
    """
    sums = reading.windows[OUTAGE_WINDOW]["series"]
    bad, total = failures(sums, len(reading.names["series"]))
    allowed = limits.failing_share
    if allowed is None:  # no objective about failures
        allowed = 1 - float(OUTAGE_BELOW)
    alerts, has_outage = reading.alerts.outages, False
    for cluster in _clusters(groups, bad, total, allowed):
        is_outage = any(_covers(cluster, alert) for alert in alerts)
        has_outage |= is_outage
        severity: Severity = "page"
        if not is_outage and limits.burn is not None and limits.burn.severity == "ticket":
            severity = "ticket"
        name = OUTAGE if is_outage else BURN
        yield Incident(severity, _failure_words(cluster, reading, groups, sums), name, name)
    if alerts and not has_outage:
        yield _outage_by_labels(alerts[0])


def _covers(cluster: FailureCluster, alert: AlertState) -> bool:
    """Return whether an outage alert is about these failures."""
    where = cluster.where
    # Spread evenly: one incident for the whole fleet, if it is bad enough at all.
    if where is None:
        return True
    if where.dimension in ("region", "model"):
        return alert.series.get(where.dimension) in where.names
    # The outage rule has no channels and tiers; there only an outage of the fleet counts.
    return alert.series.get("scope") == "fleet"


def _outage_by_labels(alert: AlertState) -> Incident:
    """Return an outage that no cluster of failures explains, named by the alert's labels."""
    place = "The fleet"
    for dimension in ("region", "model"):
        if dimension in alert.series:
            place = f"{fmt.capitalize(dimension)} {alert.series[dimension]}"
    words = (
        f"{place}: {fmt.percent(1 - alert.value)} of the requests failed in the "
        f"{fmt.last_window(OUTAGE_WINDOW)}."
    )
    return Incident(severity_of(alert), words, OUTAGE, OUTAGE)


def _clusters(
    groups: SeriesGroups, bad: Ints, total: Ints, allowed: float
) -> Iterator[FailureCluster]:
    """Yield the worst place, then the worst of the remaining ones, while it is too bad."""
    for _ in range(_INCIDENTS_MAX):
        # Each round looks at the series outside the places already named.
        bad_all, total_all = int(bad.sum()), int(total.sum())
        if bad_all < BURN_MIN_FAILURES:
            return
        where = localise(groups.splits(bad, total), allowed)
        if where is None:
            if bad_all > allowed * total_all:
                yield FailureCluster(None, bad_all, total_all)
            return
        if where.bad < BURN_MIN_FAILURES or where.share <= allowed:
            return
        yield FailureCluster(where, where.bad, where.total)
        # Counts of the named place become 0, so that the next round finds another.
        elsewhere = ~groups.inside(where)
        bad, total = bad * elsewhere, total * elsewhere


def _failure_words(
    cluster: FailureCluster, reading: BoardInput, groups: SeriesGroups, sums: Sums
) -> str:
    share, outcomes = fmt.percent(cluster.bad / cluster.total), _outcomes(cluster, groups, sums)
    words = (
        f"{share} of {fmt.counted(cluster.total, 'request')} failed in "
        f"the {fmt.last_window(OUTAGE_WINDOW)} ({outcomes}){_newest(cluster, reading, groups)}"
    )
    if cluster.where is None:
        return f"{words}, in all regions and models alike."
    return f"{fmt.capitalize(cluster.where.words)}: {words}{_elsewhere(cluster.where)}."


def _newest(cluster: FailureCluster, reading: BoardInput, groups: SeriesGroups) -> str:
    """Return the share of the last seconds: a minute shows a beginning and an end too late."""
    bad, total = failures(reading.newest, len(reading.names["series"]))
    if cluster.where is not None:
        inside = groups.inside(cluster.where)
        bad, total = bad * inside, total * inside
    if int(total.sum()) < _NEWEST_MIN_REQUESTS:
        return ""
    age = fmt.span(reading.now_s - reading.newest_s)
    return f", {fmt.percent(int(bad.sum()) / int(total.sum()))} in the last {age}"


def _outcomes(cluster: FailureCluster, groups: SeriesGroups, sums: Sums) -> str:
    """Return the outcomes of the failures: the commonest, and the second if it matters."""
    counts = sums.counts.values
    if cluster.where is not None:
        counts = counts[groups.inside(cluster.where)[sums.counts.keys]]
    failed = Counter(
        {
            name: number
            for name, number in outcome_counts(counts).items()
            if name in ELIGIBLE and name != "success"
        }
    )
    commonest = failed.most_common(2)
    # A second outcome below a tenth of the first would only lengthen the sentence.
    if len(commonest) == 2 and commonest[1][1] * 10 < commonest[0][1]:
        commonest = commonest[:1]
    return ", ".join(name for name, _ in commonest)


def client_error_incidents(reading: BoardInput, name_of: NameOf) -> Iterator[Incident]:
    """Yield the places whose client errors jumped; of two alerts about one place the urgent one."""
    places: dict[tuple[str, str], AlertState] = {}
    states = reading.alerts.named(CLIENT_ERRORS)
    for state in sorted(states, key=lambda state: URGENCY[severity_of(state)]):
        scope = state.series["scope"]
        places.setdefault((scope, state.series[scope]), state)
    for (scope, name), state in list(places.items())[:_INCIDENTS_MAX]:
        place = name_of(name) if scope == "customer" else name
        words = (
            f"{fmt.capitalize(scope)} {place}: {fmt.percent(state.value)} of the requests are "
            "client errors, far more than in the day before; availability does not count them."
        )
        yield Incident(severity_of(state), words, CLIENT_ERRORS, CLIENT_ERRORS)


# -- threshold objectives --------------------------------------------------------------------------


def threshold_incidents(
    statuses: Iterable[ThresholdStatus], reading: BoardInput, groups: SeriesGroups, name_of: NameOf
) -> Iterator[Incident]:
    """Yield the threshold objectives with an active alert; of one objective a few names only."""
    # By identity of the objective: policies may use one name twice.
    shown = Counter[int]()
    for status in statuses:
        if status.alert is None:
            continue
        shown[id(status.objective)] += 1
        if shown[id(status.objective)] <= _NAMES_MAX:
            words = f"{_threshold_words(status, reading, groups, name_of)}."
            alert = status.alert.alert
            yield Incident(severity_of(status.alert), words, alert, alert)


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
    inside = _series_inside(status, reading)
    sums = reading.windows[LOCALISATION_WINDOW]["series"]
    bad, total = slow(sums, len(inside), indicator.measure, int(target_s * 10**6))
    where = localise(groups.splits(bad * inside, total * inside), 1 - indicator.percentile / 100)
    target = fmt.exact_latency(target_s)
    words = (
        f"P{indicator.percentile} {LATENCY_WORDS[indicator.measure]}{of_scope} is "
        f"{value_text(status)} over the {fmt.last_window(indicator.window)}, target under {target}"
    )
    if where is not None:
        return (
            f"{words}: {where.words} {_verb(where, 'has', 'have')} {fmt.percent(where.explained)} "
            f"of the slow requests, {fmt.percent(where.share)} of "
            f"{fmt.counted(where.total, 'request')} there took over {target}{_elsewhere(where)}"
        )
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
    inside = _series_inside(status, reading)
    bad, total = cache_misses(reading.windows[LOCALISATION_WINDOW]["series"], len(inside))
    where = localise(groups.splits(bad * inside, total * inside), float(1 - target))
    if where is not None:
        words += (
            f": {where.words} {_verb(where, 'reads', 'read')} {fmt.percent(where.good, target)} "
            f"of {_verb(where, 'its', 'their')} input from the cache"
        )
        if where.good_elsewhere is not None:
            words += f", elsewhere it is {fmt.percent(where.good_elsewhere, target)}"
    return words


def _volume_words(
    status: ThresholdStatus, indicator: TokenVolumeDrop, of_scope: str, reading: BoardInput
) -> str:
    window = fmt.last_window(indicator.window)
    words = f"Token volume{of_scope} over the {window} fell to {value_text(status)}"
    if status.objective.scope != Scope():
        return words
    where = localise(_missing_tokens(indicator, reading), 0.5)
    if where is not None:
        words += f": {where.words} {_verb(where, 'is', 'are')} at {fmt.percent(where.good)}"
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


def _series_inside(status: ThresholdStatus, reading: BoardInput) -> Ints:
    """Return 1 for each series that an objective is about, else 0."""
    scope = status.objective.scope
    wanted = scope.names()
    inside = []
    for key in reading.names["series"]:
        values: dict[str, str] = dict(zip(SERIES_DIMENSIONS, key, strict=True))
        is_named = all(values[dimension] in names for dimension, names in wanted.items())
        inside.append(is_named and (scope.per is None or values[scope.per] == status.name))
    return np.array(inside, np.int64)


# -- error budgets ---------------------------------------------------------------------------------


def budget_incidents(reading: BoardInput, name_of: NameOf) -> Iterator[Incident]:
    """Yield error budgets that burn or are spent; of one objective the worst names only."""
    shown = Counter[int]()
    results: Sequence[ObjectiveResult] = reading.results or ()
    for result in sorted(results, key=lambda result: result.status.budget_left or 0):
        incident = _burning(result, reading, name_of) or _objective_miss(result, reading, name_of)
        if incident is not None:
            shown[id(result.objective)] += 1
            if shown[id(result.objective)] <= _NAMES_MAX:
                yield incident


def _burning(result: ObjectiveResult, reading: BoardInput, name_of: NameOf) -> Incident | None:
    threshold, status = burning(result, reading.alerts), result.status
    if threshold is None:
        return None
    severity: Severity = "page" if threshold.severity == "page" else "ticket"
    words = (
        f"{_objective_words(result, name_of)} burns its error budget at "
        f"{fmt.burn_rate(status.burn[threshold.long], threshold.factor)} the sustainable rate "
        f"over the {fmt.last_window(threshold.long)} "
        f"(a {severity} above {fmt.burn_rate(threshold.factor)})"
    )
    left = status.budget_left
    if left is not None and left <= 0:
        words += ", and it is spent"
    elif left is not None:
        words += f": {fmt.percent(left)} of it is left"
        if status.exhausted_at_s is not None and status.exhausted_at_s > reading.now_s:
            ahead = fmt.span(status.exhausted_at_s - reading.now_s)
            words += f", for {ahead} more at the pace of the last day"
    return Incident(severity, f"{words}.", BURN, BURN)


def _objective_miss(
    result: ObjectiveResult, reading: BoardInput, name_of: NameOf
) -> Incident | None:
    objective = result.objective
    alerts = reading.alerts.of(result.policy, objective, result.name)
    if not any(alert.alert == MISSED for alert in alerts):
        return None
    ratio = fmt.percent(result.status.attainment.ratio, objective.target)
    return Incident(
        "ticket",
        f"{_objective_words(result, name_of)} is missed: {ratio} of "
        f"{fmt.exact_percent(objective.target)}, so its error budget is spent.",
        MISSED,
        MISSED,
    )


def _objective_words(result: ObjectiveResult, name_of: NameOf) -> str:
    scope = result_scope(result, name_of)
    return f"Objective {result.objective.name}" + ("" if scope == "fleet" else f" ({scope})")


# -- words -----------------------------------------------------------------------------------------


def _elsewhere(where: Localisation) -> str:
    share = where.share_elsewhere
    return "" if share is None else f"; elsewhere {fmt.percent(share)}"


def _verb(where: Localisation, singular: str, plural: str) -> str:
    return singular if len(where.names) == 1 else plural
