"""One incident through the compiled rules: which alerts fire, and until when.

Rules on requests are evaluated as `tokenpulse backtest` evaluates them, and those on the pipeline
as the live board does, each every 5 s. Times are seconds after the incident's start.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from alerts.backtest.notifications import FiredAlert
from alerts.backtest.run import Evaluation
from alerts.backtest.stack import STEP_S, SliceRows
from alerts.backtest.timeline import AlertTimeline
from alerts.evaluation.evaluator import RuleEvaluator, request_groups
from alerts.evaluation.matrix import Bools, Families, Matrix
from alerts.rules.model import EVERY_S, Alert
from slo.alert_state import sample_key
from slo.policy.loading import load_policy
from streams.state.tables import Ints
from tests.alerts.league.burn_rules import burn_groups, compared_policy
from tests.alerts.league.incident import LeagueIncident, Phase
from tests.alerts.league.pipeline import JOB, PipelineMetrics, evaluated_rules
from tests.alerts.league.traffic import START_S, TiledRecording, TrafficCounter, TrafficKind

POLICIES = (load_policy("default"), compared_policy())
_PIPELINE = evaluated_rules()
_CATCH_UP_S = 10  # until the records that waited are counted
_SETTLED_S = 240  # after the last fault of the pipeline; later no rule on it begins to fire
_BEFORE_S = 60  # evaluated before the start: no alert may fire without a fault


@dataclass(frozen=True, slots=True)
class Played:
    """The alerts of an incident."""

    alerts: tuple[FiredAlert, ...]  # in the order in which they fired
    burns_s: dict[str, float]  # by generator: when its first rule fired


class _Evaluation(Evaluation):
    """An evaluation over the counts while a fault of the pipeline lasts, and those after it.

    `later`: all events, counted once the pipeline has caught up at `caught_up_s`; None if no
    record had to wait. `unread_s`: when Prometheus has no samples of the exporter.
    """

    def __init__(
        self,
        counter: TrafficCounter,
        parts: Sequence[SliceRows],
        end_s: int,
        later: "_Evaluation | None" = None,
        caught_up_s: int = 0,
        unread_s: Sequence[tuple[int, int]] = (),
    ) -> None:
        recording = TiledRecording(counter, parts, end_s)
        groups = [*request_groups(POLICIES[:1]), *burn_groups(POLICIES[1])]
        super().__init__(
            *(POLICIES, groups, counter.settings, recording),
            *((recording.first_s, end_s), START_S - _BEFORE_S),
        )
        self._later, self._caught_up_s, self._unread_s = later, caught_up_s, unread_s

    def families(self, begin: int, ends: Ints, until: int) -> Families:
        """Return the samples that Prometheus has after each of the slots `ends`."""
        # Both are read slot after slot, so each must be asked for every stretch.
        families = super().families(begin, ends, until)
        times_s = self.origin_s + ends * STEP_S - START_S
        if self._later is not None:
            later = self._later.families(begin, ends, until)
            families = _join(families, later, times_s < self._caught_up_s)
        is_read = np.ones(len(ends), np.bool_)
        for begin_s, end_s in self._unread_s:
            is_read &= (times_s < begin_s) | (times_s >= end_s)
        return {metric: matrix.only(is_read) for metric, matrix in families.items()}


def _join(early: Families, late: Families, is_early: Bools) -> Families:
    """Return the samples of `early` if `is_early`, else those of `late`."""
    empty = Matrix.empty(len(is_early))
    joined = {}
    for metric in early.keys() | late.keys():
        first, second = early.get(metric, empty), late.get(metric, empty)
        keys = tuple(dict.fromkeys(first.keys + second.keys))
        first, second = first.spread(keys), second.spread(keys)
        joined[metric] = Matrix(
            keys,
            np.where(is_early, first.values, second.values),
            np.where(is_early, first.present, second.present),
        )
    return joined


def kinds_of(incidents: Iterable[LeagueIncident]) -> list[TrafficKind]:
    """Return the kinds of traffic of some incidents, each once."""
    kinds: dict[TrafficKind, None] = {}
    for incident in incidents:
        kinds[_healthy(incident)] = None
        phases = (*incident.phases, *(incident.counted_later or ()))
        kinds |= {_traffic(incident, phase): None for phase in phases}
    return list(kinds)


def _healthy(incident: LeagueIncident) -> TrafficKind:
    return TrafficKind((), incident.rate, incident.is_wide)


def _traffic(incident: LeagueIncident, phase: Phase) -> TrafficKind:
    return TrafficKind(phase.faults, incident.rate * phase.times, incident.is_wide)


def _parts(
    incident: LeagueIncident, phases: Iterable[Phase], counter: TrafficCounter
) -> list[SliceRows]:
    """Return the slices from the history to the end of the recovery."""
    healthy = _healthy(incident)
    parts = counter.history(healthy)
    at_s = START_S
    for phase in phases:
        parts += counter.repeat(_traffic(incident, phase), at_s, at_s + phase.lasts_s)
        at_s += phase.lasts_s
    return [*parts, *counter.repeat(healthy, at_s, START_S + incident.end_s)]


def play(incident: LeagueIncident, counter: TrafficCounter) -> Played:
    """Return the alerts of an incident."""
    end_s = START_S + incident.end_s
    later = None
    if incident.counted_later is not None:
        later = _Evaluation(counter, _parts(incident, incident.counted_later, counter), end_s)
    evaluation = _Evaluation(
        counter,
        _parts(incident, incident.phases, counter),
        end_s,
        later,
        incident.begin_recovery_s + _CATCH_UP_S,
        [
            (fault.begin_s, min(fault.end_s, incident.end_s))
            for fault in incident.pipeline
            if fault.kind in ("no_exporter", "page_rejected")
        ],
    )
    evaluation.run()
    fired: list[FiredAlert] = []
    burns_s: dict[str, float] = {}
    for watched in evaluation.watched:
        alerts = _firings(watched.alert, watched.timeline)
        generator = watched.alert.labels.get("generator")
        if generator is None:
            fired += alerts
        elif alerts:
            burns_s[generator] = min(burns_s.get(generator, math.inf), alerts[0].fired_at_s)
    if incident.pipeline:
        fired += _pipeline_alerts(incident)
    return Played(tuple(sorted(fired, key=lambda alert: alert.fired_at_s)), burns_s)


def _pipeline_alerts(incident: LeagueIncident) -> list[FiredAlert]:
    """Return the firings of the rules on the pipeline, evaluated one instant after another."""
    metrics, evaluator = PipelineMetrics(incident.pipeline, START_S), RuleEvaluator(_PIPELINE)
    open_since_s: dict[tuple[tuple[str, str], ...], int] = {}
    fired = []
    faults_end_s = max(min(fault.end_s, incident.end_s) for fault in incident.pipeline)
    for now_s in range(-_BEFORE_S, min(faults_end_s + _SETTLED_S, incident.end_s) + 1, EVERY_S):
        states = evaluator.evaluate(metrics.samples(START_S + now_s), START_S + now_s)
        firing = {
            sample_key(_labels(state.alert, state.severity, state.series, state.rule_labels))
            for state in states
            if state.firing_since_s is not None
        }
        for key in open_since_s.keys() - firing:
            fired.append(FiredAlert(dict(key), open_since_s.pop(key), now_s))
        for key in sorted(firing - open_since_s.keys()):
            open_since_s[key] = now_s
    return [*fired, *(FiredAlert(dict(key), since_s) for key, since_s in open_since_s.items())]


def _firings(alert: Alert, timeline: AlertTimeline) -> list[FiredAlert]:
    """Return the firings of a rule of a backtest."""
    return [
        FiredAlert(
            _labels(alert.name, alert.severity, dict(episode.labels), alert.labels),
            episode.fired_at_s - START_S,
            math.inf if episode.resolved_at_s is None else episode.resolved_at_s - START_S,
        )
        for episode in timeline.episodes()
    ]


def _labels(
    name: str, severity: str, series: Mapping[str, str], of_rule: Mapping[str, str]
) -> dict[str, str]:
    """Return the labels of an alert as Prometheus sends them; those of the rule win."""
    # Samples of the backtest have no label of the scrape.
    return {"job": JOB, **series, **of_rule, "alertname": name, "severity": severity}
