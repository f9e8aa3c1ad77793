"""Rules compiled from policies: what they say, and by promtool, when they fire and when not."""

import random
import re
import subprocess
from collections import Counter, defaultdict
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from alerts.promql import number
from alerts.rules.build import Format, build, unread
from alerts.rules.model import Links
from alerts.rules.place_counts import failures
from exporters.catalogue.requests import SPECS
from exporters.windows.plan import window_plan
from slo.policy.burn_rates import burn_rate_thresholds
from slo.policy.loading import PolicyError, load_policy, read_policy
from slo.policy.policy import ErrorBudgetObjective, Policy
from streams.config.settings import Settings
from tests.support.checks import not_none
from tests.support.compiled_rules import SHAPES, alerts_in, read_yaml, records_in, rule_files
from tests.support.intake_labels import INTAKE_LABELS
from tests.support.paths import ROOT
from tests.support.promtool import PROMTOOL, needs_promtool
from tests.support.rule_cases import ALWAYS, CASES, isolated, rule_file, unit_tests
from tests.support.rule_series import named
from tokenpulse.cli.main import main

GENERATED = ROOT / "alerts" / "generated"
# A metric, or a record of it: level, metric and operation.
READ = r"\b(?:[a-z_]+:)?(?:tokenpulse|gen_ai)_[a-z0-9_]+(?::[a-z0-9]+)?|\bup\b(?={)"
LEVELS = """
version: 1
name: p
objectives:
  - name: o
    scope: {scope}
    indicator: {indicator}
    levels: [{{severity: page, {level}}}]
"""


RULES = [rule for text in rule_files().values() for rule in alerts_in(text)]
RECORDS = [rule for text in rule_files().values() for rule in records_in(text)]


