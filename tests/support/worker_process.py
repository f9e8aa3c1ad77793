"""Real worker processes, real commands, and what Redis says of them."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from streams.config.settings import Kafka, Redis, Settings, Worker
from streams.kafka.producer import EventProducer
from streams.kafka.topics import create_topics
from streams.query.report import Question, make_report
from streams.store.keys import Keys
from streams.store.servers.client import connected
from tests.support.owned_process import OwnedProcess
from tests.support.paths import ROOT
from tests.support.servers import Broker, partitions_of, wait_until
from tokenpulse.local.embedded import environment

SECRET = "a secret of the tests, long enough"
START_S = 30  # for a worker to start, join and count on a loaded machine


def worker_settings(
    broker: Broker,
    redis_url: str,
    partitions: int = 1,
    kafka: Mapping[str, Any] | None = None,
    timeout_s: float = 2,
    **worker: Any,
) -> Settings:
    """Settings with topics and a group of their own, and quick checkpoints."""
    own: Kafka = broker.new_kafka(partitions).model_copy(update=dict(kafka or {}))
    return Settings(
        kafka=own,
        redis=Redis(url=redis_url, timeout_s=timeout_s),
        worker=Worker(
            **{
                "customer_key": SECRET,
                "flush_interval_s": 0.1,
                "archive_interval_s": 0,
                **worker,
            }
        ),
    )


def regrouped(settings: Settings, group: str) -> Settings:
    """The same topic for another consumer group, so with a state of its own."""
    kafka = settings.kafka.model_copy(update={"group": group})
    return settings.model_copy(update={"kafka": kafka})


class WorkerProcess(OwnedProcess):
    """`tokenpulse worker` as a process; killed at the end of the block if it still runs."""

    def __init__(self, settings: Settings, log: Path, program: Path = ROOT) -> None:
        """`program`: the directory with the packages that run."""
        super().__init__("the worker", log)
        self.settings = settings
        self.directory = log.with_suffix("")  # where it runs
        self.directory.mkdir(exist_ok=True)
        self.run(
            [sys.executable, "-m", "tokenpulse.cli.main", "worker"],
            env={**environment(settings), "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(program)},
            cwd=self.directory,
        )

    def __enter__(self) -> Self:
        return self

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self.process.poll() is None

    def ended(self, timeout_s: float = START_S) -> int:
        """Wait for its end; the exit status."""
        return self.process.wait(timeout_s)

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        self.signal(signal.SIGTERM)
        return self.ended()


class State:
    """What Redis holds of one group and topic."""

    def __init__(self, settings: Settings, client: redis.Redis) -> None:
        self._kafka, self._client = settings.kafka, client

    def key(self, partition: int) -> str:
        """The partition's hash."""
        return Keys(self._kafka.group, self._kafka.topic).partition(partition)

    def offset(self, partition: int) -> int:
        """The stored offset; 0 where nothing is stored."""
        return int(self._field(partition, "offset") or 0)

    def owner(self, partition: int) -> str:
        """Token of the worker that claimed it last; empty where nobody did."""
        return (self._field(partition, "owner") or b"").decode()

    def workers(self, partitions: Iterable[int]) -> set[str]:
        """Names of the workers whose sign of life is the newest of some partition."""
        kafka = self._kafka
        keys = [Keys(kafka.group, kafka.topic).heartbeat(partition) for partition in partitions]
        return {(self._client.hget(key, "worker") or b"").decode() for key in keys}  # type: ignore[union-attr]

    def counted(self, partitions: Iterable[int]) -> int:
        """Records that the stored states include."""
        return sum(map(self.offset, partitions))

    def wait_past(self, partitions: Iterable[int], records: float) -> None:
        """Return when the stored states include more than `records`."""
        wanted = list(partitions)
        wait_until(lambda: self.counted(wanted) > records, f"more than {records:g}", START_S)

    def has(self, ends: Mapping[int, int]) -> bool:
        """Whether every partition's stored offset is exactly at its end."""
        offsets = {partition: self.offset(partition) for partition in ends}
        for partition, end in ends.items():
            assert offsets[partition] <= end, f"partition {partition} passed its end"
        return offsets == dict(ends)

    def wait_for(self, ends: Mapping[int, int], timeout_s: float = 60) -> None:
        """Return when everything up to `ends` is stored."""
        wait_until(lambda: self.has(ends), f"stored offsets reach {dict(ends)}", timeout_s)

    def _field(self, partition: int, name: str) -> bytes | None:
        value: bytes | None = self._client.hget(self.key(partition), name)  # type: ignore[assignment]
        return value


