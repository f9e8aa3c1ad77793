"""Check that a file contains events, for the commands that read files without a mapping."""

from pathlib import Path

from streams.errors import RequestError
from streams.sources.files import UnreadableFile
from streams.sources.suggestion import check_events
from tokenpulse import span_sample


def check_event_file(path: Path) -> None:
    """Raise RequestError if a file contains no events, or UnreadableFile."""
    try:
        check_events(path)
    except (RequestError, UnreadableFile):
        if span_sample.read(path):
            raise RequestError(
                f"{path}: contains OpenTelemetry traces; send it to /v1/traces of an intake "
                '(docs/otlp.md, "A file of traces")'
            ) from None
        raise
