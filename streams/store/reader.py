"""Reads the state of all partitions back from Redis, for the exporter and the report.

    snapshot = await reader.snapshot()        # offset, metadata, index, totals of every partition
    await snapshot.load([windows, engine])    # slices, each handed to the consumers that miss it

Each partition is read as it was at one checkpoint. If a worker writes another checkpoint before all
slices are read, the view of its partition is read again, and the consumers then miss only the
slices that the checkpoint changed. Slices are not kept here: a consumer keeps the figures it
derives from them, with `PartitionView.version`. Series and customers get numbers that are the same
in all partitions and in all snapshots of one reader.

A damaged slice is read as one without counts, and its time becomes a gap of its partition. A
partition whose other fields are damaged is read as one without slices, of which no time is whole.
`PartitionView.damage` names the fields.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Protocol, TypeVar, cast

import msgspec
import redis.asyncio as aioredis
from redis.exceptions import RedisError

from streams.checksums import DamagedError
from streams.state.registry import CustomerKey, SeriesKey
from streams.state.slices import LEVELS, Aggregate, SliceId, Thresholds
from streams.state.snapshot import (
    SCHEMA,
    Gap,
    Meta,
    check_fields,
    decode_index,
    decode_meta,
    decode_names,
    decode_slice,
    decode_totals,
    registry_fields,
    slice_field,
)
from streams.store.contract import StoreError
from streams.store.heartbeat import Heartbeat
from streams.store.keys import Keys
from streams.store.numbering import Names, Numbering
from streams.store.redis import CustomerTokenTable
from streams.store.servers.reasons import redis_reason
from streams.store.stored import present

# A day of 100 series is some megabytes a partition until a consumer has added it up.
SLICES_PER_ROUND = 16
ROUNDS = 1_000
VIEW_ROUNDS = 20

T = TypeVar("T")
Version = tuple[int, int]


@dataclass(frozen=True, slots=True)
class PartitionView:
    """One partition at one checkpoint."""

    partition: int
    offset: int
    meta: Meta
    index: dict[SliceId, int]  # slice -> number of the checkpoint that last wrote it
    totals: Aggregate
    generation: int = 0  # raised if Redis lost the state or an earlier one was restored
    damage: tuple[DamagedError, ...] = ()
    stored_meta: bytes = b""  # as Redis has it; empty if no count of the partition can be read

    @property
    def is_readable(self) -> bool:
        """Return whether offset, totals and slices are known, but for damaged slices."""
        return bool(self.stored_meta)

    @property
    def watermark_s(self) -> int:
        """Watermark in seconds, rounded down; 0 as long as it may fall.

        A partition with few events of senders' timestamps may have a wild watermark.
        """
        return (self.meta.watermark().settled_ms or 0) // 1_000

    def version(self, slice_id: SliceId) -> Version:
        """Return a value that changes if the content of a slice of the index does."""
        return self.generation, self.index[slice_id]


class SliceConsumer(Protocol):
    """A part of the program that derives figures from slices."""

    def missing(self, snapshot: "StateSnapshot") -> Mapping[int, Sequence[SliceId]]:
        """Return, by partition, the slices to read at the snapshot's views, most urgent first.

        Empty if the consumer has the present version of all slices it needs.
        """
        ...

    def take(
        self,
        snapshot: "StateSnapshot",
        view: PartitionView,
        slice_id: SliceId,
        aggregate: Aggregate,
    ) -> None:
        """Accept a missing slice as it was at the view's checkpoint."""
        ...


