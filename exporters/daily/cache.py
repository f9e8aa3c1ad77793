"""Build the daily boards that the exporter serves, in a thread of their own.

Reading the state and finalising days takes time and may fail; neither may delay /metrics or the
live board. One board is built at a time: that of the last closed day once a minute, the rest on
request.
"""

import asyncio
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from exporters.daily.build import DailyKeeper
from exporters.daily.day.facts import DailyFacts
from exporters.reference.customers import Customer
from slo.policy.loading import load_policies
from streams.config.security import redis_kwargs
from streams.config.settings import Settings
from streams.errors import RequestError, Unavailable, one_line
from streams.store.contract import StoreError
from streams.store.redis import connected

log = logging.getLogger(__name__)

REFRESH_S = 60.0
ANSWER_S = 30.0
BOARDS_MAX = 16
WAITING_MAX = 8
STOP_DEADLINE_S = 3.0


class BusyError(Unavailable):
    """No board now: one line; try again in a moment."""


@dataclass(frozen=True, slots=True)
class _Board:
    facts: DailyFacts | None
    made_at: float  # monotonic


def meant(asked: str, zone: str, now_s: float) -> str | None:
    """Return the date for `today`, `yesterday` or YYYY-MM-DD; None means the last closed day."""
    if asked == "today":
        return f"{datetime.fromtimestamp(now_s, UTC).astimezone(ZoneInfo(zone)):%Y-%m-%d}"
    return None if asked == "yesterday" else asked


class Shelf:
    """The boards of one consumer group and topic."""

    def __init__(self, settings: Settings, customers: Mapping[str, Customer]) -> None:
        """Raises ConfigError, one line a mistake, where policies or files cannot be used."""
        self._settings, self._customers = settings, customers
        self._policies = load_policies(settings.exporter.policies)
        redis_kwargs(settings.redis)  # a mistake is told now, not by the thread
        self._boards: OrderedDict[str | None, _Board] = OrderedDict()
        self._waiting = 0
        self._failing = False
        self._started = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._main, name="daily", daemon=True)

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()
        self._started.wait()

    def stop(self) -> None:
        """End; waits a moment for a board that is being made."""
        if self._loop is not None and self._task is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._task.cancel)
            self._thread.join(STOP_DEADLINE_S)

    async def facts(self, asked: str) -> DailyFacts | None:
        """Return the board of YYYY-MM-DD, `today` or `yesterday`, at most a minute old.

        Return None if no event was ever counted. Call it from another event loop than that of the
        thread. Raises BusyError and the errors of DailyKeeper.facts.
        """
        date = meant(asked, self._settings.exporter.time_zone, time.time())
        kept = self._boards.get(date)
        # The minute of the last closed day's board is the thread's: it is made again ahead.
        fresh_s = REFRESH_S * 2 if date is None else REFRESH_S
        if kept is not None and time.monotonic() - kept.made_at < fresh_s:
            return kept.facts
        if self._loop is None or not self._thread.is_alive():
            raise BusyError("the daily board is not being made; restart the exporter")
        if self._waiting >= WAITING_MAX:
            raise BusyError("too many days are asked for at once; try again in a moment")
        self._waiting += 1
        making = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._make(date), self._loop))
        making.add_done_callback(self._finish)
        try:
            # What was begun is finished, whoever has gone meanwhile: the next one finds it here.
            return await asyncio.wait_for(asyncio.shield(making), ANSWER_S)
        except TimeoutError:
            raise BusyError(
                f"the board was not ready within {ANSWER_S:.0f} s; try again in a moment"
            ) from None

    def _finish(self, making: "asyncio.Future[DailyFacts | None]") -> None:
        self._waiting -= 1
        if not making.cancelled():
            making.exception()  # heard, even if nobody waits any more

    def _main(self) -> None:
        asyncio.run(self._run())

    async def _run(self) -> None:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        self._turn = asyncio.Lock()
        client = connected(self._settings.redis)
        self._keeper = DailyKeeper(self._settings, self._policies, client, self._customers)
        self._started.set()
        try:
            while True:
                await self._refresh()
                await asyncio.sleep(REFRESH_S)
        except asyncio.CancelledError:
            log.debug("the daily board ends")
        finally:
            await client.aclose()

    async def _refresh(self) -> None:
        try:
            await self._make(None, again=True)
            self._failing = False
        except Exception as error:  # anything: the next minute may be better
            if not self._failing:  # not again every minute
                expected = isinstance(error, StoreError | RequestError)
                told = one_line(error) or type(error).__name__
                log.warning(
                    "daily board: %s: trying again", told, exc_info=None if expected else error
                )
            self._failing = True

    async def _make(self, date: str | None, again: bool = False) -> DailyFacts | None:
        async with self._turn:
            kept = self._boards.get(date)
            if not again and kept is not None and time.monotonic() - kept.made_at < REFRESH_S:
                return kept.facts  # somebody else asked for the same
            began = time.monotonic()
            facts = await self._keeper.facts(time.time(), date)
            self._boards[date] = _Board(facts, began)
            self._boards.move_to_end(date)
            while len(self._boards) > BOARDS_MAX:
                self._boards.popitem(last=False)
            return facts
