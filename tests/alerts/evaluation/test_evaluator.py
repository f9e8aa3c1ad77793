"""Alerts over successive evaluations: by a plain reading of the words, and as Prometheus does."""

import random
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import promql_parser as promql
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from alerts.backtest.timeline import AlertTimeline
from alerts.evaluation.evaluator import (
    EvaluatedRule,
    RuleEvaluator,
    board_groups,
    request_groups,
)
from alerts.evaluation.expressions import parse
from alerts.rules.build import build, builtin_groups, policy_groups
from alerts.rules.model import Alert, Group, Links
from alerts.rules.pipeline import pipeline_groups
from exporters.catalogue.requests import SPECS
from slo.alert_state import AlertState, SampleKey, sample_key
from slo.policy.loading import load_policies, load_policy
from tests.support.promtool import STEP_S, check_alerts, labels_text, needs_promtool, series_text

STEPS = 150
LONGEST_FOR_S = 20
# Seeds that together fire every rule: some for all rules, and one for each alert whose many
# conditions seldom hold together, with one series of each selector.
SEEDS = {
    1: "",
    10: "",
    122: "TokenpulseCacheHitLow",
    134: "TokenpulseCachedTokensUnreported",
    500: "TokenpulseNothingCounted",
    501: "TokenpulseSourceSampled",
    205: "TokenpulseTtftHigh",
    300: "TokenpulseCustomerSilent",
    437: "TokenpulseSourceUsageMissing",
    621: "TokenpulseOutage",
    679: "TokenpulseOutage",
    700: "TokenpulseObjectiveMissed",
}
LABELS_OF = {spec.name: spec.labels for spec in SPECS} | {"up": ("job", "instance")}


def rule(for_s: int, keep_s: int) -> EvaluatedRule:
    alert = Alert("A", "page", "a > 0", "", "", "", "", for_s, keep_s)
    return EvaluatedRule(alert, parse(alert.expr))


@given(
    st.lists(st.booleans(), max_size=60),
    st.sampled_from([0, 5, 15, 20]),
    st.sampled_from([0, 5, 20]),
)
def test_for_and_keep_firing_are_as_a_plain_reading_of_their_words(
    holds: list[bool], for_s: int, keep_s: int
) -> None:
    evaluated, timeline = rule(for_s, keep_s), AlertTimeline(is_ceiling=True)
    for at, is_so in enumerate(holds):
        states = evaluated.step(at * 5, {(): 1.0} if is_so else {})
        assert [state.holds for state in states] == [is_so] * len(states)
        timeline.add(at * 5, states)
    firing, since, gone = False, None, None
    expected: list[list[int | None]] = []
    for at, is_so in enumerate(holds):
        now = at * 5
        if is_so:
            since, gone = (now if since is None else since), None
            if not firing and now - since >= for_s:
                firing = True
                expected.append([since, now, None])
        elif firing:
            gone = now if gone is None else gone
            if now - gone >= keep_s:
                expected[-1][2] = now
                firing, since = False, None
        else:
            since = None
    assert [
        [one.pending_at_s, one.fired_at_s, one.resolved_at_s] for one in timeline.episodes()
    ] == expected


def test_a_state_says_whose_it_is_and_since_when() -> None:
    evaluator = RuleEvaluator([Group("g", (rule(5, 10).alert,))])
    large = {"a": {sample_key({"model": "large"}): 2.0}}
    [pending] = evaluator.evaluate(large, 100)
    assert (pending.pending_since_s, pending.firing_since_s, pending.holds) == (100, None, True)
    [firing] = evaluator.evaluate(large, 105)
    assert (firing.firing_since_s, firing.value, firing.series) == (105, 2.0, {"model": "large"})
    [kept] = evaluator.evaluate({"a": {}}, 110)
    assert (kept.firing_since_s, kept.holds) == (105, False)
    assert (kept.ended_at_s, kept.kept_until_s) == (110, 120)
    assert evaluator.evaluate({"a": {}}, 120) == []


