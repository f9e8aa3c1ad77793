"""Why the attainment of an objective is unknown: one reason, in a word and in a sentence.

Pure. Times are minutes since 1970.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import numpy as np

from slo.engine.minute_counts import Bools, Completeness, MinuteSpan
from slo.policy.indicators import LatencyIndicator, LatencyRatio, RequestRatio
from slo.policy.policy import ErrorBudgetObjective
from slo.policy.units import latency_text

UnknownCode = Literal[
    "limit_not_counted",
    "input_length_not_counted",
    "excluded",
    "no_requests",
    "incomplete",
    "too_few",
    "names_folded",
]


@dataclass(frozen=True, slots=True)
class UnknownReason:
    """Why an attainment is unknown."""

    code: UnknownCode
    words: str  # one sentence without a full stop


@dataclass(frozen=True, slots=True)
class CountGaps:
    """Requests of an objective that the workers did not count: first and newest such minute."""

    limit: tuple[int, int] | None = None  # measured latencies, but not by the objective's limit
    input_length: tuple[int, int] | None = None  # requests, but not by its limits of input tokens

    def with_limit(self, minute: int) -> "CountGaps":
        """Return the gaps with one more minute in which the limit was not counted."""
        return CountGaps(_widen(self.limit, minute), self.input_length)

    def with_input_length(self, minute: int) -> "CountGaps":
        """Return the gaps with one more minute in which input lengths were not counted."""
        return CountGaps(self.limit, _widen(self.input_length, minute))


NO_GAPS = CountGaps()
NAMES_FOLDED = UnknownReason(
    "names_folded",
    "a part of its requests may be counted under __other__, as there are more names than "
    "worker.limits allows",
)


def unknown_reason(
    objective: ErrorBudgetObjective, span: MinuteSpan, is_excluded: Bools, gaps: CountGaps
) -> UnknownReason:
    """Return why an objective without an attainment has none.

    `span`: the period so far. `is_excluded`: its excluded minutes.
    """
    counted = np.flatnonzero(span.counts[:, 0])
    newest = span.begin + int(counted[-1]) if len(counted) else -1
    # Requests that were not counted look like no requests, so this reason is looked for first.
    if gap := _gap(objective, gaps, newest):
        return gap
    total = int(span.counts[:, 0].sum(dtype=np.int64)) + int(span.rest[:, 0].sum(dtype=np.int64))
    kind = "measured request" if isinstance(objective.indicator, LatencyIndicator) else "request"
    since = f"since {_instant(span.begin)}"
    if len(is_excluded) and is_excluded.all():
        return UnknownReason("excluded", f"all minutes {since} are excluded")
    if not total:
        return UnknownReason("no_requests", f"no {kind} that counts has ended {since}")
    least = objective.indicator.min_samples
    # These judge sums of requests; the others judge minutes or slices, which must be whole.
    if isinstance(objective.indicator, RequestRatio | LatencyRatio):
        inside = int(span.counts[~is_excluded, 0].sum(dtype=np.int64))
        return UnknownReason("too_few", f"{inside:,} {kind}s {since}, and {least:,} are needed")
    if not ((span.seen == Completeness.WHOLE) & ~is_excluded).any():
        return UnknownReason("incomplete", f"no minute {since} was counted whole")
    return UnknownReason("too_few", f"no minute or slice {since} is whole with {least:,} {kind}s")


def _gap(objective: ErrorBudgetObjective, gaps: CountGaps, newest: int) -> UnknownReason | None:
    """Return the gap that is newer than the newest counted minute, if there is one."""
    indicator = objective.indicator
    if gaps.limit is not None and isinstance(indicator, LatencyIndicator):
        first, last = gaps.limit
        # A gap that counted minutes follow is over: the limit was added to the workers since.
        if last >= newest:
            limit = latency_text(indicator.limit_us)
            return UnknownReason(
                "limit_not_counted",
                f"the workers do not count {indicator.measure} within {limit} (not since "
                f"{_instant(first)}); add {indicator.limit_us / 1e6:g} to "
                f"worker.{indicator.measure}_targets_s",
            )
    if gaps.input_length is not None and gaps.input_length[1] >= newest:
        return UnknownReason(
            "input_length_not_counted",
            "the workers do not count the input lengths of its scope (not since "
            f"{_instant(gaps.input_length[0])}); add its limits to worker.input_token_limits",
        )
    return None


def _widen(gap: tuple[int, int] | None, minute: int) -> tuple[int, int]:
    return (minute, minute) if gap is None else (min(gap[0], minute), max(gap[1], minute))


def _instant(minute: int) -> str:
    return datetime.fromtimestamp(minute * 60, UTC).strftime("%Y-%m-%d %H:%M UTC")
