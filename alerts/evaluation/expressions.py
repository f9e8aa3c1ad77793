"""The part of PromQL that compiled rules use, evaluated over the samples of one instant.

Pure. `promql-parser` builds the syntax tree, so an expression is read as Prometheus reads it. Range
selectors need a history of past samples. `offset` and vector matching by chosen labels are in no
rule that is evaluated here; they raise ValueError.

Source: https://prometheus.io/docs/prometheus/latest/querying/operators/
"""

import math
import operator
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import promql_parser as promql

from alerts.evaluation.history import History
from slo.alert_state import SampleKey, Samples, Vector

Value = float | Vector
Node = Callable[[Samples, float], Value]
_Binary = Callable[[float, float], float]

_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    "<": operator.lt,
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
}
_AGGREGATES: dict[str, _Binary] = {"max": max, "min": min, "sum": operator.add}


@dataclass(frozen=True, slots=True)
class Expression:
    """The condition of a rule, ready to be evaluated."""

    text: str
    metrics: frozenset[str]  # read by it
    is_ceiling: bool  # whether larger values are the worse ones
    reads_clock: bool
    reads_ranges: bool
    _node: Node

    def vector(self, samples: Samples, now_s: float = 0) -> Vector:
        """Return the label sets for which the condition holds, with their values."""
        value = self._node(samples, now_s)
        return {(): value} if isinstance(value, float) else value

    def is_due(self, is_same: bool, has_new_row: bool) -> bool:
        """Return whether the value may differ from the last one.

        `is_same`: the samples did not change. `has_new_row`: the history did.
        """
        return has_new_row if self.reads_ranges else not is_same or self.reads_clock


def parse(
    text: str, history: History | None = None, shared: dict[str, Node] | None = None
) -> Expression:
    """Compile an expression, which reads past samples from `history`.

    `shared`: parts that other expressions of the same samples have too, each evaluated once; new
    ones are added. Raises ValueError for PromQL that compiled rules do not use, and for ranges
    without a history.
    """
    try:
        tree = promql.parse(text)
    except ValueError as error:
        raise ValueError(f"{text!r}: {error}") from error
    compiler = _ExpressionCompiler(text, history, {} if shared is None else shared)
    node = compiler.compile(tree)
    # The first comparison is the condition; later ones are guards.
    is_ceiling = next(_comparisons(tree), ">") not in ("<", "<=")
    return Expression(
        text,
        frozenset(compiler.metrics),
        is_ceiling,
        compiler.reads_clock,
        compiler.reads_ranges,
        node,
    )


def _comparisons(tree: promql.Expr) -> Iterator[str]:
    """Yield the comparison operators of an expression from left to right."""
    if isinstance(tree, promql.BinaryExpr):
        yield from _comparisons(tree.lhs)
        if str(tree.op) in _COMPARISONS:
            yield str(tree.op)
        yield from _comparisons(tree.rhs)
    elif isinstance(tree, promql.ParenExpr | promql.AggregateExpr):
        yield from _comparisons(tree.expr)


