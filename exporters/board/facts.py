"""The live board's content as plain data: made from the state, rendered by the page.

Pure. Seconds, ratios from 0 to 1, tokens; times in seconds since the epoch. None is "unknown" and
is shown as such, never as 0. Names come from events and from the customer directory: plain text,
which the page escapes.
"""

from dataclasses import dataclass
from typing import Literal

from exporters.place_links import OTHERS
from streams.events.fields import OTHER

# On the page: met; not missed yet, but near it; missed; unknown.
State = Literal["ok", "at_risk", "breached", "unknown"]
Severity = Literal["page", "ticket", "info"]
ObjectiveKey = tuple[str, str, str]  # policy, objective, name of its `per` dimension
BUDGET_NEARLY_GONE = 0.1  # share of an error budget below which its objective is at risk


@dataclass(frozen=True, slots=True)
class TileValue:
    """One number of the fleet over the board's window, against its target."""

    value: float | None
    samples: (
        int  # requests behind it; for a cache hit ratio the input tokens whose cached part is known
    )
    target: float | None
    state: State
    spark: tuple[float | None, ...] = ()  # the last 60 minutes, one value a minute, oldest first
    known_ratio: float | None = None  # share of the requests or input tokens it is known for
    # The value of the last minute if it is on the other side of the target: the window still has a
    # fault that ended, or hardly has one that began.
    last_minute: float | None = None


@dataclass(frozen=True, slots=True)
class ObjectiveRow:
    """The status of one objective."""

    policy: str
    objective: str
    about: str
    scope: str  # in words: `fleet`, `model aurora-4-large`, `customer Acme Corp`
    kind: Literal["promise", "level"]  # published values: an error budget, or thresholds
    state: State
    value: str  # in words: `99.982 %`, `212 ms`
    target: str  # `at least 99.9 %`, `under 300 ms`
    window: str = ""  # of the value, in words: `last 30 days`, `this month`
    budget_left_ratio: float | None = None  # error budgets only; below 0 it is overdrawn
    burn: tuple[tuple[str, float], ...] = ()  # (window, rate), shortest window first
    name: str = ""  # of the scope's `per` dimension, as the state has it; a customer by its token

    @property
    def key(self) -> ObjectiveKey:
        return self.policy, self.objective, self.name


@dataclass(frozen=True, slots=True)
class UptimeDay:
    """One UTC day of an availability objective."""

    date: str  # YYYY-MM-DD
    attained_ratio: float | None
    state: State
    running: bool  # the day is not over


@dataclass(frozen=True, slots=True)
class HistoryStrip:
    """The days of one availability objective, oldest first."""

    policy: str
    objective: str
    scope: str
    target_ratio: float
    days: tuple[UptimeDay, ...]


@dataclass(frozen=True, slots=True)
class BreakdownRow:
    """One model or region over the board's window. Worst first where they are listed."""

    name: str
    requests: int
    eligible: int
    availability_ratio: float | None
    ttft_p95_s: float | None
    ttft_samples: int
    tpot_p95_s: float | None
    tpot_samples: int
    cache_hit_ratio: float | None
    state: State
    ttft_known_ratio: float | None = None  # of the streamed requests
    cached_known_ratio: float | None = None  # of the input tokens
    tokens_known_ratio: float | None = None  # of the requests that a model answered
    # The measures that miss the fleet's target: of "availability", "ttft" and "tpot".
    missed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Notification:
    """Whether the alert rules notify a person about an incident.

    "firing" since `at_s`; "pending": it fires at `at_s` if its condition continues to hold;
    "expected": no rule holds yet, and one will about at `at_s` if the fault continues; "none": no
    rule holds or is expected to.
    """

    state: Literal["firing", "pending", "expected", "none"] = "none"
    at_s: float | None = None
    severity: Severity | None = None  # None: that of its incident


@dataclass(frozen=True, slots=True)
class Extent:
    """How bad an incident is now."""

    badness: float  # larger is worse; comparable within one incident
    words: str  # `41.2 % failed`
    affected_ratio: float | None = None  # share of the fleet's requests, or input tokens


# Dimensions and names, `(("region", "eu-west-1"), ("region", "ap-south-1"))`; empty for the fleet.
Where = tuple[tuple[str, str], ...]


def names_by_dimension(where: Where) -> dict[str, set[str]]:
    """Return the names of each dimension; a request is inside if all its dimensions match."""
    names: dict[str, set[str]] = {}
    for dimension, name in where:
        names.setdefault(dimension, set()).add(name)
    return names


def covers(outer: Where, inner: Where) -> bool:
    """Return whether all requests of the inner places are in the outer ones.

    More dimensions make places narrower, more names of one dimension wider. False if one of them is
    the fleet: an alert on it names no place.
    """
    inside = names_by_dimension(inner)
    return bool(outer) and all(
        dimension in inside and inside[dimension] <= names
        for dimension, names in names_by_dimension(outer).items()
    )


