"""The pieces of PromQL that rules and recordings share: numbers, strings, matchers, sums.

Pure: values in, text out. Every selector goes through `max by`, so that two exporters of one
state count as one.
"""

from collections.abc import Mapping
from fractions import Fraction

from exporters.catalogue.spec import Spec


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


def matchers(values: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """Return the matchers, as of `any_of`, of the accepted values of each label."""
    return {label: any_of(names) for label, names in values.items()}


def newest(spec: Spec, matchers: Mapping[str, str] | None = None, by: tuple[str, ...] = ()) -> str:
    """A gauge, of whichever exporter says more, with only the labels `by`.

    `matchers`: label -> operator and string, as of `any_of`.
    """
    inside = ",".join(f"{label}{match}" for label, match in (matchers or {}).items())
    selector = f"{spec.name}{{{inside}}}" if inside else spec.name
    return f"max by ({', '.join(by)}) ({selector})" if by else f"max({selector})"


def added(expr: str, by: tuple[str, ...]) -> str:
    """A sum over everything that is judged as one."""
    return f"sum by ({', '.join(by)}) ({expr})" if by else f"sum({expr})"


def seconds_text(span_s: int) -> str:
    """A span as Prometheus writes it: 90 is `90s`, 3600 is `1h`."""
    for unit, length_s in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if span_s and span_s % length_s == 0:
            return f"{span_s // length_s}{unit}"
    return f"{span_s}s"
