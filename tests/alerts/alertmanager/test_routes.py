"""The shipped configuration is accepted, has no secret, and routes each alert to its receiver."""

import re
from pathlib import Path

import pytest

from tests.support.alert_labels import BURN, EXPLAINS, INCOMPLETE, LAG, STALE, TTFT
from tests.support.alertmanager import CONFIG, amtool, needs_alertmanager


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
