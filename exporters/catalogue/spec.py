"""What one metric, and a group of metrics, says of itself."""

from typing import Literal, NamedTuple

SINCE = "0.1.0"


class Spec(NamedTuple):
    """One metric as it is published."""

    name: str  # as its samples are called, so with `_total`
    kind: Literal["counter", "gauge", "histogram", "summary"]
    help: str
    labels: tuple[str, ...] = ()
    meaning: str = ""  # what an operator reads from it
    since: str = SINCE  # first version that has it

    @property
    def unit(self) -> str:
        """Its base unit, or nothing for plain counts."""
        stem = self.name.removesuffix("_total")
        units = ("seconds", "ratio", "tokens", "usd")
        return next((unit for unit in units if stem.endswith("_" + unit)), "")


class MetricGroup(NamedTuple):
    """Metrics that are explained together."""

    title: str
    about: str
    specs: tuple[Spec, ...]
