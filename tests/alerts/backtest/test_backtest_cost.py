"""What an evaluated stretch costs, and what is skipped without any other result."""

import json
import random
from pathlib import Path

import msgspec
import pytest

from alerts.backtest.recording import Recording
from alerts.backtest.report import report
from alerts.backtest.run import Backtest, minutes_until_s, run, thresholds
from slo.policy.policy import Policy
from streams.config.settings import Settings
from streams.errors import RequestError
from tests.support.backtests import (
    T0,
    UPTIME,
    Event,
    backtested,
    event,
    everything,
    policy,
    samples_of,
    steady,
)
from tests.support.command import run as command


def sparse_days(seed: int, days: float) -> list[Event]:
    """Bursts of a few minutes, hours apart, of two models that fail now and then."""
    chance = random.Random(seed)
    events, at = [], 0.0
    while at < days * 86_400:
        for _ in range(chance.randrange(1, 90)):
            at += chance.expovariate(1 / 3)
            events.append(
                event(
                    T0 + at,
                    model=chance.choice(["large", "small"]),
                    outcome=chance.choice(["success", "success", "success", "timeout"]),
                    ttft_ms=chance.choice([100, 700]),
                    input_tokens=1_000,
                    cached_input_tokens=chance.choice([0, 500]),
                )
            )
        at += chance.choice([30, 700, 4_000, 9_000])
    return events


def long_windows() -> Policy:
    share = {"kind": "cache_hit_ratio", "window": "24h", "min_input_tokens": 20_000}
    level = {"severity": "ticket", "below": "25%", "for": "10s"}
    return everything(
        {"name": "day", "indicator": share, "levels": [level]}, exclusions=[LARGE_EXCLUDED]
    )


LARGE_EXCLUDED = {"where": {"model": ["large"]}, "author": "a", "reason": "r"}


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_only_the_evaluated_slices_cost_an_evaluation_and_their_samples_are_the_same(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was recorded before `from_s` is kept by the minute and added up, not evaluated."""
    of, events = long_windows(), sparse_days(seed, 1.1)
    from_s, to_s = T0 + 90_005, T0 + 91_830
    whole, expected = samples_of(monkeypatch, lambda: backtested(events, of, None, to_s))
    by_minute = minutes_until_s([of], from_s)
    assert by_minute == (from_s - 86_400) // 60 * 60 - 60

    def evaluate_part() -> Backtest:
        recording = Recording(Settings(), thresholds([of], Settings().worker), to_s, by_minute)
        recording.add("test", [msgspec.json.encode(one) for one in events], None)
        assert recording.counted == whole.recording.counted
        return run([of], Settings(), recording, from_s)

    _, pages = samples_of(monkeypatch, evaluate_part)
    assert min(pages) == from_s - 5
    assert max(pages) == to_s
    assert len(pages) <= 1 + 1_830 // 10
    assert pages == {end_s: expected[end_s] for end_s in pages}


def test_the_last_minute_is_judged_without_to() -> None:
    """Minutes are judged once they are over: the end is that of the last event's minute."""
    objective = {**UPTIME, "indicator": {"kind": "minute_verdicts", "down_above": "20%"}}
    events = [*steady(0, 60), *steady(60, 95, outcome="timeout")]
    found = report(backtested(events, policy(objective)))
    assert found["to"] == "2026-01-01T00:02:00Z"
    assert found["promises"][0]["attainment"] == {"ratio": "0.5", "good": "1", "counted": 2}


def test_an_event_in_seconds_is_left_out_and_named(tmp_path: Path) -> None:
    """As milliseconds its time would be in 1970, with half a century of silence after it."""
    wrong = [T0 + 30, (T0 + 30) * 1_000_000, (T0 + 30) * 1_000_000_000]
    events = [*steady(0, 60), *(event(0) | {"ended_at": ended_at} for ended_at in wrong)]
    file = tmp_path / "events.jsonl"
    file.write_text("\n".join(map(json.dumps, events)))
    done = command("backtest", file)
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("2026-01-01T00:00:00Z to 2026-01-01T00:01:00Z: 60 events counted")
    # As `replay` has them, whose worker rejects them.
    assert "3 rejected, 0 duplicates, 0 not mapped" in done.stdout
    assert done.stderr.splitlines() == [
        f"{file}: line {60 + at}: rejected, out_of_range: ended_at: looks like {unit}; "
        "send milliseconds"
        for at, unit in enumerate(["seconds", "microseconds", "nanoseconds"], 1)
    ]


def test_decades_between_two_events_end_with_a_message() -> None:
    events = [*steady(0, 60), event(T0 - 10 * 365 * 86_400)]
    with pytest.raises(RequestError, match="between 2016-01-04T00:00:00Z and 2026-01-01T00:01:00Z"):
        backtested(events, policy(UPTIME))
    assert backtested(events, policy(UPTIME), from_s=T0).from_s == T0


def test_latencies_before_the_evaluated_stretch_count_for_the_budget(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    objective = {
        "name": "quick",
        "indicator": {"kind": "latency_ratio", "measure": "ttft", "limit": "300ms"},
        "target": "90%",
        "period": {"rolling_days": 30},
    }
    of, events = policy(objective), sparse_days(3, 1.1)
    from_s = T0 + 90_000
    _, expected = samples_of(monkeypatch, lambda: backtested(events, of))

    def evaluate_part() -> Backtest:
        by_minute = minutes_until_s([of], from_s)
        assert by_minute > T0
        recording = Recording(Settings(), thresholds([of], Settings().worker), None, by_minute)
        recording.add("test", [msgspec.json.encode(one) for one in events], None)
        return run([of], Settings(), recording, from_s)

    _, pages = samples_of(monkeypatch, evaluate_part)
    last_s = max(pages)
    assert pages[last_s] == expected[last_s]
    assert "tokenpulse_objective_attainment_ratio" in pages[last_s]
