"""Places that became slow in the last minute, as an early sign: the rules look at longer windows.

Pure. Requests over the fleet's target for a P95 are counted by series, in the last minute and in
the rest of the last hour:

    usual, last hour     model a   3 %   model b   2 %   over 300 ms
    last minute          model a  91 %   model b   2 %

The fleet may still meet its target: one model with a tenth of all requests makes its P95 miss it
only after some minutes.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import inf

import numpy as np
import numpy.typing as npt

from exporters import formatting as fmt
from exporters.board.alerts import SLOW_CELL, URGENCY, severity_of
from exporters.board.breakdown import FleetTargets
from exporters.board.facts import Extent, Incident, covers
from exporters.board.incidents.failures import INCIDENTS_MAX, OUTAGE_WINDOW, USUAL_WINDOW
from exporters.board.incidents.localisation import Localisation, SeriesGroups
from exporters.board.incidents.notifications import incident_key, notification_of
from exporters.board.incidents.thresholds import slow_group
from exporters.board.input import BoardInput
from exporters.windows.incremental import Sums
from exporters.windows.measured import measure, regroup_sums, slow
from slo.policy.conditions import CELL_WINDOW, LATE_MIN_REQUESTS, USUAL_MIN_REQUESTS
from slo.policy.indicators import LATENCY_WORDS
from slo.policy.policy import LatencyThresholdObjective, Policy
from streams.state.tables import Ints

# Latency -> its alert, and its name on the cards.
_LATENCIES = {
    "ttft": ("TokenpulseTtftHigh", "P95 TTFT"),
    "tpot": ("TokenpulseTpotHigh", "P95 TPOT"),
}
_ALLOWED = 0.05  # share of requests over the target of a P95
_SLOW_MIN = 0.25  # share over the target; a P95 that just misses it is left to the rules
_TIMES_USUAL = 3.0  # of the share over the target, as some models are always slower than the fleet


@dataclass(frozen=True, slots=True)
class _SlowMinute:
    """Requests over the target and all measured ones by series: in the last minute, and usually."""

    latency: str
    late: Ints
    measured: Ints
    usual_late: Ints
    usual_measured: Ints
    now: Sums
    usual: Sums

    @classmethod
    def of(cls, reading: BoardInput, latency: str, limit_us: int) -> "_SlowMinute":
        """Return the last minute, beside the rest of the last hour."""
        count = len(reading.names["series"])
        now, hour = (reading.windows[window]["series"] for window in (OUTAGE_WINDOW, USUAL_WINDOW))
        late, measured = slow(now, count, latency, limit_us)
        hour_late, hour_measured = slow(hour, count, latency, limit_us)
        return cls(latency, late, measured, hour_late - late, hour_measured - measured, now, hour)

    @property
    def can_become_slow(self) -> npt.NDArray[np.bool_]:
        """Return a mask of the series that are not always so slow that no minute is unusual."""
        can: npt.NDArray[np.bool_] = self.usual_late * _TIMES_USUAL <= self.usual_measured
        return can

    def is_slow(self, inside: npt.NDArray[np.bool_]) -> bool:
        """Return whether far more requests of some series are over the target than usual."""
        late, measured = int(self.late[inside].sum()), int(self.measured[inside].sum())
        usual = int(self.usual_measured[inside].sum())
        if late < LATE_MIN_REQUESTS or usual < USUAL_MIN_REQUESTS:
            return False
        usual_share = int(self.usual_late[inside].sum()) / usual
        return late >= max(_SLOW_MIN, _TIMES_USUAL * usual_share) * measured

    def p95_s(self, inside: npt.NDArray[np.bool_]) -> float | None:
        """Return the P95 of some series in the last minute."""
        return _p95_s(self.now, inside, self.latency)

    def usual_p95_s(self, inside: npt.NDArray[np.bool_]) -> float | None:
        """Return the P95 of some series in the last hour without its last minute."""
        rest = Sums.merge([self.usual, self.now.negative()])
        return _p95_s(rest, inside, self.latency)


def _p95_s(sums: Sums, inside: npt.NDArray[np.bool_], latency: str) -> float | None:
    together = measure("series", regroup_sums(sums, np.where(inside, 0, -1).astype(np.int64)))
    return together[0].p95_s(latency) if together else None


def early_slowness(
    reading: BoardInput, groups: SeriesGroups, limits: FleetTargets, alerted: Sequence[Incident]
) -> Iterator[Incident]:
    """Yield the places whose latencies rose above the fleet's targets in the last minute.

    Those inside the places of an incident of `alerted` about the latency are left out.
    If all places are slow alike, the fleet misses its target, which its own alert says.
    """
    for latency, (alert, label) in _LATENCIES.items():
        limit_us = limits.latency_us.get(latency)
        if limit_us is None:
            continue
        minute = _SlowMinute.of(reading, latency, limit_us)
        about_latency = [incident for incident in alerted if incident.group == slow_group(latency)]
        places: list[tuple[Localisation, npt.NDArray[np.bool_]]] = []
        is_left = minute.can_become_slow
        for at in range(INCIDENTS_MAX):
            splits = groups.splits(minute.late * is_left, minute.measured * is_left)
            where = groups.localise(f"slow {latency} {at}", splits, _ALLOWED, _SLOW_MIN)
            if where is None:
                break
            inside = is_left & groups.inside(where)
            is_left = is_left & ~inside
            # A place that is as slow as usual hides no other one.
            if minute.is_slow(inside):
                places.append((where, inside))
        for where, inside in places:
            at_places = groups.where(where)
            if any(covers(incident.where, at_places) for incident in about_latency):
                continue
            target = (label, limit_us / 1e6)
            incident = _incident(minute, where.words, (inside, is_left), alert, target)
            yield replace(incident, where=at_places, group=slow_group(latency))


def slow_cell_incidents(reading: BoardInput, policies: Iterable[Policy]) -> Iterator[Incident]:
    """Yield the models that an alert finds slow in one region, the most urgent ones only."""
    # Each latency objective of the fleet has such an alert.
    objectives = {
        (policy.name, objective.name): objective
        for policy in policies
        for objective in policy.objectives
        if isinstance(objective, LatencyThresholdObjective)
    }
    states = sorted(
        reading.alerts.named(SLOW_CELL),
        key=lambda state: (URGENCY[severity_of(state)], state.value),
    )
    for state in states[:INCIDENTS_MAX]:
        model, region = (state.series[dimension] for dimension in ("model", "region"))
        about = (state.rule_labels["policy"], state.rule_labels["objective"])
        latency = objectives[about].indicator.measure
        yield Incident(
            severity_of(state),
            f"Model {model} in region {region}: {fmt.percent(state.value)} of the requests of the "
            f"{fmt.last_window(CELL_WINDOW)} have a {LATENCY_WORDS[latency]} within the target; of "
            "this model elsewhere, and of other models there, most have.",
            SLOW_CELL,
            SLOW_CELL,
            incident_key(SLOW_CELL, *about, model, region),
            notification_of([state]),
            where=(("model", model), ("region", region)),
            group=slow_group(latency),
            objective=(*about, ""),
        )


def explained_by_another(
    alerted: Sequence[Incident], cells: Sequence[Incident]
) -> Iterator[Incident]:
    """Yield the incidents of latency alerts that are about a fault of another one of these.

    `alerted`: of the objectives, with the places that explain them. `cells`: of one model in one
    region. The alert of an objective tells of the cells inside its places, as Alertmanager sends
    no page about these beside it. Until it fires, that of the same cell may fire first.
    """
    for cell in cells:
        same = [other for other in alerted if other.objective == cell.objective]
        for other in same:
            if not covers(other.where, cell.where):
                continue
            if _firing_order(other) <= _firing_order(cell):
                yield cell
                break
            if covers(cell.where, other.where):
                yield other


def _firing_order(incident: Incident) -> tuple[bool, float]:
    """Return a key that sorts incidents whose alerts fire before those whose alerts will fire."""
    notification = incident.notification
    # Of two that fire, the one about the objective says more, whichever was first.
    if notification.state == "firing":
        return False, 0.0
    return True, notification.at_s or inf


def _incident(
    minute: _SlowMinute,
    place: str,
    series: tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]],
    alert: str,
    target: tuple[str, float],
) -> Incident:
    """Return the incident of a place.

    `series`: masks of its series, and of those outside all slow places; `target`: name of the
    percentile, and its limit (s).
    """
    (inside, outside), (label, limit_s) = series, target
    p95_s, usual_s = minute.p95_s(inside), minute.usual_p95_s(inside)
    elsewhere_s = minute.p95_s(outside)
    elsewhere = "" if elsewhere_s is None else f"; elsewhere {fmt.latency(elsewhere_s, limit_s)}"
    now = fmt.latency(p95_s, limit_s)
    return Incident(
        "ticket",
        f"{fmt.capitalize(place)}: {label} is {now} in the {fmt.last_window(OUTAGE_WINDOW)}, "
        f"usually {fmt.latency(usual_s, limit_s)}, target under {fmt.exact_latency(limit_s)}"
        f"{elsewhere}.",
        alert,
        alert,
        incident_key("slow", minute.latency, place),
        extent=Extent(
            p95_s or 0.0,
            f"{label} {now}",
            int(minute.measured[inside].sum()) / max(int(minute.measured.sum()), 1),
        ),
    )