def promtool(*arguments: object) -> str:
    command = [not_none(PROMTOOL), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("output", get_args(Format))
def test_the_rules_in_the_project_are_those_of_the_default_policy(output: Format) -> None:
    found = {path.name: path.read_text() for path in (GENERATED / output).iterdir()}
    assert found == build([load_policy("default")], output), "run `tokenpulse rules build`"


@pytest.mark.parametrize(
    "rule", RULES, ids=lambda rule: "-".join([rule["alert"], *rule["labels"].values()])
)
def test_every_alert_has_cases_in_which_it_fires_and_in_which_it_must_not(
    rule: dict[str, Any],
) -> None:
    fires = [case.fires for case in CASES[rule["alert"]](rule["labels"])]
    assert True in fires
    assert (False in fires) != (rule["alert"] in ALWAYS)


@needs_promtool
@pytest.mark.parametrize("alert", sorted({rule["alert"] for rule in RULES}))
def test_an_alert_fires_when_it_must_and_only_then(alert: str, tmp_path: Path) -> None:
    for at, rule in enumerate(rule for rule in RULES if rule["alert"] == alert):
        (tmp_path / f"{at}.yml").write_text(isolated(rule, RECORDS))
        (tmp_path / f"{at}.test.yml").write_text(unit_tests(f"{at}.yml", rule))
    promtool("test", "rules", *tmp_path.glob("*.test.yml"))


def test_labels_without_a_record_read_no_other_record() -> None:
    assert failures(("region", "model")) == failures(("model", "region"))
    with pytest.raises(KeyError):
        failures(("model", "channel"))


@needs_promtool
def test_records_are_the_sums_of_the_requests_and_failures_of_their_place(tmp_path: Path) -> None:
    """In floats most of these ratios are no multiple of a request: 1 - 6/7 of 7 is not 1."""
    chance = random.Random(13)
    series, counts = {}, Counter[tuple[str, str]]()
    for model, region, channel in product(("large", "small"), ("eu", "us"), ("api", "bedrock")):
        requests = chance.randint(1, 9_999)
        failed = chance.randint(0, requests)
        labels = {"model": model, "region": region, "channel": channel, "scope": "series"}
        labels |= {"window": "5m", "job": "one"}
        series[named("tokenpulse_availability_ratio", **labels)] = str(1 - failed / requests)
        series[named("tokenpulse_window_eligible_requests", **labels)] = str(requests)
        for place in (
            f'model="{model}", region="{region}"',
            f'model="{model}"',
            "",
            f'region="{region}"',
        ):
            level = "_".join(re.findall(r"(\w+)=", place)) or "fleet"
            at = ", ".join(filter(None, ('job="one"', place)))
            counts[f"{level}:tokenpulse_eligible_requests:sum5m", at] += requests
            counts[f"{level}:tokenpulse_failed_requests:sum5m", at] += failed
    (tmp_path / "rules.yml").write_text(rule_file(RECORDS))
    samples = defaultdict(list)
    for (name, at), value in counts.items():
        samples[name].append({"labels": f"{name}{{{at}}}", "value": value})
    assert set(samples) == {record["record"] for record in RECORDS}
    tests = {
        "interval": "5s",
        "input_series": [{"series": name, "values": value} for name, value in series.items()],
        "promql_expr_test": [
            {"expr": name, "eval_time": "0s", "exp_samples": found}
            for name, found in samples.items()
        ],
    }
    whole = {"rule_files": ["rules.yml"], "evaluation_interval": "5s", "tests": [tests]}
    (tmp_path / "t.yml").write_text(yaml.safe_dump(whole))
    promtool("test", "rules", tmp_path / "t.yml")


@needs_promtool
def test_what_a_person_reads_is_the_number_the_target_and_the_budget_left() -> None:
    promtool("test", "rules", ROOT / "tests" / "rules" / "annotations.test.yml")


@needs_promtool
def test_promtool_accepts_every_rule_file(tmp_path: Path) -> None:
    for name, text in rule_files().items():
        (tmp_path / name).write_text(text)
    promtool("check", "rules", *tmp_path.iterdir())


@pytest.mark.parametrize(
    "rule", RULES, ids=lambda rule: "-".join([rule["alert"], *rule["labels"].values()])
)
def test_every_alert_says_what_when_whom_and_where_to_look(rule: dict[str, Any]) -> None:
    labels, annotations = rule["labels"], rule["annotations"]
    assert labels["severity"] in ("page", "ticket", "none")
    assert labels.get("route") or labels["severity"] == "none"
    for name in ("summary", "description", "value", "target"):
        assert annotations[name].strip()
    if "tokenpulse_objective_" in rule["expr"]:
        assert "error_budget_left_ratio" in annotations["budget_left"]
    assert annotations["runbook_url"].endswith(f"/{rule['alert']}.md")
    assert "/d/tokenpulse-" in annotations["dashboard_url"]
    if labels["severity"] == "page":
        assert "$value" in annotations["value"] or "{{" not in rule["expr"]


def test_rules_read_only_metrics_that_we_publish() -> None:
    published = {spec.name for spec in SPECS} | {"up", *INTAKE_LABELS}
    for text in rule_files().values():
        for group in read_yaml(text)["groups"]:
            # Another group may be evaluated later, and its records are then an interval old.
            known = set(published)
            for rule in group["rules"]:
                texts = " ".join([rule["expr"], *rule.get("annotations", {}).values()])
                read = set(re.findall(READ, texts))
                assert read <= known, (rule, read - known)
                known.add(rule.get("record", ""))


def test_every_window_that_a_rule_reads_is_published_or_told() -> None:
    plan = window_plan(Settings())
    assert unread([load_policy("default")], plan) == []
    (line,) = unread(
        [one_level("{per: customer}", "{kind: cache_hit_ratio, window: 1h}", "below: 30%")], plan
    )
    assert line.startswith("p: o: reads the window 5m by customer")
    outage = "TokenpulseOutage: reads the window 1m by region, which the exporter does not publish"
    without = {**plan, "1m": [scope for scope in plan["1m"] if scope != "region"]}
    assert [line.partition(";")[0] for line in unread([], without)] == [outage]


def one_level(scope: str, indicator: str, level: str) -> Policy:
    return read_policy(LEVELS.format(scope=scope, indicator=indicator, level=level), "p.yaml")


def objective(
    target: str, period: str = "{rolling_days: 30}", severity: str = "page"
) -> ErrorBudgetObjective:
    text = f"""
version: 1
name: p
objectives:
  - name: o
    indicator: {{kind: request_ratio}}
    target: {target}
    period: {period}
    severity: {severity}
"""
    return read_policy(text, "p.yaml").error_budget_objectives()[0]


def test_thirty_days_burn_at_the_factors_of_the_book() -> None:
    found = [
        (one.severity, one.long, one.short, one.factor)
        for one in burn_rate_thresholds(objective("99.9%"))
    ]
    assert found == [
        ("page", "1h", "5m", Fraction(144, 10)),
        ("page", "6h", "30m", 6),
        ("ticket", "1d", "2h", 3),
        ("ticket", "3d", "6h", 1),
    ]
    month = "{calendar: month, zone: Europe/Berlin}"
    assert burn_rate_thresholds(objective("99.9%", month)) == burn_rate_thresholds(
        objective("99.9%")
    )


def test_other_periods_scale_the_factors_exactly() -> None:
    factors = [one.factor for one in burn_rate_thresholds(objective("99.9%", "{rolling_days: 28}"))]
    assert factors == [Fraction(1344, 100), Fraction(56, 10), Fraction(28, 10)]


def test_a_speed_that_not_even_an_outage_reaches_has_no_alert() -> None:
    # 14.4 times a budget of 10 % would be 144 % of the requests.
    assert [one.factor for one in burn_rate_thresholds(objective("90%"))] == [6, 3, 1]


def test_an_objective_pages_only_if_it_says_so() -> None:
    assert {
        one.severity for one in burn_rate_thresholds(objective("99.9%", severity="ticket"))
    } == {"ticket"}
    assert burn_rate_thresholds(objective("99.9%", severity="none")) == ()


@given(st.fractions())
def test_numbers_are_written_exactly(value: Fraction) -> None:
    text = number(value)
    if text.startswith("("):
        above, below = text.strip("()").split(" / ")
        assert Fraction(int(above), int(below)) == value
    else:
        assert Fraction(text) == value


@given(st.integers(-(10**12), 10**12), st.integers(0, 9))
def test_decimals_stay_decimals(digits: int, places: int) -> None:
    assert "/" not in number(Fraction(digits, 10**places))


def test_windows_cannot_tell_customers_by_the_id_of_the_policy() -> None:
    policy = one_level("{customer: acct-1}", "{kind: cache_hit_ratio}", "below: 30%")
    with pytest.raises(PolicyError, match=r"p: objective o: scope: .*write \{per: customer\}"):
        build([policy])


def test_a_name_held_fast_by_the_scope_is_a_label_for_routing_and_inhibition() -> None:
    texts = build([load_policy(SHAPES)])
    labels = {
        rule["labels"].get("objective"): rule["labels"]
        for rule in alerts_in(texts["policy-shapes.yml"])
    }
    assert labels["ttft-in-eu"]["region"] == "eu"
    assert "region" not in labels["ttft-by-region"]


@pytest.mark.parametrize(
    ("scope", "indicator", "labels"),
    [
        ("{}", "{kind: request_ratio}", ("fleet", "availability")),
        ("{model: [large, small]}", "{kind: request_ratio}", ("model", "availability")),
        (
            "{service_tier: priority}",
            "{kind: minute_verdicts, down_above: 5%}",
            ("service_tier", "availability"),
        ),
        ("{per: region, model: large}", "{kind: slice_ratio_mean}", ("series", "availability")),
        ("{input_tokens: {above: 9}}", "{kind: request_ratio}", ("series", "availability")),
        ("{}", "{kind: request_ratio, failed: [timeout]}", ("fleet", "errors")),
        ("{}", "{kind: request_ratio, error_classes: [auth]}", ("fleet", "errors")),
        ("{}", "{kind: latency_ratio, measure: ttft, limit: 1s}", ("fleet", "latency")),
    ],
)
def test_a_burn_rate_names_its_place_and_its_kind(
    scope: str, indicator: str, labels: tuple[str, str]
) -> None:
    """An outage silences only the burn rates that it explains."""
    text = (
        LEVELS.partition("    levels")[0] + "    target: 99.9%\n    period: {{rolling_days: 30}}\n"
    )
    policy = read_policy(text.format(scope=scope, indicator=indicator), "p.yaml")
    burns = [
        rule for rule in alerts_in(build([policy])["policy-p.yml"]) if "window" in rule["labels"]
    ]
    assert {(rule["labels"]["scope"], rule["labels"]["kind"]) for rule in burns} == {labels}


def test_links_to_the_board_lead_to_the_place_and_only_if_its_address_is_given() -> None:
    without = alerts_in(build([])["tokenpulse.yml"])
    assert all("board_url" not in rule["annotations"] for rule in without)
    for rule in alerts_in(build([], links=Links(board="https://board/"))["tokenpulse.yml"]):
        assert rule["annotations"]["board_url"].startswith(
            "https://board/{{ if $labels.model }}model/{{ $labels.model | urlquery }}"
        )


def test_kubernetes_gets_the_same_rules_as_a_manifest() -> None:
    policies = [load_policy("default")]
    plain = build(policies)
    for name, text in build(policies, "kubernetes").items():
        manifest = read_yaml(text)
        assert (manifest["apiVersion"], manifest["kind"]) == (
            "monitoring.coreos.com/v1",
            "PrometheusRule",
        )
        assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", manifest["metadata"]["name"])
        assert manifest["spec"] == read_yaml(plain[name])


def test_the_command_writes_checks_and_says_what_is_stale(tmp_path: Path) -> None:
    def run(*more: str) -> Result:
        fixed = ["rules", "build", "--out", str(tmp_path), "--allow-example-urls"]
        return CliRunner().invoke(main, [*fixed, *more])

    assert run("--check").exit_code == 1
    assert run("--runbooks", "https://wiki/tp/").exit_code == 0
    assert "https://wiki/tp/TokenpulseOutage.md" in (tmp_path / "tokenpulse.yml").read_text()
    stale = run("--check")
    assert stale.exit_code == 1
    assert "tokenpulse.yml: differs from the policies" in stale.output
    assert run().exit_code == 0
    assert run("--check").exit_code == 0
    assert "no such file" in run("--policy", "nowhere.yaml").output


@needs_promtool
@pytest.mark.parametrize(
    ("links", "option"),
    [
        ((), "--runbooks"),
        (("https://wiki/tp", "https://grafana.example.com/x"), "--dashboards"),
        (("https://a.example.org:8/", "https://grafana"), "--runbooks"),
        (("https://[::1", "https://grafana"), "--runbooks"),
        (("https://example.com.corp", "https://myexample.com"), None),
    ],
)
def test_links_to_example_addresses_are_refused(
    tmp_path: Path, links: tuple[str, ...], option: str | None
) -> None:
    given = [
        f"{name}={url}" for name, url in zip(("--runbooks", "--dashboards"), links, strict=False)
    ]
    done = CliRunner().invoke(main, ["rules", "build", "--out", str(tmp_path / "new"), *given])
    assert done.exit_code == (0 if option is None else 2)
    assert (tmp_path / "new").exists() == (option is None)
    assert done.stderr.startswith(f"tokenpulse: {option}: " if option else "")


def test_the_budget_left_is_that_of_whom_the_alert_is_about(tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(build([load_policy(SHAPES)])["policy-shapes.yml"])
    about = {
        "eu": ("0.9+0x8", "0.12+0x8"),
        "us": ("0.999+0x8", "0.8+0x8"),
    }
    series = [
        {
            "series": f"tokenpulse_objective_{name}"
            f'{{policy="shapes",objective="ttft-promise",region="{region}"}}',
            "values": values,
        }
        for region, both in about.items()
        for name, values in zip(("attainment_ratio", "error_budget_left_ratio"), both, strict=True)
    ]
    unexpected = {"alertname": "TokenpulseObjectiveMissed", "eval_time": "2m", "exp_alerts": []}
    tests = [{"interval": "15s", "input_series": series, "alert_rule_test": [unexpected]}]
    (tmp_path / "t.yml").write_text(yaml.safe_dump({"rule_files": ["rules.yml"], "tests": tests}))
    done = subprocess.run(
        [not_none(PROMTOOL), "test", "rules", tmp_path / "t.yml"], capture_output=True, text=True
    )
    assert 'budget_left="12%"' in done.stdout + done.stderr
    assert 'budget_left="80%"' not in done.stdout + done.stderr


@pytest.mark.parametrize("path", ["README.md", "deploy/prometheus/prometheus.yml"])
def test_every_scrape_configuration_names_the_job_that_the_rules_know(path: str) -> None:
    """With another name, TokenpulseExporterDown fires for ever and silences all alerts."""
    jobs = re.findall(r"job_name: (\S+)", (ROOT / path).read_text())
    others = {"prometheus", "alertmanager", "tokenpulse-intake", "tokenpulse-worker"}
    # The pages of other jobs must not count as exporters that answer.
    assert [job for job in jobs if re.fullmatch(Links().job, job)] == [Links().job]
    assert set(jobs) - {Links().job} <= others
