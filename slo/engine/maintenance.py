"""Maintenance windows, and closed periods with their later adjustments.

Pure. A window is never edited and never deleted: it is added, and it may be cancelled, both with a
name and a reason, so that the list of windows is its own audit.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from typing import Any

import msgspec

from slo.engine.minute_status import Attainment
from slo.policy.policy import ErrorBudgetObjective, Policy

SEAL_AFTER_S = 86_400  # a period is closed this long after its end, when late events are in
# Longer ones are typing errors of a year or month, and would hide a whole period.
LONGEST_S = 31 * 86_400


@dataclass(frozen=True, slots=True)
class Maintenance:
    """A stretch of whole minutes that does not count; times in seconds since 1970."""

    id: str
    from_s: int
    to_s: int
    author: str
    reason: str
    created_at_s: int
    policy: str | None = None  # None: all policies
    objective: str | None = None  # None: all of the policy
    cancelled_at_s: int | None = None
    cancelled_by: str | None = None
    cancelled_why: str | None = None

    def __post_init__(self) -> None:
        # Minutes are the smallest unit with a status: half of one cannot be excluded.
        if self.from_s % 60 or self.to_s % 60:
            raise ValueError("a window begins and ends with a whole minute")
        if not 0 <= self.from_s < self.to_s <= self.from_s + LONGEST_S:
            raise ValueError("a window ends after it begins, at most 31 days later")
        if not self.author.strip() or not self.reason.strip():
            raise ValueError("a window has an author and a reason")
        if self.objective is not None and self.policy is None:
            raise ValueError("an objective is named together with its policy")

    def covers(self, policy: str, objective: str) -> bool:
        """Return whether the window is in force for an objective."""
        return (
            self.cancelled_at_s is None
            and self.policy in (None, policy)
            and self.objective in (None, objective)
        )

    def cancel(self, by: str, why: str, at_s: int) -> "Maintenance":
        """The same window, out of force."""
        if self.cancelled_at_s is not None:
            raise ValueError(f"{self.id} was cancelled before, by {self.cancelled_by}")
        if not by.strip() or not why.strip():
            raise ValueError("who cancels says who and why")
        return replace(self, cancelled_at_s=at_s, cancelled_by=by, cancelled_why=why)

    def pack(self) -> bytes:
        """Return the bytes for the store."""
        return msgspec.json.encode(asdict(self))

    @classmethod
    def unpack(cls, data: bytes) -> "Maintenance":
        """Read the bytes that `pack` wrote."""
        return cls(**msgspec.json.decode(data))


@dataclass(frozen=True, slots=True)
class Cause:
    """One exclusion in force, from a policy file or by command."""

    id: str
    begin: int  # minutes
    end: int
    author: str
    reason: str


def causes(
    policy: Policy, objective: ErrorBudgetObjective, windows: Iterable[Maintenance]
) -> list[Cause]:
    """All that takes whole minutes out of an objective. Exclusions of some requests are counted
    elsewhere (counting.py)."""
    found = [
        Cause(
            # Without the author and reason, so that a corrected text is no change of the period.
            f"policy:{one.from_s}-{one.to_s}",
            one.from_s // 60,
            one.to_s // 60,
            one.author,
            one.reason,
        )
        for one in policy.exclusions_of(objective)
        if one.from_s is not None and one.to_s is not None and one.where.selects_all
    ]
    found += [
        Cause(one.id, one.from_s // 60, one.to_s // 60, one.author, one.reason)
        for one in windows
        if one.covers(policy.name, objective.name)
    ]
    # Exclusions of the policy and by command are one list for the reader.
    return sorted(found, key=lambda one: (one.begin, one.id))


@dataclass(frozen=True, slots=True)
class ClosedPeriod:
    """Attainment of a period when it was closed; it never changes."""

    begin: int  # minutes
    end: int
    good: Fraction
    counted: int
    closed_at_s: int
    causes: tuple[str, ...]  # ids of the exclusions in force

    @property
    def attainment(self) -> Attainment:
        """As it was."""
        return Attainment(self.good, self.counted)

    def pack(self) -> bytes:
        """Return the bytes for the store; exact."""
        return msgspec.json.encode(
            # As text: not every reader of JSON keeps integers of more than 64 bits, or even 53.
            {**asdict(self), "good": [str(self.good.numerator), str(self.good.denominator)]}
        )

    @classmethod
    def unpack(cls, data: bytes) -> "ClosedPeriod":
        """Read the bytes that `pack` wrote."""
        found: dict[str, Any] = msgspec.json.decode(data)
        numerator, denominator = found.pop("good")
        return cls(
            **{
                **found,
                "good": Fraction(int(numerator), int(denominator)),
                "causes": tuple(found["causes"]),
            }
        )


@dataclass(frozen=True, slots=True)
class ReopenedPeriod:
    """A closed period that an operator opened again, as its counts were not complete; kept."""

    before: ClosedPeriod
    at_s: int
    author: str
    reason: str

    def __post_init__(self) -> None:
        if not self.author.strip() or not self.reason.strip():
            raise ValueError("a period is opened again with an author and a reason")

    def pack(self) -> bytes:
        """Return the bytes for the store."""
        return msgspec.json.encode(
            {
                "before": msgspec.Raw(self.before.pack()),
                "at_s": self.at_s,
                "author": self.author,
                "reason": self.reason,
            }
        )

    @classmethod
    def unpack(cls, data: bytes) -> "ReopenedPeriod":
        """Read the bytes that `pack` wrote."""
        found: dict[str, Any] = msgspec.json.decode(data)
        before = ClosedPeriod.unpack(msgspec.json.encode(found.pop("before")))
        return cls(before=before, **found)


@dataclass(frozen=True, slots=True)
class Adjustment:
    """How a closed period would read today, and why. It stands beside the closed figure."""

    closed_period: ClosedPeriod
    now: Attainment
    because: tuple[str, ...]


def adjustment(
    closed_period: ClosedPeriod,
    now: Attainment,
    in_force: Sequence[Cause],
    windows: Iterable[Maintenance],
) -> Adjustment | None:
    """Return the adjustment of a closed period; None if its attainment is unchanged."""
    if now == closed_period.attainment:
        return None
    because = [
        f"{one.id} by {one.author}: {one.reason}"
        for one in in_force
        # An exclusion that was added after the period was closed.
        if one.id not in closed_period.causes
        and one.begin < closed_period.end
        and closed_period.begin < one.end
    ]
    still = {one.id for one in in_force}
    cancellations = {one.id: one for one in windows if one.cancelled_at_s is not None}
    for gone in closed_period.causes:
        if gone in cancellations:
            one = cancellations[gone]
            because.append(f"{gone} cancelled by {one.cancelled_by}: {one.cancelled_why}")
        elif gone not in still:
            because.append(f"{gone} taken out of the policy")
    # Nothing else changes a closed period: its exclusions are the same, so its counts differ.
    return Adjustment(closed_period, now, tuple(because) or ("events that came late",))


def close_period(
    attained: Attainment, begin: int, end: int, in_force: Iterable[Cause], now_s: int
) -> ClosedPeriod:
    """Return the period, closed with its counts at this moment."""
    # The exclusions of that moment, so that a later adjustment can name what has changed.
    ids = tuple(one.id for one in in_force if one.begin < end and begin < one.end)
    return ClosedPeriod(begin, end, attained.good, attained.counted, now_s, ids)