class StateSnapshot:
    """The state of all partitions, read once for every consumer of a refresh."""

    def __init__(
        self, reader: "StateReader", views: Iterable[PartitionView], heartbeats: Iterable[Heartbeat]
    ) -> None:
        self._reader = reader
        self._views = {view.partition: view for view in views}
        self._heartbeats = {sign.partition: sign for sign in heartbeats}

    @property
    def views(self) -> list[PartitionView]:
        """Partitions that have state, by rising number."""
        return list(self._views.values())

    @property
    def heartbeats(self) -> list[Heartbeat]:
        """Partitions that a worker ever claimed, whether they have state or not."""
        return list(self._heartbeats.values())

    @property
    def watermark_s(self) -> int:
        """Return the latest watermark of all partitions, in seconds; 0 if all may fall."""
        return max((view.watermark_s for view in self._views.values()), default=0)

    @property
    def tokens(self) -> Mapping[str, str]:
        """Tokens of customers by the hash of their id, if that is another one."""
        return self._reader.tokens

    def token_of(self, hash_of: Callable[[str], str], customer_id: str) -> str:
        """Return the token of a customer; `hash_of`: by the key of this process."""
        hashed = hash_of(customer_id)
        return self.tokens.get(hashed, hashed)

    @property
    def series(self) -> Sequence[SeriesKey]:
        """Names of the numbers that series have in all aggregates; the list only grows."""
        return self._reader.series

    @property
    def customers(self) -> Sequence[CustomerKey]:
        """Names of the numbers of (customer, model) rows; the list only grows."""
        return self._reader.customers

    def names_of(self, partition: int) -> tuple[list[SeriesKey], list[CustomerKey]]:
        """Return the series and the (customer, model) rows of one partition."""
        return self._reader._numberings[partition].names(self.series, self.customers)

    async def load(
        self, consumers: Sequence[SliceConsumer], per_round: int = SLICES_PER_ROUND
    ) -> None:
        """Read slices until no consumer misses one at the present views.

        `per_round`: slices of each partition and consumer that are in memory at the same time.
        Raises StoreError if Redis does not answer, or if workers write faster than this reads.
        """
        for _ in range(ROUNDS):
            missing = [consumer.missing(self) for consumer in consumers]
            chosen = {
                partition: list(
                    dict.fromkeys(
                        chain.from_iterable(
                            slices.get(partition, ())[:per_round] for slices in missing
                        )
                    )
                )
                for partition in self._views
            }
            partitions = [partition for partition, slice_ids in chosen.items() if slice_ids]
            if not partitions:
                return
            read = await self._reader.gather(
                self._read_slices(self._views[partition], chosen[partition])
                for partition in partitions
            )
            for partition, aggregates in zip(partitions, read, strict=True):
                for consumer, slices in zip(consumers, missing, strict=True):
                    for slice_id in slices.get(partition, ()):
                        if slice_id in aggregates:
                            view = self._views[partition]
                            consumer.take(self, view, slice_id, aggregates[slice_id])
        raise StoreError("workers write the state faster than it can be read; trying again later")

    async def _read_slices(
        self, view: PartitionView, slice_ids: Sequence[SliceId]
    ) -> Mapping[SliceId, Aggregate]:
        """Return slices; none if the partition has a new checkpoint, whose view is then read."""
        aggregates = await self._reader.slices(view, slice_ids)
        if aggregates is not None:
            self._views[view.partition] = self._reader.marked(view)
            return aggregates
        renewed = await self._reader.view(view.partition)
        if renewed is None:
            del self._views[view.partition]
        else:
            self._views[view.partition] = renewed
            # The lag is the difference of the two, so they are read together.
            self._heartbeats[view.partition] = await self._reader.heartbeat(view.partition)
        return {}