@dataclass(frozen=True, slots=True)
class Incident:
    """A problem at the moment, in words."""

    severity: Severity  # of its alert, or of the alert that follows if it lasts
    words: str  # one sentence with numbers
    runbook: str | None  # file name in docs/runbooks, without .md
    alert: str | None = None  # name of the alert about it
    key: str = ""  # alert and place; stays while the incident lasts
    notification: Notification = Notification()
    extent: Extent | None = None  # None if it has no size, as a missing heartbeat
    since_s: float | None = None  # when it was first seen
    peak: str | None = None  # the worst so far: `41.2 % failed`
    affected_ratio: float | None = None  # the largest share of the fleet so far
    where: Where = ()  # the places that it is about
    # Of incidents to which further places may come: they continue a record of this group.
    group: str = ""
    objective: ObjectiveKey | None = None  # None if it is about no single objective
    id: str = ""  # of its page; given by the log
    is_over: bool = False  # its condition ended, but its alert is kept firing
    is_recovering: bool = False  # in the last seconds hardly any request failed


@dataclass(frozen=True, slots=True)
class PastIncident:
    """An incident of the last 24 hours that ended; times in seconds since 1970."""

    severity: Severity
    words: str  # at its worst
    runbook: str | None
    alert: str | None
    start_s: float
    end_s: float
    peak: str | None
    affected_ratio: float | None
    firing_since_s: float | None  # None if its alert never fired
    where: Where = ()
    id: str = ""


@dataclass(frozen=True, slots=True)
class Freshness:
    """Whether the numbers can be trusted."""

    state: State
    words: str  # one sentence
    newest_event_age_s: float | None  # age of the newest event that is counted
    lag_records: int | None  # in Kafka, not counted yet; None without a live worker
    workers: int  # with a recent heartbeat; those without news for a few seconds are left out
    complete: bool  # False: records of the board's window are known to be missing
    rebuilt: bool = False  # the state was lost within the last 15 minutes, and is rebuilt
    # Records wait that no alert fires for yet, as after the start of a worker.
    catching_up: bool = False
    # No heartbeat of a worker, or no answer from Kafka, for seconds: too early for an alert.
    no_news: bool = False


Amounts = tuple[tuple[str, int], ...]  # (name, requests), the largest first


@dataclass(frozen=True, slots=True)
class ModelDetails:
    """One model: the results for its customers, and the answers of its provider."""

    name: str
    requests: int
    availability_ratio: float | None
    attempts: int  # without answers from a response cache, for which no provider was asked
    provider_availability_ratio: float | None
    ttft_p95_s: float | None
    first_visible_p95_s: float | None
    first_visible_samples: int


@dataclass(frozen=True, slots=True)
class RequestDetails:
    """The parts of the board that most traffic does not have."""

    models: tuple[ModelDetails, ...]  # whose attempts are not the requests, or with a first visible
    has_attempts: bool  # some attempts are not the requests, so that the columns are of use
    has_first_visible: bool
    endings: Amounts
    client_errors: Amounts  # by class
    tier_changed: int


@dataclass(frozen=True, slots=True)
class CustomerFailures:
    """The failures of one customer in the last minute."""

    customer: str  # token, as in the address of its page; OTHER beyond the limit of customers
    name: str  # of the directory; without one the token
    failed: int

    @property
    def is_others(self) -> bool:
        """Return whether these are the failures of all customers beyond the limit."""
        return self.customer == OTHER

    @property
    def short_name(self) -> str:
        if self.is_others:
            return OTHERS
        return self.name if self.name != self.customer else f"{self.name[:8]}…"


@dataclass(frozen=True, slots=True)
class LiveFacts:
    """All that the live board shows."""

    made_at_s: float
    window: str  # of all tiles, rows and tokens: `5m`
    from_s: int  # the window's begin and end in event time
    to_s: int
    headline: str  # the state of the service in one sentence
    state: State
    incidents: tuple[Incident, ...]  # the most urgent first; empty when all is well
    ttft_p95_s: TileValue
    tpot_p95_s: TileValue
    cache_hit_ratio: TileValue
    availability_ratio: TileValue
    tokens_per_s: TileValue
    requests: int
    tokens: int | None
    objectives: tuple[ObjectiveRow, ...]  # the worst first
    history: tuple[HistoryStrip, ...]
    models: tuple[BreakdownRow, ...]
    regions: tuple[BreakdownRow, ...]
    freshness: Freshness
    notification: str = "Not paged"  # in words: the most urgent of all incidents
    details: RequestDetails | None = None  # None if no event of the window has such fields
    past_incidents: tuple[PastIncident, ...] = ()  # of the last 24 hours, the newest first
    failing_customers: int = 0  # customers with a failure in the last minute
    worst_customers: tuple[CustomerFailures, ...] = ()  # those with the most failures
    # How models, and regions, are without the places of the first incident about failures.
    models_note: str = ""
    regions_note: str = ""


@dataclass(frozen=True, slots=True)
class LiveState:
    """The content of the page now. One of `facts` and `problem` is always None."""

    facts: LiveFacts | None  # None while the state cannot be read or nothing was counted yet
    problem: str | None  # why there are no facts; one line
    made_at: float  # monotonic; differs after every refresh
    runbooks_url: str | None = None  # address of docs/runbooks
    nothing_counted: bool = False  # there are no facts because no worker has counted an event yet
    # Nothing was counted or read yet, and the exporter began only some seconds ago.
    starting: bool = False
