"""The SERVER and CLIENT spans of LiteLLM's proxy, joined within a record.

The proxy ends a CLIENT span before its SERVER span, so that a record may end between the two. The
event of the CLIENT span is in Kafka then, and the SERVER span of a later record gives none. To join
them, the intake would have to hold an event until its SERVER span arrives, and with it the answer
to the sender or the offset of the topic. So a note counts the requests that this changes.

Pure. The CLIENT span has the usage, one for each attempt at a provider; only the SERVER span has
the answer that the client got. If the client left, the CLIENT span is a success with estimated
tokens. A request that no provider got, as for an unknown model, has a SERVER span only.
"""

import re
from collections import defaultdict
from typing import NamedTuple

from streams.events.error_texts import end_of_error_text
from streams.intake.otlp.batch import (
    JOINED,
    NO_CLIENT_SPAN,
    SERVER_SPAN_ONLY,
    SPLIT_REQUEST,
    Event,
    IntakeBatch,
    drop_tokens,
)
from streams.intake.otlp.endings import end_of_error
from streams.intake.otlp.spans import STATUS_ERROR, Span
from streams.intake.otlp.values import status, text

_ROUTE_NAMES = ("http.route", "url.path", "http.target")
_STATUS_NAMES = ("http.response.status_code", "http.status_code")
SERVER_NAMES = frozenset({*_ROUTE_NAMES, *_STATUS_NAMES, "error.type"})

# Paths that end in a call of a model; not those that count tokens or answer a health check.
_ROUTE = re.compile(
    r"(?:/completions|/messages|/responses|/converse(?:-stream)?|/invoke"
    r"(?:-with-response-stream)?|:(?:stream)?[gG]enerateContent)/?(?:\?.*)?$"
)
# Of a server these are errors of the client's connection.
_CLIENT_LEFT = frozenset({"ConnectionError", "ConnectionResetError", "BrokenPipeError"})
_MOST_STEPS = 50  # from a span to its root
# Of an exporter that sends every few seconds, a few minutes of a busy proxy.
_MOST_EARLIER = 100_000


class Attempts(NamedTuple):
    """The CLIENT spans of one request in earlier records."""

    number: int
    any_success: bool


class EarlierRequests:
    """The SERVER spans whose CLIENT spans were in earlier records, as many as fit.

    Their ids are in two tables, of which the older one is dropped as a whole. Threads that read
    records at the same time need no lock: the tables change places in one assignment, so that two
    threads that do it at once drop the same table.
    """

    def __init__(self, most: int = _MOST_EARLIER) -> None:
        self._half = most // 2
        self._newer_older: tuple[dict[str, Attempts], dict[str, Attempts]] = {}, {}

    def add(self, request_id: str, is_success: bool) -> None:
        """Remember an attempt at a provider, by the SERVER span above it."""
        newer, _ = self._newer_older
        if len(newer) >= self._half:
            self._newer_older = {}, newer
        before = self.get(request_id) or Attempts(0, False)
        attempts = Attempts(before.number + 1, before.any_success or is_success)
        self._newer_older[0][request_id] = attempts

    def get(self, request_id: str) -> Attempts | None:
        """Return the attempts of a SERVER span in earlier records, None if there are none."""
        newer, older = self._newer_older
        return newer.get(request_id, older.get(request_id))


