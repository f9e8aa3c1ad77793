"""Reads the state of all partitions back from Redis, for the exporter and the report.

    snapshot = await reader.snapshot()        # offset, metadata, index, totals of every partition
    await snapshot.load([windows, engine])    # slices, each handed to the consumers that miss it

Each partition is read as it was at one checkpoint. If a worker writes another checkpoint before all
slices are read, the view of its partition is read again, and the consumers then miss only the
slices that the checkpoint changed. Slices are not kept here: a consumer keeps the figures it
derives from them, with `PartitionView.version`. Series and customers get numbers that are the same
in all partitions and in all snapshots of one reader.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Protocol, TypeVar, cast

import numpy as np
import redis.asyncio as aioredis
from redis.exceptions import RedisError

from streams.errors import one_line
from streams.state.registry import CustomerKey, SeriesKey
from streams.state.slices import (
    CELL_BITS,
    COUNTER_BITS,
    THRESHOLD_COUNT_BITS,
    Aggregate,
    SliceId,
)
from streams.state.snapshot import (
    Meta,
    decode_index,
    decode_meta,
    decode_names,
    registry_fields,
    slice_field,
)
from streams.state.tables import Ints, Table
from streams.store.contract import StoreError
from streams.store.heartbeat import Heartbeat
from streams.store.keys import Keys

# A day of 100 series is some megabytes a partition until a consumer has added it up.
SLICES_PER_ROUND = 16
ROUNDS = 1_000

T = TypeVar("T")
Name = TypeVar("Name", SeriesKey, CustomerKey)
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


def unread(
    snapshot: "StateSnapshot",
    select: Callable[[PartitionView], Iterable[SliceId]],
    known: Mapping[tuple[int, SliceId], tuple[Version, object]],
) -> dict[int, list[SliceId]]:
    """Return, by partition, the selected slices of which `known` has no present version.

    `known`: by partition and slice, the version and what was derived from it.
    """
    return {
        view.partition: [
            slice_id
            for slice_id in select(view)
            if known.get((view.partition, slice_id), (None,))[0] != view.version(slice_id)
        ]
        for view in snapshot.views
    }


@dataclass(slots=True)
class _Numbering:
    """How one partition's own numbers translate to the reader's."""

    series: Ints = field(default_factory=lambda: np.empty(0, np.int64))  # local -> reader's number
    customers: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    meta: Meta | None = None  # of the last view
    generation: int = 0

    def fits(self, meta: Meta) -> bool:
        """Return whether a view with `meta` may be of the same state as the last one."""
        last = self.meta
        if last is None:
            return True
        # A store that lost its last write gets another checkpoint of the same number.
        is_other = meta.sequence == last.sequence and meta != last
        return meta.sequence >= last.sequence and not is_other and meta.rebuilt == last.rebuilt


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
    def series(self) -> Sequence[SeriesKey]:
        """Names of the numbers that series have in all aggregates; the list only grows."""
        return self._reader.series

    @property
    def customers(self) -> Sequence[CustomerKey]:
        """Names of the numbers of (customer, model) rows; the list only grows."""
        return self._reader.customers

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
        self.series: list[SeriesKey] = []
        self.customers: list[CustomerKey] = []
        self._series_number: dict[SeriesKey, int] = {}
        self._customer_number: dict[CustomerKey, int] = {}
        self._numberings: dict[int, _Numbering] = {}

    async def snapshot(self) -> StateSnapshot:
        """Read views and heartbeats of all partitions. Raises StoreError."""
        partitions = await self._partitions()
        views = await self.gather(self.view(partition) for partition in partitions)
        heartbeats = await self.gather(self.heartbeat(partition) for partition in partitions)
        return StateSnapshot(self, [view for view in views if view is not None], heartbeats)

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
                f"cannot read the state: {one_line(error)}; see to Redis, or set redis.url"
            ) from error

    async def _partitions(self) -> list[int]:
        reply = cast(Awaitable[set[bytes]], self._redis.smembers(self._keys.partitions))
        (members,) = await self.gather([reply])
        return sorted(map(int, members))

    async def heartbeat(self, partition: int) -> Heartbeat:
        """Read the last heartbeat of the worker of a partition; without fields if it has none."""
        reply = await self._redis.hgetall(self._keys.heartbeat(partition))
        fields = cast(dict[bytes, bytes], reply)
        return Heartbeat(
            partition, {name.decode(): value.decode() for name, value in fields.items()}
        )

    async def view(self, partition: int) -> PartitionView | None:
        """Read a partition at its present checkpoint; None if it has no state yet."""
        key = self._keys.partition(partition)
        offset, meta_data, index_data, totals_data = await self._hmget(
            key, ["offset", "meta", "index", "totals"]
        )
        if offset is None or meta_data is None or index_data is None or totals_data is None:
            return None  # claimed, but nothing counted yet
        meta = decode_meta(meta_data)
        numbering = self._numberings.setdefault(partition, _Numbering())
        if not numbering.fits(meta):
            # Another state: its numbers and checkpoints have other meanings than those before.
            numbering = _Numbering(generation=numbering.generation + 1)
            self._numberings[partition] = numbering
        numbering.meta = meta
        if not await self._read_names(key, meta, numbering):
            return None
        return PartitionView(
            partition=partition,
            offset=int(offset),
            meta=meta,
            index=decode_index(index_data),
            totals=_renumber(Aggregate.unpack(totals_data), numbering),
            generation=numbering.generation,
        )

    async def _read_names(self, key: str, meta: Meta, numbering: _Numbering) -> bool:
        """Read the registry if it grew; False if the state vanished meanwhile."""
        if (meta.series, meta.customers) == (len(numbering.series), len(numbering.customers)):
            return True
        fields = registry_fields(meta)
        values = await self._hmget(key, fields)
        if any(value is None for value in values):
            return False
        names = cast(dict[str, bytes], dict(zip(fields, values, strict=True)))
        series, customers = decode_names(meta, names)
        numbering.series = np.array(
            [_number(name, self.series, self._series_number) for name in series], np.int64
        )
        numbering.customers = np.array(
            [_number(name, self.customers, self._customer_number) for name in customers], np.int64
        )
        return True

    async def slices(
        self, view: PartitionView, slice_ids: Sequence[SliceId]
    ) -> dict[SliceId, Aggregate] | None:
        """Read slices at a view's checkpoint; None if a worker has written another one since."""
        key = self._keys.partition(view.partition)
        # One command, so that Redis answers with the metadata and the slices of one moment.
        meta, *values = await self._hmget(key, ["meta", *map(slice_field, slice_ids)])
        if meta is None or decode_meta(meta) != view.meta:
            return None
        numbering = self._numberings[view.partition]
        aggregates = {
            slice_id: _renumber(Aggregate.unpack(value), numbering)
            for slice_id, value in zip(slice_ids, values, strict=True)
            if value is not None
        }
        return aggregates if len(aggregates) == len(slice_ids) else None

    async def _hmget(self, key: str, fields: Sequence[str]) -> list[bytes | None]:
        if not fields:
            return []
        return cast(list[bytes | None], await self._redis.hmget(key, list(fields)))


