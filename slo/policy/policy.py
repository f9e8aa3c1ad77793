"""A policy: objectives with their scope and period, and the credits if one is missed.

Pure. Frozen and exact; independent of the source of the counts. `loading.py` reads policies
from files, docs/policies.md explains every key.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    model_validator,
)

from slo.policy.indicators import (
    ERROR_BUDGET_KINDS,
    ROLLING,
    SHARES,
    Clock,
    ErrorBudgetIndicator,
    LatencyIndicator,
    PolicyPart,
    RollingPercentile,
    ShareIndicator,
)
from slo.policy.scope import CalendarMonth, Exclusion, Period, Scope
from slo.policy.sla import Sla
from slo.policy.units import (
    Label,
    LatencyUs,
    Money,
    Name,
    OpenPercent,
    Percent,
    SpanS,
    Text,
    Version,
    percent_text,
)

Severity = Literal["page", "ticket"]


Fleet = Literal["fleet"]


# A word for the empty scope, as an empty mapping would look like something forgotten.
def _fleet(found: Any) -> Any:
    return Scope() if found == "fleet" else found


class _Objective(PolicyPart):
    name: Name
    """Unique in its policy; becomes a label."""
    about: Text | None = None
    """What it means, for people."""
    scope: Annotated[Scope, BeforeValidator(_fleet, json_schema_input_type=Fleet | Scope)] = Scope()
    """Which requests: `fleet` for all, or names by dimension and `per`."""
    exclusions: tuple[Exclusion, ...] = ()
    """What does not count for this objective, beside the policy's exclusions."""
    route: Label = "default"
    """Label by which Alertmanager chooses whom to tell."""


class ErrorBudgetObjective(_Objective):
    """An attainment over a period, held against a target: it has an error budget."""

    indicator: ErrorBudgetIndicator
    """What is measured."""
    target: OpenPercent
    """The attainment promised; at the target it is met."""
    period: Period
    """Over which time."""
    severity: Literal["page", "ticket", "none"] = "page"
    """The most urgent alert about its error budget: `page` (and tickets), `ticket`, or `none`."""
    sla: Sla | None = None
    """Credits, if it is a contract."""

    @property
    def error_budget(self) -> Fraction:
        """Share that may fail."""
        return 1 - self.target

    @model_validator(mode="after")
    def _check_indicator(self) -> Self:
        if isinstance(self.indicator, LatencyIndicator):
            _no_customers(self.scope, self.indicator.kind)
        if self.sla is not None:
            if not isinstance(self.period, CalendarMonth):
                raise ValueError("credits are for calendar months; write period: {calendar: month}")
            # The first tier is the mildest, so it has the highest bound (sla.py).
            if self.sla.credit_tiers[0].below > self.target:
                raise ValueError(
                    f"sla: a credit below {percent_text(self.sla.credit_tiers[0].below)} would be "
                    f"due while the target {percent_text(self.target)} is met; lower `below`"
                )
        return self


class LatencyThreshold(PolicyPart):
    """From where on a latency is an alert."""

    severity: Severity
    """How urgent."""
    above_us: LatencyUs = Field(alias="above")
    """Alert if the value is more than this."""
    for_s: SpanS = Field(300, alias="for", json_schema_extra={"default": "5m"})
    """How long it must last."""


class ShareThreshold(PolicyPart):
    """From where on a share is an alert."""

    severity: Severity
    """How urgent."""
    below: Percent
    """Alert if the value is less than this."""
    for_s: SpanS = Field(300, alias="for", json_schema_extra={"default": "5m"})
    """How long it must last."""


class Band(PolicyPart):
    """A range of values with a name, for boards; it raises no alert."""

    name: Text
    """What it is called."""
    from_ratio: Percent = Field(alias="from")
    """Begin, included."""
    to_ratio: Percent = Field(Fraction(1), alias="to", json_schema_extra={"default": "100%"})
    """End, included."""

    @model_validator(mode="after")
    def _is_a_stretch(self) -> Self:
        if self.from_ratio >= self.to_ratio:
            raise ValueError("to is not above from; correct them")
        return self


class LatencyThresholdObjective(_Objective):
    """A latency percentile over a rolling window, held against levels."""

    indicator: RollingPercentile
    """What is measured."""
    levels: tuple[LatencyThreshold, ...] = Field(min_length=1, max_length=2)
    """When to alert, one level a severity."""

    @model_validator(mode="after")
    def _check_indicator(self) -> Self:
        _only_published(self.scope, self.indicator.kind)
        _no_customers(self.scope, self.indicator.kind)
        _page_is_worse([(level.severity, level.above_us) for level in self.levels])
        return self


class ShareThresholdObjective(_Objective):
    """A share over a rolling window, held against levels."""

    indicator: ShareIndicator
    """What is measured."""
    levels: tuple[ShareThreshold, ...] = Field(min_length=1, max_length=2)
    """When to alert, one level a severity."""
    bands: tuple[Band, ...] = ()
    """Names of stretches of values, for boards."""

    @model_validator(mode="after")
    def _check_indicator(self) -> Self:
        _only_published(self.scope, self.indicator.kind)
        # A lower share is worse, so the sign turns.
        _page_is_worse([(level.severity, -level.below) for level in self.levels])
        return self


def _no_customers(scope: Scope, kind: str) -> None:
    # The state has no latencies by customer: their histograms would be its largest part.
    if "customer" in scope.dimensions():
        raise ValueError(
            f"latencies are not kept by customer, so {kind} cannot be; use request_ratio, "
            "minute_verdicts or slice_ratio_mean, or another scope"
        )


