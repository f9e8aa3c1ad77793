"""The live board's facts, put together at every refresh.

Pure but for the state between refreshes: the totals of the last 15 minutes, the places of each
series, and which of them recover. All numbers are the sums of one window, as `tokenpulse report`
gives them for the same stretch.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

from exporters.board.alerts import URGENCY, AlertRules
from exporters.board.breakdown import FleetTargets, breakdown, request_details
from exporters.board.facts import CustomerFailures, Incident, LiveFacts
from exporters.board.incidents.budgets import budget_incidents
from exporters.board.incidents.cache import early_cache_failures
from exporters.board.incidents.data_quality import DataQuality, data_quality
from exporters.board.incidents.failures import (
    OUTAGE_WINDOW,
    USUAL_WINDOW,
    customer_incidents,
    denial_incidents,
    other_incidents,
    outages,
)
from exporters.board.incidents.floods import FLOOD_DAY, early_floods, floods, without_alert
from exporters.board.incidents.kept import kept_incidents
from exporters.board.incidents.localisation import SeriesGroups
from exporters.board.incidents.log import IncidentLog
from exporters.board.incidents.newest import Recovery
from exporters.board.incidents.notifications import overall_notification
from exporters.board.incidents.rate_limits import early_rate_limits
from exporters.board.incidents.recent_totals import RecentTotals
from exporters.board.incidents.slow import (
    early_slowness,
    explained_by_another,
    slow_cell_incidents,
)
from exporters.board.incidents.thresholds import threshold_incidents
from exporters.board.input import BoardInput
from exporters.board.live.banner import make_banner, with_incident_states
from exporters.board.live.place_notes import without_failures_of
from exporters.board.objectives import NameOf, history_strips, objective_statuses
from exporters.board.thresholds import ThresholdStatus, objective_windows, threshold_statuses
from exporters.board.tiles import WINDOW, TileValues
from exporters.place_links import DIMENSION_OF
from exporters.windows.incremental import CUSTOMER
from exporters.windows.measured import failing_customers, most_failures
from slo.policy.policy import Policy
from slo.policy.targets import targets_of

_CUSTOMERS_SHOWN = 3  # in the banner; the page of an incident has more
_TOKEN = re.compile(r"\b[0-9a-f]{24}\b")  # of a customer


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
        self.incident_log: IncidentLog | None = None  # None until the stored ones are read
        self._totals, self._groups = RecentTotals(), SeriesGroups()
        self._recovery = Recovery()

    def facts(self, reading: BoardInput) -> LiveFacts:
        """Return all that the board shows now."""
        # New series need their places before failures are localised by them.
        self._groups.follow(reading.names["series"])
        statuses = threshold_statuses(self._policies, reading)
        quality = data_quality(reading, WINDOW, self._totals, self._stale_after_s)
        incidents = self._incidents(reading, statuses, quality)
        # A board without a store begins with an empty log; the exporter sets the stored one.
        if self.incident_log is None:
            self.incident_log = IncidentLog()
        incidents = self.incident_log.update(incidents, reading.now_s, quality.blind)
        if not quality.blind:
            incidents += tuple(kept_incidents(reading.alerts, incidents, reading.now_s))
        # The log keeps tokens, as it is stored; names are put in where it is shown.
        incidents = tuple(
            replace(incident, words=self._with_names(incident.words)) for incident in incidents
        )
        past_incidents = tuple(
            replace(incident, words=self._with_names(incident.words))
            for incident in self.incident_log.past()
        )
        objectives = objective_statuses(self._policies, statuses, reading, self._name_of)
        fleet = reading.fleet(WINDOW)
        from_s, to_s = reading.spans[WINDOW]
        tiles = TileValues(reading, self._targets, self.limits, statuses, quality.stale)
        ttft = tiles.latency("ttft", self._targets.ttft_p95_s)
        tpot = tiles.latency("tpot", self._targets.tpot_p95_s)
        cache, availability = tiles.cache_hit(), tiles.availability()
        volume = tiles.tokens_per_s()
        cards = {
            "P95 TTFT": ttft,
            "P95 TPOT": tpot,
            "Cache hit rate": cache,
            "Availability": availability,
            "Token volume": volume,
        }
        banner = make_banner(incidents, quality, fleet.requests, cards, objectives)
        return LiveFacts(
            made_at_s=reading.now_s,
            window=WINDOW,
            from_s=from_s,
            to_s=to_s,
            headline=banner.headline,
            state=banner.state,
            incidents=incidents,
            ttft_p95_s=ttft,
            tpot_p95_s=tpot,
            cache_hit_ratio=cache,
            availability_ratio=availability,
            tokens_per_s=volume,
            requests=fleet.requests,
            tokens=fleet.known_tokens,
            objectives=objectives,
            history=history_strips(reading, self._name_of),
            models=with_incident_states(
                breakdown(reading.by_name(WINDOW, "model"), fleet, self.limits), "model", incidents
            ),
            regions=with_incident_states(
                breakdown(reading.by_name(WINDOW, "region"), fleet, self.limits),
                "region",
                incidents,
            ),
            freshness=quality.freshness,
            notification=self._with_names(overall_notification(incidents, reading.now_s)),
            details=request_details(reading, WINDOW),
            past_incidents=past_incidents,
            models_note=without_failures_of(incidents, "model", reading, self.limits),
            regions_note=without_failures_of(incidents, "region", reading, self.limits),
            failing_customers=failing_customers(reading.windows[OUTAGE_WINDOW][CUSTOMER]),
            worst_customers=self._worst_customers(reading),
        )

    def _worst_customers(self, reading: BoardInput) -> tuple[CustomerFailures, ...]:
        worst = most_failures(reading.windows[OUTAGE_WINDOW][CUSTOMER], _CUSTOMERS_SHOWN)
        names = reading.names[CUSTOMER]
        return tuple(
            CustomerFailures(names[group][0], self._name_of(names[group][0]), failed)
            for group, failed in worst
        )

    def _with_names(self, words: str) -> str:
        return _TOKEN.sub(lambda token: self._name_of(token[0]), words)

    def _incidents(
        self, reading: BoardInput, statuses: Sequence[ThresholdStatus], quality: DataQuality
    ) -> tuple[Incident, ...]:
        """Return the most urgent first; of equally urgent ones those that recover last.

        Of those that do not recover, the incidents of the data come first.
        """
        incidents = list(quality.incidents)
        # If no partition is counted, the traffic is unknown and its alerts describe the past.
        if not quality.blind:
            incidents += outages(reading, self._groups, self._recovery, self.limits)
            about_denials = list(denial_incidents(reading, str))
            incidents += about_denials
            flooding = floods(reading)
            about_customers = list(customer_incidents(reading, str))
            unalerted = without_alert(flooding, about_customers)
            incidents += early_floods(unalerted)
            incidents += about_customers
            limited = {flood.customer for flood in unalerted if flood.is_rate_limited}
            incidents += early_rate_limits(reading, self._groups, about_denials, limited)
            about_thresholds = list(threshold_incidents(statuses, reading, self._groups, str))
            incidents += early_cache_failures(
                reading, self._groups, statuses, about_thresholds, flooding
            )
            about_cells = list(slow_cell_incidents(reading, self._policies))
            about_latency = about_thresholds + about_cells
            incidents += early_slowness(reading, self._groups, self.limits, about_latency)
            explained = list(explained_by_another(about_thresholds, about_cells))
            incidents += (one for one in about_latency if one not in explained)
            incidents += budget_incidents(reading, str)
            incidents += other_incidents(reading, [*incidents, *explained])
        return tuple(
            sorted(
                incidents,
                key=lambda incident: (URGENCY[incident.severity], incident.is_recovering),
            )
        )


def board_sums(policies: Sequence[Policy], rules: AlertRules) -> dict[str, set[str]]:
    """Return the scopes that the board, the pages of places and the alert rules read, by window."""
    needed = {
        WINDOW: {"fleet", "series", *DIMENSION_OF.values()},
        OUTAGE_WINDOW: {"fleet", "series", CUSTOMER},
        USUAL_WINDOW: {"series"},
        FLOOD_DAY: {CUSTOMER},
    }
    by_rules = ((window, scope) for scope, window in rules.reads)
    for window, scope in chain(objective_windows(policies), by_rules):
        needed.setdefault(window, set()).add(scope)
    return needed
