"""Scenarios: the faults of simulated traffic, and how each changes the requests.

Pure: no clock, no Kafka. A scenario has a start, a duration and a filter; it acts on requests that
END in [start, start + duration). Its random draws are its own, so requests outside its
time and filter stay the same, byte for byte.
"""

from datetime import UTC, datetime, timedelta
from typing import Annotated, ClassVar, Self

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from streams.errors import ConfigError
from streams.events.fields import OUTCOMES
from streams.simulator.traffic import Bools, Floats, Requests

SUCCESS = OUTCOMES.index("success")
SERVER_ERROR = OUTCOMES.index("server_error")
OVERLOADED = OUTCOMES.index("overloaded")
STREAM_ERROR = OUTCOMES.index("stream_error")
RATE_LIMITED = OUTCOMES.index("rate_limited")

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SPAN_MAX = timedelta(days=3660)
SPAN_UNITS_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
SPAN_FIX = "write a number with a unit, e.g. 90s, 5m, 2h, 1d"


class TimelineError(ConfigError):
    """A timeline that cannot be used; one line for each problem: key, value and fix."""


def _span(value: object) -> timedelta:
    amount, unit_s = value, 1
    if isinstance(value, str) and value[-1:] in SPAN_UNITS_S:
        amount, unit_s = value[:-1], SPAN_UNITS_S[value[-1]]
    if isinstance(value, timedelta):
        span = value
    # A bool is an int in Python, but no number of seconds.
    elif isinstance(amount, str | int | float) and not isinstance(amount, bool):
        try:
            span = timedelta(seconds=float(amount) * unit_s)
        except (ValueError, OverflowError):
            raise ValueError(SPAN_FIX) from None
    else:
        raise ValueError(SPAN_FIX)
    if not timedelta() <= span <= SPAN_MAX:
        raise ValueError(f"write a time from 0 to {SPAN_MAX.days}d")
    return span


def _instant_or_span(value: object) -> datetime | timedelta:
    # An instant in ISO 8601 has a T; no span has one.
    if isinstance(value, str) and "T" in value:
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise ValueError("write an instant as 2026-01-31T09:00:00Z") from None
    if not isinstance(value, datetime):
        return _span(value)
    if value.tzinfo is None:
        raise ValueError("add the time zone, e.g. 2026-01-31T09:00:00Z")
    return value


Share = Annotated[float, Field(gt=0, le=1, strict=True)]
Factor = Annotated[float, Field(gt=0, le=100, strict=True)]
Duration = Annotated[timedelta, BeforeValidator(_span)]
Delay = Annotated[Duration, Field(le=timedelta(days=2))]  # delayed records stay in memory


class Where(BaseModel):
    """The requests that a scenario changes: those with all of the given names."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str | None = None
    region: str | None = None
    channel: str | None = None
    service_tier: str | None = None
    customer_id: str | None = None


class Scenario(BaseModel):
    """One incident. `start`: an instant, or a time after the timeline's beginning."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    reach: ClassVar[tuple[str, ...]] = ()  # parameters that delay records

    kind: str
    start: Annotated[datetime | timedelta, BeforeValidator(_instant_or_span)]
    duration: Annotated[Duration, Field(gt=timedelta())]
    where: Where = Where()

    @property
    def start_ms(self) -> int:
        """Epoch ms. Needs an absolute start."""
        if isinstance(self.start, timedelta):
            raise TimelineError(
                f"{self.kind}: start {self.start} counts from the timeline's beginning; say when "
                "that is with Timeline.beginning_at(ms)"
            )
        return (self.start - EPOCH) // timedelta(milliseconds=1)

    @property
    def end_ms(self) -> int:
        """Epoch ms, exclusive."""
        return self.start_ms + self.duration // timedelta(milliseconds=1)

    @property
    def reach_ms(self) -> int:
        """The longest time by which this scenario delays a record."""
        return max((_ms(getattr(self, name)) for name in self.reach), default=0)

    def apply(self, requests: Requests, hit: Bools, draws: Floats) -> None:
        """Change the requests marked in `hit`; `draws`: two numbers in [0, 1) for each.

        Not called for a flood, which only adds requests.
        """
        raise NotImplementedError


class Outage(Scenario):
    """Requests fail with server_error, probes too: `error_share` of them."""

    error_share: Share = 1.0

    def apply(self, requests: Requests, hit: Bools, draws: Floats) -> None:
        """Fail them."""
        requests.outcome[hit & (draws[:, 0] < self.error_share)] = SERVER_ERROR


class LatencyScenario(Scenario):
    """Answers are slower: the first token by `ttft_factor`, each further one by `tpot_factor`."""

    ttft_factor: Factor = 3.0
    tpot_factor: Factor = 1.0

    def apply(self, requests: Requests, hit: Bools, draws: Floats) -> None:
        """Stretch both latencies; the duration follows from them."""
        requests.ttft_ms[hit] *= self.ttft_factor
        requests.tpot_ms[hit] *= self.tpot_factor


