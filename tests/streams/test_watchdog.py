"""A process that no longer works ends, with a status that says so."""

import subprocess
import sys
import textwrap
import time

import pytest

from streams import watchdog
from streams.watchdog import Lasting, Ticker


def run(program: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True, text=True, timeout=30,
    )  # fmt: skip


def test_a_blocked_event_loop_ends_the_process_although_nothing_in_it_can_run() -> None:
    ended = run(
        """
        import asyncio, time
        from streams.watchdog import Ticker, Watchdog

        async def main():
            ticker = Ticker("main", limit_s=1)
            watchdog = Watchdog([ticker.check])
            asyncio.ensure_future(ticker.run())
            await asyncio.sleep(0)  # lets it tick once
            watchdog.start()
            time.sleep(25)  # the fault: blocks the loop
            print("still here")

        asyncio.run(main())
        """
    )
    assert ended.returncode == watchdog.EXIT_CODE
    assert "still here" not in ended.stdout
    assert "the main loop has not turned" in ended.stderr


def test_a_loop_that_turns_is_left_alone_and_stopping_the_watchdog_ends_it() -> None:
    ended = run(
        """
        import asyncio
        from streams.watchdog import Ticker, Watchdog

        async def main():
            ticker = Ticker("main", limit_s=1.5)
            watchdog = Watchdog([ticker.check])
            asyncio.ensure_future(ticker.run())
            watchdog.start()
            await asyncio.sleep(3)
            watchdog.stop()
            print("still here")

        asyncio.run(main())
        """
    )
    assert (ended.returncode, ended.stdout.strip()) == (0, "still here")


def test_what_is_bad_counts_only_from_when_it_began_and_recovery_clears_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    #   0 s     10 s    65 s    70 s    75 s    140 s
    #   good    bad     bad     good    bad     bad for 65 s > 60 s
    state = {"now": 0.0, "bad": False}
    monkeypatch.setattr(time, "monotonic", lambda: state["now"])
    check = Lasting("rebalancing", 60, lambda: bool(state["bad"])).check
    said = []
    for at_s, bad in ((0, False), (10, True), (65, True), (70, False), (75, True), (140, True)):
        state.update(now=at_s, bad=bad)
        said.append(check())
    assert said == [None, None, None, None, None, "rebalancing for 65 s"]


def test_a_loop_that_has_not_begun_is_not_called_stuck() -> None:
    assert Ticker("consumer", 0).check() is None


def test_a_start_after_the_end_began_changes_nothing() -> None:
    ended = run(
        """
        from streams.watchdog import Watchdog

        watchdog = Watchdog([])
        watchdog.expect_end(within_s=20)
        watchdog.start()
        print("ended by itself")
        """
    )
    assert (ended.returncode, ended.stdout.strip()) == (0, "ended by itself")
