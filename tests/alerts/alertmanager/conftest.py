"""Fixtures: the shipped configuration, and the real Alertmanager with it.

Before release 0.26 Alertmanager cannot read a webhook's URL from a file; there the URL is written
into a copy.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.support.alertmanager import CONFIG, TEMPLATES, Alertmanager, Receiver, readable


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
