"""The metrics of one worker process, at its own `/metrics`, and its `/healthz`.

The exporter's page has the state of all partitions. These metrics are about this process, also
while it has no partition or Redis is away.
"""

from collections.abc import Callable

from aiohttp import web
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

from streams.http.connections import track_requests

_PREFIX = "tokenpulse_worker_process_"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)


class WorkerMetrics:
    """Counters of one process; they start at zero with it."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.records = Counter(
            f"{_PREFIX}records",
            "Records counted, rejected or recognised as duplicates.",
            registry=self.registry,
        )
        self.batch_seconds = Histogram(
            f"{_PREFIX}batch_seconds",
            "Time to count one fetched batch, without waiting for Redis or Kafka.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.checkpoint_seconds = Histogram(
            f"{_PREFIX}checkpoint_seconds",
            "Time of one round of checkpoints and heartbeats over all partitions.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.rebalances = Counter(
            f"{_PREFIX}rebalances",
            "Assignments of partitions by the consumer group, the first one included.",
            registry=self.registry,
        )
        self.partitions = Gauge(
            f"{_PREFIX}partitions",
            "Partitions that this worker owns; 0 for a standby.",
            registry=self.registry,
        )
        self.unflushed = Gauge(
            f"{_PREFIX}unflushed_records",
            "Records that are counted and not yet in Redis.",
            registry=self.registry,
        )
        self.topic_risks = Gauge(
            f"{_PREFIX}topic_risks",
            "Settings of topics, and partitions that wait for too long, by which records would be "
            "lost; the log names each with its fix.",
            registry=self.registry,
        )
        # Names without our prefix, as of every Prometheus client: memory, processor time, files.
        ProcessCollector(registry=self.registry)


def create_metrics_app(
    metrics: WorkerMetrics, problem: Callable[[], str | None]
) -> web.Application:
    """Return the application with `/metrics` and `/healthz`.

    `problem`: why the worker does not work, in one line; None if it does.
    """

    async def show(_: web.Request) -> web.Response:
        headers = {"Content-Type": CONTENT_TYPE_LATEST, "Cache-Control": "no-store"}
        return web.Response(body=generate_latest(metrics.registry), headers=headers)

    async def check(_: web.Request) -> web.Response:
        found = problem()
        return web.Response(
            text="ok\n" if found is None else found + "\n",
            status=200 if found is None else 503,
            headers={"Cache-Control": "no-store"},
        )

    app = web.Application(middlewares=[track_requests])
    app.add_routes([web.get("/metrics", show), web.get("/healthz", check)])
    return app
