"""The exporter process: /metrics, /healthz, /readyz, the live and the daily board.

Three threads. One reads the state every `exporter.refresh_interval_s` and writes the whole text;
one makes the daily board (daily/shelf.py); one answers with what is there, so that neither a slow
Redis nor a large fleet makes a scrape wait. An export that is too old, or whose reading failed, is
not served: then the text says only that the state cannot be read.
"""

import asyncio
import errno
import gzip
import logging
import signal
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version

from aiohttp import web
from prometheus_client.exposition import choose_encoder
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST as OPENMETRICS

from exporters.board.alerts import AlertRules
from exporters.board.facts import LiveFacts, LiveState
from exporters.board.routes import board_routes
from exporters.catalogue import pipeline as catalogue_health
from exporters.daily.cache import Shelf
from exporters.daily.routes import Source, daily_routes
from exporters.metrics.exposition import Page, label_text
from exporters.reference.customers import Customer, load_directory
from exporters.server.collector import Collector
from exporters.server.web_config import WebConfig, load_web_config, middleware
from streams.config.settings import Settings
from streams.errors import ConfigError
from streams.store.contract import StoreError
from streams.store.redis import connected

log = logging.getLogger(__name__)

PLAIN_TEXT = "text/plain; version=0.0.4; charset=utf-8"
# A first reading of a month takes seconds, a silent Redis is given up after some more: a loop that
# has not turned for this long never will.
TURN_DEADLINE_S = 120.0
STOP_DEADLINE_S = 3.0
GZIP_LEVEL = 1  # six times smaller already; higher levels cost more than loopback gains
GZIP_FROM_BYTES = 1_024


@dataclass(slots=True)
class Export:
    """One page, written, and what is true of it. Both formats are written ahead."""

    page: Page
    made_at: float  # monotonic; when the reading of the state began
    readable: bool
    problem: str | None = None  # why there are no numbers; one line
    newest_pulse_s: float | None = None
    live: LiveFacts | None = None  # None where `problem` says why
    _written: dict[tuple[bool, bool], bytes] = field(default_factory=dict)

    def body(self, openmetrics: bool, zipped: bool) -> bytes:
        """The text; asked for again, it is there."""
        asked = (openmetrics, zipped)
        if asked not in self._written:
            self._written[asked] = (
                gzip.compress(self.body(openmetrics, False), GZIP_LEVEL)
                if zipped
                else self.page.text(openmetrics)
            )
        return self._written[asked]


class Refresher:
    """Reads the state again and again, in a thread with an event loop of its own."""

    def __init__(
        self,
        settings: Settings,
        customers: Mapping[str, Customer],
        rules: AlertRules | None = None,
    ) -> None:
        """Raises ConfigError where files that the settings name cannot be used: said to whom
        starts it, not in its thread."""
        self._settings = settings
        self._client = connected(settings.redis)
        self._collector = Collector(settings, self._client, customers, rules)
        self._failures = 0
        self._refreshed_at_s: float | None = None  # wall clock
        self._turned_at = time.monotonic()
        self._started = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._main, name="refresh", daemon=True)
        self._export = self._silence("no reading of the state has finished yet")

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()
        self._started.wait()

    def stop(self) -> None:
        """End the loop; waits a moment for a reading under way."""
        if self._loop is not None and self._task is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._task.cancel)
            self._thread.join(STOP_DEADLINE_S)

    def export(self) -> Export:
        """What may be served now: the last export, or silence if that is too old."""
        found = self._export
        age_s = time.monotonic() - found.made_at
        if found.readable and age_s > self._settings.exporter.stale_after_s:
            return self._silence(f"the state was last read {age_s:.0f} s ago")
        return found

    def live(self) -> LiveState:
        """What the live board may show now."""
        found = self.export()
        return LiveState(
            found.live, found.problem, found.made_at, self._settings.exporter.runbooks_url
        )

    def not_ready(self, now_s: float) -> str | None:
        """Why nobody should rely on this exporter now, in one line; None if they may."""
        found = self.export()
        if found.problem is not None:
            return found.problem
        if found.newest_pulse_s is None:
            return "no worker has left a sign of life; start one"
        age_s = now_s - found.newest_pulse_s
        if age_s > self._settings.exporter.stale_after_s:
            return f"the newest sign of life of any worker is {age_s:.0f} s old; start a worker"
        return None

    def not_alive(self) -> str | None:
        """Why this process should be restarted, in one line; None if it works."""
        if not self._thread.is_alive():
            return "the refresh thread has ended"
        age_s = time.monotonic() - self._turned_at
        if age_s > TURN_DEADLINE_S:
            return f"the refresh loop has not turned for {age_s:.0f} s"
        return None

    def _main(self) -> None:
        asyncio.run(self._run())

    async def _run(self) -> None:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        self._started.set()
        interval_s = self._settings.exporter.refresh_interval_s
        try:
            while True:
                began = self._turned_at = time.monotonic()
                self._export = await self._refreshed()
                took_s = time.monotonic() - began
                # At least as long at rest as at work: a reading that is slow for lack of a
                # processor must not take all there is.
                await asyncio.sleep(max(interval_s - took_s, min(took_s, interval_s)))
        except asyncio.CancelledError:
            log.debug("refreshing ends")
        finally:
            await self._client.aclose()

    async def _refreshed(self) -> Export:
        began, now_s = time.monotonic(), time.time()
        try:
            found = await self._collector.collect(now_s)
        except Exception as error:
            # Anything: a state that cannot be understood is as unreadable as none, and an
            # exporter that dies of it could not say so.
            self._failures += 1
            self._collector.forget()
            reason = " ".join(str(error).split()) or type(error).__name__
            if self._export.readable or self._failures == 1:  # not again every second
                expected = isinstance(error, StoreError)
                log.warning("%s: trying again", reason, exc_info=None if expected else error)
            return self._silence(reason)
        if not self._export.readable and self._failures:
            log.info("the state can be read again")
        self._refreshed_at_s = now_s
        page = found.page
        page.add(catalogue_health.STATE_READABLE, "", 1)
        page.add(catalogue_health.EXPORTER_REFRESH, "", round(time.monotonic() - began, 4))
        self._add_exporter(page)
        kafka = self._settings.kafka
        problem = (
            None
            if found.partitions
            else f"no state of group {kafka.group!r} and topic {kafka.topic!r}: no worker has "
            "counted anything yet"
        )
        export = Export(page, began, True, problem, found.newest_pulse_s, found.live)
        for openmetrics in (False, True):
            export.body(openmetrics, zipped=False)
        return export

    def _silence(self, problem: str) -> Export:
        """An export without a single number about the traffic."""
        page = Page()
        page.add(catalogue_health.STATE_READABLE, "", 0)
        self._add_exporter(page)
        return Export(page, time.monotonic(), False, problem)

    def _add_exporter(self, page: Page) -> None:
        if self._refreshed_at_s is not None:
            page.add(catalogue_health.EXPORTER_REFRESHED, "", round(self._refreshed_at_s, 3))
        page.add(catalogue_health.EXPORTER_FAILURES, "", self._failures)
        running = label_text({"version": version("tokenpulse")})
        page.add(catalogue_health.BUILD_INFO, running, 1)


