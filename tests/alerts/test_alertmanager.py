"""Alertmanager's configuration: who is told, what is silenced by what, and what people read.

The real Alertmanager with the project's own file. Before release 0.26 it cannot read a webhook's
URL from a file; there the URL is written into a copy.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.support.alertmanager import (
    AMTOOL,
    CONFIG,
    SERVER,
    TEMPLATES,
    Alertmanager,
    Receiver,
    canonical,
    readable,
)
from tests.support.checks import not_none
from tests.support.programs import needs_programs
from tests.support.servers import wait_until

needs_alertmanager = needs_programs(amtool=AMTOOL, alertmanager=SERVER)
TTFT = {"alertname": "TokenpulseTtftHigh", "severity": "page", "derived_from": "state"}
BURN = {"alertname": "TokenpulseErrorBudgetBurn", "derived_from": "state", "policy": "default"}
FLEET_BURN = BURN | {"severity": "page", "scope": "fleet", "kind": "availability"}
STALE = {"alertname": "TokenpulseDataStale", "severity": "page", "cause": "workers"}
OUTAGE = {"alertname": "TokenpulseOutage", "severity": "page", "derived_from": "state"}
JUMP = {"alertname": "TokenpulseClientErrorsJump", "scope": "model", "model": "large"}
LIMITED = {"alertname": "TokenpulseRateLimitedJump", "severity": "ticket"}
VOLUME = {"alertname": "TokenpulseTokenVolumeDrop", "severity": "page", "derived_from": "state"}
SLOW = {"alertname": "TokenpulseModelSlowInRegion", "severity": "page", "derived_from": "state"}
CACHE = {"alertname": "TokenpulseCacheHitLow", "severity": "page", "derived_from": "state"}
EXPLAINS = {"alertname": "TokenpulseOutageExplains", "severity": "none", "derived_from": "state"}
DOWN = {"alertname": "TokenpulseExporterDown", "severity": "page", "cause": "down"}
INCOMPLETE = {"alertname": "TokenpulseWindowIncomplete", "severity": "ticket"}
LARGE_IN_EU = {"scope": "model_region", "model": "large", "region": "eu"}
UNDELIVERED = {"alertname": "TokenpulseAlertingFails", "cause": "delivery"}
REFUSED = {"alertname": "TokenpulseRecordsRefused"}
NOT_COUNTED = {"alertname": "TokenpulseNothingCounted", "severity": "page"}
HALTED = {"alertname": "TokenpulsePartitionHalted", "severity": "page", "partition": "0"}
LAG = {"alertname": "TokenpulseLagGrowing", "severity": "ticket", "route": "sre"}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "alertmanager.yml"
    path.write_text(readable(CONFIG.read_text()))
    shutil.copytree(TEMPLATES.parent, tmp_path / "templates")
    return path


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.server.shutdown()
    receiver.server.server_close()


def amtool(*arguments: object) -> str:
    command = [not_none(AMTOOL), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


@needs_alertmanager
def test_amtool_accepts_the_configuration_and_the_templates(config: Path) -> None:
    found = amtool("check-config", config)
    assert "1 templates" in found
    assert "SUCCESS" in found


def test_no_secret_and_no_url_stands_in_the_configuration() -> None:
    text = CONFIG.read_text()
    assert "://" not in text
    assert not re.search(r"(password|key|token|api_url|\burl):", text)


@needs_alertmanager
@pytest.mark.parametrize(
    ("labels", "receivers"),
    [
        (TTFT, "pages"),
        (TTFT | {"digest": "cro"}, "cro-digest,pages"),
        (BURN | {"severity": "ticket", "digest": "cro"}, "cro-digest,tickets"),
        (BURN | {"severity": "ticket", "route": "sla"}, "account-team"),
        (BURN | {"severity": "page", "route": "sla"}, "pages"),
        (LAG, "tickets"),
        (STALE, "pages"),
        ({"alertname": "TokenpulseWatchdog", "severity": "none"}, "dead-man"),
        (EXPLAINS, "silent"),
        (INCOMPLETE, "weekly-digest,tickets-once"),
        (
            {"alertname": "TokenpulseObjectiveMissed", "severity": "ticket", "digest": "cro"},
            "cro-digest,weekly-digest,tickets-once",
        ),
        ({"alertname": "SomebodyElses"}, "tickets"),
    ],
)
def test_everyone_is_told_what_is_theirs(
    config: Path, labels: dict[str, str], receivers: str
) -> None:
    pairs = [f"{name}={value}" for name, value in labels.items()]
    assert amtool("config", "routes", "test", f"--config.file={config}", *pairs) == receivers


@pytest.fixture
def alertmanager(tmp_path: Path, config: Path, receiver: Receiver) -> Iterator[Alertmanager]:
    """The real one, with all that leaves it led to `receiver`."""
    (tmp_path / "slack_url").write_text(receiver.url + "/slack")
    text = readable(CONFIG.read_text(), receiver.url)
    document = yaml.safe_load(text)
    document["global"]["slack_api_url_file"] = str(tmp_path / "slack_url")
    for one in document["receivers"]:
        for kind in ("pagerduty_configs", "email_configs"):
            one.pop(kind, None)
    document["route"]["group_wait"] = "0s"
    for route in document["route"]["routes"]:
        route["group_wait"] = "0s"
    config.write_text(yaml.safe_dump(document))
    alertmanager = Alertmanager(config)
    yield alertmanager
    alertmanager.process.terminate()
    alertmanager.process.wait(10)


@needs_alertmanager
@pytest.mark.parametrize(
    ("cause", "silenced", "loud"),
    [
        pytest.param(
            STALE,
            [TTFT, BURN | {"severity": "page"}, OUTAGE | {"scope": "fleet"}],
            [LAG, TTFT | {"job": "other"}],
            id="if no worker counts, all that is derived is untrue, in this Tokenpulse",
        ),
        pytest.param(
            STALE | {"cause": "worker", "partition": "0"},
            [STALE | {"cause": "behind", "partition": "0"}],
            [
                VOLUME,
                OUTAGE | {"scope": "region", "region": "eu"},
                BURN | {"severity": "page"},
                STALE | {"cause": "behind", "partition": "1"},
            ],
            id="one late partition leaves ratios true",
        ),
        pytest.param(
            STALE | {"cause": "state"},
            [
                STALE | {"cause": "exporter"},
                STALE,
                STALE | {"cause": "worker", "partition": "0"},
                {"alertname": "TokenpulseStoreErrors", "severity": "ticket"},
            ],
            [LAG],
            id="a Redis that does not answer stops all that needs it",
        ),
        pytest.param(
            DOWN | {"job": "tokenpulse-exporter"},
            [TTFT | {"job": "tokenpulse-exporter"}],
            [LAG, TTFT | {"job": "other"}],
            id="exporters that are all down silence their own numbers",
        ),
        pytest.param(
            DOWN | {"cause": "no_target"},
            [],
            [TTFT, VOLUME],
            id="a target that is not found is no proof",
        ),
        pytest.param(
            {"alertname": "TokenpulseExporterDown", "severity": "ticket", "cause": "some"},
            [],
            [TTFT],
            id="one exporter of two is enough to know",
        ),
        pytest.param(
            {"alertname": "TokenpulseScrapeLimit", "severity": "page", "cause": "samples"},
            [DOWN],
            [LAG],
            id="a page that is refused explains why no exporter answers",
        ),
        pytest.param(
            {"alertname": "TokenpulseStateLost", "severity": "page", "partition": "0"},
            [
                {"alertname": "TokenpulseRecordsLost", "severity": "page", "partition": "0"},
                INCOMPLETE | {"window": "1h"},
                STALE | {"cause": "behind", "partition": "0"},
            ],
            [{"alertname": "TokenpulseRecordsLost", "severity": "page", "partition": "1"}],
            id="what a lost state brings with it",
        ),
        pytest.param(
            UNDELIVERED | {"severity": "page", "integration": "slack"},
            [UNDELIVERED | {"severity": "ticket", "integration": "slack"}],
            [UNDELIVERED | {"severity": "ticket", "integration": "email"}],
            id="a receiver that gets no message needs no ticket on some of them",
        ),
        pytest.param(
            EXPLAINS | {"explains": "burn"},
            [FLEET_BURN],
            [
                BURN | {"severity": "page", "scope": "customer", "kind": "availability"},
                # {model: [large, small]} and {service_tier: priority}: parts of the fleet
                BURN | {"severity": "page", "scope": "model", "kind": "availability"},
                BURN | {"severity": "page", "scope": "service_tier", "kind": "availability"},
                FLEET_BURN | {"kind": "latency"},
                FLEET_BURN | {"kind": "errors"},
                BURN | {"severity": "ticket"},
                VOLUME,
            ],
            id="failures of places that are down explain the burn rate of the fleet",
        ),
        pytest.param(
            EXPLAINS | {"explains": "late"},
            [VOLUME],
            [FLEET_BURN, OUTAGE | {"scope": "region", "region": "eu"}],
            id="records that wait explain the missing tokens",
        ),
        pytest.param(
            REFUSED | {"severity": "page"},
            [VOLUME, REFUSED | {"severity": "ticket"}, NOT_COUNTED],
            [BURN | {"severity": "page"}, HALTED | {"reason": "store_policy"}],
            id="records that are rejected explain the missing tokens",
        ),
        pytest.param(
            HALTED | {"reason": "dead_letters"},
            [REFUSED | {"severity": "page"}, NOT_COUNTED],
            [BURN | {"severity": "page"}, HALTED | {"reason": "store_policy"}],
            id="a partition that halts for its rejected records says so",
        ),
        pytest.param(
            EXPLAINS | {"explains": "volume"},
            [VOLUME],
            [VOLUME | {"region": "us"}, BURN | {"severity": "page"}],
            id="failed requests explain the missing tokens of the fleet",
        ),
        pytest.param(
            TTFT | {"policy": "default", "objective": "ttft-p95"},
            [SLOW | LARGE_IN_EU | {"policy": "default", "objective": "ttft-p95"}],
            [SLOW | LARGE_IN_EU | {"policy": "default", "objective": "tpot-p95"}, CACHE],
            id="the latency of the fleet says what that of one place would",
        ),
        pytest.param(
            OUTAGE | {"scope": "model", "model": "large"},
            [OUTAGE | LARGE_IN_EU, SLOW | LARGE_IN_EU],
            [
                OUTAGE | {"scope": "region", "region": "us"},
                OUTAGE | LARGE_IN_EU | {"model": "small"},
                CACHE,
            ],
            id="an outage of a model explains the one in each region",
        ),
        pytest.param(
            OUTAGE | {"scope": "region", "region": "eu"},
            [
                TTFT | {"region": "eu", "model": "large"},
                OUTAGE | LARGE_IN_EU,
                BURN | {"severity": "page", "region": "eu"},
            ],
            [
                TTFT | {"region": "us", "model": "large"},
                TTFT | {"model": "large"},
                OUTAGE | {"scope": "model", "model": "small"},
                BURN | {"severity": "page"},
                CACHE,
            ],
            id="a regional outage silences the latency of its models",
        ),
        pytest.param(
            OUTAGE | {"scope": "fleet"},
            [
                OUTAGE | {"scope": "region", "region": "eu"},
                OUTAGE | LARGE_IN_EU,
                TTFT | {"region": "us"},
                BURN | {"severity": "page"},
                VOLUME,
                CACHE,
            ],
            [LAG],
            id="an outage of the fleet is one page",
        ),
        pytest.param(
            JUMP | {"severity": "page", "window": "5m"},
            [JUMP | {"severity": "ticket", "window": "5m"}],
            [JUMP | {"severity": "ticket", "window": "5m", "model": "small"}, LAG],
            id="a page about client errors makes the ticket on the same model needless",
        ),
        pytest.param(
            {"alertname": "TokenpulseCustomerFlood", "severity": "ticket", "customer": "Acme"},
            [LIMITED | {"customer": "Acme"}],
            [LIMITED | {"customer": "Bolt"}, LIMITED | {"model": "large"}],
            id="the limited requests of a flood are its own",
        ),
        pytest.param(
            BURN | {"severity": "page", "objective": "uptime", "window": "1h"},
            [BURN | {"severity": "ticket", "objective": "uptime", "window": "3d"}],
            [
                BURN | {"severity": "ticket", "objective": "other", "window": "3d"},
                BURN | {"severity": "ticket", "objective": "uptime", "region": "eu"},
            ],
            id="a page makes the ticket on the same thing needless",
        ),
    ],
)
def test_one_cause_is_one_page(
    alertmanager: Alertmanager,
    cause: dict[str, str],
    silenced: list[dict[str, str]],
    loud: list[dict[str, str]],
) -> None:
    alertmanager.tell(cause, *silenced, *loud)
    wanted = {"suppressed": canonical(silenced), "active": canonical([cause, *loud])}
    wait_until(lambda: alertmanager.states() == wanted, f"{wanted}")


@needs_alertmanager
def test_a_page_reaches_the_webhook_and_the_channel_with_all_a_person_needs(
    alertmanager: Alertmanager, receiver: Receiver
) -> None:
    alertmanager.tell(
        TTFT | {"region": "eu", "model": "large"},
        summary="P95 time to first token is over 300ms: 412ms",
        description="Over the last 5m it is 412ms.",
        value="412ms",
        target="at most 300ms",
        budget_left="12%",
        runbook_url="https://runbooks/TokenpulseTtftHigh.md",
        dashboard_url="https://grafana/d/tokenpulse-live?orgId=1",
        affected="12% of all requests",
        customers="37 with failures in the last 5m, in all places",
        board_url="https://board/model/large",
    )
    wait_until(lambda: bool(receiver.at("/webhook_url") and receiver.at("/slack")), "both are told")
    (hook,) = receiver.at("/webhook_url")
    place = {"model": "large", "region": "eu"}
    assert hook["groupLabels"] == {"alertname": "TokenpulseTtftHigh", **place}
    assert hook["alerts"][0]["annotations"]["value"] == "412ms"
    attachment = receiver.at("/slack")[0]["attachments"][0]
    assert attachment["title"] == "[PAGE 1] eu large P95 time to first token is over 300ms: 412ms"
    assert "Now 412ms | target at most 300ms | error budget left 12%" in attachment["text"]
    assert "<https://runbooks/TokenpulseTtftHigh.md|Runbook>" in attachment["text"]
    assert re.search(
        r"<https://grafana/d/tokenpulse-live\?orgId=1&from=\d{13}&to=now\|Dashboard>",
        attachment["text"],
    )
    assert "<https://board/model/large|Board>" in attachment["text"]
    customers = "customers 37 with failures in the last 5m, in all places"
    assert f"| affected 12% of all requests | {customers} | since " in attachment["text"]


@needs_alertmanager
def test_no_page_is_swallowed_by_another(alertmanager: Alertmanager, receiver: Receiver) -> None:
    """A receiver that de-duplicates by group, as PagerDuty does, opens an incident for each."""
    halted = {"alertname": "TokenpulsePartitionHalted", "severity": "page"}
    faults = [
        CACHE,
        BURN | {"severity": "page", "objective": "uptime"},
        BURN | {"severity": "page", "objective": "other"},
        TTFT | {"region": "eu"},
        TTFT | {"region": "us"},
        halted | {"reason": "topic", "partition": "0"},
        halted | {"reason": "policy", "partition": "1"},
        CACHE | {"job": "other"},
        CACHE | {"cluster": "two"},
    ]
    alertmanager.tell(*faults)
    wait_until(lambda: len(receiver.at("/webhook_url")) >= len(faults), "a message for each")
    assert len({hook["groupKey"] for hook in receiver.at("/webhook_url")}) == len(faults)


@needs_alertmanager
def test_one_dead_worker_is_one_message(alertmanager: Alertmanager, receiver: Receiver) -> None:
    dead = STALE | {"cause": "worker"}
    alertmanager.tell(*(dead | {"partition": str(at)} for at in range(4)))
    wait_until(lambda: bool(receiver.at("/webhook_url")), "a message")
    (hook,) = receiver.at("/webhook_url")
    assert len(hook["alerts"]) == 4


@needs_alertmanager
def test_the_watchdog_goes_outside_only(alertmanager: Alertmanager, receiver: Receiver) -> None:
    alertmanager.tell({"alertname": "TokenpulseWatchdog", "severity": "none"})
    wait_until(lambda: bool(receiver.at("/dead_man_url")), "the dead-man receiver is told")
    assert {path for path, _ in receiver.got} == {"/dead_man_url"}


@needs_alertmanager
@pytest.mark.parametrize("name", ["text", "html", "slack", "title", "digest"])
def test_every_template_renders(name: str, tmp_path: Path) -> None:
    alert = {
        "status": "firing",
        "labels": {"severity": "page"},
        "annotations": {
            "value": "412ms",
            "target": "at most 300ms",
            "budget_left": "12%",
            "affected": "7% of all requests",
            "board_url": "https://board/model/large",
        },
        "startsAt": "2026-11-22T05:06:07Z",
    }
    data = tmp_path / "data.json"
    data.write_text(json.dumps({"status": "firing", "alerts": [alert] * 5}))
    call = f'{{{{ template "tokenpulse.{name}" . }}}}'
    found = amtool(
        *("template", "render", f"--template.glob={TEMPLATES}", f"--template.text={call}"),
        f"--template.data={data}",
    )
    assert "no value" not in found
    if name in ("text", "html", "slack"):
        # Half an hour before 2026-11-22T05:06:07Z.
        texts = ("412ms", "at most 300ms", "12%", "7% of all", "board/model", "from=1795322167000")
        assert all(text in found for text in texts)
