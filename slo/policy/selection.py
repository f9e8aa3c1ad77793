"""The published window series that belong to the scope of an objective.

Pure.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from slo.policy.scope import Dimension, Scope
from streams.state.measures import SERIES_DIMENSIONS


@dataclass(frozen=True, slots=True)
class Selection:
    """The window series that contain the requests of a scope."""

    scope: str  # value of the label `scope`
    names: Mapping[Dimension, tuple[str, ...]]
    per: Dimension | None

    @classmethod
    def of(cls, scope: Scope) -> "Selection":
        """Sums by one dimension where one is enough, else every single series."""
        dimensions = scope.dimensions()
        level = next(iter(dimensions)) if len(dimensions) == 1 else "series"
        return cls(level if dimensions else "fleet", scope.names(), scope.per)

    @property
    def is_one_series(self) -> bool:
        """Return whether each name has one published series, so that no sum is needed."""
        if self.scope == "series":
            return False
        return self.per is not None or all(len(names) == 1 for names in self.names.values())

    def values(self, window: str) -> dict[str, tuple[str, ...]]:
        """Return the accepted values of each label, for a query that reads `window`."""
        return {"scope": (self.scope,), "window": (window,)} | dict(self.names)

    @property
    def by(self) -> tuple[str, ...]:
        """Labels of one judged thing."""
        if self.per:
            return (self.per,)
        return tuple(self.names) if self.is_one_series else ()

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of one published series."""
        return SERIES_DIMENSIONS if self.scope == "series" else tuple({self.scope} - {"fleet"})
