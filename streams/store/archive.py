"""The archive of a partition's state: the records that hold it, and how they are read back.

Pure: no clock, no Kafka. A compacted topic keeps the last record of every key, so a key is never
used for two contents: it is written once, and one day deleted by a record without a value.

    key                                                    value
    group|topic|7|s:600:1700000400|12-9f3c01ab|0           a copy of a slice, or its first part
    group|topic|7|meta|57-9f3c01ab|0                       a copy of the meta
    group|topic|7|manifest|58-9f3c01ab|0                   which copies are the state, as of when

The manifest is written when its copies are in Kafka, and what it no longer names is deleted when it
is in Kafka itself. So a reader of any first part of the log finds the newest manifest that is
complete in it. A writer that died half way does no harm, nor does a writer that continues although
its partition was taken. A new owner begins with copies of its own and never names those of the
owner before it, which may still delete them.
"""

import zlib
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from streams.checksums import DamagedError
from streams.state.registry import CHUNK
from streams.state.snapshot import (
    SLICE_PREFIX,
    check_fields,
    check_slice,
    decode_index,
    decode_meta,
    registry_fields,
    slice_field,
)
from streams.store.contract import StoreError

SCHEMA = 1
# Fields that every checkpoint writes, and the offset, which is no field of the archived state.
HEAD = ("offset", "meta", "index", "totals")
PART_BYTES = 900_000  # of a value in one record: its batch must stay below the topic's 1 MiB
LOOK_BYTES = 4_000_000  # of values held at a time, roughly
LOOK_FIELDS = 400  # a store reads so many at one moment
_MANIFEST = "manifest"

Record = tuple[bytes, bytes | None]  # key, value; no value deletes the key

# Reads fields of a partition's state, all at the same moment, `offset` (decimal) among them; fields
# that do not exist are left out. Raises Lost if the worker no longer owns the partition.
Look = Callable[[Sequence[str]], Awaitable[Mapping[str, bytes]]]
# Writes records, in any order among themselves; done when Kafka has them.
Send = Callable[[Sequence[Record]], Awaitable[None]]


class ArchiveError(StoreError):
    """The archive could not be read or written: one line with what to do."""


class Copy(msgspec.Struct, array_like=True, frozen=True):
    """One copy of a field in the archive."""

    version: str
    parts: int
    length: int  # bytes
    crc: int  # CRC-32


class Manifest(msgspec.Struct, array_like=True, frozen=True):
    """Which copies are the whole state of a partition."""

    schema: int
    offset: int  # of the first record that the state does not include
    at_ms: int  # by the writer's clock, for people
    fields: dict[str, Copy]


class _Schema(msgspec.Struct, array_like=True):
    schema: int


@dataclass(frozen=True, slots=True)
class Archived:
    """A state as it was archived: every field that the store held at `offset`."""

    offset: int
    at_ms: int
    fields: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class ArchivePlace:
    """Where a partition's records are: what all of their keys begin with."""

    group: str
    topic: str
    partition: int

    @property
    def prefix(self) -> str:
        """The common start of the keys."""
        return f"{self.group}|{self.topic}|{self.partition}|"

    def owns(self, key: bytes | None) -> bool:
        """Return whether a key belongs to one of our records."""
        prefix = self.prefix.encode()
        return key is not None and key.startswith(prefix) and key.count(b"|", len(prefix)) == 2

    def keys(self, name: str, copy: Copy) -> list[bytes]:
        """The keys under which a copy lies."""
        return [f"{self.prefix}{name}|{copy.version}|{n}".encode() for n in range(copy.parts)]


def markers(head: Mapping[str, bytes]) -> dict[str, int]:
    """Every field of a state beside HEAD, and a number that changes when the field does."""
    meta = decode_meta(head["meta"])
    found = {slice_field(of): sequence for of, sequence in decode_index(head["index"]).items()}
    for name in registry_fields(meta):  # names are only ever added
        kind, _, chunk = name.partition(":")
        names = meta.series if kind == "series" else meta.customers
        found[name] = min(CHUNK, names - int(chunk) * CHUNK)
    return found


