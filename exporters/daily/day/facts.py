"""The data of the daily reliability board, built from closed days and shown by renderers.

Pure. Seconds, ratios from 0 to 1, tokens; a day is a calendar day of the board's zone. None means
"not known" and is shown as such, never as 0. Every dataclass here is plain: `asdict` of it is the
JSON of the board and the stored form of a final day.
"""

from dataclasses import dataclass
from typing import Literal

Metric = Literal["tokens", "ttft_p95_s", "tpot_p95_s", "availability_ratio", "cache_hit_ratio"]
# In the order the board shows them.
METRICS: tuple[Metric, ...] = (
    "tokens",
    "ttft_p95_s",
    "tpot_p95_s",
    "availability_ratio",
    "cache_hit_ratio",
)
# Better than the target by the policy's band of that name (or, where a metric has none, by twice:
# half the latency, half the failures); met; missed; no target or no number.
Mark = Literal["best", "met", "missed", "unknown"]
# running: not over. provisional: over, but late events may still come. sealed: final.
# absent: nothing was counted.
DayState = Literal["running", "provisional", "sealed", "absent"]
# The length of time that a board is about. A week begins on Monday.
PeriodKind = Literal["day", "week", "month"]
PERIODS: tuple[PeriodKind, ...] = ("day", "week", "month")


@dataclass(frozen=True, slots=True)
class Value:
    """One metric of one stretch of time."""

    value: float | None
    samples: int  # requests, or for a cache hit the input tokens whose cached part is known
    mark: Mark
    known_ratio: float | None = None  # share of the requests or input tokens it is known for


@dataclass(frozen=True, slots=True)
class Values:
    """The five metrics of a stretch of time."""

    requests: int
    tokens: Value
    ttft_p95_s: Value
    tpot_p95_s: Value
    availability_ratio: Value
    cache_hit_ratio: Value

    def of(self, metric: Metric) -> Value:
        """Return one of them."""
        value: Value = getattr(self, metric)
        return value


@dataclass(frozen=True, slots=True)
class Correction:
    """The value that a final day would have today. The day itself does not change."""

    metric: Metric
    sealed: float | None
    now: float | None
    words: str  # `late events: 12 requests more`


@dataclass(frozen=True, slots=True)
class DayAttempts:
    """All attempts at the requests of a day, final or not, as the providers answered them.

    Answers from a gateway's response cache are left out: no provider was asked.
    """

    attempts: int
    availability_ratio: float | None  # of the attempts and synthetic checks that count


@dataclass(frozen=True, slots=True)
class Day:
    """One calendar day of the zone; on the board of a week or month, one week or month."""

    date: str  # YYYY-MM-DD; the first day of a week or month
    from_s: int
    to_s: int
    state: DayState
    complete: bool  # False: records of it are known to be missing
    values: Values
    sealed_at_s: int | None = None
    corrections: tuple[Correction, ...] = ()
    note: str = ""  # why it is provisional or incomplete, one sentence; empty if it is neither
    attempts: DayAttempts | None = None  # None if they are the requests


@dataclass(frozen=True, slots=True)
class Trend:
    """The board's day against the norm of the days before it.

    A norm is the median of the known days among the 7 (28) before it; None with less than 3 (7).
    The norms of tokens are of the same weekday: the day a week before, and the median of the four
    weeks before (at least 3 known).
    """

    metric: Metric
    norm_7d: float | None
    norm_28d: float | None
    change_7d: float | None  # value - norm; for tokens as a share of the norm
    change_28d: float | None
    better: bool | None  # whether the change against 28 days (else 7) is for the better


@dataclass(frozen=True, slots=True)
class MetricCause:
    """The cause of a metric's change, split into mix and rate.

    mix: the part by which its share of the traffic changed; rate: the part by which it got better
    or worse itself. In the metric's unit, signed as the change is; mix + rate = total.
    """

    metric: Metric
    dimension: str  # model, region, channel, service_tier, customer
    name: str
    total: float
    mix: float
    rate: float
    words: str  # one sentence with numbers


@dataclass(frozen=True, slots=True)
class Risk:
    """The status of one objective with a budget at the end of the board's day."""

    policy: str
    objective: str
    scope: str  # in words
    target_ratio: float
    attained_ratio: float | None
    budget_left_ratio: float | None
    credit_due: str | None  # `1,250.00 USD`
    credit_projected: str | None
    adjusted: bool  # a closed period would read otherwise today

    @property
    def key(self) -> tuple[str, str, str]:
        """Return the objective and its scope, which tell it from all other risks."""
        return self.policy, self.objective, self.scope


@dataclass(frozen=True, slots=True)
class Segment:
    """Customers of one segment on the board's day. Latencies are not kept by customer."""

    name: str
    customers: int | None  # None: of days that are only stored, as the same ones return each day
    requests: int
    tokens: int | None
    availability_ratio: float | None
    cache_hit_ratio: float | None
    tokens_known_ratio: float | None = None  # of the requests that a model answered
    cached_known_ratio: float | None = None  # of the input tokens


