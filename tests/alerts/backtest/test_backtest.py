"""Alerts of recorded hours, counted by hand, and the same alerts by Prometheus itself."""

import random
from collections import defaultdict
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from alerts.backtest import recording as backtest_events
from alerts.backtest.recording import Recording
from alerts.backtest.report import lines, report
from alerts.backtest.run import Backtest, run, thresholds
from alerts.rules.build import build
from alerts.rules.model import EVERY_S
from slo.alert_state import Samples
from streams.config.settings import Settings
from tests.support.backtests import (
    SLOW,
    T0,
    UPTIME,
    Event,
    backtested,
    bad_day,
    event,
    everything,
    of_rule,
    policy,
    samples_of,
    steady,
    ttft,
)
from tests.support.promtool import check_alerts, labels_text, needs_promtool, series_text


def told(found: Backtest, objective: str = "ttft") -> list[tuple[int, int, int | None]]:
    """(pending, fired, resolved) of an objective's alerts, in seconds after T0."""
    return [
        (
            one.pending_at_s - T0,
            one.fired_at_s - T0,
            None if one.resolved_at_s is None else one.resolved_at_s - T0,
        )
        for watched in found.watched
        if watched.alert.labels.get("objective") == objective
        for one in watched.episodes()
    ]


def test_an_alert_fires_after_its_for_and_ends_when_the_slow_minute_has_left_the_window() -> None:
    found = backtested(SLOW, policy(ttft()))
    assert told(found) == [(130, 150, 300)]
    (episode,) = of_rule(found, "TokenpulseTtftHigh").episodes()
    assert episode.worst == pytest.approx(0.9, rel=0.01)


def test_what_lasts_less_than_for_is_no_page_but_is_counted() -> None:
    found = backtested(SLOW, policy(ttft("2m")))
    assert told(found) == []
    assert of_rule(found, "TokenpulseTtftHigh").timeline.unfired == 1


def test_below_the_samples_nobody_is_told() -> None:
    sparse = [event(T0 + at, ttft_ms=900) for at in range(0, 600, 7)]  # 8 or 9 a minute
    assert told(backtested(sparse, policy(ttft()))) == []
    dense = [event(T0 + at, ttft_ms=900) for at in range(0, 600, 6)]  # 10 a minute
    assert told(backtested(dense, policy(ttft()))) == [(60, 80, None)]


def test_an_alert_that_flaps_within_its_keep_firing_is_one_and_beyond_it_two() -> None:
    """Slow in 120-180 and again from 240 on: the first is over at 240, the second seen at 250.
    Slow again from 420 on: that was resolved at 300."""
    near = [*SLOW[:240], *steady(240, 300, ttft_ms=900), *steady(300, 600)]
    assert told(backtested(near, policy(ttft()))) == [(130, 150, 420)]
    far = [*SLOW[:420], *steady(420, 480, ttft_ms=900), *steady(480, 660)]
    assert told(backtested(far, policy(ttft()))) == [(130, 150, 300), (430, 450, 600)]


def of_five_minutes() -> dict[str, Any]:
    """As `ttft`, of five minutes; so the last minute must be over, too, and not be empty."""
    objective = ttft()
    return {**objective, "indicator": {**objective["indicator"], "window": "5m"}}


def test_an_alert_ends_when_traffic_stops_although_the_long_window_is_still_bad() -> None:
    """After 180 nobody asks: the last minute is empty from 240 on, the five minutes from 480 on."""
    found = backtested(SLOW[:180], policy(of_five_minutes()), to_s=T0 + 600)
    assert told(found) == [(130, 150, 300)]


def test_nobody_is_told_when_traffic_stopped_and_only_then_the_long_window_becomes_bad() -> None:
    """8 slow ones among 180 are fewer than 5 %; they are more once 20 fast ones have left."""
    events = [*steady(0, 172), *steady(172, 180, ttft_ms=900)]
    found = backtested(events, policy(of_five_minutes()), to_s=T0 + 600)
    assert told(found) == []


def test_event_time_counts_and_not_the_order_of_the_file() -> None:
    shuffled = SLOW.copy()
    random.Random(3).shuffle(shuffled)
    of = policy(ttft(), UPTIME)
    assert report(backtested(shuffled, of)) == report(backtested(SLOW, of))


def test_what_does_not_fit_into_memory_counts_just_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    of = policy(ttft(), UPTIME)
    expected = report(backtested(SLOW, of))
    monkeypatch.setattr(backtest_events, "SPILL_BYTES", 1)
    recording = Recording(Settings(), thresholds([of], Settings().worker), None)
    for at in range(0, len(SLOW), 47):
        recording.add("test", [msgspec.json.encode(one) for one in SLOW[at : at + 47]], None)
    assert not recording._in_memory
    assert report(run([of], Settings(), recording, None)) == expected


def test_a_path_is_the_name_that_the_workers_count_it_under() -> None:
    settings = Settings.model_validate({"worker": {"names_last_part": True}})
    recording = Recording(settings, thresholds([policy(UPTIME)], settings.worker), None)
    recording.add("test", [msgspec.json.encode(event(T0, model="google/gemini-2"))], None)
    assert [series[0] for series in recording.registry.series] == ["gemini-2"]