@dataclass(slots=True)
class Ledger:
    """The archive as one owner of a partition has written it. It is not used again after a failure.

    Markers count checkpoints, and a store that lost its latest writes sees the same numbers again
    with other contents, but never from the same owner. So a ledger ends with the ownership.
    """

    place: ArchivePlace
    owner: str
    run: str  # distinguishes the versions of this owner from those of any other owner
    keys: set[bytes]  # all that may lie in the archive, named by a manifest or not
    _copies: dict[str, tuple[int, Copy]] = field(default_factory=dict)  # field -> marker, copy
    _versions: int = 0

    def stale(self, wanted: Mapping[str, int]) -> list[str]:
        """Return the fields of which no copy exists at their marker."""
        return [name for name, marker in wanted.items() if not self._holds(name, marker)]

    def _holds(self, name: str, marker: int) -> bool:
        held = self._copies.get(name)
        return held is not None and held[0] == marker

    def hold(self, name: str, marker: int, copy: Copy) -> None:
        """Note that a copy is in Kafka."""
        self._copies[name] = (marker, copy)

    def draft(self, name: str, data: bytes) -> tuple[Copy, list[Record]]:
        """Return a new copy of a field, and the records that will hold it."""
        self._versions += 1
        copy = Copy(
            version=f"{self._versions}-{self.run}",
            # An empty field needs a part too.
            parts=max(1, -(-len(data) // PART_BYTES)),
            length=len(data),
            crc=zlib.crc32(data),
        )
        keys = self.place.keys(name, copy)
        self.keys.update(keys)
        return copy, [
            (key, data[at * PART_BYTES : (at + 1) * PART_BYTES]) for at, key in enumerate(keys)
        ]

    def manifest(
        self, offset: int, at_ms: int, wanted: Iterable[str], head: Mapping[str, Copy]
    ) -> tuple[Record, set[bytes]]:
        """Return the record that makes the copies of `wanted` and `head` the archived state.

        Also return the keys that can be deleted when it is in Kafka.
        """
        fields = {name: self._copies[name][1] for name in wanted} | dict(head)
        copy, [record] = self.draft(
            _MANIFEST, msgspec.msgpack.encode(Manifest(SCHEMA, offset, at_ms, fields))
        )
        named = {key for name, held in fields.items() for key in self.place.keys(name, held)}
        return record, self.keys - named - set(self.place.keys(_MANIFEST, copy))

    def settle(self, deleted: set[bytes], wanted: Iterable[str]) -> None:
        """Forget keys that are deleted in Kafka, and fields that are not `wanted` in the state."""
        self.keys -= deleted
        self._copies = {name: self._copies[name] for name in wanted}


async def write(ledger: Ledger, look: Look, send: Send, at_ms: int) -> int | None:
    """Archive the state that `look` reads; return the offset it includes, None without a state.

    Checkpoints may be written meanwhile: each look shows values together with the markers of all
    fields, and the state is there when a look leaves no marker without a copy. A slice that changes
    with every checkpoint does not put that off, as the look that asks for it shows its newest.

    Raises DamagedError for a damaged field: the archive before is kept.
    """
    head = await look(HEAD)
    # A claimed partition has no meta before its first checkpoint.
    if "meta" not in head:
        return None
    wanted = markers(head)
    largest = LOOK_BYTES // 16  # bytes; a guess until values are seen

    async def send_copies(names: Iterable[str]) -> dict[str, Copy]:
        drafts = {name: ledger.draft(name, head[name]) for name in names}
        await send([record for _, records in drafts.values() for record in records])
        return {name: copy for name, (copy, _) in drafts.items()}

    while stale := ledger.stale(wanted):
        names = stale[: min(LOOK_FIELDS, LOOK_BYTES // largest + 1)]
        head = await look([*HEAD, *names])
        wanted = markers(head)
        names = [name for name in names if name in wanted]
        # Only a damaged state lacks a field that its own index names: do not archive it.
        if gone := [name for name in names if name not in head]:
            raise DamagedError(gone[0], "is missing")
        check_fields(decode_meta(head["meta"]), head["offset"], head)
        for name in names:
            if name.startswith(SLICE_PREFIX):
                check_slice(name, head[name])
        largest = max([largest, *(len(head[name]) for name in names)])
        for name, copy in (await send_copies(names)).items():
            ledger.hold(name, wanted[name], copy)
    record, superseded = ledger.manifest(
        int(head["offset"]), at_ms, wanted, await send_copies(HEAD[1:])
    )
    # Deletes follow in a later send: a reader must never find the old copies gone and no manifest.
    await send([record])
    await send([(key, None) for key in superseded])
    ledger.settle(superseded, wanted)
    return int(head["offset"])


def keep(live: dict[bytes, bytes], key: bytes, value: bytes | None) -> None:
    """Apply one more record to `live`: the keys with a value, in the order of their last record."""
    live.pop(key, None)
    if value is not None:
        live[key] = value


def restored(place: ArchivePlace, live: Mapping[bytes, bytes]) -> tuple[Archived | None, list[str]]:
    """Return the newest complete archive, and one line about each newer, incomplete archive.

    `live`: our records, as `keep` collects them. Raises ValueError if the newest archive was
    written by a newer program.
    """
    faults: list[str] = []
    for key, value in _manifests(place, live):
        try:
            if (found := msgspec.msgpack.decode(value, type=_Schema).schema) > SCHEMA:
                raise ValueError(
                    f"archive has schema {found}, this program knows {SCHEMA}: upgrade the program"
                )
            manifest = msgspec.msgpack.decode(value, type=Manifest)
            fields = {
                name: _join_copy(place, name, copy, live) for name, copy in manifest.fields.items()
            }
            return Archived(manifest.offset, manifest.at_ms, fields), faults
        except (msgspec.DecodeError, LookupError) as error:
            faults.append(f"{key.decode(errors='replace')}: {error.args[0]}")
    return None, faults


def _manifests(place: ArchivePlace, live: Mapping[bytes, bytes]) -> Iterator[tuple[bytes, bytes]]:
    begin = f"{place.prefix}{_MANIFEST}|".encode()
    return ((key, live[key]) for key in reversed(list(live)) if key.startswith(begin))


def _join_copy(place: ArchivePlace, name: str, copy: Copy, live: Mapping[bytes, bytes]) -> bytes:
    """Return the bytes of a copy. Raises LookupError if some are missing."""
    parts = [live[key] for key in place.keys(name, copy) if key in live]
    data = parts[0] if len(parts) == 1 else b"".join(parts)
    if (len(parts), len(data), zlib.crc32(data)) != (copy.parts, copy.length, copy.crc):
        raise LookupError(f"the copy {copy.version} of {name} is not whole")
    return data
