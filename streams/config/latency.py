"""The settings of latencies: which service tiers enter percentiles and objectives. Pure."""

from typing import Annotated

from pydantic import Field

from streams.config.base import Section

_Tier = Annotated[str, Field(min_length=1)]


class Latency(Section):
    """Which latencies belong together. Give all processes and commands the same settings."""

    apart_tiers: frozenset[_Tier] = Field(
        frozenset({"batch"}),
        description="Service tiers whose latencies are shown by tier only: percentiles and latency "
        "objectives of several tiers leave them out. An objective whose scope names such a tier "
        "counts it.",
    )
