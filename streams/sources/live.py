"""`tokenpulse simulate` and `tokenpulse produce`: send events to Kafka, paced by the clock."""

import asyncio
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from streams.config import Settings
from streams.sources.producer import CHUNK_RECORDS, EventProducer
from streams.sources.profile import Profile
from streams.sources.simulate import NOTHING_PLANNED, Traffic
from streams.sources.timeline import Timeline

TICK_MS = 100
# As the embedded broker wants it: its cost grows with the number of batches.
LINGER_MS = 1_000


async def simulate(
    settings: Settings,
    seed: int,
    timeline: Timeline = NOTHING_PLANNED,
    for_s: float | None = None,
    fast_from_ms: int | None = None,
) -> int:
    """Send simulated traffic; the number of records sent.

    Live at the pace of the clock, until stopped or for `for_s` seconds. With `fast_from_ms`, the
    traffic of `for_s` seconds from that instant at once.
    """
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    begin_ms = fast_from_ms if fast_from_ms is not None else _now_ms()
    end_ms = None if for_s is None else begin_ms + round(for_s * 1_000)
    profile = Profile.default(settings.local.events_per_s)
    traffic = Traffic(profile, seed, timeline.beginning_at(begin_ms))
    async with EventProducer(settings.kafka, linger_ms=LINGER_MS) as producer:
        sent_to_ms = begin_ms
        while not stopping.is_set() and (end_ms is None or sent_to_ms < end_ms):
            until_ms = sent_to_ms + 60_000 if fast_from_ms is not None else _now_ms()
            until_ms = until_ms if end_ms is None else min(until_ms, end_ms)
            records = [(one.key, one.value) for one in traffic.records(sent_to_ms, until_ms)]
            if records:
                await producer.send_many(records)
            sent_to_ms = until_ms
            if fast_from_ms is None:
                await _sleep(stopping, TICK_MS / 1_000)
        await producer.flush()
        return producer.sent


async def produce(settings: Settings, source: BinaryIO) -> int:
    """Send version-1 events, one JSON object a line, as they are; the number sent.

    A line without a readable request_id gets no key: the worker will say what is wrong with it.
    """
    keys = msgspec.json.Decoder(_Keyed)
    async with EventProducer(settings.kafka) as producer:
        for chunk in _chunks(source):
            events = []
            for line in chunk:
                try:
                    key: bytes | None = keys.decode(line).request_id.encode()
                except (msgspec.MsgspecError, UnicodeError, RecursionError):
                    key = None
                events.append((key, line))
            await producer.send_many(events)
        await producer.flush()
        return producer.sent


class _Keyed(msgspec.Struct):
    request_id: str


def _chunks(source: BinaryIO) -> Iterator[list[bytes]]:
    chunk = []
    for line in source:
        if stripped := line.strip():
            chunk.append(stripped)
        if len(chunk) == CHUNK_RECORDS:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


async def _sleep(stopping: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stopping.wait()
    except TimeoutError:
        pass


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def open_events(path: Path) -> BinaryIO:
    """Open a file of events; `-` is standard input. Raises OSError."""
    import sys

    return sys.stdin.buffer if str(path) == "-" else path.open("rb")
