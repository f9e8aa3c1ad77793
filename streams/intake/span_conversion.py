"""Records of OTLP traces become events, by the profiles of their producers."""

from collections.abc import Sequence

import msgspec

from streams.intake.conversion import Converted, PartPlace, RejectedPart, off_loop
from streams.intake.otlp.batch import IntakeBatch
from streams.intake.otlp.decode import read_traces
from streams.intake.otlp.profiles import AUTO, PROFILES, select_profiles
from streams.intake.otlp.requests import RequestReader
from streams.intake.otlp.spans import NotTraces
from streams.sources.sql_mapping import Record

NOT_TRACES = "not_traces"
_SPAN_FIX = "check the span against the profile of its producer (docs/intake.md)"
_RECORD_FIX = "send OTLP traces to this topic, in the encoding of intake.sources"


def is_profile(name: str) -> bool:
    """Return whether a source is a profile of spans."""
    return name == AUTO or any(profile.name == name for profile in PROFILES)


class SpanConverter:
    """Reads the spans of one source."""

    def __init__(self, profile: str, encoding: str, customer_attributes: Sequence[str]) -> None:
        """`profile`: `auto` or a name. `encoding`: name or media type. Raises ConfigError."""
        self._reader = RequestReader(select_profiles(profile), customer_attributes)
        self._encoding = encoding

    async def convert(self, records: Sequence[Record], origin: str) -> Converted:
        """Return the events of the spans in the records; spans have ids of their own."""
        converted = Converted([], [])
        for index, record in enumerate(records):
            try:
                batch = await off_loop(len(record.value), self._decode, record.content)
            except NotTraces as error:
                converted.rejected.append(
                    RejectedPart(PartPlace(index), NOT_TRACES, str(error), _RECORD_FIX, None)
                )
            else:
                _add(batch, index, converted)
        return converted

    def _decode(self, value: bytes) -> IntakeBatch:
        return self._reader.read(read_traces(value, self._encoding))


def _add(batch: IntakeBatch, index: int, converted: Converted) -> None:
    """Add the events of one record, and its skipped and rejected spans."""
    converted.events += [msgspec.json.encode(event) for event in batch.events]
    converted.places += [PartPlace(index, number) for number in range(len(batch.events))]
    converted.skipped += batch.skipped
    converted.notes += batch.notes
    converted.spans += batch.spans
    converted.rejected += [
        RejectedPart(
            PartPlace(index, span.position),
            span.reason,
            span.detail,
            _SPAN_FIX,
            msgspec.json.encode(span.fields),
        )
        for span in batch.rejected
    ]
