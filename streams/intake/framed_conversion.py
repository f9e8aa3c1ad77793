"""Records of Confluent's serialisers become JSON, and then events."""

from collections.abc import Mapping, Sequence

from streams.intake.confluent.registry import SchemaDecoders
from streams.intake.confluent.schemas import Decode
from streams.intake.confluent.wire_format import (
    AVRO,
    PROTOBUF,
    Frame,
    MalformedRecord,
    SchemaName,
    read_frame,
)
from streams.intake.conversion import (
    Converted,
    Converter,
    PartPlace,
    RejectedPart,
    off_loop,
    size_of,
)
from streams.sources.sql_mapping import Record

MALFORMED = "malformed"
_FIX = "check the record, and `encoding` of its topic (docs/schema-registry.md)"
_NEED_SCHEMAS = (AVRO, PROTOBUF)


class FramedConverter:
    """Removes the frame of each record, decodes its payload, and lets `inner` convert the result.

    A record that cannot be read becomes a rejected part, and the others are converted.
    """

    def __init__(
        self, encoding: str, inner: Converter, decoders: SchemaDecoders, reads_payload: bool
    ) -> None:
        """`reads_payload`: the inner converter takes the payload as it is, without its schema."""
        self.inner = inner
        self._encoding = encoding
        self._decoders = decoders
        self._needs_schemas = needs_schemas(encoding, reads_payload)

    async def convert(self, records: Sequence[Record], origin: str) -> Converted:
        """Return the events of the records.

        Raises Unavailable if a schema is not there: the records may be right.
        """
        frames: list[Frame | MalformedRecord] = []
        for record in records:
            try:
                frames.append(read_frame(record.content, self._encoding))
            except MalformedRecord as error:
                frames.append(error)
        decoders: dict[SchemaName, Decode] = {}
        if self._needs_schemas:
            for name in {frame.schema for frame in frames if isinstance(frame, Frame)}:
                decoders[name] = await self._decoders.decoder(name, self._encoding)
        payloads = await off_loop(size_of(records), _decode, frames, decoders)
        readable, places, rejected = [], [], []
        for index, (record, payload) in enumerate(zip(records, payloads, strict=True)):
            if isinstance(payload, MalformedRecord):
                # The record itself may hold prompts.
                rejected.append(RejectedPart(PartPlace(index), MALFORMED, str(payload), _FIX, None))
            else:
                places.append(index)
                readable.append(record._replace(value=payload))
        converted = await self.inner.convert(readable, origin)
        converted.place_in(places)
        converted.rejected = rejected + converted.rejected
        return converted


def _decode(
    frames: Sequence[Frame | MalformedRecord], decoders: Mapping[SchemaName, Decode]
) -> list[bytes | MalformedRecord]:
    """Return the JSON of each record; without decoders its payload."""
    payloads: list[bytes | MalformedRecord] = []
    for frame in frames:
        if isinstance(frame, MalformedRecord):
            payloads.append(frame)
        elif not decoders:
            payloads.append(frame.payload)
        else:
            try:
                payloads.append(decoders[frame.schema](frame.indexes, frame.payload))
            except MalformedRecord as error:
                payloads.append(error)
    return payloads


def needs_schemas(encoding: str, reads_payload: bool) -> bool:
    """Return whether records of this encoding cannot be read without their schemas."""
    return encoding in _NEED_SCHEMAS and not reads_payload
