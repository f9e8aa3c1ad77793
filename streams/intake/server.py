"""The HTTP server of the intake: /v1/events, /v1/traces, /healthz, /readyz and /metrics.

A request is answered with 200 only after the broker has all its events and dead letters. A request
that may succeed later is answered with 503 and `Retry-After`, never with 429, which some senders
treat as final. Bytes that were received and are not confirmed are limited for the whole process,
so that a broker that stands still costs answers, not memory.
"""

import asyncio
import time
from collections.abc import Sequence
from functools import partial
from http import HTTPStatus
from typing import Protocol

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from streams.config.settings import Intake
from streams.errors import Unavailable
from streams.http.connections import track_requests
from streams.intake.body import BodyError, inflate
from streams.intake.conversion import Converted, off_loop
from streams.intake.delivery import Delivery
from streams.intake.metrics import IntakeMetrics
from streams.intake.processing import Origin, Processed, Processor
from streams.intake.tokens import Sender, Tokens
from streams.kafka.dead_letters import RECORDS_PER_REQUEST
from streams.kafka.producer import now_ms

_CHUNK_BYTES = 65_536
_MOST_TIMES = 1_000  # so much larger is the content of a body of gzip at most
_UNKNOWN_SENDER = "unknown"
_AGAIN = "send the request again"


class Bodies(Protocol):
    """The bodies of one path."""

    path: str

    async def convert(
        self, sender: Sender, content_type: str, content: bytes
    ) -> tuple[int, Converted]:
        """Return the number of records, and their events. Raises BodyError."""
        ...

    def answer(self, content_type: str, processed: Processed) -> tuple[HTTPStatus, str, bytes]:
        """Return status, type and body of the answer once the broker has the events."""
        ...

    def refuse(self, content_type: str, status: HTTPStatus, message: str) -> tuple[str, bytes]:
        """Return type and body of an answer to a body that was not taken."""
        ...


class InFlight:
    """The bytes of all requests that are not answered, or not confirmed by Kafka."""

    def __init__(self, max_bytes: int) -> None:
        self.size = 0
        self._max_bytes = max_bytes

    def reserve(self, size: int) -> None:
        """Add bytes; a negative number gives bytes back. Raises Unavailable without room."""
        # Only requests for room can fail; bytes are always taken back.
        if size > 0 and self.size + size > self._max_bytes:
            raise Unavailable(
                f"{self.size} bytes arrive or wait for Kafka (intake.max_in_flight_bytes); {_AGAIN}"
            )
        self.size += size


class _Reservation:
    """The bytes of one request among those in flight."""

    def __init__(self, in_flight: InFlight) -> None:
        self._in_flight, self._size = in_flight, 0

    def cover(self, size: int) -> None:
        """Make sure that `size` bytes are reserved. Raises Unavailable."""
        if size > self._size:
            self._in_flight.reserve(size - self._size)
            self._size = size

    def release(self) -> None:
        """Give all bytes back."""
        self._in_flight.reserve(-self._size)
        self._size = 0


