"""Send events to Kafka, paced by the clock: `tokenpulse simulate` and `tokenpulse produce`."""

import asyncio
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from streams.config.settings import Settings
from streams.events.parser import record_key
from streams.kafka.producer import CHUNK_RECORDS, EventProducer, now_ms
from streams.simulator.generator import NOTHING_PLANNED, Traffic
from streams.simulator.profile import Profile
from streams.simulator.scenario_requests import Follower, ScenarioRequest
from streams.simulator.scenario_store import ScenarioStore, SimulatorStatus
from streams.simulator.timeline import Timeline
from streams.store.contract import StoreError
from streams.store.servers.client import connected

TICK_MS = 100
STRIDE_MS = 60_000  # the longest stretch of traffic that is generated and sent at once
# The cost of the embedded broker grows with the number of batches.
LINGER_MS = 1_000
READ_INTERVAL_S = 0.25


async def simulate(
    settings: Settings,
    seed: int,
    timeline: Timeline = NOTHING_PLANNED,
    for_s: float | None = None,
    past_s: float = 0,
) -> int:
    """Send simulated traffic in real time and return the number of records.

    It runs until a signal or for `for_s` seconds, with the scenarios of the timeline and those that
    are requested meanwhile. First it sends the traffic of the last `past_s` seconds at once,
    without the records that a simulator of this seed has already sent.
    """
    stopping = _stop_event()
    begin_ms = now_ms()
    end_ms = None if for_s is None else begin_ms + round(for_s * 1_000)
    profile = Profile.default(settings.local.events_per_s)
    traffic = Traffic(profile, seed, timeline.beginning_at(begin_ms))
    requests = _RequestWatch(settings, seed, profile)
    sent_to_ms = await requests.first_ms(begin_ms, past_s)
    watching = asyncio.create_task(requests.watch())
    try:
        async with EventProducer(settings.kafka, linger_ms=LINGER_MS) as producer:
            while not stopping.is_set() and (end_ms is None or sent_to_ms < end_ms):
                traffic = requests.apply(traffic, sent_to_ms)
                # After a pause, or at first, catch up in strides.
                until_ms = min(now_ms(), sent_to_ms + STRIDE_MS)
                until_ms = until_ms if end_ms is None else min(until_ms, end_ms)
                await _send(producer, traffic, sent_to_ms, until_ms)
                requests.sent_to_ms = sent_to_ms = max(sent_to_ms, until_ms)
                # Only after catching up: a backlog is sent without pauses.
                if now_ms() - sent_to_ms < STRIDE_MS:
                    await _sleep(stopping, TICK_MS / 1_000)
            await producer.flush()
            await requests.report_end()
            return producer.sent
    finally:
        requests.ending.set()
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await requests.close()


async def simulate_past(settings: Settings, seed: int, timeline: Timeline, past_s: float) -> int:
    """Send the simulated traffic of the last `past_s` seconds at once; return its records."""
    stopping = _stop_event()
    end_ms = now_ms()
    sent_to_ms = end_ms - round(past_s * 1_000)
    profile = Profile.default(settings.local.events_per_s)
    traffic = Traffic(profile, seed, timeline.beginning_at(sent_to_ms))
    async with EventProducer(settings.kafka, linger_ms=LINGER_MS) as producer:
        while not stopping.is_set() and sent_to_ms < end_ms:
            until_ms = min(sent_to_ms + STRIDE_MS, end_ms)
            await _send(producer, traffic, sent_to_ms, until_ms)
            sent_to_ms = until_ms
        await producer.flush()
        return producer.sent


async def _send(producer: EventProducer, traffic: Traffic, from_ms: int, to_ms: int) -> None:
    records = [(record.key, record.value) for record in traffic.records(from_ms, to_ms)]
    if records:
        await producer.send_many(records)


