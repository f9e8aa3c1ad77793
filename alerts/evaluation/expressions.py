"""The part of PromQL that compiled rules use, evaluated over the samples of many instants at once.

Pure. `promql-parser` builds the syntax tree, so an expression is read as Prometheus reads it. Range
selectors need a history of past samples, and a single instant. Vectors match by all
labels, or by those of `on`; `offset`, `ignoring` and `group_right` are in no rule that is evaluated
here and raise ValueError.

Source: https://prometheus.io/docs/prometheus/latest/querying/operators/
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import promql_parser as promql

from alerts.evaluation.history import History
from alerts.evaluation.matrix import Families, Floats, Matrix, families_of
from alerts.evaluation.vectors import (
    AGGREGATES,
    ARITHMETIC,
    COMPARISONS,
    Labels,
    Node,
    Value,
    aggregate,
    as_scalar,
    as_vector,
    combine,
    compare,
    compute,
    largest,
    ones,
    single,
    vector_of,
)
from slo.alert_state import SampleKey, Samples, Vector


class Selector:
    """A metric name and matchers of labels."""

    def __init__(self, tree: promql.VectorSelector) -> None:
        """`tree`: with a name."""
        self.metric = str(tree.name)
        self._matchers = _matchers(tree)

    def matches(self, key: SampleKey) -> bool:
        """Return whether the selector accepts a label set."""
        labels = dict(key)
        return all(
            bool(pattern.fullmatch(labels.get(label, ""))) is is_equal
            for label, pattern, is_equal in self._matchers
        )

    def select(self, matrix: Matrix) -> Matrix:
        """Return the rows that it accepts."""
        accepted = np.ones(len(matrix.keys), np.bool_)
        for label, pattern, is_equal in self._matchers:
            column = matrix.column(label)
            # A label has few values, and all selectors of a metric share its column.
            accepts = [bool(pattern.fullmatch(value)) is is_equal for value in column.values]
            accepted &= np.array(accepts, np.bool_)[column.codes]
        return matrix if accepted.all() else matrix.take(np.flatnonzero(accepted).tolist())


@dataclass(frozen=True, slots=True)
class Expression:
    """The condition of a rule, ready to be evaluated."""

    text: str
    selectors: tuple[Selector, ...]  # of the samples that it reads
    is_ceiling: bool  # whether larger values are the worse ones
    reads_clock: bool
    reads_ranges: bool
    _node: Node

    @property
    def metrics(self) -> frozenset[str]:
        """The names of the metrics that it reads."""
        return frozenset(selector.metric for selector in self.selectors)

    def over(self, families: Families, times_s: Floats) -> Matrix:
        """Return the label sets for which the condition holds, and when, with their values.

        The matrices have a column for each of `times_s`, in seconds since 1970.
        """
        # As IEEE 754 does, without a warning: a ratio of nothing is in no comparison true.
        with np.errstate(divide="ignore", invalid="ignore"):
            value = self._node(families, times_s)
        return value if isinstance(value, Matrix) else vector_of(value, times_s)

    def vector(self, samples: Samples, now_s: float = 0) -> Vector:
        """Return the label sets for which the condition holds at one instant."""
        return self.over(families_of(samples, self.metrics), np.array([now_s], float)).vector(0)

    def is_due(self, is_same: bool, has_new_row: bool) -> bool:
        """Return whether the value may differ from the last one.

        `is_same`: the samples did not change. `has_new_row`: the history did.
        """
        return has_new_row if self.reads_ranges else not is_same or self.reads_clock


def parse(
    text: str,
    history: History | None = None,
    shared: "dict[str, SharedPart] | None" = None,
    records: Mapping[str, str] | None = None,
) -> Expression:
    """Compile an expression, which reads past samples from `history`.

    `shared`: parts that other expressions of the same samples have too, each evaluated once; new
    ones are added. `records`: the expressions of recording rules by name. Raises ValueError for
    PromQL that compiled rules do not use, and for ranges without a history.
    """
    try:
        tree = promql.parse(text)
    except ValueError as error:
        raise ValueError(f"{text!r}: {error}") from error
    compiler = _ExpressionCompiler(
        text, history, {} if shared is None else shared, {} if records is None else records
    )
    node = compiler.compile(tree)
    # The first comparison is the condition; later ones are guards.
    is_ceiling = next(_comparisons(tree), ">") not in ("<", "<=")
    return Expression(
        text,
        tuple(compiler.selectors),
        is_ceiling,
        compiler.reads_clock,
        compiler.reads_ranges,
        node,
    )


def _comparisons(tree: promql.Expr) -> Iterator[str]:
    """Yield the comparison operators of an expression from left to right."""
    if isinstance(tree, promql.BinaryExpr):
        yield from _comparisons(tree.lhs)
        if str(tree.op) in COMPARISONS:
            yield str(tree.op)
        yield from _comparisons(tree.rhs)
    elif isinstance(tree, promql.ParenExpr | promql.AggregateExpr):
        yield from _comparisons(tree.expr)


@dataclass(slots=True)
class _ExpressionCompiler:
    """Turns a syntax tree into nested functions, and notes which samples they read."""

    text: str
    history: History | None
    shared: "dict[str, SharedPart]"
    records: Mapping[str, str]
    selectors: list[Selector] = field(default_factory=list)
    reads_clock: bool = False
    reads_ranges: bool = False

    def compile(self, tree: promql.Expr) -> Node:
        """Return the node of a tree; an equal part of another expression gives the same node."""
        if isinstance(tree, promql.ParenExpr):
            return self.compile(tree.expr)
        if isinstance(tree, promql.NumberLiteral) or not _is_of_one_instant(tree):
            return self._node(tree)
        text = tree.prettify()
        if text in self.shared:
            self.selectors += self.shared[text].selectors
        else:
            first = len(self.selectors)
            node = self._node(tree)
            self.shared[text] = SharedPart(node, tuple(self.selectors[first:]))
        return self.shared[text]

    def _node(self, tree: promql.Expr) -> Node:
        match tree:
            case promql.NumberLiteral():
                number = np.array(float(tree.val))
                return lambda families, times_s: number
            case promql.VectorSelector():
                return self._instant(tree)
            case promql.AggregateExpr():
                return self._aggregate(tree)
            case promql.Call():
                return self._call(tree)
            case promql.BinaryExpr():
                return self._binary(tree)
        raise self._error(tree)

    def _error(self, tree: promql.Expr) -> ValueError:
        return ValueError(f"{self.text!r}: cannot evaluate {tree.prettify()} at one instant")

    def _selector(self, tree: promql.VectorSelector) -> Selector:
        if tree.name is None or tree.offset is not None or tree.at is not None:
            raise self._error(tree)
        self.selectors.append(Selector(tree))
        return self.selectors[-1]

    def _instant(self, tree: promql.VectorSelector) -> Node:
        if str(tree.name) in self.records:
            return self._record(tree)
        selector = self._selector(tree)
        return lambda families, times_s: selector.select(
            families.get(selector.metric, Matrix.empty(len(times_s)))
        )

    def _record(self, tree: promql.VectorSelector) -> Node:
        """Compile the expression of a record: a rule after it reads the value of its instant."""
        recorded = promql.parse(self.records[str(tree.name)])
        is_plain = not tree.matchers.matchers and tree.offset is None and tree.at is None
        # Parts with a record are shared, so that it must not read the clock or a range.
        if not is_plain or not _is_of_one_instant(recorded):
            raise self._error(tree)
        return self.compile(recorded)

    def _aggregate(self, tree: promql.AggregateExpr) -> Node:
        # `without` and other aggregations are in no rule; guessing their meaning would be worse.
        fold = AGGREGATES.get(str(tree.op))
        is_by = tree.modifier is None or tree.modifier.type == promql.AggModifierType.By
        by = frozenset(tree.modifier.labels) if tree.modifier is not None else frozenset()
        if str(tree.op) == "topk" and is_by and isinstance(tree.param, promql.NumberLiteral):
            return largest(int(tree.param.val), by, self.compile(tree.expr))
        if fold is None or not is_by:
            raise self._error(tree)
        inner = self.compile(tree.expr)
        return aggregate(*fold, by, ones(inner) if str(tree.op) == "count" else inner)

    def _call(self, tree: promql.Call) -> Node:
        # Range functions need the selector itself, not its value.
        if len(tree.args) == 1 and isinstance(tree.args[0], promql.MatrixSelector):
            return self._range(tree.func.name, tree.args[0], tree)
        arguments = [self.compile(argument) for argument in tree.args]
        match tree.func.name, arguments:
            case "time", []:
                self.reads_clock = True
                return lambda families, times_s: times_s
            case "vector", [scalar]:
                return lambda families, times_s: vector_of(
                    as_scalar(scalar(families, times_s)), times_s
                )
            case "scalar", [inner]:
                return single(inner)
            case "abs", [inner]:
                return lambda families, times_s: as_vector(inner(families, times_s)).map(np.abs)
            case "round", [inner]:
                # Halves up, as Prometheus rounds.
                return lambda families, times_s: as_vector(inner(families, times_s)).map(
                    lambda values: np.floor(values + 0.5)
                )
        raise self._error(tree)

    def _range(self, function: str, selector: promql.MatrixSelector, tree: promql.Call) -> Node:
        if self.history is None or function not in ("increase", "rate", "deriv"):
            raise self._error(tree)
        span_s, chosen = selector.range.total_seconds(), self._selector(selector.vector_selector)
        # Before the first sample arrives, so that none of the range is missed.
        self.history.keep(chosen.metric, span_s)
        self.reads_ranges = True
        reduce = partial(
            self.history.deriv if function == "deriv" else self.history.increase,
            chosen.metric,
            span_s,
        )
        divisor = span_s if function == "rate" else 1.0

        def node(families: Families, times_s: Floats) -> Matrix:
            (now_s,) = times_s.tolist()
            return chosen.select(Matrix.at_once(reduce(now_s))).map(lambda values: values / divisor)

        return node

    def _binary(self, tree: promql.BinaryExpr) -> Node:
        sign, on, is_many = str(tree.op), *self._matching(tree)
        left, right = self.compile(tree.lhs), self.compile(tree.rhs)
        if sign in ("and", "unless") or (sign == "or" and on is None):
            return combine(sign, left, right, on)
        if on is not None and not is_many:
            raise self._error(tree)
        if sign in COMPARISONS:
            return compare(COMPARISONS[sign], left, right, on)
        if sign in ARITHMETIC:
            return compute(ARITHMETIC[sign], left, right, on)
        raise self._error(tree)

    def _matching(self, tree: promql.BinaryExpr) -> tuple[Labels, bool]:
        """Return the labels of `on`, None without it, and whether `group_left` is given."""
        modifier = tree.modifier
        if modifier is None:
            return None, False
        is_many = modifier.card == promql.VectorMatchCardinality.ManyToOne
        is_one = modifier.card == promql.VectorMatchCardinality.OneToMany
        if modifier.return_bool or modifier.group_labels or is_one:
            raise self._error(tree)
        if modifier.matching is None:
            return None, is_many
        # `ignoring` is in no rule.
        if modifier.matching.type != promql.LabelModifierType.Include:
            raise self._error(tree)
        return frozenset(modifier.matching.labels), is_many


class SharedPart:
    """A part of several expressions; it is evaluated once while the samples are the same object."""

    def __init__(self, node: Node, selectors: tuple[Selector, ...]) -> None:
        """`selectors`: those that the part reads."""
        self._node, self.selectors = node, selectors
        self._last: tuple[Families, Value] | None = None

    def __call__(self, families: Families, times_s: Floats) -> Value:
        if self._last is None or self._last[0] is not families:
            self._last = families, self._node(families, times_s)
        return self._last[1]


def _is_of_one_instant(tree: promql.Expr) -> bool:
    """Return whether an expression reads neither the clock nor a range."""
    match tree:
        case promql.VectorSelector() | promql.NumberLiteral():
            return True
        case promql.AggregateExpr() | promql.ParenExpr():
            return _is_of_one_instant(tree.expr)
        case promql.BinaryExpr():
            return _is_of_one_instant(tree.lhs) and _is_of_one_instant(tree.rhs)
        case promql.Call():
            return tree.func.name == "round" and all(map(_is_of_one_instant, tree.args))
    return False


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
