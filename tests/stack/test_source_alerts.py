"""From what a source sends to the board and to Alertmanager: all of it as real processes.

A scope that was never seen before, a sampled trace stream, and answers without usage.
"""

import json
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from streams.config.settings import Exporter, Intake, Kafka, Settings
from streams.store.source_counts import DAY_S, SLOT_S, PendingCounts
from tests.support.alerting_stack import (
    PROMETHEUS,
    alertmanager_config,
    prometheus,
    soon_firing,
)
from tests.support.alertmanager import AMTOOL, SERVER, Alertmanager, Receiver
from tests.support.event_samples import EVENT
from tests.support.otlp_payloads import document, span
from tests.support.paths import ROOT
from tests.support.programs import needed_programs
from tests.support.servers import wait_until
from tests.support.source_history import steady, write_sources
from tokenpulse.local.embedded import free_port
from tokenpulse.local.stack import LocalStack

pytestmark = needed_programs(prometheus=PROMETHEUS, amtool=AMTOOL, alertmanager=SERVER)
RULES = ROOT / "alerts" / "generated" / "prometheus"
TOKENS = {
    "router": "0123456789abcdef",
    "collector": "123456789abcdef0",
    "gateway": "23456789abcdef01",
}
SCOPE = "acme.router"
# Source, alert, and the words of the board.
EXPECTED = {
    "router": ("TokenpulseSourceScopeNew", SCOPE),
    "collector": ("TokenpulseSourceSampled", "sampl"),
    "gateway": ("TokenpulseSourceUsageMissing", "token"),
}
CHAT: dict[str, object] = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "m",
    "gen_ai.usage.input_tokens": 5,
}
ANSWERS = 25  # more than the alert needs
FOR_S = 10  # of each alert; five minutes that of missing usage
ALERT_S = 180


def post(url: str, source: str, body: Any) -> None:
    request = urllib.request.Request(
        url,
        json.dumps(body).encode(),
        {"Content-Type": "application/json", "Authorization": f"Bearer {TOKENS[source]}"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.status == 200


def send(intake_url: str) -> None:
    """Send what each of the sources should not."""
    now_ms = int(time.time() * 1_000)
    times: dict[str, Any] = {
        "startTimeUnixNano": str((now_ms - 1_000) * 1_000_000),
        "endTimeUnixNano": str(now_ms * 1_000_000),
    }
    routed = span("route", {"http.request.method": "POST"}, **times)
    post(f"{intake_url}/v1/traces", "router", document((SCOPE, [routed])))
    sampled = span("chat m", CHAT, traceState="ot=th:8", **times)
    post(f"{intake_url}/v1/traces", "collector", document(("my.client", [sampled])))
    answers = [
        {**EVENT, "request_id": f"r-{number}", "ended_at": now_ms} for number in range(ANSWERS)
    ]
    for answer in answers:
        for name in [name for name in answer if name.endswith("_tokens")]:
            del answer[name]
    post(f"{intake_url}/v1/events", "gateway", answers)


def board_incidents(exporter_url: str) -> dict[str, str]:
    """Return the words of the board's incidents by their alert."""
    try:
        with urllib.request.urlopen(f"{exporter_url}/api/v1/live", timeout=5) as answer:
            facts = json.load(answer)["facts"]
    except OSError:  # the exporter has no numbers yet
        return {}
    return {incident["alert"]: incident["words"] for incident in (facts or {}).get("troubles", ())}


def active_alerts(manager: Alertmanager) -> set[tuple[str, str]]:
    """Return source and name of the alerts that Alertmanager tells people."""
    return {
        (alert["labels"].get("source", ""), alert["labels"]["alertname"])
        for alert in manager.ask("/alerts")
        if alert["status"]["state"] == "active"
    }


@pytest.mark.timeout(600)
def test_a_source_that_sends_less_than_it_should_is_on_the_board_and_an_alert(
    tmp_path: Path,
) -> None:
    tokens = tmp_path / "tokens.yaml"
    senders = [{"token": token, "tenant": name} for name, token in TOKENS.items()]
    tokens.write_text(json.dumps({"senders": senders}))
    asked = Settings(
        kafka=Kafka(partitions=1),
        exporter=Exporter(port=free_port()),
        intake=Intake(port=free_port(), tokens_file=tokens),
    )
    receiver = Receiver()
    manager = Alertmanager(alertmanager_config(tmp_path, receiver.url))
    expected = {(source, alert) for source, (alert, _) in EXPECTED.items()}
    try:
        with LocalStack(asked, workers=1, exporter=True, simulate=False, intake=True) as local:
            now_s = time.time()
            history = PendingCounts()
            for source in TOKENS:
                # Before the last hour, whose answers are compared with those before.
                steady(history, source, now_s - 2 * DAY_S, now_s - 12 * SLOT_S, 50)
            write_sources(local.settings, [history])
            targets = {
                "tokenpulse-exporter": local.exporter_url,
                "tokenpulse-intake": local.intake_url,
            }
            rules = soon_firing(RULES, tmp_path, FOR_S)
            with prometheus(tmp_path, rules, targets, manager.url):
                assert not active_alerts(manager) & expected
                send(local.intake_url)
                wait_until(
                    lambda: expected <= active_alerts(manager), f"alerts {expected}", ALERT_S
                )
                words = board_incidents(local.exporter_url)
                for source, (alert, word) in EXPECTED.items():
                    assert source in words[alert]
                    assert word in words[alert]
    finally:
        manager.process.kill()
        manager.process.wait()
        receiver.server.shutdown()
        receiver.server.server_close()
