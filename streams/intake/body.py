"""The body of a request: decompressed within a limit, and cut into records.

Pure: no network and no clock.
"""

import re
import zlib
from codecs import BOM_UTF8
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import cramjam
import msgspec
import numpy as np

from streams.events.parser import UNREADABLE, decode_lenient

EVENTS_PATH, TRACES_PATH = "/v1/events", "/v1/traces"
CLOUD_EVENT = "application/cloudevents+json"
CLOUD_EVENTS = "application/cloudevents-batch+json"
_LINES = ("application/x-ndjson", "application/ndjson", "application/jsonl")
JSON_TYPES = ("application/json", CLOUD_EVENT, CLOUD_EVENTS, *_LINES)
# A record of the smallest use has a few objects in it; many more are made to fill the memory.
_OBJECTS_PER_RECORD = 64
# Of an array that has something else than objects, which bound the number of its elements.
_MOST_COMMAS = 1_000_000
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_LIST = msgspec.json.Decoder(list[msgspec.Raw])


# Brackets, commas and texts, whose end may be missing.
_MARK = re.compile(rb'[\[\]{},]|"(?:[^"\\]++|\\.)*+"?', re.DOTALL)


class _Object(msgspec.Struct, gc=False):
    """Any JSON object. Decoding one checks the syntax, and stores no member."""


_OBJECT = msgspec.json.Decoder(_Object)
_OBJECTS = msgspec.json.Decoder(list[_Object])