class _RequestWatch:
    """Reads the requested scenarios in a task of its own, as sending must not wait for Redis."""

    def __init__(self, settings: Settings, seed: int, profile: Profile) -> None:
        self._client = connected(settings.redis)
        self._store = ScenarioStore(self._client, settings)
        self._follower = Follower(profile.names())
        self._requests: tuple[ScenarioRequest, ...] | None = None  # None: not read yet
        self._seed, self._events_per_s = seed, profile.events_per_s
        self._available = True
        self.sent_to_ms = 0
        self.ending = asyncio.Event()  # the Redis client may swallow a cancellation

    async def first_ms(self, now_ms: int, past_s: float) -> int:
        """Return the time to start at: `past_s` ago, or the end of what was sent (epoch ms)."""
        self.sent_to_ms = now_ms
        try:
            before = (await self._store.read()).simulator(self._seed)
        except StoreError as error:
            # Without the record of what was sent, the past might be sent twice.
            self._report_unavailable(error)
            return now_ms
        first_ms = now_ms - round(past_s * 1_000)
        # A restarted simulator must not send its past twice.
        if before is not None:
            first_ms = max(first_ms, before.sent_to_ms)
        self.sent_to_ms = min(now_ms, first_ms)
        return self.sent_to_ms

    async def watch(self) -> None:
        """Read the requests and report the status repeatedly until `ending` is set."""
        logged: set[str] = set()
        while not self.ending.is_set():
            try:
                reading = await self._store.read()
                self._requests = reading.requests
                for problem in set(reading.unreadable) - logged:
                    _log(f"scenario {problem}")
                logged.update(reading.unreadable)
                await self._report(reading.now_ms)
                if not self._available:
                    _log("Redis answers: scenarios can be requested again")
                    self._available = True
            except StoreError as error:
                self._report_unavailable(error)
            await _sleep(self.ending, READ_INTERVAL_S)

    def apply(self, traffic: Traffic, present_ms: int) -> Traffic:
        """Return the traffic from `present_ms` (epoch ms) on, with the requested scenarios."""
        if self._requests is None:
            return traffic
        timeline = self._follower.follow(traffic.timeline, self._requests, present_ms)
        for line in self._follower.messages:
            _log(line)
        self._follower.messages.clear()
        return traffic if timeline is traffic.timeline else traffic.with_timeline(timeline)

    async def report_end(self) -> None:
        """Report the position after the last record, so that a restart sends no record again."""
        with suppress(StoreError):  # without Redis there is no position to continue from
            await self._report((await self._store.read()).now_ms)

    async def _report(self, now_ms: int) -> None:
        """Store the status of this simulator as of `now_ms` (epoch ms by the clock of Redis)."""
        active = tuple(self._follower.active_ids)
        await self._store.report(
            SimulatorStatus(self._seed, now_ms, self.sent_to_ms, self._events_per_s, active)
        )

    async def close(self) -> None:
        """Close the connection."""
        await self._client.aclose()

    def _report_unavailable(self, error: StoreError) -> None:
        if self._available:
            _log(f"{error}; traffic continues, but no scenario can be requested until it does")
            self._available = False


def _log(line: str) -> None:
    print(f"tokenpulse: {line}", file=sys.stderr, flush=True)


def _stop_event() -> asyncio.Event:
    """Return an event that SIGINT and SIGTERM set."""
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    return stopping


async def produce(settings: Settings, source: BinaryIO) -> int:
    """Send version-1 events, one JSON object a line, unchanged; return their number.

    A line without a readable request_id gets no key; the worker rejects it with a reason.
    """
    async with EventProducer(settings.kafka) as producer:
        for chunk in _chunks(source):
            await producer.send_many([(record_key(line), line) for line in chunk])
        await producer.flush()
        return producer.sent


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
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stopping.wait()


def open_events(path: Path) -> BinaryIO:
    """Open a file of events; `-` is standard input. Raises OSError."""
    return sys.stdin.buffer if str(path) == "-" else path.open("rb")
