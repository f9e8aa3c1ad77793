"""Build the daily boards that the exporter serves, in a thread of their own.

Reading the state and finalising days takes time and may fail; neither may delay /metrics or the
live board. One board is built at a time: that of the last closed day once a minute, the rest on
request.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from exporters.daily.build import DailyBoardBuilder
from exporters.daily.day.facts import DailyFacts, PeriodKind
from exporters.loop_thread import LoopThread, repeat
from exporters.reference.customers import Customer
from slo.policy.loading import load_policies
from streams.clock import RedisClock
from streams.config.settings import Settings
from streams.errors import Unavailable
from streams.security.clients import redis_kwargs
from streams.store.servers.client import connected

log = logging.getLogger(__name__)

REFRESH_S = 60.0
ANSWER_S = 30.0
BOARDS_MAX = 16
WAITING_MAX = 8
_Key = tuple[PeriodKind, str | None]  # a date; None: the last closed one
_LAST_DAY: _Key = ("day", None)


class BusyError(Unavailable):
    """There is no board now: one line; try again in a moment."""


@dataclass(frozen=True, slots=True)
class _Board:
    facts: DailyFacts | None
    made_at: float  # monotonic


def date_of(request: str, zone: str, now_s: float) -> str | None:
    """Return the date for `today`, or the request; None, the last closed day, for `yesterday`."""
    if request == "today":
        return f"{datetime.fromtimestamp(now_s, UTC).astimezone(ZoneInfo(zone)):%Y-%m-%d}"
    return None if request == "yesterday" else request


class BoardCache:
    """The boards of one consumer group and topic."""

    def __init__(
        self,
        settings: Settings,
        customers: Mapping[str, Customer],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Raise ConfigError, one line a mistake, if policies or files cannot be used.

        `clock`: gives the present time, in seconds since 1970; it decides which day is `today`.
        """
        self._settings, self._customers, self._now = settings, customers, clock
        self._policies = load_policies(settings.exporter.policies)
        redis_kwargs(settings.redis)  # raises now, not later in the thread
        self._boards: OrderedDict[_Key, _Board] = OrderedDict()
        self._waiting = 0
        self._turn = asyncio.Lock()
        self._client = connected(settings.redis)
        self._clock = RedisClock(self._client, settings.redis.max_clock_offset_s)
        self._builder = DailyBoardBuilder(settings, self._policies, self._client, customers)
        self.thread = LoopThread("daily", self._run)

    async def facts(self, request: str, kind: PeriodKind = "day") -> DailyFacts | None:
        """Return the board of YYYY-MM-DD, `today` or `yesterday`, at most a minute old.

        Of a week or month: the one with that date, the running or the last closed one.

        Return None if no event was ever counted. Call it from another event loop than that of the
        thread. Raises BusyError and the errors of DailyBoardBuilder.facts.
        """
        date = date_of(request, self._settings.exporter.time_zone, self._now())
        # The thread builds the last closed day's board again every minute, so it may be older than
        # a minute while the next one is built.
        key = kind, date
        board = self._fresh(key, REFRESH_S * 2 if key == _LAST_DAY else REFRESH_S)
        if board is not None:
            return board.facts
        loop = self.thread.loop
        if loop is None:
            raise BusyError("the daily board is not being built; restart the exporter")
        # Boards are built one at a time, so a longer queue would only wait in vain.
        if self._waiting >= WAITING_MAX:
            raise BusyError("too many days are asked for at once; try again in a moment")
        self._waiting += 1
        building = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._build(key), loop))
        building.add_done_callback(self._finish)
        try:
            # Shielded: a board that was begun is finished although its reader has left, and the
            # next reader finds it in the cache.
            return await asyncio.wait_for(asyncio.shield(building), ANSWER_S)
        except TimeoutError:
            raise BusyError(
                f"the board was not ready within {ANSWER_S:.0f} s; try again in a moment"
            ) from None

    def _fresh(self, key: _Key, age_max_s: float) -> _Board | None:
        board = self._boards.get(key)
        if board is None or time.monotonic() - board.made_at >= age_max_s:
            return None
        return board

    def _finish(self, building: "asyncio.Future[DailyFacts | None]") -> None:
        self._waiting -= 1
        # Retrieved, so that asyncio does not log an error for which no reader waits any more.
        if not building.cancelled():
            building.exception()

    async def _run(self) -> None:
        await repeat("daily board", self._refresh, REFRESH_S, self._client, log)

    async def _refresh(self) -> None:
        await self._build(_LAST_DAY, again=True)

    async def _build(self, key: _Key, again: bool = False) -> DailyFacts | None:
        async with self._turn:
            # A reader who waited for its turn may find the board of an earlier reader.
            board = None if again else self._fresh(key, REFRESH_S)
            if board is not None:
                return board.facts
            began = time.monotonic()
            kind, date = key
            facts = await self._builder.facts(self._clock, date, kind)
            self._boards[key] = _Board(facts, began)
            self._boards.move_to_end(key)
            # The boards that were requested longest ago go first.
            while len(self._boards) > BOARDS_MAX:
                self._boards.popitem(last=False)
            return facts
