"""Recorded events against policies: what would have paged, when, and for how long.

The rules are the compiled ones, the numbers those that the exporter would have shown; only time is
made here. Rules are evaluated every EVERY_S seconds, as Prometheus does; numbers change with every
slice of ten seconds.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from alerts.backtest.recording import Recording
from alerts.backtest.samples import STEP_S, Gauges, ReplayedObjective
from alerts.backtest.timeline import Episode, Timeline
from alerts.evaluation.evaluator import EvaluatedRule, RuleEvaluator, request_groups
from alerts.rules.model import EVERY_S, Alert
from slo.policy.policy import LatencyThresholdObjective, Policy
from streams.config.settings import Settings, Worker
from streams.errors import RequestError
from streams.state.slices import LATENCIES, Aggregate, Thresholds


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
    """What came of it; times in seconds since 1970."""

    from_s: int
    to_s: int
    recording: Recording
    watched: tuple[Watched, ...]
    judged: tuple[ReplayedObjective, ...]


def thresholds(policies: Sequence[Policy], worker: Worker) -> Thresholds:
    """Latency limits to count: those of the settings, and all that the policies ask for."""
    limits: dict[str, set[float]] = {
        "ttft": set(worker.ttft_targets_s),
        "tpot": set(worker.tpot_targets_s),
        "duration": set(worker.duration_targets_s),
    }
    for policy in policies:
        for measure, limits_us in policy.limits_us().items():
            limits[measure].update(limit_us / 1e6 for limit_us in limits_us)
        for objective in policy.objectives:
            if isinstance(objective, LatencyThresholdObjective):
                limits[objective.indicator.measure].update(
                    level.above_us / 1e6 for level in objective.levels
                )
    return Thresholds.of_seconds(*(limits[latency] for latency in LATENCIES))


def run(
    policies: Sequence[Policy], settings: Settings, recording: Recording, from_s: int | None
) -> Backtest:
    """Evaluate the rules from `from_s` on, or from the first event, until the recording's end.

    What was recorded before `from_s` fills windows and periods; alerts begin with it. Raises
    RequestError where nothing is left to evaluate.
    """
    if recording.begin_s is None:
        raise RequestError(
            "no event lies in the stretch that was asked for; check --from, --to and the mapping"
        )
    begin_s, end_s = recording.begin_s, recording.end_s
    since_s = begin_s if from_s is None else max(begin_s, from_s)
    if since_s >= end_s:
        raise RequestError(f"--from: got {since_s}; the last event ended before {end_s}")
    evaluator = RuleEvaluator(request_groups(policies))
    watched = tuple(Watched(rule, Timeline(rule.expression.is_ceiling)) for rule in evaluator.rules)
    gauges = Gauges(
        policies,
        evaluator.reads,
        evaluator.metrics,
        recording.registry,
        (begin_s, end_s),
        settings.exporter.customers_top,
    )
    for start_s, aggregate in _filled(recording):
        gauges.add(start_s, aggregate)
        samples = gauges.samples()
        for now_s in range(start_s + STEP_S, start_s + 2 * STEP_S, EVERY_S):
            if since_s <= now_s <= end_s:
                by_rule = evaluator.evaluate_by_rule(samples, now_s)
                for rule, states in zip(watched, by_rule, strict=True):
                    rule.timeline.add(now_s, states)
    return Backtest(since_s, end_s, recording, watched, tuple(gauges.judged))


def _filled(recording: Recording) -> Iterator[tuple[int, Aggregate | None]]:
    """Every slice of the recording, also those in which nothing ended."""
    next_s = recording.begin_s or 0
    for start_s, aggregate in recording.slices():
        yield from ((silent_s, None) for silent_s in range(next_s, start_s, STEP_S))
        yield start_s, aggregate
        next_s = start_s + STEP_S
    yield from ((silent_s, None) for silent_s in range(next_s, recording.end_s, STEP_S))
