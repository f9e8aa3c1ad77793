"""Puts together what the live board says, at every refresh.

Pure but for what it remembers: totals of the last quarter of an hour, and where each series is.
All numbers are the sums of one window, as `tokenpulse report` gives them for the same stretch.
"""

from collections.abc import Iterator, Sequence
from itertools import chain

from exporters import formatting as fmt
from exporters.board.alerts import URGENCY, AlertRules
from exporters.board.breakdown import Limits, places
from exporters.board.data_quality import DataQuality, data_quality
from exporters.board.facts import Incident, LiveFacts, State, TileValue
from exporters.board.incidents import OUTAGE_WINDOW, budget_incidents, outages, threshold_incidents
from exporters.board.input import Reading
from exporters.board.localisation import SeriesGroups
from exporters.board.objectives import NameOf, history_strips, objective_statuses
from exporters.board.recent_totals import RecentTotals
from exporters.board.thresholds import ThresholdStatus, threshold_statuses, windows_needed
from exporters.board.tiles import WINDOW, TileValues
from exporters.windows.measured import Measured
from slo.policy.policy import Policy
from slo.policy.targets import targets_of


class LiveBoard:
    """The board of some policies."""

    def __init__(self, policies: Sequence[Policy], name_of: NameOf, stale_after_s: float) -> None:
        """`name_of`: token of a customer -> its name. `stale_after_s`: age of a sign of life from
        which on its worker counts as gone."""
        self._policies, self._name_of = policies, name_of
        self._stale_after_s = stale_after_s
        self._targets, self._limits = targets_of(policies), Limits.of(policies)
        self._history, self._places = RecentTotals(), SeriesGroups()

    def facts(self, reading: Reading) -> LiveFacts:
        """Everything the board shows now."""
        self._places.follow(reading.names["series"])
        levels = threshold_statuses(self._policies, reading)
        trusted = data_quality(reading, WINDOW, self._history, self._stale_after_s)
        incidents = self._incidents(reading, levels, trusted)
        fleet = reading.fleet(WINDOW)
        from_s, to_s = reading.spans[WINDOW]
        numbers = TileValues(reading, self._targets, self._limits, levels, trusted.stale)
        ttft = numbers.latency("ttft", self._targets.ttft_p95_s)
        tpot = numbers.latency("tpot", self._targets.tpot_p95_s)
        cache, available = numbers.cache_hit(), numbers.availability()
        well = list(_well(available, ttft, tpot, cache))
        return LiveFacts(
            made_at_s=reading.now_s,
            window=WINDOW,
            from_s=from_s,
            to_s=to_s,
            headline=_headline(incidents, trusted, fleet, well),
            state=_overall(incidents, trusted, fleet),
            incidents=incidents,
            ttft_p95_s=ttft,
            tpot_p95_s=tpot,
            cache_hit_ratio=cache,
            availability_ratio=available,
            tokens_per_s=numbers.tokens_per_s(),
            requests=fleet.requests,
            tokens=fleet.tokens,
            objectives=objective_statuses(self._policies, levels, reading, self._name_of),
            history=history_strips(reading, self._name_of),
            models=places(reading.by_name(WINDOW, "model"), fleet, self._limits),
            regions=places(reading.by_name(WINDOW, "region"), fleet, self._limits),
            freshness=trusted.freshness,
        )

    def _incidents(
        self, reading: Reading, levels: Sequence[ThresholdStatus], trusted: DataQuality
    ) -> tuple[Incident, ...]:
        """The most urgent first; of equally urgent ones what makes the others doubtful."""
        found = list(trusted.incidents)
        if not trusted.blind:
            found += outages(reading, self._places, self._limits)
            found += threshold_incidents(levels, reading, self._places, self._name_of)
            found += budget_incidents(reading, self._name_of)
        return tuple(sorted(found, key=lambda one: URGENCY[one.severity]))


def sums_needed(policies: Sequence[Policy], rules: AlertRules) -> dict[str, set[str]]:
    """Return the scopes that the board and its alert rules read, by window."""
    found = {WINDOW: {"fleet", "series", "model", "region"}, OUTAGE_WINDOW: {"series"}}
    by_rules = ((window, scope) for scope, window in rules.reads)
    for window, scope in chain(windows_needed(policies), by_rules):
        found.setdefault(window, set()).add(scope)
    return found


def _overall(incidents: Sequence[Incident], trusted: DataQuality, fleet: Measured) -> State:
    if trusted.stale:
        return "unknown"
    severities = {one.severity for one in incidents}
    if "page" in severities:
        return "breached"
    if "ticket" in severities:
        return "at_risk"
    return "ok" if fleet.requests else "unknown"


def _headline(
    incidents: Sequence[Incident], trusted: DataQuality, fleet: Measured, well: Sequence[str]
) -> str:
    """The most urgent incident; what is stale goes before everything else."""
    if trusted.stale:
        return f"These numbers are old: {_uncapital(trusted.freshness.words)}"
    if incidents:
        more = f" And {len(incidents) - 1:,} more." if incidents[1:] else ""
        return incidents[0].words + more
    if not fleet.requests:
        return f"No requests in the {fmt.last_window(WINDOW)}. {trusted.freshness.words}"
    return (
        f"All is well{': ' if well else ''}{', '.join(well)}, over the {fmt.last_window(WINDOW)}."
    )


def _well(
    available: TileValue, ttft: TileValue, tpot: TileValue, cache: TileValue
) -> Iterator[str]:
    """The numbers of the tiles, written as there."""
    if available.value is not None:
        succeeded = fmt.percent(available.value, available.target)
        yield f"{succeeded} of {fmt.counted(available.samples, 'request')} succeeded"
    for name, latency in (("TTFT", ttft), ("TPOT", tpot)):
        if latency.value is not None:
            yield f"P95 {name} {fmt.latency(latency.value, latency.target)}"
    if cache.value is not None:
        yield f"cache hit rate {fmt.percent(cache.value, cache.target)}"


def _uncapital(said: str) -> str:
    return said[:1].lower() + said[1:]