def test_each_name_is_judged_by_itself() -> None:
    events = [*steady(0, 600, model="small"), *SLOW]
    found = backtested(events, policy(ttft(scope={"per": "model"})))
    assert told(found) == [(130, 150, 300)]
    (episode,) = of_rule(found, "TokenpulseTtftHigh").episodes()
    assert dict(episode.labels) == {"model": "large"}


def test_the_input_lengths_of_a_policy_are_counted_without_a_setting() -> None:
    long = {"input_tokens": 200_000, "outcome": "server_error"}
    events = [*steady(0, 60), *steady(60, 80, **long), *steady(80, 90, outcome="server_error")]
    short = UPTIME | {"scope": {"input_tokens": {"at_most": 128_000}}}
    result = report(backtested(events, policy(short)))
    (objective,) = result["promises"]
    assert objective["scope"] == {"input_tokens": "at most 128000"}
    assert objective["attainment"]["counted"] == 70
    assert objective["attainment"]["good"] == "60"


def test_an_objective_with_too_few_requests_says_how_many_it_has_and_needs() -> None:
    enough = {"kind": "request_ratio", "min_samples": 61}
    few = UPTIME | {"indicator": enough}
    none = UPTIME | {"name": "none", "scope": {"model": "small"}}
    minutes = {"kind": "minute_verdicts", "down_above": "5%", "min_samples": 61}
    month = {"period": {"calendar": "month"}}
    of = policy(few, none, UPTIME | {"name": "minutes", "indicator": minutes} | month)
    found = report(backtested(steady(0, 60), of))
    unknown = {one["objective"]: one["unknown"] for one in found["promises"]}
    since = "since 2026-01-01 00:00 UTC"
    assert unknown == {
        "uptime": {"reason": "too_few", "words": f"60 requests {since}, and 61 are needed"},
        "none": {"reason": "no_requests", "words": f"no request that counts has ended {since}"},
        "minutes": {
            "reason": "too_few",
            "words": f"no minute or slice {since} is whole with 61 requests",
        },
    }
    assert f"p/uptime: unknown: 60 requests {since}, and 61 are needed" in list(lines(found))
    one_more = policy(UPTIME | {"indicator": enough | {"min_samples": 60}})
    (objective,) = report(backtested(steady(0, 60), one_more))["promises"]
    assert (objective["unknown"], objective["attainment"]["ratio"]) == (None, "1")


def test_several_names_together_are_judged_by_counts() -> None:
    """10 % of the requests of two models are slow: no P95 of theirs can be added up."""
    events = [*steady(0, 540, model="small"), *steady(0, 60, model="large", ttft_ms=900)]
    events += steady(60, 540, model="large")
    found = backtested(events, policy(ttft(scope={"model": ["small", "large"]})))
    assert told(found) == [(10, 30, 180)]


def test_from_begins_with_full_windows_and_to_ends_what_is_recorded() -> None:
    found = backtested(SLOW, policy(ttft()), from_s=T0 + 200)
    assert told(found) == [(200, 220, 300)]
    found = backtested(SLOW, policy(ttft()), to_s=T0 + 170)
    assert told(found) == [(130, 150, None)]
    assert found.recording.counted == 170


def test_silence_up_to_to_is_silence() -> None:
    """A request a second until 600. At 650 the last minute has 10, a fifth of the 250 in five
    minutes would be 50: 20 %. From 660 on the baseline has too few requests to expect 50."""
    drop = {
        "name": "volume",
        "indicator": {
            "kind": "token_volume_drop",
            "window": "1m",
            "baseline": "5m",
            "min_baseline_tokens": 100,
        },
        "levels": [{"severity": "page", "below": "33%", "for": "5s"}],
    }
    events = steady(0, 600)
    assert told(backtested(events, policy(drop)), "volume") == []
    assert told(backtested(events, policy(drop), to_s=T0 + 800), "volume") == [(650, 655, 675)]


# -- objectives ------------------------------------------------------------------------------------


def failing() -> list[Event]:
    """Two hours of a request a second; from 3600 to 4200 every fifth fails: 120 of 7200."""
    return [
        event(
            T0 + at + 0.5,
            outcome="server_error" if 3_600 <= at < 4_200 and at % 5 == 0 else "success",
        )
        for at in range(7_200)
    ]


