"""Rejected records: what the dead-letter topic says about them, and what to do.

The worker sends a rejected record to the dead-letter topic byte for byte, with headers that say
where it was and which rule it broke. A record may be there twice, if a worker ended before its
checkpoint.
"""

from dataclasses import dataclass
from typing import Any

import msgspec

from streams.config.settings import Kafka
from streams.events.fields import FIELDS
from streams.events.schema import REASON_HELP
from streams.kafka.topic_reader import TopicReader
from streams.query.instants import rfc3339_ms

HEADER = "tokenpulse."
EXCERPT = 200  # characters of a value
_FIRST_SPAN = 512  # records of each partition that are read first, counted from its end

_FIELD_NAMES = frozenset(field.name for field in FIELDS)
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])


@dataclass(frozen=True, slots=True)
class RejectedRecord:
    """One rejected record. Topic, partition and offset are those of the event.

    `timestamp_ms`: Kafka's, of the event. `rejected_at_ms`: when it was sent to the dead-letter
    topic. `detail`: the rule and what was found, never the value.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    rejected_at_ms: int
    reason: str
    detail: str
    key: bytes | None
    value: bytes | None

    @property
    def field(self) -> str | None:
        """The field that broke the rule; None if it was the record as a whole."""
        name = self.detail.partition(":")[0]
        return name if name in _FIELD_NAMES else None

    @property
    def fix(self) -> str:
        """What the sender can do about it."""
        return REASON_HELP[self.reason][1] if self.reason in REASON_HELP else "see docs/events.md"

    def found(self) -> bytes | None:
        """Return the field's value as JSON, or the whole record; None if it is absent."""
        if self.value is None or self.field is None:
            return self.value
        try:
            raw = _MEMBERS.decode(self.value).get(self.field)
        except (msgspec.DecodeError, RecursionError):
            return self.value
        return None if raw is None else bytes(raw)

    def as_json(self, show_values: bool) -> dict[str, Any]:
        """Return the record for `--format json`; its key and value only with `show_values`."""
        found = self.found()
        document = {
            "kind": "record",
            "topic": self.topic,
            "partition": self.partition,
            "offset": self.offset,
            "timestamp": rfc3339_ms(self.timestamp_ms),
            "rejected_at": rfc3339_ms(self.rejected_at_ms),
            "reason": self.reason,
            "field": self.field,
            "detail": self.detail,
            "found": describe(found),
            "fix": self.fix,
        }
        if show_values:
            document["key"] = None if self.key is None else excerpt(self.key)
            document["value"] = None if found is None else excerpt(found)
        return document


def describe(found: bytes | None) -> str:
    """Return the type and size of a JSON value, but not the value."""
    if found is None:
        return "no value"
    try:
        value = msgspec.json.decode(found)
    except (msgspec.DecodeError, RecursionError):
        return f"{len(found)} bytes that are not JSON"
    if isinstance(value, str):
        return f"a text of {len(value)} characters"
    if isinstance(value, list | dict):
        kind = "a list" if isinstance(value, list) else "an object"
        return f"{kind} of {len(found)} bytes"
    if isinstance(value, bool) or value is None:
        return "null" if value is None else "a boolean"
    return f"{'an integer' if isinstance(value, int) else 'a number'} of {len(found)} characters"


def excerpt(value: bytes) -> str:
    """Return bytes as text of one line, at most EXCERPT characters."""
    text = " ".join(value.decode(errors="backslashreplace").split())
    return text if len(text) <= EXCERPT else f"{text[: EXCERPT - 3]}..."


async def read_rejected(kafka: Kafka, reason: str | None, last: int) -> list[RejectedRecord]:
    """Return the last rejected records, oldest first; only those of one `reason` if given.

    Raises Unavailable.
    """
    async with TopicReader(kafka, kafka.dlq_topic) as reader:
        span = max(_FIRST_SPAN, last)
        while True:
            starts = {
                partition: max(begin, reader.ends[partition] - span)
                for partition, begin in reader.begins.items()
            }
            records = await _read_from(reader, starts, reason, last)
            if len(records) >= last or starts == reader.begins:
                return records[-last:]
            # Other reasons, or second copies, fill the end of the topic.
            span *= 8


async def _read_from(
    reader: TopicReader, starts: dict[int, int], reason: str | None, last: int
) -> list[RejectedRecord]:
    by_partition: dict[int, dict[tuple[str, int, int], RejectedRecord]] = {}
    async for partition, batch in reader.read(starts):
        newest = by_partition.setdefault(partition.partition, {})
        for letter in batch:
            record = _parse(letter)
            if record is None or reason not in (None, record.reason):
                continue
            origin = record.topic, record.partition, record.offset
            newest.pop(origin, None)
            newest[origin] = record
            if len(newest) > last:
                del newest[next(iter(newest))]
    merged = {key: record for newest in by_partition.values() for key, record in newest.items()}
    return sorted(
        merged.values(), key=lambda record: (record.rejected_at_ms, record.partition, record.offset)
    )


def _parse(letter: Any) -> RejectedRecord | None:
    """Return a dead letter's record; None if the letter is not from a worker."""
    headers = {name: text.decode(errors="replace") for name, text in letter.headers}
    try:
        return RejectedRecord(
            topic=headers[f"{HEADER}topic"],
            partition=int(headers[f"{HEADER}partition"]),
            offset=int(headers[f"{HEADER}offset"]),
            timestamp_ms=max(0, int(headers[f"{HEADER}timestamp_ms"])),
            rejected_at_ms=max(0, letter.timestamp),
            reason=headers[f"{HEADER}reason"],
            detail=headers[f"{HEADER}detail"],
            key=letter.key,
            value=None if f"{HEADER}null_value" in headers else letter.value,
        )
    except (KeyError, ValueError):
        return None
