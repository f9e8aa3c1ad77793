"""Recorded events against policies: what would have paged, when, and for how long.

The rules are the compiled ones, the numbers those that the exporter would have shown; only time is
made here. Rules are evaluated every EVERY_S seconds, as Prometheus does; numbers change with every
slice of ten seconds.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from alerts.backtest.promql import Expression, Samples, Vector, parse
from alerts.backtest.recording import Recording
from alerts.backtest.samples import STEP_S, Gauges, ReplayedObjective
from alerts.backtest.timeline import Episode, Timeline
from alerts.rules.build import policy_groups
from alerts.rules.model import EVERY_S, Alert, Links
from alerts.rules.pipeline import builtin_groups
from slo.policy.policy import LatencyThresholdObjective, Policy
from streams.config.settings import Settings, Worker
from streams.errors import RequestError
from streams.state.slices import LATENCIES, Aggregate, Thresholds

# Of Tokenpulse's own alerts the one that is about requests; the others watch the pipeline.
OUTAGE = "tokenpulse-outage"


@dataclass(frozen=True, slots=True)
class Watched:
    """One rule and what became of it."""

    alert: Alert
    expression: Expression
    timeline: Timeline

    def episodes(self) -> list[Episode]:
        """Every time it fired, in order."""
        return sorted(self.timeline.all_episodes(), key=lambda one: (one.fired_at_s, one.labels))


@dataclass(frozen=True, slots=True)
class Backtest:
    """What came of it; times in seconds since 1970."""

    from_s: int
    to_s: int
    recording: Recording
    watched: tuple[Watched, ...]
    judged: tuple[ReplayedObjective, ...]


def watched_rules(policies: Sequence[Policy]) -> tuple[Watched, ...]:
    """The rules of policies, and the one for outages that needs none."""
    groups = [group for group in builtin_groups(Links().job) if group.name == OUTAGE]
    groups += [group for policy in policies for group in policy_groups(policy)]
    return tuple(_watched(alert) for group in groups for alert in group.alerts)


def _watched(alert: Alert) -> Watched:
    expression = parse(alert.expr)
    timeline = Timeline(alert.for_s, alert.keep_firing_s, expression.is_ceiling)
    return Watched(alert, expression, timeline)


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
    watched = watched_rules(policies)
    gauges = Gauges(
        policies,
        {read for one in watched for read in one.alert.reads},
        frozenset().union(*(one.expression.metrics for one in watched)),
        recording.registry,
        (begin_s, end_s),
        settings.exporter.customers_top,
    )
    evaluated: Samples | None = None
    holding: list[Vector] = []
    for start_s, aggregate in _filled(recording):
        gauges.add(start_s, aggregate)
        samples = gauges.samples()
        if samples is not evaluated:
            evaluated = samples
            holding = [one.expression.vector(samples) for one in watched]
        for now_s in range(start_s + STEP_S, start_s + 2 * STEP_S, EVERY_S):
            if since_s <= now_s <= end_s:
                for one, found in zip(watched, holding, strict=True):
                    one.timeline.step(now_s, found)
    return Backtest(since_s, end_s, recording, watched, tuple(gauges.judged))


def _filled(recording: Recording) -> Iterator[tuple[int, Aggregate | None]]:
    """Every slice of the recording, also those in which nothing ended."""
    next_s = recording.begin_s or 0
    for start_s, aggregate in recording.slices():
        yield from ((silent_s, None) for silent_s in range(next_s, start_s, STEP_S))
        yield start_s, aggregate
        next_s = start_s + STEP_S
    yield from ((silent_s, None) for silent_s in range(next_s, recording.end_s, STEP_S))