def _only_published(scope: Scope, kind: str) -> None:
    if finer := sorted(scope.finer()):
        raise ValueError(
            f"windows are not published by {finer[0]}, so {kind} cannot be; leave it out, or use "
            f"an indicator with a target ({', '.join(ERROR_BUDGET_KINDS)})"
        )


def _page_is_worse(levels: Sequence[tuple[Severity, int | Fraction]]) -> None:
    """Levels as numbers of which more is worse."""
    badness = dict(levels)
    if len(badness) < len(levels):
        raise ValueError("levels: two of one severity; keep one")
    if len(badness) == 2 and badness["page"] <= badness["ticket"]:
        raise ValueError("levels: page is no worse than ticket; swap or correct them")


def _tag(found: Any) -> str | None:
    """Return the class of an entry of `objectives`, by the kind of its indicator."""
    # A policy that is built in Python has objectives, one that is read from a file has mappings.
    if isinstance(found, _Objective):
        return type(found).__name__
    indicator = found.get("indicator") if isinstance(found, Mapping) else None
    kind = indicator.get("kind") if isinstance(indicator, Mapping) else None
    classes = {
        ERROR_BUDGET_KINDS: ErrorBudgetObjective,
        ROLLING: LatencyThresholdObjective,
        SHARES: ShareThresholdObjective,
    }
    return next((of.__name__ for kinds, of in classes.items() if kind in kinds), None)


Objective = Annotated[
    Annotated[ErrorBudgetObjective, Tag("ErrorBudgetObjective")]
    | Annotated[LatencyThresholdObjective, Tag("LatencyThresholdObjective")]
    | Annotated[ShareThresholdObjective, Tag("ShareThresholdObjective")],
    Discriminator(_tag),
]


class Policy(PolicyPart):
    """One file of objectives."""

    version: Version
    """Of this format."""
    name: Name
    """Unique among the policies in force; becomes a label."""
    about: Text | None = None
    """What it is for, for people."""
    source: Text | None = None
    """The contract or document it follows."""
    objectives: tuple[Objective, ...] = Field(min_length=1, max_length=200)
    """What is promised."""
    exclusions: tuple[Exclusion, ...] = ()
    """What does not count for any of them: maintenance, mostly."""

    def error_budget_objectives(self) -> tuple[ErrorBudgetObjective, ...]:
        """The objectives with an error budget."""
        return tuple(one for one in self.objectives if isinstance(one, ErrorBudgetObjective))

    def exclusions_of(self, objective: Objective) -> tuple[Exclusion, ...]:
        """The policy's exclusions and the objective's own."""
        return (*self.exclusions, *objective.exclusions)

    def limits_us(self) -> dict[Clock, tuple[int, ...]]:
        """Latency limits in microseconds, rising, that must be counted exactly to judge it."""
        found: dict[Clock, set[int]] = {clock: set() for clock in get_args(Clock)}
        for objective in self.error_budget_objectives():
            if isinstance(objective.indicator, LatencyIndicator):
                found[objective.indicator.measure].add(objective.indicator.limit_us)
        return {measure: tuple(sorted(limits)) for measure, limits in found.items()}

    def input_limits(self) -> tuple[int, ...]:
        """Return the input lengths in tokens, rising, that the workers must count to judge it."""
        limits = {
            limit for objective in self.objectives for limit in self.input_limits_of(objective)
        }
        return tuple(sorted(limits))

    def input_limits_of(self, objective: Objective) -> tuple[int, ...]:
        """Return the input lengths in tokens, rising, that an objective needs counted."""
        wheres = (objective.scope, *(one.where for one in self.exclusions_of(objective)))
        limits = {
            limit
            for where in wheres
            if where.input_tokens is not None
            for limit in where.input_tokens.limits
        }
        return tuple(sorted(limits))

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        counted = Counter(objective.name for objective in self.objectives)
        if twice := [name for name, count in counted.items() if count > 1]:
            raise ValueError(f"two objectives are called {twice[0]}; rename one")
        return self

    @model_validator(mode="after")
    def _check_credits(self) -> Self:
        bases: dict[str, Money | None] = {}
        for objective in self.error_budget_objectives():
            if objective.sla is not None and objective.sla.greatest_of is not None:
                group = objective.sla.greatest_of
                # Credits are compared as amounts: of different fees, the greatest would not be the
                # worst result.
                if bases.setdefault(group, objective.sla.base) != objective.sla.base:
                    raise ValueError(
                        f"objective {objective.name}: its fee differs from that of the others with "
                        f"greatest_of: {group}; give them one fee"
                    )
        return self

    @model_validator(mode="after")
    def _check_exclusions(self) -> Self:
        for objective in self.objectives:
            # The state has two tables: requests by model, region, channel and tier, and requests by
            # customer and model. An objective is counted from one of them, which lacks the other's
            # names.
            if "customer" not in objective.scope.dimensions():
                unknown = {"customer"}
            else:
                unknown = {"region", "channel", "service_tier"}
            for exclusion in self.exclusions_of(objective):
                wrong: list[str] = sorted(exclusion.where.dimensions() & unknown)
                if "customer" in objective.scope.dimensions():
                    wrong += sorted(exclusion.where.finer())
                if wrong:
                    raise ValueError(
                        f"objective {objective.name}: its requests are not counted by {wrong[0]}, "
                        "so they cannot be excluded by it; change the exclusion's where, or move "
                        "it to the objectives it fits"
                    )
        return self
