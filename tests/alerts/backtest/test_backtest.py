"""Recorded events against policies: episodes counted by hand, and by Prometheus itself."""

import asyncio
import csv
import json
import math
import random
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from click.testing import CliRunner

from alerts.backtest import recording as backtest_events
from alerts.backtest.recording import Recording, read_file
from alerts.backtest.report import lines, report
from alerts.backtest.run import Backtest, minutes_until_s, run, thresholds
from alerts.backtest.samples import Gauges
from alerts.rules.build import build
from alerts.rules.model import EVERY_S
from slo.policy.loading import as_policy, load_policies
from slo.policy.policy import Policy
from streams.config.settings import Settings
from streams.errors import RequestError
from streams.kafka.producer import EventProducer
from streams.sources.mapping import load_mapping
from tests.support.paths import ROOT
from tests.support.promtool import check_alerts, labels_text, needs_promtool, series_text
from tests.support.servers import Broker
from tests.support.traces import TRACES, needs_traces, reference
from tokenpulse.cli.main import main

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
        "ttft_ms": 100,
        "input_tokens": 10,
        **more,
    }


def steady(begin_s: int, end_s: int, **more: Any) -> list[Event]:
    """One request a second, a little after the second."""
    return [event(T0 + at + 0.5, **more) for at in range(begin_s, end_s)]


def recorded(events: list[Event], of: Policy, to_s: int | None = None) -> Recording:
    recording = Recording(Settings(), thresholds([of], Settings().worker), to_s)
    recording.add("test", [msgspec.json.encode(one) for one in events], None)
    return recording


def backtested(
    events: list[Event], of: Policy, from_s: int | None = None, to_s: int | None = None
) -> Backtest:
    return run([of], Settings(), recorded(events, of, to_s), from_s)


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


def of_rule(found: Backtest, name: str, **labels: str) -> Any:
    """The one rule of this name and these labels."""
    (one,) = (
        watched
        for watched in found.watched
        if watched.alert.name == name and labels.items() <= watched.alert.labels.items()
    )
    return one


# -- an hour drawn by hand -------------------------------------------------------------------------
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
    assert recording._has_spilled
    assert report(run([of], Settings(), recording, None)) == expected


def test_each_name_is_judged_by_itself() -> None:
    events = [*steady(0, 600, model="small"), *SLOW]
    found = backtested(events, policy(ttft(scope={"per": "model"})))
    assert told(found) == [(130, 150, 300)]
    (episode,) = of_rule(found, "TokenpulseTtftHigh").episodes()
    assert dict(episode.labels) == {"model": "large"}


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
    assert told(backtested(events, policy(drop), to_s=T0 + 800), "volume") == [(650, 655, 720)]


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
    episodes = of_rule(found, "TokenpulseOutage").episodes()
    assert {dict(one.labels)["scope"] for one in episodes} == {"fleet", "model", "region"}
    # Less than half of 60 is seen at 160 (29 of 60 succeed at 151), after 10 s it fires.
    assert {one.fired_at_s - T0 for one in episodes} == {170}


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


# -- what the evaluated stretch costs --------------------------------------------------------------


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


def pages_of(
    monkeypatch: pytest.MonkeyPatch, run_it: Callable[[], Backtest]
) -> tuple[Backtest, dict[int, Any]]:
    """Run a backtest; also return the samples of each evaluated slice by its end."""
    pages: dict[int, Any] = {}
    samples, advance = Gauges.samples, Gauges.advance
    end_s = 0

    def watched_advance(self: Gauges, now_s: int) -> None:
        nonlocal end_s
        end_s = now_s
        advance(self, now_s)

    def watched_samples(self: Gauges) -> Any:
        pages[end_s] = samples(self)
        return pages[end_s]

    with monkeypatch.context() as patch:
        patch.setattr(Gauges, "advance", watched_advance)
        patch.setattr(Gauges, "samples", watched_samples)
        return run_it(), pages


