"""How the numbers that one partition gives its series and customers translate to the reader's.

Pure.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

import numpy as np

from streams.checksums import DamagedError
from streams.state.registry import CustomerKey, SeriesKey
from streams.state.slices import CELL_BITS, COUNTER_BITS, THRESHOLD_COUNT_BITS, Aggregate
from streams.state.snapshot import Meta, descends
from streams.state.tables import Ints, Table

Name = TypeVar("Name", SeriesKey, CustomerKey)


@dataclass(slots=True)
class Names(Generic[Name]):
    """Names with a number each, which are the same for all partitions of a reader."""

    names: list[Name] = field(default_factory=list)
    _numbers: dict[Name, int] = field(default_factory=dict)

    def numbers_of(self, names: list[Name]) -> Ints:
        """Return the number of each name; new names get the next ones."""
        return np.array([self._number(name) for name in names], np.int64)

    def _number(self, name: Name) -> int:
        number = self._numbers.setdefault(name, len(self.names))
        if number == len(self.names):
            self.names.append(name)
        return number


@dataclass(slots=True)
class Numbering:
    """How one partition's own numbers translate to the reader's."""

    # By the partition's own number: the reader's.
    series: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    customers: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    meta: Meta | None = None  # of the last view
    generation: int = 0

    def fits(self, meta: Meta) -> bool:
        """Return whether a view with `meta` may be of the same state as the last one."""
        return self.meta is None or descends(meta, self.meta)

    def begin_again(self) -> "Numbering":
        """Return one without names, under which all that was read has another version."""
        return Numbering(generation=self.generation + 1)

    def has_names(self, meta: Meta) -> bool:
        """Return whether all names of a state are known."""
        return (meta.series, meta.customers) == (len(self.series), len(self.customers))

    def names(
        self, series: Sequence[SeriesKey], customers: Sequence[CustomerKey]
    ) -> tuple[list[SeriesKey], list[CustomerKey]]:
        """Return the partition's names, from those of the reader."""
        mine = [series[number] for number in self.series.tolist()]
        return mine, [customers[number] for number in self.customers.tolist()]

    def renumber(self, name: str, aggregate: Aggregate) -> Aggregate:
        """Replace a partition's own numbers by the reader's.

        Raises DamagedError if the aggregate, of the field `name`, has a number without a name.
        """
        try:
            return self._renumber(aggregate)
        except IndexError as error:
            raise DamagedError(name, f"has a number without a name: {error}") from error

    def _renumber(self, aggregate: Aggregate) -> Aggregate:
        return replace(
            aggregate,
            series=_rekey(aggregate.series, self.series, 0),
            cells=_rekey(aggregate.cells, self.series, CELL_BITS),
            threshold_counts=_rekey(aggregate.threshold_counts, self.series, THRESHOLD_COUNT_BITS),
            customers=_rekey(aggregate.customers, self.customers, 0),
            counters=_rekey(aggregate.counters, self.series, COUNTER_BITS),
            customer_counters=_rekey(aggregate.customer_counters, self.customers, COUNTER_BITS),
        )


def _rekey(table: Table, numbers: Ints, low_bits: int) -> Table:
    if not len(table):
        return table
    # A key is (number << low_bits) | the rest: only the number changes.
    low = table.keys & ((1 << low_bits) - 1)
    return Table.summed((numbers[table.keys >> low_bits] << low_bits) | low, table.values)
