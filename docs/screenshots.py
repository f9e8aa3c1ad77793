"""Takes the pictures of the README from the running product (`make screenshots`).

python docs/screenshots.py [board] [daily]

board: starts `tokenpulse up` and an outage, and takes the live board.
daily: sends a simulated month to an embedded stack at a low rate, and takes the daily board. Needs
minutes, and about 1 GB of memory.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # the browser of the tests

from streams.config.settings import load_settings  # noqa: E402
from tests.support.browser import Browser  # noqa: E402
from tokenpulse.local.embedded import HOST, foreign_environment, free_port  # noqa: E402
from tokenpulse.local.simulated_company import simulated_company  # noqa: E402
from tokenpulse.local.stack import LocalStack  # noqa: E402

IMAGES = ROOT / "docs" / "images"
TOKENPULSE = (sys.executable, "-m", "tokenpulse.cli.main")
WIDTH, HEIGHT = 1280, 1000
DAILY_HEIGHT = 1680  # the seven numbers, growth, and the causes of changes
MOST_BYTES = 300_000
PATIENCE_S = 900
MONTH_D, MONTH_RATE = 30, 0.5


def board() -> None:
    """Take docs/images/board.png and board-dark.png."""
    with running_up() as (address, environment):
        wait_for(lambda: has_calm_traffic(address), "calm traffic on the board")
        order = ("scenario", "outage", "--region", "eu-west-1", "--error-share", "0.4")
        command(environment, *order, "--for", "10m")
        wait_for(lambda: "Region eu-west-1" in live(address)["headline"], "the outage on the board")
        time.sleep(75)  # so that the lines show it too
        asyncio.run(picture(address, "board.png"))
        asyncio.run(picture(address, "board-dark.png", dark=True))


def daily() -> None:
    """Take docs/images/daily.png."""
    with tempfile.TemporaryDirectory() as directory:
        picture_daily(Path(directory))


def picture_daily(directory: Path) -> None:
    """Take docs/images/daily.png; `directory`: of the simulated company's files."""
    port, today = free_port(), datetime.now(UTC).date()
    settings = load_settings(
        overrides={
            "local": {"events_per_s": MONTH_RATE},
            "exporter": {"port": port, **simulated_company(directory, today)},
        }
    )
    # Send the past before the exporter starts: a running exporter would finalise days whose events
    # are not sent yet.
    with LocalStack(settings, workers=1, exporter=False, simulate=False) as stack:
        environment = {**stack.environment, "TOKENPULSE_EXPORTER__PORT": str(port)}
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            yaml.safe_dump(month(datetime.now(UTC)), file)
            file.flush()
            began_s = time.time()
            past = ("--ending-now", "--for", f"{MONTH_D}d", "--scenarios", file.name)
            command(environment, "simulate", *past)
        gap = f"{time.time() - began_s:.0f}s"
        address = f"http://{HOST}:{port}/"
        with (
            running(environment, "exporter"),
            running(environment, "simulate", "--seed", "2", "--past", gap),
        ):
            wait_for(lambda: is_up_to_date(address), "the month to be counted")
            time.sleep(70)  # the daily board is made once a minute
            asyncio.run(picture(f"{address}daily", "daily.png", height=DAILY_HEIGHT))


@contextmanager
def running(environment: dict[str, str], *arguments: str) -> Iterator[None]:
    """Run another `tokenpulse` command until the context ends."""
    process = subprocess.Popen([*TOKENPULSE, *arguments], env=environment, cwd=ROOT)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def month(now: datetime) -> dict[str, Any]:
    """Return a timeline of faults in the month before `now`, the last of them yesterday."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)

    def at(days_ago: int, hour: int) -> str:
        return (midnight - timedelta(days=days_ago) + timedelta(hours=hour)).isoformat()

    scenarios = [
        {"kind": "outage", "start": at(21, 14), "duration": "12m"}
        | {"where": {"region": "us-west-2"}},
        {"kind": "latency", "start": at(12, 6), "duration": "14h", "ttft_factor": 3.5}
        | {"where": {"model": "aurora-4-medium"}},
        {"kind": "stream_errors", "start": at(6, 9), "duration": "2h", "share": 0.03}
        | {"where": {"channel": "foundry"}},
        {"kind": "cache_failure", "start": at(1, 4), "duration": "16h", "kept_share": 0.3}
        | {"where": {"region": "us-east-1"}},
        {"kind": "outage", "start": at(1, 15), "duration": "25m"}
        | {"where": {"region": "eu-west-1"}},
    ]
    return {"scenarios": scenarios}


@contextmanager
def running_up() -> Iterator[tuple[str, dict[str, str]]]:
    """Run `tokenpulse up`; yield the board's address, and an environment that finds the stack."""
    with tempfile.TemporaryDirectory() as temporary:
        # A runtime directory of its own: commands find no other stack of this machine.
        environment = {
            **foreign_environment(),
            "TMPDIR": temporary,
            "XDG_RUNTIME_DIR": temporary,
        }
        process = subprocess.Popen(
            [*TOKENPULSE, "up"],
            env={**environment, "TOKENPULSE_EXPORTER__PORT": "0"},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            name, address = process.stdout.readline().split()
            assert name == "board"
            yield address, environment
        finally:
            process.send_signal(signal.SIGINT)
            process.wait()


def command(environment: dict[str, str], *arguments: str) -> None:
    """Run a `tokenpulse` command to its end."""
    subprocess.run([*TOKENPULSE, *arguments], env=environment, cwd=ROOT, check=True)


def live(address: str) -> dict[str, Any]:
    """Return the facts of the live board, with an empty headline while there are none."""
    try:
        with urllib.request.urlopen(f"{address}api/v1/live", timeout=30) as answer:  # noqa: S310
            facts: dict[str, Any] = json.load(answer)["facts"]
            return facts
    except (urllib.error.URLError, TimeoutError):
        return {"headline": "", "requests": 0, "troubles": [], "freshness": {"state": "unknown"}}


def has_calm_traffic(address: str) -> bool:
    """Return whether the board has five minutes of traffic and no incident."""
    facts = live(address)
    return facts["requests"] > 5_000 and not facts["troubles"]


def is_up_to_date(address: str) -> bool:
    """Return whether all events that were sent are counted."""
    facts = live(address)
    return bool(facts["freshness"]["state"] == "ok" and facts["requests"] > 0)


def wait_for(is_so: Callable[[], bool], what: str) -> None:
    """Wait until the condition holds; exit after PATIENCE_S."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not is_so():
        if time.monotonic() > deadline_s:
            sys.exit(f"waited {PATIENCE_S} s for {what}")
        time.sleep(0.5)


async def picture(url: str, name: str, dark: bool = False, height: int = HEIGHT) -> None:
    """Take one picture of a page into docs/images."""
    async with Browser.start() as browser:
        page = await browser.open(url, WIDTH, height, dark=dark, reduced_motion=True)
        await asyncio.sleep(3)  # until the first event of a live page
        path = await page.screenshot(IMAGES / name, full=False)
    size = path.stat().st_size
    print(f"{path.relative_to(ROOT)}: {size:,} bytes")
    if size > MOST_BYTES:
        sys.exit(f"{name} has more than {MOST_BYTES:,} bytes: take less of the page")


def main() -> None:
    """Take the pictures that the command line names, or both."""
    os.chdir(ROOT)
    chosen = sys.argv[1:] or ["board", "daily"]
    for name in chosen:
        {"board": board, "daily": daily}[name]()


if __name__ == "__main__":
    main()
