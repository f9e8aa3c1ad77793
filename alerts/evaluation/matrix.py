"""Values of many label sets at many instants, which rules are evaluated over at once.

Pure. A live board evaluates one instant; a backtest thousands of them in one pass.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from slo.alert_state import SampleKey, Samples, Vector

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Codes = NDArray[np.intp]
Keys = tuple[SampleKey, ...]


class LabelColumn(NamedTuple):
    """The values of one label in all rows."""

    values: tuple[str, ...]  # distinct; empty for a row without the label
    codes: Codes  # of each row, the place of its value


@dataclass(frozen=True, slots=True)
class Matrix:
    """One row for each of some distinct label sets, one column for each instant."""

    keys: Keys
    values: Floats  # without meaning if not present
    present: Bools
    _columns: dict[str, LabelColumn] = field(default_factory=dict, compare=False)

    @classmethod
    def at_once(cls, vector: Vector) -> Self:
        """Return the matrix of a single instant."""
        values = np.fromiter(vector.values(), np.float64, len(vector)).reshape(-1, 1)
        return cls(tuple(vector), values, np.ones(values.shape, np.bool_))

    @classmethod
    def empty(cls, instants: int) -> Self:
        """Return a matrix without label sets."""
        return cls((), np.empty((0, instants)), np.empty((0, instants), np.bool_))

    def vector(self, at: int) -> Vector:
        """Return the samples of the instant number `at`."""
        rows = np.flatnonzero(self.present[:, at]).tolist()
        return {self.keys[row]: float(self.values[row, at]) for row in rows}

    def column(self, label: str) -> LabelColumn:
        """Return the values of a label."""
        if label not in self._columns:
            codes: dict[str, int] = {}
            of_rows = [
                codes.setdefault(
                    next((value for name, value in key if name == label), ""), len(codes)
                )
                for key in self.keys
            ]
            self._columns[label] = LabelColumn(tuple(codes), np.array(of_rows, np.intp))
        return self._columns[label]

    def take(self, rows: Sequence[int]) -> "Matrix":
        """Return some of the rows."""
        index = np.array(rows, np.intp)
        return Matrix(
            tuple(self.keys[row] for row in rows), self.values[index], self.present[index]
        )

    def spread(self, keys: Keys) -> "Matrix":
        """Return a row for each of `keys`; those that have no row here are never present."""
        if self.keys == keys:
            return self
        # Below, row -1 would be out of range.
        if not self.keys:
            shape = len(keys), self.values.shape[1]
            return Matrix(keys, np.zeros(shape), np.zeros(shape, np.bool_))
        row_of = {key: row for row, key in enumerate(self.keys)}
        rows = np.array([row_of.get(key, -1) for key in keys], np.intp)
        # Row -1 is the last one, whose values do not count if they are not present.
        return Matrix(keys, self.values[rows], self.present[rows] & (rows >= 0)[:, None])

    def folded(self, on: frozenset[str], keys: Keys, is_one: bool = False) -> "Matrix":
        """Return a row for each of `keys`: the sum of the rows that have the same labels `on`.

        `is_one`: raise ValueError if several are present at one instant, as Prometheus does.
        """
        groups: dict[SampleKey, int] = {}
        number = [groups.setdefault(_among(key, on), len(groups)) for key in self.keys]
        shape = len(groups), self.values.shape[1]
        values, counts = np.zeros(shape), np.zeros(shape, np.int64)
        # Values that are not present may be NaN, which would spread to the sum.
        np.add.at(values, number, np.where(self.present, self.values, 0.0))
        np.add.at(counts, number, self.present)
        if is_one and (counts > 1).any():
            raise ValueError("several elements of the right side match one of the left")
        rows = Matrix(tuple(groups), values, counts > 0)
        matching = rows.spread(tuple(_among(key, on) for key in keys))
        return Matrix(keys, matching.values, matching.present)

    def only(self, holds: Bools) -> "Matrix":
        """Return the matrix with only those samples present for which `holds`."""
        return Matrix(self.keys, self.values, self.present & holds)

    def map(self, compute: Callable[[Floats], Any]) -> "Matrix":
        """Return the matrix with each value computed from the value before."""
        return Matrix(self.keys, compute(self.values), self.present)


def _among(key: SampleKey, labels: frozenset[str]) -> SampleKey:
    return tuple(pair for pair in key if pair[0] in labels)


Families = Mapping[str, Matrix]  # by metric name


def families_of(samples: Samples, metrics: Collection[str]) -> Families:
    """Return the samples of one instant, of those metrics only."""
    return {metric: Matrix.at_once(samples[metric]) for metric in metrics if samples.get(metric)}
