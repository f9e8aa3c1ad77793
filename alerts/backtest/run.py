"""Recorded events against policies: which alerts would have fired, when, and for how long.

The rules are the compiled ones, and the samples those that the exporter would have shown; only the
time is simulated. Rules are evaluated every EVERY_S seconds, as in Prometheus; samples change with
every slice of ten seconds.

    recording   |----- minutes -----|-- ten seconds --|
                 counts of objectives  fill windows   |
    evaluation                                        from_s ---------> to_s
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from alerts.backtest.recording import Recording
from alerts.backtest.samples import ReplayedObjective
from alerts.backtest.stack import STEP_S, stack
from alerts.backtest.timeline import AlertTimeline, Episode
from alerts.backtest.windows import RollingWindows
from alerts.evaluation.evaluator import EvaluatedRule, RuleEvaluator, request_groups
from alerts.evaluation.expressions import Expression
from alerts.evaluation.matrix import Bools, Families, Floats, Matrix
from alerts.rules.model import EVERY_S, Alert, Group
from slo.policy.policy import LatencyThresholdObjective, Policy
from streams.config.settings import Settings, Worker
from streams.errors import RequestError
from streams.query.instants import rfc3339
from streams.state.limits import token_time_us
from streams.state.slices import CLOCKS, Thresholds
from streams.state.tables import Ints
from streams.state.windows import ROLLING_S

# A wrong time would otherwise be evaluated through decades of silence.
MAX_EVALUATED_S = 400 * 86_400
_MOST_STACKED = 2**21  # stacked groups at once


@dataclass(frozen=True, slots=True)
class Watched:
    """One rule and its firings."""

    rule: EvaluatedRule
    timeline: AlertTimeline

    @property
    def alert(self) -> Alert:
        return self.rule.alert

    def episodes(self) -> list[Episode]:
        """Return every firing, in order."""
        return self.timeline.episodes()


@dataclass(frozen=True, slots=True)
class Backtest:
    """The result; times in seconds since 1970."""

    from_s: int
    to_s: int
    recording: Recording
    watched: tuple[Watched, ...]
    objectives: tuple[ReplayedObjective, ...]


def thresholds(policies: Sequence[Policy], worker: Worker) -> Thresholds:
    """Return the latency limits to count: those of the settings and of the policies."""
    limits: dict[str, set[float]] = {
        "ttft": set(worker.ttft_targets_s),
        "tpot": set(worker.tpot_targets_s),
        "duration": set(worker.duration_targets_s),
        "first_visible": set(worker.first_visible_targets_s),
        "output_speed": {token_time_us(speed) / 1e6 for speed in worker.output_speed_targets},
    }
    for policy in policies:
        for measure, limits_us in policy.limits_us().items():
            limits[measure].update(limit_us / 1e6 for limit_us in limits_us)
        for objective in policy.objectives:
            if isinstance(objective, LatencyThresholdObjective):
                limits[objective.indicator.measure].update(
                    level.above_us / 1e6 for level in objective.levels
                )
    return Thresholds.of_seconds(*(limits[clock] for clock in CLOCKS))


def input_limits(policies: Sequence[Policy], worker: Worker) -> tuple[int, ...]:
    """Return the input lengths to count, in tokens: those of the settings and of the policies."""
    of_policies = {limit for policy in policies for limit in policy.input_limits()}
    return tuple(sorted(of_policies.union(worker.input_token_limits)))


def minutes_until_s(policies: Sequence[Policy], from_s: int | None) -> int:
    """Return the time before which minutes are fine enough for an evaluation from `from_s` on.

    Events that ended earlier are in no rolling window any more. Only the counts of objectives
    include them, and these are by the minute, as are the exclusions of a policy.
    """
    if from_s is None:
        return 0
    spans_s = [ROLLING_S[window] for _, window in RuleEvaluator(request_groups(policies)).reads]
    return (from_s - max(spans_s, default=0)) // 60 * 60 - 60


def run(
    policies: Sequence[Policy], settings: Settings, recording: Recording, from_s: int | None
) -> Backtest:
    """Evaluate the rules from `from_s` on, or from the first event, until the recording's end.

    Earlier events fill windows and periods; alerts begin at `from_s`. Raises RequestError if no
    event is left to evaluate, or the span is longer than MAX_EVALUATED_S.
    """
    if recording.begin_s is None:
        raise RequestError(
            "no event lies in the stretch that was asked for; check --from, --to and the mapping"
        )
    begin_s, end_s = recording.begin_s, recording.end_s
    since_s = begin_s if from_s is None else max(begin_s, from_s)
    # --from may lie after the last event.
    if since_s >= end_s:
        raise RequestError(f"--from: got {since_s}; the last event ended before {end_s}")
    if end_s - since_s > MAX_EVALUATED_S:
        raise RequestError(
            f"the events lie between {rfc3339(since_s)} and {rfc3339(end_s)}, more than "
            f"{MAX_EVALUATED_S // 86_400} days; correct wrong times, or give --from and --to"
        )
    evaluation = Evaluation(
        policies, request_groups(policies), settings, recording, (begin_s, end_s), since_s
    )
    evaluation.run()
    return Backtest(since_s, end_s, recording, evaluation.watched, evaluation.objectives)


class Evaluation:
    """All rules over one recording, a day at a time."""

    def __init__(
        self,
        policies: Sequence[Policy],
        groups: Iterable[Group],
        settings: Settings,
        recording: Recording,
        span_s: tuple[int, int],
        since_s: int,
    ) -> None:
        self._recording, self._since_s, self._end_s = recording, since_s, span_s[1]
        self.origin_s = span_s[0] // 60 * 60  # start of slot 0
        evaluator = RuleEvaluator(groups)
        self.watched = tuple(
            Watched(rule, AlertTimeline(rule.expression.is_ceiling)) for rule in evaluator.rules
        )
        self.windows = RollingWindows(
            evaluator.reads,
            recording.registry,
            settings,
            self.origin_s,
            evaluator.wants,
        )
        self.objectives = tuple(
            ReplayedObjective(
                policy, objective, recording.registry, span_s, settings.latency.apart_tiers
            )
            for policy in policies
            for objective in policy.error_budget_objectives()
        )

    def run(self) -> None:
        """Evaluate from `since_s` to the end, including silence."""
        until = -(-(self._end_s - self.origin_s) // STEP_S)
        begin_s = max(self._recording.begin_s or 0, self._since_s // STEP_S * STEP_S - STEP_S)
        first = (begin_s - self.origin_s) // STEP_S  # slot that is evaluated first
        # Stacked groups need a number each, which must fit into the upper bits of a key.
        groups = max(self.windows.most_groups, len(self._recording.registry.series))
        step = max(1, min(86_400 // 60, _MOST_STACKED // groups // 6)) * 6
        for begin in range(0, until, step):
            end = min(begin + step, until)
            ends = np.arange(max(begin, first), end) + 1
            families = self.families(begin, ends, end)
            if not len(ends):
                continue
            for watched in self.watched:
                self._follow(watched, self._holding(watched.rule.expression, families, ends), ends)
        self._recording.close()

    def families(self, begin: int, ends: Ints, until: int) -> Families:
        """Count the slots [begin, until), and return the samples at `ends`, one after each slot."""
        until_s = self.origin_s + until * STEP_S
        part = stack(self._recording.read(until_s), self.origin_s)
        # Earlier slices are too old for every window, and only objectives count them.
        if part is not None and until_s > self._recording.minutes_until_s:
            self.windows.add(part)
        by_objective = [objective.rows(part, begin, ends, until) for objective in self.objectives]
        if not len(ends):
            return {}
        sheet = self.windows.sheet(ends)
        for rows in by_objective:
            for (metric, key), row in rows.items():
                sheet.put(metric, key, *row)
        return sheet.families()

    def _holding(self, expression: Expression, families: Families, ends: Ints) -> Matrix:
        """Return when an expression holds; each slice is evaluated several times."""
        times_s = (self.origin_s + ends * STEP_S).astype(float)
        steps = [
            expression.over(families, times_s + late_s if expression.reads_clock else times_s)
            for late_s in range(0, STEP_S, EVERY_S)
        ]
        return _interleaved(steps)

    def _follow(self, watched: Watched, holding: Matrix, ends: Ints) -> None:
        """Step the alerts of a rule from change to change."""
        times_s = (self.origin_s + ends[:, None] * STEP_S + np.arange(0, STEP_S, EVERY_S)).ravel()
        # The first and the last slice may be evaluated in part.
        at, stop = np.searchsorted(times_s, (self._since_s, self._end_s + 1)).tolist()
        present = holding.present[:, :stop]
        changes = np.flatnonzero((present[:, 1:] != present[:, :-1]).any(axis=0)) + 1
        while at < stop:
            vector = holding.vector(at)
            watched.timeline.add(int(times_s[at]), watched.rule.step(float(times_s[at]), vector))
            # The same label sets hold until then, and no `for` passes.
            due = int(np.searchsorted(times_s, watched.rule.next_change_s))
            later = changes[np.searchsorted(changes, at, side="right") :][:1]
            after = min([stop, max(due, at + 1), *later.tolist()])
            for row in np.flatnonzero(present[:, at]).tolist():
                values = holding.values[row, at:after]
                watched.timeline.worsen(holding.keys[row], values)
            at = after


def _interleaved(steps: Sequence[Matrix]) -> Matrix:
    """Return the matrix of all instants; each of `steps` has every n-th of them."""
    keys = steps[0].keys
    spread = [step.spread(keys) for step in steps]
    values: Floats = np.stack([step.values for step in spread], axis=2)
    present: Bools = np.stack([step.present for step in spread], axis=2)
    shape = len(keys), values.shape[1] * len(steps)
    return Matrix(keys, values.reshape(shape), present.reshape(shape))
