"""Indicators: the measures of an objective.

Pure declarations, one class a kind. The first six give a share of good (requests, minutes, slices)
over a period, to be held against a target; the last three are a number now, to be held against
levels.

Every latency verdict needs only two exact counts, requests at or under `limit_us` and requests
measured, so no histogram bucket makes a contract inexact.
"""

from fractions import Fraction
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from slo.policy.units import Count, ErrorClass, Flag, LatencyUs, Outcome, Percent, SpanS, WindowName
from streams.events.fields import ELIGIBLE
from streams.state.limits import token_time_us
from streams.state.measures import EXPORTED_QUANTILES
from streams.state.windows import ROLLING_S

Latency = Literal["ttft", "tpot", "duration", "first_visible"]
LATENCY_WORDS: dict[Latency, str] = {
    "ttft": "time to first token",
    "tpot": "time per output token",
    "duration": "duration",
    "first_visible": "time to first visible token",
}
# What a limit can be counted for; the last is the duration after the first token, a token.
Clock = Literal["ttft", "tpot", "duration", "first_visible", "output_speed"]
# Requests as their customers see them, or each attempt of a gateway as its provider answered it.
View = Literal["customer", "provider"]
# What a stretch of time without enough samples counts as.
Unknown = Literal["excluded", "up", "down"]


class PolicyPart(BaseModel):
    """A part of a policy; an unknown key is an error, as it is nearly always a typing error."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


def _whole_minutes_of_an_hour(slice_s: int) -> int:
    # Counts are kept by minute, and slices that divide an hour have the same edges on every day.
    if slice_s % 60 or 3_600 % slice_s:
        raise ValueError("use a span of whole minutes that divides an hour, such as 5m")
    return slice_s


SliceS = Annotated[SpanS, AfterValidator(_whole_minutes_of_an_hour)]


class _OfRequests(PolicyPart):
    """Counts requests by how they ended."""

    eligible: frozenset[Outcome] = ELIGIBLE
    """Outcomes in the denominator."""
    failed: frozenset[Outcome] = ELIGIBLE - {"success"}
    """Outcomes that count against the objective; the rest of `eligible` is good."""
    error_classes: frozenset[ErrorClass] = frozenset()
    """Classes of client errors that are eligible and count against the objective."""
    view: View = "customer"
    """`provider` also counts the attempts after which the gateway went on to another, and leaves
    out the answers from a gateway's response cache."""
    probes: Flag = True
    """Whether synthetic checks count; customers have none."""
    min_samples: Count = Field(1, ge=1)
    """Eligible requests a judged stretch of time must have, else it is unknown."""

    @model_validator(mode="after")
    def _check_outcomes(self) -> Self:
        # An objective that nothing can meet or miss is a typing error, never a contract.
        if "success" in self.failed or "success" not in self.eligible:
            raise ValueError("success is eligible and has not failed; correct eligible and failed")
        if not self.failed and not self.error_classes:
            raise ValueError("failed is empty, so nothing could ever count; name an outcome")
        if self.error_classes and "client_error" in self.failed:
            raise ValueError("failed has client_error, so all its classes; leave error_classes out")
        if outside := sorted(self.failed - self.eligible):
            raise ValueError(f"{', '.join(outside)} failed without being eligible; add to eligible")
        return self

    @property
    def is_availability(self) -> bool:
        """Return whether the failures are those of `tokenpulse_availability_ratio`."""
        failed = ELIGIBLE - {"success"}
        return (self.eligible, self.failed) == (ELIGIBLE, failed) and not self.error_classes


class RequestRatio(_OfRequests):
    """Share of eligible requests that did not fail (a transaction ratio)."""

    kind: Literal["request_ratio"]


class MinuteUptime(_OfRequests):
    """Share of minutes that were up. A minute is down if too many of its requests failed, and if
    it stands in a long enough run of such minutes."""

    kind: Literal["minute_verdicts"]
    down_above: Percent
    """A minute is bad if more than this share of its eligible requests failed."""
    down_run: Count = Field(1, ge=1, le=1_440)
    """Consecutive bad minutes from which on they are down; shorter runs are up. An unknown or
    excluded minute ends a run."""
    unknown: Unknown = "excluded"
    """What a minute without enough requests counts as."""


class SliceRatioMean(_OfRequests):
    """Mean of the success ratios of slices of time, each slice of equal weight."""

    kind: Literal["slice_ratio_mean"]
    slice_s: SliceS = Field(300, alias="slice", json_schema_extra={"default": "5m"})
    """Length of a slice."""
    unknown: Unknown = "excluded"
    """What a slice without enough requests counts as: `up` is a ratio of 1."""


class _OfLatency(PolicyPart):
    """Counts latencies of successful requests; TTFT of streamed ones, TPOT where there was more
    than one output token."""

    min_samples: Count = Field(1, ge=1)
    """Measured requests a judged stretch of time must have, else it is unknown."""