@dataclass(slots=True)
class _ExpressionCompiler:
    """Turns a syntax tree into nested functions, and notes which metrics they read."""

    text: str
    history: History | None
    shared: dict[str, Node]
    metrics: set[str] = field(default_factory=set)
    reads_clock: bool = False
    reads_ranges: bool = False

    def compile(self, tree: promql.Expr) -> Node:
        match tree:
            case promql.NumberLiteral():
                number = float(tree.val)
                return lambda samples, now_s: number
            case promql.ParenExpr():
                return self.compile(tree.expr)
            case promql.VectorSelector():
                return self._share(tree, self._selector(tree))
            case promql.AggregateExpr():
                return self._share(tree, self._aggregate(tree))
            case promql.Call():
                return self._call(tree)
            case promql.BinaryExpr():
                return self._binary(tree)
        raise self._error(tree)

    def _error(self, tree: promql.Expr) -> ValueError:
        return ValueError(f"{self.text!r}: cannot evaluate {tree.prettify()} at one instant")

    def _share(self, tree: promql.Expr, node: Node) -> Node:
        """Return the node that evaluates an equal part of another expression, if there is one."""
        if not _is_of_one_instant(tree):
            return node
        return self.shared.setdefault(tree.prettify(), _remembered(node))

    def _selector(self, tree: promql.VectorSelector) -> Node:
        if tree.name is None or tree.offset is not None or tree.at is not None:
            raise self._error(tree)
        self.metrics.add(tree.name)
        return _select(tree.name, _matchers(tree))

    def _aggregate(self, tree: promql.AggregateExpr) -> Node:
        # `without` and other aggregations are in no rule; guessing their meaning would be worse.
        fold = _AGGREGATES.get(str(tree.op))
        is_by = tree.modifier is None or tree.modifier.type == promql.AggModifierType.By
        if fold is None or not is_by:
            raise self._error(tree)
        by = frozenset(tree.modifier.labels) if tree.modifier is not None else frozenset()
        return _aggregate(fold, by, self.compile(tree.expr))

    def _call(self, tree: promql.Call) -> Node:
        # Range functions need the selector itself, not its value.
        if len(tree.args) == 1 and isinstance(tree.args[0], promql.MatrixSelector):
            return self._range(tree.func.name, tree.args[0], tree)
        arguments = [self.compile(argument) for argument in tree.args]
        match tree.func.name, arguments:
            case "time", []:
                self.reads_clock = True
                return lambda samples, now_s: float(now_s)
            case "vector", [scalar]:
                return lambda samples, now_s: {(): _scalar(scalar(samples, now_s))}
            case "scalar", [inner]:
                return _single(inner)
            case "round", [inner]:
                return _round(inner)
        raise self._error(tree)

    def _range(self, function: str, selector: promql.MatrixSelector, tree: promql.Call) -> Node:
        metric, span_s = selector.vector_selector.name, selector.range.total_seconds()
        if self.history is None or metric is None:
            raise self._error(tree)
        reduced = {
            "increase": partial(self.history.increase, metric, span_s),
            "rate": partial(self.history.increase, metric, span_s),
            "deriv": partial(self.history.deriv, metric, span_s),
        }
        if function not in reduced:
            raise self._error(tree)
        # Before the first sample arrives, so that none of the range is missed.
        self.history.keep(metric, span_s)
        self.reads_ranges = True
        select = self._selector(selector.vector_selector)
        divisor = span_s if function == "rate" else 1.0

        def node(samples: Samples, now_s: float) -> Vector:
            values = select({metric: reduced[function](now_s)}, now_s)
            return {key: value / divisor for key, value in _vector(values).items()}

        return node

    def _binary(self, tree: promql.BinaryExpr) -> Node:
        modifier, sign = tree.modifier, str(tree.op)
        if modifier is not None and (
            modifier.return_bool or modifier.matching is not None or modifier.group_labels
        ):
            raise self._error(tree)
        left, right = self.compile(tree.lhs), self.compile(tree.rhs)
        if sign in _COMPARISONS:
            return _compare(_COMPARISONS[sign], left, right)
        if sign in _ARITHMETIC:
            return _compute(_ARITHMETIC[sign], left, right)
        if sign in ("and", "or", "unless"):
            return _combine(sign, left, right)
        raise self._error(tree)


def _is_of_one_instant(tree: promql.Expr) -> bool:
    """Return whether a selector, or aggregates of it, read neither the clock nor a range."""
    while isinstance(tree, promql.AggregateExpr):
        tree = tree.expr
    return isinstance(tree, promql.VectorSelector)


def _remembered(node: Node) -> Node:
    """Return the same value again while the samples are the same object."""
    last: tuple[Samples, Value] | None = None

    def remember(samples: Samples, now_s: float) -> Value:
        nonlocal last
        if last is None or last[0] is not samples:
            last = samples, node(samples, now_s)
        return last[1]

    return remember


def _matchers(tree: promql.VectorSelector) -> list[tuple[str, re.Pattern[str], bool]]:
    """Return (label, pattern, whether it must match) of each matcher of a selector."""
    return [
        (
            matcher.name,
            re.compile(
                matcher.value
                if matcher.op in (promql.MatchOp.Re, promql.MatchOp.NotRe)
                else re.escape(matcher.value)
            ),
            matcher.op in (promql.MatchOp.Equal, promql.MatchOp.Re),
        )
        for matcher in tree.matchers.matchers
    ]


