"""The part of PromQL that compiled rules are written in, evaluated over samples of one instant.

Pure. A backtest reads the very expressions that Prometheus will, so the two cannot disagree on a
threshold or a guard. What no rule uses is not understood, and says so.

Source: https://prometheus.io/docs/prometheus/latest/querying/operators/
"""

import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

Key = tuple[tuple[str, str], ...]  # labels and their values, sorted; no metric name
Vector = Mapping[Key, float]
Samples = Mapping[str, Vector]  # by metric name
Value = float | Vector
_Node = Callable[[Samples], Value]

_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+(?:\.\d+)?)"
    r'|(?P<string>"(?:[^"\\]|\\.)*")'
    r"|(?P<name>[a-zA-Z_]\w*)"
    r"|(?P<sign>=~|>=|<=|[-*/()<>{},=])|(?P<end>$))"
)
# Loosest first; one level binds tighter than those before it.
_LEVELS = (("or",), ("and", "unless"), (">", "<", ">=", "<="), ("*", "/"))
_COMPARED: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    "<": operator.lt,
    ">=": operator.ge,
    "<=": operator.le,
}
_FOLDED: dict[str, Callable[[float, float], float]] = {"max": max, "sum": operator.add}


@dataclass(frozen=True, slots=True)
class Expression:
    """What a rule watches. It holds for the labels in `vector`, with the value that is told."""

    text: str
    metrics: frozenset[str]  # that it reads
    is_ceiling: bool  # whether larger values are the worse ones
    _node: _Node

    def vector(self, samples: Samples) -> Vector:
        """Labels for which it holds, and their values."""
        found = self._node(samples)
        return {(): found} if isinstance(found, float) else found


def parse(text: str) -> Expression:
    """Understand an expression. Raises ValueError for what no compiled rule says."""
    return _Parser(text).parse()


def key_of(labels: Mapping[str, str]) -> Key:
    """Labels as samples are known by."""
    return tuple(sorted((name, value) for name, value in labels.items() if value))


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = self._cut()
        self._metrics: set[str] = set()
        self._compared: list[str] = []
        self._take()

    def parse(self) -> Expression:
        node = self._binary(0)
        if self._kind != "end":
            raise self._unknown()
        is_ceiling = self._compared[:1] not in (["<"], ["<="])
        return Expression(self._text, frozenset(self._metrics), is_ceiling, node)

    def _cut(self) -> Iterator[tuple[str, str]]:
        at = 0
        while found := _TOKEN.match(self._text, at):
            at = found.end()
            kind = found.lastgroup or ""
            yield kind, found[kind]
            if kind == "end":
                return
        while True:  # whoever reads on finds it again, and gives up
            yield "unknown", self._text[at : at + 20]

    def _take(self) -> str:
        """Move on; the token that was left behind."""
        left = getattr(self, "_word", "")
        self._kind, self._word = next(self._tokens)
        return left

    def _expect(self, sign: str) -> None:
        if self._word != sign or self._kind == "string":
            raise self._unknown()
        self._take()

    def _unknown(self) -> ValueError:
        return ValueError(f"{self._text!r}: no rule says {self._word!r} here")

    def _binary(self, level: int) -> _Node:
        if level == len(_LEVELS):
            return self._operand()
        left = self._binary(level + 1)
        while self._kind in ("name", "sign") and self._word in _LEVELS[level]:
            sign = self._take()
            if sign in _COMPARED:
                self._compared.append(sign)
            left = _joined(sign, left, self._binary(level + 1))
        return left

    def _operand(self) -> _Node:
        kind, word = self._kind, self._word
        if kind == "number":
            value = float(self._take())
            return lambda samples: value
        if word == "(" and kind == "sign":
            return self._inside()
        if kind != "name":
            raise self._unknown()
        self._take()
        if word == "round":
            return _rounded(self._inside())
        if word in _FOLDED:
            by = self._by()
            return _aggregated(_FOLDED[word], by, self._inside())
        self._metrics.add(word)
        return _selected(word, self._matchers() if self._word == "{" else {})

    def _inside(self) -> _Node:
        self._expect("(")
        node = self._binary(0)
        self._expect(")")
        return node

    def _by(self) -> tuple[str, ...]:
        if self._word != "by":
            return ()
        self._take()
        self._expect("(")
        labels = []
        while self._kind == "name":
            labels.append(self._take())
            if self._word == ",":
                self._take()
        self._expect(")")
        return tuple(labels)

    def _matchers(self) -> dict[str, re.Pattern[str]]:
        self._expect("{")
        found = {}
        while self._kind == "name":
            label, sign = self._take(), self._take()
            if sign not in ("=", "=~") or self._kind != "string":
                raise self._unknown()
            text = re.sub(r"\\(.)", r"\1", self._take()[1:-1])
            found[label] = re.compile(text if sign == "=~" else re.escape(text))
            if self._word == ",":
                self._take()
        self._expect("}")
        return found


