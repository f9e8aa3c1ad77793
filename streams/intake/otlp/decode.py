"""A body of OTLP traces, in either encoding, becomes groups of spans.

Pure. FORMATS are the encodings as the Collector's kafkaexporter names them.
"""

from codecs import BOM_UTF8
from typing import get_args

from streams.config.intake import SpanFormat
from streams.intake.otlp.decode_json import read_json
from streams.intake.otlp.decode_proto import read_proto
from streams.intake.otlp.spans import NotTraces, SpanGroup

PROTO, JSON = FORMATS = get_args(SpanFormat)
PROTO_TYPES = frozenset({PROTO, "application/x-protobuf", "application/protobuf"})
JSON_TYPES = frozenset({JSON, "application/json"})


def read_traces(body: bytes, content_type: str | None = None) -> list[SpanGroup]:
    """Return the spans of an OTLP traces request by resource and scope; an empty body has none.

    `content_type` is a media type or the name of an encoding; without one the first byte decides.
    Raise NotTraces, without a word of the body, if it is no such request.
    """
    kind = None if content_type is None else content_type.partition(";")[0].strip().lower()
    if kind is None:
        kind = JSON if body.removeprefix(BOM_UTF8).lstrip()[:1] == b"{" else PROTO
    if kind in JSON_TYPES:
        return read_json(body) if body.strip() else []
    if kind in PROTO_TYPES:
        return read_proto(body)
    raise NotTraces(f"the content type {kind!r} is none of OTLP; send x-protobuf or json")
