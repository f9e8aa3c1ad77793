"""Samples of published metrics, and the alerts that the compiled rules raise over them.

Pure. alerts/ produces these values; exporters/ only shows them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

SampleKey = tuple[tuple[str, str], ...]  # labels and their values, sorted; no metric name
Vector = Mapping[SampleKey, float]
Samples = Mapping[str, Vector]  # by metric name


def sample_key(labels: Mapping[str, str]) -> SampleKey:
    """Return the key of a label set; an empty value is the same as an absent label."""
    return tuple(sorted((name, value) for name, value in labels.items() if value))


@dataclass(frozen=True, slots=True)
class AlertState:
    """One pending or firing alert; times in seconds since 1970."""

    alert: str
    severity: str
    rule_labels: Mapping[str, str]  # policy, objective, route, and `window` of a burn rate
    series: Mapping[str, str]  # labels of the expression's result; empty for the fleet
    value: float  # of the expression when it last held
    pending_since_s: float
    firing_since_s: float | None  # None while pending
    holds: bool  # False while `keep_firing_for` prolongs the alert
    for_s: float = 0.0  # how long the condition must hold before the alert fires
    ended_at_s: float | None = None  # when the condition of an alert that is kept firing ended
    keep_firing_s: float = 0.0  # how long the alert is kept firing after that

    @property
    def fires_at_s(self) -> float:
        """Return when the alert began to fire, or will if its condition continues to hold."""
        if self.firing_since_s is not None:
            return self.firing_since_s
        return self.pending_since_s + self.for_s

    @property
    def kept_until_s(self) -> float | None:
        """Return when an alert that is kept firing ends, if its condition stays away."""
        return None if self.ended_at_s is None else self.ended_at_s + self.keep_firing_s