class ProxyJoin:
    """The SERVER spans of a record, and the events of the CLIENT spans below them."""

    def __init__(self, batch: IntakeBatch, earlier: EarlierRequests) -> None:
        self._batch, self._earlier = batch, earlier
        self._spans: list[Span] = []
        self._parents: dict[tuple[str, str], str] = {}
        self._servers: dict[str, dict[str, tuple[Span, str]]] = defaultdict(dict)
        self._requests: list[tuple[Span, Event]] = []

    def add_span(self, span: Span) -> None:
        """Keep a span until the end: a CLIENT span finds its SERVER span along the parents."""
        self._spans.append(span)

    def add_server(self, span: Span, scope: str) -> bool:
        """Return whether the SERVER span is a call of a model, and keep it until the end if so."""
        if not _is_model_call(span):
            return False
        self._servers[span.trace_id][span.span_id] = span, scope
        return True

    def add_request(self, span: Span, event: Event) -> None:
        """Keep a CLIENT span and its event, which is in the batch, until the end."""
        self._requests.append((span, event))

    def finish(self) -> None:
        """Correct the events by their SERVER spans, and add those of SERVER spans alone."""
        self._parents = {(span.trace_id, span.span_id): span.parent_id for span in self._spans}
        attempts: dict[str, list[tuple[Span, Event]]] = defaultdict(list)
        for request in self._requests:
            server = self._server_of(request[0])
            if server is not None:
                attempts[_request_id(server)].append(request)
            elif request[0].parent_id:
                # LiteLLM's CLIENT spans are right below their SERVER span.
                span, event = request
                is_success = event["outcome"] == "success"
                self._earlier.add(f"{span.trace_id}/{span.parent_id}", is_success)
        for servers in self._servers.values():
            for server, scope in servers.values():
                requests = attempts.get(_request_id(server))
                if requests:
                    self._batch.skipped[JOINED, scope] += 1
                    if self._earlier.get(_request_id(server)) is not None:
                        self._batch.notes[SPLIT_REQUEST, scope] += 1
                    _correct(server, requests)
                else:
                    self._add_alone(server, scope)

    def _server_of(self, span: Span) -> Span | None:
        """Return the SERVER span above a span, else the only one of its trace, else None."""
        servers = self._servers.get(span.trace_id)
        if not servers:
            return None
        parent_id = span.parent_id
        # Parents of a record may form a circle: the number of steps is limited.
        for _ in range(_MOST_STEPS):
            if parent_id in servers:
                return servers[parent_id][0]
            parent_id = self._parents.get((span.trace_id, parent_id), "")
            if not parent_id:
                break
        # With several calls in a trace only the parents tell them apart.
        return next(iter(servers.values()))[0] if len(servers) == 1 else None

    def _add_alone(self, server: Span, scope: str) -> None:
        """Add the event of a SERVER span without CLIENT span, if no provider can have got it.

        The CLIENT span of an answer is in another record: it has the event.
        """
        status_code = _status_of(server)
        left = _client_left(server)
        is_usable = 0 < server.start_ns <= server.end_ns
        earlier = self._earlier.get(_request_id(server))
        if earlier is not None and (earlier.number > 1 or (left and earlier.any_success)):
            self._batch.notes[SPLIT_REQUEST, scope] += 1
        if (
            earlier is not None
            or not is_usable
            or not (left or (status_code is not None and status_code >= 400))
        ):
            self._batch.skipped[NO_CLIENT_SPAN, scope] += 1
            return
        event: Event = {
            "request_id": _request_id(server),
            "ended_at": server.end_ns // 1_000_000,
            "trace_id": server.trace_id,
            "duration_ms": (server.end_ns - server.start_ns) / 1e6,
        }
        if left:
            event |= {"outcome": "cancelled", "ending": "cancelled_before_first"}
        else:
            end = end_of_error(server, status_code, None, saw_token=False)
            event["outcome"] = end.outcome
            if end.error_class is not None:
                event["error_class"] = end.error_class
        self._batch.events.append(event)
        self._batch.notes[SERVER_SPAN_ONLY, scope] += 1


def _correct(server: Span, requests: list[tuple[Span, Event]]) -> None:
    """Mark the attempts of one request, and cancel the last one if its client left."""
    # Retries and fallbacks run one after another: the last to end gave the client its answer.
    requests.sort(key=lambda request: (request[0].end_ns, request[0].span_id))
    last = requests[-1][1]
    if len(requests) > 1:
        for _, event in requests:
            event["attempt_of"] = _request_id(server)
            event["final"] = event is last
    if _client_left(server) and last["outcome"] == "success":
        after = "ttft_ms" in last
        last["outcome"] = "cancelled"
        last["ending"] = "cancelled_after_first" if after else "cancelled_before_first"
        drop_tokens(last)


def _is_model_call(span: Span) -> bool:
    route = next((span.attributes[name] for name in _ROUTE_NAMES if name in span.attributes), None)
    if not isinstance(route, str):
        # Without a route the span's name has it: `POST /v1/messages`.
        method, _, route = span.name.partition(" ")
        if method != "POST":
            return False
    return _ROUTE.search(route) is not None


def _client_left(server: Span) -> bool:
    status_code = _status_of(server)
    if status_code is not None and status_code >= 400:
        # 499: the client closed the connection.
        return status_code == 499
    kind = text(server.attributes.get("error.type")) or ""
    if server.status != STATUS_ERROR:
        return False
    is_cancelled = (end_of_error_text(kind) or ("",))[0] == "cancelled"
    return is_cancelled or kind.rpartition(".")[2] in _CLIENT_LEFT


def _status_of(server: Span) -> int | None:
    values = (status(server.attributes.get(name)) for name in _STATUS_NAMES)
    return next((value for value in values if value is not None), None)


def _request_id(span: Span) -> str:
    return f"{span.trace_id}/{span.span_id}"