@pytest.mark.parametrize("stop_s", range(100, 150, 5))
@pytest.mark.parametrize("pause_s", [5, 20])
def test_after_a_restart_firing_alerts_continue_as_if_there_was_none(
    stop_s: int, pause_s: int
) -> None:
    """The condition holds from 100 to 120; the alert fires from 105 on, and is kept until 165."""

    def run(evaluator: RuleEvaluator, times_s: Iterable[int]) -> dict[int, list[AlertState]]:
        holds = {"a": {sample_key({"model": "large"}): 2.0}}
        return {
            at_s: evaluator.evaluate(holds if 100 <= at_s < 120 else {"a": {}}, at_s)
            for at_s in times_s
        }

    groups = [Group("g", (rule(5, 45).alert,))]
    straight = run(RuleEvaluator(groups), range(100, 200, 5))
    firing = [one for one in straight[stop_s] if one.firing_since_s is not None]
    back_s = stop_s + pause_s
    after = RuleEvaluator(groups)
    after.resume(firing, stop_s, back_s)
    restarted = run(after, range(back_s, 200, 5))
    if stop_s >= 120 or (firing and back_s < 120):
        assert restarted == {at_s: straight[at_s] for at_s in restarted}
    elif firing:
        # The end came while the exporter was away: the last sight counts as the end.
        assert [one.ended_at_s for one in restarted[back_s]] == [stop_s]
        assert [one.firing_since_s for one in restarted[back_s]] == [105]


def test_an_alert_whose_time_to_be_kept_passed_does_not_continue() -> None:
    groups = [Group("g", (rule(5, 45).alert,))]
    before = RuleEvaluator(groups)
    holds = {"a": {sample_key({"model": "large"}): 2.0}}
    before.evaluate(holds, 100)
    firing = before.evaluate(holds, 105)
    after = RuleEvaluator(groups)
    after.resume(firing, 105, 150)
    assert after.evaluate({"a": {}}, 150) == []
    [anew] = after.evaluate(holds, 155)
    assert (anew.pending_since_s, anew.firing_since_s) == (155, None)


def test_what_the_shipped_rules_read_is_known_before_any_sample() -> None:
    evaluator = RuleEvaluator(request_groups(load_policies(["default"])))
    assert evaluator.metrics <= set(LABELS_OF)
    assert ("fleet", "1m") in evaluator.reads


# -- as Prometheus does it -------------------------------------------------------------------------


def evaluated_groups(only: str = "") -> list[Group]:
    """Return all default rules that the evaluator can answer: those of the board and the backtest.

    `only`: the name of an alert, for the rules of its name alone.

    Not covered, since the evaluator has no use for what they need: TokenpulseExportersDisagree
    compares several exporters of now with those of two minutes ago (`offset`), and the rules about
    scrapes and alerting read what only Prometheus has. Prometheus evaluates them on the cases of
    tests/support/rule_cases.py.
    """
    policies = [load_policy("default")]
    shown = {alert.expr for group in board_groups(policies) for alert in group.alerts}
    folding = [
        replace(group, alerts=alerts)
        for group in (*pipeline_groups(), *request_groups(policies))
        if (
            alerts := tuple(
                alert
                for alert in group.alerts
                if alert.expr not in shown and "offset" not in alert.expr
            )
        )
    ]
    groups = [*board_groups(policies), *folding]
    return [
        replace(group, alerts=alerts)
        for group in groups
        if (alerts := tuple(hastened(alert) for alert in group.alerts if only in ("", alert.name)))
    ]


def hastened(alert: Alert) -> Alert:
    """Return a rule that waits LONGEST_FOR_S at most, so that random samples hold for that long."""
    return replace(alert, for_s=min(alert.for_s, LONGEST_FOR_S))


def test_only_rules_about_exporters_and_alerting_are_left_to_prometheus() -> None:
    groups = [*builtin_groups(Links().job), *policy_groups(load_policy("default"))]
    left = {(alert.name, alert.severity) for group in groups for alert in group.alerts} - {
        (alert.name, alert.severity) for group in evaluated_groups() for alert in group.alerts
    }
    assert left == {
        ("TokenpulseExportersDisagree", "ticket"),
        *product(
            (
                "TokenpulseExporterDown",
                "TokenpulseIntakeDown",
                "TokenpulseScrapeLimit",
                "TokenpulseAlertingFails",
            ),
            ("page", "ticket"),
        ),
        ("TokenpulseWatchdog", "none"),
    }


def parts(expr: str) -> tuple[list[promql.VectorSelector], list[float]]:
    """Return the selectors and the numbers of an expression."""
    selectors: list[promql.VectorSelector] = []
    numbers: list[float] = []

    def visit(node: promql.Expr) -> None:
        if isinstance(node, promql.VectorSelector):
            selectors.append(node)
        elif isinstance(node, promql.NumberLiteral):
            numbers.append(node.val)

    promql.walk(promql.parse(expr), visit)
    return selectors, numbers


