"""The messages of Alertmanager about a backtest's alerts: by hand, and by Alertmanager itself."""

import json
import math
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from alerts.backtest.alertmanager import AlertmanagerConfig, load, read
from alerts.backtest.notifications import FiredAlert, Message, Notifications, simulate
from alerts.backtest.report import lines, report
from slo.alert_state import SampleKey
from streams.errors import ConfigError
from tests.support.alertmanager import (
    CONFIG,
    TEMPLATES,
    Alertmanager,
    canonical,
    needs_alertmanager,
    readable,
)
from tests.support.backtests import backtested, policy, steady, ttft
from tests.support.servers import wait_until

SEVEN_S = 1_767_571_200 + 7 * 3_600  # Monday 2026-01-05, when the digests are sent
Labels = dict[str, str]


def config(*inhibitions: dict[str, Any], **route: Any) -> AlertmanagerConfig:
    defaults = {"receiver": "r", "group_by": ["model"], "group_wait": "10s", "group_interval": "1m"}
    document = {
        "route": {**defaults, **route},
        "inhibit_rules": list(inhibitions),
        "receivers": [{"name": "r", "webhook_configs": [{}]}, {"name": "nobody"}],
        "time_intervals": [
            {
                "name": "weekly",
                "time_intervals": [
                    {
                        "weekdays": ["monday"],
                        "times": [{"start_time": "07:00", "end_time": "07:10"}],
                    }
                ],
            }
        ],
    }
    return read(json.dumps(document), "here")


def fired(name: str, at_s: float, end_s: float = math.inf, **labels: str) -> FiredAlert:
    return FiredAlert({"alertname": name, **labels}, at_s, end_s)


def told(result: Notifications) -> list[tuple[float, str, list[int]]]:
    return [(message.at_s, message.kind, list(message.alerts)) for message in result.messages]


def test_alerts_of_a_group_share_messages_at_its_interval() -> None:
    alerts = [
        fired("A", 100, 400, model="large"),
        fired("B", 105, 300, model="large"),
        fired("C", 120, model="large"),
        fired("D", 100, 102, model="small"),
    ]
    assert told(simulate(config(), alerts, 1_000)) == [
        (110, "new", [0, 1]),
        (170, "more", [0, 1, 2]),
        (350, "resolved", [0, 2]),
        (410, "resolved", [2]),
    ]
    # D ended before its group had waited.
    assert simulate(config(), alerts, 1_000).silenced == (3,)


def test_a_message_is_repeated_and_a_group_begins_anew_after_its_end() -> None:
    alerts = [fired("A", 0, 500), fired("A", 1_000)]
    assert told(simulate(config(repeat_interval="5m"), alerts, 1_400)) == [
        (10, "new", [0]),
        (310, "repeat", [0]),
        (550, "resolved", []),
        (1_010, "new", [1]),
        (1_310, "repeat", [1]),
    ]


def test_a_silenced_alert_is_told_once_its_cause_has_ended() -> None:
    rule = {"source_matchers": ["alertname=Cause"], "target_matchers": ['alertname=~"E.*"']}
    alerts = [
        fired("Cause", 0, 200, model="large", region="eu"),
        fired("Effect", 0, model="small", region="eu"),
        fired("Effect", 0, model="mini", region="us"),
    ]
    result = simulate(config(rule | {"equal": ["region"]}), alerts, 1_000)
    assert [(message.at_s, dict(message.group)["model"]) for message in result.messages] == [
        (10, "large"),
        (10, "mini"),
        (250, "large"),
        (250, "small"),
    ]


def test_alerts_on_both_sides_of_an_inhibition_do_not_silence_each_other() -> None:
    rule = {"source_matchers": ["severity=page"], "target_matchers": ["severity=page"]}
    alerts = [fired("A", 0, severity="page"), fired("B", 0, severity="page")]
    assert told(simulate(config(rule), alerts, 100)) == [(10, "new", [0, 1])]


def test_a_digest_is_sent_on_its_weekday_and_a_receiver_without_address_gets_no_message() -> None:
    digest = {
        "active_time_intervals": ["weekly"],
        "group_interval": "10m",
        "repeat_interval": "20h",
    }
    alerts = [fired("A", SEVEN_S - 2.5 * 86_400)]
    result = simulate(config(**digest), alerts, SEVEN_S + 8 * 86_400)
    assert told(result) == [
        (SEVEN_S + 10, "new", [0]),
        (SEVEN_S + 7 * 86_400 + 10, "repeat", [0]),
    ]
    result = simulate(config(receiver="nobody"), alerts, SEVEN_S)
    assert (result.messages, result.silenced) == ((), (0,))


