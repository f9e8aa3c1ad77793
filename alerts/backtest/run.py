"""Recorded events against policies: which alerts would have fired, when, and for how long.

The rules are the compiled ones, and the samples those that the exporter would have shown; only the
time is simulated. Rules are evaluated every EVERY_S seconds, as in Prometheus; samples change with
every slice of ten seconds.

    recording   |----- minutes -----|-- ten seconds --|
                 counts of objectives  fill windows   |
    evaluation                                        from_s ---------> to_s
"""

from collections.abc import Sequence
from dataclasses import dataclass

from alerts.backtest.recording import Recording
from alerts.backtest.samples import STEP_S, Gauges, ReplayedObjective
from alerts.backtest.timeline import Episode, Timeline
from alerts.evaluation.evaluator import EvaluatedRule, RuleEvaluator, request_groups
from alerts.rules.model import EVERY_S, Alert
from slo.alert_state import Samples
from slo.policy.policy import LatencyThresholdObjective, Policy
from streams.config.settings import Settings, Worker
from streams.errors import RequestError
from streams.query.instants import rfc3339
from streams.state.limits import token_time_us
from streams.state.slices import CLOCKS, Thresholds
from streams.state.windows import ROLLING_S

# A wrong time would otherwise be evaluated through decades of silence.
MAX_EVALUATED_S = 400 * 86_400


@dataclass(frozen=True, slots=True)
class Watched:
    """One rule and its firings."""

    rule: EvaluatedRule
    timeline: Timeline

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
    evaluation = _Evaluation(policies, settings, recording, (begin_s, end_s), since_s)
    evaluation.run()
    return Backtest(
        since_s, end_s, recording, evaluation.watched, tuple(evaluation.gauges.objectives)
    )


class _Evaluation:
    """All rules over one recording, slice after slice."""

    def __init__(
        self,
        policies: Sequence[Policy],
        settings: Settings,
        recording: Recording,
        span_s: tuple[int, int],
        since_s: int,
    ) -> None:
        self._recording, self._end_s, self._since_s = recording, span_s[1], since_s
        self._evaluator = evaluator = RuleEvaluator(request_groups(policies))
        self.watched = tuple(
            Watched(rule, Timeline(rule.expression.is_ceiling)) for rule in evaluator.rules
        )
        self.gauges = Gauges(
            policies,
            evaluator.reads,
            evaluator.metrics,
            recording.registry,
            span_s,
            settings,
        )
        # After that long without a change of samples no alert changes any more.
        self._settled_after_s = EVERY_S + max(
            (max(rule.alert.for_s, rule.alert.keep_firing_s) for rule in evaluator.rules), default=0
        )
        self._reads_clock = any(rule.expression.reads_clock for rule in evaluator.rules)
        self._samples: Samples = {}
        self._changed_at_s = 0

    def run(self) -> None:
        """Evaluate from `since_s` to the end, including silence."""
        # The earlier slices only fill windows and periods, which costs far less.
        next_s = max(self._recording.begin_s or 0, self._since_s // STEP_S * STEP_S - STEP_S)
        for slice_id, aggregate in self._recording.slices():
            # Also a time without requests fires alerts, or resolves them.
            self._pass_silence(next_s, slice_id.start_s)
            self.gauges.add(slice_id, aggregate)
            if slice_id.start_s >= next_s:
                self._evaluate(slice_id.start_s)
                next_s = slice_id.end_s
        self._pass_silence(next_s, self._end_s)

    def _pass_silence(self, start_s: int, end_s: int) -> None:
        """Evaluate the slices of [start_s, end_s), in which no request ended."""
        while start_s < end_s:
            now_s = start_s + STEP_S
            self._evaluate(start_s)
            start_s = now_s
            if not self._reads_clock and now_s - self._changed_at_s > self._settled_after_s:
                # Alerts are settled, so the next slice to evaluate is the first that may differ.
                change_s = min(self.gauges.next_change_s(now_s), end_s)
                start_s = max(now_s, change_s - STEP_S)

    def _evaluate(self, start_s: int) -> None:
        """Evaluate the rules while the slice that begins at `start_s` is the newest one."""
        now_s = start_s + STEP_S
        self.gauges.advance(now_s)
        samples = self.gauges.samples()
        # Equal samples count as the same, so that the evaluator need not look at them again.
        if samples != self._samples:
            self._samples, self._changed_at_s = samples, now_s
        for at_s in range(now_s, now_s + STEP_S, EVERY_S):
            # The first and the last slice may be evaluated in part.
            if self._since_s <= at_s <= self._end_s:
                by_rule = self._evaluator.evaluate_by_rule(self._samples, at_s)
                for rule, states in zip(self.watched, by_rule, strict=True):
                    rule.timeline.add(at_s, states)
