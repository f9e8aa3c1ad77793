"""Requests and tokens of one group over a stretch of time, and the ratios of them.

Pure. Whole numbers that add up exactly; ratios are None without anything behind them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from exporters.windows.incremental import CUSTOMER
from streams.events.decoder import ELIGIBLE, OUTCOMES
from streams.state.slices import CUBE_TOKENS_AT, PROBES_AT, TOKENS, TOKENS_AT

ELIGIBLE_AT = [at for at, outcome in enumerate(OUTCOMES) if outcome in ELIGIBLE]
SUCCESS_AT = OUTCOMES.index("success")
INPUT_AT, CACHED_AT, OUTPUT_AT = map(TOKENS.index, ("input", "cached_input", "output"))


@dataclass(frozen=True, slots=True)
class Amounts:
    """Sums of some requests."""

    requests: int = 0  # without probes
    eligible: int = 0  # outcomes an SLA counts, probes included
    successes: int = 0
    input_tokens: int = 0  # cached ones included
    cached_tokens: int = 0
    output_tokens: int = 0

    @classmethod
    def read(cls, scope: str, row: Sequence[int], **more: Any) -> Self:
        """From a row of `Sums.counts` of a scope; `more`: what a subclass has besides."""
        is_customer = scope == CUSTOMER  # customers have no probes
        both_at = (0,) if is_customer else (0, PROBES_AT)
        tokens_at = CUBE_TOKENS_AT if is_customer else TOKENS_AT
        return cls(
            requests=sum(row[:PROBES_AT]),
            eligible=sum(row[first + at] for first in both_at for at in ELIGIBLE_AT),
            successes=sum(row[first + SUCCESS_AT] for first in both_at),
            input_tokens=row[tokens_at + INPUT_AT],
            cached_tokens=row[tokens_at + CACHED_AT],
            output_tokens=row[tokens_at + OUTPUT_AT],
            **more,
        )

    @property
    def failed(self) -> int:
        """Eligible requests that did not succeed."""
        return self.eligible - self.successes

    @property
    def tokens(self) -> int:
        """Input and output."""
        return self.input_tokens + self.output_tokens

    @property
    def availability_ratio(self) -> float | None:
        """Successes of eligible requests."""
        return self.successes / self.eligible if self.eligible else None

    @property
    def cache_hit_ratio(self) -> float | None:
        """Cached of all input tokens."""
        return self.cached_tokens / self.input_tokens if self.input_tokens else None