class SliceCache:
    """A consumer that keeps whole slices: those that `cover` selects of each view."""

    def __init__(self, cover: Callable[[PartitionView], Iterable[SliceId]]) -> None:
        self._cover = cover
        self._selected: dict[int, tuple[PartitionView, list[SliceId]]] = {}
        self._read: dict[tuple[int, SliceId], tuple[Version, Aggregate]] = {}

    def missing(self, snapshot: StateSnapshot) -> Mapping[int, Sequence[SliceId]]:
        """Return the selected slices whose present version was not read yet."""
        return unread(snapshot, self._selection, self._read)

    def _selection(self, view: PartitionView) -> list[SliceId]:
        selected = self._selected.get(view.partition)
        if selected is None or selected[0] is not view:
            selected = self._selected[view.partition] = view, list(self._cover(view))
        return selected[1]

    def take(
        self,
        snapshot: StateSnapshot,
        view: PartitionView,
        slice_id: SliceId,
        aggregate: Aggregate,
    ) -> None:
        """Keep a slice."""
        self._read[view.partition, slice_id] = (view.version(slice_id), aggregate)

    def aggregates(self, view: PartitionView) -> dict[SliceId, Aggregate]:
        """Return the selected slices of a view, after `StateSnapshot.load`."""
        return {
            slice_id: self._read[view.partition, slice_id][1] for slice_id in self._selection(view)
        }


def _number(name: Name, names: list[Name], numbers: dict[Name, int]) -> int:
    number = numbers.setdefault(name, len(names))
    if number == len(names):
        names.append(name)
    return number


def _renumber(aggregate: Aggregate, numbering: _Numbering) -> Aggregate:
    """Replace a partition's own numbers by the reader's."""
    return replace(
        aggregate,
        series=_rekey(aggregate.series, numbering.series, 0),
        cells=_rekey(aggregate.cells, numbering.series, CELL_BITS),
        threshold_counts=_rekey(aggregate.threshold_counts, numbering.series, THRESHOLD_COUNT_BITS),
        customers=_rekey(aggregate.customers, numbering.customers, 0),
        counters=_rekey(aggregate.counters, numbering.series, COUNTER_BITS),
        customer_counters=_rekey(aggregate.customer_counters, numbering.customers, COUNTER_BITS),
    )


def _rekey(table: Table, numbers: Ints, low_bits: int) -> Table:
    if not len(table):
        return table
    # A key is (number << low_bits) | the rest: only the number changes.
    low = table.keys & ((1 << low_bits) - 1)
    return Table.summed((numbers[table.keys >> low_bits] << low_bits) | low, table.values)
