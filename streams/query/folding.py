"""Until when requests of a name may have been counted under `__other__` instead of it.

Beyond `worker.limits` a partition counts further names together. A name that has no row in such a
partition may be among them, so its counts are too small, and no objective can be judged by them.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property
from math import inf

from streams.state.registry import OTHER, SERIES_DIMENSIONS, CustomerKey
from streams.state.snapshot import Meta
from streams.store.reader import StateSnapshot

Name = tuple[str, str]  # dimension and name, of a customer its token


@dataclass
class _Partition:
    """The names of one partition."""

    snapshot: StateSnapshot
    partition: int
    meta: Meta

    @cached_property
    def _rows(self) -> dict[str, set[str]]:
        """Return the names that have rows, by dimension."""
        series, customers = self.snapshot.names_of(self.partition)
        rows = {
            dimension: {names[at] for names in series}
            for at, dimension in enumerate(SERIES_DIMENSIONS)
        }
        return rows | {"customer": {customer for customer, _ in customers}}

    @cached_property
    def _pairs(self) -> set[CustomerKey]:
        return set(self.snapshot.names_of(self.partition)[1])

    def until_ms(self, names: Iterable[Name]) -> float:
        """Return until when requests of these names together may be counted as others."""
        overflowed, asked = self.meta.overflowed, dict(names)
        if not overflowed:
            return 0
        by_customer = "customer" in asked
        until_ms = 0.0
        for dimension, name in asked.items():
            # Requested tiers have the limit and the reserved names of the served ones.
            limit = "service_tier" if dimension == "requested_service_tier" else dimension
            since_ms = self.meta.reserved_since_ms.get(limit, {}).get(name)
            if since_ms is not None:
                until_ms = max(until_ms, since_ms)
            # A requested tier may get a row after it was folded: that of a request that got it.
            elif name not in self._rows.get(dimension, ()):
                limits = {limit} if dimension == "customer" else {limit, "series"}
                until_ms = inf if limits & overflowed.keys() else until_ms
            # Combinations beyond the limit lose the names that are not reserved.
            elif not by_customer and "series" in overflowed:
                until_ms = inf
        if by_customer and "model" in asked and "customer_model" in overflowed:
            pair = asked["customer"], asked["model"]
            since = self.meta.reserved_since_ms
            named = zip(("customer", "customer_model"), pair, strict=True)
            # It has a row from then on if both names are reserved; infinity if one is not.
            pair_until_ms = max(since.get(key, {}).get(name, inf) for key, name in named)
            if pair_until_ms < inf or pair not in self._pairs:
                until_ms = max(until_ms, pair_until_ms)
        return until_ms


class Folding:
    """The names of all partitions of a state."""

    def __init__(self, snapshot: StateSnapshot) -> None:
        self._partitions = [
            _Partition(snapshot, view.partition, view.meta)
            for view in snapshot.views
            if view.is_readable and any(view.meta.overflowed.values())
        ]

    @cached_property
    def facts(self) -> list[tuple[object, ...]]:
        """Return all that the answers depend on: as long as these are equal, so are those."""
        return [
            (
                partition.partition,
                meta.rebuilt,
                meta.series,
                meta.customers,
                frozenset(meta.overflowed),
                meta.reserved_since_ms,
            )
            for partition in self._partitions
            for meta in [partition.meta]
        ]

    def __bool__(self) -> bool:
        """Return whether a partition has counted any name as another."""
        return bool(self._partitions)

    def until_minute(self, names: Collection[Name]) -> float:
        """Return the minute until which requests of these names together may be missing.

        0 if none is; infinity if they still may be.
        """
        # The rest is complete by definition.
        if any(name == OTHER for _, name in names):
            return 0
        return max((one.until_ms(names) for one in self._partitions), default=0) / 60_000
