"""An intake over the embedded broker, asked over HTTP in the same process."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, TypeVar

from aiohttp import ClientSession

from streams.config.settings import Kafka, Settings
from streams.intake.app import create_listener, create_server
from streams.intake.delivery import Delivery
from streams.intake.event_bodies import EventBodies
from streams.intake.metrics import IntakeMetrics
from streams.intake.processing import Processor
from streams.intake.server import InFlight
from streams.intake.source_reports import SourceReports
from streams.intake.tokens import load_tokens
from tests.support.servers import Broker

Result = TypeVar("Result")
Use = Callable[[ClientSession, Settings], Awaitable[Result]]


class IntakeOnBroker:
    """Runs an intake for the time of one coroutine."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker

    def run(self, use: Use[Result], kafka: Kafka | None = None, **intake: Any) -> Result:
        """Return what `use` returns; it gets a client of the intake, and the settings."""
        settings = Settings(kafka=kafka or self.broker.new_kafka(), intake={"port": 0, **intake})
        return asyncio.run(self._run(use, settings, AsyncExitStack()))

    def run_reporting(self, use: Use[Result], settings: Settings) -> Result:
        """Return what `use` returns, once the counts of the sources are in Redis."""
        return asyncio.run(self._run(use, settings))

    async def _run(
        self, use: Use[Result], settings: Settings, reports: AsyncExitStack | None = None
    ) -> Result:
        """`reports`: in place of those to Redis."""
        in_flight = InFlight(settings.intake.max_in_flight_bytes)
        metrics = IntakeMetrics(lambda: in_flight.size)
        processor = Processor(settings.worker, metrics)
        events = EventBodies(settings.intake.max_records)
        tokens = load_tokens(settings.intake)
        events.prepare(tokens.sources())
        async with (
            reports or SourceReports(settings, processor.pending),
            Delivery(settings.kafka) as delivery,
        ):
            server = create_server(
                settings.intake, events, tokens, delivery, processor, metrics, in_flight
            )
            listener = create_listener(server, settings)
            await listener.start("127.0.0.1", 0, "intake")
            host, port = listener.address
            try:
                async with ClientSession(f"http://{host}:{port}") as client:
                    return await use(client, settings)
            finally:
                await listener.stop()
