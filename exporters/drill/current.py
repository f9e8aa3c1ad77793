"""The board's window of each model, region, channel, tier and customer, as on /metrics.

Pure. The groups are measured when a page asks for them: most are never looked at.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from exporters.board.breakdown import FleetTargets, breakdown_row
from exporters.board.facts import BreakdownRow
from exporters.place_links import DIMENSION_OF
from exporters.windows.incremental import CUSTOMER, Sums
from exporters.windows.measured import Measured, measure
from streams.events.fields import OTHER
from streams.state.measures import GroupKey

CUSTOMERS_MAX = 500  # on the page that lists them


@dataclass(frozen=True, slots=True)
class CustomerList:
    """The customers of a window."""

    count: int  # without those that are counted together
    rows: tuple[BreakdownRow, ...]  # of the largest; by token
    has_others: bool = False  # some are counted together, beyond the limit of names


@dataclass(frozen=True, slots=True)
class CurrentWindow:
    """The sums of one refresh."""

    window: str  # `5m`
    from_s: int
    to_s: int
    names: Mapping[str, Sequence[GroupKey]]  # names of the group numbers, by dimension
    sums: Mapping[str, Sums]  # by dimension
    fleet: Measured
    targets: FleetTargets
    _measured: dict[str, dict[str, Measured]] = field(default_factory=dict)

    def row(self, kind: str, name: str) -> BreakdownRow | None:
        """Return a place as the live board lists it; None without requests in the window."""
        measured = self._groups(DIMENSION_OF[kind]).get(name)
        return None if measured is None else breakdown_row(name, measured, self.fleet, self.targets)

    def customers(self) -> CustomerList:
        """Return the customers with requests in the window, those with most of them first."""
        measured = {name: one for name, one in self._groups(CUSTOMER).items() if one.requests}
        largest = sorted(measured, key=lambda name: (-measured[name].requests, name))
        rows = tuple(
            breakdown_row(name, measured[name], self.fleet, self.targets)
            for name in largest[:CUSTOMERS_MAX]
        )
        has_others = OTHER in measured
        return CustomerList(len(measured) - has_others, rows, has_others)

    def _groups(self, dimension: str) -> dict[str, Measured]:
        if dimension not in self._measured:
            names = self.names[dimension]
            found = measure(dimension, self.sums[dimension])
            self._measured[dimension] = {names[group][0]: one for group, one in found.items()}
        return self._measured[dimension]
