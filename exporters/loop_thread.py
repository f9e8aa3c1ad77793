"""An event loop in a thread of its own, so that its work does not delay the loop that serves."""

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import redis.asyncio as aioredis

from streams.errors import RequestError, one_line
from streams.store.contract import StoreError

STOP_DEADLINE_S = 3.0


class LoopThread:
    """Runs one coroutine until it is stopped; the thread ends with the process at the latest."""

    def __init__(self, name: str, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """`main`: to run; it is cancelled at the end."""
        self._main = main
        self._started = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The running loop; None before the start and after the end."""
        return self._loop if self._thread.is_alive() else None

    def start(self) -> None:
        """Start the thread; returns once its loop runs."""
        self._thread.start()
        self._started.wait()

    def stop(self) -> None:
        """Cancel the coroutine, and wait for its end for at most STOP_DEADLINE_S."""
        if self._loop is not None and self._task is not None and self._thread.is_alive():
            # A task belongs to its loop; another thread may not cancel it directly.
            self._loop.call_soon_threadsafe(self._task.cancel)
            self._thread.join(STOP_DEADLINE_S)

    def _run(self) -> None:
        asyncio.run(self._start_main())

    async def _start_main(self) -> None:
        # Before `start` returns, so that `stop` always finds the task.
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        self._started.set()
        await self._main()


async def repeat(
    what: str,
    step: Callable[[], Awaitable[object]],
    every_s: float,
    client: "aioredis.Redis",
    log: logging.Logger,
) -> None:
    """Take a step again and again, `every_s` apart, until cancelled; then close its client.

    `what`: names the step in the log.
    """
    failing = False
    try:
        while True:
            try:
                await step()
                failing = False
            except Exception as error:  # of any kind: the next step may succeed
                # One warning for a failure that repeats with every step.
                if not failing:
                    is_expected = isinstance(error, StoreError | RequestError)
                    log.warning(
                        "%s: %s: trying again",
                        what,
                        one_line(error) or type(error).__name__,
                        exc_info=None if is_expected else error,
                    )
                failing = True
            await asyncio.sleep(every_s)
    except asyncio.CancelledError:
        log.debug("%s: stopped", what)
    finally:
        await client.aclose()
