"""Adds the counts of one intake to the stored history of its sources, every few seconds.

The history is for the live board and the alerts only: without Redis the intake works as before,
and counts wait until Redis answers.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress

from streams.config.settings import Settings
from streams.kafka.producer import now_ms
from streams.store.contract import StoreError
from streams.store.servers.client import connected
from streams.store.source_counts import PendingCounts
from streams.store.source_store import SourceStore

log = logging.getLogger(__name__)

REPORT_EVERY_S = 5.0


class SourceReports:
    """Reports until its end; use it as an async context manager."""

    def __init__(
        self,
        settings: Settings,
        pending: PendingCounts,
        declared: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        """`declared`: the sources that the settings name now.

        Raises ConfigError if Redis' password or certificate file cannot be used.
        """
        self._client = connected(settings.redis)
        self._store = SourceStore(self._client, settings.kafka.group, settings.kafka.topic)
        self._pending = pending
        self._declared = declared
        self._fails = False
        self._ending = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "SourceReports":
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Report a last time, and close."""
        self._ending.set()
        if self._task is not None:
            await self._task
        await self._client.aclose()

    async def _run(self) -> None:
        while not self._ending.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), REPORT_EVERY_S)
            await self.report()
        # The end may have come during a slow report.
        await self.report()

    async def report(self) -> None:
        """Store all pending counts; if Redis does not take them, they stay pending."""
        self._pending.declare(self._declared(), now_ms() / 1_000)
        reports = self._pending.take()
        if not reports:
            return
        try:
            await self._store.add(reports)
        except StoreError as error:
            self._pending.give_back(reports, now_ms() / 1_000)
            if not self._fails:
                # One warning for a failure that repeats every few seconds.
                log.warning("%s: board and alerts do not see the sources of this intake", error)
            self._fails = True
        else:
            self._fails = False