# weekday: the board's day against the same weekday of the week before. week, four_weeks: the last
# 7 (28) days against those before. month: the month to date against the whole month before, as
# tokens a day after the weekdays were evened out. On the board of a week or month, also
# four_weeks_ago and year: the days of the period against those of four weeks or a year before.
Span = Literal["weekday", "week", "four_weeks", "month", "four_weeks_ago", "year"]
# noise: no larger than the usual changes. unknown: too few days are known.
GrowthVerdict = Literal["up", "down", "noise", "unknown"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Tokens of some days against those of earlier days."""

    span: Span
    tokens: float | None
    before: float | None
    change_ratio: float | None  # 0.05: 5 % more
    verdict: GrowthVerdict


@dataclass(frozen=True, slots=True)
class GrowthRow:
    """The growth of the tokens of all traffic, or of one model, segment or customer."""

    dimension: str  # fleet, model, segment, customer
    name: str  # empty for the fleet
    tokens: float | None  # of the board's day, week or month
    comparisons: tuple[Comparison, ...]
    month_projected: float | None  # tokens of the whole month at the rate of the month to date


@dataclass(frozen=True, slots=True)
class Contract:
    """One contract with a renewal date, and how reliable the service was for the customer.

    The objective is the customer's own with the least error budget left. Without one, attained and
    target are those of the availability of its requests in the month to date.
    """

    name: str  # of the customer
    segment: str
    contract: str | None
    renewal: str  # YYYY-MM-DD
    days_left: int  # from the board's day; negative: it was due before
    monthly_commitment_usd: float | None
    objective: str | None
    target_ratio: float | None
    attained_ratio: float | None
    budget_left_ratio: float | None
    credits_projected: tuple[str, ...]  # `1,250.00 USD`, one for each objective with a fee
    at_risk: bool


@dataclass(frozen=True, slots=True)
class CacheRow:
    """The dollars of the prompt cache for all traffic, a model or a customer."""

    dimension: str  # fleet, model, customer
    name: str  # empty for the fleet
    hit_ratio: float | None
    saved_usd: float | None  # None without a price, or if no cached part is known
    lost_usd: float | None  # against the target; None without a target, too


@dataclass(frozen=True, slots=True)
class CacheMargin:
    """The dollars of the prompt cache on the board's day."""

    target_ratio: float | None
    rows: tuple[CacheRow, ...]  # the fleet, then models and customers, the largest losses first
    unpriced_tokens: int  # input tokens of models without a price
    # Of all traffic on the same weekday of the week before; None if that day has none stored.
    saved_week_before_usd: float | None = None


@dataclass(frozen=True, slots=True)
class PeriodChange:
    """A metric of a week or month against that of an earlier one."""

    metric: Metric
    span: Span  # week, four_weeks_ago, month or year
    value: float | None  # of the earlier week or month
    # Value less the earlier one; for tokens a share, of the same days or of the tokens a day.
    change: float | None
    better: bool | None  # None: within the usual changes, or too few earlier ones are known


@dataclass(frozen=True, slots=True)
class Edition:
    """The data that only the board of a week or month has."""

    days: int  # of the whole week or month
    days_over: int
    changes: tuple[PeriodChange, ...]


@dataclass(frozen=True, slots=True)
class DailyFacts:
    """All data of the daily board, or of its weekly or monthly edition."""

    made_at_s: int
    zone: str
    date: str  # the day it is about, or the first day of the week or month
    headline: str  # how that day was, in one sentence
    trust: str  # whether it can be relied on, in one sentence
    days: tuple[Day, ...]  # 30 closed ones and the running one, or 13 periods; oldest first
    targets: "BoardTargets"
    trends: tuple[Trend, ...]
    month: str  # YYYY-MM
    month_to_date: Values
    risks: tuple[Risk, ...]  # the worst first
    causes: tuple[MetricCause, ...]  # at most three, the largest first
    segments: tuple[Segment, ...]  # empty without a customer directory
    growth: tuple[GrowthRow, ...]  # the fleet, then the largest models, segments and customers
    cache: CacheMargin | None  # None without a price book, or if the day's slices are gone
    contracts: tuple[Contract, ...]  # the next renewal first; empty without renewal dates
    # Those of a sealed day's risks that would read otherwise today, as they would.
    risks_corrected: tuple[Risk, ...] = ()
    period: PeriodKind = "day"
    edition: Edition | None = None  # None on the board of a day
    # The first event ever, if the growth leaves out its day as counting began within it.
    counting_began_s: int | None = None

    @property
    def day(self) -> Day:
        """Return the day, week or month that the board is about."""
        return next(day for day in self.days if day.date == self.date)


@dataclass(frozen=True, slots=True)
class BoardTargets:
    """The targets of the five metrics; None if no policy sets one."""

    ttft_p95_s: float | None
    tpot_p95_s: float | None
    availability_ratio: float | None
    cache_hit_ratio: float | None  # the lower end of what is good
    cache_hit_best: tuple[float, float] | None  # the band that is best in class

    def of(self, metric: Metric) -> float | None:
        """Return the target of a metric; tokens have none."""
        target: float | None = None if metric == "tokens" else getattr(self, metric)
        return target


@dataclass(frozen=True, slots=True)
class Reopening:
    """When and why an operator took back that a day is final."""

    at_s: int
    author: str
    reason: str
