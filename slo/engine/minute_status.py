"""Minute status, attainment, and the two ratios of an error budget.

Pure and exact: Fractions, no floats.
"""

from dataclasses import dataclass
from enum import IntEnum
from fractions import Fraction


class MinuteStatus(IntEnum):
    """Status of a minute or a slice; two bits."""

    UNKNOWN = 0
    UP = 1
    DOWN = 2
    EXCLUDED = 3


@dataclass(frozen=True, slots=True)
class Attainment:
    """`good` of `counted`: requests, minutes or slices. Attainments of parts add up."""

    good: Fraction
    counted: int

    def __add__(self, other: "Attainment") -> "Attainment":
        return Attainment(self.good + other.good, self.counted + other.counted)

    @property
    def ratio(self) -> Fraction | None:
        """Good share, 0 to 1. None if no request counted: unknown is not healthy."""
        return self.good / self.counted if self.counted else None


def burn_rate(ratio: Fraction, target: Fraction) -> Fraction:
    """Return the speed at which the error budget is spent; 1 spends it in exactly the period."""
    return (1 - ratio) / (1 - target)


def remaining_budget(ratio: Fraction, target: Fraction) -> Fraction:
    """Return the share of the error budget that is left; negative once the target is missed."""
    return 1 - burn_rate(ratio, target)
