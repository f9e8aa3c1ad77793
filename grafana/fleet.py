"""The latencies of the fleet, which several boards show in the same way. Pure."""

from collections.abc import Iterator
from typing import NamedTuple

from exporters.catalogue import requests as catalogue
from exporters.catalogue.spec import Spec
from grafana import series as words
from grafana.panels import Panel, number
from grafana.queries import Match
from grafana.thresholds import BoardLimits, Steps


class FleetLatency(NamedTuple):
    """A latency that policies set targets for."""

    name: str
    meaning: str
    seconds: Spec
    samples: Spec
    target_s: float | None  # of the P95
    thresholds: Steps


def latencies(limits: BoardLimits) -> tuple[FleetLatency, FleetLatency]:
    """TTFT and TPOT."""
    targets = limits.targets
    return (
        FleetLatency(
            *("TTFT", "Time to first token", catalogue.TTFT_SECONDS, catalogue.TTFT_SAMPLES),
            *(targets.ttft_p95_s, limits.ttft),
        ),
        FleetLatency(
            *("TPOT", "Time per output token", catalogue.TPOT_SECONDS, catalogue.TPOT_SAMPLES),
            *(targets.tpot_p95_s, limits.tpot),
        ),
    )


def p95_numbers(limits: BoardLimits, span: Match, about: str = "") -> Iterator[Panel]:
    """The P95 of each over a window; `about` is said of the window."""
    for one in latencies(limits):
        yield number(
            f"P95 {one.name}",
            f"{one.meaning}. {about}{words.under(one.target_s)}",
            words.p95(one.seconds, "fleet", span),
            "s",
            one.thresholds,
        )
