"""OpenSLO v1 maps where a query says exactly which of our requests are meant; the rest is told."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from alerts.openslo import Imported, from_openslo
from slo.policy.loading import as_policy, read_policy, shipped
from streams.config.yaml_file import parse_yaml
from tests.support.paths import TESTS
from tests.support.policy_files import one
from tokenpulse.cli.main import OneLineErrors
from tokenpulse.cli.policy import policy
from tokenpulse.local import client_settings

FILE = TESTS / "policies" / "openslo.yaml"
SUCCESS = ["success", "server_error", "timeout", "overloaded", "stream_error"]


def imported(documents: list[Any]) -> Imported:
    return from_openslo(documents, "o.yaml", "imported")


def every() -> dict[str, dict[str, Any]]:
    found = imported(parse_yaml(FILE.read_text(), "o.yaml", exact=True))
    assert found.notes == []
    return {entry["name"]: entry for entry in found.policy["objectives"]}


def slo(**changes: Any) -> dict[str, Any]:
    """One SLO that maps, its spec changed."""
    counts = {
        part: {"metricSource": {"spec": {"query": f"tokenpulse_requests_total{{{matcher}}}"}}}
        for part, matcher in (("good", 'outcome="success"'), ("total", ""))
    }
    spec = {
        "indicator": {"spec": {"ratioMetric": counts}},
        "timeWindow": [{"duration": "30d", "isRolling": True}],
        "budgetingMethod": "Occurrences",
        "objectives": [{"target": 0.99}],
    }
    return {
        "apiVersion": "openslo/v1",
        "kind": "SLO",
        "metadata": {"name": "x"},
        "spec": deepcopy(spec) | changes,
    }


def queries(good: str, total: str) -> dict[str, Any]:
    return {
        "spec": {
            "ratioMetric": {
                "good": {"metricSource": {"spec": {"query": good}}},
                "total": {"metricSource": {"spec": {"query": total}}},
            }
        }
    }


def threshold(query: str) -> dict[str, Any]:
    return slo(
        indicator={"spec": {"thresholdMetric": {"metricSource": {"spec": {"query": query}}}}},
        budgetingMethod="Timeslices",
        objectives=[{"op": "lte", "value": 0.3, "target": 0.9, "timeSliceWindow": "5m"}],
    )


# --- what maps


def test_what_maps_is_a_policy() -> None:
    policy = as_policy(imported(parse_yaml(FILE.read_text(), "o.yaml", exact=True)).policy, "test")
    assert [entry.indicator.kind for entry in policy.objectives] == [
        *("request_ratio", "request_ratio", "minute_verdicts", "slice_ratio_mean"),
        *("latency_ratio", "slice_percentile", "slice_percentile"),
    ]


def test_each_target_of_an_slo_becomes_an_objective() -> None:
    assert every()["gateway-availability-1"] == {
        "name": "gateway-availability-1",
        "about": "Requests succeed.",
        "scope": {"model": "aurora-4.1"},
        "indicator": {
            "kind": "request_ratio",
            "eligible": SUCCESS,
            "failed": SUCCESS[1:],
            "probes": False,
        },
        "target": "99.95%",
        "period": {"rolling_days": 28},
    }
    assert every()["gateway-availability-2"]["target"] == "99.9%"


def test_time_slices_of_a_minute_are_minute_verdicts() -> None:
    minutes = every()["minutes"]
    assert minutes["period"] == {"calendar": "month", "zone": "America/New_York"}
    assert minutes["indicator"] == {
        "kind": "minute_verdicts",
        "down_above": "5%",
        "eligible": [*SUCCESS, "rate_limited", "client_error", "cancelled"],
        "failed": ["server_error", "overloaded"],
        "probes": False,
    }


def test_ratio_time_slices_are_a_mean_of_ratios() -> None:
    indicator = every()["means"]["indicator"]
    assert (indicator["kind"], indicator["slice"]) == ("slice_ratio_mean", "5m")
    assert every()["means"]["period"] == {"rolling_days": 30}


def test_latency_counters_are_a_latency_ratio_or_a_percentile_of_slices() -> None:
    ratio = every()["first-token"]
    assert ratio["indicator"] == {"kind": "latency_ratio", "measure": "ttft", "limit": "300ms"}
    assert ratio["scope"] == {"region": ["eu", "us"]}
    for name, measure, limit in (
        ("first-token-slices", "ttft", "300ms"),
        ("token-time", "tpot", "50ms"),
    ):
        assert every()[name]["indicator"] == {
            "kind": "slice_percentile",
            "measure": measure,
            "limit": limit,
            "percentile": 95,
            "slice": "5m",
        }
        assert every()[name]["scope"] == "fleet"


# --- what does not map is told, and nothing is guessed


FOREIGN = 'sum(rate(http_requests_total{code=~"2.."}[5m]))'
REQUESTS = "tokenpulse_requests_total"


@pytest.mark.parametrize(
    ("document", "note"),
    [
        (slo(indicator=queries(FOREIGN, FOREIGN)), "ratioMetric.total: cannot read 'code=~"),
        (slo(indicator=queries("http_ok", "http_all")), "ratioMetric: got http_ok of http_all;"),
        (slo(indicator=queries("a / b", "c")), "ratioMetric.good: got the query 'a / b'; only a"),
        (slo(indicator=queries(f"sum({REQUESTS}", REQUESTS)), "ratioMetric.good: got the query"),
        (
            slo(indicator=queries(f'{REQUESTS}{{model="a"}}', f'{REQUESTS}{{model="b"}}')),
            "ratioMetric: the two queries select different series; use one scope",
        ),
        (
            slo(indicator=queries(f'{REQUESTS}{{job="a"}}', f'{REQUESTS}{{job="a"}}')),
            "tokenpulse_requests_total: the label job does not map",
        ),
        (
            slo(indicator=queries(f'{REQUESTS}{{outcome="ok"}}', REQUESTS)),
            "got the outcome 'ok'; there are success, server_error",
        ),
        (slo(indicator={}), "ratioMetric: only total with either good or bad maps"),
        (slo(indicator=None, indicatorRef="y"), "spec.indicatorRef: got 'y'; no such SLI in this"),
        (slo(budgetingMethod="Magic"), "spec.budgetingMethod: got 'Magic'; use Occurrences or"),
        (slo(timeWindow=[{"duration": "1Q", "isRolling": True}]), "spec.timeWindow: got 1Q; only"),
        (slo(timeWindow=[]), "spec.timeWindow: got no list of one window; write one"),
        (
            slo(
                timeWindow=[
                    {
                        "duration": "1M",
                        "calendar": {"startTime": "2026-01-15 00:00:00", "timeZone": "UTC"},
                    }
                ]
            ),
            "spec.timeWindow: of calendars only months from the first at midnight map",
        ),
        (slo(objectives=[{}]), "spec.objectives[0]: got neither target nor targetPercent"),
        (slo(objectives=[{"target": True}]), "spec.objectives[0].target: got True; write a numb"),
        (slo(objectives=[{"target": ".nan"}]), "spec.objectives[0].target: got '.nan'; write a"),
        (slo(objectives=[]), "spec.objectives: got nothing; write at least one with a target"),
        (
            slo(
                budgetingMethod="Timeslices",
                objectives=[{"target": 0.9, "timeSliceTarget": 0.9, "timeSliceWindow": "5m"}],
            ),
            "spec.objectives[0].timeSliceWindow: only 1m maps for requests",
        ),
        (
            threshold('tokenpulse_ttft_seconds{scope="fleet",window="1h",quantile="0.95"}'),
            "spec.objectives[0].timeSliceWindow: differs from the query's window; use one",
        ),
        (
            threshold('tokenpulse_ttft_seconds{scope="model",window="5m",quantile="0.95"}'),
            "tokenpulse_ttft_seconds: scope and names do not belong together",
        ),
        (
            threshold('tokenpulse_ttft_seconds{scope="fleet",window="5m",quantile="0.995"}'),
            "spec.objectives[0]: only whole percentiles map, such as 0.95",
        ),
        (threshold("node_load1"), "thresholdMetric: got node_load1; only tokenpulse_ttft_seconds"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_an_slo_that_does_not_map_is_left_out_with_a_line(
    document: dict[str, Any], note: str
) -> None:
    found = imported([document])
    assert found.policy["objectives"] == []
    [line] = found.notes
    assert line.startswith(f"o.yaml: SLO x: {note}")


def test_other_kinds_and_alert_policies_are_told() -> None:
    service = {"apiVersion": "openslo/v1", "kind": "Service", "metadata": {"name": "gateway"}}
    old = {"apiVersion": "openslo/v1alpha", "kind": "SLO", "metadata": {"name": "old"}}
    found = imported([service, old, 7, slo(alertPolicies=["p"])])
    assert len(found.policy["objectives"]) == 1
    starts = ["Service gateway: not", "document old: not", "document (no name): not"]
    starts.append("SLO x: spec.alertPolicies: not imported")
    assert len(found.notes) == len(starts)
    for line, start in zip(found.notes, starts, strict=True):
        assert line.startswith(f"o.yaml: {start}")


# --- the commands


@pytest.fixture(autouse=True)
def no_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the command find no `tokenpulse up`, such as that of another test."""
    monkeypatch.setattr(client_settings, "running_stacks", list)


