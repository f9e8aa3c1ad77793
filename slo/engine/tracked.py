"""One promise and all that the engine keeps of it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from slo.engine.attainment import Standing, Stretch, packed, verdicts_of
from slo.engine.counting import Selection
from slo.engine.daily import DayCache
from slo.engine.ledger import DAY, Ledger
from slo.engine.ledger_store import Head, Reach
from slo.engine.maintenance import Adjustment, Cause, Closing, Maintenance, causes
from slo.policy.indicators import MinuteVerdicts, SlicePercentile, SliceSpeed
from slo.policy.policy import ErrorBudgetObjective, Policy
from slo.policy.scope import CalendarMonth


@dataclass(slots=True)
class Kept:
    """One promise and what is kept of it."""

    policy: Policy
    promise: ErrorBudgetObjective
    selection: Selection
    ledger: Ledger
    head: Head = field(default_factory=Head)
    # (clock, reach) of the times it was tried to store, oldest first
    tries: list[tuple[int, Reach]] = field(default_factory=list)
    fresh: dict[tuple[str, int], Closing] = field(default_factory=dict)  # not stored yet
    adjusted: dict[str, tuple[Adjustment, ...]] = field(default_factory=dict)  # by name
    # By name, with what it was judged from.
    judged: dict[str, tuple[object, Standing]] = field(default_factory=dict)
    days: DayCache = field(default_factory=DayCache)

    def names(self) -> list[str]:
        """What is judged by itself: values of the scope's `per` dimension, or one empty name."""
        return sorted(self.ledger.rows) if self.promise.scope.per else [""]

    def closings(self, name: str) -> list[Closing]:
        """Closed periods that the ledger still spans, newest first."""
        found = {**self.fresh, **self.head.closings}
        mine = [
            one for (of, _), one in found.items() if of == name and one.begin >= self.ledger.begin
        ]
        return sorted(mine, key=lambda one: -one.begin)

    def causes(self, windows: Sequence[Maintenance]) -> list[Cause]:
        """What does not count: the policy's exclusions, and maintenance in force."""
        return causes(self.policy, self.promise, windows)

    def excluded(self, windows: Sequence[Maintenance]) -> list[Stretch]:
        """When that is."""
        return [(one.begin, one.end) for one in self.causes(windows)]

    def packed(
        self, dirty: Iterable[tuple[str | None, int]], excluded: Sequence[Stretch]
    ) -> dict[tuple[str, str | None, int], bytes]:
        """The days that changed, and the verdicts of their minutes."""
        found: dict[tuple[str, str | None, int], bytes] = {}
        for name, day in dirty:
            found["s" if name is None else "c", name, day] = self.ledger.pack(name, day)
        if isinstance(self.promise.indicator, MinuteVerdicts | SlicePercentile | SliceSpeed):
            days = {day for _, day in dirty}
            for own in self.names():
                for day in days:
                    stretch = (day * DAY, (day + 1) * DAY)
                    verdicts, _ = verdicts_of(self.promise, self.ledger, own, excluded, stretch)
                    found["v", own, day] = packed(verdicts)
        return found


def days_kept(promise: ErrorBudgetObjective) -> int:
    """Days to keep at hand: the period, the last closed one, tomorrow for clocks that differ."""
    if isinstance(promise.period, CalendarMonth):
        return 2 * 31 + 4
    return promise.period.rolling_days + 4
