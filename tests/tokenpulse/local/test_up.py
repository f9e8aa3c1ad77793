"""`tokenpulse up` shows the product: a board that lives, and a fault that is told in words."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.paths import ROOT
from tests.support.processes import gone, is_running
from tests.support.servers import wait_until
from tokenpulse.local.embedded import foreign_environment

pytestmark = pytest.mark.slow

LONG_S = 180  # an hour of traffic is counted first, perhaps on a machine with other work
REGION = "eu-west-1"


class Up:
    """The real command in a process of its own, with a temporary directory of its own."""

    def __init__(self, temporary: Path) -> None:
        self.environment = {
            **foreign_environment(),
            "TMPDIR": str(temporary),
            "TOKENPULSE_EXPORTER__PORT": "0",
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tokenpulse.cli.main", "up"],
            env=self.environment,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.printed: list[str] = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.printed.append(line.rstrip())

    @property
    def board(self) -> str:
        """The address it printed first."""
        wait_until(lambda: bool(self.printed), "the first line", LONG_S)
        name, address = self.printed[0].split()
        assert name == "board", self.printed
        return address

    def page(self) -> str:
        """The page at that address."""
        with urllib.request.urlopen(self.board, timeout=30) as answer:
            assert answer.status == 200
            text: str = answer.read().decode()
            return text

    def live(self) -> dict[str, Any] | None:
        """What the page shows, as data; None while there is nothing to show."""
        try:
            with urllib.request.urlopen(f"{self.board}api/v1/live", timeout=30) as answer:
                found: dict[str, Any] | None = json.load(answer)["facts"]
                return found
        except urllib.error.HTTPError as error:
            if error.code != 503:
                raise
            return None

    def troubles(self) -> list[str]:
        """What is wrong now, in words."""
        found = self.live()
        return [] if found is None else [one["words"] for one in found["troubles"]]

    def names_the_region(self) -> bool:
        """Whether the words name it, on the page too."""
        told = any(REGION in words for words in self.troubles())
        return told and f"Region {REGION}: " in self.page()

    def command(self, *arguments: str) -> str:
        """Another `tokenpulse`, as in another terminal; what it says."""
        done = subprocess.run(
            [sys.executable, "-m", "tokenpulse.cli.main", *arguments],
            env=self.environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=LONG_S,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    running = Up(tmp_path)
    yield running
    running.process.kill()
    running.process.wait()


def children(pid: int) -> list[int]:
    """Processes that this one started; none known where there is no /proc."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(status.read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
        if parent == pid:
            found.append(int(status.parent.name))
    return found


@pytest.mark.timeout(900)
def test_an_outage_ordered_in_another_terminal_is_told_on_the_board_and_goes(
    up: Up, tmp_path: Path, record_property: Any
) -> None:
    began_s = time.monotonic()
    assert up.board.startswith("http://127.0.0.1:")
    address_s = time.monotonic() - began_s
    assert "<html" in up.page()
    wait_until(lambda: any("Ctrl-C" in line for line in up.printed), "the rest of what it says")
    said = "\n".join(up.printed)
    for wanted in ("/daily", "/status", "/metrics", f"scenario outage --region {REGION} --for 5m"):
        assert wanted in said

    def is_calm() -> bool:
        found = up.live()
        return found is not None and found["requests"] > 5_000 and not found["troubles"]

    wait_until(
        is_calm, "five minutes of calm traffic on the board, without waiting for them", LONG_S
    )
    alive_s = time.monotonic() - began_s
    live = up.live()
    assert live is not None
    assert all(live[name]["value"] for name in ("ttft_p95_s", "tpot_p95_s", "cache_hit_ratio"))
    assert sum(value is not None for value in live["ttft_p95_s"]["spark"]) > 50  # minutes
    assert {one["name"] for one in live["regions"]} >= {REGION, "us-east-1"}

    # Without any address, commands ask this stack, with its files.
    assert REGION in up.command("report", "--by", "region")
    assert "contracts/largest-customer" in up.command("sla")
    up.command(
        *("incident", "open", "Slow answers", "--impact", "minor", "--component", "Europe"),
        *("--message", "We look into it."),
    )
    with urllib.request.urlopen(f"{up.board}status", timeout=30) as answer:
        assert answer.status == 200

    asked_s = time.monotonic()
    said = up.command("scenario", "outage", "--region", REGION, "--for", "5m")
    taken_s = time.monotonic()
    assert f"outage of region {REGION}" in said
    assert up.board in said
    wait_until(up.names_the_region, "words that name the region", LONG_S)
    told_s = time.monotonic()
    assert REGION in up.command("scenario", "list")

    assert "stopped" in up.command("scenario", "stop")
    stopped_s = time.monotonic()
    wait_until(lambda: not up.names_the_region(), "the words to go", LONG_S)
    gone_s = time.monotonic() - stopped_s
    record_property(
        "told",
        f"tokenpulse up: address after {address_s:.1f} s, an hour on the board after "
        f"{alive_s:.1f} s; outage told {told_s - taken_s:.1f} s after the command ended "
        f"({told_s - asked_s:.1f} s after it began), no longer told {gone_s:.0f} s after its end",
    )

    pids = children(up.process.pid)
    assert all(map(is_running, pids))
    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(timeout=60) == 0
    assert gone(pids)()
    assert list(tmp_path.iterdir()) == []
    if os.path.isdir("/proc/self"):
        assert len(pids) == 6  # broker, Redis, worker, intake, exporter, simulator