def run(*arguments: object) -> Result:
    main = OneLineErrors(commands=[policy])
    return CliRunner().invoke(main, ["policy", *(str(one) for one in arguments)])


def test_check_says_fine_for_all_that_is_shipped() -> None:
    done = run("check", *shipped())
    assert done.exit_code == 1
    verdicts = [line for line in done.stdout.splitlines() if not line.startswith(" ")]
    assert [line.split(":")[0] for line in verdicts] == list(shipped())
    # This preset needs settings of the workers.
    assert {line.split(":")[0] for line in done.stderr.splitlines()} == {"openai-scale-style"}
    assert all(
        line.endswith("add it to the settings of the workers") for line in done.stderr.splitlines()
    )


def test_check_is_silent_about_limits_that_the_workers_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TOKENPULSE_WORKER__OUTPUT_SPEED_TARGETS", "[50]")
    monkeypatch.setenv("TOKENPULSE_WORKER__INPUT_TOKEN_LIMITS", "[128000]")
    assert run("check", "openai-scale-style").stderr == ""


def test_check_names_the_input_lengths_that_the_workers_do_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(yaml.safe_dump(one(scope={"input_tokens": {"above": 1_000, "at_most": 2_000}})))
    monkeypatch.setenv("TOKENPULSE_WORKER__INPUT_TOKEN_LIMITS", "[1000]")
    assert run("check", path).stderr == (
        f"{path}: objective uptime stays unknown: worker.input_token_limits: got no 2000; add it "
        "to the settings of the workers\n"
    )


