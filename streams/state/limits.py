"""Limits and thresholds of counting, taken from a worker's settings.

Pure. Workers, backtests and test oracles all take them from here, so that they count alike.
"""

from collections.abc import Mapping

from streams.config.settings import Worker
from streams.events.decoder import EventLimits
from streams.state.registry import CustomerTokens, NameLimits, ReservedNames, customer_hasher
from streams.state.slices import HORIZON_S, Thresholds

NO_NAMES = ReservedNames()


def name_limits(worker: Worker, reserved: ReservedNames = NO_NAMES) -> NameLimits:
    """Return the largest numbers of names, and the names that always have rows of their own."""
    limits = worker.limits
    return NameLimits(
        limits.models,
        limits.regions,
        limits.channels,
        limits.service_tiers,
        limits.series,
        limits.customers,
        limits.customer_models,
        reserved,
        worker.future_tolerance_s * 1_000,
    )


def customer_tokens(worker: Worker, kept: Mapping[str, str]) -> CustomerTokens:
    """Return the tokens of customers; `kept`: of an earlier key, as the store has them.

    Raises ConfigError if a key is missing or cannot be used.
    """
    previous = worker.previous_customer_secret()
    return CustomerTokens(
        customer_hasher(worker.customer_secret()),
        None if previous is None else customer_hasher(previous),
        kept,
    )


def event_limits(worker: Worker) -> EventLimits:
    """Return the limits of an event: its size, time, input length and names."""
    return EventLimits(
        max_event_bytes=worker.max_event_bytes,
        future_tolerance_ms=worker.future_tolerance_s * 1_000,
        horizon_ms=HORIZON_S * 1_000,
        input_limits=tuple(sorted(set(worker.input_token_limits))),
        names_last_part=worker.names_last_part,
    )


def token_time_us(tokens_per_s: float) -> int:
    """Return the time per token, in whole microseconds, at or under which a speed is reached."""
    # Rounded down: at this time per token the speed is still reached.
    return int(10**6 // tokens_per_s)


def thresholds_of(worker: Worker) -> Thresholds:
    """Latencies that are counted exactly."""
    return Thresholds.of_seconds(
        worker.ttft_targets_s,
        worker.tpot_targets_s,
        worker.duration_targets_s,
        worker.first_visible_targets_s,
        [token_time_us(speed) / 1e6 for speed in worker.output_speed_targets],
    )
