"""Records of one source become events of the contract, whatever their format.

A converter never fails for a record: parts that cannot be converted are rejected or skipped.
Its messages and dead letters name fields and rules, and never hold a value of the payload, as that
may be a prompt.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, ParamSpec, Protocol, TypeVar

import msgspec

from streams.events.fields import FIELDS
from streams.events.parser import UNREADABLE, decode_lenient
from streams.sources.events import EVENTS
from streams.sources.reading import load_mapping
from streams.sources.sql_engine import LockedDatabase
from streams.sources.sql_mapping import Record, Source

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

NOT_MAPPED = "not_mapped"
# From this size on, records are read in a thread, so that the loop answers requests meanwhile.
LARGE_BYTES = 262_144
_FIELD_NAMES = frozenset(field.name for field in FIELDS)
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_MAPPING_HELP = "check the record against the page of its source (docs/mappings.md)"
# A member of each of LiteLLM's payloads, and of no event.
_LITELLM_MARK, LITELLM = b'"litellm_call_id"', "litellm"


class PartPlace(NamedTuple):
    """Where an event comes from: the record, from 0, and the part of it, such as a span."""

    record: int
    part: int = 0


class RejectedPart(NamedTuple):
    """A part of a record that cannot be counted, and the rule that it broke.

    `value`: the part of it that may be shown; None if there is no such part.
    """

    place: PartPlace
    reason: str
    detail: str
    fix: str
    value: bytes | None


@dataclass(slots=True)
class Converted:
    """The events of some records, with the place of each, and the parts without an event.

    `skipped`: parts that are no request, by (reason, scope). `notes`: events that count less surely
    than usual, by (reason, scope). `spans`: how many the records had.
    """

    events: list[bytes]
    places: list[PartPlace]
    rejected: list[RejectedPart] = field(default_factory=list)
    skipped: Counter[tuple[str, str]] = field(default_factory=Counter)
    notes: Counter[tuple[str, str]] = field(default_factory=Counter)
    spans: int = 0

    def place_in(self, batch: Sequence[int]) -> None:
        """Count records in a larger batch: `batch` has the place of each of them in it."""
        self.places = [place._replace(record=batch[place.record]) for place in self.places]
        self.rejected = [
            part._replace(place=part.place._replace(record=batch[part.place.record]))
            for part in self.rejected
        ]

    def add(self, other: "Converted") -> None:
        """Add the parts of other records of the same batch."""
        self.events += other.events
        self.places += other.places
        self.rejected += other.rejected
        self.skipped += other.skipped
        self.notes += other.notes
        self.spans += other.spans


async def off_loop(
    size: int,
    function: Callable[Parameters, Result],
    *arguments: Parameters.args,
    **options: Parameters.kwargs,
) -> Result:
    """Return the result of a function that reads `size` bytes; if they are many, of a thread."""
    if size < LARGE_BYTES:
        return function(*arguments, **options)
    return await asyncio.to_thread(function, *arguments, **options)


def size_of(records: Sequence[Record]) -> int:
    """Return the size of the records' values."""
    return sum(len(record.value) for record in records)


class Converter(Protocol):
    """Turns records into events."""

    async def convert(self, records: Sequence[Record], origin: str) -> Converted:
        """Return the events of the records.

        `origin` and the line of a record make the id of an event that has none of its own: the same
        record always comes with the same ones.
        """
        ...


class EventConverter:
    """Takes records that are events already."""

    async def convert(self, records: Sequence[Record], origin: str) -> Converted:
        """Return the records, without members that are no fields of an event."""
        values = await off_loop(size_of(records), _known_members, records)
        return Converted(values, [PartPlace(index) for index in range(len(values))])


def _known_members(records: Sequence[Record]) -> list[bytes]:
    return [_without_others(record.content) for record in records]


def _without_others(record: bytes) -> bytes:
    """Return an event without members of other names, which may hold prompts."""
    try:
        members = decode_lenient(_MEMBERS, record)
    except UNREADABLE:  # judged as it is
        return record
    if members.keys() <= _FIELD_NAMES:
        return record
    fields = {name: value for name, value in members.items() if name in _FIELD_NAMES}
    return msgspec.json.encode(fields)


class MappingConverter:
    """Maps records with a mapping in SQL."""

    def __init__(self, name_or_path: str) -> None:
        """Load the mapping. Raises ConfigError."""
        # Sources are read at the same time: one that needs much memory must not fail the others.
        self._mapping = load_mapping(name_or_path, LockedDatabase())
        self._name = name_or_path
        self._lock = asyncio.Lock()  # a mapping is not for two threads at once

    async def convert(self, records: Sequence[Record], origin: str) -> Converted:
        """Return the events that the mapping returns for the records."""
        async with self._lock:
            # DuckDB works outside of the interpreter's lock: the loop answers requests meanwhile.
            return await asyncio.to_thread(self._convert, records, origin)

    def _convert(self, records: Sequence[Record], origin: str) -> Converted:
        batch = self._mapping.map(records, Source(origin))
        index_of = {record.line: index for index, record in enumerate(records)}
        rejected = [
            RejectedPart(
                PartPlace(index_of[failure.line]),
                NOT_MAPPED,
                _without_values(failure.problem),
                _MAPPING_HELP,
                None,
            )
            for failure in batch.failures
        ]
        notes: Counter[tuple[str, str]] = Counter()
        left_out = sum(len(row.problems) for row in batch.rows)
        if left_out:
            notes["field_left_out", self._name] = left_out
        skipped: Counter[tuple[str, str]] = Counter()
        if batch.skipped:
            skipped["no_row", self._name] = batch.skipped
        places: list[PartPlace] = []
        parts: Counter[int] = Counter()
        # A mapping may return several rows for one record.
        for row in batch.rows:
            index = index_of[row.line]
            places.append(PartPlace(index, parts[index]))
            parts[index] += 1
        return Converted([row.encode() for row in batch.rows], places, rejected, skipped, notes)


def converter_of(source: str) -> Converter:
    """Return the converter of a format: `events`, a shipped mapping or the path of one.

    Raises ConfigError if there is no such mapping.
    """
    return EventConverter() if source == EVENTS else MappingConverter(source)


def recognise(record: bytes) -> str:
    """Return the format of a record whose sender names none."""
    return LITELLM if _LITELLM_MARK in record and not _is_event(record) else EVENTS


def _is_event(record: bytes) -> bool:
    try:
        return "ended_at" in msgspec.json.decode(record, type=dict[str, msgspec.Raw])
    except UNREADABLE:
        # A record that is no JSON is judged as an event, whose rejection names the fault.
        return True


def _without_values(problem: str) -> str:
    """Return a message up to its first quotation, which may be a value of the payload."""
    for mark in ("'", '"', "found ", "got "):
        problem = problem.partition(mark)[0]
    return problem.strip(" :;,") or "cannot be mapped"
