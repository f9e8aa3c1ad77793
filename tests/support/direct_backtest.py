"""A backtest one instant after another, with the exporter's functions: the measure of the fast one.

Each window is added up anew from its slices, and each rule evaluated at each instant.
"""

from collections.abc import Sequence

import numpy as np

from alerts.backtest.recording import Recording
from alerts.backtest.samples import ReplayedObjective
from alerts.backtest.stack import STEP_S
from alerts.backtest.timeline import AlertTimeline, Episode
from alerts.evaluation.evaluator import RuleEvaluator, request_groups
from alerts.rules.model import EVERY_S
from exporters.metrics.requests import add_customers, add_window
from exporters.metrics.sample_sheet import SampleSheet
from exporters.windows.incremental import CUSTOMER, summarise
from exporters.windows.plan import scope_grouping
from slo.alert_state import SampleKey, Samples
from slo.engine.minute_counts import Pair
from slo.policy.policy import Policy
from streams.config.settings import Settings
from streams.state.slices import Aggregate
from streams.state.tables import Table
from streams.state.windows import ROLLING_S, rolling


def slices_of(recording: Recording) -> dict[int, Aggregate]:
    """Return the recorded slices by start, in seconds since 1970; this ends the recording."""
    rows = recording.read(recording.end_s)
    starts_s = np.unique(np.concatenate([part.starts_s for part in rows.values()])).tolist()
    slices = {}
    for start_s in starts_s:
        parts = {name: part.select(part.starts_s == start_s) for name, part in rows.items()}
        tables = {name: Table.summed(part.keys, part.values) for name, part in parts.items()}
        slices[start_s] = Aggregate(**tables, rejected=Table.empty())
    return slices


class DirectObjective(ReplayedObjective):
    """The status of an objective by the SLA engine, slice after slice."""

    def __init__(
        self,
        policy: Policy,
        objective: object,
        recording: Recording,
        span_s: tuple[int, int],
        settings: Settings,
    ) -> None:
        tiers = settings.latency.apart_tiers
        super().__init__(policy, objective, recording.registry, span_s, tiers)  # type: ignore[arg-type]
        self.registry = recording.registry
        self.minute = span_s[0] // 60
        self.of_minute: dict[str, Pair] = {}

    def add(self, start_s: int, aggregate: Aggregate | None) -> None:
        """Count a slice; None if it has no requests."""
        minute = start_s // 60
        if minute != self.minute:
            self.minute_counts.see(self.minute, minute)
            self.minute, self.of_minute = minute, {}
        self.minute_counts.running = minute
        if aggregate is not None:
            names = self.registry
            counts = self.selection.count(
                aggregate, names.series, names.customers, start_s, start_s + STEP_S
            )
            for name, (total, bad) in counts.items():
                before = self.of_minute.get(name, (0, 0))
                self.of_minute[name] = before[0] + total, before[1] + bad
            self.minute_counts.count(minute, self.of_minute)
        if (start_s + STEP_S) % 60 == 0:
            self.minute_counts.see(minute, minute + 1)


class DirectBacktest:
    """Rules and objectives over a recording; `since_s`: first instant that is evaluated."""

    def __init__(
        self, policies: Sequence[Policy], settings: Settings, recording: Recording, since_s: int
    ) -> None:
        assert recording.begin_s is not None
        self._settings, self._registry = settings, recording.registry
        evaluator = RuleEvaluator(request_groups(policies))
        self._reads, self._metrics = sorted(evaluator.reads), evaluator.metrics
        self._slices = slices_of(recording)
        self.samples: dict[int, Samples] = {}  # by end of the slice
        self.objectives = [
            DirectObjective(
                policy, objective, recording, (recording.begin_s, recording.end_s), settings
            )
            for policy in policies
            for objective in policy.error_budget_objectives()
        ]
        timelines = [AlertTimeline(rule.expression.is_ceiling) for rule in evaluator.rules]
        for start_s in range(recording.begin_s, recording.end_s, STEP_S):
            for objective in self.objectives:
                objective.add(start_s, self._slices.get(start_s))
            if start_s + STEP_S <= since_s - STEP_S:
                continue
            samples = self.samples[start_s + STEP_S] = self._samples_at(start_s + STEP_S)
            for at_s in range(start_s + STEP_S, start_s + 2 * STEP_S, EVERY_S):
                if since_s <= at_s <= recording.end_s:
                    for rule, timeline in zip(evaluator.rules, timelines, strict=True):
                        holding = rule.expression.vector(samples, at_s)
                        timeline.add(at_s, rule.step(at_s, holding))
        self.episodes: list[list[Episode]] = [timeline.episodes() for timeline in timelines]
        self.unfired = [timeline.unfired for timeline in timelines]

    def _samples_at(self, now_s: int) -> Samples:
        sheet = SampleSheet(self._metrics)
        for scope, window in self._reads:
            from_s, to_s = rolling(ROLLING_S[window], now_s - 1, now_s - 1)
            parts = [part for at, part in self._slices.items() if from_s <= at < to_s]
            if not parts:
                continue
            grouping = scope_grouping(scope)
            names = self._registry
            grouping.follow(names.customers if scope == CUSTOMER else names.series)
            tiers = self._settings.latency.apart_tiers
            merged = Aggregate.merged(parts)
            sums = summarise(merged, [grouping], names.series, tiers)[scope]
            if scope == CUSTOMER:
                top = self._settings.exporter.customers_top
                add_customers(sheet, window, grouping, sums, top, {})
            else:
                add_window(sheet, window, grouping, sums)
        samples: dict[str, dict[SampleKey, float]] = {
            metric: dict(vector) for metric, vector in sheet.values.items()
        }
        for objective in self.objectives:
            for (metric, key), value in objective.samples(now_s - 1).items():
                samples.setdefault(metric, {})[key] = value
        return samples
