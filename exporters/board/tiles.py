"""The numbers of the fleet with their targets and curves. Pure."""

from collections.abc import Callable, Sequence

from exporters.board.breakdown import FleetTargets, availability_state, p95_state
from exporters.board.facts import State, TileValue
from exporters.board.input import BoardInput
from exporters.board.objectives import RANK
from exporters.board.thresholds import ThresholdStatus
from exporters.windows.measured import is_weak
from exporters.windows.minutes import Minute
from slo.policy.conditions import USUAL_MIN_REQUESTS
from slo.policy.indicators import TokenVolumeDrop
from slo.policy.scope import Scope
from slo.policy.targets import Targets

WINDOW = "5m"
LAST_MINUTE = "1m"
_SPARK_AFTER_S = 30.0  # of a shorter part of a minute, late events are too large a share


class TileValues:
    """The numbers of the fleet with their curves; of old data the state is unknown."""

    def __init__(
        self,
        reading: BoardInput,
        targets: Targets,
        limits: FleetTargets,
        statuses: Sequence[ThresholdStatus],
        stale: bool,
    ) -> None:
        self._reading, self._targets, self._limits = reading, targets, limits
        self._statuses, self._stale = statuses, stale
        self._fleet, self._minute = reading.fleet(WINDOW), reading.fleet(LAST_MINUTE)

    def latency(self, latency: str, target_s: float | None) -> TileValue:
        """Return the P95 of a latency, in seconds."""
        # Only streams have a TTFT that could be unknown; the other latencies have no known share.
        state = p95_state(self._fleet, latency, self._limits)
        return self._number(
            self._fleet.p95_s(latency),
            self._fleet.samples.get(latency, 0),
            target_s,
            state,
            lambda minute: minute.measured.p95_s(latency),
            self._fleet.ttft_known_ratio if latency == "ttft" else None,
            self._minute.p95_s(latency),
        )

    def cache_hit(self) -> TileValue:
        """Return the cache hit ratio.

        It is missed below the threshold of the page, at risk below that of the ticket, and unknown
        if it is about less than half of the input tokens.
        """
        known_ratio = self._fleet.cached_known_ratio
        value, targets = self._fleet.cache_hit_ratio, self._targets
        lowest, target = targets.cache_hit_page_ratio, targets.cache_hit_ticket_ratio
        state: State = "ok"
        # A rate of few reporting sources may be far from that of the fleet.
        if value is None or (lowest is None and target is None) or is_weak(known_ratio):
            state = "unknown"
        elif lowest is not None and value < lowest:
            state = "breached"
        elif target is not None and value < target:
            state = "breached" if lowest is None else "at_risk"
        return self._number(
            value,
            self._fleet.cached_of_tokens,
            lowest if target is None else target,
            state,
            lambda minute: minute.measured.cache_hit_ratio,
            known_ratio,
            self._minute.cache_hit_ratio,
        )

    def availability(self) -> TileValue:
        """Return the share of successes among the eligible requests."""
        return self._number(
            self._fleet.availability_ratio,
            self._fleet.eligible,
            self._targets.availability_ratio,
            availability_state(self._fleet, self._limits),
            lambda minute: minute.measured.availability_ratio,
            last_minute=self._minute.availability_ratio,
        )

    def tokens_per_s(self) -> TileValue:
        """Return the rate over the part of the window that is past and in the state."""
        since_ms = [view.meta.since_ms for view in self._reading.views if view.meta.since_ms]
        from_s, to_s = self._reading.spans[WINDOW]
        begin_s = max(from_s, min(since_ms, default=0) / 1_000)
        # The window may end in the future (its last slice is filling) or begin before the state.
        elapsed_s = min(to_s, self._reading.now_s) - begin_s
        # In the first second of a state, a rate would be a multiple of one request.
        tokens = self._fleet.known_tokens
        return self._number(
            tokens / elapsed_s if tokens is not None and elapsed_s >= 1 else None,
            self._fleet.requests,
            None,
            self._volume_state(),
            lambda minute: (
                minute.measured.tokens / minute.elapsed_s
                if minute.elapsed_s >= _SPARK_AFTER_S and minute.measured.requests
                else None
            ),
            self._fleet.tokens_known_ratio,
        )

    def _volume_state(self) -> State:
        """Return the state of the fleet's token volume objective; unknown without one."""
        states: list[State] = [
            status.state
            for status in self._statuses
            # Only the objective of the fleet: a drop of one model is an incident of its own.
            if isinstance(status.objective.indicator, TokenVolumeDrop)
            and status.objective.scope == Scope()
        ]
        return min(states, key=lambda state: RANK[state], default="unknown")

    def _number(
        self,
        value: float | None,
        samples: int,
        target: float | None,
        state: State,
        at: Callable[[Minute], float | None],
        known_ratio: float | None = None,
        last_minute: float | None = None,
    ) -> TileValue:
        spark = tuple(at(minute) for minute in self._reading.minutes)
        # Old numbers are shown, but judge nothing.
        shown_state = "unknown" if self._stale else state
        if not self._is_across(value, last_minute, target):
            last_minute = None
        return TileValue(value, samples, target, shown_state, spark, known_ratio, last_minute)

    def _is_across(
        self, value: float | None, last_minute: float | None, target: float | None
    ) -> bool:
        """Return whether the last minute is on the other side of the target."""
        if value is None or last_minute is None or target is None:
            return False
        # A percentile or a ratio of a few requests says nothing.
        if self._stale or self._minute.requests < USUAL_MIN_REQUESTS:
            return False
        return (value < target) != (last_minute < target)
