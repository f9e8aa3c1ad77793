"""PromQL of the boards, put together from the catalogue.

Pure: text out. A label that a metric does not have, and a function that does not suit its kind, is
a ValueError, so a renamed metric or label breaks the build and not a panel. Every selector is of
the chosen `$job`, and every series goes through `max by`: two exporters of one state are one.
"""

from collections.abc import Collection, Mapping
from itertools import chain
from typing import NamedTuple

from alerts.promql import aggregate, alternatives, string_literal, sum_of
from exporters.catalogue.spec import SCOPE_LABELS, Spec

# Grafana fills these in.
RATE_SPAN = "$__rate_interval"
RANGE = "$__range"
STEP = "$__interval"

_SAMPLE_LABELS = {"_bucket": ("le",)}  # of a histogram's samples, beside the metric's own


class Chosen(NamedTuple):
    """The values that a variable of the dashboard is set to; several, or all."""

    variable: str


class AnyOf(NamedTuple):
    """Any of some names."""

    names: tuple[str, ...]


Match = str | Chosen | AnyOf


def select(spec: Spec, suffix: str, labels: Mapping[str, Match]) -> str:
    """Return a selector. `suffix`: kind of a histogram's samples, such as `_bucket`, or empty."""
    if bool(suffix) != (spec.kind == "histogram"):
        raise ValueError(f"{spec.name}: is a {spec.kind}; only a histogram's samples have a suffix")
    # Several installations may report to one Prometheus: `$job` separates them.
    matchers = ['job=~"$job"']
    for label, match in labels.items():
        _check(spec, (label,), suffix)
        matchers.append(label + _matcher(match))
    return f"{spec.name}{suffix}{{{', '.join(matchers)}}}"


def newest(spec: Spec, by: Collection[str] = (), /, **labels: Match) -> str:
    """Return the larger value of a gauge of all exporters, with only the labels `by`."""
    if spec.kind not in ("gauge", "summary"):
        raise ValueError(f"{spec.name}: is a {spec.kind}; ask for its rate or increase")
    _check(spec, by)
    return aggregate("max", select(spec, "", labels), by)


def window(
    spec: Spec,
    scope: str,
    window: Match,
    by: Collection[str] | None = None,
    /,
    **labels: Match,
) -> str:
    """Return a window of one scope, with the labels that name it, or those of `by`."""
    if by is None:
        by = SCOPE_LABELS[scope]
    # A label of another scope is empty in every sample, so a panel by it would show one line.
    of_other_scopes = {*chain.from_iterable(SCOPE_LABELS.values())} - {*SCOPE_LABELS[scope]}
    for label in (*by, *labels):
        if label in of_other_scopes:
            raise ValueError(f"{spec.name}: by {scope} it has no label {label}")
    return newest(spec, by, scope=scope, window=window, **labels)


def largest_sum(
    spec: Spec, scope: str, window: Match, by: Collection[str], /, **labels: Match
) -> str:
    """Return a sum of many windows by some labels: of two exporters, the larger sum.

    Unlike a sum of `window` it builds no group for each series, which takes most of the time of a
    query if there are thousands.
    """
    _check(spec, (*by, *labels))
    selected = select(spec, "", {"scope": scope, "window": window, **labels})
    return aggregate("max", sum_of(selected, ("job", "instance", *by)), by)


def rate(spec: Spec, by: Collection[str] = (), suffix: str = "", /, **labels: Match) -> str:
    """Return the rate per second of a counter or of a histogram's samples, summed by `by`."""
    return _rising("rate", RATE_SPAN, spec, by, suffix, labels)


def increase(spec: Spec, by: Collection[str] = (), /, **labels: Match) -> str:
    """Return the increase of a counter over the time shown, summed by `by`."""
    return _rising("increase", RANGE, spec, by, "", labels)


def only_worst(expr: str, by: str, number: int, *, lowest: bool = False) -> str:
    """Return PromQL for the `number` worst names of label `by` over the time shown.

    The same names over all of it: a choice at each instant would break the lines. The worst have
    the highest values, or the `lowest`.
    """
    choose, extreme = ("bottomk", "min") if lowest else ("topk", "max")
    # `@ end()` looks back from the same moment for each point of the graph.
    over_time = f"{extreme}_over_time(({expr})[{RANGE}:{STEP}] @ end())"
    return f"({expr}) and on ({by}) {choose}({number}, {extreme} by ({by}) ({over_time}))"


def most_in_range(rates: str, by: str, number: int) -> str:
    """Return PromQL for the `number` names of label `by` that rose most over the time shown.

    `rates`: from `rate`, by that label. Unlike `only_worst` it reads each series once, as a rate at
    each point of the range would take seconds for histograms.
    """
    over_range = rates.replace("(rate(", "(increase(").replace(
        f"[{RATE_SPAN}]", f"[{RANGE}] @ end()"
    )
    return f"({rates}) and on ({by}) topk({number}, {over_range})"


def age_s(points_in_time: str) -> str:
    """Return PromQL for the seconds since points in time."""
    return f"time() - {points_in_time}"


def _rising(
    function: str,
    span: str,
    spec: Spec,
    by: Collection[str],
    suffix: str,
    labels: Mapping[str, Match],
) -> str:
    if spec.kind not in ("counter", "histogram"):
        raise ValueError(f"{spec.name}: is a {spec.kind}; read it, do not take its {function}")
    _check(spec, by, suffix)
    # `max` over exporters comes before any sum: a sum of both would double the rate.
    each = (*spec.labels, *_SAMPLE_LABELS.get(suffix, ()))
    risen = aggregate("max", f"{function}({select(spec, suffix, labels)}[{span}])", each)
    # By all labels there is no sum to take.
    return risen if set(by) == set(each) else sum_of(risen, by)


def _check(spec: Spec, labels: Collection[str], suffix: str = "") -> None:
    known = (*spec.labels, *_SAMPLE_LABELS.get(suffix, ()))
    for label in labels:
        if label not in known:
            raise ValueError(f"{spec.name}: has no label {label}; it has {', '.join(known)}")


def _matcher(match: Match) -> str:
    match match:
        case Chosen(variable):
            return f'=~"${variable}"'
        case AnyOf(names):
            return "=~" + alternatives(names)
        case _:
            return "=" + string_literal(match)
