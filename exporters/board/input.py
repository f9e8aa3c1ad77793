"""The result of one refresh, as the board's modules read it. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from exporters.board.alerts import ActiveAlerts
from exporters.catalogue.spec import SCOPE_LABELS
from exporters.windows.incremental import CUSTOMER, Sums
from exporters.windows.measured import Measured, measure, regroup_sums
from exporters.windows.minutes import Minute
from slo.engine.daily import DayUptime
from slo.engine.report import Key, ObjectiveResult
from slo.policy.scope import Scope
from slo.policy.selection import Selection
from streams.state.coverage import Coverage
from streams.state.measures import GroupKey
from streams.store.heartbeat import Heartbeat
from streams.store.reader import PartitionView

Groups = Mapping[str, Measured]  # by name of the scope's `per` dimension; "" without one


@dataclass(frozen=True, slots=True)
class BoardInput:
    """The state at one moment."""

    now_s: float  # wall clock
    names: Mapping[str, Sequence[GroupKey]]  # names of the group numbers, by scope
    windows: Mapping[str, Mapping[str, Sums]]  # window -> scope -> sums
    spans: Mapping[str, tuple[int, int]]  # window -> [from_s, to_s)
    newest: Sums  # by series, since `newest_s`
    newest_s: int
    views: Sequence[PartitionView]
    heartbeats: Sequence[Heartbeat]
    coverage: Coverage
    lags: Mapping[int, int]  # partition -> records that wait; of live workers only
    delays_s: Mapping[int, float]  # partition -> age of its newest event when that was first read
    minutes: Sequence[Minute]
    results: Sequence[ObjectiveResult] | None  # of error budgets; None until they are first read
    days: Mapping[Key, Sequence[DayUptime]]  # of the objectives that have a history strip
    alerts: ActiveAlerts
    unseen_sources: Sequence[str] = ()  # that an intake expects, and that have sent nothing
    _measured: dict[tuple[str, str], dict[int, Measured]] = field(default_factory=dict)

    def by_name(self, window: str, scope: str) -> dict[str, Measured]:
        """Return all groups of a scope with one label; the fleet has the name ""."""
        names = self.names[scope]
        return {
            names[group][0] if names[group] else "": one
            for group, one in self._groups(window, scope).items()
        }

    def fleet(self, window: str) -> Measured:
        """Return the sums of all requests."""
        return self._groups(window, "fleet").get(0, Measured())

    def groups(self, scope: Scope, window: str) -> Groups:
        """Return the groups that an objective is about; empty if the windows lack its scope."""
        selection = Selection.of(scope)
        if not can_answer(scope):
            return {}
        dimensions = (CUSTOMER,) if selection.scope == CUSTOMER else SCOPE_LABELS[selection.scope]
        numbers: dict[str, int] = {}
        group_of = []
        # Groups of one name of the `per` dimension are added up; those outside the scope get -1 and
        # are left out.
        for key in self.names[selection.scope]:
            values: dict[str, str] = dict(zip(dimensions, key, strict=True))
            if all(values[one] in wanted for one, wanted in selection.names.items()):
                name = values[selection.per] if selection.per else ""
                group_of.append(numbers.setdefault(name, len(numbers)))
            else:
                group_of.append(-1)
        # The fleet is measured once and kept, so it is not grouped again.
        if selection.scope == "fleet":
            return {"": self.fleet(window)}
        sums = regroup_sums(self.windows[window][selection.scope], np.array(group_of, np.int64))
        found = measure(selection.scope, sums)
        return {name: found[number] for name, number in numbers.items() if number in found}

    def _groups(self, window: str, scope: str) -> dict[int, Measured]:
        # Tiles, rows and thresholds ask for the same groups; percentiles are computed once.
        if (window, scope) not in self._measured:
            self._measured[window, scope] = measure(scope, self.windows[window][scope])
        return self._measured[window, scope]


def can_answer(scope: Scope) -> bool:
    """Return whether the windows have the scope of an objective.

    They have customers only one by one for all of them, and not by model.
    """
    dimensions = scope.dimensions()
    return "customer" not in dimensions or (dimensions == {"customer"} and not scope.customer)