def label_sets(selector: promql.VectorSelector) -> Iterator[dict[str, str]]:
    """Yield label sets that a selector accepts, and some that it does not."""
    accepted = {one.name: one.value.split("|") for one in selector.matchers.matchers}
    labels = LABELS_OF[str(selector.name)]
    choices = [
        accepted.get(label, ["", "a"])
        for label in labels
        if label != "quantile" or label in accepted
    ]
    for values in product(*choices):
        yield dict(zip(labels, values, strict=False))


def random_series(
    chance: random.Random, groups: list[Group], most: int
) -> dict[tuple[str, SampleKey], Any]:
    """Return values for each step; they jump about the limits of the rules, and disappear."""
    series: dict[tuple[str, SampleKey], list[float | None]] = {}
    records = {record.name: record for group in groups for record in group.records}
    alerts = [alert.expr for group in groups for alert in group.alerts]
    for expr in (*(record.expr for record in records.values()), *alerts):
        selectors, numbers = parts(expr)
        # What a record adds up has the limits of the alerts that read it.
        for name in (name for name, record in records.items() if record.expr == expr):
            numbers = [one for text in alerts if name in text for one in parts(text)[1]]
        near = [number * times for number in numbers for times in (-1, 0, 0.5, 1, 1.5, 40)]
        near += [0, 1, 7]  # for counters, of which any rise is one too many
        for selector in (one for one in selectors if one.name not in records):
            some = list(label_sets(selector))
            for labels in chance.sample(some, min(len(some), most, chance.choice([1, 2, 12]))):
                values: list[float | None] = []
                while len(values) < STEPS:
                    value = None if chance.random() < 0.1 else chance.choice(near)
                    values += [value] * chance.choice([1, 2, 4, 15, 40, 70])
                series[str(selector.name), sample_key(labels)] = values[:STEPS]
    return series


def fired_by_step(seed: int) -> tuple[dict[tuple[str, SampleKey], Any], list[list[AlertState]]]:
    """Return random samples, and the alerts that the evaluator fires at each step."""
    groups = evaluated_groups(SEEDS[seed])
    evaluator = RuleEvaluator(groups)
    series, firing = random_series(random.Random(seed), groups, 1 if SEEDS[seed] else 12), []
    for step in range(STEPS):
        samples: dict[str, dict[SampleKey, float]] = defaultdict(dict)
        for (metric, key), values in series.items():
            if values[step] is not None:
                samples[metric][key] = values[step]
        states = evaluator.evaluate(samples, step * STEP_S)
        firing.append([state for state in states if state.firing_since_s is not None])
    return series, firing


def test_random_samples_fire_every_rule() -> None:
    fired = {state.alert for seed in SEEDS for states in fired_by_step(seed)[1] for state in states}
    assert fired == {alert.name for group in evaluated_groups() for alert in group.alerts}


@needs_promtool
@pytest.mark.parametrize("seed", SEEDS)
def test_random_samples_fire_what_prometheus_fires(seed: int, tmp_path: Path) -> None:
    groups = evaluated_groups(SEEDS[seed])
    names = sorted({alert.name for group in groups for alert in group.alerts})
    series, firing = fired_by_step(seed)
    expected = []
    for step, states in enumerate(firing):
        labels_of = defaultdict(list)
        for state in states:
            labels = {**state.series, **state.rule_labels, "severity": state.severity}
            labels_of[state.alert].append({"exp_labels": labels})
        expected += [
            {"alertname": name, "eval_time": f"{step * STEP_S}s", "exp_alerts": labels_of[name]}
            for name in names
        ]
    # Rules that are not evaluated share names with others, so promtool gets only the others.
    for_of = {(alert.name, alert.expr): alert.for_s for group in groups for alert in group.alerts}
    files = build([load_policy("default")])
    for name, text in files.items():
        document = yaml.safe_load(text)
        for group in document["groups"]:
            group["rules"] = [one for one in group["rules"] if "record" in one] + [
                {key: value for key, value in one.items() if key != "annotations"}
                | {"for": f"{for_of[one['alert'], one['expr']]}s"}
                for one in group["rules"]
                if "alert" in one and (one["alert"], one["expr"]) in for_of
            ]
        (tmp_path / name).write_text(yaml.safe_dump(document))
    inputs = [
        {"series": metric + labels_text(dict(key)), "values": series_text(values)}
        for (metric, key), values in sorted(series.items())
    ]
    check_alerts(tmp_path, list(files), inputs, expected)
