"""Pieces of PromQL text that rules and dashboards share: numbers, strings, matchers, aggregates.

Pure: values in, text out. Every selector of a rule goes through `max by`, so that two exporters
of one state count as one. Rules keep the labels of INSTALLATION in every aggregate, so that two
Tokenpulses in one Prometheus are two.
"""

from collections.abc import Collection, Iterable, Mapping
from fractions import Fraction

from exporters.catalogue.spec import Spec

# Labels that Prometheus adds to all series of one Tokenpulse: the scrape job, and the cluster if
# one Prometheus (or Mimir, Thanos) collects from several. The exporter publishes neither.
INSTALLATION = ("cluster", "job")


def number(value: Fraction | int) -> str:
    """Return a number as exact PromQL: 72/5 is `14.4`, a third is `(1 / 3)`."""
    exact = Fraction(value)
    # Up to 18 decimals are written out; a longer or endless fraction stays a division.
    for digits in range(19):
        scaled = exact * 10**digits
        if scaled.denominator == 1:
            text = f"{abs(scaled.numerator):0{digits + 1}d}"
            whole = f"{text[:-digits]}.{text[-digits:]}" if digits else text
            return f"-{whole}" if exact < 0 else whole
    return f"({exact.numerator} / {exact.denominator})"


def string_literal(text: str) -> str:
    """Return a PromQL string literal."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def any_of(names: tuple[str, ...]) -> str:
    """Return a matcher, with its operator, that accepts one name or any of several."""
    return "=" + string_literal(names[0]) if len(names) == 1 else "=~" + alternatives(names)


def alternatives(names: Iterable[str]) -> str:
    """Return the regular expression of any of some names, as a PromQL string."""
    # Of the special characters, names of models may hold points.
    return string_literal("|".join(name.replace(".", "\\.") for name in names))


def matchers(values: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """Return the matchers, as of `any_of`, of the accepted values of each label."""
    return {label: any_of(names) for label, names in values.items()}


def newest(spec: Spec, matchers: Mapping[str, str] | None = None, by: tuple[str, ...] = ()) -> str:
    """Return a gauge by the labels `by` and INSTALLATION: of two exporters, the larger value.

    `matchers`: label -> operator and string, as of `any_of`.
    """
    inside = ",".join(f"{label}{match}" for label, match in (matchers or {}).items())
    selector = f"{spec.name}{{{inside}}}" if inside else spec.name
    return aggregate("max", selector, (*INSTALLATION, *by))


def sum_of(expr: str, by: Collection[str] = ()) -> str:
    """Return the sum of a vector by some labels."""
    return aggregate("sum", expr, by)


def total_of(expr: str, by: Collection[str] = ()) -> str:
    """Return the sum of a vector by some labels, for each Tokenpulse."""
    return sum_of(expr, (*INSTALLATION, *by))


def largest_two(expr: str, by: Collection[str] = ()) -> str:
    """Return the two elements with the largest values among those with the same labels `by`."""
    return f"topk by ({', '.join((*INSTALLATION, *by))}) (2, {expr})"


def on(*labels: str) -> str:
    """Return the clause that matches two vectors of one Tokenpulse by some labels."""
    return f"on ({', '.join((*INSTALLATION, *labels))})"


def aggregate(function: str, expr: str, by: Collection[str] = ()) -> str:
    """Return the aggregate (`max`, `sum`) of a vector by some labels, or of all of it."""
    return f"{function} by ({', '.join(by)}) ({expr})" if by else f"{function}({expr})"


def seconds_text(span_s: int) -> str:
    """Return a span as Prometheus writes it: 90 is `90s`, 3600 is `1h`."""
    for unit, length_s in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if span_s and span_s % length_s == 0:
            return f"{span_s // length_s}{unit}"
    return f"{span_s}s"
