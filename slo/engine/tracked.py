"""The engine's data of one objective."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from slo.engine.attainment import (
    ObjectiveStatus,
    Stretch,
    accounting_periods,
    attainment_over,
)
from slo.engine.counting import RequestSelection
from slo.engine.daily import DayCache
from slo.engine.maintenance import (
    SEAL_AFTER_S,
    Adjustment,
    Cause,
    ClosedPeriod,
    Maintenance,
    ReopenedPeriod,
    adjustment,
    causes,
    close_period,
)
from slo.engine.minute_count_store import Checkpoints, Head
from slo.engine.minute_counts import MinuteCounts
from slo.engine.unknown import NO_GAPS, CountGaps
from slo.policy.policy import ErrorBudgetObjective, Policy
from slo.policy.scope import CalendarMonth
from streams.query.folding import Folding
from streams.state.registry import SeriesKey
from streams.state.slices import Aggregate, SliceId
from streams.store.reader import PartitionView


@dataclass(slots=True)
class TrackedObjective:
    """One objective with its counts, stored header and cached statuses."""

    policy: Policy
    objective: ErrorBudgetObjective
    selection: RequestSelection
    minute_counts: MinuteCounts
    head: Head = field(default_factory=Head)
    counted: Checkpoints = field(default_factory=dict)  # the last ones that the counts include
    # (clock, reach) of the times it was tried to store, oldest first
    tries: list[tuple[int, Checkpoints]] = field(default_factory=list)
    fresh: dict[tuple[str, int], ClosedPeriod] = field(default_factory=dict)  # not stored yet
    # Begin of the last period that was over when periods were closed; None: not done yet.
    closed_from: int | None = None
    adjusted: dict[str, tuple[Adjustment, ...]] = field(default_factory=dict)  # by name
    # By name, with what it was judged from.
    judged: dict[str, tuple[object, ObjectiveStatus]] = field(default_factory=dict)
    folding_asked: object = None  # all that the folded names depended on
    gaps: CountGaps = NO_GAPS
    days: DayCache = field(default_factory=DayCache)
    # Stored days could not be read, and may be restored until then (Unix seconds); 0: all were.
    damaged_until_s: float = 0

    def counted_until(self, view: PartitionView) -> int:
        """Return the last checkpoint of a partition that the counts include; -1 if none."""
        rebuilt, sequence = self.counted.get(view.partition, (-1, -1))
        # The checkpoints of a state that was lost or set back have the same numbers.
        is_same = rebuilt == view.meta.rebuilt and sequence <= view.meta.sequence
        return sequence if is_same else -1

    def closed_periods(self, name: str) -> list[ClosedPeriod]:
        """Return the closed periods that the counts still span, newest first."""
        # The stored form goes before our own: another exporter may have closed the period first.
        found = {**self.fresh, **self.head.closed_periods}
        mine = [
            one
            for (of, _), one in found.items()
            if of == name
            and one.begin >= self.minute_counts.begin
            and (of, one.begin) not in self.head.damaged
        ]
        return sorted(mine, key=lambda one: -one.begin)

    def reopenings(self, name: str) -> list[ReopenedPeriod]:
        """Return the periods that operators opened again, also closed ones, oldest first."""
        return sorted(self.head.reopened.get(name, ()), key=lambda one: one.at_s)

    def note_gaps(
        self, series: Sequence[SeriesKey], slice_id: SliceId, aggregate: Aggregate
    ) -> None:
        """Note the requests of a slice that the workers did not count.

        A minute with requests of an unknown class of input lengths is only partly known.
        """
        minute, span_s = slice_id.start_s // 60, (slice_id.start_s, slice_id.end_s)
        if self.selection.has_uncounted_limit(aggregate, series, *span_s):
            self.gaps = self.gaps.with_limit(minute)
        # Coarser slices hold no minute that is judged alone.
        if slice_id.level <= 1 and self.selection.has_unclassified(aggregate, series, *span_s):
            self.minute_counts.lose(minute, minute + 1)
            self.gaps = self.gaps.with_input_length(minute)

    def causes(self, windows: Sequence[Maintenance]) -> list[Cause]:
        """Return the policy's exclusions and the maintenance windows in force."""
        return causes(self.policy, self.objective, windows)

    def excluded(self, windows: Sequence[Maintenance]) -> list[Stretch]:
        """Return the excluded minutes."""
        return [(one.begin, one.end) for one in self.causes(windows)]

    def close_periods(self, windows: Sequence[Maintenance], now_s: int, final_until_s: int) -> None:
        """Close the periods that are over, once late events had their time.

        Also those that ended while none could be closed, and those that were opened again.
        `final_until_s`: up to where the log shows that all is counted; 0 if it is not known.
        """
        over_s = min(now_s, final_until_s) - SEAL_AFTER_S
        if over_s <= 0:
            return
        # Counts of which days may be restored would close it with a part of its requests.
        if now_s < self.damaged_until_s:
            return
        # Earlier ones are closed, or have no requests: only the last one is tried again.
        begin = self.minute_counts.begin if self.closed_from is None else self.closed_from
        over = list(accounting_periods(self.objective.period, begin, over_s))
        in_force = self.causes(windows)
        for name in self.minute_counts.names(self.objective.scope.per):
            reopened = {(one.before.begin, one.before.end) for one in self.reopenings(name)}
            for period in {*over, *(one for one in reopened if one[1] * 60 <= over_s)}:
                self._close(name, period, in_force, now_s)
        self.closed_from = over[0][0]

    def _close(self, name: str, period: Stretch, in_force: Sequence[Cause], now_s: int) -> None:
        begin, end = period
        # Counts that begin within the period would close it with a part of its requests.
        if begin < self.minute_counts.begin:
            return
        key = name, begin
        if key in self.head.closed_periods or key in self.head.damaged or key in self.fresh:
            return
        excluded = [(one.begin, one.end) for one in in_force]
        attained, _ = attainment_over(
            self.objective, self.minute_counts, name, excluded, period, now_s
        )
        # A period without counted requests is not closed: late events would adjust an empty result.
        if attained.counted:
            self.fresh[key] = close_period(attained, begin, end, in_force, now_s)

    def note_folding(self, folding: Folding) -> None:
        """Note until when requests of each name may be counted as others."""
        names = self.minute_counts.names(self.objective.scope.per) if folding else []
        # Exclusions begin with time.
        minute = self.minute_counts.running if self.selection.varies else 0
        # After a flood a partition has many names, which change seldom, and is asked every second.
        asked = names, minute, folding.facts
        if asked == self.folding_asked:
            return
        self.folding_asked = asked
        until = {
            name: max(
                min(folding.until_minute(combination), end)
                for combination, end in self.selection.combinations(name, minute)
            )
            for name in names
        }
        self.minute_counts.folded_until = {name: one for name, one in until.items() if one}

    def adjust(self, windows: Sequence[Maintenance], now_s: int) -> None:
        """Compare the closed periods with their value of today."""
        in_force = self.causes(windows)
        excluded = [(one.begin, one.end) for one in in_force]
        for name in self.minute_counts.names(self.objective.scope.per):
            found = [
                adjustment(
                    closed_period,
                    attainment_over(
                        *(self.objective, self.minute_counts, name, excluded),
                        *((closed_period.begin, closed_period.end), now_s),
                    )[0],
                    in_force,
                    windows,
                )
                for closed_period in self.closed_periods(name)
                # An unknown value is no reason to adjust one that was known.
                if not self.minute_counts.is_folded(name, closed_period.begin)
            ]
            self.adjusted[name] = tuple(one for one in found if one is not None)

    def packed(
        self, dirty: Iterable[tuple[str | None, int]]
    ) -> dict[tuple[str, str | None, int], bytes]:
        """Return the packed counts of the days in `dirty`, by (kind, name, day)."""
        return {
            ("s" if name is None else "c", name, day): self.minute_counts.pack(name, day)
            for name, day in dirty
        }


def retention_days(objective: ErrorBudgetObjective) -> int:
    """Return the days to keep: the period, the last closed one, and tomorrow if clocks differ."""
    if isinstance(objective.period, CalendarMonth):
        return 2 * 31 + 4
    return objective.period.rolling_days + 4
