"""Reads the state again and again, and keeps the page to serve.

A thread of its own, so that neither a slow Redis nor a large fleet makes a scrape wait. A page that
is too old, or whose reading failed, is not served: then the text says only that the state cannot be
read.
"""

import asyncio
import gzip
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version

from exporters.board.alerts import AlertRules
from exporters.board.facts import LiveFacts, LiveState
from exporters.catalogue import pipeline as pipeline_metrics
from exporters.drill.current import CurrentWindow
from exporters.loop_thread import LoopThread
from exporters.metrics.exposition import Page, label_text
from exporters.reference.customers import Customer
from exporters.server.collector import Collector
from slo.health_limits import MAX_PAGE_LENGTH
from streams.clock import RedisClock
from streams.config.settings import Settings
from streams.errors import one_line
from streams.memory import process_memory
from streams.store.contract import StoreError
from streams.store.servers.client import connected

log = logging.getLogger(__name__)

# A first reading of a month takes seconds, and a silent Redis is given up after some more: a loop
# that has not turned for this long never will.
TURN_DEADLINE_S = 120.0
# Within this time after the start it is no news that nothing was counted: the workers start, too.
_STARTING_S = 60.0
GZIP_LEVEL = 1  # six times smaller already; higher levels cost more than loopback gains


@dataclass(slots=True)
class Export:
    """One page and the facts that go with it; its text is written once a format."""

    page: Page
    made_at: float  # monotonic; when the reading of the state began
    readable: bool
    problem: str | None = None  # why there are no numbers; one line
    newest_pulse_s: float | None = None  # newest heartbeat of any worker
    live: LiveFacts | None = None  # None if there is a problem
    current: CurrentWindow | None = None  # None if there is a problem
    shift_s: float = 0.0  # from the wall clock to the time of the reading; not 0 if it is wrong
    _bodies: dict[tuple[bool, bool], bytes] = field(default_factory=dict)

    def body(self, openmetrics: bool, zipped: bool) -> bytes:
        """Return the text in one format."""
        key = (openmetrics, zipped)
        if key not in self._bodies:
            self._bodies[key] = (
                gzip.compress(self.body(openmetrics, False), GZIP_LEVEL)
                if zipped
                else self.page.text(openmetrics)
            )
        return self._bodies[key]


