"""`tokenpulse simulate` and `tokenpulse produce`: send events to Kafka, paced by the clock."""

import asyncio
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from streams.config.settings import Settings
from streams.kafka.producer import CHUNK_RECORDS, EventProducer
from streams.simulator.generator import NOTHING_PLANNED, Traffic
from streams.simulator.profile import Profile
from streams.simulator.scenario_requests import Follower, ScenarioOrder
from streams.simulator.scenario_store import OrderStore, Simulator
from streams.simulator.timeline import Timeline
from streams.store.contract import StoreError
from streams.store.redis import connected

TICK_MS = 100
STRIDE_MS = 60_000  # at most this much traffic is drawn and sent in one go
# As the embedded broker wants it: its cost grows with the number of batches.
LINGER_MS = 1_000
ORDERS_INTERVAL_S = 0.25


async def simulate(
    settings: Settings,
    seed: int,
    timeline: Timeline = NOTHING_PLANNED,
    for_s: float | None = None,
    past_s: float = 0,
) -> int:
    """Send simulated traffic; the number of records sent.

    At the pace of the clock, until stopped or for `for_s` seconds, under the timeline and under the
    scenarios that are ordered meanwhile. First comes the traffic of the last `past_s` seconds, as
    fast as it goes, but for what a simulator of this seed has sent before.
    """
    stopping = _told_to_stop()
    begin_ms = _now_ms()
    end_ms = None if for_s is None else begin_ms + round(for_s * 1_000)
    profile = Profile.default(settings.local.events_per_s)
    traffic = Traffic(profile, seed, timeline.beginning_at(begin_ms))
    orders = _Orders(settings, seed, profile)
    sent_to_ms = await orders.first_ms(begin_ms, past_s)
    following = asyncio.create_task(orders.watch())
    try:
        async with EventProducer(settings.kafka, linger_ms=LINGER_MS) as producer:
            while not stopping.is_set() and (end_ms is None or sent_to_ms < end_ms):
                traffic = orders.followed(traffic, sent_to_ms)
                until_ms = min(_now_ms(), sent_to_ms + STRIDE_MS)
                until_ms = until_ms if end_ms is None else min(until_ms, end_ms)
                await _send(producer, traffic, sent_to_ms, until_ms)
                orders.sent_to_ms = sent_to_ms = max(sent_to_ms, until_ms)
                if _now_ms() - sent_to_ms < STRIDE_MS:
                    await _sleep(stopping, TICK_MS / 1_000)
            await producer.flush()
            return producer.sent
    finally:
        orders.ending.set()
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await orders.close()


async def simulate_past(settings: Settings, seed: int, timeline: Timeline, past_s: float) -> int:
    """Send the simulated traffic of the last `past_s` seconds at once; the number of records."""
    stopping = _told_to_stop()
    end_ms = _now_ms()
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
    records = [(one.key, one.value) for one in traffic.records(from_ms, to_ms)]
    if records:
        await producer.send_many(records)


class _Orders:
    """Reads the list of ordered scenarios beside the sending, which never waits for Redis."""

    def __init__(self, settings: Settings, seed: int, profile: Profile) -> None:
        self._client = connected(settings.redis)
        self._store = OrderStore(self._client, settings)
        self._follower = Follower(profile.names())
        self._wanted: tuple[ScenarioOrder, ...] | None = None  # None: the list was never read
        self._seed, self._events_per_s = seed, profile.events_per_s
        self._answers = True
        self.sent_to_ms = 0
        self.ending = asyncio.Event()  # the Redis client may swallow a cancellation

    async def first_ms(self, now_ms: int, past_s: float) -> int:
        """Where to begin: `past_s` ago, but not before the end of what was sent (epoch ms)."""
        self.sent_to_ms = now_ms
        try:
            before = (await self._store.read()).simulator(self._seed)
        except StoreError as error:
            self._silent(error)
            return now_ms
        asked_ms = now_ms - round(past_s * 1_000)
        if before is not None:
            asked_ms = max(asked_ms, before.sent_to_ms)
        self.sent_to_ms = min(now_ms, asked_ms)
        return self.sent_to_ms

    async def watch(self) -> None:
        """Read the list again and again until `ending`, and say what is obeyed."""
        told: set[str] = set()
        while not self.ending.is_set():
            try:
                found = await self._store.read()
                self._wanted = found.orders
                for problem in set(found.unreadable) - told:
                    _tell(f"scenario {problem}")
                told.update(found.unreadable)
                await self._store.say(
                    Simulator(
                        self._seed,
                        found.now_ms,
                        self.sent_to_ms,
                        self._events_per_s,
                        tuple(self._follower.obeyed),
                    )
                )
                if not self._answers:
                    _tell("Redis answers: scenarios can be ordered again")
                    self._answers = True
            except StoreError as error:
                self._silent(error)
            await _sleep(self.ending, ORDERS_INTERVAL_S)

    def followed(self, traffic: Traffic, present_ms: int) -> Traffic:
        """The traffic from `present_ms` (epoch ms) on, as the list wants it."""
        if self._wanted is None:
            return traffic
        timeline = self._follower.follow(traffic.timeline, self._wanted, present_ms)
        for line in self._follower.told:
            _tell(line)
        self._follower.told.clear()
        return traffic if timeline is traffic.timeline else traffic.with_timeline(timeline)

    async def close(self) -> None:
        """Give the connection back."""
        await self._client.aclose()

    def _silent(self, error: StoreError) -> None:
        if self._answers:
            _tell(f"{error}; traffic goes on, but no scenario can be ordered until it does")
            self._answers = False


def _tell(line: str) -> None:
    print(f"tokenpulse: {line}", file=sys.stderr, flush=True)


def _told_to_stop() -> asyncio.Event:
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    return stopping


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