@pytest.mark.parametrize("seed", [1, 2])
def test_only_the_evaluated_slices_cost_an_evaluation_and_their_samples_are_the_same(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was recorded before `from_s` is kept by the minute and added up, not evaluated."""
    of, events = long_windows(), sparse_days(seed, 1.1)
    from_s, to_s = T0 + 90_005, T0 + 91_830
    whole, expected = pages_of(monkeypatch, lambda: backtested(events, of, None, to_s))
    by_minute = minutes_until_s([of], from_s)
    assert by_minute == (from_s - 86_400) // 60 * 60 - 60

    def evaluate_part() -> Backtest:
        recording = Recording(Settings(), thresholds([of], Settings().worker), to_s, by_minute)
        recording.add("test", [msgspec.json.encode(one) for one in events], None)
        assert recording.counted == whole.recording.counted
        return run([of], Settings(), recording, from_s)

    _, pages = pages_of(monkeypatch, evaluate_part)
    assert min(pages) == from_s - 5
    assert max(pages) == to_s
    assert len(pages) <= 1 + 1_830 // 10
    assert pages == {end_s: expected[end_s] for end_s in pages}


@pytest.mark.parametrize("seed", [1, 2])
def test_silence_is_skipped_only_while_no_alert_can_change(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    of, events = everything(), sparse_days(seed, 0.4)
    skipping, pages = pages_of(monkeypatch, lambda: backtested(events, of))
    monkeypatch.setattr(Gauges, "next_change_s", lambda self, now_s: now_s + 10)
    stepping, all_pages = pages_of(monkeypatch, lambda: backtested(events, of))
    assert len(pages) < 0.7 * len(all_pages)
    assert report(skipping) == report(stepping)
    assert len(report(skipping)["alerts"]) > 10


def test_the_last_minute_is_judged_without_to() -> None:
    """Minutes are judged once they are over: the end is that of the last event's minute."""
    objective = {**UPTIME, "indicator": {"kind": "minute_verdicts", "down_above": "20%"}}
    events = [*steady(0, 60), *steady(60, 95, outcome="timeout")]
    found = report(backtested(events, policy(objective)))
    assert found["to"] == "2026-01-01T00:02:00Z"
    assert found["promises"][0]["attainment"] == {"ratio": "0.5", "good": "1", "counted": 2}


def test_decades_between_two_events_end_with_a_message() -> None:
    events = [*steady(0, 60), event(T0 - 10 * 365 * 86_400)]
    with pytest.raises(RequestError, match="between 2016-01-04T00:00:00Z and 2026-01-01T00:01:00Z"):
        backtested(events, policy(UPTIME))
    assert backtested(events, policy(UPTIME), from_s=T0).from_s == T0


# -- as Prometheus does it -------------------------------------------------------------------------


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


@needs_promtool
@pytest.mark.parametrize("seed", [1, 2])
def test_prometheus_fires_the_same_alerts_at_the_same_times(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The numbers of every step are given to promtool, with the compiled rules; it must find every
    alert firing when the backtest says so, and no other."""
    pages: list[Any] = []
    samples = Gauges.samples

    def heard(self: Gauges) -> Any:
        pages.append(samples(self))
        return pages[-1]

    monkeypatch.setattr(Gauges, "samples", heard)
    found = backtested(bad_day(seed), everything())
    steps = [None, None, *(page for page in pages for _ in range(2))]
    series = {(metric, key) for page in pages for metric in page for key in page[metric]}
    inputs = [
        {
            "series": metric + labels_text(dict(key)),
            "values": series_text([page and page.get(metric, {}).get(key) for page in steps]),
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


# -- the command -----------------------------------------------------------------------------------


def invoked(*arguments: object, config: Path | None = None) -> Any:
    options = [] if config is None else ["--config", str(config)]
    return CliRunner().invoke(main, [*options, "backtest", *map(str, arguments)])


def test_the_command_reads_json_lines_and_says_what_it_left_out(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    events = [*SLOW, SLOW[0]]
    file.write_text("\n".join(map(json.dumps, events)) + "\n\n{\n")
    policy_file = tmp_path / "p.yaml"
    policy_file.write_text(json.dumps({"version": 1, "name": "p", "objectives": [ttft(), UPTIME]}))
    shown = invoked(file, "--policy", policy_file)
    assert shown.exit_code == 0, shown.output
    assert "600 events counted, 1 refused, 1 duplicates, 0 not mapped" in shown.stdout
    assert (
        "page    2026-01-01T00:02:30Z    2m30s  TokenpulseTtftHigh p/ttft: worst 0.9"
        in shown.stdout
    )
    assert "pages: 1, tickets: 0" in shown.stdout
    found = json.loads(invoked(file, "--policy", policy_file, "--json").stdout)
    (alert,) = found["alerts"]
    assert alert["lasted_s"] == 150
    assert alert["resolved_at"] == "2026-01-01T00:05:00Z"


def test_every_key_of_the_json_is_documented() -> None:
    page = ROOT / "docs" / "backtest.md"
    documented = page.read_text().split("## As JSON")[1]
    found = report(backtested(bad_day(1), everything()))
    keys = set(found) | set(found["events"])
    for entries in ("alerts", "rules", "promises", "credits"):
        assert found[entries]
        keys |= {key for entry in found[entries] for key in entry}
    keys |= {key for one in found["promises"] for key in one["attainment"]}
    assert [key for key in sorted(keys) if f"`{key}" not in documented] == []


def test_the_command_says_in_one_line_what_it_cannot_do(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    file.write_text("")
    for arguments, told_ in (
        ((file,), "no event lies in the stretch"),
        (("--mapping", "vllm_overload_logs"), "--mapping: is for files"),
        ((tmp_path / "none",), "No such file"),
    ):
        shown = invoked(*arguments)
        assert shown.exit_code == 2
        assert told_ in shown.stderr
        assert len(shown.stderr.splitlines()) == 1


def test_without_a_file_it_reads_the_topic_beside_the_workers(
    broker: Broker, tmp_path: Path
) -> None:
    kafka = broker.new_kafka(partitions=2)

    async def send() -> None:
        async with EventProducer(kafka) as producer:
            await producer.send_many(
                [
                    (one["request_id"].encode(), msgspec.json.encode(one))
                    for one in [*SLOW, SLOW[7], event(0, outcome="no such")]
                ]
            )
            await producer.flush()

    asyncio.run(send())
    config = tmp_path / "tokenpulse.yaml"
    config.write_text(json.dumps({"kafka": {"bootstrap": kafka.bootstrap, "topic": kafka.topic}}))
    policy_file = tmp_path / "p.yaml"
    policy_file.write_text(json.dumps({"version": 1, "name": "p", "objectives": [ttft()]}))
    shown = invoked("--policy", policy_file, "--json", config=config)
    assert shown.exit_code == 0, shown.output
    found = json.loads(shown.stdout)
    assert found["events"]["counted"] == 600
    assert found["events"]["duplicates"] == 1
    assert sum(found["events"]["refused"].values()) == 1
    assert [one["fired_at"] for one in found["alerts"]] == ["2026-01-01T00:02:30Z"]


# -- recorded faults -------------------------------------------------------------------------------


def replayed(mapping: str, of: Policy, *paths: Path, to_s: int | None = None) -> Backtest:
    recording = Recording(Settings(), thresholds([of], Settings().worker), to_s)
    for path in paths:
        read_file(recording, path, load_mapping(mapping), None, pytest.fail)
    return run([of], Settings(), recording, None)


def p95(values: list[float]) -> float:
    return sorted(values)[math.ceil(0.95 * len(values)) - 1]


@needs_traces
@pytest.mark.parametrize("scale", [100, 400, 1000])
def test_an_overloaded_server_pages_when_a_recount_of_its_log_says(scale: int) -> None:
    path = TRACES / "vllm_overload_logs" / f"detail_log_scale{scale}_prompt500.json"
    base_s, end_s = 1_704_067_200, 1_704_067_200 + 720
    (default,) = load_policies(["default"])
    found = replayed("vllm_overload_logs", default, path, to_s=end_s)

    rows = list(json.loads(path.read_text()).values())
    arrived = [row["record_time"] - row["total_chunk_time"] for row in rows]
    calls = [
        (base_s + at - arrived[0], row["first_chunk_time"])
        for at, row in zip(arrived, rows, strict=True)
    ]
    firing_since, since, gone, expected = None, None, None, []
    is_bad_without_traffic = False
    for now in range(math.floor(min(calls)[0] / 10) * 10 + 10, end_s + 1, 5):
        seen = now // 10 * 10
        five, one = (
            [ttft_s for at, ttft_s in calls if seen - span <= at < seen] for span in (300, 60)
        )
        is_over = len(five) >= 20 and p95(five) > 0.3
        is_bad_without_traffic |= is_over and not one
        holds = is_over and len(one) > 0 and p95(one) > 0.27
        if holds:
            since, gone = (now if since is None else since), None
            if firing_since is None and now - since >= 15:
                firing_since = now
                expected.append([since, now, None])
        elif firing_since is not None:
            gone = now if gone is None else gone
            if now - gone >= 60:
                expected[-1][2], firing_since, since = now, None, None
        else:
            since = None
    episodes = of_rule(found, "TokenpulseTtftHigh").episodes()
    assert [[one.pending_at_s, one.fired_at_s, one.resolved_at_s] for one in episodes] == expected
    assert bool(expected) == (scale > 100)
    # The slowest of the files, too, if nobody looked whether anyone still asks.
    assert is_bad_without_traffic


@needs_traces
def test_hosted_models_page_if_their_published_percentile_is_over_the_limit() -> None:
    runs = reference("llmperf_leaderboard")["runs"]
    folder = TRACES / "llmperf_leaderboard" / "individual"
    slow = {**ttft("10s", scope={"per": "model"})}
    slow["indicator"] = {**slow["indicator"], "window": "5m"}
    of = policy(slow, {**UPTIME, "scope": {"per": "model"}})
    found = replayed("llmperf_leaderboard", of, *(folder / f"{run}.json" for run in runs))
    # A run takes 150 s, so its last window holds all of it.
    firing = {
        dict(one.labels)["model"]
        for one in of_rule(found, "TokenpulseTtftHigh").episodes()
        if one.resolved_at_s is None
    }
    assert firing == {
        run for run, answer in runs.items() if answer["ttft_s_no_error"]["p95_nearest_rank"] > 0.3
    }
    objectives = {one["scope"]["model"]: one for one in report(found)["promises"]}
    for name, answer in runs.items():
        counted = answer["rows"] - answer["error_codes"].get("429", 0)
        attained = objectives[name]["attainment"]
        assert attained["counted"] == counted
        assert attained["good"] == str(answer["rows"] - answer["errors"])
    burning = {
        dict(one.labels)["model"]
        for one in of_rule(found, "TokenpulseErrorBudgetBurn", window="1h").episodes()
    }
    assert burning == {
        run
        for run, answer in runs.items()
        if answer["errors"] - answer["error_codes"].get("429", 0) >= 10
    }


@needs_traces
def test_every_published_outage_of_a_site_pages_for_as_long_as_it_lasted() -> None:
    """Upptime records when a site's status changed; it is probed here every two seconds."""
    site = "Document Generation"
    downs = reference("upptime_happydoc")["sites"][site]["down_intervals_unix_s"]
    begin_s, end_s = 1_737_262_553 // 10 * 10 - 600, 1_737_262_553 // 10 * 10 + 6 * 3_600
    downs = [[a, b] for a, b in downs if begin_s <= a and b <= end_s]
    changes = []
    with (TRACES / "upptime_happydoc" / "checks.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            if row["site"] == site:
                changes.append((int(row["commit_unix_s"]), row["status"]))
    changes.sort()
    events, at = [], 0
    for now in range(begin_s, end_s, 2):
        while at + 1 < len(changes) and changes[at + 1][0] <= now:
            at += 1
        outcome = "server_error" if changes[at][1] == "down" else "success"
        events.append(event(now, model=site, probe=True, outcome=outcome))
    found = backtested(events, policy(UPTIME))
    fleet = [
        one
        for one in of_rule(found, "TokenpulseOutage").episodes()
        if dict(one.labels)["scope"] == "fleet"
    ]
    assert len(fleet) == len(downs) >= 3
    for one, (down_s, up_s) in zip(fleet, downs, strict=True):
        assert down_s < one.fired_at_s <= down_s + 60
        assert one.resolved_at_s is not None
        # half of a minute, a step, and the minute that alerts are kept firing
        assert up_s < one.resolved_at_s <= up_s + 30 + 20 + 60
    (objective,) = report(found)["promises"]
    down_s = sum(up - down for down, up in downs)
    bad = objective["attainment"]["counted"] - int(objective["attainment"]["good"])
    assert abs(2 * bad - down_s) <= 2 * len(downs)