@pytest.mark.parametrize(
    "route",
    [
        {"group_wait": "5 seconds"},
        {"matchers": ["severity ~ page"]},
        {"mute_time_intervals": ["night"]},
        {"active_time_intervals": ["missing"]},
    ],
)
def test_a_configuration_that_is_not_simulated_is_an_error(route: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="here: cannot be simulated"):
        config(**route)


def test_one_fault_of_all_models_is_one_page() -> None:
    """An outage of the fleet silences those of its regions and models; the report says so."""
    events = [
        request | {"request_id": f"{model}-{region}-{request['request_id']}"}
        for model in ("large", "small")
        for region in ("eu", "us")
        for request in (
            *steady(0, 120, model=model, region=region),
            *steady(120, 200, model=model, region=region, outcome="timeout"),
            *steady(200, 900, model=model, region=region),
        )
    ]
    document = report(backtested(events, policy(ttft())), load())
    pages = [message for message in document["messages"]["sent"] if message["receiver"] == "pages"]
    assert [(message["at"], message["kind"], message["firing"]) for message in pages] == [
        ("2026-01-01T00:02:55Z", "new", 1),
        ("2026-01-01T00:12:25Z", "resolved", 0),
    ]
    (fleet,) = pages[0]["added"]
    assert (fleet["alert"], fleet["scope"]["scope"]) == ("TokenpulseOutage", "fleet")
    silenced = [
        entry["scope"]["scope"]
        for entry in document["messages"]["silenced"]
        if entry["severity"] == "page"
    ]
    assert sorted(silenced) == ["model", "model", "region", "region"]
    text = list(lines(document))
    assert "messages: 1 to pages; repeated: 0; alerts in no message: 4" in text
    assert not any(line.startswith("none") for line in text)


# -- Alertmanager itself ---------------------------------------------------------------------------


@pytest.fixture
def alertmanager(tmp_path: Path) -> Iterator[Alertmanager]:
    """The real one with the shipped routes and inhibitions; messages go nowhere."""
    document = yaml.safe_load(readable(CONFIG.read_text()))
    document["receivers"] = [{"name": entry["name"]} for entry in document["receivers"]]
    path = tmp_path / "alertmanager.yml"
    path.write_text(yaml.safe_dump(document))
    shutil.copytree(TEMPLATES.parent, tmp_path / "templates")
    server = Alertmanager(path)
    yield server
    server.process.terminate()
    server.process.wait(10)


def _alerts(seed: int) -> list[Labels]:
    """Return different label sets like those of the rules, many about the same places."""
    chance = random.Random(seed)
    distinct: dict[SampleKey, Labels] = {}
    for _ in range(60):
        name = chance.choice(["Outage", "TtftHigh", "ErrorBudgetBurn", "ClientErrorsJump"])
        labels = {
            "alertname": f"Tokenpulse{name}",
            "severity": chance.choice(["page", "ticket"]),
            "derived_from": "state",
        }
        if name in ("Outage", "ClientErrorsJump"):
            labels["scope"] = chance.choice(["fleet", "region", "model"])
        else:
            labels |= {"policy": "default", "objective": chance.choice(["a", "b"])}
            labels |= {"digest": "cro", "route": chance.choice(["default", "sla"])}
        for label, values in (("model", ["large", "small"]), ("region", ["eu"])):
            if chance.random() < 0.5:
                labels[label] = chance.choice(values)
        distinct[tuple(sorted(labels.items()))] = labels
    return list(distinct.values())


def _grouped(groups: list[tuple[str, Labels, list[Labels]]]) -> list[str]:
    return sorted(
        json.dumps([receiver, labels, canonical(alerts)], sort_keys=True)
        for receiver, labels, alerts in groups
        if alerts
    )


@needs_alertmanager
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_alertmanager_groups_and_silences_the_same_alerts(
    alertmanager: Alertmanager, seed: int
) -> None:
    alerts = _alerts(seed)
    alertmanager.tell(*alerts)

    def real() -> list[str]:
        groups = alertmanager.ask("/alerts/groups")
        return _grouped(
            [
                (
                    group["receiver"]["name"],
                    group["labels"],
                    [
                        alert["labels"]
                        for alert in group["alerts"]
                        if not alert["status"]["inhibitedBy"]
                    ],
                )
                for group in groups
            ]
        )

    result = simulate(load(), [FiredAlert(labels, SEVEN_S) for labels in alerts], SEVEN_S + 600)
    assert result.silenced
    expected = _grouped([_group(message, alerts) for message in result.messages])
    wait_until(lambda: real() == expected, "Alertmanager has the same groups")


def _group(message: Message, alerts: list[Labels]) -> tuple[str, Labels, list[Labels]]:
    return message.receiver, dict(message.group), [alerts[place] for place in message.alerts]