class StateReader:
    """Reads one consumer group's state of one topic. `series` and `customers` name the numbers that
    all aggregates are keyed by; the lists only grow."""

    def __init__(self, client: "aioredis.Redis", group: str, topic: str) -> None:
        self._redis, self._keys = client, Keys(group, topic)
        self._series, self._customers = Names[SeriesKey](), Names[CustomerKey]()
        self._numberings: dict[int, Numbering] = {}
        self._token_table = CustomerTokenTable(client, self._keys)
        self.tokens: Mapping[str, str] = {}
        # By partition: damaged slices, with the version that is damaged.
        self._damaged: dict[int, dict[SliceId, tuple[Version, DamagedError]]] = {}

    @property
    def series(self) -> Sequence[SeriesKey]:
        """Names of the numbers of series; the list only grows."""
        return self._series.names

    @property
    def customers(self) -> Sequence[CustomerKey]:
        """Names of the numbers of (customer, model) rows; the list only grows."""
        return self._customers.names

    async def snapshot(self) -> StateSnapshot:
        """Read views and heartbeats of all partitions. Raises StoreError."""
        await self._read_tokens()
        partitions = await self._partitions()
        views = await self.gather(self.view(partition) for partition in partitions)
        heartbeats = await self.gather(self.heartbeat(partition) for partition in partitions)
        return StateSnapshot(self, [view for view in views if view is not None], heartbeats)

    async def _read_tokens(self) -> None:
        (tokens,) = await self.gather([self._token_table.read()])
        added, self.tokens = tokens.keys() - self.tokens.keys(), tokens
        # Rows that were counted while the token was not known belong to that token's row.
        if added and any(customer in added for customer, _ in self.customers):
            for partition, numbering in list(self._numberings.items()):
                self._numberings[partition] = numbering.begin_again()

    async def heartbeats(self) -> list[Heartbeat]:
        """Read the last heartbeat of every partition that a worker ever claimed.

        Raises StoreError if Redis does not answer.
        """
        return await self.gather(self.heartbeat(one) for one in await self._partitions())

    async def gather(self, calls: Iterable[Awaitable[T]]) -> list[T]:
        """Await calls at the same time. Raises StoreError if Redis does not answer one."""
        try:
            return await asyncio.gather(*calls)
        except (RedisError, OSError) as error:
            raise StoreError(
                f"cannot read the state: {redis_reason(error)}; see to Redis, or set redis.url"
            ) from error

    async def _partitions(self) -> list[int]:
        reply = cast(Awaitable[set[bytes]], self._redis.smembers(self._keys.partitions))
        (members,) = await self.gather([reply])
        # A damaged name is no number; its worker adds the right one again.
        return sorted(int(member) for member in members if member.isdigit())

    async def heartbeat(self, partition: int) -> Heartbeat:
        """Read the last heartbeat of the worker of a partition; without fields if it has none."""
        reply = await self._redis.hgetall(self._keys.heartbeat(partition))
        fields = cast(dict[bytes, bytes], reply)
        return Heartbeat(
            partition, {name.decode(): value.decode() for name, value in fields.items()}
        )

    async def view(self, partition: int) -> PartitionView | None:
        """Read a partition at its present checkpoint; None if it has no state yet."""
        for _ in range(VIEW_ROUNDS):
            try:
                view = await self._read_view(partition)
            except DamagedError as error:
                return self._unreadable_view(partition, error)
            if not isinstance(view, _Changed):
                return None if view is None else self.marked(view)
        raise StoreError("workers write the names faster than they can be read")

    async def _read_view(self, partition: int) -> "PartitionView | _Changed | None":
        """Return a view as it is stored. Raises DamagedError."""
        key, head = self._keys.partition(partition), ("offset", "meta", "index", "totals")
        values = await self._hmget(key, head)
        # Claimed, but nothing counted yet: there may be an offset.
        if values[1:] == [None, None, None]:
            return None
        fields = present(head, values)
        meta = decode_meta(fields["meta"])
        check_fields(meta, fields["offset"], fields)
        numbering = self._numberings.setdefault(partition, Numbering())
        if not numbering.fits(meta):
            # Another state: its numbers and checkpoints have other meanings than those before.
            numbering = self._numberings[partition] = numbering.begin_again()
        if not numbering.has_names(meta):
            names = registry_fields(meta)
            # With the metadata, which has the checksums of the names of its checkpoint.
            stored_meta, *values = await self._hmget(key, ["meta", *names])
            if stored_meta != fields["meta"]:
                return _Changed()
            stored = present(names, values)
            check_fields(meta, fields["offset"], stored)
            series, customers = decode_names(meta, stored)
            numbering.series = self._series.numbers_of(series)
            numbering.customers = self._customers.numbers_of(
                [(self.tokens.get(customer, customer), model) for customer, model in customers]
            )
        view = PartitionView(
            partition=partition,
            offset=int(fields["offset"]),
            meta=meta,
            index=decode_index(fields["index"]),
            totals=numbering.renumber("totals", decode_totals(fields["totals"])),
            generation=numbering.generation,
            stored_meta=fields["meta"],
        )
        numbering.meta = meta
        return view

    def _unreadable_view(self, partition: int, error: DamagedError) -> PartitionView:
        # Begun in the middle of a log, without an event yet: no time is whole.
        meta = Meta(SCHEMA, -1, None, (0,) * len(LEVELS), {}, {}, 0, 0, _NO_EDGES, 0)
        meta = msgspec.structs.replace(meta, rebuilt=-1, begun_at=1)
        return PartitionView(partition, 0, meta, {}, Aggregate.empty(), damage=(error,))

    def marked(self, view: PartitionView) -> PartitionView:
        """Return a view with the slices that are known to be damaged, as gaps of its metadata."""
        damaged = {
            slice_id: (version, error)
            for slice_id, (version, error) in self._damaged.get(view.partition, {}).items()
            if slice_id in view.index and view.version(slice_id) == version
        }
        self._damaged[view.partition] = damaged
        errors = tuple(error for _, error in damaged.values())
        if errors == view.damage:
            return view
        gaps = (*decode_meta(view.stored_meta).gaps, *map(_gap, damaged))
        meta = msgspec.structs.replace(view.meta, gaps=gaps)
        return replace(view, meta=meta, damage=errors)

    async def slices(
        self, view: PartitionView, slice_ids: Sequence[SliceId]
    ) -> dict[SliceId, Aggregate] | None:
        """Read slices at a view's checkpoint; None if a worker has written another one since.

        A damaged slice is empty; `marked` then returns the view with it.
        """
        key = self._keys.partition(view.partition)
        # One command, so that Redis answers with the metadata and the slices of one moment.
        meta, *values = await self._hmget(key, ["meta", *map(slice_field, slice_ids)])
        if meta != view.stored_meta:
            return None
        numbering = self._numberings[view.partition]
        aggregates = {}
        for slice_id, value in zip(slice_ids, values, strict=True):
            try:
                if value is None:
                    raise DamagedError(slice_field(slice_id), "is missing")
                aggregates[slice_id] = numbering.renumber(
                    slice_field(slice_id), decode_slice(slice_id, value)
                )
            except DamagedError as error:
                damaged = self._damaged.setdefault(view.partition, {})
                damaged[slice_id] = (view.version(slice_id), error)
                aggregates[slice_id] = Aggregate.empty()
        return aggregates

    async def _hmget(self, key: str, fields: Sequence[str]) -> list[bytes | None]:
        if not fields:
            return []
        return cast(list[bytes | None], await self._redis.hmget(key, list(fields)))


class _Changed:
    """A worker wrote a checkpoint while a view was read."""


_NO_EDGES = Thresholds((), (), ())


def _gap(slice_id: SliceId) -> Gap:
    return Gap(slice_id.start_s * 1_000, slice_id.end_s * 1_000, 0)