def send(
    kafka: Kafka,
    *parts: Sequence[tuple[bytes | None, bytes]],
    timestamps_ms: Sequence[int] | None = None,
) -> dict[int, int]:
    """Produce records, each part with a Kafka timestamp of its own or now; the end of each
    partition that got some."""

    async def run() -> dict[int, int]:
        async with EventProducer(kafka) as producer:
            for number, part in enumerate(parts):
                stamp_ms = timestamps_ms[number] if timestamps_ms is not None else None
                await producer.send_many(part, stamp_ms)
            await producer.flush()
            return dict(producer.end_offsets)

    return asyncio.run(run())


def send_raw(kafka: Kafka, records: Sequence[tuple[bytes | None, bytes | None]]) -> dict[int, int]:
    """Produce records one by one, also such as our own producer never sends."""

    async def run() -> dict[int, int]:
        producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap)
        await producer.start()
        try:
            ends: dict[int, int] = {}
            for key, value in records:
                sent = await producer.send_and_wait(kafka.topic, value, key=key)
                ends[sent.partition] = sent.offset + 1
            return ends
        finally:
            await producer.stop()

    return asyncio.run(run())


def make_topics(settings: Settings) -> None:
    """Create the topics that the settings name."""
    asyncio.run(create_topics(settings))


def report(settings: Settings, **question: Any) -> dict[str, Any]:
    """The report, as read by the code behind `tokenpulse report`."""

    async def run() -> dict[str, Any]:
        client = connected(settings.redis)
        try:
            kafka = settings.kafka
            return await make_report(client, kafka.group, kafka.topic, Question(**question))
        finally:
            await client.aclose()

    return asyncio.run(run())


def tokenpulse(
    *arguments: object,
    settings: Settings | None = None,
    send_in: bytes | None = None,
    timeout_s: float = 120,
    **variables: str,
) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end, with these settings or the defaults."""
    own = environment(settings) if settings is not None else dict(os.environ)
    done = subprocess.run(
        [sys.executable, "-m", "tokenpulse.cli.main", *map(str, arguments)],
        env={**own, **variables},
        cwd=ROOT,
        input=send_in if send_in is not None else b"",
        capture_output=True,
        timeout=timeout_s,
    )
    return subprocess.CompletedProcess(
        done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
    )


def dead_letters(kafka: Kafka, distinct: int, timeout_s: float = 60) -> list[Any]:
    """Records of the dead-letter topic, once it holds so many different ones.

    A refused record may be there more than once: it is sent again where its first sending was not
    yet part of a checkpoint.
    """

    async def run() -> list[Any]:
        consumer = AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap, auto_offset_reset="earliest")
        await consumer.start()
        try:
            tps = [
                TopicPartition(kafka.dlq_topic, number)
                for number in await partitions_of(consumer, kafka.dlq_topic)
            ]
            consumer.assign(tps)
            await consumer.seek_to_beginning(*tps)
            found: list[Any] = []
            async with asyncio.timeout(timeout_s):
                while len({origin(one) for one in found}) < distinct:
                    for batch in (await consumer.getmany(timeout_ms=100)).values():
                        found.extend(batch)
            return found
        finally:
            await consumer.stop()

    return asyncio.run(run())


def headers(record: Any) -> dict[str, str]:
    """The headers of a dead letter, without the prefix of their names."""
    return {name.removeprefix("tokenpulse."): value.decode() for name, value in record.headers}


def origin(record: Any) -> tuple[str, int, int]:
    """Topic, partition and offset that a dead letter came from."""
    told = headers(record)
    return told["topic"], int(told["partition"]), int(told["offset"])


class Cable:
    """A TCP connection to a server that can be cut, or held so that nothing passes any more."""

    def __init__(self, port: int) -> None:
        self._to, self._pairs = port, set[asyncio.StreamWriter]()
        self._loop = asyncio.new_event_loop()
        self._passing = asyncio.Event()
        self._server: asyncio.Server | None = None
        self.port = 0
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self.mend()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def cut(self) -> None:
        """Close all connections and refuse new ones."""
        self._do(self._cut())

    def lead_to(self, port: int) -> None:
        """Lead new connections to another server; those that are open stay."""
        self._to = port

    def hold(self) -> None:
        """Accept, and say nothing more."""
        self._do(self._hold())

    def mend(self) -> None:
        """Let everything through again, at the same port."""
        self._do(self._mend())

    def _do(self, what: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(what, self._loop).result(10)

    async def _cut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in self._pairs:
            writer.transport.abort()
        self._pairs.clear()

    async def _hold(self) -> None:
        self._passing.clear()

    async def _mend(self) -> None:
        self._passing.set()
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._to)
        self._pairs |= {writer, far_writer}
        with contextlib.suppress(OSError):
            await asyncio.gather(self._pass(reader, far_writer), self._pass(far_reader, writer))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                await self._passing.wait()
                writer.write(data)
                await writer.drain()
        finally:
            writer.close()
