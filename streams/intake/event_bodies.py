"""Bodies of `POST /v1/events`: records become events, and the counts of both an answer."""

import hashlib
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

import msgspec

from streams.events.parser import UNREADABLE
from streams.intake.body import (
    CLOUD_EVENT,
    CLOUD_EVENTS,
    EVENTS_PATH,
    BodyError,
    split_records,
    unwrap_cloud_event,
)
from streams.intake.conversion import (
    Converted,
    Converter,
    RejectedPart,
    converter_of,
    off_loop,
    recognise,
)
from streams.intake.processing import Processed
from streams.intake.span_conversion import is_profile
from streams.intake.tokens import Sender
from streams.sources.events import EVENTS
from streams.sources.reading import shipped_mappings
from streams.sources.sql_mapping import Record

# The answer lists this many rejected records; all of them are counted.
MOST_LISTED = 100
JSON = "application/json"
_TRACES_MEMBER = "resourceSpans"
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])


class EventBodies:
    """Reads and answers the bodies of all senders."""

    path = EVENTS_PATH

    def __init__(self, max_records: int) -> None:
        self._converters: dict[str, Converter] = {}
        self._max_records = max_records

    def prepare(self, sources: Iterable[str]) -> None:
        """Load what the sources of senders need. Raises ConfigError if one does not exist."""
        shipped = shipped_mappings()
        for name in sources:
            # Kong has both: a profile of its spans, and a mapping of its log.
            is_mapping = name in shipped or not is_profile(name)
            if is_mapping and name not in self._converters:
                self._converters[name] = converter_of(name)

    async def convert(
        self, sender: Sender, content_type: str, content: bytes
    ) -> tuple[int, Converted]:
        """Return the number of records, and their events. Raises BodyError."""
        named = sender.source if sender.source in self._converters else None
        by_format = await off_loop(len(content), self._records, content_type, content, named)
        # A body that is sent again gives the same ids to events that have none.
        origin = hashlib.sha256(content).hexdigest()[:24]
        converted = Converted([], [])
        for name, records in by_format.items():
            if name not in self._converters:
                self._converters[name] = converter_of(name)
            part = await self._converters[name].convert(records, origin)
            part.place_in([record.line for record in records])
            converted.add(part)
        return sum(map(len, by_format.values())), converted

    def _records(
        self, content_type: str, content: bytes, named: str | None
    ) -> dict[str, list[Record]]:
        """Return the records of a body by their format. Raises BodyError."""
        values = split_records(content_type, content, self._max_records)
        if values and _is_traces(values[0]):
            raise BodyError(
                HTTPStatus.BAD_REQUEST,
                "the body contains OpenTelemetry traces; send it to /v1/traces",
            )
        if content_type in (CLOUD_EVENT, CLOUD_EVENTS):
            values = [unwrap_cloud_event(value) for value in values]
        by_format: dict[str, list[Record]] = {}
        for index, value in enumerate(values):
            name = named or recognise(value)
            # NaN and half surrogate pairs, which cost a field, are bytes that are no text here.
            text = value if name == EVENTS else value.decode(errors="replace")
            by_format.setdefault(name, []).append(Record(index, text))
        return by_format

    def answer(self, _content_type: str, processed: Processed) -> tuple[HTTPStatus, str, bytes]:
        """Return status, type and body of the answer; 400 if all records were rejected."""
        rejected = processed.rejected
        content: dict[str, Any] = {"accepted": len(processed.events), "rejected": len(rejected)}
        if rejected:
            content["partial_success"] = {
                "rejected_events": len(rejected),
                "errors": [_describe(part) for part in rejected[:MOST_LISTED]],
            }
        # A part is answered with 200: a sender must not repeat the events that were accepted.
        all_bad = rejected and not processed.events
        status = HTTPStatus.BAD_REQUEST if all_bad else HTTPStatus.OK
        return status, JSON, msgspec.json.encode(content)

    def refuse(self, _content_type: str, _status: HTTPStatus, message: str) -> tuple[str, bytes]:
        """Return type and body of an answer to a body that was not taken."""
        return JSON, msgspec.json.encode({"error": message})


def _is_traces(record: bytes) -> bool:
    """Return True for a request of OTLP in JSON, as an exporter with the wrong path sends it."""
    # Most records do not have the word, and are not parsed here.
    if _TRACES_MEMBER.encode() not in record:
        return False
    try:
        return _TRACES_MEMBER in _MEMBERS.decode(record)
    except UNREADABLE:
        return False


def _describe(part: RejectedPart) -> dict[str, Any]:
    return {
        "index": part.place.record,
        "reason": part.reason,
        "detail": part.detail,
        "fix": part.fix,
    }
