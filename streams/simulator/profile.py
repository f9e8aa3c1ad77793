"""The profile of normal traffic: models, regions, channels, tiers and customers.

Pure: no clock, no Kafka. Latencies are medians in milliseconds, tokens are counts.

The figures are invented; they are chosen so that a calm day meets the default targets (TTFT P95
under 300 ms, TPOT P95 under 50 ms, availability above 99.9 %, cache hit rate around 50 %).
"""

import math
from dataclasses import dataclass
from typing import Self

from streams.events.fields import OUTCOMES


@dataclass(frozen=True, slots=True)
class Model:
    """One model: medians of its latencies and answer lengths."""

    name: str
    weight: float
    ttft_ms: float
    tpot_ms: float
    output_tokens: int
    reasons: bool = False  # a part of its output tokens is reasoning


@dataclass(frozen=True, slots=True)
class Region:
    """One region; its rate follows the time of day there."""

    name: str
    weight: float
    utc_offset_h: int
    ttft_factor: float


@dataclass(frozen=True, slots=True)
class Channel:
    """The channel of a request: direct, or through a reselling cloud."""

    name: str
    weight: float
    ttft_factor: float


@dataclass(frozen=True, slots=True)
class Tier:
    """A service tier; `stream_ratio` of its requests stream their answer."""

    name: str
    weight: float
    ttft_factor: float
    stream_ratio: float


# The weights of each list sum to 1: they are shares of the requests.
MODELS = (
    Model("aurora-4-small", 0.30, 75, 11, 180),
    Model("aurora-4-medium", 0.28, 105, 18, 260),
    Model("aurora-4-large", 0.14, 140, 32, 320),
    Model("aurora-4-code", 0.14, 115, 20, 420),
    Model("aurora-4-reasoning", 0.08, 150, 26, 900, reasons=True),
    Model("aurora-3-medium", 0.06, 130, 28, 220),
)
# Offsets of standard time: the profile has no daylight saving time.
REGIONS = (
    Region("us-east-1", 0.40, -5, 1.0),
    Region("us-west-2", 0.20, -8, 0.95),
    Region("eu-west-1", 0.25, 1, 1.05),
    Region("ap-northeast-1", 0.15, 9, 1.10),
)
CHANNELS = (
    Channel("direct", 0.58, 1.0),
    Channel("bedrock", 0.20, 1.06),
    Channel("vertex", 0.13, 1.04),
    Channel("foundry", 0.09, 1.08),
)
TIERS = (
    Tier("standard", 0.80, 1.0, 0.91),
    Tier("priority", 0.14, 0.85, 0.91),
    Tier("batch", 0.06, 1.6, 0.0),
)
# Failures on a calm day, as a ratio of all requests. Eligible ones sum to 0.05 %.
FAILURES = (
    ("server_error", 0.0003),
    ("timeout", 0.00005),
    ("overloaded", 0.0001),
    ("stream_error", 0.00005),
    ("rate_limited", 0.003),
    ("client_error", 0.010),
    ("cancelled", 0.005),
)


@dataclass(frozen=True, slots=True)
class Profile:
    """The traffic of one company on calm days.

    `events_per_s`: mean rate over a week, without probes. `customers`: how many there are; how
    much each asks falls with its rank. `probe_interval_s`: seconds between two synthetic checks
    of the same model and region. Raises ValueError if a value makes no traffic.
    """

    events_per_s: float
    models: tuple[Model, ...] = MODELS
    regions: tuple[Region, ...] = REGIONS
    channels: tuple[Channel, ...] = CHANNELS
    tiers: tuple[Tier, ...] = TIERS
    customers: int = 400
    failures: tuple[tuple[str, float], ...] = FAILURES
    trace_ratio: float = 0.10
    probe_interval_s: float = 30

    def __post_init__(self) -> None:
        for name in ("events_per_s", "customers", "probe_interval_s"):
            # A comparison with NaN is false, so NaN is rejected too.
            value = getattr(self, name)
            if not (value > 0 and math.isfinite(value)):
                raise ValueError(f"{name}: got {value}; write a number above 0")
        if self.probe_interval_s < 1:
            raise ValueError(f"probe_interval_s: got {self.probe_interval_s}; write 1 or more")
        for name in ("models", "regions", "channels", "tiers"):
            if not getattr(self, name):
                raise ValueError(f"{name}: got none; name at least one")
        failing = dict(self.failures)
        # The first outcome is success, which is no failure.
        if unknown := sorted(failing.keys() - set(OUTCOMES[1:])):
            raise ValueError(f"failures: got {unknown[0]}; use {', '.join(OUTCOMES[1:])}")
        if min(failing.values(), default=0) < 0 or sum(failing.values()) > 1:
            raise ValueError("failures: got ratios below 0 or above 1 in sum; lower them")

    @classmethod
    def default(cls, events_per_s: float = 50) -> Self:
        """Return six models, four regions, four channels, three tiers and 400 customers."""
        return cls(events_per_s=events_per_s)

    def names(self) -> dict[str, tuple[str, ...]]:
        """Return all names, by event field."""
        return {
            "model": tuple(model.name for model in self.models),
            "region": tuple(region.name for region in self.regions),
            "channel": tuple(channel.name for channel in self.channels),
            "service_tier": tuple(tier.name for tier in self.tiers),
            "customer_id": tuple(f"acct-{rank:04d}" for rank in range(1, self.customers + 1)),
        }
