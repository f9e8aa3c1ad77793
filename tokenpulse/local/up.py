"""`tokenpulse up`: the embedded stack with its addresses on the terminal, until Ctrl-C."""

import os
import shlex
import shutil
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from exporters.formatting import span
from exporters.status_page.routes import PATH as STATUS_PATH
from streams.config.settings import Settings
from streams.intake.body import EVENTS_PATH
from tokenpulse.local.discovery import RunningStack, remove_dead_links, write_state
from tokenpulse.local.embedded import StackError, changed_settings, reachable
from tokenpulse.local.stack import LocalStack

BYTES_PER_EVENT = 208  # in the broker's memory, measured as tokenpulse/local/stack.py says


def run_up(settings: Settings) -> int:
    """Run the stack until Ctrl-C or SIGTERM, and return exit status 0.

    A second Ctrl-C kills it. Raises StackError if it cannot start, or ends by itself.
    """
    signalled, ended = threading.Event(), threading.Event()
    stack = LocalStack(
        settings,
        workers=settings.local.workers,
        exporter=True,
        simulate=True,
        intake=True,
        on_failure=ended.set,
    )

    def on_signal(number: int, _frame: object) -> None:
        stack.interrupt(hard=signalled.is_set() and number == signal.SIGINT)
        signalled.set()
        ended.set()

    # A closed terminal sends SIGHUP.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, on_signal)
    try:
        stack.start()
        write_state(stack.log_dir, _running_stack(stack))
        _announce(stack)
        ended.wait()
        stack.check()
        _print("stopping")
    except StackError:
        # A signal during the start ends it early.
        if not signalled.is_set():
            raise
    finally:
        stack.stop()
        remove_dead_links()
    return 0


def _running_stack(stack: LocalStack) -> RunningStack:
    return RunningStack(
        pid=os.getpid(),
        started_at_ms=time.time_ns() // 1_000_000,
        board_url=f"{stack.exporter_url}/",
        settings=changed_settings(_with_absolute_paths(stack.settings)),
    )


def _with_absolute_paths(settings: Settings) -> Settings:
    """Return the settings for commands that start in another directory."""
    exporter = settings.exporter
    paths: dict[str, Any] = {
        "policies": tuple(map(_absolute, exporter.policies)),
        "price_book": None if exporter.price_book is None else _absolute(exporter.price_book),
    }
    for setting in ("customer_directory", "status_page"):
        path: Path | None = getattr(exporter, setting)
        paths[setting] = None if path is None else path.absolute()
    return settings.model_copy(update={"exporter": exporter.model_copy(update=paths)})


def _absolute(path_or_name: str) -> str:
    """Return the absolute path of a file; the name of what is shipped stays."""
    is_path = Path(path_or_name).suffix in (".yaml", ".yml") or os.sep in path_or_name
    return str(Path(path_or_name).absolute()) if is_path else path_or_name


def _announce(stack: LocalStack) -> None:
    settings = stack.settings
    rate = settings.local.events_per_s
    if (taken := stack.occupied_port) is not None:
        _print(f"Port {taken} is in use by another program, so the boards have another one.")
    mb_per_h = rate * 3600 * BYTES_PER_EVENT / 1e6
    _print(
        f"  board    {stack.exporter_url}/\n"
        f"  daily    {stack.exporter_url}/daily\n"
        f"{_status_page(stack)}"
        f"  metrics  {stack.exporter_url}/metrics\n"
        f"  intake   {stack.intake_url}{EVENTS_PATH}, your own events (docs/intake.md)\n"
        f"  Kafka    {stack.bootstrap}, topic {settings.kafka.topic}\n"
        f"  Redis    {stack.redis_url}\n"
        f"  logs     {stack.log_dir}\n"
        f"Tokenpulse runs, with {rate:g} simulated requests a second{_past(settings)}.\n"
        "Break something, in another terminal:\n"
        f"  {_command()} scenario outage --region eu-west-1 --for 5m\n"
        f"All data is in memory, about {mb_per_h:.0f} MB more an hour, and is lost at the end.\n"
        "Ctrl-C stops it."
    )


def _status_page(stack: LocalStack) -> str:
    """Return the line of the public status page; empty if there is none."""
    exporter = stack.settings.exporter
    if exporter.status_page is None or exporter.status_port == 0:  # a free port is not known here
        return ""
    address = f"{stack.exporter_url}{STATUS_PATH}"
    if exporter.status_port is not None:
        address = f"http://{reachable(exporter.host)}:{exporter.status_port}/"
    return f"  status   {address}\n"


def _past(settings: Settings) -> str:
    past_s = settings.local.past_s
    return f"; those of the last {span(past_s)} are being counted" if past_s else ""


def _command() -> str:
    """Return the command to type for `tokenpulse` in the present directory."""
    name = Path(sys.argv[0])
    # A command that PATH leads to needs no directory.
    if shutil.which(name.name) == str(name) or not name.is_absolute():
        return name.name if name.is_absolute() else str(name)
    return shlex.quote(os.path.relpath(name))


def _print(text: str) -> None:
    print(text, flush=True)
