"""The declaration of a metric and of a group of metrics."""

from typing import Literal, NamedTuple

SINCE = "0.1.0"
SERIES_LABELS = ("model", "region", "channel", "service_tier")
# The samples of a window have `scope`, `window`, and only the labels that name their scope.
SCOPE_LABELS = {
    "fleet": (),
    "model": ("model",),
    "region": ("region",),
    "channel": ("channel",),
    "service_tier": ("service_tier",),
    "series": SERIES_LABELS,
    "customer": ("customer", "segment"),
}
WINDOW_LABELS = ("scope", "window", *SERIES_LABELS, "customer", "segment")


class Spec(NamedTuple):
    """One metric as it is published."""

    name: str  # of its samples, so with `_total`
    kind: Literal["counter", "gauge", "histogram", "summary"]
    help: str
    labels: tuple[str, ...] = ()
    meaning: str = ""  # how an operator uses it
    since: str = SINCE  # first version that has it

    @property
    def unit(self) -> str:
        """Return the base unit; empty for plain counts."""
        stem = self.name.removesuffix("_total")
        units = ("seconds", "ratio", "tokens", "usd", "bytes")
        return next((unit for unit in units if stem.endswith("_" + unit)), "")


class MetricGroup(NamedTuple):
    """Metrics that are documented together."""

    title: str
    about: str
    specs: tuple[Spec, ...]
