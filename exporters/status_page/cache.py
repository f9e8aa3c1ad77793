"""Reads what the status page shows: incidents every few seconds, the days once a minute.

A thread of its own: ninety days of slices take time, in which no scrape could be answered.
"""

import logging
import time
from collections.abc import Callable
from pathlib import Path

from exporters.loop_thread import LoopThread, repeat
from exporters.status_page.components import StatusPage, load_status_page
from exporters.status_page.facts import StatusFacts, status_facts
from exporters.status_page.store import IncidentStore
from exporters.status_page.uptime import DAYS, StatusDay, availability_steps, uptime_days
from slo.engine.minute_count_store import MinuteCountStore
from streams.config.settings import Settings
from streams.errors import RequestError, one_line
from streams.query.report import Question, query
from streams.query.steps import DAY_S
from streams.state.measures import SERIES_DIMENSIONS
from streams.store.servers.client import connected

log = logging.getLogger(__name__)

# An update of an operator is public within seconds; a day changes its colour slowly.
REFRESH_S = 5.0
DAYS_REFRESH_S = 60.0
NOT_READ_YET = "the page was not read yet; try again in a moment"


class StatusCache:
    """The facts of the status page as last read; they are replaced, never changed."""

    def __init__(
        self, settings: Settings, path: Path, clock: Callable[[], float] = time.time
    ) -> None:
        """`path`: the file of the components. `clock`: gives the present time, in seconds since
        1970. Raises ConfigError, one line a mistake.
        """
        self.page: StatusPage = load_status_page(path)
        self._settings, self._clock = settings, clock
        self._client = connected(settings.redis)
        kafka = settings.kafka
        self._incidents = IncidentStore(self._client, kafka.group, kafka.topic)
        self._maintenance = MinuteCountStore(self._client, kafka.group, kafka.topic)
        self._days: dict[str, tuple[StatusDay, ...]] = {}
        self._days_problem: str | None = NOT_READ_YET
        self._days_due_s = 0.0  # monotonic
        self._facts: StatusFacts | None = None
        self.thread = LoopThread("status page", self._run)

    def facts(self) -> StatusFacts | None:
        """Return the last facts; None before the first read.

        While Redis does not answer, they stay as they were: an outage of ours must not take the
        page away from its readers.
        """
        return self._facts

    async def _run(self) -> None:
        await repeat("status page", self._refresh, REFRESH_S, self._client, log)

    async def _refresh(self) -> None:
        await self.read(self._clock())

    async def read(self, now_s: float) -> None:
        """Read incidents and maintenance, and the days if they are due. Raises StoreError."""
        book = await self._incidents.read()
        windows = await self._maintenance.windows()
        if time.monotonic() >= self._days_due_s:
            await self._read_days(now_s)
            self._days_due_s = time.monotonic() + DAYS_REFRESH_S
        self._facts = status_facts(self.page, self._days, book, windows, now_s, self._days_problem)

    async def _read_days(self, now_s: float) -> None:
        today_s = int(now_s) // DAY_S * DAY_S
        # With today, which is not over: its bar is what a reader looks for first.
        starts = range(today_s - (DAYS - 1) * DAY_S, today_s + 1, DAY_S)
        question = Question(starts[0], starts[-1] + DAY_S, DAY_S, SERIES_DIMENSIONS)
        kafka = self._settings.kafka
        try:
            answer = await query(self._client, kafka.group, kafka.topic, question)
        except RequestError as error:  # no event was counted yet
            self._days, self._days_problem = {}, one_line(error)
            return
        steps = availability_steps(answer, starts)
        self._days = {
            component.slug: uptime_days(component, steps) for component in self.page.components
        }
        self._days_problem = None