class CacheFailure(Scenario):
    """The cache loses tokens, except `kept_share` of them; they are written again."""

    kept_share: Annotated[float, Field(ge=0, lt=1, strict=True)] = 0.0

    def apply(self, requests: Requests, hit: Bools, draws: Floats) -> None:
        """Turn cache reads into cache writes."""
        # The prompt is as long as before: what is not read from the cache is written to it.
        kept = (requests.cached_input_tokens * self.kept_share).astype(np.int64)
        lost = np.where(hit, requests.cached_input_tokens - kept, 0)
        requests.cached_input_tokens -= lost
        requests.cache_write_tokens += lost


class UnreportedCache(Scenario):
    """Records no longer contain the tokens of the cache: `share` of them."""

    share: Share = 1.0

    def apply(self, requests: Requests, hit: Bools, draws: Floats) -> None:
        """Mark the records that leave them out; the cache itself works as before."""
        requests.cache_reported[hit & (draws[:, 0] < self.share)] = False


class StreamErrors(Scenario):
    """Streamed answers end early after HTTP 200: `share` of those that would succeed."""

    share: Share = 0.2

    def apply(self, requests: Requests, hit: Bools, draws: Floats) -> None:
        """Cut the answers anywhere."""
        streaming = requests.stream & (requests.outcome == SUCCESS)
        broken = hit & streaming & (draws[:, 0] < self.share)
        requests.outcome[broken] = STREAM_ERROR
        # The second draw is independent of the one that chose the request.
        requests.cut_short(broken, draws[:, 1])


class Overload(Scenario):
    """Capacity is too small: `share` of the requests is rejected (503, 529), the rest is slow."""

    share: Share = 0.3
    ttft_factor: Factor = 3.0
    tpot_factor: Factor = 1.5

    def apply(self, requests: Requests, hit: Bools, draws: Floats) -> None:
        """Reject some requests and slow the rest."""
        rejected = hit & (draws[:, 0] < self.share)
        requests.outcome[rejected] = OVERLOADED
        requests.ttft_ms[hit] *= self.ttft_factor
        requests.tpot_ms[hit] *= self.tpot_factor


class Flood(Scenario):
    """One customer sends `extra_ratio` times the fleet's mean rate in addition.

    `rate_limited_share` of these requests is rate-limited. `where` pins further names.
    """

    extra_ratio: Factor = 1.0
    rate_limited_share: Annotated[float, Field(ge=0, le=1, strict=True)] = 0.2

    @model_validator(mode="after")
    def _one_customer(self) -> Self:
        if self.where.customer_id is None:
            raise ValueError("a flood comes from one customer; add where: {customer_id: ...}")
        return self

    def refuse(self, requests: Requests, draws: Floats) -> None:
        """Rate-limit some of the requests of the flood itself; one draw in [0, 1) for each."""
        requests.outcome[draws < self.rate_limited_share] = RATE_LIMITED


class Duplicates(Scenario):
    """Records are sent a second time, the same bytes: `share` of them, `after` later."""

    reach = ("after",)
    share: Share = 0.1
    after: Delay = timedelta(seconds=5)

    def apply(self, requests: Requests, hit: Bools, draws: Floats) -> None:
        """Mark the records that are sent again."""
        chosen = hit & (draws[:, 0] < self.share)
        np.copyto(requests.again_after_ms, _ms(self.after), where=chosen)


class Late(Scenario):
    """Records are sent late: `share` of them, `min_delay` to `max_delay` after their end."""

    reach = ("max_delay",)
    share: Share = 0.1
    min_delay: Delay = timedelta(minutes=1)
    max_delay: Delay = timedelta(minutes=10)

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.min_delay > self.max_delay:
            raise ValueError("min_delay is above max_delay; swap them")
        return self

    def apply(self, requests: Requests, hit: Bools, draws: Floats) -> None:
        """Delay records."""
        chosen = hit & (draws[:, 0] < self.share)
        shortest, longest = _ms(self.min_delay), _ms(self.max_delay)
        delay = shortest + (draws[:, 1] * (longest - shortest)).astype(np.int64)
        np.copyto(requests.transit_ms, delay, where=chosen)


class Malformed(Scenario):
    """Records are malformed: `share` of them, in one of several ways."""

    share: Share = 0.01

    def apply(self, requests: Requests, hit: Bools, draws: Floats) -> None:
        """Mark the malformed records, and draw the way."""
        chosen = hit & (draws[:, 0] < self.share)
        np.copyto(requests.broken, draws[:, 1], where=chosen)


KINDS: dict[str, type[Scenario]] = {
    "outage": Outage,
    "latency": LatencyScenario,
    "cache_failure": CacheFailure,
    "unreported_cache": UnreportedCache,
    "stream_errors": StreamErrors,
    "overload": Overload,
    "flood": Flood,
    "duplicates": Duplicates,
    "late": Late,
    "malformed": Malformed,
}


def _ms(span: timedelta) -> int:
    return span // timedelta(milliseconds=1)
