"""Read a file of OTLP traces, for `tokenpulse try`: requests of OTLP, or their parts.

An exporter sends whole requests. Files of tools have several requests in a list, or spans without
the request around them, which the intake does not take: then the guess has the jq filter that makes
requests of them.
"""

from collections import Counter
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from streams.events.parser import UNREADABLE
from streams.intake.otlp.decode import JSON, PROTO, read_traces
from streams.intake.otlp.requests import RequestReader
from streams.intake.otlp.spans import NotTraces
from streams.sources.files import RowError, UnreadableFile, open_plain
from streams.sources.guess import ROWS, Guess
from streams.sources.records import read_records
from streams.sources.rows import Row
from streams.sources.sql_mapping import FileOptions, Record

_MARKS = (b'"resourceSpans"', b'"resource_spans"', b'"scopeSpans"', b'"stringValue"')
# A sample shows whether a profile reads the file; the rest may be very large.
_SAMPLE_BYTES = 16 * 1024 * 1024
_HEAD_BYTES = 65_536
_PROTO_FIRST = 0x0A  # field 1, with a length: the spans of a resource
_WHOLE = "."
_OLD_GROUPS = b'"instrumentationLibrarySpans"'
_OLD_PROBLEM = (
    "its spans are in instrumentationLibrarySpans, as in OTLP before 0.19; update the sender"
)
# A span alone does not say who wrote it: a scope of the producer that writes such an attribute.
_SCOPES = (
    ("openinference.span.kind", "openinference.instrumentation.openai"),
    ("ai.operationId", "ai"),
    ("llm.request.type", "opentelemetry.instrumentation.openai.v1"),
    ("gen_ai.operation.name", "opentelemetry.util.genai"),
)


def read(path: Path) -> Guess | None:
    """Return the requests in a file of traces; None if it is another file."""
    try:
        with open_plain(path) as file:
            content = file.read(_SAMPLE_BYTES)
    except UnreadableFile:
        return None
    if any(mark in content[:_HEAD_BYTES] for mark in _MARKS):
        return read_json(islice(read_records(path, FileOptions()), ROWS), content.lstrip()[:1])
    # A text may begin with a line end, which is the same byte.
    if content[:1] != bytes((_PROTO_FIRST,)) or content[1:].isascii():
        return None
    return _guess(PROTO, [(1, content)], "")


def read_json(records: Iterable[Record | RowError], first: bytes = b"{") -> Guess | None:
    """Return the requests in JSON records; None if they are no traces.

    `first`: byte of the file, which may be one list of all records.
    """
    bodies: list[tuple[int, bytes]] = []
    filters: dict[str, None] = {}
    for record in records:
        if isinstance(record, RowError):
            continue
        try:
            document = msgspec.json.decode(record.content)
        except UNREADABLE:
            continue
        is_list = isinstance(document, list)
        for part in document if is_list else [document]:
            way, request = _as_request(part)
            if not way:
                return None
            filters[f".[] | {way}" if is_list or first == b"[" else way] = None
            bodies.append((record.line, msgspec.json.encode(request)))
    if not bodies:
        return None
    # Of one way: files hold one kind of part.
    way = next(iter(filters))
    return _guess(JSON, bodies, "" if way == _WHOLE else f"jq -c '{way}' {{file}}")


def _guess(name: str, bodies: list[tuple[int, bytes]], extraction: str) -> Guess:
    rows: list[Row] = []
    failures: list[RowError] = []
    reader, skipped = RequestReader(), Counter[tuple[str, str]]()
    for line, body in bodies:
        try:
            batch = reader.read(read_traces(body, name))
        except NotTraces as error:
            failures.append(RowError(line, str(error)))
            continue
        rows += [Row(line, event, event["ended_at"]) for event in batch.events]
        failures += [
            RowError(line, f"span {span.position}: {span.reason}, {span.detail}")
            for span in batch.rejected
        ]
        if not batch.spans and _OLD_GROUPS in body:
            failures.append(RowError(line, _OLD_PROBLEM))
        skipped += batch.skipped
    about = "OpenTelemetry traces" + (", not as an exporter sends them" if extraction else "")
    reasons = [f"{count} left out: {why}, {scope}" for (why, scope), count in skipped.items()]
    return Guess(name, about, rows, failures, skipped.total(), extraction, tuple(reasons))


def _as_request(part: Any) -> tuple[str, Any]:
    """Return the jq filter that makes a request of a part, and the request; "" if it is none."""
    if not isinstance(part, dict):
        return "", None
    if not part.keys().isdisjoint(("resourceSpans", "resource_spans")):
        return _WHOLE, part
    if not part.keys().isdisjoint(("scopeSpans", "scope_spans")):
        return "{resourceSpans: [.]}", {"resourceSpans": [part]}
    if isinstance(part.get("batches"), list):  # as Tempo answers
        return "{resourceSpans: .batches}", {"resourceSpans": part["batches"]}
    return _spans_as_request(part)


def _spans_as_request(part: dict[str, Any]) -> tuple[str, Any]:
    """Return filter and request of a span, of spans or of those of a scope, as `_as_request`."""
    spans = part.get("spans", [part])
    if not isinstance(spans, list) or not spans or not all(map(_is_span, spans)):
        return "", None
    if "scope" in part:
        return "{resourceSpans: [{scopeSpans: [.]}]}", _request(part)
    scope = _scope_of(spans)
    inner = ".spans" if "spans" in part else "[.]"
    way = f'{{resourceSpans: [{{scopeSpans: [{{scope: {{name: "{scope}"}}, spans: {inner}}}]}}]}}'
    return way, _request({"scope": {"name": scope}, "spans": spans})


def _request(scope_spans: dict[str, Any]) -> dict[str, Any]:
    return {"resourceSpans": [{"scopeSpans": [scope_spans]}]}


def _is_span(part: Any) -> bool:
    if not isinstance(part, dict) or not isinstance(part.get("attributes", []), list):
        return False
    return "name" in part and ("spanId" in part or "attributes" in part)


def _scope_of(spans: list[Any]) -> str:
    keys = {
        attribute.get("key")
        for span in spans
        for attribute in span.get("attributes") or ()
        if isinstance(attribute, dict)
    }
    return next((scope for key, scope in _SCOPES if key in keys), "")
