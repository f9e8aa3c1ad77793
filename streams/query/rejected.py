"""Rejected records and fields: where they are, the rule they broke, and the fix.

The worker sends a rejected record to the dead-letter topic byte for byte, with headers that say
where it was and which rule it broke. A record may be there twice, if a worker ended before its
checkpoint. A record that was counted, but without a field that was wrong, is read from the event
topic; the workers' heartbeats contain the places of a few.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec
import redis.asyncio as aioredis

from streams.config.settings import Kafka
from streams.events.fields import FIELDS, REASONS
from streams.events.page import FIELD_COSTS
from streams.events.parser import UNREADABLE
from streams.kafka.dead_letters import RECORDS_PER_REQUEST, DeadLetterHeaders
from streams.kafka.topic_reader import TopicReader
from streams.query.instants import rfc3339_ms
from streams.query.rejected_help import field_help, record_fix
from streams.store.heartbeat import Heartbeat
from streams.store.reader import StateReader
from streams.worker.field_samples import FieldSample, parse_samples

EXCERPT = 200  # characters of a value
COSTLY_REASONS = ("bad_type", "out_of_range", "inconsistent")
_FIRST_SPAN = 512  # records of each partition that are read first, counted from its end

_FIELDS = {field.name for field in FIELDS}
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])


@dataclass(frozen=True, slots=True)
class RejectedRecord:
    """A rejected record, or one that was counted without a field.

    Topic, partition and offset are those of the event; one that came over HTTP has `index`, and no
    offset. `timestamp_ms`: Kafka's, of the event.
    `rejected_at_ms`: when it was sent to the dead-letter topic; None for a counted record. `field`:
    the one that broke the rule; None if it was the record as a whole. `detail`: the rule, never the
    value. `cost`: what a counted record does not count for, None if the field was only marked.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    rejected_at_ms: int | None
    reason: str
    field: str | None
    detail: str
    fix: str
    cost: str | None
    key: bytes | None
    value: bytes | None

    @property
    def index(self) -> int | None:
        """The place of the record in its request over HTTP, from 0; None if it is of a topic.

        Such a record has no offset: the stored one only tells the records of an intake apart.
        """
        return self.offset % RECORDS_PER_REQUEST if self.topic.startswith("/") else None

    def field_value(self) -> bytes | None:
        """Return the field's value as JSON, or the whole record; None if it is absent."""
        if self.value is None or self.field is None:
            return self.value
        try:
            raw = _MEMBERS.decode(self.value).get(self.field)
        except UNREADABLE:
            # It may have been rejected because it is not JSON: show all of it.
            return self.value
        return None if raw is None else bytes(raw)

    def as_json(self, show_values: bool) -> dict[str, Any]:
        """Return the record for `--format json`; its key and value only with `show_values`."""
        value, rejected_at_ms = self.field_value(), self.rejected_at_ms
        document = {
            "kind": "field" if rejected_at_ms is None else "record",
            "topic": self.topic,
            "partition": self.partition,
            "offset": self.offset,
            "index": self.index,
            "timestamp": rfc3339_ms(self.timestamp_ms),
            "rejected_at": None if rejected_at_ms is None else rfc3339_ms(rejected_at_ms),
            "reason": self.reason,
            "field": self.field,
            "detail": self.detail,
            "found": describe(value),
            "cost": self.cost,
            "fix": self.fix,
        }
        if show_values:
            document["key"] = None if self.key is None else excerpt(self.key)
            document["value"] = None if value is None else excerpt(value)
        return document


def describe(value: bytes | None) -> str:
    """Return the type and size of a JSON value, but not the value."""
    if value is None:
        return "no value"
    try:
        content = msgspec.json.decode(value)
    except UNREADABLE:
        return f"{len(value)} bytes that are not JSON in UTF-8"
    if isinstance(content, str):
        return f"a text of {len(content)} characters"
    if isinstance(content, list | dict):
        kind = "a list" if isinstance(content, list) else "an object"
        return f"{kind} of {len(value)} bytes"
    if isinstance(content, bool) or content is None:
        return "null" if content is None else "a boolean"
    kind = "an integer" if isinstance(content, int) else "a number"
    return f"{kind} of {len(value)} characters"


def excerpt(value: bytes) -> str:
    """Return bytes as text of one line, at most EXCERPT characters.

    What a terminal would obey, such as colours and titles, is escaped.
    """
    words = " ".join(value.decode(errors="backslashreplace").split())
    text = "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in words[: EXCERPT + 1]
    )
    return text if len(text) <= EXCERPT else f"{text[: EXCERPT - 3]}..."