class LatencyRatio(_OfLatency):
    """Share of measured requests at or under a limit."""

    kind: Literal["latency_ratio"]
    measure: Latency
    """Which latency."""
    limit_us: LatencyUs = Field(alias="limit")
    """The limit; a request exactly at it is good."""


class SlicePercentile(_OfLatency):
    """Share of slices of time whose percentile is at or under a limit."""

    kind: Literal["slice_percentile"]
    measure: Latency
    """Which latency."""
    percentile: Count = Field(ge=1, le=99)
    """Nearest-rank percentile of the slice's requests."""
    limit_us: LatencyUs = Field(alias="limit")
    """The limit."""
    slice_s: SliceS = Field(300, alias="slice", json_schema_extra={"default": "5m"})
    """Length of a slice."""
    unknown: Unknown = "excluded"
    """What a slice without enough requests counts as."""


class SliceSpeed(_OfLatency):
    """Share of slices of time whose percentile of output tokens per second reaches a limit."""

    kind: Literal["slice_speed"]
    of: Literal["tpot", "output_speed"] = "tpot"
    """The speed: `tpot` for 1 / TPOT, `output_speed` for output tokens / (duration - TTFT)."""
    percentile: Count = Field(50, ge=1, le=99)
    """Nearest-rank percentile of the slice's requests, slowest first: 5 is the slow end."""
    tokens_per_s: Count = Field(ge=1, le=100_000)
    """Output tokens per second that the percentile must reach."""
    slice_s: SliceS = Field(300, alias="slice", json_schema_extra={"default": "5m"})
    """Length of a slice."""
    unknown: Unknown = "excluded"
    """What a slice without enough requests counts as."""

    @property
    def measure(self) -> Clock:
        """The time per token that is counted in its place."""
        return self.of

    @property
    def limit_us(self) -> int:
        """Time per token at or under which a request is fast enough: 1 s / tokens_per_s, rounded
        down, so a request may be judged slow that reached the limit by less than a microsecond."""
        return token_time_us(self.tokens_per_s)


class RollingPercentile(PolicyPart):
    """A percentile of a latency over a rolling window."""

    kind: Literal["rolling_percentile"]
    measure: Latency
    """Which latency."""
    percentile: Count
    """Nearest-rank percentile; one that the exporter publishes."""
    window: WindowName = "5m"
    """The rolling window."""
    min_samples: Count = Field(20, ge=1)
    """Samples the window must have, else nothing is said."""

    @model_validator(mode="after")
    def _check_percentile(self) -> Self:
        # The rule that alerts reads a published metric, so no other percentile can be evaluated.
        published = [round(quantile * 100) for quantile in EXPORTED_QUANTILES]
        if self.percentile not in published:
            raise ValueError(
                f"percentile {self.percentile} is not published; use "
                f"{', '.join(str(one) for one in published)}"
            )
        return self


class CacheHitRatio(PolicyPart):
    """Cached input tokens over a rolling window, of the input tokens whose cached part is known."""

    kind: Literal["cache_hit_ratio"]
    window: WindowName = "1h"
    """The rolling window."""
    min_input_tokens: Count = Field(100_000, ge=1)
    """Input tokens with a known cached part that the window must have, else no alert fires."""
    min_known_ratio: Percent = Field(Fraction(1, 2), json_schema_extra={"default": "50%"})
    """Share of the input tokens whose cached part must be known, else no alert fires."""


class TokenVolumeDrop(PolicyPart):
    """Tokens per second in a rolling window, as a share of those in a longer one."""

    kind: Literal["token_volume_drop"]
    window: WindowName = "5m"
    """The window that is watched."""
    baseline: WindowName = "1h"
    """The longer window it is compared with; it contains the watched one."""
    min_baseline_tokens: Count = Field(100_000, ge=1)
    """Tokens the baseline must have, else nothing is said."""

    @model_validator(mode="after")
    def _check_baseline(self) -> Self:
        if ROLLING_S[self.baseline] <= ROLLING_S[self.window]:
            raise ValueError(
                f"baseline {self.baseline} is not longer than window {self.window}; use a longer "
                "baseline"
            )
        return self


RequestIndicator = RequestRatio | MinuteUptime | SliceRatioMean
LatencyIndicator = LatencyRatio | SlicePercentile | SliceSpeed
ErrorBudgetIndicator = Annotated[RequestIndicator | LatencyIndicator, Field(discriminator="kind")]
ShareIndicator = Annotated[CacheHitRatio | TokenVolumeDrop, Field(discriminator="kind")]
SHARES = ("cache_hit_ratio", "token_volume_drop")
ROLLING = ("rolling_percentile",)
ERROR_BUDGET_KINDS = (
    *("request_ratio", "minute_verdicts", "slice_ratio_mean"),
    *("latency_ratio", "slice_percentile", "slice_speed"),
)
KINDS = (*ERROR_BUDGET_KINDS, *ROLLING, *SHARES)
