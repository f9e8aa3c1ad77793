"""Delivers events and dead letters to Kafka, and reports when the broker has them.

    deliver -> waiting requests -> one group -> both topics -> confirmed, or failed as a whole

Requests that arrive while a group is in transit form the next one, so that a request waits for two
round trips at most, whatever the number of senders. A group that fails is answered as failed; its
events may still have arrived, and come again with the same request ids. The producers are then
opened anew, until a broker takes records again.
"""

import asyncio
import logging
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field

from streams.config.settings import Kafka
from streams.errors import Unavailable, one_line
from streams.kafka.dead_letters import DeadLetterHeaders
from streams.kafka.producer import Event, EventProducer

log = logging.getLogger(__name__)

REOPEN_AFTER_S = 1.0
# More than the producer's own deadline, which it should reach first.
GROUP_DEADLINE_S = 45.0
CLOSE_DEADLINE_S = 10.0
# The producer groups by itself; its linger never ends, as each group is flushed.
_LINGER_MS = 600_000.0


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A rejected record with its headers; `value`: None if there is none to show."""

    headers: DeadLetterHeaders
    key: bytes | None = None
    value: bytes | None = None


@dataclass(slots=True)
class _Waiting:
    """The records of one request, and the future that its handler waits for."""

    events: list[Event]
    letters: list[DeadLetter]
    confirmed: asyncio.Future[None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class Delivery:
    """Sends the records of all requests in groups; use it as an async context manager.

    `problem`: why the last group failed, None if it was confirmed.
    """

    def __init__(self, kafka: Kafka) -> None:
        self.problem: str | None = "no connection to Kafka yet"
        self._kafka = kafka
        self._waiting: list[_Waiting] = []
        self._arrived = asyncio.Event()
        self._ending = False
        self._open = AsyncExitStack()
        self._producers: tuple[EventProducer, EventProducer] | None = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Delivery":
        """Connect to Kafka. Raises Unavailable."""
        await self._connect()
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Deliver the records of requests that wait, then close."""
        self._ending = True
        self._arrived.set()
        if self._task is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._task, GROUP_DEADLINE_S)
        await self._close()

    def deliver(self, events: list[Event], letters: list[DeadLetter]) -> asyncio.Future[None]:
        """Return a future that is done once the broker has all records of a request.

        It raises Unavailable if they may not have arrived.
        """
        waiting = _Waiting(events, letters)
        if not events and not letters:
            waiting.confirmed.set_result(None)
            return waiting.confirmed
        # The handler may have ended by then: an error that is never read would be logged.
        waiting.confirmed.add_done_callback(lambda future: future.exception())
        self._waiting.append(waiting)
        self._arrived.set()
        return waiting.confirmed

    async def _run(self) -> None:
        while not (self._ending and not self._waiting):
            await self._arrived.wait()
            self._arrived.clear()
            group, self._waiting = self._waiting, []
            if not group:
                continue
            try:
                async with asyncio.timeout(GROUP_DEADLINE_S):
                    await self._send(group)
            except Exception as error:  # of any kind: the group must not count as delivered
                await self._fail(group, error)
            else:
                self.problem = None
                for request in group:
                    request.confirmed.set_result(None)

    async def _send(self, group: list[_Waiting]) -> None:
        if self._producers is None:
            await self._connect()
        assert self._producers is not None
        events, letters = self._producers
        await events.send_many([event for request in group for event in request.events])
        for request in group:
            for letter in request.letters:
                headers = letter.headers.encode()
                await letters.send(letter.key, letter.value or b"", headers=headers)
        await asyncio.gather(events.flush(), letters.flush())

    async def _fail(self, group: list[_Waiting], error: Exception) -> None:
        text = one_line(error) or "Kafka did not confirm the events in time"
        if self.problem is None:
            # One warning for a failure that repeats with every group.
            log.warning("%s: answering 503", text)
        self.problem = text
        # A producer that failed sends no more records: both are opened anew.
        for request in group:
            request.confirmed.set_exception(Unavailable(text))
        await self._close()
        await asyncio.sleep(REOPEN_AFTER_S)

    async def _connect(self) -> None:
        kafka = self._kafka
        async with AsyncExitStack() as stack:
            events, letters = [
                await stack.enter_async_context(
                    # The intake limits the bytes of its requests itself.
                    EventProducer(
                        kafka, topic=topic, linger_ms=_LINGER_MS, max_in_flight_bytes=2**62
                    )
                )
                for topic in (kafka.topic, kafka.dlq_topic)
            ]
            self._open, self._producers = stack.pop_all(), (events, letters)
        self.problem = None

    async def _close(self) -> None:
        self._producers = None
        stack, self._open = self._open, AsyncExitStack()
        # With an error, as without one they would wait for a broker that may not answer.
        reason = Unavailable("closed")
        with suppress(Exception):
            async with asyncio.timeout(CLOSE_DEADLINE_S):
                await stack.__aexit__(type(reason), reason, None)
