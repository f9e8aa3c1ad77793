"""`tokenpulse policy check`: what each objective counts, in words and in numbers of the state."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from streams.config.settings import Redis, Settings
from tests.support.command import run
from tests.support.exporter_state import event, some_events, write_state

POLICY = """
version: 1
name: p
objectives:
  - name: models
    scope: {region: eu-west-1, per: model}
    indicator: {kind: request_ratio}
    target: 99%
    period: {rolling_days: 7}
    exclusions:
      - {where: {model: haiku}, author: Ann, reason: a preview}
  - name: provider
    indicator: {kind: request_ratio, view: provider, probes: false}
    target: 99%
    period: {rolling_days: 7}
  - name: acme
    scope: {customer: acme}
    indicator: {kind: request_ratio}
    target: 99%
    period: {rolling_days: 7}
  - name: speed
    indicator: {kind: latency_ratio, measure: ttft, limit: 300ms}
    target: 99%
    period: {rolling_days: 7}
  - name: nowhere
    scope: {model: mistyped}
    indicator: {kind: rolling_percentile, measure: ttft, percentile: 95}
    levels: [{severity: page, above: 300ms}]
"""
BAD = {"server_error", "timeout", "overloaded", "stream_error"}
COUNTED = {"success", *BAD}


def written(folder: Path, text: str = POLICY) -> Path:
    file = folder / "p.yaml"
    file.write_text(text)
    return file


def counts_by_objective(output: str) -> dict[str, str]:
    """The numbers that the command prints, by objective."""
    found, name = {}, ""
    for line in output.splitlines():
        if line.startswith("  ") and not line.startswith("    "):
            name = line.strip()
        if line.startswith("    last 24 h: "):
            found[name] = line.partition(": ")[2]
    return found


def test_the_numbers_of_each_objective_equal_a_recount(
    configured: Callable[..., Any], tmp_path: Path
) -> None:
    now_s = time.time()
    events = some_events(3, 400, now_s - 1_800, now_s - 60)
    events += [event(now_s - 30, outcome="timeout", final=False) for _ in range(7)]
    settings = configured()
    write_state(settings, {0: events}, now_s)
    done = run("policy", "check", written(tmp_path), settings=settings)
    assert (done.exit_code, done.stderr) == (0, "")

    def told(chosen: list[dict[str, Any]]) -> str:
        counted = [one["outcome"] for one in chosen if one["outcome"] in COUNTED]
        bad = sum(outcome in BAD for outcome in counted)
        return f"; {len(counted):,} count, {bad:,} of them bad"

    real = [one for one in events if not one.get("probe")]
    final = [one for one in real if one.get("final", True)]
    here = [one for one in events if one["region"] == "eu-west-1" and one["model"] != "haiku"]
    acme = [one for one in final if one["customer_id"] == "acme"]
    measured = [one["ttft_ms"] for one in final if one["outcome"] == "success"]
    slow = sum(ttft_ms > 300 for ttft_ms in measured)
    requests = len([one for one in here if one in final])
    probes = len([one for one in here if one.get("probe")])
    assert probes > 1
    assert counts_by_objective(done.stdout) == {
        "models": f"{requests} requests of 2 models and {probes} synthetic checks{told(here)}",
        "provider": f"{len(final)} requests{told(real)}",
        "acme": f"{len(acme)} requests{told(acme)}",
        "speed": f"{len(final)} requests; {len(measured)} count, {slow} of them bad",
        "nowhere": "0 requests; check the scope",
    }


def test_a_limit_that_is_not_counted_is_status_1(tmp_path: Path, unused_port: int) -> None:
    nowhere = Settings(redis=Redis(url=f"redis://127.0.0.1:{unused_port}/0"))
    file = written(tmp_path, POLICY.replace("limit: 300ms", "limit: 317ms"))
    done = run("policy", "check", file, settings=nowhere)
    assert done.exit_code == 1
    assert f"{file}: policy p, 5 objectives, some stay unknown" in done.stdout
    no_state, uncounted = done.stderr.splitlines()
    assert no_state.startswith("no requests to compare with: ")
    assert uncounted == (
        f"{file}: objective speed stays unknown: worker.ttft_targets_s: got no 0.317; add it to "
        "the settings of the workers"
    )


def test_without_a_file_the_policies_in_force_are_checked(
    configured: Callable[..., Any], tmp_path: Path
) -> None:
    file = written(tmp_path)
    settings = configured(policies=("default", str(file)))
    write_state(settings, {0: some_events(3, 10, time.time() - 60, time.time())}, time.time())
    done = run("policy", "check", settings=settings)
    assert [line for line in done.output.splitlines() if ": policy " in line] == [
        line
        for line in run("policy", "check", "default", file, settings=settings).output.splitlines()
        if ": policy " in line
    ]
    assert f"{file}: policy p, 5 objectives, fine" in done.output


def test_without_a_state_only_the_words_are_printed(tmp_path: Path, unused_port: int) -> None:
    nowhere = Settings(redis=Redis(url=f"redis://127.0.0.1:{unused_port}/0"))
    done = run("policy", "check", written(tmp_path), settings=nowhere)
    assert done.exit_code == 0
    assert "view: provider, so each attempt counts, final or not" in done.stdout
    assert counts_by_objective(done.stdout) == {}


def test_customers_without_their_key_have_no_numbers(
    configured: Callable[..., Any], tmp_path: Path
) -> None:
    settings = configured()
    now_s = time.time()
    write_state(settings, {0: [event(now_s - 60)]}, now_s)
    keyless = configured({"customer_key": None})
    done = run("policy", "check", written(tmp_path), settings=keyless)
    assert done.exit_code == 0
    counts = counts_by_objective(done.stdout)
    assert counts["acme"].startswith("unknown, as worker.customer_key")
    assert counts["provider"].startswith("1 request; 1 count")
