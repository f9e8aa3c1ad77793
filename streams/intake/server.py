"""The HTTP server of the intake: /v1/events, /healthz, /readyz and /metrics.

A request is answered with 200 only after the broker has all its events and dead letters. Whatever
may succeed later is answered with 503 and `Retry-After`, never with 429, which some senders treat
as final. Bytes that were received and are not confirmed are limited for the whole process, so that
a broker that stands still costs answers, not memory.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import msgspec
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from streams.config.settings import Settings
from streams.errors import Unavailable
from streams.intake.body import (
    CLOUD_EVENT,
    CLOUD_EVENTS,
    BodyError,
    inflate,
    split_records,
    unwrap_cloud_event,
)
from streams.intake.delivery import DeadLetter, Delivery
from streams.intake.judgement import Judged, RejectedEvent, judge, without_horizon
from streams.intake.metrics import IntakeMetrics
from streams.intake.tokens import Sender, Tokens
from streams.kafka.dead_letters import DeadLetterHeaders
from streams.kafka.producer import now_ms
from streams.state.limits import event_limits

EVENTS_PATH = "/v1/events"
# The answer lists this many rejected records; all of them are counted.
MOST_LISTED = 100
_CHUNK_BYTES = 65_536
_UNKNOWN_SENDER = "unknown"
_MOST_RECORDS = 100_000  # of a request, by the limit of the setting


class IntakeServer:
    """Answers the requests of all senders of one process."""

    def __init__(self, settings: Settings, tokens: Tokens, delivery: Delivery) -> None:
        self._settings = settings.intake
        self._limits = without_horizon(event_limits(settings.worker))
        self._tokens = tokens
        self._delivery = delivery
        self._in_flight_bytes = 0
        self._requests = 0  # since the start: the offset of a dead letter must be unique
        self._started_ms = now_ms()
        self.metrics = IntakeMetrics(lambda: self._in_flight_bytes)

    def create_app(self) -> web.Application:
        """Return the application. It must run with `auto_decompress=False`."""
        app = web.Application()
        app.add_routes(
            [
                web.post(EVENTS_PATH, self._post_events),
                web.get("/metrics", self._get_metrics),
                web.get("/healthz", self._get_health),
                web.get("/readyz", self._get_readiness),
            ]
        )
        return app

    async def _post_events(self, request: web.Request) -> web.Response:
        began_s = time.monotonic()
        sender = self._tokens.sender_of(request.headers.get("Authorization", ""))
        source = _UNKNOWN_SENDER if sender is None else sender.tenant
        try:
            if sender is None:
                raise BodyError(
                    HTTPStatus.UNAUTHORIZED,
                    "Authorization: send `Bearer TOKEN`, with a token of intake.tokens_file",
                )
            response = await self._take(request, sender)
        except BodyError as error:
            response = self._refuse(error.status, str(error))
        except Unavailable as error:
            response = self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, str(error))
        self.metrics.answers.labels(source, str(response.status)).inc()
        self.metrics.seconds.labels(source).observe(time.monotonic() - began_s)
        return response

    async def _take(self, request: web.Request, sender: Sender) -> web.Response:
        """Return the answer to a request once its events are delivered.

        Raises BodyError, or Unavailable if the sender must send it again.
        """
        reservation = _Reservation(self, request.content_length or 0)
        try:
            body = await self._read(request, reservation)
            encoding = request.headers.get("Content-Encoding", "")
            content = inflate(encoding, body, self._settings.max_decoded_bytes)
            reservation.grow(len(content) - len(body))
            records = split_records(request.content_type, content, self._settings.max_records)
            if request.content_type in (CLOUD_EVENT, CLOUD_EVENTS):
                records = [unwrap_cloud_event(record) for record in records]
            arrived_ms = now_ms()
            judged = judge(records, arrived_ms, self._limits)
            letters = self._dead_letters(sender, request.path, arrived_ms, judged, records)
            confirmed = self._delivery.deliver(judged.events, letters)
        except BaseException:
            reservation.release()
            raise
        # Also after the handler has given up: the producer has the bytes until then.
        confirmed.add_done_callback(lambda _: reservation.release())
        await self._wait(confirmed)
        self._count(sender, len(records), judged)
        return _answer(judged)

    async def _read(self, request: web.Request, reservation: "_Reservation") -> bytes:
        """Return the body as it was sent. Raises BodyError if it is too large."""
        limit = self._settings.max_body_bytes
        chunks: list[bytes] = []
        size = 0
        if (request.content_length or 0) > limit:
            raise _too_large(limit)
        async for chunk in request.content.iter_chunked(_CHUNK_BYTES):
            size += len(chunk)
            if size > limit:
                raise _too_large(limit)
            # A body in chunks has no length in its header.
            reservation.cover(size)
            chunks.append(chunk)
        return b"".join(chunks)

    async def _wait(self, confirmed: asyncio.Future[None]) -> None:
        try:
            await asyncio.wait_for(asyncio.shield(confirmed), self._settings.answer_timeout_s)
        except TimeoutError as error:
            raise Unavailable("Kafka does not confirm the events; send them again") from error

    def reserve(self, size: int) -> None:
        """Add bytes to those in flight. Raises Unavailable if there is no room for them."""
        if size > 0 and self._in_flight_bytes + size > self._settings.max_in_flight_bytes:
            raise Unavailable(
                f"{self._in_flight_bytes} bytes wait for Kafka (intake.max_in_flight_bytes); "
                "send the request again"
            )
        self._in_flight_bytes += size

    def _dead_letters(
        self,
        sender: Sender,
        path: str,
        arrived_ms: int,
        judged: Judged,
        records: Sequence[bytes],
    ) -> list[DeadLetter]:
        """Return the dead letters of a request.

        The path and the sender stand for the topic, and the number of the request and the record's
        index for partition and offset. A record that is too large is left out.
        """
        self._requests += 1
        topic = f"{path}:{sender.tenant}"
        letters = []
        for position, reason, detail, _ in judged.rejected:
            has_value = len(records[position]) <= self._limits.max_event_bytes
            offset = (self._started_ms + self._requests) * _MOST_RECORDS + position
            headers = DeadLetterHeaders(
                topic, 0, offset, arrived_ms, reason, detail, has_value=has_value
            )
            letters.append(DeadLetter(headers, None, records[position] if has_value else None))
        return letters

    def _count(self, sender: Sender, records: int, judged: Judged) -> None:
        source = sender.tenant
        self.metrics.records.labels(source).inc(records)
        self.metrics.events.labels(source).inc(len(judged.events))
        if judged.events:
            self.metrics.last_event.labels(source).set_to_current_time()
        for reason, count in Counter(item.reason for item in judged.rejected).items():
            self.metrics.rejected.labels(source, reason).inc(count)

    def _refuse(self, status: HTTPStatus, message: str) -> web.Response:
        headers = {}
        if status is HTTPStatus.SERVICE_UNAVAILABLE:
            headers["Retry-After"] = str(self._settings.retry_after_s)
        elif status is HTTPStatus.UNAUTHORIZED:
            headers["WWW-Authenticate"] = 'Bearer realm="Tokenpulse"'
        return _json({"error": message}, status, headers)

    async def _get_metrics(self, _: web.Request) -> web.Response:
        return web.Response(
            body=self.metrics.page(),
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


class _Reservation:
    """The bytes of one request among those in flight."""

    def __init__(self, server: IntakeServer, size: int) -> None:
        """Reserve the declared size. Raises Unavailable, like `grow` and `cover`."""
        self._server, self._size = server, 0
        self.grow(min(size, server._settings.max_body_bytes))

    def grow(self, size: int) -> None:
        """Change the size by `size`, which may be negative."""
        self._server.reserve(size)
        self._size += size

    def cover(self, size: int) -> None:
        """Make sure that `size` bytes are reserved in total."""
        if size > self._size:
            self.grow(size - self._size)

    def release(self) -> None:
        """Give all bytes back."""
        self._server.reserve(-self._size)
        self._size = 0


def _too_large(limit: int) -> BodyError:
    return BodyError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"the body is larger than {limit} bytes (intake.max_body_bytes); send smaller batches",
    )


def _answer(judged: Judged) -> web.Response:
    """Return the answer to a request whose events the broker has; 400 if all were rejected."""
    rejected = judged.rejected
    content: dict[str, Any] = {"accepted": len(judged.events), "rejected": len(rejected)}
    if rejected:
        content["partial_success"] = {
            "rejected_events": len(rejected),
            "errors": [_describe(item) for item in rejected[:MOST_LISTED]],
        }
    all_bad = rejected and not judged.events
    return _json(content, HTTPStatus.BAD_REQUEST if all_bad else HTTPStatus.OK)


def _describe(item: RejectedEvent) -> dict[str, Any]:
    fields = item._asdict()
    return {"index": fields.pop("position"), **fields}


def _json(
    content: dict[str, Any], status: HTTPStatus, headers: dict[str, str] | None = None
) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(content),
        status=status,
        headers={**(headers or {}), "Cache-Control": "no-store"},
        content_type="application/json",
    )