REFRESHER: web.AppKey[Refresher] = web.AppKey("refresher", Refresher)


def create_app(
    refresher: Refresher, config: WebConfig | None = None, daily: Source | None = None
) -> web.Application:
    """The web application around a running refresher, guarded as `config` says, with the pages of
    the daily board if there is one."""
    app = web.Application(middlewares=[middleware(config or WebConfig())])
    app[REFRESHER] = refresher
    app.add_routes(
        [
            *board_routes(refresher.live),
            web.get("/metrics", _metrics),
            web.get("/healthz", _healthz),
            web.get("/readyz", _readyz),
            *(daily_routes(daily) if daily is not None else ()),
        ]
    )
    return app


async def _metrics(request: web.Request) -> web.Response:
    export = request.app[REFRESHER].export()
    _, content_type = choose_encoder(request.headers.get("Accept", ""))
    openmetrics = content_type.startswith("application/openmetrics-text")
    body = export.body(openmetrics, zipped=False)
    headers = {
        "Content-Type": OPENMETRICS if openmetrics else PLAIN_TEXT,
        "Cache-Control": "no-store",
        "Vary": "Accept, Accept-Encoding",
    }
    if len(body) >= GZIP_FROM_BYTES and _takes_gzip(request.headers.get("Accept-Encoding", "")):
        headers["Content-Encoding"] = "gzip"
        body = await asyncio.to_thread(export.body, openmetrics, True)
    return web.Response(body=body, headers=headers)


async def _healthz(request: web.Request) -> web.Response:
    return _verdict(request.app[REFRESHER].not_alive())


async def _readyz(request: web.Request) -> web.Response:
    return _verdict(request.app[REFRESHER].not_ready(time.time()))


def _verdict(problem: str | None) -> web.Response:
    return web.Response(
        text="ok\n" if problem is None else problem + "\n",
        status=200 if problem is None else 503,
        headers={"Cache-Control": "no-store"},
    )


def _takes_gzip(accept_encoding: str) -> bool:
    for coding in accept_encoding.lower().split(","):
        name, _, weight = coding.partition(";")
        if name.strip() in ("gzip", "*"):
            return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


def run_exporter(settings: Settings, rules: AlertRules) -> int:
    """Serve until SIGTERM or SIGINT; return the exit status.

    `rules`: the evaluator of the alert rules, for the live board.

    Raises ConfigError, one line, where the port cannot be had, or a file that the settings name
    cannot be used.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    config = load_web_config(settings.exporter.web_config_file)
    return asyncio.run(_serve(settings, load_directory(settings), config, rules))


async def _serve(
    settings: Settings, customers: Mapping[str, Customer], config: WebConfig, rules: AlertRules
) -> int:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    refresher = Refresher(settings, customers, rules)
    shelf = Shelf(settings, customers)
    app = create_app(refresher, config, shelf.facts)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        await _listen(runner, settings, config)
        host, port = runner.addresses[0][:2]
        scheme = "http" if config.tls is None else "https"
        log.info("listening on %s://%s:%d/metrics", scheme, host, port)
        refresher.start()
        shelf.start()
        await stopping.wait()
    finally:
        await runner.cleanup()
        await asyncio.to_thread(refresher.stop)
        await asyncio.to_thread(shelf.stop)
    return 0


async def _listen(runner: web.AppRunner, settings: Settings, config: WebConfig) -> None:
    host, port = settings.exporter.host, settings.exporter.port
    try:
        await web.TCPSite(runner, host, port, ssl_context=config.tls).start()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(
                f"exporter.port: port {port} on {host} is in use: end what uses it, or set "
                "TOKENPULSE_EXPORTER__PORT to another (0 takes a free one)"
            ) from error
        reason = error.strerror or str(error)
        raise ConfigError(
            f"exporter.host: cannot listen on {host}, port {port}: {reason}; give an address of "
            "this machine and a port it may use"
        ) from error
