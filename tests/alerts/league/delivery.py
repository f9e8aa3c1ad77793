"""The alerts of all incidents through a real Alertmanager, and the pages that its receivers count.

Alertmanager runs with the shipped routes and inhibitions; only their times are shortened, all by
SPEED. Each incident is a Tokenpulse of its own (label `cluster`). Alerts are posted round by
round: a round has the next change of every incident, and ends when Alertmanager has sent the
messages that are due within a group's wait and interval. So the order of changes counts, not the
machine's speed.
"""

import hashlib
import json
import math
import re
import shutil
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from alerts.backtest.notifications import FiredAlert
from tests.support.alertmanager import CONFIG, TEMPLATES, Alertmanager, Receiver
from tests.support.servers import wait_until

# 5 s of the shipped file take 500 ms. Twice as fast, a message on a busy machine took longer than
# Alertmanager's limit, the interval of its group, and came again after the end of its alert.
SPEED = 10
GROUP_WAIT_S = 5  # of the shipped route of pages
_ROUND_S = 2.4  # group_wait and group_interval of pages take 0.5 s and 1 s
_DURATION = re.compile(r"(\d+)(ms|[smhd])")
_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_TIMES = {"group_wait", "group_interval", "repeat_interval"}

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Change:
    """The alerts that fire from a second of the incident on."""

    at_s: float
    firing: frozenset[Labels]


@dataclass(frozen=True, slots=True)
class Delivered:
    """The messages about one incident."""

    paged: tuple[Labels, ...]  # groups that opened a PagerDuty incident, in order
    slack_messages: int  # of pages, in the channel of the people on call


def changes_of(alerts: Sequence[FiredAlert]) -> list[Change]:
    """Return the changes of the firing alerts; those within one wait of a group are one change."""
    times_s = sorted({at_s for alert in alerts for at_s in (alert.fired_at_s, alert.resolved_at_s)})
    changes: list[Change] = []
    for at_s in times_s:
        # The alert still fires at the end.
        if math.isinf(at_s):
            continue
        firing = frozenset(
            tuple(sorted(alert.labels.items()))
            for alert in alerts
            if alert.fired_at_s <= at_s < alert.resolved_at_s
        )
        if changes and at_s - changes[-1].at_s <= GROUP_WAIT_S:
            changes[-1] = Change(changes[-1].at_s, firing)
        else:
            changes.append(Change(at_s, firing))
    return changes


def deliver(folder: Path, incidents: Sequence[Sequence[FiredAlert]]) -> list[Delivered]:
    """Return the messages about each incident; `folder` is for Alertmanager's files."""
    changes = [changes_of(alerts) for alerts in incidents]
    with _alertmanager(folder) as (manager, receiver):
        for number in range(max(map(len, changes), default=0)):
            body = []
            for incident, steps in enumerate(changes):
                if number < len(steps):
                    before = steps[number - 1].firing if number else frozenset()
                    body += _alert_bodies(incident, before, steps[number].firing)
            _post(manager, body)
            _wait_for_round(manager, receiver, number)
    return [_count_pages(receiver, incident) for incident in range(len(incidents))]


def _alert_bodies(incident: int, before: frozenset[Labels], firing: frozenset[Labels]) -> list[Any]:
    """Return the alerts of one change as Prometheus sends them, with those that have ended."""
    now = datetime.now(UTC)
    return [
        {
            "labels": {**dict(labels), "cluster": f"incident-{incident}"},
            "annotations": {"summary": "s", "description": "d", "runbook_url": "http://r"},
            "startsAt": now.isoformat(),
            "endsAt": (now + timedelta(hours=1) if labels in firing else now).isoformat(),
        }
        for labels in sorted(firing | before)
    ]


def _post(manager: Alertmanager, body: list[Any]) -> None:
    request = urllib.request.Request(
        manager.url + "/alerts",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    urllib.request.urlopen(request, timeout=30).close()


def _wait_for_round(manager: Alertmanager, receiver: Receiver, number: int) -> None:
    """Wait until Alertmanager has sent a page that it got after the alerts of the round."""
    marker = {"alertname": "Marker", "severity": "page", "reason": str(number)}
    _post(manager, _alert_bodies(-1, frozenset(), frozenset([tuple(sorted(marker.items()))])))
    # The marker is sent after one wait of a group; changed groups have their interval to wait.
    time.sleep(_ROUND_S)
    wait_until(
        lambda: any(
            hook["groupLabels"].get("reason") == str(number)
            and hook["groupLabels"]["alertname"] == "Marker"
            for hook in receiver.at("/webhook_url")
        ),
        f"Alertmanager has sent the pages of round {number}",
    )


def _count_pages(receiver: Receiver, incident: int) -> Delivered:
    """Return the pages about one incident, as a receiver with de-duplication counts them."""
    cluster = f"incident-{incident}"
    # PagerDuty gets a hash of the group's key, and the webhook the key itself.
    groups = {
        hashlib.sha256(hook["groupKey"].encode()).hexdigest(): hook["groupLabels"]
        for hook in receiver.at("/webhook_url")
        if hook["groupLabels"].get("cluster") == cluster
    }
    is_open: set[str] = set()
    paged = []
    for message in receiver.at("/v2/enqueue"):
        key = message["dedup_key"]
        # Those of another incident, and the markers of the rounds.
        if key not in groups:
            continue
        if message["event_action"] == "resolve":
            is_open.discard(key)
        elif key not in is_open:
            is_open.add(key)
            paged.append(tuple(sorted(groups[key].items())))
    slack = [
        message
        for message in receiver.at("/slack_url")
        if message["channel"] == "#on-call" and f"{cluster} " in f"{json.dumps(message)} "
    ]
    return Delivered(tuple(paged), len(slack))


@contextmanager
def _alertmanager(folder: Path) -> Iterator[tuple[Alertmanager, Receiver]]:
    """Run Alertmanager with the shipped file, led to a receiver of this process."""
    receiver = Receiver()
    document = yaml.safe_load(_configuration(receiver.url, folder))
    document["global"]["pagerduty_url"] = f"{receiver.url}/v2/enqueue"
    for entry in document["receivers"]:
        entry.pop("email_configs", None)
    _shorten(document)
    shutil.copytree(TEMPLATES.parent, folder / "templates")
    path = folder / "alertmanager.yml"
    path.write_text(yaml.safe_dump(document))
    manager = Alertmanager(path)
    try:
        yield manager, receiver
    finally:
        manager.process.terminate()
        manager.process.wait(10)
        receiver.server.shutdown()
        receiver.server.server_close()


def _configuration(url: str, folder: Path) -> str:
    """Return the shipped configuration with secrets of this test."""
    secrets = {
        "pagerduty_key": "0" * 32,
        "slack_url": f"{url}/slack_url",
        "smtp_password": "none",
    }
    for name, secret in secrets.items():
        (folder / name).write_text(secret)
    # Before 0.26 Alertmanager cannot read the URL of a webhook from a file.
    text = re.sub(r"- url_file: /run/secrets/(\w+)", rf"- url: {url}/\1", CONFIG.read_text())
    return text.replace("/run/secrets/", f"{folder}/")


def _shorten(node: Any) -> None:
    """Divide all times of routes by SPEED."""
    if isinstance(node, list):
        for part in node:
            _shorten(part)
    elif isinstance(node, dict):
        for key, value in node.items():
            if key in _TIMES:
                total_ms = sum(
                    int(number) * _UNITS_MS[unit] for number, unit in _DURATION.findall(value)
                )
                node[key] = f"{total_ms // SPEED}ms"
            else:
                _shorten(value)
