"""Slices of many times as one aggregate, so that array operations count all of them at once.

Pure. Each (slot, series) becomes a series of its own, and each (slot, customer row) a customer row;
a slot is the number of a slice of ten seconds. `Stack` has the slot and the name of each.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from exporters.windows.incremental import Grouping
from streams.state.slices import (
    CELL_BITS,
    COUNTER_BITS,
    LEVELS,
    THRESHOLD_COUNT_BITS,
    Aggregate,
)
from streams.state.tables import Ints, Table

STEP_S = LEVELS[0].step_s
_NUMBER_BITS = 28  # of the number of a name
# Bits of the keys below the number of the name.
_LOW_BITS = {
    "series": 0,
    "customers": 0,
    "cells": CELL_BITS,
    "threshold_counts": THRESHOLD_COUNT_BITS,
    "counters": COUNTER_BITS,
    "customer_counters": COUNTER_BITS,
}


class KeyedRows(NamedTuple):
    """Rows of one table of many slices, in any order; rows of the same slice and key add up."""

    starts_s: Ints  # of the slices
    keys: Ints
    values: Ints

    @property
    def size_bytes(self) -> int:
        return self.starts_s.nbytes + self.keys.nbytes + self.values.nbytes

    def select(self, selected: "np.ndarray[tuple[int], np.dtype[np.bool_]]") -> "KeyedRows":
        """Return some of the rows."""
        return KeyedRows(self.starts_s[selected], self.keys[selected], self.values[selected])

    def summed(self) -> "KeyedRows":
        """Return the rows with one row for each slice and key."""
        if not len(self.keys):
            return self
        order = np.lexsort((self.keys, self.starts_s))
        starts_s, keys = self.starts_s[order], self.keys[order]
        is_new = (starts_s[1:] != starts_s[:-1]) | (keys[1:] != keys[:-1])
        first = np.flatnonzero(np.concatenate(([True], is_new)))
        return KeyedRows(starts_s[first], keys[first], np.add.reduceat(self.values[order], first))


SliceRows = Mapping[str, KeyedRows]  # by table of Aggregate


def rows_of(slices: Sequence[tuple[int, Aggregate]]) -> dict[str, KeyedRows]:
    """Return the rows of slices: (start in seconds since 1970, content)."""
    starts_s = np.array([start_s for start_s, _ in slices], np.int64)
    rows = {}
    for name in _LOW_BITS:
        tables = [getattr(aggregate, name) for _, aggregate in slices]
        rows[name] = KeyedRows(
            np.repeat(starts_s, [len(table.keys) for table in tables]),
            np.concatenate([table.keys for table in tables]),
            np.concatenate([table.values for table in tables]),
        )
    return rows


def joined(parts: Sequence[SliceRows]) -> dict[str, KeyedRows]:
    """Return the rows of all parts, at least one."""
    return {
        name: KeyedRows(*(np.concatenate(arrays) for arrays in zip(*columns, strict=True)))
        for name, columns in ((name, [part[name] for part in parts]) for name in _LOW_BITS)
    }


@dataclass(frozen=True, slots=True)
class Stack:
    """Slices by slot. Numbers of stacked series and customer rows rise with their slots."""

    slots: Ints  # of each stacked series
    series: Ints  # number of its name
    customer_slots: Ints
    customers: Ints
    counts: Aggregate


class StackGrouping(Grouping):
    """The groups of a grouping, each slot apart: group + slot * `groups`."""

    def __init__(self, base: Grouping, slots: Ints, numbers: Ints) -> None:
        super().__init__(base.name, (), ())
        self.is_by_tier = base.is_by_tier
        self._group_of = slots * len(base.keys) + base.groups_of(numbers)
        self._is_same = False


def stack(rows: SliceRows, origin_s: int) -> Stack | None:
    """Stack rows by slots that count from `origin_s`; None if there are none."""
    pairs = {name: _pairs(rows[name], low_bits, origin_s) for name, low_bits in _LOW_BITS.items()}
    # Sorted by slot first, as the slot stands in the high bits.
    series = np.unique(pairs["series"])
    if not len(series):
        return None
    # An attempt that was not final is no request of a customer, and is in the counters alone.
    customers = np.unique(np.concatenate((pairs["customers"], pairs["customer_counters"])))
    tables = {}
    for name, low_bits in _LOW_BITS.items():
        names = np.searchsorted(customers if name.startswith("customer") else series, pairs[name])
        low = rows[name].keys & ((1 << low_bits) - 1)
        tables[name] = Table.summed((names << low_bits) | low, rows[name].values)
    return Stack(*_split(series), *_split(customers), replace(Aggregate.empty(), **tables))


def _pairs(rows: KeyedRows, low_bits: int, origin_s: int) -> Ints:
    """Return the slot of each row, with the number of its name below it."""
    return ((rows.starts_s - origin_s) // STEP_S << _NUMBER_BITS) | (rows.keys >> low_bits)


def _split(pairs: Ints) -> tuple[Ints, Ints]:
    return pairs >> _NUMBER_BITS, pairs & ((1 << _NUMBER_BITS) - 1)
