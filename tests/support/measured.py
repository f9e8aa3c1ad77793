"""Comparisons of measures with a recount."""

from collections import Counter
from typing import Any

from streams.events.fields import CLIENT_CLASSES, ELIGIBLE, ENDINGS, OUTCOMES
from streams.state.slices import KNOWN, LATENCIES, TOKENS
from tests.support.oracle_counts import Row, nearest_rank

PERCENTS = {"p50": 50, "p90": 90, "p95": 95, "p99": 99, "max": 100}


def must(
    rows: list[Row],
    refused: list[str] | tuple[Any, ...] = (),
    duplicates: int = 0,
    faults: dict[str, dict[str, int]] | None = None,
    ttft: bool = False,
) -> dict[str, Any]:
    """Return the measures of some rows without their latencies."""
    real = [row for row in rows if not row.probe and row.final]
    counted = [row for row in rows if row.final]
    counters = Counter[str]()
    for row in rows:
        counters.update(row.counters)
    found: dict[str, Any] = {
        "requests": len(real),
        "outcomes": {name: sum(row.outcome == name for row in real) for name in OUTCOMES},
        "refused": {reason: list(refused).count(reason) for reason in refused},
        "duplicates": duplicates,
        "field_faults": faults or {},
        "tokens": {name: sum(row.tokens[name] for row in rows) for name in TOKENS},
    }
    found["tokens"]["total"] = found["tokens"]["input"] + found["tokens"]["output"]
    known = {name: sum(row.known[name] for row in rows) for name in KNOWN}
    found["known"] = {name: known[name] for name in ("tokens", "cached_input", "cached_input_of")}
    found["estimated"] = {"requests": known["estimated"], "tokens": known["estimated_tokens"]}
    found["response_cache"] = known["response_cache"]
    found["provider"] = provider_of(rows, found["tokens"], counters)
    failed = sum(row.outcome in ELIGIBLE and row.outcome != "success" for row in real)
    streams = {name: counters[f"failed_{name}"] for name in ("streamed", "unstreamed")}
    found["failures"] = streams | {"unknown": failed - sum(streams.values())}
    found["client_errors"] = {
        name: counters[f"client_{name}"] for name in CLIENT_CLASSES if counters[f"client_{name}"]
    }
    found["endings"] = {
        name: {
            "requests": counters[f"ending_{name}"],
            "output_tokens": counters[f"output_tokens_{name}"],
        }
        for name in ENDINGS
        if counters[f"ending_{name}"]
    }
    found["tier_changed"] = counters["tier_changed"]
    answered = found["outcomes"]["success"] - known["response_cache"]
    shares = {
        "tokens": (known["tokens"], answered),
        "cached_input": (known["cached_input_of"], found["tokens"]["input"]),
    }
    if ttft:
        timed = sum("ttft" in row.latencies_ns for row in rows)
        shares["ttft"] = (timed, known["streamed"])
    found["known_ratio"] = {name: part / of for name, (part, of) in shares.items() if of}
    if known["cached_input_of"]:
        found["cache_hit_ratio"] = found["tokens"]["cached_input"] / known["cached_input_of"]
    eligible = [row for row in counted if row.outcome in ELIGIBLE]
    if eligible:
        good = [row for row in eligible if row.outcome == "success"]
        found["availability_ratio"] = len(good) / len(eligible)
    return found


def provider_of(rows: list[Row], tokens: dict[str, int], counters: Counter[str]) -> dict[str, Any]:
    """Return the measures of all attempts that a provider was asked for."""
    rows = [row for row in rows if not row.known["response_cache"]]
    attempts = [row for row in rows if not row.probe]
    spent = {name: tokens[name] + counters[f"attempt_{name}"] for name in TOKENS}
    found: dict[str, Any] = {
        "attempts": len(attempts),
        "outcomes": {name: sum(row.outcome == name for row in attempts) for name in OUTCOMES},
        "tokens": {**spent, "total": spent["input"] + spent["output"]},
    }
    if eligible := [row.outcome for row in rows if row.outcome in ELIGIBLE]:
        found["availability_ratio"] = eligible.count("success") / len(eligible)
    return found


def agrees(
    found: dict[str, Any],
    rows: list[Row],
    refused: list[str] | tuple[Any, ...] = (),
    duplicates: int = 0,
    faults: dict[str, dict[str, int]] | None = None,
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
    assert found == must(rows, refused, duplicates, faults, ttft=bool(rows))
    return True


def faults_of_rows(rows: list[Row]) -> dict[str, dict[str, int]]:
    """Return the faults of some rows as field -> reason -> records."""
    found: dict[str, dict[str, int]] = {}
    for field, reason in (fault for row in rows for fault in row.faults):
        reasons = found.setdefault(field, {})
        reasons[reason] = reasons.get(reason, 0) + 1
    return found
