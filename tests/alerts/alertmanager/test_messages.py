"""What people receive: pages, groups, the dead-man receiver and the texts of the templates."""

import json
import re
from pathlib import Path

import pytest

from tests.support.alert_labels import BURN, CACHE, STALE, TTFT, UNDELIVERED
from tests.support.alertmanager import TEMPLATES, Alertmanager, Receiver, amtool, needs_alertmanager
from tests.support.servers import wait_until


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
        UNDELIVERED | {"severity": "page", "integration": "slack"},
        UNDELIVERED | {"severity": "page", "integration": "webhook"},
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
