"""Traffic without end: events that are on time, late, doubled and broken, in fast event time."""

import asyncio
import json
import random
import threading
import time
from collections import Counter, deque
from typing import Any, Self

from streams.config.settings import Kafka
from streams.kafka.producer import EventProducer
from tests.support.shelf import KINDS

TICK_S = 0.05
SPEED = 20  # seconds of event time a second: slices merge and expire while we watch
RECENT = 3_000  # records that may come again
BROKEN = (b"", b"{", b'{"model": "m"}', b'{"ended_at": true, "request_id": "1", "model": "m"}')
REGIONS, CHANNELS, MODELS = ("eu", "us", "ap"), ("direct", "cloud"), ("small", "medium", "large")

Event = tuple[bytes, bytes]


class Load:
    """Sends from a thread of its own until `finish`. `sent`: records by kind, all confirmed once it
    has ended; `ends`: of the partitions."""

    def __init__(self, kafka: Kafka, seed: int, rate: int, begin_ms: int) -> None:
        self.sent: Counter[str] = Counter()
        self.ends: dict[int, int] = {}
        self.confirmed = 0
        self.failure: BaseException | None = None
        self._kafka, self._dice, self._rate, self._begin_ms = (
            kafka,
            random.Random(seed),
            rate,
            begin_ms,
        )
        self._began = time.monotonic()
        self._recent: deque[Event] = deque(maxlen=RECENT)
        self._bursts: deque[tuple[str, int]] = deque()
        self._done, self._paused, self._opened = (
            threading.Event(),
            threading.Event(),
            threading.Event(),
        )
        self._idle, self._reopen = threading.Event(), False
        self._thread = threading.Thread(target=self._live, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._paused.clear()
        self._thread.join(60)

    def burst(self, kind: str, count: int) -> None:
        """Have so many of a kind sent at once: `late`, `duplicate` or `broken`."""
        self._bursts.append((kind, count))

    def pause(self) -> None:
        """Send nothing; returns when nothing new is handed over any more."""
        self._idle.clear()
        self._paused.set()
        self._idle.wait(5)

    def resume(self) -> None:
        """Go on sending."""
        self._paused.clear()

    def look_again(self) -> None:
        """Learn of partitions that were added; returns when they are sent to."""
        self._opened.clear()
        self._reopen = True
        assert self._opened.wait(60), f"the producer does not open again: {self.failure}"

    def finish(self) -> dict[int, int]:
        """Send what waits; the ends of the partitions."""
        self.__exit__()
        assert not self._thread.is_alive(), "the producer does not end"
        if self.failure is not None:
            raise self.failure
        return self.ends

    def _live(self) -> None:
        try:
            while not self._done.is_set():
                self._reopen = False
                asyncio.run(self._send())
        except BaseException as error:  # the driver raises it
            self.failure = error

    async def _send(self) -> None:
        async with EventProducer(self._kafka, linger_ms=20) as producer:
            self._opened.set()
            before = self.confirmed
            due = 0.0
            while not self._done.is_set() and not self._reopen:
                await asyncio.sleep(TICK_S)
                if self._paused.is_set():
                    self._idle.set()
                    continue
                due += self._rate * TICK_S
                now_ms = self._begin_ms + int((time.monotonic() - self._began) * 1_000 * SPEED)
                records = [self._next(self._kind(), now_ms) for _ in range(int(due))]
                due -= int(due)
                while self._bursts:
                    kind, count = self._bursts.popleft()
                    records += [self._next(kind, now_ms) for _ in range(count)]
                await producer.send_many(records, now_ms)
                self.confirmed = before + producer.sent
                self.ends.update(producer.end_offsets)
            await producer.flush()
            self.confirmed = before + producer.sent
            self.ends.update(producer.end_offsets)

    def _kind(self) -> str:
        return self._dice.choices(("good", "late", "duplicate", "broken"), (93, 3, 3, 1))[0]

    def _next(self, kind: str, now_ms: int) -> Event:
        if kind == "duplicate" and not self._recent:
            kind = "good"
        self.sent[kind] += 1
        dice, number = self._dice, self.sent.total()
        if kind == "duplicate":
            return dice.choice(self._recent)
        if kind == "broken":
            return b"broken-%d" % number, dice.choice(BROKEN)
        behind_s = dice.choice((60, 900, 7_200)) if kind == "late" else 20
        event: dict[str, Any] = {
            "request_id": f"c-{number}",
            "ended_at": now_ms - dice.randrange(behind_s * 1_000),
            "model": dice.choice(MODELS),
            "region": dice.choice(REGIONS),
            "channel": dice.choice(CHANNELS),
            "customer_id": f"customer-{dice.randrange(20)}",
            **dice.choice(KINDS),
        }
        if "ttft_ms" in event:
            event["ttft_ms"] = dice.randrange(50, 900)
        record = event["request_id"].encode(), json.dumps(event).encode()
        self._recent.append(record)
        return record