def test_a_burning_budget_pages_when_both_windows_are_over_the_factor() -> None:
    """A window of N minutes is the running one, as far as it went, and the N - 1 before it."""
    found = backtested(failing(), policy(UPTIME))
    burn = of_rule(found, "TokenpulseErrorBudgetBurn", window="1h")
    (episode,) = burn.episodes()
    fails = list(range(3_600, 4_200, 5))

    def over(now: int, minutes: int) -> bool:
        begin = (((now - 1) // 60) + 1 - minutes) * 60
        total = now - max(begin, 0)
        bad = sum(max(begin, 0) <= at < now for at in fails)
        return bad > 14.4 * 0.001 * total and (minutes == 5 or bad >= 10)

    holds = [now for now in range(10, 7_201, 10) if over(now, 60) and over(now, 5)]
    assert episode.pending_at_s - T0 == episode.fired_at_s - T0 == holds[0]
    assert holds == list(range(holds[0], holds[-1] + 1, 10))
    # Completeness to be over ten seconds later, and kept firing for a minute.
    assert episode.resolved_at_s is not None
    assert episode.resolved_at_s - T0 == holds[-1] + 10 + 60


def test_budgets_are_exact() -> None:
    found = report(backtested(failing(), policy(UPTIME)))
    (objective,) = found["promises"]
    assert objective["attainment"] == {
        "ratio": "0.983333333333333",
        "good": "7080",
        "counted": 7_200,
    }
    # 120 failures of 7.2 that may fail; two hours are a 360th of the period.
    assert objective["budget_spent_ratio"] == "16.666666666666667"
    assert objective["budget_spent_of_period_ratio"] == "0.046296296296296"
    first = min(found["alerts"], key=lambda one: one["fired_at"])
    assert 0 < float(first["budget_spent_ratio"]["at_firing"]) < 0.0463


def test_an_outage_pages_without_any_policy_about_it() -> None:
    events = [*steady(0, 120), *steady(120, 300, outcome="timeout"), *steady(300, 400)]
    found = backtested(events, policy(ttft()))
    # The only model explains its region.
    for scope, for_s in (("fleet", 10), ("model", 20)):
        (episode,) = of_rule(found, "TokenpulseOutage", scope=scope).episodes()
        # Less than half of 60 is seen at 160 (29 of 60 succeed at 151), after `for_s` it fires.
        assert episode.fired_at_s - T0 == 160 + for_s


def test_a_credit_is_that_of_the_table() -> None:
    """An hour of 720 in which nothing works, of a month that is known for ten hours: 90 %."""
    objective = {
        **UPTIME,
        "period": {"calendar": "month"},
        "sla": {
            "credit_tiers": [
                {"below": "99.9%", "credit": "10%"},
                {"below": "95%", "credit": "25%"},
            ],
            "monthly_fee": "1000 USD",
        },
    }
    events = [
        event(T0 + at, outcome="server_error" if at < 3_600 else "success")
        for at in range(0, 36_000, 20)
    ]
    found = report(backtested(events, policy(objective)))
    (credit,) = found["credits"]
    assert (credit["ratio"], credit["share"], credit["due"]) == ("0.9", "0.25", "250.00 USD")
    assert any("credit of 25%, 250.00 USD" in line for line in lines(found))
    due = [one["credit"] for one in found["alerts"] if one["alert"] == "TokenpulseCreditDue"]
    assert due == ["25%"]  # it began with nothing but failures, and never rose over 95 %


@needs_promtool
@pytest.mark.parametrize("seed", [1, 2])
def test_prometheus_fires_the_same_alerts_at_the_same_times(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The numbers of every step are given to promtool, with the compiled rules; it must find every
    alert firing when the backtest says so, and no other."""
    found, by_end = samples_of(monkeypatch, lambda: backtested(bad_day(seed), everything()))
    assert list(by_end) == list(range(T0 + 10, found.to_s + 1, 10))
    pages = list(by_end.values())
    steps: list[Samples | None] = [None, None, *(page for page in pages for _ in range(2))]
    series = {(metric, key) for page in pages for metric in page for key in page[metric]}
    inputs = [
        {
            "series": metric + labels_text(dict(key)),
            "values": series_text(
                [page.get(metric, {}).get(key) if page else None for page in steps]
            ),
        }
        for metric, key in sorted(series)
    ]
    expected, fired = [], 0
    names = {watched.alert.name for watched in found.watched}
    for at_s in range(0, found.to_s - T0 + 1, 5):
        firing = defaultdict(list)
        for watched in found.watched:
            for one in watched.episodes():
                if one.fired_at_s - T0 <= at_s < (one.resolved_at_s or found.to_s + 1) - T0:
                    labels = {**dict(one.labels), **watched.alert.labels}
                    labels["severity"] = watched.alert.severity
                    firing[watched.alert.name].append({"exp_labels": labels})
                    fired += 1
        expected += [
            {"alertname": name, "eval_time": f"{at_s}s", "exp_alerts": firing[name]}
            for name in sorted(names)
        ]
    assert {one["alertname"] for one in expected if one["exp_alerts"]} >= {
        "TokenpulseTtftHigh",
        "TokenpulseErrorBudgetBurn",
        "TokenpulseOutage",
        "TokenpulseObjectiveMissed",
    }
    for name, text in build([everything()]).items():
        document = yaml.safe_load(text)
        for group in document["groups"]:
            for rule in group["rules"]:
                rule.pop("annotations", None)
        (tmp_path / name).write_text(yaml.safe_dump(document))
    check_alerts(tmp_path, ["policy-p.yml", "tokenpulse.yml"], inputs, expected, EVERY_S)