class Refresher:
    """Reads the state every `exporter.refresh_interval_s`."""

    def __init__(
        self,
        settings: Settings,
        customers: Mapping[str, Customer],
        rules: AlertRules | None = None,
    ) -> None:
        """`rules`: evaluated at each refresh, for the live board; without them it has no alert.

        Raises ConfigError if files that the settings name cannot be used.
        """
        self._settings = settings
        self._client = connected(settings.redis)
        self._clock = RedisClock(self._client, settings.redis.max_clock_offset_s)
        self._clock_problem: str | None = None
        self._collector = Collector(settings, self._client, customers, rules)
        self._failures = 0
        self._is_limited = False  # whether the last page was too long
        self._refreshed_at_s: float | None = None  # in the time of the numbers
        self._shift_s = 0.0  # from the wall clock to that time, at the last reading
        self._turned_at = self._began = time.monotonic()
        self.thread = LoopThread("refresh", self._run)
        self._export = self._without_numbers("no reading of the state has finished yet")

    @property
    def max_streams_per_client(self) -> int:
        return self._settings.exporter.max_streams_per_client

    def export(self) -> Export:
        """Return the page to serve: the last one, or one without numbers if that is too old."""
        export = self._export
        # The age counts from the begin of the reading, so a slow one is not taken for fresh.
        age_s = time.monotonic() - export.made_at
        if export.readable and age_s > self._settings.exporter.stale_after_s:
            return self._without_numbers(f"the state was last read {age_s:.0f} s ago")
        return export

    def live(self) -> LiveState:
        """Return the facts for the live board."""
        export = self.export()
        # A state without partitions is the only problem of one that can be read.
        nothing_counted = export.readable and export.problem is not None
        is_first = self._refreshed_at_s is None and not self._failures
        is_young = time.monotonic() - self._began < _STARTING_S
        return LiveState(
            export.live,
            export.problem,
            export.made_at,
            self._settings.exporter.runbooks_url,
            nothing_counted=nothing_counted,
            starting=(nothing_counted or is_first) and is_young,
        )

    def current(self) -> CurrentWindow | None:
        """Return the board's window by place; None while the state cannot be read."""
        return self.export().current

    def likely_s(self) -> float:
        """Return the present time as the last reading chose it of the two clocks; until one has
        finished, the wall clock.
        """
        return time.time() + self._shift_s

    def not_ready(self, now_s: float) -> str | None:
        """Return why the numbers cannot be relied on, in one line; None if they can.

        `now_s`: the wall clock.
        """
        export = self.export()
        now_s += export.shift_s
        if export.problem is not None:
            return export.problem
        if export.newest_pulse_s is None:
            return "no worker has sent a heartbeat; start one"
        age_s = now_s - export.newest_pulse_s
        if age_s > self._settings.exporter.stale_after_s:
            return f"the newest heartbeat of any worker is {age_s:.0f} s old; start a worker"
        return None

    def not_alive(self) -> str | None:
        """Return why this process should be restarted, in one line; None if it works."""
        if self.thread.loop is None:
            return "the refresh thread has ended"
        age_s = time.monotonic() - self._turned_at
        if age_s > TURN_DEADLINE_S:
            return f"the refresh loop has not turned for {age_s:.0f} s"
        return None

    async def _run(self) -> None:
        interval_s = self._settings.exporter.refresh_interval_s
        try:
            while True:
                began = self._turned_at = time.monotonic()
                try:
                    self._export = await self._refresh()
                except Exception:
                    # Whatever it was, such as no file left to open: the next refresh may succeed,
                    # and a page that gets too old is not served.
                    log.exception("refresh failed: trying again")
                took_s = time.monotonic() - began
                # Rest at least as long as the refresh took: if it is slow for lack of processor
                # time, it must not take all of it.
                await asyncio.sleep(max(interval_s - took_s, min(took_s, interval_s)))
        except asyncio.CancelledError:
            log.debug("refresh loop: stopped")
        finally:
            await self._client.aclose()

    async def _refresh(self) -> Export:
        began = time.monotonic()
        try:
            collected = await self._collector.collect(self._clock)
        except Exception as error:
            # Any error: a state that cannot be decoded is as unreadable as a missing one, and
            # the exporter must stay up to report it.
            self._failures += 1
            self._collector.forget()
            reason = one_line(error) or type(error).__name__
            if self._export.readable or self._failures == 1:  # log once, not every second
                expected = isinstance(error, StoreError)
                log.warning(
                    "refresh failed: %s; trying again", reason, exc_info=None if expected else error
                )
            return self._without_numbers(reason)
        if not self._export.readable and self._failures:
            log.info("refresh succeeded: the state is readable again")
        self._shift_s = collected.shift_s
        self._refreshed_at_s = collected.now_s
        self._report_clock(collected.clock.problem())
        page = collected.page
        page.add(pipeline_metrics.STATE_READABLE, "", 1)
        page.add(pipeline_metrics.EXPORTER_REFRESH, "", round(time.monotonic() - began, 4))
        self._add_exporter(page)
        self._limit(page)
        kafka = self._settings.kafka
        # A state without partitions can be read, but gives no numbers to rely on.
        problem = (
            None
            if collected.partitions
            else f"no state of group {kafka.group!r} and topic {kafka.topic!r}: "
            "no worker has counted an event yet"
        )
        export = Export(
            page,
            began,
            True,
            problem,
            collected.newest_pulse_s,
            collected.live,
            collected.current,
            collected.shift_s,
        )
        for openmetrics in (False, True):  # here, so that no scrape waits for it
            export.body(openmetrics, zipped=False)
        return export

    def _report_clock(self, problem: str | None) -> None:
        """Log once that nothing is finalised by this clock, and once that it is again."""
        if problem is not None and self._clock_problem is None:
            log.error("no period and no day is finalised: %s; correct the clock", problem)
        elif problem is None and self._clock_problem is not None:
            log.info("the clock agrees with that of Redis again: periods and days are finalised")
        self._clock_problem = problem

    def _limit(self, page: Page) -> None:
        """Leave out what Prometheus would reject the whole page for, and say how much that is."""
        own = 1  # the number of samples that are left out is always there
        dropped = page.limit(self._settings.exporter.max_samples - own, MAX_PAGE_LENGTH)
        page.add(pipeline_metrics.EXPORTER_DROPPED, "", dropped)
        if dropped and not self._is_limited:
            log.warning(
                "page too long: %d samples of the least used names are left out, as "
                "exporter.max_samples is %d; reduce exporter.windows or worker.limits",
                dropped,
                self._settings.exporter.max_samples,
            )
        self._is_limited = dropped > 0

    def _without_numbers(self, problem: str) -> Export:
        """Return a page that only reports that the state cannot be read."""
        page = Page()
        page.add(pipeline_metrics.STATE_READABLE, "", 0)
        self._add_exporter(page)
        return Export(page, time.monotonic(), False, problem)

    def _add_exporter(self, page: Page) -> None:
        if self._refreshed_at_s is not None:
            page.add(pipeline_metrics.EXPORTER_REFRESHED, "", round(self._refreshed_at_s, 3))
        page.add(pipeline_metrics.EXPORTER_FAILURES, "", self._failures)
        if memory := process_memory():
            page.add(pipeline_metrics.EXPORTER_MEMORY, "", memory.used)
            if memory.limit is not None:
                page.add(pipeline_metrics.EXPORTER_MEMORY_LIMIT, "", memory.limit)
        page.add(pipeline_metrics.BUILD_INFO, _running(), 1)


@cache
def _running() -> str:
    """Return the label of this version; read once, as each reading opens a file."""
    return label_text({"version": version("tokenpulse")})
