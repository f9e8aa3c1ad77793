"""Alerting rules evaluated one instant after another: which alerts are pending, which fire.

Pure: samples and the time are arguments. `for` and `keep_firing_for` work as in Prometheus:

    holds      no  yes yes yes no  yes no  no  no        every 5 s, for: 10s, keep_firing_for: 10s
    pending        |------>
    firing                 |-------------------->  over

An alert that ends while it is pending never fires. One that fires continues until its expression
has not held for `keep_firing_for`.

Source: https://prometheus.io/docs/prometheus/latest/configuration/alerting_rules/
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from alerts.evaluation.expressions import Expression, Selector, SharedPart, parse
from alerts.evaluation.history import History
from alerts.evaluation.matrix import families_of
from alerts.rules.build import policy_groups
from alerts.rules.model import Alert, Group
from alerts.rules.pipeline import pipeline_groups
from alerts.rules.traffic import traffic_groups
from slo.alert_state import AlertState, SampleKey, Samples, Vector, sample_key
from slo.policy.policy import Policy


@dataclass(slots=True)
class _Active:
    """One label set for which a rule is pending or firing."""

    pending_since_s: float
    value: float
    firing_since_s: float | None = None
    ended_at_s: float | None = None  # since when a firing alert does not hold any more


@dataclass(slots=True)
class EvaluatedRule:
    """One rule and its active alerts."""

    alert: Alert
    expression: Expression
    _active: dict[SampleKey, _Active] = field(default_factory=dict)

    def step(self, now_s: float, holding: Vector) -> list[AlertState]:
        """Take the result of one evaluation and return the active alerts; times rise."""
        for key, value in holding.items():
            active = self._active.setdefault(key, _Active(now_s, value))
            active.value, active.ended_at_s = value, None
            if active.firing_since_s is None and now_s - active.pending_since_s >= self.alert.for_s:
                active.firing_since_s = now_s
        # A list first, as entries are deleted in the loop.
        for key in [key for key in self._active if key not in holding]:
            active = self._active[key]
            if active.ended_at_s is None:
                active.ended_at_s = now_s
            is_prolonged = now_s - active.ended_at_s < self.alert.keep_firing_s
            # A pending alert ends at once; only a firing one is prolonged.
            if active.firing_since_s is None or not is_prolonged:
                del self._active[key]
        # Sorted, so that two exporters of one state list alerts in one order.
        return [self._state(key, self._active[key]) for key in sorted(self._active)]

    def resume(self, state: AlertState, ended_at_s: float) -> None:
        """Continue an alert of before a restart, as one whose condition ended at `ended_at_s`.

        If the condition still holds, the next step sees that.
        """
        self._active[sample_key(state.series)] = _Active(
            state.pending_since_s, state.value, state.firing_since_s, ended_at_s
        )

    @property
    def next_change_s(self) -> float:
        """Time from which the states differ although the same label sets hold; inf if never."""
        changes_s = [
            active.pending_since_s + self.alert.for_s
            if active.ended_at_s is None
            else active.ended_at_s + self.alert.keep_firing_s
            for active in self._active.values()
            if active.firing_since_s is None or active.ended_at_s is not None
        ]
        return min(changes_s, default=np.inf)

    def _state(self, key: SampleKey, active: _Active) -> AlertState:
        return AlertState(
            alert=self.alert.name,
            severity=self.alert.severity,
            rule_labels=self.alert.labels,
            series=dict(key),
            value=active.value,
            pending_since_s=active.pending_since_s,
            firing_since_s=active.firing_since_s,
            holds=active.ended_at_s is None,
            for_s=self.alert.for_s,
            ended_at_s=active.ended_at_s,
            keep_firing_s=self.alert.keep_firing_s,
        )


class RuleEvaluator:
    """The rules of some groups, with the state that `for` and `keep_firing_for` need."""

    def __init__(self, groups: Iterable[Group]) -> None:
        """Raises ValueError for a rule that `expressions` cannot evaluate."""
        self._history = History()
        groups, shared = tuple(groups), dict[str, SharedPart]()
        records = {record.name: record.expr for group in groups for record in group.records}
        self.rules = tuple(
            EvaluatedRule(alert, parse(alert.expr, self._history, shared, records))
            for group in groups
            for alert in group.alerts
        )
        # Names of the metrics, and the windows, that the rules read.
        self.metrics: frozenset[str] = frozenset().union(
            *(rule.expression.metrics for rule in self.rules)
        )
        self.reads = frozenset(read for rule in self.rules for read in rule.alert.reads)
        self._selectors: dict[str, list[Selector]] = {}
        for rule in self.rules:
            for selector in rule.expression.selectors:
                self._selectors.setdefault(selector.metric, []).append(selector)
        self._wanted: dict[tuple[str, SampleKey], bool] = {}
        self._samples: Samples | None = None
        self._holding: list[Vector] = []

    def wants(self, metric: str, key: SampleKey) -> bool:
        """Return whether some rule reads the samples of a label set."""
        # The same label sets come at every refresh, so each is matched against the rules once.
        if (metric, key) not in self._wanted:
            selectors = self._selectors.get(metric, ())
            self._wanted[metric, key] = any(selector.matches(key) for selector in selectors)
        return self._wanted[metric, key]

    def resume(self, firing: Iterable[AlertState], seen_s: float, now_s: float) -> None:
        """Continue the alerts that fired before a restart; call it before the first `evaluate`.

        `seen_s`: when they were last evaluated. Those whose `keep_firing_for` passed since then
        are left out, and those of rules that changed.
        """
        rules = {
            (rule.alert.name, rule.alert.severity, sample_key(rule.alert.labels)): rule
            for rule in self.rules
        }
        for state in firing:
            rule = rules.get((state.alert, state.severity, sample_key(state.rule_labels)))
            ended_at_s = seen_s if state.ended_at_s is None else state.ended_at_s
            # After a clock was set back, the stored alerts are of the future.
            if rule is not None and 0 <= now_s - ended_at_s < rule.alert.keep_firing_s:
                rule.resume(state, ended_at_s)

    def evaluate(self, samples: Samples, now_s: float) -> list[AlertState]:
        """Return the pending and firing alerts at `now_s`, in the order of the rules.

        Call it with rising times, in seconds since 1970. Expressions are evaluated again only if
        `samples` is another object than at the last call, or if they read the clock; those over
        ranges every `history.EVERY_S` at most.
        """
        has_new_row = self._history.add(samples, now_s)
        is_first, is_same = self._samples is None, samples is self._samples
        self._samples = samples
        families, times_s = families_of(samples, self.metrics), np.array([now_s], float)
        self._holding = [
            rule.expression.over(families, times_s).vector(0)
            if is_first or rule.expression.is_due(is_same, has_new_row)
            else self._holding[at]
            for at, rule in enumerate(self.rules)
        ]
        return [
            state
            for rule, holding in zip(self.rules, self._holding, strict=True)
            for state in rule.step(now_s, holding)
        ]


# Only Prometheus sees whether exporters agree.
_NOT_OF_ONE_EXPORTER = {"TokenpulseExportersDisagree"}


def board_groups(policies: Sequence[Policy]) -> list[Group]:
    """Return the groups that the live board shows: about requests, and about Tokenpulse itself.

    Left out are alerts for no person, except for the one by which records that wait explain a low
    token volume, those on the monitoring, which only Prometheus sees, and the one on all workers:
    the board adds up the alerts on each partition.
    """
    return [
        replace(group, alerts=alerts)
        for group in (*pipeline_groups(), *request_groups(policies))
        if (
            alerts := tuple(
                alert
                for alert in group.alerts
                if (alert.severity != "none" or alert.labels.get("explains") == "late")
                and alert.name not in _NOT_OF_ONE_EXPORTER
                and alert.labels.get("cause") != "workers"
            )
        )
    ]


def request_groups(policies: Sequence[Policy]) -> list[Group]:
    """Return the groups about requests: those that need no policy, and those of the policies."""
    return [*traffic_groups(), *(group for policy in policies for group in policy_groups(policy))]
