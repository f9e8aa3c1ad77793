"""The whole way of a producer's records: an intake, Kafka, a worker, and the report."""

import asyncio
import json
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis

from tests.support.intake_process import IntakeProcess
from tests.support.servers import Broker, RedisServer, wait_until
from tests.support.worker_process import State, WorkerProcess, report, worker_settings


class CountedTraffic:
    """An intake with a topic and a state of its own; use it as a context manager."""

    def __init__(self, broker: Broker, redis_server: RedisServer) -> None:
        self._broker = broker
        self._settings = worker_settings(broker, redis_server.url)
        self._intake = IntakeProcess(self._settings.kafka)
        self.url = self._intake.url

    def __enter__(self) -> Self:
        self._intake.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._intake.kill()

    def records(self) -> list[Any]:
        """Return the records that are in Kafka now."""
        return asyncio.run(self._broker.read_some(self._settings.kafka.topic))

    def events(self, count: int) -> list[dict[str, Any]]:
        """Return the events once there are `count` of them, by their end."""
        wait_until(lambda: len(self.records()) >= count, f"{count} events", 60)
        events = [json.loads(record.value) for record in self.records()]
        assert len(events) == count
        return sorted(events, key=lambda event: float(event["ended_at"]))

    def measures_by_model(self, directory: Path) -> dict[str, dict[str, Any]]:
        """Let a worker count the events; return the report's measures of each model."""
        ends = Counter(record.partition for record in self.records())
        with (
            redis.Redis.from_url(self._settings.redis.url) as client,
            WorkerProcess(self._settings, directory / "worker.log") as worker,
        ):
            State(self._settings, client).wait_for(ends)
            assert worker.stop() == 0
        groups = report(self._settings, by=("model",))["groups"]
        return {group["key"]["model"]: group["total"] for group in groups}
