"""What `policy check` prints of an objective, and the limits that it finds uncounted."""

import pytest

from slo.policy.description import UncountedLimit, describe, uncounted_limits
from slo.policy.loading import load_policies, read_policy, shipped
from streams.config.worker import Worker
from tests.support.paths import ROOT

HEAD = "version: 1\nname: p\nobjectives:\n"


def lines(objective: str, exclusions: str = "") -> list[str]:
    """The description of the only objective of a policy, in YAML."""
    policy = read_policy(f"{HEAD}  - {{name: o, {objective}}}\n{exclusions}", "p.yaml")
    return list(describe(policy, policy.objectives[0]))


def test_a_share_of_requests_names_scope_view_outcomes_and_exclusions() -> None:
    found = lines(
        "scope: {model: [large, small], region: eu, input_tokens: {at_most: 128000}}, "
        "indicator: {kind: request_ratio, view: provider, error_classes: [auth], probes: false, "
        "failed: [timeout]}, target: 99.9%, period: {rolling_days: 30}",
        "exclusions:\n"
        "  - {from: 2026-01-31T22:00Z, to: 2026-01-31T23:00Z, author: Ann, reason: maintenance}\n"
        "  - {where: {service_tier: batch}, author: Bob, reason: no promise}\n",
    )
    assert found == [
        "target: 99.9% of requests good, over 30 days",
        "requests: model large or small, region eu, input_tokens at most 128000",
        "view: provider, so each attempt counts, final or not; answers of a response cache not",
        "good: success, server_error, overloaded, stream_error",
        "bad: timeout, client errors of class auth",
        "not counted: rate_limited, client_error of any other class, cancelled",
        "synthetic checks: not counted",
        "excluded: all requests, from 2026-01-31 22:00 UTC to 2026-01-31 23:00 UTC "
        "(Ann: maintenance)",
        "excluded: service_tier batch, always (Bob: no promise)",
    ]


@pytest.mark.parametrize(
    ("objective", "target", "measured"),
    [
        (
            "indicator: {kind: latency_ratio, measure: ttft, limit: 300ms}, target: 99%, "
            "period: {calendar: month}",
            "99% of measured requests within 300ms, in a calendar month, zone UTC",
            "successes that streamed whose time to first token is known, probes left out",
        ),
        (
            "indicator: {kind: slice_percentile, measure: first_visible, percentile: 95, "
            "limit: 5s}, target: 99%, period: {rolling_days: 1}",
            "99% of slices of 5 min with P95 within 5s, over 1 day",
            "successes whose time to first visible token is known, probes left out",
        ),
        (
            "indicator: {kind: slice_speed, of: output_speed, tokens_per_s: 80}, target: 99%, "
            "period: {rolling_days: 7}",
            "99% of slices of 5 min with P50 of at least 80 tokens/s, over 7 days",
            "successes whose time per output token is known, probes left out",
        ),
        (
            "indicator: {kind: rolling_percentile, measure: tpot, percentile: 95}, "
            "levels: [{severity: page, above: 50ms}]",
            "P95 time per output token over 5m: page above 50ms",
            "successes whose time per output token is known, probes left out",
        ),
    ],
)
def test_a_latency_names_its_limit_and_what_is_measured(
    objective: str, target: str, measured: str
) -> None:
    assert lines(objective) == [f"target: {target}", "requests: all", f"measured: {measured}"]


@pytest.mark.parametrize(
    ("objective", "target"),
    [
        (
            "indicator: {kind: minute_verdicts, down_above: 5%, down_run: 3}, target: 99%, "
            "period: {rolling_days: 7}",
            "99% of minutes up (down: over 5% bad, 3 in a row), over 7 days",
        ),
        (
            "indicator: {kind: slice_ratio_mean}, target: 99%, period: {rolling_days: 7}",
            "99% mean good share of slices of 5 min, over 7 days",
        ),
        (
            "indicator: {kind: cache_hit_ratio}, levels: [{severity: page, below: 30%}]",
            "cached share of the input tokens over 1h whose cached part is known: page below 30%",
        ),
        (
            "indicator: {kind: token_volume_drop}, levels: [{severity: page, below: 30%}]",
            "tokens per second over 5m, as a share of those over 1h: page below 30%",
        ),
    ],
)
def test_other_targets_are_named(objective: str, target: str) -> None:
    assert lines(f"scope: {{per: model}}, {objective}")[:2] == [
        f"target: {target}",
        "requests: all; each model is judged by itself",
    ]


def test_every_shipped_objective_has_a_description() -> None:
    every_key = ROOT / "tests" / "policies" / "every-key.yaml"
    for policy in load_policies([*shipped(), every_key]):
        for objective in policy.objectives:
            for line in describe(policy, objective):
                assert line.partition(": ")[2]
                assert "  " not in line


def uncounted(objective: str, **worker: object) -> list[UncountedLimit]:
    policy = read_policy(f"{HEAD}  - {{name: o, {objective}}}\n", "p.yaml")
    return uncounted_limits(policy, Worker.model_validate(worker))


RATIO = "target: 99%, period: {rolling_days: 7}"
LEVELS = "levels: [{severity: page, above: 317ms}]"
ROLLING = f"indicator: {{kind: rolling_percentile, measure: ttft, percentile: 95}}, {LEVELS}"


@pytest.mark.parametrize(
    ("objective", "setting", "value", "counted"),
    [
        (
            f"indicator: {{kind: latency_ratio, measure: ttft, limit: 317ms}}, {RATIO}",
            "ttft_targets_s",
            "0.317",
            {"ttft_targets_s": [0.317]},
        ),
        (
            "indicator: {kind: slice_speed, of: output_speed, tokens_per_s: 77}, " + RATIO,
            "output_speed_targets",
            "77",
            {"output_speed_targets": [77]},
        ),
        (
            "scope: {input_tokens: {above: 999}}, indicator: {kind: request_ratio}, " + RATIO,
            "input_token_limits",
            "999",
            {"input_token_limits": [999]},
        ),
        # A percentile over several series is judged by exact counts.
        (
            f"scope: {{model: [a, b]}}, {ROLLING}",
            "ttft_targets_s",
            "0.317",
            {"ttft_targets_s": [0.317]},
        ),
    ],
)
def test_a_limit_that_the_workers_do_not_count_is_found(
    objective: str, setting: str, value: str, counted: dict[str, object]
) -> None:
    assert uncounted(objective) == [UncountedLimit("o", f"worker.{setting}", value)]
    assert uncounted(objective, **counted) == []


def test_a_percentile_of_one_series_needs_no_counted_limit() -> None:
    assert uncounted(ROLLING) == []
    assert uncounted(f"scope: {{per: model}}, {ROLLING}") == []
