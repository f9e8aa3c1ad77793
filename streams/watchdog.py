"""Ends the process when it no longer works, so that another worker can take over.

A thread, not a coroutine: it guards against an event loop that no longer turns. Faust itself can
run for ever with a dead consumer and keep its partitions.
"""

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable
from typing import NoReturn

log = logging.getLogger(__name__)

# EX_SOFTWARE of sysexits.h: tells such an end from a stop and from an error of usage.
EXIT_CODE = 70
PERIOD_S = 1.0


class Watchdog:
    """Runs checks once a second; a check returns the problem, or None."""

    def __init__(self, checks: "list[Callable[[], str | None]]") -> None:
        self._checks = checks
        self._stopping = threading.Event()
        # A daemon thread: a process that ends by itself does not wait for it.
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def start(self) -> None:
        """Begin to watch; a second call does nothing."""
        if self._thread.ident is None:
            self._thread.start()

    def stop(self) -> None:
        """Stop watching."""
        self._stopping.set()

    def expect_end(self, within_s: float) -> None:
        """End the process if it has not ended by itself within `within_s`.

        A later call sets another time. A watchdog that has not begun yet begins now.
        """
        # The monotonic clock does not jump when the wall clock is corrected.
        until = time.monotonic() + within_s

        def overdue() -> str | None:
            late = time.monotonic() > until
            return f"told to end, it had not after {within_s:g} s" if late else None

        # In place of the other checks, which loops that shut down would fail.
        self._checks = [overdue]
        self.start()

    def _watch(self) -> None:
        # The wait is a sleep that stop() ends at once.
        while not self._stopping.wait(PERIOD_S):
            for check in self._checks:
                if problem := check():
                    die(problem)


class Ticker:
    """Measures how long ago an event loop last turned."""

    def __init__(self, name: str, limit_s: float) -> None:
        self._name, self._limit_s = name, limit_s
        self._ticked_at: float | None = None

    async def run(self) -> None:
        """Tick for ever; run it as a task in the loop to be watched."""
        while True:
            self._ticked_at = time.monotonic()
            await asyncio.sleep(PERIOD_S)

    def check(self) -> str | None:
        """Return the problem for the watchdog, or None."""
        # Not started yet: there is no age.
        if self._ticked_at is None:
            return None
        age_s = time.monotonic() - self._ticked_at
        if age_s > self._limit_s:
            return f"the {self._name} loop has not turned for {age_s:.0f} s"
        return None


class Lasting:
    """A check that fails when a condition has held for longer than a limit."""

    def __init__(self, what: str, limit_s: float, bad: Callable[[], bool]) -> None:
        self._what, self._limit_s, self._bad = what, limit_s, bad
        self._since: float | None = None

    def check(self) -> str | None:
        """For the watchdog."""
        now = time.monotonic()
        if not self._bad():
            self._since = None
        elif self._since is None:
            self._since = now
        elif now - self._since > self._limit_s:
            return f"{self._what} for {now - self._since:.0f} s"
        return None


def die(reason: str) -> NoReturn:
    """End the process now, without a clean-up that could hang: stored state is always complete."""
    log.critical("ending this worker: %s", reason)
    # os._exit runs no exit handlers, so the log is flushed here.
    logging.shutdown()
    os._exit(EXIT_CODE)
