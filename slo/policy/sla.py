"""Credits for a missed objective: credit tables, and the fees they are a share of.

Pure. Shares are Fractions, amounts Decimal.
"""

from itertools import pairwise
from typing import Self

from pydantic import Field, field_validator, model_validator

from slo.policy.indicators import PolicyPart
from slo.policy.units import Amount, Count, Money, Name, OpenPercent, Percent, percent_text


class CreditTier(PolicyPart):
    """One line of a credit table."""

    below: OpenPercent
    """Attainment under which this credit is due."""
    credit: Percent
    """Share of the fee."""


class Sla(PolicyPart):
    """The credit due to the customer if the objective is missed."""

    credit_tiers: tuple[CreditTier, ...] = Field(min_length=1, max_length=16)
    """The credit table, mildest first; the last tier that fits decides."""
    monthly_fee: Amount | None = None
    """What the customer pays for the month; without it and `committed_spend`, the commitment in
    the customer directory."""
    committed_spend: Amount | None = None
    """What the customer committed to spend in a month."""
    min_credit: Amount | None = None
    """A credit is due only if it is more than this."""
    greatest_of: Name | None = None
    """Of all objectives of this policy with the same word here, only the greatest credit counts."""
    claim_days: Count | None = Field(None, ge=1, le=365)
    """Days after the end of the month within which the customer must claim."""

    @property
    def base(self) -> Money | None:
        """The amount that credits are a share of; None: see the customer directory."""
        return self.monthly_fee or self.committed_spend

    @field_validator("credit_tiers")
    @classmethod
    def _tiers_get_worse(cls, tiers: tuple[CreditTier, ...]) -> tuple[CreditTier, ...]:
        # The last tier that fits decides: out of order, a mild credit would hide a greater one.
        for milder, worse in pairwise(tiers):
            if worse.below >= milder.below or worse.credit <= milder.credit:
                raise ValueError(
                    f"below {percent_text(worse.below)} comes after below "
                    f"{percent_text(milder.below)}; each tier has a lower `below` and a higher "
                    "`credit` than the one before it"
                )
        return tiers

    @model_validator(mode="after")
    def _one_base(self) -> Self:
        if self.monthly_fee is not None and self.committed_spend is not None:
            raise ValueError("give monthly_fee or committed_spend, not both")
        # Without a fee here the customer directory has the currency, which is compared at each
        # credit.
        amounts = [self.base, self.min_credit]
        if len({amount.currency for amount in amounts if amount is not None}) > 1:
            raise ValueError("min_credit is in another currency than the fee; use one")
        return self
