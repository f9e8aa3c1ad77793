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
from alerts.backtest.timeline import AlertTimeline
from alerts.evaluation.evaluator import RuleEvaluator, request_groups
from alerts.evaluation.matrix import Families, Matrix
from alerts.rules.model import EVERY_S, Alert
from slo.alert_state import sample_key
from slo.policy.loading import load_policy
from streams.state.tables import Ints
from tests.alerts.league.burn_rules import burn_groups, compared_policy
from tests.alerts.league.incidents import RECOVERY_S, Incident
from tests.alerts.league.pipeline import JOB, PipelineMetrics, evaluated_rules
from tests.alerts.league.traffic import START_S, TiledRecording, Traffic, TrafficCounter

POLICIES = (load_policy("default"), compared_policy())
_PIPELINE = evaluated_rules()
_BEFORE_S = 120  # evaluated before the start: no alert may fire without a fault


@dataclass(frozen=True, slots=True)
class Played:
    """What the rules did in an incident."""

    alerts: tuple[FiredAlert, ...]  # in the order in which they fired
    burns_s: dict[str, float]  # by generator: when its first rule fired


class _Evaluation(Evaluation):
    """An evaluation in which Prometheus has no samples of the exporter for some time."""

    def __init__(
        self,
        counter: TrafficCounter,
        recording: TiledRecording,
        end_s: int,
        unread_s: Sequence[tuple[int, int]],
    ) -> None:
        assert recording.begin_s is not None
        groups = [*request_groups(POLICIES[:1]), *burn_groups(POLICIES[1])]
        super().__init__(
            *(POLICIES, groups, counter.settings, recording),
            *((recording.begin_s, end_s), START_S - _BEFORE_S),
        )
        self._unread_s = unread_s

    def families(self, begin: int, ends: Ints, until: int) -> Families:
        """Return the samples at `ends`; none while the exporter is not read."""
        families = super().families(begin, ends, until)
        times_s = self.origin_s + ends * 10
        is_read = np.ones(len(ends), np.bool_)
        for begin_s, end_s in self._unread_s:
            is_read &= (times_s < START_S + begin_s) | (times_s >= START_S + end_s)
        if is_read.all():
            return families
        return {
            metric: Matrix(matrix.keys, matrix.values, matrix.present & is_read)
            for metric, matrix in families.items()
        }


def kinds_of(incidents: Iterable[Incident]) -> list[Traffic]:
    """Return the kinds of traffic of some incidents, each once."""
    kinds: dict[Traffic, None] = {}
    for incident in incidents:
        kinds[Traffic(rate=incident.rate)] = None
        for phase in incident.phases:
            kinds[Traffic(phase.faults, incident.rate)] = None
    return list(kinds)


def play(incident: Incident, counter: TrafficCounter) -> Played:
    """Return the alerts of an incident."""
    healthy = Traffic(rate=incident.rate)
    parts = counter.history(healthy)
    at_s = START_S
    for phase in incident.phases:
        parts += counter.repeated(Traffic(phase.faults, incident.rate), at_s, at_s + phase.lasts_s)
        at_s += phase.lasts_s
    end_s = at_s + RECOVERY_S
    parts += counter.repeated(healthy, at_s, end_s)
    unread_s = [
        (fault.begin_s, min(fault.end_s, end_s - START_S))
        for fault in incident.pipeline
        if fault.kind in ("no_exporter", "page_rejected")
    ]
    evaluation = _Evaluation(counter, TiledRecording(counter, parts, end_s), end_s, unread_s)
    evaluation.run()
    fired: list[FiredAlert] = []
    burns_s: dict[str, float] = {}
    for watched in evaluation.watched:
        alerts = _fired(watched.alert, watched.timeline)
        generator = watched.alert.labels.get("generator")
        if generator is None:
            fired += alerts
        elif alerts:
            burns_s[generator] = min(burns_s.get(generator, math.inf), alerts[0].fired_at_s)
    if incident.pipeline:
        fired += _pipeline_alerts(incident, end_s)
    return Played(tuple(sorted(fired, key=lambda alert: alert.fired_at_s)), burns_s)


def _pipeline_alerts(incident: Incident, end_s: int) -> list[FiredAlert]:
    """Return the firings of the rules on the pipeline, evaluated one instant after another."""
    metrics, evaluator = PipelineMetrics(incident.pipeline, START_S), RuleEvaluator(_PIPELINE)
    open_since_s: dict[tuple[tuple[str, str], ...], int] = {}
    fired = []
    for now_s in range(-_BEFORE_S, end_s - START_S + 1, EVERY_S):
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


def _fired(alert: Alert, timeline: AlertTimeline) -> list[FiredAlert]:
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