def _select(metric: str, matchers: list[tuple[str, re.Pattern[str], bool]]) -> Node:
    known: dict[SampleKey, bool] = {}  # label sets recur at every evaluation

    def matches(key: SampleKey) -> bool:
        if key not in known:
            labels = dict(key)
            known[key] = all(
                bool(pattern.fullmatch(labels.get(label, ""))) is is_equal
                for label, pattern, is_equal in matchers
            )
        return known[key]

    def node(samples: Samples, now_s: float) -> Vector:
        vector = samples.get(metric, {})
        return {key: value for key, value in vector.items() if matches(key)} if matchers else vector

    return node


def _aggregate(fold: _Binary, by: frozenset[str], inner: Node) -> Node:
    group_of: dict[SampleKey, SampleKey] = {}  # label sets recur at every evaluation

    def node(samples: Samples, now_s: float) -> Vector:
        groups: dict[SampleKey, float] = {}
        for key, value in _vector(inner(samples, now_s)).items():
            group = group_of.get(key)
            if group is None:
                group = group_of[key] = tuple(pair for pair in key if pair[0] in by)
            groups[group] = fold(groups[group], value) if group in groups else value
        return groups

    return node


def _single(inner: Node) -> Node:
    """Return the value of the only element, or NaN, for which no comparison holds."""

    def node(samples: Samples, now_s: float) -> float:
        values = list(_vector(inner(samples, now_s)).values())
        return float(values[0]) if len(values) == 1 else math.nan

    return node


def _round(inner: Node) -> Node:
    """Round to the nearest whole number, halves up."""
    return lambda samples, now_s: {
        key: float(math.floor(value + 0.5)) for key, value in _vector(inner(samples, now_s)).items()
    }


def _combine(sign: str, left: Node, right: Node) -> Node:
    """Keep elements by whether the second side has the same labels (`and`, `or`, `unless`)."""

    def node(samples: Samples, now_s: float) -> Vector:
        first, second = _vector(left(samples, now_s)), _vector(right(samples, now_s))
        if sign == "or":
            return {**second, **first}
        return {key: value for key, value in first.items() if (key in second) is (sign == "and")}

    return node


def _compare(holds: Callable[[float, float], bool], left: Node, right: Node) -> Node:
    """Keep the values of the left side for which the comparison holds."""

    def node(samples: Samples, now_s: float) -> Vector:
        values, limit = _vector(left(samples, now_s)), right(samples, now_s)
        # A scalar is compared with each element; a vector only with elements of equal labels.
        if isinstance(limit, float):
            return {key: value for key, value in values.items() if holds(value, limit)}
        return {
            key: value for key, value in values.items() if key in limit and holds(value, limit[key])
        }

    return node


def _compute(compute: _Binary, left: Node, right: Node) -> Node:
    """Compute element by element, of equal labels if both sides are vectors."""

    def node(samples: Samples, now_s: float) -> Value:
        first, second = left(samples, now_s), right(samples, now_s)
        if isinstance(first, float):
            if isinstance(second, float):
                return compute(first, second)
            return {key: compute(first, value) for key, value in second.items()}
        if isinstance(second, float):
            return {key: compute(value, second) for key, value in first.items()}
        return {key: compute(value, second[key]) for key, value in first.items() if key in second}

    return node


def _divide(dividend: float, divisor: float) -> float:
    """Divide as IEEE 754 does, without an exception."""
    if divisor:
        return dividend / divisor
    if not dividend or math.isnan(dividend):
        return math.nan
    return math.copysign(math.inf, dividend) * math.copysign(1, divisor)


_ARITHMETIC: dict[str, _Binary] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": _divide,
}


def _vector(value: Value) -> Vector:
    if isinstance(value, float):
        raise ValueError("a scalar stands where a rule needs a vector")
    return value


def _scalar(value: Value) -> float:
    if not isinstance(value, float):
        raise ValueError("a vector stands where a rule needs a scalar")
    return value
