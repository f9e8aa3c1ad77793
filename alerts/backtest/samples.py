"""The exporter's samples of recorded events, slice after slice.

Pure. The exporter's own code makes the samples: windows of the slices that the state would still
contain, and objectives of their counts by the minute. Only metrics that some rule reads are made.

Samples belong to the end of a slice: at 12:00:10 all that ended before is counted. The two seconds
that the pipeline takes are not included.
"""

import operator
from collections.abc import Collection, Iterable, Iterator, Sequence

from alerts.rules.model import Read
from exporters.catalogue import objectives as catalogue
from exporters.catalogue.spec import Spec
from exporters.metrics.requests import add_customers, add_window
from exporters.metrics.sample_sheet import SampleSheet
from exporters.windows.incremental import (
    CUSTOMER,
    Change,
    PartKey,
    SliceSummary,
    Sums,
    Window,
    summarise,
)
from exporters.windows.plan import scope_grouping
from slo.alert_state import SampleKey, Samples, sample_key
from slo.engine.attainment import ObjectiveStatus, objective_status
from slo.engine.counting import RequestSelection
from slo.engine.credits import credit_share
from slo.engine.maintenance import causes
from slo.engine.minute_counts import DAY, MinuteCounts, Pair
from slo.engine.report import ObjectiveResult
from slo.policy.policy import ErrorBudgetObjective, Policy
from streams.config.settings import Settings
from streams.state.registry import Registry
from streams.state.slices import LEVELS, Aggregate, SliceId
from streams.state.windows import ROLLING_S, cover, kept_step_s, rolling

STEP_S = LEVELS[0].step_s
FOREVER_S = 2**62


class Gauges:
    """Samples of the metrics that rules read."""

    def __init__(
        self,
        policies: Sequence[Policy],
        reads: Iterable[Read],
        metrics: frozenset[str],
        registry: Registry,
        span_s: tuple[int, int],
        settings: Settings,
    ) -> None:
        """`reads`: the windows of the rules. `span_s`: first and last second of all slices."""
        self._windows = _Windows(reads, metrics, registry, settings)
        tiers = settings.latency.apart_tiers
        self.objectives = [
            ReplayedObjective(policy, objective, registry, span_s, tiers)
            for policy in policies
            for objective in policy.error_budget_objectives()
        ]
        self._parts: list[Samples] = []
        self._samples: Samples = {}

    def add(self, slice_id: SliceId, aggregate: Aggregate) -> None:
        """Count the next slice; slices rise, and silent ones may be missing.

        Slices of a minute are too old for every window, and only objectives count them.
        """
        # Level 0 are slices of ten seconds.
        if slice_id.level == 0:
            self._windows.add(slice_id, aggregate)
        for objective in self.objectives:
            objective.add(slice_id, aggregate)

    def advance(self, now_s: int) -> None:
        """Move on to `now_s`, the end of a slice: all that ended before is counted."""
        self._windows.advance(now_s)
        for objective in self.objectives:
            objective.advance(now_s)

    def next_change_s(self, now_s: int) -> int:
        """Return the first time after `now_s` at which samples may change without new events."""
        changes_s = [objective.next_change_s for objective in self.objectives]
        return max(now_s + STEP_S, min([self._windows.next_change_s, *changes_s]))

    def samples(self) -> Samples:
        """Return the samples at the end of the newest slice; the same object until one changes."""
        parts = [*self._windows.parts(), *(objective.part() for objective in self.objectives)]
        # Comparing identities is cheap, and the parts are replaced if they change.
        if list(map(id, parts)) != list(map(id, self._parts)):
            whole: dict[str, dict[SampleKey, float]] = {}
            for part in parts:
                for metric, vector in part.items():
                    whole.setdefault(metric, {}).update(vector)
            self._parts, self._samples = parts, whole
        return self._samples


