"""What is wrong with the traffic now, in words: how bad, where, and how it is elsewhere.

Pure. Conditions and names are those of the alerts; an alert waits before it fires, the board tells
at once. Failures are looked at over the last minute, so that an outage is told within seconds.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from exporters import formatting as fmt
from exporters.board.breakdown import Limits
from exporters.board.facts import Incident, Severity
from exporters.board.input import Reading
from exporters.board.localisation import Localisation, SeriesGroups, Split, localise
from exporters.board.objectives import NameOf, burning, mildest_threshold, scope_words, value_text
from exporters.board.thresholds import DROP_SCOPES, ThresholdStatus
from exporters.windows.incremental import Sums
from exporters.windows.measured import Measured, failures, outcome_counts, slow, uncached
from slo.engine.report import ObjectiveResult
from slo.policy.conditions import BURN_MIN_FAILURES, OUTAGE_BELOW, OUTAGE_MIN_REQUESTS
from slo.policy.indicators import CacheHitRatio, RollingPercentile, TokenVolumeDrop
from slo.policy.policy import LatencyThresholdObjective, ShareThresholdObjective
from slo.policy.scope import Scope
from streams.events.decoder import ELIGIBLE
from streams.state.measures import SERIES_DIMENSIONS
from streams.state.tables import Ints
from streams.state.windows import ROLLING_S

OUTAGE_WINDOW = "1m"
NEWEST_S = 20  # the slice of ten seconds that is filling, and the one before it
LOCALISATION_WINDOW = (
    "5m"  # where latency and caching are looked for: the newest that has enough of them
)
_INCIDENTS_MAX = 3
_NAMES_MAX = 3  # of one objective
_ALERTS = {"ttft": "TokenpulseTtftHigh", "tpot": "TokenpulseTpotHigh"}
_WORDS = {"ttft": "time to first token", "tpot": "time per output token", "duration": "duration"}


@dataclass(frozen=True, slots=True)
class FailureCluster:
    """Failures in one place, or everywhere."""

    where: Localisation | None
    bad: int
    total: int


# -- availability ----------------------------------------------------------------------------------


def outages(reading: Reading, places: SeriesGroups, limits: Limits) -> Iterator[Incident]:
    """Failures that spend the error budget too fast to be borne, each place once."""
    sums = reading.windows[OUTAGE_WINDOW]["series"]
    bad, total = failures(sums, len(reading.names["series"]))
    outage_share = 1 - float(OUTAGE_BELOW)
    allowed = outage_share if limits.failing_share is None else limits.failing_share
    for incident in _clusters(places, bad, total, allowed):
        share = incident.bad / incident.total
        is_outage = share > outage_share and incident.total >= OUTAGE_MIN_REQUESTS
        severity: Severity = "page"
        if not is_outage and limits.burn is not None and limits.burn.severity == "ticket":
            severity = "ticket"
        alert = "TokenpulseOutage" if is_outage else "TokenpulseErrorBudgetBurn"
        yield Incident(severity, _failing(incident, reading, places, sums), alert, alert)


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
    if int(total.sum()) < OUTAGE_MIN_REQUESTS:
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
        if one.level is None:
            continue
        told[id(one.objective)] += 1
        if told[id(one.objective)] <= _NAMES_MAX:
            yield _crossed(one, reading, places, name_of)


def _crossed(
    one: ThresholdStatus, reading: Reading, places: SeriesGroups, name_of: NameOf
) -> Incident:
    indicator = one.objective.indicator
    whose = scope_words(one.objective.scope, one.name, name_of)
    of = "" if whose == "fleet" else f" of {whose}"
    if isinstance(indicator, RollingPercentile):
        said, alert = _slow(one, of, reading, places)
    elif isinstance(indicator, CacheHitRatio):
        said, alert = _uncached(one, of, reading, places), "TokenpulseCacheHitLow"
    else:
        said, alert = _fewer(one, indicator, of, reading), "TokenpulseTokenVolumeDrop"
    severity: Severity = "page" if one.level is None else one.level.severity
    return Incident(severity, said, alert, alert)


def _slow(one: ThresholdStatus, of: str, reading: Reading, places: SeriesGroups) -> tuple[str, str]:
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
    return f"{said}.", _ALERTS.get(indicator.measure, "TokenpulseDurationHigh")


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


def budget_incidents(
    found: Sequence[ObjectiveResult], name_of: NameOf, now_s: float
) -> Iterator[Incident]:
    """Error budgets that burn or are gone; of one objective only some names, the worst."""
    told = Counter[int]()
    for one in sorted(found, key=lambda one: one.status.budget_left or 0):
        incident = _burning(one, name_of, now_s) or _missed(one, name_of)
        if incident is not None:
            told[id(one.objective)] += 1
            if told[id(one.objective)] <= _NAMES_MAX:
                yield incident


def _burning(one: ObjectiveResult, name_of: NameOf, now_s: float) -> Incident | None:
    level, stands = burning(one), one.status
    if level is None:
        return None
    severity: Severity = "page" if level.severity == "page" else "ticket"
    said = (
        f"{_promised(one, name_of)} burns its error budget at "
        f"{fmt.burn_rate(stands.burn[level.long], level.factor)} the sustainable rate over the "
        f"{fmt.last_window(level.long)} (a {severity} above {fmt.burn_rate(level.factor)})"
    )
    left = stands.budget_left
    if left is not None and left <= 0:
        said += ", and it is spent"
    elif left is not None:
        said += f": {fmt.percent(left)} of it is left"
        if stands.exhausted_at_s is not None and stands.exhausted_at_s > now_s:
            ahead = fmt.span(stands.exhausted_at_s - now_s)
            said += f", for {ahead} more at the pace of the last day"
    alert = "TokenpulseErrorBudgetBurn"
    return Incident(severity, f"{said}.", alert, alert)


def _missed(one: ObjectiveResult, name_of: NameOf) -> Incident | None:
    ratio, promise = one.status.attainment.ratio, one.objective
    if promise.severity == "none" or ratio is None or ratio >= promise.target:
        return None
    alert = "TokenpulseObjectiveMissed"
    return Incident(
        "ticket",
        f"{_promised(one, name_of)} is missed: {fmt.percent(ratio, promise.target)} of "
        f"{fmt.exact_percent(promise.target)}, so its error budget is spent.",
        alert,
        alert,
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
