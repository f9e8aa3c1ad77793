"""Recorded events, and the alerts that a backtest finds in them."""

import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from alerts.backtest.recording import Recording
from alerts.backtest.run import Backtest, Evaluation, input_limits, run, thresholds
from alerts.backtest.stack import STEP_S
from alerts.evaluation.matrix import Families
from slo.alert_state import Samples
from slo.policy.loading import as_policy
from slo.policy.policy import Policy
from streams.config.settings import Settings
from streams.state.tables import Ints

T0 = 1_767_225_600  # 2026-01-01T00:00:00Z
Event = dict[str, Any]


def policy(*objectives: dict[str, Any], **more: Any) -> Policy:
    document = {"version": 1, "name": "p", "objectives": [*objectives], **more}
    return as_policy(document, "here")


def ttft(for_: str = "20s", **more: Any) -> dict[str, Any]:
    """P95 of a minute over 300 ms, of at least 10 samples; a minute has no shorter window."""
    indicator = {"kind": "rolling_percentile", "measure": "ttft", "percentile": 95}
    return {
        "name": "ttft",
        "indicator": {**indicator, "window": "1m", "min_samples": 10},
        "levels": [{"severity": "page", "above": "300ms", "for": for_}],
        **more,
    }


UPTIME = {
    "name": "uptime",
    "indicator": {"kind": "request_ratio"},
    "target": "99.9%",
    "period": {"rolling_days": 30},
}


def event(at_s: float, **more: Any) -> Event:
    """A request that went well, unless `more` says else."""
    return {
        "request_id": f"r-{at_s}-{more.get('model')}-{more.get('outcome')}",
        "ended_at": round(at_s * 1_000),
        "model": "large",
        "outcome": "success",
        "stream": True,
        "ttft_ms": 100,
        "input_tokens": 10,
        **more,
    }


def steady(begin_s: int, end_s: int, **more: Any) -> list[Event]:
    """One request a second, a little after the second."""
    return [event(T0 + at + 0.5, **more) for at in range(begin_s, end_s)]


def recorded(events: list[Event], of: Policy, to_s: int | None = None) -> Recording:
    worker = Settings().worker
    recording = Recording(
        Settings(), thresholds([of], worker), to_s, input_limits=input_limits([of], worker)
    )
    recording.add("test", [msgspec.json.encode(one) for one in events], None)
    return recording


def backtested(
    events: list[Event], of: Policy, from_s: int | None = None, to_s: int | None = None
) -> Backtest:
    return run([of], Settings(), recorded(events, of, to_s), from_s)


def samples_of(
    monkeypatch: pytest.MonkeyPatch, run_it: Callable[[], Backtest]
) -> tuple[Backtest, dict[int, Samples]]:
    """Run a backtest; also return the samples that rules read, by end of the evaluated slice."""
    by_end: dict[int, Samples] = {}
    families_of = Evaluation.families

    def kept(self: Evaluation, begin: int, ends: Ints, until: int) -> Families:
        families = families_of(self, begin, ends, until)
        for at, end in enumerate(ends.tolist()):
            by_end[self.origin_s + end * STEP_S] = {
                metric: vector
                for metric, matrix in families.items()
                if (vector := matrix.vector(at))
            }
        return families

    with monkeypatch.context() as patch:
        patch.setattr(Evaluation, "families", kept)
        return run_it(), by_end


def of_rule(found: Backtest, name: str, **labels: str) -> Any:
    """The one rule of this name and these labels."""
    (one,) = (
        watched
        for watched in found.watched
        if watched.alert.name == name and labels.items() <= watched.alert.labels.items()
    )
    return one


#
# One request a second; P95 of the last minute, of 60 requests: over as soon as 4 of them are slow
# (rank 57 of 60). Numbers change every 10 s, so what begins at 120 is seen at 130.
#
#   seconds    0 ....... 120 ...... 180 ......................... 600
#   requests   fast       slow       fast
#   P95 over              130 ....................... 230 | 240: the slow ones have left
#   pending               130 -> 150 (for 20 s)
#   firing                      150 .......................... 300 (240 + 60 s kept firing)

SLOW = [*steady(0, 120), *steady(120, 180, ttft_ms=900), *steady(180, 600)]


def bad_day(seed: int) -> list[Event]:
    """Twenty minutes of two models that take turns being slow, failing and silent."""
    chance = random.Random(seed)
    events = []
    for model in ("large", "small"):
        at = 0.0
        while at < 1_200:
            mood = chance.choice(["well", "well", "slow", "failing", "silent"])
            until = at + chance.choice([20, 45, 70, 150])
            while at < until:
                at += chance.uniform(0.2, 1.2)
                is_bad = chance.random() < 0.7
                if mood != "silent":
                    events.append(
                        event(
                            T0 + at,
                            model=model,
                            ttft_ms=700 if mood == "slow" and is_bad else 100,
                            outcome="timeout" if mood == "failing" and is_bad else "success",
                            input_tokens=1_000,
                            cached_input_tokens=chance.choice([0, 500]),
                        )
                    )
    return events


def everything(*others: dict[str, Any], **more: Any) -> Policy:
    share = {"kind": "cache_hit_ratio", "window": "1m", "min_input_tokens": 20_000}
    drop = {"kind": "token_volume_drop", "window": "1m", "baseline": "5m"}
    by_model = {"per": "model"}
    return policy(
        ttft("15s", scope=by_model),
        {**ttft("10s", scope={"model": ["large", "small"]}), "name": "both"},
        {**UPTIME, "scope": by_model},
        {
            "name": "cache",
            "scope": by_model,
            "indicator": share,
            "levels": [{"severity": "ticket", "below": "25%", "for": "10s"}],
        },
        {
            "name": "volume",
            "indicator": {**drop, "min_baseline_tokens": 100_000},
            "levels": [{"severity": "page", "below": "60%", "for": "5s"}],
        },
        {
            "name": "minutes",
            "target": "99%",
            "period": {"calendar": "month"},
            "indicator": {"kind": "minute_verdicts", "down_above": "20%"},
            "sla": {"credit_tiers": [{"below": "95%", "credit": "10%"}]},
        },
        *others,
        **more,
    )
