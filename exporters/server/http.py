"""The exporter process: /metrics, /healthz, /readyz, the live and the daily board, the status page.

One thread reads the state and writes the page (refresher.py), one makes the daily board
(daily/cache.py), one reads the past for the charts (drill/history.py), one reads for the status
page if there is one (status_page/cache.py), and this one answers requests with their last results.
"""

import asyncio
import logging
import signal
import time
from collections.abc import Mapping

from aiohttp import web
from prometheus_client.exposition import choose_encoder
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST as OPENMETRICS

from exporters.board.alerts import AlertRules
from exporters.board.live.routes import board_routes
from exporters.daily.cache import BoardCache
from exporters.daily.routes import BoardSource, daily_routes
from exporters.drill.history import HistoryCache
from exporters.drill.routes import DrillSource, drill_routes
from exporters.reference.customers import Customer, Customers, load_directory
from exporters.server.hosts import AllowedHosts
from exporters.server.refresher import Refresher
from exporters.server.web_config import WebConfig, load_web_config, middleware
from exporters.status_page.cache import StatusCache
from exporters.status_page.routes import PATH, status_routes
from streams.config.settings import Settings
from streams.http.connections import ConnectionPool, track_requests
from streams.http.listener import Listener
from streams.logs.setup import set_up_logs

log = logging.getLogger(__name__)

PLAIN_TEXT = "text/plain; version=0.0.4; charset=utf-8"
GZIP_FROM_BYTES = 1_024
REFRESHER: web.AppKey[Refresher] = web.AppKey("refresher", Refresher)


def create_app(
    refresher: Refresher,
    config: WebConfig | None = None,
    daily: BoardSource | None = None,
    status: StatusCache | None = None,
    drill: DrillSource | None = None,
    hosts: AllowedHosts | None = None,
) -> web.Application:
    """Return the web application of a running refresher.

    `config`: TLS, users and headers. `daily`: the source of the daily boards, `status`: of the
    status page, `drill`: of the pages of single places; without them these pages do not exist.
    `hosts`: the names of this exporter; without them those of loopback.
    """
    checks = middleware(config or WebConfig(), hosts)
    app = web.Application(middlewares=[track_requests, checks])
    app[REFRESHER] = refresher
    app.add_routes(
        [
            *board_routes(refresher.live, refresher.max_streams_per_client),
            web.get("/metrics", _metrics),
            web.get("/healthz", _healthz),
            web.get("/readyz", _readyz),
            *(daily_routes(daily) if daily is not None else ()),
            *(status_routes(status) if status is not None else ()),
            *(drill_routes(drill) if drill is not None else ()),
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
        # Compressing takes milliseconds for a large fleet; the event loop serves other requests.
        body = await asyncio.to_thread(export.body, openmetrics, True)
    return web.Response(body=body, headers=headers)


async def _healthz(request: web.Request) -> web.Response:
    return _health(request.app[REFRESHER].not_alive())


async def _readyz(request: web.Request) -> web.Response:
    return _health(request.app[REFRESHER].not_ready(time.time()))


def _health(problem: str | None) -> web.Response:
    return web.Response(
        text="ok\n" if problem is None else problem + "\n",
        status=200 if problem is None else 503,
        headers={"Cache-Control": "no-store"},
    )


def _takes_gzip(accept_encoding: str) -> bool:
    for coding in accept_encoding.lower().split(","):
        name, _, weight = coding.partition(";")
        # A weight of zero forbids a coding (RFC 9110).
        if name.strip() in ("gzip", "*"):
            return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


def run_exporter(settings: Settings, rules: AlertRules) -> int:
    """Serve until SIGTERM or SIGINT; return the exit status.

    `rules`: the evaluator of the alert rules, for the live board.

    Raises ConfigError, one line, if the port is not available or a file that the settings name
    cannot be used.
    """
    set_up_logs(settings.logs)
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
    boards = BoardCache(settings, customers, refresher.likely_s)
    path, status_port = settings.exporter.status_page, settings.exporter.status_port
    status = None if path is None else StatusCache(settings, path, refresher.likely_s)
    history = HistoryCache(settings, refresher.likely_s)
    names = Customers(customers)
    drill = DrillSource(
        refresher.live,
        refresher.current,
        history,
        names.name_of,
        settings.exporter.trace_url,
    )
    threads = [refresher.thread, boards.thread, history.thread]
    pool = ConnectionPool(settings.exporter.connections)
    listeners: list[Listener] = []

    async def listen(app: web.Application, port: int, setting: str) -> tuple[str, int]:
        listener = Listener(pool, app, tls=config.tls)
        listeners.append(listener)
        await listener.start(settings.exporter.host, port, "exporter", setting)
        return listener.address

    try:
        own_status = status if status_port is None else None
        hosts = AllowedHosts(settings.exporter.host, settings.exporter.allowed_hosts)
        app = create_app(refresher, config, boards.facts, own_status, drill, hosts)
        host, port = await listen(app, settings.exporter.port, "port")
        scheme = "http" if config.tls is None else "https"
        log.info("listening on %s://%s:%d/metrics", scheme, host, port)
        if status is not None:
            threads.append(status.thread)
            if status_port is not None:
                public = web.Application(middlewares=[track_requests])
                public.add_routes(status_routes(status, root=""))
                host, port = await listen(public, status_port, "status_port")
            page = PATH if status_port is None else "/"
            log.info("status page on %s://%s:%d%s", scheme, host, port, page)
        for thread in threads:
            thread.start()
        await stopping.wait()
    finally:
        for listener in listeners:
            await listener.stop()
        for thread in threads:
            # Stopping waits for the thread, which may be in the middle of a read.
            await asyncio.to_thread(thread.stop)
    return 0
