"""The process of the intake: its server and its producers, until SIGTERM or SIGINT."""

import asyncio
import logging
import signal

from streams.config.settings import Intake, Settings
from streams.http.connections import ConnectionPool
from streams.http.listener import Listener
from streams.intake.delivery import Delivery
from streams.intake.event_bodies import EventBodies
from streams.intake.metrics import IntakeMetrics
from streams.intake.processing import Processor
from streams.intake.server import Bodies, InFlight, IntakeServer
from streams.intake.source_reports import SourceReports
from streams.intake.source_topics import create_source_topics
from streams.intake.tokens import Tokens
from streams.intake.tokens_reload import TokensReload
from streams.intake.trace_bodies import TraceBodies
from streams.kafka.topics import check_sources
from streams.logs.setup import set_up_logs

log = logging.getLogger(__name__)

# Requests in transit are answered within this time after SIGTERM.
SHUTDOWN_S = 10.0


def run_intake(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises ConfigError if the port is not available or the file of the tokens cannot be used, and
    Unavailable if Kafka does not answer at the start or a topic is missing.
    """
    set_up_logs(settings.logs)
    asyncio.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    intake = settings.intake
    in_flight = InFlight(intake.max_in_flight_bytes)
    metrics = IntakeMetrics(lambda: in_flight.size)
    events = EventBodies(intake.max_records)
    reload = TokensReload(intake, events.prepare)
    processor = Processor(settings.worker, metrics)
    topics = [source.topic for source in intake.sources]
    await check_sources(settings.kafka, topics)
    reports = SourceReports(
        settings, processor.pending, lambda: (*topics, *reload.tokens.tenants())
    )
    # Counts of the last deliveries are reported after the delivery has ended.
    async with reports, Delivery(settings.kafka) as delivery:
        server = create_server(
            intake, events, reload.tokens, delivery, processor, metrics, in_flight
        )
        sources = create_source_topics(settings, delivery, processor, metrics)
        listener = create_listener(server, settings)
        try:
            await listener.start(intake.host, intake.port, "intake")
            log.info("listening on http://%s:%d%s", *listener.address, EventBodies.path)
            if sources is not None:
                await sources.app.start()
            reloading = loop.create_task(reload.run())
            await stopping.wait()
            reloading.cancel()
        finally:
            # Sources and server end first: both deliver, and the outer block closes the producers.
            if sources is not None:
                await sources.app.stop()
            await listener.stop()


def create_server(
    intake: Intake,
    events: EventBodies,
    tokens: Tokens,
    delivery: Delivery,
    processor: Processor,
    metrics: IntakeMetrics,
    in_flight: InFlight,
) -> IntakeServer:
    """Return the server of events and traces."""
    bodies: list[Bodies] = [events, TraceBodies(intake.customer_attributes)]
    return IntakeServer(intake, bodies, tokens, delivery, processor, metrics, in_flight)


def create_listener(server: IntakeServer, settings: Settings) -> Listener:
    """Return the listener of a server, which decompresses bodies itself, within its limits."""
    return Listener(
        ConnectionPool(settings.intake.connections),
        server.create_app(),
        auto_decompress=False,
        shutdown_s=SHUTDOWN_S,
    )