class IntakeServer:
    """Answers the requests of all senders of one process."""

    def __init__(
        self,
        settings: Intake,
        bodies: Sequence[Bodies],
        tokens: Tokens,
        delivery: Delivery,
        processor: Processor,
        metrics: IntakeMetrics,
        in_flight: InFlight,
    ) -> None:
        self._settings = settings
        self._bodies = bodies
        self._tokens = tokens
        self._delivery = delivery
        self._processor = processor
        self._metrics = metrics
        self._in_flight = in_flight
        self._inflating = asyncio.Lock()
        self._requests = 0
        self._started_ms = now_ms()

    def create_app(self) -> web.Application:
        """Return the application. It must run with `auto_decompress=False`."""
        app = web.Application(middlewares=[track_requests])
        app.add_routes(
            [
                *(web.post(bodies.path, partial(self._post, bodies)) for bodies in self._bodies),
                web.get("/metrics", self._get_metrics),
                web.get("/healthz", self._get_health),
                web.get("/readyz", self._get_readiness),
            ]
        )
        return app

    async def _post(self, bodies: Bodies, request: web.Request) -> web.Response:
        began_s = time.monotonic()
        sender = self._tokens.sender_of(request.headers.get("Authorization", ""))
        source = _UNKNOWN_SENDER if sender is None else sender.tenant
        headers = {"Cache-Control": "no-store"}
        try:
            if sender is None:
                headers["WWW-Authenticate"] = 'Bearer realm="Tokenpulse"'
                raise BodyError(
                    HTTPStatus.UNAUTHORIZED,
                    "Authorization: send `Bearer TOKEN`, with a token of intake.tokens_file",
                )
            processed = await self._take(bodies, request, sender)
            status, kind, body = bodies.answer(request.content_type, processed)
        except BodyError as error:
            status = error.status
            kind, body = bodies.refuse(request.content_type, status, str(error))
        except Unavailable as error:
            status = HTTPStatus.SERVICE_UNAVAILABLE
            headers["Retry-After"] = str(self._settings.retry_after_s)
            kind, body = bodies.refuse(request.content_type, status, str(error))
            # A slow sender says nothing about Kafka.
            if not isinstance(error, SlowBodyError):
                self._metrics.undelivered.labels(source).inc()
        self._metrics.answers.labels(source, str(status.value)).inc()
        self._metrics.seconds.labels(source).observe(time.monotonic() - began_s)
        return web.Response(status=status, body=body, content_type=kind, headers=headers)

    async def _take(self, bodies: Bodies, request: web.Request, sender: Sender) -> Processed:
        """Return the events and rejected parts of a body once the events are delivered.

        Raises BodyError, or Unavailable if the sender must send it again.
        """
        reservation = _Reservation(self._in_flight)
        try:
            body = await self._read_body(request, reservation)
            content = await self._inflate(request, body, reservation)
            records, converted = await bodies.convert(sender, request.content_type, content)
            origin = self._origin(bodies, sender, records)
            size = sum(map(len, converted.events))
            processed = await off_loop(size, self._processor.process, converted, origin)
            confirmed = self._delivery.deliver(processed.events, processed.letters)
        except BaseException:
            reservation.release()
            raise
        # Also after the handler has given up: the producer has the bytes until then.
        confirmed.add_done_callback(lambda _: reservation.release())
        await self._wait(confirmed)
        self._processor.count(sender.tenant, records, converted, processed)
        return processed

    async def _read_body(self, request: web.Request, reservation: _Reservation) -> bytes:
        """Return the body as it was sent. Raises BodyError if it is too large, SlowBodyError."""
        limit = self._settings.max_body_bytes
        if (request.content_length or 0) > limit:
            raise _too_large(limit)
        chunks: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._settings.answer_timeout_s):
                async for chunk in request.content.iter_chunked(_CHUNK_BYTES):
                    size += len(chunk)
                    if size > limit:
                        raise _too_large(limit)
                    # What has arrived, not what the header promises: a sender that stops after
                    # the header must not take the room of the others.
                    reservation.cover(size)
                    chunks.append(chunk)
        except TimeoutError as error:
            raise SlowBodyError(
                f"the body did not arrive within {self._settings.answer_timeout_s:g} s "
                f"(intake.answer_timeout_s); {_AGAIN}"
            ) from error
        except ConnectionError as error:
            raise BodyError(HTTPStatus.BAD_REQUEST, "the body ends too early") from error
        return b"".join(chunks)

    async def _inflate(self, request: web.Request, body: bytes, reservation: _Reservation) -> bytes:
        """Return the body without its encoding. Raises BodyError."""
        encoding = request.headers.get("Content-Encoding", "")
        limit = self._settings.max_decoded_bytes
        if not encoding:
            return inflate(encoding, body, limit)
        # One after the other: the content takes more memory than the body that was reserved.
        async with self._inflating:
            content = await off_loop(len(body) * _MOST_TIMES, inflate, encoding, body, limit)
            reservation.cover(len(content))
        return content

    async def _wait(self, confirmed: asyncio.Future[None]) -> None:
        try:
            # Shielded: a delivery continues after its request has timed out.
            await asyncio.wait_for(asyncio.shield(confirmed), self._settings.answer_timeout_s)
        except TimeoutError as error:
            raise Unavailable(f"Kafka does not confirm the events; {_AGAIN}") from error

    def _origin(self, bodies: Bodies, sender: Sender, records: int) -> Origin:
        """Return a topic and offsets of a request: path and sender, and the request's number."""
        self._requests += 1
        # Counted from the time of the start, so that a restart does not repeat the same offsets.
        first = (self._started_ms + self._requests) * RECORDS_PER_REQUEST
        offsets = range(first, first + max(1, records))
        return Origin(f"{bodies.path}:{sender.tenant}", 0, offsets, [now_ms()] * len(offsets))

    async def _get_metrics(self, _: web.Request) -> web.Response:
        return web.Response(
            body=self._metrics.page(),
            headers={"Content-Type": CONTENT_TYPE_LATEST, "Cache-Control": "no-store"},
        )

    async def _get_health(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n", headers={"Cache-Control": "no-store"})

    async def _get_readiness(self, _: web.Request) -> web.Response:
        problem = self._delivery.problem
        return web.Response(
            text="ok\n" if problem is None else problem + "\n",
            status=HTTPStatus.OK if problem is None else HTTPStatus.SERVICE_UNAVAILABLE,
            headers={"Cache-Control": "no-store"},
        )


class SlowBodyError(Unavailable):
    """A body did not arrive in time; the sender must send it again."""


def _too_large(limit: int) -> BodyError:
    return BodyError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"the body is larger than {limit} bytes (intake.max_body_bytes); send smaller batches",
    )
