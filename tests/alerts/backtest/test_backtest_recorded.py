"""The backtest command, and backtests of recorded public traces."""

import asyncio
import csv
import json
import math
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from alerts.backtest.recording import Recording, read_file
from alerts.backtest.report import report
from alerts.backtest.run import Backtest, run, thresholds
from alerts.rules.outages import FLEET_KEEP_S
from slo.policy.loading import load_policies
from slo.policy.policy import Policy
from streams.config.settings import Settings
from streams.kafka.producer import EventProducer
from streams.sources.reading import load_mapping
from tests.support.backtests import (
    SLOW,
    UPTIME,
    backtested,
    bad_day,
    event,
    everything,
    of_rule,
    policy,
    ttft,
)
from tests.support.paths import ROOT
from tests.support.servers import Broker
from tests.support.traces import TRACES, needs_traces, reference
from tokenpulse.cli.main import main

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
    assert "600 events counted, 1 rejected, 1 duplicates, 0 not mapped" in shown.stdout
    assert (
        "page    2026-01-01T00:02:30Z    2m30s  TokenpulseTtftHigh p/ttft: worst 0.9"
        in shown.stdout
    )
    assert "pages: 1, tickets: 0" in shown.stdout
    found = json.loads(invoked(file, "--policy", policy_file, "--json").stdout)
    (alert,) = found["alerts"]
    assert alert["lasted_s"] == 150
    (objective,) = found["promises"]
    spent = f"{float(objective['budget_spent_ratio']):.4g} times that of the recorded time"
    assert f"of a period's, {spent}" in shown.stdout
    assert alert["resolved_at"] == "2026-01-01T00:05:00Z"


def test_rejected_events_are_named_with_line_and_reason(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    nameless = {name: value for name, value in SLOW[0].items() if name != "request_id"}
    file.write_text(
        "\n".join(map(json.dumps, [*[SLOW[0]] * 2, *[nameless] * 12, SLOW[1]])) + "\n{\n"
    )
    shown = invoked(file)
    assert "2 events counted, 13 rejected, 1 duplicates" in shown.stdout
    missing = "rejected, missing_field: request_id: required"
    assert shown.stderr.splitlines() == [
        *(f"{file}: line {line}: {missing}" for line in range(3, 13)),
        f"{file}: line 16: rejected, not_json: malformed",
        f"{file}: 2 more like line 3: {missing}",
    ]


def test_a_file_without_events_is_named_with_the_mapping_that_fits(tmp_path: Path) -> None:
    listed = tmp_path / "events.json"
    listed.write_text(json.dumps(SLOW[:3], indent=1))
    other = tmp_path / "other.jsonl"
    other.write_text('{"a": 1}\n' * 3)
    for file in (listed, other):
        shown = invoked(file)
        assert shown.exit_code == 2
        assert f"{file}: its rows are no events" in shown.stderr
        assert len(shown.stderr.splitlines()) == 1


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
    table = tmp_path / "gateway.csv"
    table.write_text("when,request_id\n2026-01-01T00:00:00Z,a\n")
    for arguments, told_ in (
        ((file,), "no event lies in the stretch"),
        ((table,), "its rows are no events"),
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
        is_over = len(five) >= 20 and p95(five) > 0.3 and sum(s > 0.3 for s in five) >= 10
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
    late = {
        run: sum(
            row["error_code"] is None and row["ttft_s"] > 0.3
            for row in json.loads((folder / f"{run}.json").read_text())
        )
        for run in runs
    }
    over = {
        run for run, answer in runs.items() if answer["ttft_s_no_error"]["p95_nearest_rank"] > 0.3
    }
    assert firing == {run for run in over if late[run] >= 10}
    assert over - firing == {"anyscale_13b"}  # nine of its 150 requests
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
    fleet = of_rule(found, "TokenpulseOutage", scope="fleet").episodes()
    assert len(fleet) == len(downs) >= 3
    for one, (down_s, up_s) in zip(fleet, downs, strict=True):
        assert down_s < one.fired_at_s <= down_s + 60
        assert one.resolved_at_s is not None
        # half of a minute, a step, and the time that the alert is kept firing
        assert up_s < one.resolved_at_s <= up_s + 30 + 20 + FLEET_KEEP_S
    (objective,) = report(found)["promises"]
    down_s = sum(up - down for down, up in downs)
    bad = objective["attainment"]["counted"] - int(objective["attainment"]["good"])
    assert abs(2 * bad - down_s) <= 2 * len(downs)
