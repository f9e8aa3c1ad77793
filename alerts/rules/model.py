"""An alerting rule before it is written down, and the small pieces of PromQL that rules share.

Pure: text in, text out. Every selector is put through `max by`, so that two exporters of one state
are one, and so that an alert carries only the labels that say whom it is about.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import NamedTuple

from exporters.catalogue.requests import SERIES_LABELS
from exporters.catalogue.spec import Spec
from slo.policy.scope import Dimension, Scope

# One bad scrape, or an exporter that dies, must not look like a recovery: stale data is told
# before this has passed.
KEEP_FIRING_S = 60
EVERY_S = 5


class Read(NamedTuple):
    """A window that a rule reads; the settings of the exporter must publish it."""

    scope: str
    window: str


def dashboard(uid: str, *labels: str) -> str:
    """Template: a dashboard, with its variables set to those labels that the alert has."""
    chosen = "".join(
        f"{{{{ with $labels.{label} }}}}&var-{label}={{{{ . | urlquery }}}}{{{{ end }}}}"
        for label in labels
    )
    return f"tokenpulse-{uid}?orgId=1{chosen}"


@dataclass(frozen=True, slots=True)
class Alert:
    """One alerting rule. Texts may hold Prometheus' templates."""

    name: str
    severity: str
    expr: str
    summary: str
    description: str
    value: str  # the number now
    target: str  # what it should be
    for_s: int = 0
    keep_firing_s: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    budget_left: str = ""  # of the error budget, where there is one
    link: str = dashboard("pipeline")  # uid and variables
    reads: tuple[Read, ...] = ()


@dataclass(frozen=True, slots=True)
class Group:
    """Rules that are evaluated together."""

    name: str
    alerts: tuple[Alert, ...]


@dataclass(frozen=True, slots=True)
class Links:
    """Where alerts lead to."""

    runbooks: str = "https://tokenpulse.example/docs/runbooks"
    dashboards: str = "https://grafana.example"
    job: str = "tokenpulse-exporter"  # the scrape job of the exporters


def number(value: Fraction | int) -> str:
    """Exact PromQL: 72/5 is `14.4`, a third is `(1 / 3)`."""
    exact = Fraction(value)
    for digits in range(19):
        scaled = exact * 10**digits
        if scaled.denominator == 1:
            text = f"{abs(scaled.numerator):0{digits + 1}d}"
            whole = f"{text[:-digits]}.{text[-digits:]}" if digits else text
            return f"-{whole}" if exact < 0 else whole
    return f"({exact.numerator} / {exact.denominator})"


def quoted(text: str) -> str:
    """A PromQL string."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def any_of(names: tuple[str, ...]) -> str:
    """A PromQL matcher, with its operator, of one name or of any of several."""
    if len(names) == 1:
        return "=" + quoted(names[0])
    return "=~" + quoted("|".join(name.replace(".", "\\.") for name in names))


def newest(spec: Spec, matchers: Mapping[str, str] | None = None, by: tuple[str, ...] = ()) -> str:
    """A gauge, of whichever exporter says more, with only the labels `by`.

    `matchers`: label -> operator and string, as of `any_of`.
    """
    inside = ",".join(f"{label}{match}" for label, match in (matchers or {}).items())
    selector = f"{spec.name}{{{inside}}}" if inside else spec.name
    return f"max by ({', '.join(by)}) ({selector})" if by else f"max({selector})"


@dataclass(frozen=True, slots=True)
class Selection:
    """The window series that hold what a scope is about."""

    scope: str  # value of the label `scope`
    names: Mapping[Dimension, tuple[str, ...]]
    per: Dimension | None

    @classmethod
    def of(cls, scope: Scope) -> "Selection":
        """Sums by one dimension where one is enough, else every single series."""
        dimensions = scope.dimensions()
        level = next(iter(dimensions)) if len(dimensions) == 1 else "series"
        return cls(level if dimensions else "fleet", scope.names(), scope.per)

    @property
    def is_one_series(self) -> bool:
        """Whether one published series is one judged thing, so that nothing need be added up."""
        if self.scope == "series":
            return False
        return self.per is not None or all(len(names) == 1 for names in self.names.values())

    def matchers(self, window: str) -> dict[str, str]:
        """For `newest`."""
        base = {"scope": any_of((self.scope,)), "window": any_of((window,))}
        return base | {dimension: any_of(names) for dimension, names in self.names.items()}

    @property
    def by(self) -> tuple[str, ...]:
        """Labels of one judged thing."""
        if self.per:
            return (self.per,)
        return tuple(self.names) if self.is_one_series else ()

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of one published series."""
        return SERIES_LABELS if self.scope == "series" else tuple({self.scope} - {"fleet"})


def whom(labels: tuple[str, ...]) -> str:
    """Template: what an alert is about, in words; nothing where it is the fleet."""
    return "".join(f", {label} {{{{ $labels.{label} }}}}" for label in labels)


def added(expr: str, by: tuple[str, ...]) -> str:
    """A sum over everything that is judged as one."""
    return f"sum by ({', '.join(by)}) ({expr})" if by else f"sum({expr})"


def seconds_text(span_s: int) -> str:
    """A span as Prometheus writes it: 90 is `90s`, 3600 is `1h`."""
    for unit, length_s in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if span_s and span_s % length_s == 0:
            return f"{span_s // length_s}{unit}"
    return f"{span_s}s"
