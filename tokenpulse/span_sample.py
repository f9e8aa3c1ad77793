"""Read a file of OTLP traces, for `tokenpulse try`: one request, or one as JSON a line."""

from pathlib import Path

from streams.intake.otlp.decode import JSON, PROTO, read_traces
from streams.intake.otlp.requests import RequestReader
from streams.intake.otlp.spans import NotTraces
from streams.sources.files import RowError, UnreadableFile, open_plain
from streams.sources.guess import Guess
from streams.sources.rows import Row

_MARKS = (b'"resourceSpans"', b'"resource_spans"')
# A sample shows whether a profile reads the file; the rest may be very large.
_SAMPLE_BYTES = 16 * 1024 * 1024
_PROTO_FIRST = 0x0A  # field 1, with a length: the spans of a resource


def read(path: Path) -> Guess | None:
    """Return the requests in a file of traces; None if it is another file."""
    try:
        with open_plain(path) as file:
            content = file.read(_SAMPLE_BYTES)
    except UnreadableFile:
        return None
    is_json = any(mark in content[:4_096] for mark in _MARKS)
    # A text may begin with a line end, which is the same byte.
    if not is_json and (content[:1] != bytes((_PROTO_FIRST,)) or content[1:].isascii()):
        return None
    name = JSON if is_json else PROTO
    rows: list[Row] = []
    failures: list[RowError] = []
    reader, skipped = RequestReader(), 0
    for line, body in enumerate(_bodies(content, is_json), 1):
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
        skipped += batch.skipped.total()
    return Guess(name, "OpenTelemetry traces", rows, failures, skipped)


def _bodies(content: bytes, is_json: bool) -> list[bytes]:
    """Return the requests of a file: its lines if each is one, else the whole file."""
    lines = [line for line in content.splitlines() if line.strip()]
    if is_json and all(any(mark in line for mark in _MARKS) for line in lines):
        return lines
    return [content]
