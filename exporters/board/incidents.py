"""What is wrong with the traffic now, in words: how bad, where, and how it is elsewhere.

Pure. Whether an alert's condition holds comes from the rules (alerts.py); an alert waits before it
fires, the board shows it at once. Failures are localised over the last minute, so that an outage is
shown within seconds.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from exporters import formatting as fmt
from exporters.board.alerts import BURN, MISSED, OUTAGE, severity_of
from exporters.board.breakdown import Limits
from exporters.board.facts import Incident, Severity
from exporters.board.input import Reading
from exporters.board.localisation import Localisation, SeriesGroups, Split, localise
from exporters.board.objectives import NameOf, burning, mildest_threshold, scope_words, value_text
from exporters.board.thresholds import DROP_SCOPES, ThresholdStatus
from exporters.windows.incremental import Sums
from exporters.windows.measured import Measured, failures, outcome_counts, slow, uncached
from slo.alert_state import AlertState
from slo.engine.report import ObjectiveResult
from slo.policy.conditions import BURN_MIN_FAILURES
from slo.policy.indicators import CacheHitRatio, RollingPercentile, TokenVolumeDrop
from slo.policy.policy import LatencyThresholdObjective, ShareThresholdObjective
from slo.policy.scope import Scope
from streams.events.decoder import ELIGIBLE
from streams.state.measures import SERIES_DIMENSIONS
from streams.state.tables import Ints
from streams.state.windows import ROLLING_S

OUTAGE_WINDOW = "1m"
_NEWEST_MIN_REQUESTS = 20  # for a share of them to be shown
NEWEST_S = 20  # the slice of ten seconds that is filling, and the one before it
LOCALISATION_WINDOW = "5m"  # of latency and caching: the newest with enough requests
_INCIDENTS_MAX = 3
_NAMES_MAX = 3  # of one objective
_WORDS = {"ttft": "time to first token", "tpot": "time per output token", "duration": "duration"}


@dataclass(frozen=True, slots=True)
class FailureCluster:
    """Failures in one place, or everywhere."""

    where: Localisation | None
    bad: int
    total: int


# -- availability ----------------------------------------------------------------------------------


def outages(reading: Reading, groups: SeriesGroups, limits: Limits) -> Iterator[Incident]:
    """Yield the places in which failures of the last minute spend the error budget too fast.

    A place of an active outage alert is an outage. The others are an early sign: no rule looks at
    a single minute, and the burn-rate alerts follow if the failures go on.
    """
    sums = reading.windows[OUTAGE_WINDOW]["series"]
    bad, total = failures(sums, len(reading.names["series"]))
    allowed = 0.5 if limits.failing_share is None else limits.failing_share
    alerts, has_outage = reading.alerts.outages, False
    for cluster in _clusters(groups, bad, total, allowed):
        is_outage = any(_covers(cluster, alert) for alert in alerts)
        has_outage |= is_outage
        severity: Severity = "page"
        if not is_outage and limits.burn is not None and limits.burn.severity == "ticket":
            severity = "ticket"
        alert = OUTAGE if is_outage else BURN
        yield Incident(severity, _failing(cluster, reading, groups, sums), alert, alert)
    if alerts and not has_outage:
        yield _outage_without_cluster(alerts[0])


def _covers(cluster: FailureCluster, alert: AlertState) -> bool:
    """Return whether an outage alert is about these failures."""
    where, series = cluster.where, alert.series
    if where is None:
        return True
    if where.dimension in ("region", "model"):
        return series.get(where.dimension) in where.names
    # Outage alerts exist for the fleet, regions and models; other places share that of the fleet.
    return series.get("scope") == "fleet"


def _outage_without_cluster(alert: AlertState) -> Incident:
    """Return an outage that no localisation explains, by the labels of its alert."""
    place = next(
        (
            f"{name.capitalize()} {alert.series[name]}"
            for name in ("region", "model")
            if name in alert.series
        ),
        "The fleet",
    )
    words = (
        f"{place}: {fmt.percent(1 - alert.value)} of the requests failed in the "
        f"{fmt.last_window(OUTAGE_WINDOW)}."
    )
    return Incident("page", words, OUTAGE, OUTAGE)


def _clusters(
    places: SeriesGroups, bad: Ints, total: Ints, allowed: float
) -> Iterator[FailureCluster]:
    for _ in range(_INCIDENTS_MAX):
        bad_all, total_all = int(bad.sum()), int(total.sum())
        if bad_all < BURN_MIN_FAILURES:
            return
        where = localise(places.splits(bad, total), allowed)
        if where is None:
            if bad_all > allowed * total_all:
                yield FailureCluster(None, bad_all, total_all)
            return
        if where.bad < BURN_MIN_FAILURES or where.share <= allowed:
            return
        yield FailureCluster(where, where.bad, where.total)
        elsewhere = ~places.inside(where)
        bad, total = bad * elsewhere, total * elsewhere


def _failing(incident: FailureCluster, reading: Reading, places: SeriesGroups, sums: Sums) -> str:
    share, how = fmt.percent(incident.bad / incident.total), _how(incident, places, sums)
    said = (
        f"{share} of {fmt.counted(incident.total, 'request')} failed in "
        f"the {fmt.last_window(OUTAGE_WINDOW)} ({how}){_newest(incident, reading, places)}"
    )
    if incident.where is None:
        return f"{said}, in all regions and models alike."
    return f"{fmt.capitalize(incident.where.words)}: {said}{_elsewhere(incident.where)}."


def _newest(incident: FailureCluster, reading: Reading, places: SeriesGroups) -> str:
    """How it is just now: a minute is slow to tell a beginning and an end."""
    bad, total = failures(reading.newest, len(reading.names["series"]))
    if incident.where is not None:
        inside = places.inside(incident.where)
        bad, total = bad * inside, total * inside
    if int(total.sum()) < _NEWEST_MIN_REQUESTS:
        return ""
    ago = fmt.span(reading.now_s - reading.newest_s)
    return f", {fmt.percent(int(bad.sum()) / int(total.sum()))} in the last {ago}"


def _how(incident: FailureCluster, places: SeriesGroups, sums: Sums) -> str:
    """The outcomes of the failures: one that dominates, or two."""
    counts = sums.counts.values
    if incident.where is not None:
        counts = counts[places.inside(incident.where)[sums.counts.keys]]
    failed = {name: n for name, n in outcome_counts(counts).items() if name in ELIGIBLE}
    every = Counter({name: n for name, n in failed.items() if name != "success"}).most_common(2)
    if len(every) == 2 and every[1][1] * 10 < every[0][1]:
        every = every[:1]
    return ", ".join(name for name, _ in every)


# -- levels ----------------------------------------------------------------------------------------


def threshold_incidents(
    levels: Iterable[ThresholdStatus], reading: Reading, places: SeriesGroups, name_of: NameOf
) -> Iterator[Incident]:
    """Objectives with levels that are crossed; of one objective only some names."""
    told = Counter[int]()
    for one in levels:
        if one.alert is None:
            continue
        told[id(one.objective)] += 1
        if told[id(one.objective)] <= _NAMES_MAX:
            yield _crossed(one, one.alert, reading, places, name_of)


def _crossed(
    one: ThresholdStatus,
    alert: AlertState,
    reading: Reading,
    places: SeriesGroups,
    name_of: NameOf,
) -> Incident:
    indicator = one.objective.indicator
    whose = scope_words(one.objective.scope, one.name, name_of)
    of = "" if whose == "fleet" else f" of {whose}"
    if isinstance(indicator, RollingPercentile):
        said = _slow(one, of, reading, places)
    elif isinstance(indicator, CacheHitRatio):
        said = _uncached(one, of, reading, places)
    else:
        said = _fewer(one, indicator, of, reading)
    return Incident(severity_of(alert), said, alert.alert, alert.alert)


def _slow(one: ThresholdStatus, of: str, reading: Reading, places: SeriesGroups) -> str:
    assert isinstance(one.objective, LatencyThresholdObjective)
    indicator = one.objective.indicator
    target_s = mildest_threshold(one.objective)
    groups = len(reading.names["series"])
    sums = reading.windows[LOCALISATION_WINDOW]["series"]
    bad, total = slow(sums, groups, indicator.measure, int(target_s * 10**6))
    mine = _mine(one, reading)
    where = localise(places.splits(bad * mine, total * mine), 1 - indicator.percentile / 100)
    limit = fmt.exact_latency(target_s)
    said = (
        f"P{indicator.percentile} {_WORDS[indicator.measure]}{of} is {value_text(one)} over "
        f"the {fmt.last_window(indicator.window)}, target under {limit}"
    )
    if where is not None:
        said += (
            f": {where.words} {_has(where)} {fmt.percent(where.explained)} of the slow requests, "
            f"{fmt.percent(where.share)} of {fmt.counted(where.total, 'request')} there took over "
            f"{limit}{_elsewhere(where)}"
        )
    elif len(set(reading.names["series"])) > 1:
        said += ", in all regions and models alike"
    return f"{said}."


def _uncached(one: ThresholdStatus, of: str, reading: Reading, places: SeriesGroups) -> str:
    assert isinstance(one.objective, ShareThresholdObjective)
    indicator = one.objective.indicator
    target = mildest_threshold(one.objective)
    shorter = ""
    if one.shorter is not None:
        window, value = one.shorter
        shorter = f" and {fmt.percent(value, target)} over the {fmt.last_window(window)}"
    said = (
        f"Cache hit ratio{of} is {value_text(one)} over the {fmt.last_window(indicator.window)}"
        f"{shorter}, target at least {fmt.exact_percent(target)}"
    )
    if "customer" in one.objective.scope.dimensions():
        return f"{said}."
    mine = _mine(one, reading)
    bad, total = uncached(reading.windows[LOCALISATION_WINDOW]["series"], len(mine))
    where = localise(places.splits(bad * mine, total * mine), float(1 - target))
    if where is not None:
        said += (
            f": {where.words} {_reads(where)} {fmt.percent(where.good, target)} of "
            f"{'its' if len(where.names) == 1 else 'their'} input from the cache"
        )
        if where.good_elsewhere is not None:
            said += f", elsewhere it is {fmt.percent(where.good_elsewhere, target)}"
    return f"{said}."


def _fewer(one: ThresholdStatus, indicator: TokenVolumeDrop, of: str, reading: Reading) -> str:
    said = (
        f"Token volume{of} over the {fmt.last_window(indicator.window)} fell to {value_text(one)}"
    )
    if one.objective.scope != Scope():
        return f"{said}."
    where = localise(_missing(indicator, reading), 0.5)
    if where is not None:
        said += f": {where.words} {_is(where)} at {fmt.percent(where.good)}"
        if where.good_elsewhere is not None:
            said += f", elsewhere it is {fmt.percent(where.good_elsewhere)}"
    return f"{said}."


def _missing(indicator: TokenVolumeDrop, reading: Reading) -> dict[str, Split]:
    """Tokens that one would expect by place, and how many of them did not come."""
    times = Fraction(ROLLING_S[indicator.window], ROLLING_S[indicator.baseline])
    found = {}
    for scope in DROP_SCOPES:
        now = reading.by_name(indicator.window, scope)
        usual = reading.by_name(indicator.baseline, scope)
        expected = np.array([int(one.tokens * times) for one in usual.values()], np.int64)
        came = np.array([now.get(name, Measured()).tokens for name in usual], np.int64)
        found[scope] = Split(list(usual), np.maximum(expected - came, 0), expected)
    return found


def _mine(one: ThresholdStatus, reading: Reading) -> Ints:
    """1 for the series that an objective is about, else 0."""
    scope, found = one.objective.scope, []
    wanted = scope.names()
    for key in reading.names["series"]:
        values: dict[str, str] = dict(zip(SERIES_DIMENSIONS, key, strict=True))
        mine = all(values[dimension] in names for dimension, names in wanted.items())
        found.append(mine and (scope.per is None or values[scope.per] == one.name))
    return np.array(found, np.int64)


# -- promises --------------------------------------------------------------------------------------


def budget_incidents(reading: Reading, name_of: NameOf) -> Iterator[Incident]:
    """Yield error budgets that burn or are spent; of one objective the worst names only."""
    shown = Counter[int]()
    results = reading.results or ()
    for result in sorted(results, key=lambda result: result.status.budget_left or 0):
        incident = _burning(result, reading, name_of) or _missed(result, reading, name_of)
        if incident is not None:
            shown[id(result.objective)] += 1
            if shown[id(result.objective)] <= _NAMES_MAX:
                yield incident


def _burning(result: ObjectiveResult, reading: Reading, name_of: NameOf) -> Incident | None:
    threshold, status = burning(result, reading.alerts), result.status
    if threshold is None:
        return None
    severity: Severity = "page" if threshold.severity == "page" else "ticket"
    words = (
        f"{_promised(result, name_of)} burns its error budget at "
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


def _missed(result: ObjectiveResult, reading: Reading, name_of: NameOf) -> Incident | None:
    objective = result.objective
    alerts = reading.alerts.of(result.policy, objective, result.name)
    if not any(alert.alert == MISSED for alert in alerts):
        return None
    ratio = fmt.percent(result.status.attainment.ratio, objective.target)
    return Incident(
        "ticket",
        f"{_promised(result, name_of)} is missed: {ratio} of "
        f"{fmt.exact_percent(objective.target)}, so its error budget is spent.",
        MISSED,
        MISSED,
    )


def _promised(one: ObjectiveResult, name_of: NameOf) -> str:
    whose = scope_words(one.objective.scope, one.name, name_of)
    if one.customer is not None and one.objective.scope.per is None:
        whose = f"customer {name_of(one.customer)}"
    return f"Objective {one.objective.name}" + ("" if whose == "fleet" else f" ({whose})")


# -- small pieces ----------------------------------------------------------------------------------


def _elsewhere(where: Localisation) -> str:
    share = where.share_elsewhere
    return "" if share is None else f"; elsewhere {fmt.percent(share)}"


def _has(where: Localisation) -> str:
    return "has" if len(where.names) == 1 else "have"


def _is(where: Localisation) -> str:
    return "is" if len(where.names) == 1 else "are"


def _reads(where: Localisation) -> str:
    return "reads" if len(where.names) == 1 else "read"
