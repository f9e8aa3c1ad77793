"""Comparisons of measures with a recount."""

from typing import Any

from streams.events.decoder import ELIGIBLE, OUTCOMES
from streams.state.slices import LATENCIES, TOKENS
from tests.support.oracle import Row, nearest_rank

PERCENTS = {"p50": 50, "p90": 90, "p95": 95, "p99": 99, "max": 100}


def must(
    rows: list[Row], refused: list[str] | tuple[Any, ...] = (), duplicates: int = 0
) -> dict[str, Any]:
    """The measures of some rows; latencies are exact values, as {name: sorted nanoseconds}."""
    real = [row for row in rows if not row.probe]
    found: dict[str, Any] = {
        "requests": len(real),
        "outcomes": {name: sum(row.outcome == name for row in real) for name in OUTCOMES},
        "refused": {reason: list(refused).count(reason) for reason in refused},
        "duplicates": duplicates,
        "tokens": {name: sum(row.tokens[name] for row in rows) for name in TOKENS},
    }
    found["tokens"]["total"] = found["tokens"]["input"] + found["tokens"]["output"]
    if found["tokens"]["input"]:
        found["cache_hit_ratio"] = found["tokens"]["cached_input"] / found["tokens"]["input"]
    eligible = [row for row in rows if row.outcome in ELIGIBLE]
    if eligible:
        good = [row for row in eligible if row.outcome == "success"]
        found["availability_ratio"] = len(good) / len(eligible)
    return found


def agrees(
    found: dict[str, Any],
    rows: list[Row],
    refused: list[str] | tuple[Any, ...] = (),
    duplicates: int = 0,
) -> bool:
    """Everything is as counted; percentiles are the nearest-rank value, or up to 1/128 more."""
    found = dict(found)
    for name in LATENCIES if rows else ():
        latency = found.pop(f"{name}_seconds")
        values = [row.latencies_ns[name] for row in rows if name in row.latencies_ns]
        assert latency.pop("count") == len(values)
        assert set(latency) == (set(PERCENTS) if values else set())
        for label, seconds in latency.items():
            true_s = nearest_rank(values, PERCENTS[label]) / 1e9
            assert true_s <= seconds <= true_s * (1 + 1 / 128)
    assert found == must(rows, refused, duplicates)
    return True