class BodyError(Exception):
    """A body that cannot be read; `status` is the HTTP status of the answer."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


def inflate(encoding: str, body: bytes, max_bytes: int) -> bytes:
    """Return a body without its content encoding.

    Raises BodyError: 415 for an encoding that is not supported, 413 for a content of more than
    `max_bytes`, 400 for damaged data.
    """
    match encoding.strip().lower():
        case "" | "identity":
            content = body if len(body) <= max_bytes else None
        case "gzip" | "x-gzip":
            content = _inflate_gzip(body, max_bytes)
        case "zstd":
            content = _inflate_zstd(body, max_bytes)
        case _:
            raise BodyError(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                "Content-Encoding: not supported; send gzip, zstd or identity",
            )
    if content is None:
        raise BodyError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"the content is larger than {max_bytes} bytes (intake.max_decoded_bytes); send "
            "smaller batches",
        )
    return content


def _inflate_gzip(body: bytes, max_bytes: int) -> bytes | None:
    """Return the content; None if it is larger than `max_bytes`."""
    parts: list[bytes] = []
    left = max_bytes + 1  # one byte more shows that there is too much
    while body:
        member = zlib.decompressobj(wbits=31)
        try:
            parts.append(member.decompress(body, left))
        except zlib.error as error:
            raise BodyError(HTTPStatus.BAD_REQUEST, f"gzip: {error}") from error
        left -= len(parts[-1])
        if left == 0:
            return None
        if not member.eof:
            raise BodyError(HTTPStatus.BAD_REQUEST, "gzip: the data ends too early")
        # A member without content would cost a copy of the rest.
        if member.unused_data and not parts[-1]:
            raise BodyError(HTTPStatus.BAD_REQUEST, "gzip: an empty member before the end")
        body = member.unused_data
    return b"".join(parts)


def _inflate_zstd(body: bytes, max_bytes: int) -> bytes | None:
    """Return the content; None if it is larger than `max_bytes`."""
    if not body:
        return b""
    # Pages of the buffer that are never written take no memory.
    buffer = np.empty(max_bytes + 1, np.uint8).data
    try:
        size = cramjam.zstd.decompress_into(body, buffer)
    except cramjam.DecompressionError as error:
        if "whole buffer" in str(error):  # the content is larger than the buffer
            return None
        raise BodyError(HTTPStatus.BAD_REQUEST, f"zstd: {error}") from error
    return bytes(buffer[:size]) if size <= max_bytes else None


def split_records(content_type: str, body: bytes, max_records: int) -> list[bytes]:
    """Return the JSON texts of a body's records: of an object, an array, or lines.

    A line need not be JSON: it is judged as a record. Raises BodyError: 415 for a type that is
    not JSON, 413 for more than `max_records`, 400 for a body that is neither.
    """
    if content_type not in JSON_TYPES:
        raise BodyError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"Content-Type: not supported; send one of {', '.join(JSON_TYPES)}",
        )
    if content_type in _LINES:
        return _split_lines(body, max_records)
    body = body.removeprefix(BOM_UTF8)
    start = body.lstrip()[:1]
    try:
        if start == b"[":
            return _split_array(body, max_records)
        if start == b"{":
            decode_lenient(_OBJECT, body)
            return [body]
    except UNREADABLE as error:
        # Some senders label lines as application/json.
        if start == b"{" and b"\n" in body.strip():
            return _split_lines(body, max_records)
        raise BodyError(HTTPStatus.BAD_REQUEST, f"the body is not JSON: {error}") from error
    raise BodyError(
        HTTPStatus.BAD_REQUEST,
        "the body is neither a JSON object nor an array of objects; send one of them",
    )


def _split_array(body: bytes, max_records: int) -> list[bytes]:
    # Before anything is decoded, as a small body can hold millions of empty objects.
    if body.count(b"{") > max_records * _OBJECTS_PER_RECORD:
        raise _too_many(max_records)
    try:
        return _decode_array(body, max_records)
    except RecursionError:
        return _cut_array(body, max_records)


def _decode_array(body: bytes, max_records: int) -> list[bytes]:
    try:
        # Fails at the first element that is no object, so that numbers cannot fill the memory.
        count = len(decode_lenient(_OBJECTS, body))
    except msgspec.ValidationError:
        # Each of the others is judged: a sender does not repeat a batch that was refused.
        if body.count(b",") > _MOST_COMMAS:
            raise _too_many(max_records) from None
        count = 0
    if count > max_records:
        raise _too_many(max_records)
    records = [bytes(record) for record in decode_lenient(_LIST, body)]
    if len(records) > max_records:
        raise _too_many(max_records)
    return records


def _cut_array(body: bytes, max_records: int) -> list[bytes]:
    """Return the elements of an array without reading them: one is nested too deep for that.

    Each is judged as a record. Raises BodyError.
    """
    records: list[bytes] = []
    depth = start = 0
    for mark in _MARK.finditer(body):
        match mark[0]:
            case b"[" | b"{":
                depth += 1
                start = start or mark.end()
            case b"]" | b"}":
                depth -= 1
            case b",":
                if depth == 1:
                    records.append(body[start : mark.start()].strip())
                    start = mark.end()
        if depth == 0:
            records.append(body[start : mark.start()].strip())
            break
        if len(records) >= max_records:
            raise _too_many(max_records)
    if depth or body[mark.end() :].strip():
        raise BodyError(HTTPStatus.BAD_REQUEST, "the body is not JSON: its brackets do not match")
    return records


def _split_lines(body: bytes, max_records: int) -> list[bytes]:
    if body.count(b"\n") > max_records:
        raise _too_many(max_records)
    return [line for line in body.split(b"\n") if line.strip()]


def _too_many(max_records: int) -> BodyError:
    return BodyError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"more than {max_records} records (intake.max_records); send smaller batches",
    )


def unwrap_cloud_event(record: bytes) -> bytes:
    """Return the data of a structured CloudEvent; the record itself if it is none.

    The data may be JSON text, or in base64. The envelope's `id` and `time` fill in for `request_id`
    and `ended_at`, if the data has none.
    """
    try:
        envelope = decode_lenient(_MEMBERS, record)
        if "specversion" not in envelope:
            return record
        members: dict[str, Any] = dict(_MEMBERS.decode(_data_of(envelope)))
    except UNREADABLE:
        return record
    for name, attribute in (("request_id", "id"), ("ended_at", "time")):
        if name not in members and attribute in envelope:
            members[name] = envelope[attribute]
    return msgspec.json.encode(members)


def _data_of(envelope: Mapping[str, msgspec.Raw]) -> bytes | str:
    """Return the JSON of a CloudEvent's data. Raises one of UNREADABLE if it has none."""
    if "data_base64" in envelope:
        return msgspec.json.decode(envelope["data_base64"], type=bytes)
    data = bytes(envelope.get("data", msgspec.Raw(b"null")))
    return msgspec.json.decode(data, type=str) if data.startswith(b'"') else data
