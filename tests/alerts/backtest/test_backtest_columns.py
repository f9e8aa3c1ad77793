"""All instants at once give the alerts and samples of one instant after another."""

import random
from typing import Any

import msgspec
import pytest

from alerts.backtest.recording import Recording
from alerts.backtest.run import input_limits, minutes_until_s, run, thresholds
from alerts.evaluation.evaluator import RuleEvaluator, request_groups
from slo.policy.policy import Policy
from streams.config.settings import Settings
from tests.support.backtests import T0, UPTIME, Event, event, everything, samples_of
from tests.support.direct_backtest import DirectBacktest

SETTINGS = Settings.model_validate({"exporter": {"customers_top": 4}})
ROLLING = {"period": {"rolling_days": 7}}
BY_MODEL = {"scope": {"per": "model"}}


def latency(name: str, **indicator: Any) -> dict[str, Any]:
    limit = {"measure": "ttft", "limit": "300ms", **indicator}
    return {"name": name, "target": "95%", "indicator": {"kind": "latency_ratio", **limit}}


OBJECTIVES = (
    latency("by-model") | ROLLING | BY_MODEL,
    latency("visible", measure="first_visible", limit="1s") | ROLLING,
    latency("by-tier") | ROLLING | {"scope": {"per": "service_tier"}},
    {
        "name": "speed",
        "target": "90%",
        "indicator": {"kind": "slice_speed", "of": "output_speed", "tokens_per_s": 30},
        **ROLLING,
    },
    {
        "name": "attempts",
        "target": "99%",
        "indicator": {
            "kind": "request_ratio",
            "view": "provider",
            "error_classes": ["auth", "not_found"],
        },
        **ROLLING,
        **BY_MODEL,
    },
    UPTIME | {"name": "customers", "scope": {"per": "customer"}},
    UPTIME | {"name": "short", "scope": {"input_tokens": {"at_most": 1_500}}},
    {
        "name": "slices",
        "target": "99%",
        "period": {"calendar": "month"},
        "indicator": {"kind": "slice_ratio_mean", "slice": "5m"},
        "scope": {"requested_service_tier": ["priority"]},
    },
    {
        "name": "day",
        "indicator": {"kind": "cache_hit_ratio", "window": "24h", "min_input_tokens": 20_000},
        "levels": [{"severity": "ticket", "below": "45%", "for": "10s"}],
    },
)


def exclusion(begin_s: int, end_s: int, **where: Any) -> dict[str, Any]:
    span = [
        f"2026-01-0{1 + at // 86_400}T{at % 86_400 // 3_600:02}:{at % 3_600 // 60:02}:00Z"
        for at in (begin_s, end_s)
    ]
    return {"from": span[0], "to": span[1], "author": "a", "reason": "r", **where}


def traffic(seed: int, spans: list[tuple[int, int]]) -> list[Event]:
    """Return requests of every kind within some spans of seconds after T0; moods change."""
    chance = random.Random(seed)
    events: list[Event] = []
    for begin_s, end_s in spans:
        at = float(begin_s)
        while at < end_s:
            mood = chance.choice(["well", "slow", "failing", "refused", "unreported", "silent"])
            until = min(at + chance.choice([30, 90, 200]), end_s)
            while at < until:
                at += chance.expovariate(1.5)
                if mood != "silent":
                    events.append(_request(chance, at, mood, f"r{len(events)}"))
    return events


def _request(chance: random.Random, at_s: float, mood: str, request_id: str) -> Event:
    is_bad = chance.random() < 0.8
    outcome = {"failing": "timeout", "refused": "client_error"}.get(
        mood if is_bad else "", "success"
    )
    request = event(
        T0 + at_s,
        request_id=request_id,
        model=chance.choice(["large", "large", "small"]),
        region=chance.choice(["eu", "us"]),
        customer_id=f"c{int(chance.random() ** 2 * 8)}",
        service_tier=chance.choice(["default", "default", "batch"]),
        requested_service_tier=chance.choice(["priority", "default"]),
        outcome=outcome,
        ttft_ms=700 if mood == "slow" and is_bad else 100,
        duration_ms=2_000,
        input_tokens=chance.choice([100, 1_000, 3_000]),
        output_tokens=chance.choice([1, 30, 100]),
    )
    if outcome == "client_error":
        request["error_class"] = chance.choice(["auth", "not_found", "invalid"])
    if mood != "unreported" and chance.random() < 0.9:
        request["cached_input_tokens"] = chance.choice([0, 50])
    if chance.random() < 0.3:
        request["first_visible_token_ms"] = request["ttft_ms"] + chance.choice([1, 900])
    if chance.random() < 0.1:
        request |= {"attempt_of": "first", "final": chance.random() < 0.5}
    if chance.random() < 0.05:
        request["is_probe"] = True
    if chance.random() < 0.05:
        request["served_from"] = "response_cache"
    return request


def recorded(events: list[Event], policies: list[Policy], minutes_until: int) -> Recording:
    worker = SETTINGS.worker
    limits = thresholds(policies, worker), input_limits(policies, worker)
    recording = Recording(SETTINGS, limits[0], None, minutes_until, limits[1])
    recording.add("test", [msgspec.json.encode(one) for one in events], None)
    assert recording.counted == len(events)
    return recording


@pytest.mark.parametrize(
    ("seed", "spans", "from_s"),
    [
        pytest.param(1, [(7, 700)], None, marks=pytest.mark.slow),
        (2, [(1_003, 1_500)], 1_206),
        # Windows of a day, of minutes and hours that are added up, and events too old for them.
        pytest.param(
            *(3, [(0, 300), (4_000, 4_400), (80_000, 80_500), (90_000, 90_400)], 90_101),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_all_instants_at_once_are_those_one_after_another(
    seed: int, spans: list[tuple[int, int]], from_s: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    last_s = spans[-1][1] - 240
    begin_s, end_s = last_s // 60 * 60, last_s // 60 * 60 + 60
    partial = exclusion(begin_s - 60, end_s, where={"model": ["small"]})
    of = everything(*OBJECTIVES, exclusions=[partial, exclusion(begin_s - 120, begin_s)])
    events, since_s = traffic(seed, spans), None if from_s is None else T0 + from_s
    recording = recorded(events, [of], minutes_until_s([of], since_s))
    result, by_end = samples_of(monkeypatch, lambda: run([of], SETTINGS, recording, since_s))
    direct = DirectBacktest([of], SETTINGS, recorded(events, [of], 0), result.from_s)
    assert by_end.keys() == direct.samples.keys()
    wants = RuleEvaluator(request_groups([of])).wants
    for end_s, samples in by_end.items():
        read = {
            metric: {key: value for key, value in vector.items() if wants(metric, key)}
            for metric, vector in direct.samples[end_s].items()
        }
        assert samples == {metric: vector for metric, vector in read.items() if vector}, end_s - T0
    assert [watched.episodes() for watched in result.watched] == direct.episodes
    assert [watched.timeline.unfired for watched in result.watched] == direct.unfired
    assert [one.worst for one in result.objectives] == [one.worst for one in direct.objectives]
    fired = {watched.alert.name for watched in result.watched if watched.episodes()}
    assert len(fired) >= 4
