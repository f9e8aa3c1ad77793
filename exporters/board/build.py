"""The live board's facts, put together at every refresh.

Pure but for the state between refreshes: the totals of the last 15 minutes, and the places of each
series. All numbers are the sums of one window, as `tokenpulse report` gives them for the same
stretch.
"""

from collections.abc import Iterator, Sequence
from itertools import chain

from exporters import formatting as fmt
from exporters.board.alerts import URGENCY, AlertRules
from exporters.board.breakdown import FleetTargets, breakdown
from exporters.board.data_quality import DataQuality, data_quality
from exporters.board.facts import Incident, LiveFacts, State, TileValue
from exporters.board.incidents import (
    OUTAGE_WINDOW,
    budget_incidents,
    client_error_incidents,
    outages,
    threshold_incidents,
)
from exporters.board.input import BoardInput
from exporters.board.localisation import SeriesGroups
from exporters.board.objectives import NameOf, history_strips, objective_statuses
from exporters.board.recent_totals import RecentTotals
from exporters.board.thresholds import ThresholdStatus, objective_windows, threshold_statuses
from exporters.board.tiles import WINDOW, TileValues
from exporters.place_links import DIMENSION_OF
from exporters.windows.measured import Measured
from slo.policy.policy import Policy
from slo.policy.targets import targets_of


class LiveBoard:
    """The board of some policies."""

    def __init__(self, policies: Sequence[Policy], name_of: NameOf, stale_after_s: float) -> None:
        """Prepare the board.

        `name_of`: token of a customer -> its name. `stale_after_s`: age of a heartbeat after which
        its worker counts as gone.
        """
        self._policies, self._name_of = policies, name_of
        self._stale_after_s = stale_after_s
        self._targets, self.limits = targets_of(policies), FleetTargets.of(policies)
        self._totals, self._groups = RecentTotals(), SeriesGroups()

    def facts(self, reading: BoardInput) -> LiveFacts:
        """Return all that the board shows now."""
        # New series need their places before failures are localised by them.
        self._groups.follow(reading.names["series"])
        statuses = threshold_statuses(self._policies, reading)
        quality = data_quality(reading, WINDOW, self._totals, self._stale_after_s)
        incidents = self._incidents(reading, statuses, quality)
        fleet = reading.fleet(WINDOW)
        from_s, to_s = reading.spans[WINDOW]
        tiles = TileValues(reading, self._targets, self.limits, statuses, quality.stale)
        ttft = tiles.latency("ttft", self._targets.ttft_p95_s)
        tpot = tiles.latency("tpot", self._targets.tpot_p95_s)
        cache, availability = tiles.cache_hit(), tiles.availability()
        calm_words = list(_calm_words(availability, ttft, tpot, cache))
        return LiveFacts(
            made_at_s=reading.now_s,
            window=WINDOW,
            from_s=from_s,
            to_s=to_s,
            headline=_headline(incidents, quality, fleet, calm_words),
            state=_overall_state(incidents, quality, fleet),
            incidents=incidents,
            ttft_p95_s=ttft,
            tpot_p95_s=tpot,
            cache_hit_ratio=cache,
            availability_ratio=availability,
            tokens_per_s=tiles.tokens_per_s(),
            requests=fleet.requests,
            tokens=fleet.known_tokens,
            objectives=objective_statuses(self._policies, statuses, reading, self._name_of),
            history=history_strips(reading, self._name_of),
            models=breakdown(reading.by_name(WINDOW, "model"), fleet, self.limits),
            regions=breakdown(reading.by_name(WINDOW, "region"), fleet, self.limits),
            freshness=quality.freshness,
        )

    def _incidents(
        self, reading: BoardInput, statuses: Sequence[ThresholdStatus], quality: DataQuality
    ) -> tuple[Incident, ...]:
        """Return the most urgent first; of equally urgent ones those of the data first."""
        incidents = list(quality.incidents)
        # If no partition is counted, the traffic is unknown and its alerts describe the past.
        if not quality.blind:
            incidents += outages(reading, self._groups, self.limits)
            incidents += client_error_incidents(reading, self._name_of)
            incidents += threshold_incidents(statuses, reading, self._groups, self._name_of)
            incidents += budget_incidents(reading, self._name_of)
        return tuple(sorted(incidents, key=lambda incident: URGENCY[incident.severity]))


def board_sums(policies: Sequence[Policy], rules: AlertRules) -> dict[str, set[str]]:
    """Return the scopes that the board, the pages of places and the alert rules read, by window."""
    needed = {WINDOW: {"fleet", "series", *DIMENSION_OF.values()}, OUTAGE_WINDOW: {"series"}}
    by_rules = ((window, scope) for scope, window in rules.reads)
    for window, scope in chain(objective_windows(policies), by_rules):
        needed.setdefault(window, set()).add(scope)
    return needed


def _overall_state(incidents: Sequence[Incident], quality: DataQuality, fleet: Measured) -> State:
    # Old numbers do not describe the present, so this goes before all incidents.
    if quality.stale:
        return "unknown"
    severities = {incident.severity for incident in incidents}
    if "page" in severities:
        return "breached"
    if "ticket" in severities:
        return "at_risk"
    return "ok" if fleet.requests else "unknown"


def _headline(
    incidents: Sequence[Incident],
    quality: DataQuality,
    fleet: Measured,
    calm_words: Sequence[str],
) -> str:
    """Return that the numbers are old, else the most urgent incident, else how well it is."""
    if quality.stale:
        words = quality.freshness.words
        return f"These numbers are old: {words[:1].lower()}{words[1:]}"
    if incidents:
        more = f" And {len(incidents) - 1:,} more." if incidents[1:] else ""
        return incidents[0].words + more
    window = fmt.last_window(WINDOW)
    if not fleet.requests:
        return f"No requests in the {window}. {quality.freshness.words}"
    return f"All is well{': ' if calm_words else ''}{', '.join(calm_words)}, over the {window}."


def _calm_words(
    availability: TileValue, ttft: TileValue, tpot: TileValue, cache: TileValue
) -> Iterator[str]:
    """Yield the values of the tiles, written as on the tiles."""
    if availability.value is not None:
        succeeded = fmt.percent(availability.value, availability.target)
        requests = fmt.counted(availability.samples, "request")
        verb = "counts" if availability.samples == 1 else "count"
        yield f"{succeeded} of {requests} that {verb} succeeded"
    for name, latency in (("TTFT", ttft), ("TPOT", tpot)):
        if latency.value is not None:
            yield f"P95 {name} {fmt.latency(latency.value, latency.target)}"
    if cache.value is not None:
        known = fmt.known_for(cache.known_ratio, "input tokens")
        rate = fmt.percent(cache.value, cache.target)
        yield f"cache hit rate {rate}{f' ({known})' if known else ''}"