class _Windows:
    """Rolling windows by scope."""

    def __init__(
        self,
        reads: Iterable[Read],
        metrics: frozenset[str],
        registry: Registry,
        settings: Settings,
    ) -> None:
        self._metrics, self._registry = metrics, registry
        self._top = settings.exporter.customers_top
        self._apart_tiers = settings.latency.apart_tiers
        plan: dict[str, set[str]] = {}
        for scope, window in reads:
            plan.setdefault(window, set()).add(scope)
        self._windows = {window: Window(sorted(plan[window])) for window in sorted(plan)}
        self._scopes = {
            scope: scope_grouping(scope) for scope in sorted(set().union(*plan.values()))
        }
        self._summaries: dict[SliceId, SliceSummary] = {}
        # By level, the start of the coarse slice whose parts are there but not added up yet.
        self._open_s: list[int | None] = [None] * len(LEVELS)
        self._reach_s: tuple[int, int] | None = None  # of all slices so far
        self._first_s: dict[str, int] = {}  # start of the first slice of each window that has one
        self._as_of_s = 0
        self._made: dict[str, tuple[list[Sums], Samples]] = {}  # with the sums they are made of

    @property
    def next_change_s(self) -> int:
        """First time at which a slice may leave a window, which no new event causes."""
        leave_s = [FOREVER_S]
        for name, first_s in self._first_s.items():
            # A window begins at a multiple of the step that is still kept there.
            step_s = kept_step_s(first_s, first_s + ROLLING_S[name])
            leave_s.append(first_s // step_s * step_s + ROLLING_S[name])
        return min(leave_s)

    def add(self, slice_id: SliceId, aggregate: Aggregate) -> None:
        """Count the next slice, as for `Gauges.add`."""
        if not self._scopes:
            return
        self.advance(slice_id.start_s)
        for name, scope in self._scopes.items():
            names = self._registry.customers if name == CUSTOMER else self._registry.series
            scope.follow(names)
        summary = summarise(
            aggregate, self._scopes.values(), self._registry.series, self._apart_tiers
        )
        self._add_summary(slice_id, summary)

    def advance(self, now_s: int) -> None:
        """Add up the coarse slices that are over, and drop those that the state drops."""
        self._as_of_s = now_s - 1
        has_merged = False
        # From fine to coarse: a coarse slice that is over has all of its parts by then.
        for level in range(1, len(LEVELS)):
            start_s, step_s = self._open_s[level], LEVELS[level].step_s
            if start_s is not None and start_s + step_s <= now_s:
                self._merge(SliceId(level, start_s))
                has_merged = True
        if has_merged:
            self._summaries = {
                slice_id: summary
                for slice_id, summary in self._summaries.items()
                if slice_id.end_s > now_s - LEVELS[slice_id.level].keep_s
            }

    def _merge(self, slice_id: SliceId) -> None:
        self._open_s[slice_id.level] = None
        part_level = slice_id.level - 1
        parts = [
            self._summaries[part]
            for at_s in range(slice_id.start_s, slice_id.end_s, LEVELS[part_level].step_s)
            if (part := SliceId(part_level, at_s)) in self._summaries
        ]
        merged = {scope: Sums.merge([part[scope] for part in parts]) for scope in self._scopes}
        self._add_summary(slice_id, merged)

    def _add_summary(self, slice_id: SliceId, summary: SliceSummary) -> None:
        self._summaries[slice_id] = summary
        begin_s, end_s = self._reach_s or (slice_id.start_s, slice_id.end_s)
        self._reach_s = min(begin_s, slice_id.start_s), max(end_s, slice_id.end_s)
        coarser = slice_id.level + 1
        if coarser < len(LEVELS):
            step_s = LEVELS[coarser].step_s
            self._open_s[coarser] = slice_id.start_s // step_s * step_s

    def parts(self) -> Iterator[Samples]:
        """Yield the samples of each window."""
        deltas: dict[Change, Sums] = {}
        as_of_s = self._as_of_s
        merged_until_s = [(as_of_s + 1) // step_s * step_s for step_s, _ in LEVELS]
        # Windows are assembled from the coarsest slices, as the exporter does; sums are exact.
        for name, window in self._windows.items():
            span = rolling(ROLLING_S[name], as_of_s, as_of_s)
            parts: dict[PartKey, SliceSummary] = {
                (0, slice_id): self._summaries[slice_id]
                for slice_id in cover(self._summaries, merged_until_s, *span, self._reach_s)
            }
            self._first_s.pop(name, None)
            if parts:
                self._first_s[name] = min(slice_id.start_s for _, slice_id in parts)
            window.update(parts, deltas)
            sums = list(window.sums.values())
            made = self._made.get(name)
            # Sums are replaced, never changed, so their identity shows whether samples are old.
            if made is None or any(map(operator.is_not, made[0], sums)):
                made = self._made[name] = (sums, self._sheet(name, window))
            yield made[1]

    def _sheet(self, name: str, window: Window) -> Samples:
        sheet = SampleSheet(self._metrics)
        for scope, sums in window.sums.items():
            if scope == CUSTOMER:
                add_customers(sheet, name, self._scopes[scope], sums, self._top, {})
            else:
                add_window(sheet, name, self._scopes[scope], sums)
        return sheet.values


class ReplayedObjective:
    """One objective over recorded events."""

    def __init__(
        self,
        policy: Policy,
        objective: ErrorBudgetObjective,
        registry: Registry,
        span_s: tuple[int, int],
        apart_tiers: Collection[str],
    ) -> None:
        self.policy, self.objective = policy, objective
        self.selection = RequestSelection(
            policy, objective, lambda customer_id: customer_id, apart_tiers
        )
        first_day = span_s[0] // 60 // DAY
        self.minute_counts = MinuteCounts(first_day, span_s[1] // 60 // DAY + 1 - first_day)
        self.excluded = [(cause.begin, cause.end) for cause in causes(policy, objective, ())]
        self.worst: dict[tuple[str, str], tuple[float, int, int]] = {}
        self._registry = registry
        self._as_of_s = 0
        self._minute = span_s[0] // 60  # that is not over yet
        self._counts: dict[str, Pair] = {}  # of the running minute
        self._changed = True
        self._samples: Samples = {}

    @property
    def next_change_s(self) -> int:
        """First time at which the status may change without new events: minutes are judged."""
        return (self._minute + 1) * 60 + STEP_S

    def add(self, slice_id: SliceId, aggregate: Aggregate) -> None:
        """Count the next slice, as for `Gauges.add`."""
        self._start_minute(slice_id.start_s // 60)
        names = self._registry
        counts = self.selection.count(
            aggregate, names.series, names.customers, slice_id.start_s, slice_id.end_s
        )
        # A minute comes in up to six slices, and MinuteCounts takes its whole counts.
        for name, (total, bad) in counts.items():
            before = self._counts.get(name, (0, 0))
            self._counts[name] = (before[0] + total, before[1] + bad)
        self.minute_counts.count(self._minute, self._counts)
        self._changed |= bool(counts)

    def advance(self, now_s: int) -> None:
        """Judge the minutes that are over at `now_s`, the end of a slice."""
        self._as_of_s = now_s - 1
        self._start_minute(self._as_of_s // 60)
        if now_s % 60 == 0:
            self.minute_counts.see(self._minute, self._minute + 1)

    def _start_minute(self, minute: int) -> None:
        if minute != self._minute:
            # Minutes without requests were seen too: they are silent, not unknown.
            self.minute_counts.see(self._minute, minute)
            self._minute, self._counts, self._changed = minute, {}, True
            self.minute_counts.running = minute

    def part(self) -> Samples:
        """Return the samples of this objective."""
        if self._changed:
            self._changed = False
            samples: dict[str, dict[SampleKey, float]] = {}
            for name in self.names():
                self._add(samples, name)
            self._samples = samples
        return self._samples

    def names(self) -> list[str]:
        """Return the names with a status of their own; one empty name without `per`."""
        return self.minute_counts.names(self.objective.scope.per)

    def status(self, name: str, now_s: int) -> ObjectiveStatus:
        """Return the status at that time."""
        return objective_status(self.objective, self.minute_counts, name, self.excluded, now_s)

    def scope(self, name: str) -> dict[str, str]:
        """Return the scope of a name, by dimension."""
        return self._result(name, self.status(name, self._as_of_s)).scope(lambda token: token)

    def _result(self, name: str, status: ObjectiveStatus) -> ObjectiveResult:
        return ObjectiveResult(
            self.policy, self.objective, name, self.selection.customer, status, (), ()
        )

    def _add(self, samples: dict[str, dict[SampleKey, float]], name: str) -> None:
        # Requests are judged as they come; minutes and slices change once they are over.
        status = self.status(name, self._as_of_s)
        about = {
            "policy": self.policy.name,
            "objective": self.objective.name,
            **self._result(name, status).scope(lambda token: token),
        }

        def add(spec: Spec, value: float, **more: str) -> None:
            samples.setdefault(spec.name, {})[sample_key({**about, **more})] = value

        ratio = status.attainment.ratio
        if ratio is not None:
            add(catalogue.ATTAINMENT, float(ratio))
            if self.objective.sla is not None:
                share = credit_share(self.objective.sla, ratio)
                add(catalogue.CREDIT_SHARE, float(share))
        for window, rate in status.burn.items():
            add(catalogue.BURN_RATE, float(rate), window=window)
            if float(rate) > self.worst.get((name, window), (0.0, 0, 0))[0]:
                self.worst[name, window] = (
                    float(rate),
                    self._as_of_s + 1,
                    status.eligible[window],
                )
        for window, requests in status.eligible.items():
            add(catalogue.ELIGIBLE, float(requests), window=window)
