"""Which alerts are active: the board holds no condition of its own."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from alerts.evaluation.evaluator import RuleEvaluator, request_groups
from exporters.board.alerts import ActiveAlerts, NoAlertRules, samples_for
from exporters.catalogue.requests import WINDOW_REQUESTS
from exporters.metrics.exposition import Page
from exporters.windows.incremental import CUSTOMER, Sums
from exporters.windows.measured import SUCCESS_AT
from exporters.windows.plan import scope_grouping
from slo.alert_state import AlertState
from slo.policy.loading import load_policies
from streams.state.slices import CUSTOMER_COLUMNS
from streams.state.tables import Table
from tests.support.exporter_state import NOW_S
from tests.support.live_board import FixedRules, facts_under

REQUEST_ALERTS = {
    "TokenpulseOutage",
    "TokenpulseTtftHigh",
    "TokenpulseCacheHitLow",
    "TokenpulseObjectiveMissed",
}
(DEFAULT,) = load_policies(("default",))
TTFT = next(one for one in DEFAULT.objectives if one.name == "ttft-p95")


def active(alert: str, severity: str = "page", **series: str) -> AlertState:
    labels = {"policy": "default", "objective": "ttft-p95"} if alert != "TokenpulseOutage" else {}
    return AlertState(alert, severity, labels, series, 0.25, NOW_S, None, True)


def test_without_rules_the_board_raises_no_alert_about_requests(
    configured: Callable[..., Any],
) -> None:
    shown = {incident.alert for incident in facts_under(configured(), None, cold=True).incidents}
    assert not shown & REQUEST_ALERTS


def test_an_alert_of_the_rules_is_shown_whatever_the_numbers_are(
    configured: Callable[..., Any],
) -> None:
    rules = FixedRules([active("TokenpulseTtftHigh", "ticket"), active("TokenpulseOutage")])
    facts = facts_under(configured(), rules, cold=False)
    shown = {incident.alert: incident for incident in facts.incidents}
    assert shown["TokenpulseTtftHigh"].severity == "ticket"
    assert shown["TokenpulseOutage"].words == (
        "The fleet: 75 % of the requests failed in the last minute."
    )
    (samples,) = rules.seen
    assert samples.keys() == rules.metrics
    windows = {dict(key)["window"] for key in samples["tokenpulse_window_requests"]}
    assert windows == {"1m"}


def test_the_compiled_rules_show_what_they_find(configured: Callable[..., Any]) -> None:
    rules = RuleEvaluator(request_groups([DEFAULT]))
    shown = {one.alert for one in facts_under(configured(), rules, cold=True).incidents}
    assert {"TokenpulseOutage", "TokenpulseErrorBudgetBurn"} <= shown


@pytest.mark.parametrize("firing_since_s", [None, NOW_S])
def test_pending_and_firing_alerts_are_active_but_not_those_that_only_fire_on(
    firing_since_s: float | None,
) -> None:
    state = replace(active("TokenpulseTtftHigh"), firing_since_s=firing_since_s)
    assert ActiveAlerts([state]).of(DEFAULT, TTFT, "") == [state]
    assert ActiveAlerts([replace(state, holds=False)]).of(DEFAULT, TTFT, "") == []


def test_the_most_urgent_alert_of_an_objective_comes_first() -> None:
    states = [active("TokenpulseTtftHigh", severity) for severity in ("ticket", "page")]
    found = ActiveAlerts(states).of(DEFAULT, TTFT, "")
    assert [state.severity for state in found] == ["page", "ticket"]


def test_rate_limits_floods_and_silent_customers_are_worded(
    configured: Callable[..., Any],
) -> None:
    def ticket(alert: str, share: float, **series: str) -> AlertState:
        return AlertState(f"Tokenpulse{alert}", "ticket", {}, series, share, NOW_S, None, True)

    states = [
        ticket("RateLimitedJump", 0.6, scope="model", model="large"),
        ticket("CustomerFlood", 0.45, customer="c-1"),
        ticket("CustomerSilent", 0.123, customer="c-2"),
    ]
    facts = facts_under(configured(), FixedRules(states), cold=False)
    words = {str(one.alert).removeprefix("Tokenpulse"): one.words for one in facts.incidents}
    assert words["RateLimitedJump"].startswith(
        "Model large: 60 % of the requests are rate-limited (429), far more"
    )
    assert words["CustomerFlood"].startswith("Customer c-1 sent 45 % of all requests")
    assert words["CustomerSilent"].startswith("Customer c-2 sent hardly any request")
    assert "12.3 % of those of the last day" in words["CustomerSilent"]


def test_sources_are_named(configured: Callable[..., Any]) -> None:
    def ticket(alert: str, value: float, **series: str) -> AlertState:
        return AlertState(
            f"TokenpulseSource{alert}", "ticket", {}, series, value, NOW_S, None, True
        )

    states = [
        ticket("Silent", 412.4, source="gateway"),
        ticket("UsageMissing", 0.25, source="batch"),
        ticket("Sampled", 0.1, source="collector"),
        ticket("ScopeNew", 600, source="collector", span_scope="genai.v3"),
    ]
    facts = facts_under(configured(), FixedRules(states), cold=False)
    words = {str(one.alert).removeprefix("TokenpulseSource"): one.words for one in facts.incidents}
    assert words["Silent"].startswith("Source gateway is silent: by now it usually had sent 412")
    assert words["UsageMissing"].startswith("Source batch sends token counts for 25 % of its")
    assert words["Sampled"].startswith("Source collector sends sampled traces (10 % of its events)")
    assert "new scope genai.v3" in words["ScopeNew"]
    assert facts.freshness.state == "at_risk"


def test_memory_near_its_limit_is_worded_by_its_cause(configured: Callable[..., Any]) -> None:
    def near(cause: str, severity: str, **series: str) -> AlertState:
        return AlertState(
            "TokenpulseMemoryNearLimit", severity, {"cause": cause}, series, 0.96, NOW_S, None, True
        )

    states = [
        near("redis", "page"),
        near("worker", "ticket", worker="host:1"),
        near("exporter", "ticket"),
    ]
    facts = facts_under(configured(), FixedRules(states), cold=False)
    words = [one.words for one in facts.incidents if one.alert == "TokenpulseMemoryNearLimit"]
    assert sorted(text.partition(":")[0] for text in words) == [
        "Exporter uses 96 % of its memory",
        "Redis uses 96 % of its maxmemory",
        "Worker host",
    ]


def test_a_wrong_clock_is_worded_with_its_process_and_leaves_the_numbers_as_good_as_they_are(
    configured: Callable[..., Any],
) -> None:
    states = [
        AlertState(
            "TokenpulseClockOff",
            "ticket",
            {"cause": cause},
            {"process": name},
            value,
            NOW_S,
            None,
            True,
        )
        for name, cause, value in (
            ("exporter", "offset", 120.0),
            ("host:1", "offset", 120.0),
            ("host:2", "unchecked", 0.0),
        )
    ]
    facts = facts_under(configured(), FixedRules(states), cold=False)
    words = [one.words for one in facts.incidents if one.alert == "TokenpulseClockOff"]
    assert [text.partition(" from that of Redis")[0] for text in words] == [
        "The clock of the exporter differs by 2 min",
        "The clock of worker host:1 differs by 2 min",
        "Redis does not give its time to worker host:2, or too slowly to prove that both agree. "
        "Until their clocks agree, the exporter closes no period and finalises no day for which it "
        "needs this worker.",
    ]
    assert facts.freshness.state != "at_risk"


def test_client_errors_are_worded_with_the_most_urgent_alert_of_each_place(
    configured: Callable[..., Any],
) -> None:
    def jump(severity: str, **series: str) -> AlertState:
        labels = {"derived_from": "state"}
        return AlertState(
            "TokenpulseClientErrorsJump", severity, labels, series, 0.973, NOW_S, None, True
        )

    large = {"scope": "model", "model": "large"}
    states = [
        jump("ticket", **large),
        jump("page", **large),
        jump("ticket", scope="customer", customer="c-1"),
    ]
    facts = facts_under(configured(), FixedRules(states), cold=False)
    shown = [one for one in facts.incidents if one.alert == "TokenpulseClientErrorsJump"]
    assert [(one.severity, one.words.split(",")[0]) for one in shown] == [
        ("page", "Model large: 97.3 % of the requests are client errors"),
        ("ticket", "Customer c-1: 97.3 % of the requests are client errors"),
    ]


class ReadsCustomers(NoAlertRules):
    metrics = frozenset({WINDOW_REQUESTS.name})
    reads = frozenset({(CUSTOMER, "1h"), (CUSTOMER, "24h")})


def customer_sums(requests: list[int]) -> dict[str, Sums]:
    """Sums of customers, whose numbers are their places."""
    values = np.zeros((len(requests), CUSTOMER_COLUMNS), np.int64)
    values[:, SUCCESS_AT] = requests
    counts = Table(np.arange(len(requests), dtype=np.int64), values)
    return {CUSTOMER: replace(Sums.empty(CUSTOMER), counts=counts)}


def test_rules_read_in_each_window_the_customers_that_are_large_in_any() -> None:
    names = scope_grouping(CUSTOMER)
    names.follow([(f"c{number}", "m") for number in range(3_000)])
    # The last one was the largest of the day, and hardly sends; a thousand came this hour.
    hour = [100 + number for number in range(1_000)] + [1] * 2_000
    day = [100 + number for number in range(1_000)] + [1] * 1_999 + [10**6]
    windows = {"1h": customer_sums(hour), "24h": customer_sums(day)}
    samples = samples_for(ReadsCustomers(), windows, {CUSTOMER: names}, [], Page())
    read: dict[str, dict[str, float]] = {"1h": {}, "24h": {}}
    for key, value in samples[WINDOW_REQUESTS.name].items():
        labels = dict(key)
        if labels["outcome"] == "success":
            read[labels["window"]][labels["customer"]] = value
    large = {*range(1_000), 2_999}
    assert read["1h"] == {f"c{number}": hour[number] for number in large}
    assert read["24h"] == {f"c{number}": day[number] for number in large}