def _selected(metric: str, matchers: Mapping[str, re.Pattern[str]]) -> _Node:
    known: dict[Key, bool] = {}

    def matches(key: Key) -> bool:
        if key not in known:
            labels = dict(key)
            known[key] = all(
                wanted.fullmatch(labels.get(label, "")) for label, wanted in matchers.items()
            )
        return known[key]

    def node(samples: Samples) -> Vector:
        return {key: value for key, value in samples.get(metric, {}).items() if matches(key)}

    return node


def _aggregated(fold: Callable[[float, float], float], by: tuple[str, ...], inner: _Node) -> _Node:
    def node(samples: Samples) -> Vector:
        found: dict[Key, float] = {}
        for key, value in _vector(inner(samples)).items():
            kept = tuple(pair for pair in key if pair[0] in by)
            found[kept] = fold(found[kept], value) if kept in found else value
        return found

    return node


def _rounded(inner: _Node) -> _Node:
    """To the nearest whole number, halves up."""
    return lambda samples: {
        key: float(math.floor(value + 0.5)) for key, value in _vector(inner(samples)).items()
    }


def _joined(sign: str, left: _Node, right: _Node) -> _Node:
    if sign in _COMPARED:
        return _kept(_COMPARED[sign], left, right)
    if sign in ("*", "/"):
        return _computed(operator.mul if sign == "*" else _divided, left, right)

    def node(samples: Samples) -> Vector:
        one, other = _vector(left(samples)), _vector(right(samples))
        if sign == "or":
            return {**other, **one}
        return {key: value for key, value in one.items() if (key in other) is (sign == "and")}

    return node


def _kept(holds: Callable[[float, float], bool], left: _Node, right: _Node) -> _Node:
    """A comparison keeps the left side's values for which it holds."""

    def node(samples: Samples) -> Vector:
        one, limit = _vector(left(samples)), right(samples)
        if isinstance(limit, float):
            return {key: value for key, value in one.items() if holds(value, limit)}
        return {
            key: value for key, value in one.items() if key in limit and holds(value, limit[key])
        }

    return node


def _computed(compute: Callable[[float, float], float], left: _Node, right: _Node) -> _Node:
    """Element by element, of equal labels where both sides are vectors."""

    def node(samples: Samples) -> Value:
        one, other = left(samples), right(samples)
        if isinstance(one, float):
            if isinstance(other, float):
                return compute(one, other)
            return {key: compute(one, value) for key, value in other.items()}
        if isinstance(other, float):
            return {key: compute(value, other) for key, value in one.items()}
        return {key: compute(value, other[key]) for key, value in one.items() if key in other}

    return node


def _divided(one: float, other: float) -> float:
    if other:
        return one / other
    return math.copysign(math.inf, one) if one else math.nan


def _vector(value: Value) -> Vector:
    if isinstance(value, float):
        raise ValueError("a number stands where a rule has series")
    return value