async def read_rejected(
    kafka: Kafka, client: "aioredis.Redis", reason: str | None, last: int
) -> list[RejectedRecord]:
    """Return the last rejected records and sampled fields, oldest event first.

    Only those of one `reason` if given. Raises Unavailable or StoreError.
    """
    snapshot = await StateReader(client, kafka.group, kafka.topic).snapshot()
    fields = await _read_fields(kafka, snapshot.heartbeats, reason, last)
    records = await _read_dead_letters(kafka, reason, last) if _is_of_record(reason) else []
    # Both lists may have `last` entries; the newest of both together are shown.
    return sorted([*fields, *records], key=_place_in_log)[-last:]


def _place_in_log(record: RejectedRecord) -> tuple[int, int, int]:
    return record.timestamp_ms, record.partition, record.offset


def _is_of_record(reason: str | None) -> bool:
    return reason is None or reason in REASONS


async def _read_fields(
    kafka: Kafka, heartbeats: Iterable[Heartbeat], reason: str | None, last: int
) -> list[RejectedRecord]:
    """Return the last sampled records that were counted without a field."""
    samples = [
        (heartbeat.partition, sample)
        for heartbeat in heartbeats
        for sample in parse_samples(heartbeat.text("field_samples"))
        if reason in (None, sample.reason) and sample.field in _FIELDS
    ]
    if not samples:
        return []
    # Heartbeats are in the order of partitions.
    samples.sort(key=lambda place: (place[1].timestamp_ms, place[0], place[1].offset))
    # Only the places are in the heartbeats: the records are read from the log.
    async with TopicReader(kafka, kafka.topic) as reader:
        return [
            await _read_field(reader, partition, sample) for partition, sample in samples[-last:]
        ]


async def _read_field(reader: TopicReader, partition: int, sample: FieldSample) -> RejectedRecord:
    record = await reader.fetch(partition, sample.offset)
    meaning, fix = field_help(sample.field, sample.reason)
    return RejectedRecord(
        topic=reader.topic,
        partition=partition,
        offset=sample.offset,
        # Kafka writes -1 for a record without a timestamp.
        timestamp_ms=max(0, sample.timestamp_ms),
        rejected_at_ms=None,
        reason=sample.reason,
        field=sample.field,
        detail=f"{sample.field}: {meaning}",
        fix=fix,
        # The other reasons only mark a field: its value counts, or one that was made from it.
        cost=FIELD_COSTS.get(sample.field) if sample.reason in COSTLY_REASONS else None,
        key=None if record is None else record.key,
        value=None if record is None else record.value,
    )


async def _read_dead_letters(kafka: Kafka, reason: str | None, last: int) -> list[RejectedRecord]:
    """Return the last records of the dead-letter topic."""
    async with TopicReader(kafka, kafka.dlq_topic) as reader:
        span = max(_FIRST_SPAN, last)
        while True:
            starts = {
                partition: max(begin, reader.ends[partition] - span)
                for partition, begin in reader.begins.items()
            }
            records = await _read_from(reader, starts, reason, last)
            if len(records) >= last or starts == reader.begins:
                return records
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
            # A second copy of a dead letter replaces the first, so that it counts once.
            newest.pop(origin, None)
            newest[origin] = record
            # Values may be large: no more than can be shown are kept in memory.
            if len(newest) > last:
                del newest[next(iter(newest))]
    merged = {key: record for newest in by_partition.values() for key, record in newest.items()}
    return list(merged.values())


def _parse(letter: Any) -> RejectedRecord | None:
    """Return a dead letter's record; None if the letter is not from a worker."""
    try:
        headers = DeadLetterHeaders.parse(letter.headers)
    except (KeyError, ValueError):
        return None
    # A detail begins with the name of its field, if it is about one.
    name = headers.detail.partition(":")[0]
    field = name if name in _FIELDS else None
    return RejectedRecord(
        topic=headers.topic,
        partition=headers.partition,
        offset=headers.offset,
        timestamp_ms=max(0, headers.timestamp_ms),
        rejected_at_ms=max(0, letter.timestamp),
        reason=headers.reason,
        field=field,
        detail=headers.detail,
        fix=record_fix(field, headers.reason),
        cost=None,
        key=letter.key,
        value=letter.value if headers.has_value else None,
    )
