"""Scope, period and exclusions of an objective.

Pure. Only names and times; the selected requests are counted elsewhere.
"""

from collections.abc import Mapping
from math import inf
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import Discriminator, Field, Tag, model_validator

from slo.policy.indicators import PolicyPart
from slo.policy.units import Count, InstantS, Labels, Text
from streams.events.fields import MAX_TOKENS, UNKNOWN
from streams.events.input_length import lengths_of

TokenLimit = Annotated[Count, Field(ge=1, le=MAX_TOKENS)]
Dimension = Literal["model", "region", "channel", "service_tier", "customer"]
DIMENSIONS: tuple[Dimension, ...] = ("model", "region", "channel", "service_tier", "customer")


class InputTokens(PolicyPart):
    """A range of input lengths. A request of unknown length is in the range of a scope, and not in
    that of an exclusion."""

    at_most: TokenLimit | None = None
    """Largest number of input tokens, included."""
    above: TokenLimit | None = None
    """Only requests with more input tokens than this."""

    @property
    def limits(self) -> tuple[int, ...]:
        """Return its bounds, which the workers must count."""
        return tuple(limit for limit in (self.above, self.at_most) if limit is not None)

    def contains(self, length: str, unknown: bool) -> bool | None:
        """Return whether a class of `streams.events.input_length` lies in the range.

        None if the limits of the class do not show it, as other limits were counted. `unknown`:
        the answer for requests of unknown length.
        """
        if length == UNKNOWN:
            return unknown
        # Requests of an older state may be in classes of other limits, which overlap the range only
        # partly: guessing a side would falsify a contract.
        lengths = lengths_of(length)
        if lengths is None:
            return None
        least, greatest = lengths
        low = 0 if self.above is None else self.above + 1
        if least >= low and (self.at_most is None or (greatest or inf) <= self.at_most):
            return True
        if (greatest or inf) < low or (self.at_most is not None and least > self.at_most):
            return False
        return None

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if not self.limits:
            raise ValueError("write at_most or above")
        if self.at_most is not None and self.above is not None and self.above >= self.at_most:
            raise ValueError("at_most is not more than above; correct them")
        return self

    def __str__(self) -> str:
        texts = [f"above {self.above}"] if self.above is not None else []
        return ", ".join(texts + ([f"at most {self.at_most}"] if self.at_most is not None else []))


class ScopeFilter(PolicyPart):
    """Names to keep, by dimension; a dimension that is left out keeps all names."""

    model: Labels = ()
    """Models."""
    region: Labels = ()
    """Regions."""
    channel: Labels = ()
    """Channels."""
    service_tier: Labels = ()
    """Service tiers."""
    customer: Labels = ()
    """Customers, by the id that events carry."""
    requested_service_tier: Labels = ()
    """Service tiers that clients asked for; a request without one asked for the tier it got."""
    input_tokens: InputTokens | None = None
    """Input lengths."""

    @property
    def selects_all(self) -> bool:
        """Return whether it keeps all requests."""
        return not self.names() and not self.finer()

    def finer(self) -> dict[str, str]:
        """Return its restrictions by keys that no published metric has, in words."""
        tiers = {"requested_service_tier": " or ".join(self.requested_service_tier)}
        lengths = {"input_tokens": "" if self.input_tokens is None else str(self.input_tokens)}
        return {key: text for key, text in (tiers | lengths).items() if text}

    def names(self) -> dict[Dimension, tuple[str, ...]]:
        """Return the restricted dimensions with the names they keep."""
        found: dict[Dimension, tuple[str, ...]] = {
            dimension: getattr(self, dimension) for dimension in DIMENSIONS
        }
        return {dimension: names for dimension, names in found.items() if names}

    def dimensions(self) -> frozenset[Dimension]:
        """The dimensions it looks at."""
        return frozenset(self.names())

    @model_validator(mode="before")
    @classmethod
    def _no_empty_list(cls, found: Any) -> Any:
        if isinstance(found, Mapping):
            # An empty list would select all names, the opposite of what it looks like.
            for key, names in found.items():
                if names is None or names == []:
                    raise ValueError(f"{key} names nothing; write a name or leave the key out")
        return found


class Scope(ScopeFilter):
    """Which requests an objective is about, and whether each name is judged by itself."""

    per: Dimension | None = None
    """Judge every value of this dimension by itself; without it all requests are one."""

    def dimensions(self) -> frozenset[Dimension]:
        """The dimensions it looks at."""
        return super().dimensions() | ({self.per} if self.per else frozenset())

    @model_validator(mode="after")
    def _customers_are_known_by_model_only(self) -> Self:
        # A table of customers by all dimensions would have too many rows.
        others = sorted(self.dimensions() - {"customer", "model"}) + sorted(self.finer())
        if "customer" in self.dimensions() and others:
            raise ValueError(
                f"customers are counted by model only; leave out {', '.join(others)}, or customer"
            )
        return self


class RollingDays(PolicyPart):
    """The last N times 24 hours."""

    rolling_days: Count = Field(ge=1, le=400)
    """How many days."""


class CalendarMonth(PolicyPart):
    """The running calendar month."""

    calendar: Literal["month"]
    """The unit."""
    zone: ZoneInfo = ZoneInfo("UTC")
    """IANA name of the zone whose midnight begins the month."""


def _period_tag(found: Any) -> str:
    # By its key and not by trying both, so that errors are those of the period that was meant.
    is_calendar = isinstance(found, CalendarMonth) or (
        isinstance(found, Mapping) and "calendar" in found
    )
    return CalendarMonth.__name__ if is_calendar else RollingDays.__name__


Period = Annotated[
    Annotated[RollingDays, Tag("RollingDays")] | Annotated[CalendarMonth, Tag("CalendarMonth")],
    Discriminator(_period_tag),
]


class Exclusion(PolicyPart):
    """Requests that do not count: all in a stretch of time, some always, or some in a stretch of
    time. A minute that is wholly excluded is neither up nor down."""

    from_s: InstantS | None = Field(None, alias="from")
    """Begin, included."""
    to_s: InstantS | None = Field(None, alias="to")
    """End, not included."""
    where: ScopeFilter = ScopeFilter()
    """Only these requests."""
    author: Text
    """Who decided it."""
    reason: Text
    """Why; for the customer who asks."""

    @model_validator(mode="after")
    def _says_what(self) -> Self:
        if (self.from_s is None) != (self.to_s is None):
            raise ValueError("from and to belong together; write both or neither")
        if self.from_s is not None and self.to_s is not None and self.from_s >= self.to_s:
            raise ValueError("to is not after from; correct them")
        if self.from_s is None and self.where.selects_all:
            raise ValueError("this would exclude everything for ever; write from and to, or where")
        return self
