"""Reads the steps of the charts: those of open pages every few seconds, the others now and then.

A thread of its own: after a start it reads a day of slices, a few steps at a time, with a rest as
long as each reading, so that neither a scrape nor the live board waits for it.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

from exporters.drill.ranges import RANGES, ChartRange
from exporters.drill.steps import RangeHistory, StepHistory, steps_within
from exporters.loop_thread import LoopThread, repeat
from streams.config.settings import Settings
from streams.state.coverage import Coverage
from streams.state.windows import rolling
from streams.store.reader import StateReader
from streams.store.servers.client import connected
from streams.worker.exemplars import load_exemplars

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.5
OPEN_S = 120.0  # a range counts as open so long after its last request
IDLE_FACTOR = 10


class HistoryCache:
    """The steps of all ranges; ranges with steps of one length share them."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.time) -> None:
        """`clock`: gives the present time, in seconds since 1970."""
        self._settings, self._clock = settings, clock
        self._client = connected(settings.redis)
        self._asked: dict[int, float] = {}  # step -> monotonic time of the last request
        self._due: dict[int, float] = {}  # step -> monotonic time of the next reading
        self._published: dict[str, RangeHistory] = {}
        self._forget()
        self.thread = LoopThread("charts", self._run)

    def _forget(self) -> None:
        """Drop all that was read: when Redis comes back it may have another state."""
        spans: dict[int, int] = {}
        for chart_range in RANGES.values():
            step_s = chart_range.step_s
            spans[step_s] = max(spans.get(step_s, 0), chart_range.span_s)
        apart_tiers = self._settings.latency.apart_tiers
        kafka = self._settings.kafka
        self._reader = StateReader(self._client, kafka.group, kafka.topic)
        self._histories = [
            StepHistory(step_s, span_s, apart_tiers) for step_s, span_s in sorted(spans.items())
        ]

    def history(self, chart_range: ChartRange) -> RangeHistory | None:
        """Return a range as last read, None before that; from now on it is read more often."""
        before = self._asked.get(chart_range.step_s)
        now = self._asked[chart_range.step_s] = time.monotonic()
        # The first look at a range for a while: what was read for idle pages may be old.
        if before is None or now - before > OPEN_S:
            self._due[chart_range.step_s] = 0.0
        return self._published.get(chart_range.name)

    def ask(self, chart_range: ChartRange, customer: str) -> None:
        """Keep all counts of a customer in the steps of a range from the next reading on."""
        for history in self._histories:
            if history.step_s == chart_range.step_s:
                history.ask(customer)
                self._due[history.step_s] = 0.0

    async def _run(self) -> None:
        await repeat("charts", self._refresh, LOOK_EVERY_S, self._client, log)

    async def _refresh(self) -> None:
        """Read the lengths that are due, one after the other, with as long a rest after each."""
        while (history := self._next_due()) is not None:
            began = time.monotonic()
            try:
                await self._read_steps([history], self._clock())
            # Half of a reading must not be completed from a later state.
            except Exception:
                self._forget()
                raise
            self._schedule(history)
            # The thread holds the interpreter's lock, which the refresh of the metrics needs.
            await asyncio.sleep(time.monotonic() - began)

    def _next_due(self) -> StepHistory | None:
        """Return the length of an open page that is due, else any other; None if none is due."""
        now = time.monotonic()
        due = [history for history in self._histories if self._due.get(history.step_s, 0.0) <= now]
        return min(
            due,
            key=lambda history: (
                now - self._asked.get(history.step_s, float("-inf")) > OPEN_S,
                self._due.get(history.step_s, 0.0),
            ),
            default=None,
        )

    def _schedule(self, history: StepHistory) -> None:
        now = time.monotonic()
        if history.unread:
            self._due[history.step_s] = now
            return
        every_s = min(60.0, max(2.0, history.step_s / 40))
        if now - self._asked.get(history.step_s, float("-inf")) > OPEN_S:
            every_s *= IDLE_FACTOR
        self._due[history.step_s] = now + every_s

    async def read(self, now_s: float) -> None:
        """Read all steps at `now_s`, the present time. Raises StoreError."""
        await self._read_steps(self._histories, now_s)
        while any(history.unread for history in self._histories):
            await self._read_steps(self._histories, now_s)

    async def _read_steps(self, histories: Sequence[StepHistory], now_s: float) -> None:
        snapshot = await self._reader.snapshot()
        for history in histories:
            history.begin(now_s)
        await snapshot.load(histories)
        coverage = Coverage.of(view.meta for view in snapshot.views)
        exemplars = [
            exemplar
            for heartbeat in snapshot.heartbeats
            for exemplar in load_exemplars(heartbeat.text("exemplars"))
        ]
        for history in histories:
            history.settle(snapshot)
            figures = history.figures()
            for chart_range in RANGES.values():
                if chart_range.step_s == history.step_s:
                    from_s, to_s = rolling(chart_range.span_s, int(now_s), snapshot.watermark_s)
                    self._published[chart_range.name] = RangeHistory(
                        chart_range,
                        tuple(steps_within(figures, from_s, to_s)),
                        history.unread,
                        snapshot.watermark_s,
                        coverage,
                        snapshot.series,
                        snapshot.customers,
                        {name: of.keys for name, of in history.groupings.items()},
                        exemplars,
                    )
