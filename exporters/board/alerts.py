"""Which alerts are active now, by the compiled rules over the board's own samples.

The board holds no copy of an alert's condition. The command gives it an evaluator of the rules,
which are in a later package (`alerts/evaluation/`); the samples are those of the windows and
objectives that the board shows, with customers by their token, and those of the pipeline on the
page for Prometheus. Alerts that fire are stored (`exporters/server/incident_store.py`), as a person
is notified still; `for` and past samples are in memory only, so after a restart of the exporter
they begin anew.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from typing import Protocol, cast

import numpy as np

from exporters.board.facts import Severity
from exporters.metrics.exposition import Page, label_text
from exporters.metrics.group_shares import rows_of_groups
from exporters.metrics.objectives import add_status
from exporters.metrics.requests import add_customers, add_window
from exporters.metrics.sample_sheet import SampleSheet
from exporters.windows.incremental import CUSTOMER, Grouping, Sums
from slo.alert_state import AlertState, Samples
from slo.engine.report import ObjectiveResult
from slo.policy.policy import Objective, Policy
from streams.state.slices import PROBES_AT
from streams.state.tables import Ints, Table

DATA_STALE = "TokenpulseDataStale"
WINDOW_INCOMPLETE = "TokenpulseWindowIncomplete"
LAG_GROWING = "TokenpulseLagGrowing"
OUTAGE = "TokenpulseOutage"
SLOW_CELL = "TokenpulseModelSlowInRegion"  # of an objective, but not about its own scope
CLIENT_ERRORS = "TokenpulseClientErrorsJump"
RATE_LIMITED = "TokenpulseRateLimitedJump"
CUSTOMER_FLOOD = "TokenpulseCustomerFlood"
CUSTOMER_SILENT = "TokenpulseCustomerSilent"
BURN = "TokenpulseErrorBudgetBurn"
MISSED = "TokenpulseObjectiveMissed"
EXPLAINS = "TokenpulseOutageExplains"
VOLUME_DROP = "TokenpulseTokenVolumeDrop"
# As many as `exporter.customers_top` allows for Prometheus; a hundred thousand take a minute.
_CUSTOMERS_MAX = 1_000
URGENCY: dict[Severity, int] = {"page": 0, "ticket": 1, "info": 2}


class AlertRules(Protocol):
    """Evaluates the compiled rules; called with rising times."""

    @property
    def metrics(self) -> frozenset[str]:
        """Return the names of the metrics that the rules read."""

    @property
    def reads(self) -> Iterable[tuple[str, str]]:
        """Return the windows that the rules read, as (scope, window)."""

    def evaluate(self, samples: Samples, now_s: float) -> Sequence[AlertState]:
        """Return the alerts that are pending or firing."""

    def resume(self, firing: Iterable[AlertState], seen_s: float, now_s: float) -> None:
        """Continue the alerts that fired at `seen_s`, before a restart."""


class NoAlertRules:
    """The evaluator of an exporter without rules: no alert is ever active."""

    metrics: frozenset[str] = frozenset()
    reads: frozenset[tuple[str, str]] = frozenset()

    def evaluate(self, samples: Samples, now_s: float) -> Sequence[AlertState]:
        """Return no alert."""
        return ()

    def resume(self, firing: Iterable[AlertState], seen_s: float, now_s: float) -> None:
        """Continue nothing."""


class ActiveAlerts:
    """The alerts at one moment: pending, firing, or kept firing after their condition ended.

    The last are apart in `kept`: incidents describe the present, but a person is still notified.
    """

    def __init__(self, states: Iterable[AlertState] = ()) -> None:
        # Outages are localised by the board; all other alerts are selected by objective or name.
        self.outages: list[AlertState] = []
        self.states: list[AlertState] = []  # all whose condition holds, in the order of the rules
        self.kept: list[AlertState] = []  # by `keep_firing_for` only, in the order of the rules
        self._by_objective: dict[tuple[str, str], list[AlertState]] = defaultdict(list)
        self._by_name: dict[str, list[AlertState]] = defaultdict(list)
        states = list(states)
        # As in Alertmanager: records that wait explain a low volume, so no person is notified.
        is_late = any(
            state.alert == EXPLAINS and state.rule_labels.get("explains") == "late"
            for state in states
        )
        for state in states:
            if _is_noise(state) or (is_late and state.alert == VOLUME_DROP):
                continue
            if not state.holds:
                self.kept.append(state)
                continue
            self.states.append(state)
            if state.alert == OUTAGE:
                self.outages.append(state)
            elif "objective" in state.rule_labels and state.alert != SLOW_CELL:
                labels = state.rule_labels
                self._by_objective[labels["policy"], labels["objective"]].append(state)
            else:
                self._by_name[state.alert].append(state)

    def of(self, policy: Policy, objective: Objective, name: str) -> list[AlertState]:
        """Return the alerts of an objective for one name of its `per`, the most urgent first."""
        per = objective.scope.per
        states = [
            state
            for state in self._by_objective.get((policy.name, objective.name), ())
            if per is None or state.series.get(per) == name
        ]
        return sorted(states, key=lambda state: URGENCY[severity_of(state)])

    def named(self, alert: str) -> list[AlertState]:
        """Return the states of an alert that needs no policy, in the order of the rules."""
        return self._by_name.get(alert, [])


def _is_noise(state: AlertState) -> bool:
    """Return whether an alert is not shown: it is for no person, or a slope of a few samples."""
    is_pending_slope = state.alert == LAG_GROWING and state.firing_since_s is None
    return state.severity == "none" or is_pending_slope


def severity_of(state: AlertState) -> Severity:
    """Return the severity of an alert; the rules of the board are pages or tickets."""
    return cast(Severity, state.severity)


def samples_for(
    rules: AlertRules,
    windows: Mapping[str, Mapping[str, Sums]],
    groupings: Mapping[str, Grouping],
    results: Sequence[ObjectiveResult],
    page: Page,
) -> Samples:
    """Return the samples that the rules read.

    `windows`: by name and scope. `results`: status of the objectives. `page`: the samples for
    Prometheus, for the rules about the pipeline.
    """
    sheet = SampleSheet(rules.metrics)
    customers = _largest_customers(
        [windows[window][scope].counts for scope, window in rules.reads if scope == CUSTOMER]
    )
    # Only the windows that rules read: parsing labels of all others would take longer than the
    # evaluation.
    for scope, window in sorted(rules.reads):
        sums = windows[window][scope]
        if scope == CUSTOMER:
            counts = rows_of_groups(customers, sums.counts)
            # Under their tokens: names of a directory need not be unique.
            add_customers(
                sheet, window, groupings[scope], replace(sums, counts=counts), len(counts), {}
            )
        else:
            add_window(sheet, window, groupings[scope], sums)
    for result in results:
        about = {"policy": result.policy.name, "objective": result.objective.name}
        add_status(sheet, result, label_text(about | result.scope(str)))
    sheet.add_page(page)
    return sheet.values


def _largest_customers(windows: Sequence[Table]) -> Ints:
    """Return the customers whose samples rules read, of the counts in some windows.

    A customer that is among those with the most requests in one window has samples of all: rules
    compare them.
    """
    return reduce(np.union1d, map(_largest_of, windows), np.empty(0, np.int64))


def _largest_of(counts: Table) -> Ints:
    if len(counts) <= _CUSTOMERS_MAX:
        return counts.keys
    requests: Ints = counts.values[:, :PROBES_AT].sum(axis=1)
    # Of many equal ones none is taken: those with one request each concern no rule.
    most_of_rest = np.partition(requests, -_CUSTOMERS_MAX - 1)[-_CUSTOMERS_MAX - 1]
    largest: Ints = counts.keys[requests > most_of_rest]
    return largest
