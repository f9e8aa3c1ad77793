"""What the operators of an expression do with the vectors of many instants. Pure."""

from collections.abc import Callable

import numpy as np

from alerts.evaluation.matrix import Families, Floats, Matrix
from slo.alert_state import SampleKey

Value = Floats | Matrix  # a scalar for each instant (or one for all), or a vector for each
Labels = frozenset[str] | None  # of `on`; None to match by all labels
Node = Callable[[Families, Floats], Value]  # the instants, in seconds since 1970

COMPARISONS: dict[str, np.ufunc] = {
    ">": np.greater,
    "<": np.less,
    ">=": np.greater_equal,
    "<=": np.less_equal,
    "==": np.equal,
    "!=": np.not_equal,
}
ARITHMETIC: dict[str, np.ufunc] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
}
# The functions that fold the values of a group, and the value that changes no result of theirs.
AGGREGATES: dict[str, tuple[np.ufunc, float]] = {
    "max": (np.fmax, np.nan),
    "min": (np.fmin, np.nan),
    "sum": (np.add, 0.0),
    "count": (np.add, 0.0),  # of ones
}


def aggregate(fold: np.ufunc, neutral: float, by: frozenset[str], inner: Node) -> Node:
    """Fold the elements that have the same labels `by` into one; `neutral` changes no result."""
    group_of: dict[SampleKey, SampleKey] = {}  # label sets recur at every evaluation

    def group(key: SampleKey) -> SampleKey:
        if key not in group_of:
            group_of[key] = tuple(pair for pair in key if pair[0] in by)
        return group_of[key]

    def node(families: Families, times_s: Floats) -> Matrix:
        matrix = as_vector(inner(families, times_s))
        if not matrix.keys:
            return matrix
        numbers: dict[SampleKey, int] = {}
        number = np.array([numbers.setdefault(group(key), len(numbers)) for key in matrix.keys])
        # Rows of a group one after another, so that one call folds all groups.
        order = np.argsort(number, kind="stable")
        starts = np.searchsorted(number[order], np.arange(len(numbers)))
        values = np.where(matrix.present, matrix.values, neutral)[order]
        present = matrix.present[order]
        return Matrix(
            tuple(numbers),
            fold.reduceat(values, starts, axis=0),
            np.logical_or.reduceat(present, starts, axis=0),
        )

    return node


def largest(count: int, by: frozenset[str], inner: Node) -> Node:
    """Keep the `count` largest elements of those that have the same labels `by`."""

    def node(families: Families, times_s: Floats) -> Matrix:
        matrix = as_vector(inner(families, times_s))
        rows_of: dict[SampleKey, list[int]] = {}
        for row, key in enumerate(matrix.keys):
            rows_of.setdefault(tuple(pair for pair in key if pair[0] in by), []).append(row)
        # NaN is sorted to the end, and so is an absent element.
        falling = np.where(matrix.present, -matrix.values, np.nan)
        is_kept = np.zeros(matrix.present.shape, np.bool_)
        for rows in rows_of.values():
            # The inverse of the order is the rank of each row.
            order = np.argsort(falling[rows], axis=0, kind="stable")
            is_kept[rows] = np.argsort(order, axis=0) < count
        return matrix.only(is_kept)

    return node


def ones(inner: Node) -> Node:
    """Return 1 for each element."""
    return lambda families, times_s: as_vector(inner(families, times_s)).map(np.ones_like)


def single(inner: Node) -> Node:
    """Return the value of the only element, or NaN, for which no comparison holds."""

    def node(families: Families, times_s: Floats) -> Floats:
        matrix = as_vector(inner(families, times_s))
        # The sum is the value itself if only one element is present.
        sums = np.where(matrix.present, matrix.values, 0.0).sum(axis=0)
        return np.where(matrix.present.sum(axis=0) == 1, sums, np.nan)

    return node


def combine(sign: str, left: Node, right: Node, on: Labels) -> Node:
    """Keep elements by whether the second side has the same labels (`and`, `or`, `unless`)."""

    def node(families: Families, times_s: Floats) -> Matrix:
        first, second = as_vector(left(families, times_s)), as_vector(right(families, times_s))
        if sign == "or":
            keys = tuple(dict.fromkeys(first.keys + second.keys))
            first, second = first.spread(keys), second.spread(keys)
            values = np.where(first.present, first.values, second.values)
            return Matrix(keys, values, first.present | second.present)
        # Values of the right side do not matter, only which labels it has.
        others = second.spread(first.keys) if on is None else second.folded(on, first.keys)
        return first.only(others.present if sign == "and" else ~others.present)

    return node


def _matched(second: Matrix, first: Matrix, on: Labels) -> Matrix:
    """Return the rows of the "one" side that match those of the "many" side by the labels `on`."""
    return second.spread(first.keys) if on is None else second.folded(on, first.keys, is_one=True)


def compare(holds: np.ufunc, left: Node, right: Node, on: Labels) -> Node:
    """Keep the values of the left side for which the comparison holds."""

    def node(families: Families, times_s: Floats) -> Matrix:
        matrix, limit = as_vector(left(families, times_s)), right(families, times_s)
        # A scalar is compared with each element; a vector only with elements of equal labels.
        if isinstance(limit, Matrix):
            limit = _matched(limit, matrix, on)
            return matrix.only(limit.present & holds(matrix.values, limit.values))
        return matrix.only(holds(matrix.values, limit))

    return node


def compute(operation: np.ufunc, left: Node, right: Node, on: Labels) -> Node:
    """Compute element by element, of equal labels if both sides are vectors."""

    def node(families: Families, times_s: Floats) -> Value:
        first, second = left(families, times_s), right(families, times_s)
        if isinstance(first, Matrix):
            if isinstance(second, Matrix):
                second = _matched(second, first, on)
                values = operation(first.values, second.values)
                return Matrix(first.keys, values, first.present & second.present)
            return first.map(lambda values: operation(values, second))
        if isinstance(second, Matrix):
            return second.map(lambda values: operation(first, values))
        result: Floats = operation(first, second)
        return result

    return node


def vector_of(scalar: Floats, times_s: Floats) -> Matrix:
    """Return a vector of one element without labels."""
    values = np.broadcast_to(scalar, (1, len(times_s)))
    return Matrix(((),), values, np.ones(values.shape, np.bool_))


def as_vector(value: Value) -> Matrix:
    """Return a value that must be a vector. Raises ValueError for a scalar."""
    if not isinstance(value, Matrix):
        raise ValueError("a scalar stands where a rule needs a vector")
    return value


def as_scalar(value: Value) -> Floats:
    """Return a value that must be a scalar. Raises ValueError for a vector."""
    if isinstance(value, Matrix):
        raise ValueError("a vector stands where a rule needs a scalar")
    return value
