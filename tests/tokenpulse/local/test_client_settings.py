"""Commands that ask a running Tokenpulse find `tokenpulse up` on this machine."""

import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.config.settings import Settings
from tests.support.command import run
from tests.support.exporter_state import event, settings_for, write_state
from tests.support.running_stacks import stack_directory
from tests.support.servers import RedisServer
from tests.support.status_pages import page_file
from tokenpulse.local.discovery import RunningStack
from tokenpulse.local.embedded import changed_settings

BOARD = "http://127.0.0.1:1234/"
ASKING = f"asking `tokenpulse up`, whose board is {BOARD}\n"


@pytest.fixture
def stack(
    redis_server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Settings]:
    """A stack with one event, a status page and a policy of its own."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    settings = settings_for(redis_server.url, status_page=page_file(tmp_path))
    now_s = int(time.time())
    write_state(settings, {0: [event(now_s)]}, now_s)
    running = RunningStack(os.getpid(), 5, BOARD, changed_settings(settings))
    with stack_directory(tmp_path, running):
        yield settings


def test_a_command_asks_the_running_stack_and_names_it(stack: Settings) -> None:
    done = run("report", "--json")
    assert (done.exit_code, done.stderr) == (0, ASKING), done.output
    assert json.loads(done.stdout)["total"]["requests"] == 1
    listed = run("partitions", "list", "--json")
    assert [partition["partition"] for partition in json.loads(listed.stdout)] == [0]
    done = run("sla", "--json")
    assert (done.exit_code, done.stderr) == (0, ASKING), done.output
    [first, *_] = [entry["counted_from"] for entry in json.loads(done.stdout)]
    # The dates lie inside the data: the period began a month before the first request.
    assert f"since {first}, the first request of the period that began " in run("sla").stdout


def test_incidents_are_written_with_the_components_of_the_running_stack(stack: Settings) -> None:
    opened = run(
        *("incident", "open", "Slow answers", "--impact", "minor", "--component", "Chat API"),
        *("--message", "We look into it.", "--author", "jo"),
    )
    assert (opened.exit_code, opened.stderr) == (0, ASKING), opened.output
    [incident] = json.loads(run("incident", "list", "--json", settings=stack).stdout)
    assert (incident["name"], incident["components"]) == ("Slow answers", ["chat-api"])


def test_what_is_configured_wins(stack: Settings, tmp_path: Path) -> None:
    refused = "redis://127.0.0.1:1/0"
    for done in (
        run("report", TOKENPULSE_REDIS__URL=refused),
        run("report", TOKENPULSE_KAFKA__BOOTSTRAP="127.0.0.1:1", TOKENPULSE_KAFKA__GROUP="absent"),
    ):
        assert done.exit_code == 2
        assert "asking" not in done.stderr
    # A file without servers still decides what it sets.
    file = tmp_path / "settings.yaml"
    file.write_text("kafka: {group: absent}\n")
    done = run("--config", file, "report")
    assert done.stderr.startswith(ASKING)
    assert "no state of group 'absent'" in done.stderr
