"""A producer that sends while a test goes on."""

import asyncio
import threading
from collections.abc import Sequence

from streams.config.settings import Kafka
from streams.kafka.producer import EventProducer

PACE_S = 0.05


class Feed:
    """Sends to a topic at a pace, but never beyond what is allowed so far."""

    def __init__(
        self, kafka: Kafka, parts: Sequence[tuple[int | None, Sequence[tuple[bytes | None, bytes]]]]
    ) -> None:
        self.total = sum(len(records) for _, records in parts)
        self.allowed = 0
        self.sent = 0
        self.ends: dict[int, int] = {}
        self._kafka, self._parts = kafka, parts
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._thread.start()

    def finish(self) -> dict[int, int]:
        """Send the rest; the ends of the partitions."""
        self.allowed = self.total
        self._thread.join()
        return self.ends

    async def _run(self) -> None:
        async with EventProducer(self._kafka, linger_ms=20) as producer:
            for stamp_ms, records in self._parts:
                while self.sent + len(records) > self.allowed:  # noqa: ASYNC110 - another thread's
                    await asyncio.sleep(0.01)
                await producer.send_many(records, stamp_ms)
                self.sent += len(records)
                if self.allowed < self.total:
                    await asyncio.sleep(PACE_S)
            await producer.flush()
            self.ends = dict(producer.end_offsets)
