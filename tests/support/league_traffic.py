"""Simulated traffic of an incident, second by second, and the samples that the rules read of it.

Three days of healthy traffic lie behind the start. Counts are by cell (one model in one region) and
step; windows of event time are differences of their running sums, so every window is exact.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from slo.alert_state import SampleKey, Samples, sample_key
from slo.policy.burn_rates import BURN_MINUTES
from streams.state.windows import ROLLING_S

Floats = NDArray[np.float64]

STEP_S = 5
BEFORE_S = 600  # healthy steps before the start; what lies earlier is added as a constant
MODELS = {"large": 0.5, "small": 0.3, "mini": 0.2}  # shares of the traffic
REGIONS = {"eu": 0.5, "us": 0.4, "ap": 0.1}
RATE = 100.0  # requests a second
BASE_FAILING = 0.0002
BASE_SLOW = 0.01
BASE_CACHED = 0.5
INPUT_TOKENS, OUTPUT_TOKENS = 1_000, 200  # of a request
PARTITIONS = 8
TARGET = 0.999  # of the default policy's uptime
COUNTS = ("requests", "failures", "client_errors", "slow", "cached")


@dataclass(slots=True)
class Traffic:
    """Counts by step, and the state of the pipeline by step; changed by the faults."""

    lasts_s: int
    rate: float = RATE
    # Share of the requests of each cell, by step.
    share: dict[str, Floats] = field(default_factory=dict)
    # Changes of the pipeline's samples: from, to, function of (time) -> samples.
    pipeline: list[tuple[float, float, Callable[[float], Samples]]] = field(default_factory=list)
    counted: Floats = field(default_factory=lambda: np.ones(0))
    cells: list[tuple[str, str]] = field(
        default_factory=lambda: [(model, region) for model in MODELS for region in REGIONS]
    )
    times_s: Floats = field(default_factory=lambda: np.zeros(0))

    def __post_init__(self) -> None:
        steps = (BEFORE_S + self.lasts_s) // STEP_S
        self.times_s = np.arange(steps) * float(STEP_S) - BEFORE_S
        shape = (len(self.cells), steps)
        self.share = {
            "volume": np.ones(shape),
            "failing": np.full(shape, BASE_FAILING),
            "client": np.full(shape, 0.01),
            "slow": np.full(shape, BASE_SLOW),
            "cached": np.full(shape, BASE_CACHED),
        }
        self.counted = np.ones(steps)

    def set(self, what: str, value: float, begin_s: float, end_s: float, **place: str) -> None:
        """Set a share of the cells of a place from `begin_s` on until `end_s`."""
        during = (self.times_s >= begin_s) & (self.times_s < end_s)
        for at, (model, region) in enumerate(self.cells):
            if place.get("model", model) == model and place.get("region", region) == region:
                self.share[what][at, during] = value

    def lose(self, share: float, begin_s: float, end_s: float) -> None:
        """Leave a share of all requests uncounted: their partitions have no worker."""
        self.counted[(self.times_s >= begin_s) & (self.times_s < end_s)] = 1 - share

    def counts(self) -> dict[str, Floats]:
        """Return requests, failures, client errors, slow and cached requests by cell and step."""
        base = np.array([MODELS[m] * REGIONS[r] for m, r in self.cells]) * self.rate * STEP_S
        sent = base[:, None] * self.share["volume"] * self.counted
        client = sent * self.share["client"]
        failures = (sent - client) * self.share["failing"]
        good = sent - client - failures
        return {
            "requests": sent,
            "failures": failures,
            "client_errors": client,
            "slow": good * self.share["slow"],
            "cached": good * self.share["cached"],
        }


class Windows:
    """Sums over rolling windows, of cells and of the places that contain them."""

    def __init__(self, traffic: Traffic) -> None:
        self.times_s = traffic.times_s
        healthy = Traffic(STEP_S, traffic.rate).counts()
        self._before = {name: counts[:, 0] / STEP_S for name, counts in healthy.items()}
        self._sums = {
            name: np.concatenate(
                [np.zeros((len(traffic.cells), 1)), np.cumsum(counts, axis=1)], axis=1
            )
            for name, counts in traffic.counts().items()
        }
        self.cells = traffic.cells

    def of(self, now_s: float, window_s: float) -> dict[str, Floats]:
        """Return the sums of each cell over the window that ends at `now_s`."""
        begin_s = now_s - window_s
        first_s = self.times_s[0]
        at, start = (
            int(np.clip((instant - first_s) // STEP_S, 0, len(self.times_s)))
            for instant in (now_s, begin_s)
        )
        early_s = max(0.0, first_s - begin_s)
        return {
            name: sums[:, at] - sums[:, start] + self._before[name] * early_s
            for name, sums in self._sums.items()
        }

    def burn(self, now_s: float, window_s: float, kind: str = "failures") -> float:
        """Return the burn rate of the fleet against TARGET, or of 95 % within the limit."""
        sums = {name: float(counts.sum()) for name, counts in self.of(now_s, window_s).items()}
        if kind == "slow":
            good = sums["requests"] - sums["client_errors"] - sums["failures"]
            return sums["slow"] / good / 0.05 if good else 0.0
        eligible = sums["requests"] - sums["client_errors"]
        return sums["failures"] / eligible / (1 - TARGET) if eligible else 0.0


def samples_at(windows: Windows, traffic: Traffic, now_s: float) -> Samples:
    """Return all samples that the rules of the default policy read, at `now_s`."""
    found: dict[str, dict[SampleKey, float]] = {}

    def add(metric: str, value: float, labels: Mapping[str, str]) -> None:
        found.setdefault(metric, {})[sample_key(labels)] = value

    for window in ("1m", "5m", "1h", "24h"):
        sums = windows.of(now_s, ROLLING_S[window])
        for labels, cells in _places(windows, window):
            _add_place(
                add,
                {**labels, "window": window},
                {name: float(counts[cells].sum()) for name, counts in sums.items()},
            )
    about = {"policy": "default", "objective": "uptime"}
    for window, minutes in BURN_MINUTES.items():
        sums = windows.of(now_s, minutes * 60)
        eligible = float((sums["requests"] - sums["client_errors"]).sum())
        add("tokenpulse_objective_eligible", eligible, about | {"window": window})
        rate = windows.burn(now_s, minutes * 60)
        add("tokenpulse_objective_burn_rate", rate, about | {"window": window})
    add("tokenpulse_objective_attainment_ratio", 0.9995, about)
    for metric, vector in _healthy_pipeline(now_s).items():
        found.setdefault(metric, {}).update(vector)
    for begin_s, end_s, changed in traffic.pipeline:
        if begin_s <= now_s < end_s:
            for metric, vector in changed(now_s).items():
                found.setdefault(metric, {}).update(vector)
    return found


def _places(windows: Windows, window: str) -> list[tuple[dict[str, str], list[int]]]:
    every = list(range(len(windows.cells)))
    places: list[tuple[dict[str, str], list[int]]] = [({"scope": "fleet"}, every)]
    for at, dimension in enumerate(("model", "region")):
        for name in (MODELS, REGIONS)[at]:
            inside = [cell for cell in every if windows.cells[cell][at] == name]
            places.append(({"scope": dimension, dimension: name}, inside))
    if window == "5m":
        for cell, (model, region) in enumerate(windows.cells):
            series = {"model": model, "region": region, "channel": "api", "service_tier": "std"}
            places.append(({"scope": "series", **series}, [cell]))
    return places


def _add_place(
    add: Callable[[str, float, Mapping[str, str]], None],
    labels: Mapping[str, str],
    sums: Mapping[str, float],
) -> None:
    sums = {name: float(round(count)) for name, count in sums.items()}
    eligible = sums["requests"] - sums["client_errors"]
    good = eligible - sums["failures"]
    for outcome, count in (
        ("success", good),
        ("client_error", sums["client_errors"]),
        ("server_error", sums["failures"]),
    ):
        add("tokenpulse_window_requests", count, {**labels, "outcome": outcome})
    add("tokenpulse_window_eligible_requests", eligible, labels)
    if eligible:
        add("tokenpulse_availability_ratio", good / eligible, labels)
    tokens = {
        "cached_input": sums["cached"] * INPUT_TOKENS,
        "uncached_input": (good - sums["cached"]) * INPUT_TOKENS,
        "output": good * OUTPUT_TOKENS,
    }
    for kind, count in tokens.items():
        add("tokenpulse_window_tokens", count, {**labels, "type": kind})
    add("tokenpulse_window_input_tokens", good * INPUT_TOKENS, labels)
    add("tokenpulse_ttft_samples", good, labels)
    add("tokenpulse_tpot_samples", good, labels)
    if good:
        add("tokenpulse_cache_hit_ratio", sums["cached"] / good, labels)
        add("tokenpulse_known_ratio", 1.0, {**labels, "measure": "cached_input"})
        late = sums["slow"] / good
        # Requests are in time or ten times as slow, so the percentile shows which.
        p95_s = 3.0 if late > 0.05 else 0.21
        add("tokenpulse_ttft_seconds", p95_s, {**labels, "quantile": "0.95"})
        add("tokenpulse_tpot_seconds", 0.03, {**labels, "quantile": "0.95"})
        for latency, target, share in (("ttft", "0.3", 1 - late), ("tpot", "0.05", 0.99)):
            limit = {"latency": latency, "target_seconds": target}
            add("tokenpulse_within_target_ratio", share, {**labels, **limit})


def _healthy_pipeline(now_s: float) -> Samples:
    partitions = [sample_key({"partition": str(at)}) for at in range(PARTITIONS)]
    return {
        "tokenpulse_state_readable": {(): 1.0},
        "tokenpulse_exporter_refreshed_timestamp_seconds": {(): now_s - 1},
        "tokenpulse_partition_pulse_timestamp_seconds": dict.fromkeys(partitions, now_s - 1),
        "tokenpulse_partition_checkpoint_timestamp_seconds": dict.fromkeys(partitions, now_s - 1),
        "tokenpulse_partition_lag_records": dict.fromkeys(partitions, 0.0),
        "tokenpulse_partition_freshness_seconds": dict.fromkeys(partitions, 2.0),
        "tokenpulse_lost_records_total": dict.fromkeys(partitions, 0.0),
        "tokenpulse_state_losses_total": dict.fromkeys(partitions, 0.0),
        "tokenpulse_refused_total": {sample_key({"reason": "not_json"}): 0.0},
        "tokenpulse_duplicates_total": {(): 0.0},
        "tokenpulse_requests_total": {sample_key({"model": "large"}): 100 * (now_s + 1e6)},
        **{
            "tokenpulse_window_complete": {
                sample_key({"window": window}): 1.0 for window in ("1m", "1h", "24h")
            }
        },
    }
