"""Bodies of `POST /v1/traces`, as OTLP/HTTP defines requests and answers.

https://opentelemetry.io/docs/specs/otlp/#otlphttp: the answer has the type of the request, and
spans that are no request of their own are not rejected ones.
"""

from collections.abc import Sequence
from http import HTTPStatus

import msgspec
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)

from streams.intake.body import TRACES_PATH, BodyError
from streams.intake.conversion import Converted
from streams.intake.otlp.profiles import AUTO
from streams.intake.processing import Processed
from streams.intake.span_conversion import NOT_TRACES, SpanConverter, is_profile
from streams.intake.tokens import Sender
from streams.sources.sql_mapping import Record

PROTOBUF, JSON = "application/x-protobuf", "application/json"
# Codes of google.rpc.Status, whose message is code (field 1) and message (field 2).
_INVALID_ARGUMENT, _UNAVAILABLE, _UNAUTHENTICATED = 3, 14, 16
_CODES = {
    HTTPStatus.SERVICE_UNAVAILABLE: _UNAVAILABLE,
    HTTPStatus.UNAUTHORIZED: _UNAUTHENTICATED,
}
_CODE_TAG, _MESSAGE_TAG = b"\x08", b"\x12"
_MOST_NAMED = 5  # reasons in the message of a partial success


class TraceBodies:
    """Reads and answers the bodies of all senders."""

    path = TRACES_PATH

    def __init__(self, customer_attributes: Sequence[str]) -> None:
        self._customer_attributes = customer_attributes
        self._converters: dict[tuple[str, str], SpanConverter] = {}

    async def convert(
        self, sender: Sender, content_type: str, content: bytes
    ) -> tuple[int, Converted]:
        """Return the number of records, 1, and the events of its spans. Raises BodyError."""
        if content_type not in (PROTOBUF, JSON):
            raise BodyError(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                f"Content-Type: not supported; send {PROTOBUF} or {JSON}",
            )
        profile = sender.source if sender.source and is_profile(sender.source) else AUTO
        key = profile, content_type
        if key not in self._converters:
            self._converters[key] = SpanConverter(profile, content_type, self._customer_attributes)
        converted = await self._converters[key].convert([Record(0, content)], "")
        # A body that is no traces request is wrong as a whole, not span by span.
        for part in converted.rejected:
            if part.reason == NOT_TRACES:
                raise BodyError(HTTPStatus.BAD_REQUEST, part.detail)
        return 1, converted

    def answer(self, content_type: str, processed: Processed) -> tuple[HTTPStatus, str, bytes]:
        """Return status, type and body of the answer; exporters read the body."""
        count = len(processed.rejected)
        reasons = {f"{part.reason}: {part.detail}" for part in processed.rejected}
        message = "; ".join(sorted(reasons)[:_MOST_NAMED])
        if content_type == JSON:
            partial = {"partialSuccess": {"rejectedSpans": str(count), "errorMessage": message}}
            return HTTPStatus.OK, JSON, msgspec.json.encode(partial if count else {})
        response = ExportTraceServiceResponse()
        if count:
            response.partial_success.CopyFrom(
                ExportTracePartialSuccess(rejected_spans=count, error_message=message)
            )
        return HTTPStatus.OK, PROTOBUF, response.SerializeToString()

    def refuse(self, content_type: str, status: HTTPStatus, message: str) -> tuple[str, bytes]:
        """Return type and body, a google.rpc.Status, of an answer to a body not taken."""
        code = _CODES.get(status, _INVALID_ARGUMENT)
        if content_type != PROTOBUF:
            return JSON, msgspec.json.encode({"code": code, "message": message})
        text = message.encode()
        # Codes are below 128, so each is one byte.
        return PROTOBUF, _CODE_TAG + bytes([code]) + _MESSAGE_TAG + _varint(len(text)) + text


def _varint(number: int) -> bytes:
    """Return a number as protobuf writes it: seven bits a byte, the lowest first."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