def test_check_ends_with_one_line_for_each_mistake(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("version: 1\nname: X\nobjectives: []\n")
    done = run("check", "default", wrong)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert [line.split(" got ")[0] for line in done.stderr.splitlines()] == [
        f"tokenpulse: {wrong}: name:",
        f"tokenpulse: {wrong}: objectives:",
    ]


def test_an_import_is_a_policy_that_reads_back(tmp_path: Path) -> None:
    done = run("import-openslo", FILE)
    assert (done.exit_code, done.stderr) == (0, "")
    found = read_policy(done.stdout, "out")
    assert (found.name, len(found.objectives)) == ("openslo", 7)
    assert "&" not in done.stdout  # no anchors: people are to edit it
    mixed = tmp_path / "mixed.yaml"
    mixed.write_text(yaml.safe_dump_all([slo(), slo(timeWindow=None)]))
    done = run("import-openslo", mixed, "--name", "Team One")
    assert done.exit_code == 1
    assert read_policy(done.stdout, "out").name == "team-one"
    assert done.stderr.startswith(f"{mixed}: SLO x: spec.timeWindow: ")


def test_an_import_of_nothing_that_maps_writes_nothing(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.yaml"
    foreign.write_text(yaml.safe_dump(slo(indicator=queries("a", "b"))))
    done = run("import-openslo", foreign)
    assert (done.exit_code, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 2


def test_an_import_that_makes_no_good_policy_says_why(tmp_path: Path) -> None:
    perfect = tmp_path / "perfect.yaml"
    perfect.write_text(yaml.safe_dump(slo(objectives=[{"target": 1}])))
    done = run("import-openslo", perfect)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "perfect.yaml, imported: objectives[0].target: got '100%'" in done.stderr
