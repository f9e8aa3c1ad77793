"""Reads the state of all partitions back from Redis, for the exporter and the report.

Each partition is read as it was at one checkpoint: if a worker writes between two reads, they are
made again. Slices are cached by the checkpoint that last wrote them, so that reading again costs
little; whoever keeps something else of them turns that off (`remember`). Series and customers get
numbers that hold across partitions.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar, cast

import numpy as np
import redis.asyncio as aioredis
from redis.exceptions import RedisError

from streams.state.registry import CubeKey, SeriesKey
from streams.state.slices import CELL_BITS, WITHIN_BITS, Aggregate, SliceId
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

ATTEMPTS = 8
SLICES_A_READ = 200


@dataclass(frozen=True, slots=True)
class PartitionView:
    """One partition at one checkpoint."""

    partition: int
    offset: int
    meta: Meta
    index: dict[SliceId, int]
    totals: Aggregate


T = TypeVar("T")
Name = TypeVar("Name", SeriesKey, CubeKey)

Cover = Callable[[PartitionView], Iterable[SliceId]]


@dataclass(slots=True)
class _Cached:
    """What is remembered of one partition."""

    series: Ints = field(default_factory=lambda: np.empty(0, np.int64))  # local -> our number
    cubes: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    slices: dict[SliceId, tuple[int, Aggregate]] = field(default_factory=dict)
    sequence: int = -1


class StateReader:
    """Reads one consumer group's state of one topic. `series` and `cubes` name the numbers that
    the aggregates it returns are keyed by; the lists only grow."""

    def __init__(
        self, client: "aioredis.Redis", group: str, topic: str, remember: bool = True
    ) -> None:
        self._redis, self._keys = client, Keys(group, topic)
        self._remember = remember
        self.series: list[SeriesKey] = []
        self.cubes: list[CubeKey] = []
        self._series_number: dict[SeriesKey, int] = {}
        self._cube_number: dict[CubeKey, int] = {}
        self._cached: dict[int, _Cached] = {}

    async def read(self, cover: Cover) -> list[tuple[PartitionView, dict[SliceId, Aggregate]]]:
        """Every partition that has state, with the slices that `cover` asks for.

        Raises StoreError where Redis does not answer.
        """
        read = await self._of_each(lambda partition: self._read(partition, cover))
        return [one for one in read if one is not None]

    async def signs(self) -> list[Heartbeat]:
        """Of every partition that was ever claimed, whether it has state or not.

        Raises StoreError where Redis does not answer.
        """
        return await self._of_each(self._sign)

    async def _of_each(self, read: Callable[[int], Awaitable[T]]) -> list[T]:
        try:
            found = await self._redis.smembers(self._keys.partitions)
            return await asyncio.gather(*(read(one) for one in sorted(map(int, found))))
        except (RedisError, OSError) as error:
            raise StoreError(f"cannot read the state: {' '.join(str(error).split())}") from error

    async def _sign(self, partition: int) -> Heartbeat:
        found = await self._redis.hgetall(self._keys.heartbeat(partition))
        fields = cast(dict[bytes, bytes], found)
        return Heartbeat(
            partition, {name.decode(): value.decode() for name, value in fields.items()}
        )

    async def _read(
        self, partition: int, cover: Cover
    ) -> tuple[PartitionView, dict[SliceId, Aggregate]] | None:
        cached = self._cached.setdefault(partition, _Cached())
        for _ in range(ATTEMPTS):
            view = await self._view(partition, cached)
            if view is None:
                return None
            wanted = list(cover(view))
            stale = [
                of
                for of in wanted
                if of not in cached.slices or cached.slices[of][0] != view.index[of]
            ]
            if await self._fetch(view, cached, stale):
                for of in [of for of in cached.slices if of not in view.index]:
                    del cached.slices[of]
                found = {of: cached.slices[of][1] for of in wanted}
                if not self._remember:
                    cached.slices.clear()
                return view, found
        raise StoreError(f"{self._keys.partition(partition)}: written too often to be read")

    async def _view(self, partition: int, cached: _Cached) -> PartitionView | None:
        key = self._keys.partition(partition)
        offset, meta_data, index_data, totals_data = await self._hmget(
            key, ["offset", "meta", "index", "totals"]
        )
        if offset is None or meta_data is None or index_data is None or totals_data is None:
            return None  # claimed, but nothing counted yet
        meta = decode_meta(meta_data)
        if meta.sequence < cached.sequence:
            # The state was lost or set back: what we remember of it is worth nothing.
            cached.series, cached.cubes = np.empty(0, np.int64), np.empty(0, np.int64)
            cached.slices.clear()
        cached.sequence = meta.sequence
        if (meta.series, meta.cubes) != (len(cached.series), len(cached.cubes)):
            fields = registry_fields(meta)
            values = await self._hmget(key, fields)
            if any(value is None for value in values):
                return None
            names = cast(dict[str, bytes], dict(zip(fields, values, strict=True)))
            series, cubes = decode_names(meta, names)
            cached.series = np.array(
                [_number(name, self.series, self._series_number) for name in series], np.int64
            )
            cached.cubes = np.array(
                [_number(name, self.cubes, self._cube_number) for name in cubes], np.int64
            )
        return PartitionView(
            partition=partition,
            offset=int(offset),
            meta=meta,
            index=decode_index(index_data),
            totals=_renumbered(Aggregate.unpack(totals_data), cached),
        )

    async def _fetch(self, view: PartitionView, cached: _Cached, wanted: Sequence[SliceId]) -> bool:
        """Read slices into the cache; False if the partition was written meanwhile."""
        key = self._keys.partition(view.partition)
        for at in range(0, len(wanted), SLICES_A_READ):
            part = wanted[at : at + SLICES_A_READ]
            meta, *values = await self._hmget(key, ["meta", *map(slice_field, part)])
            if meta is None or decode_meta(meta).sequence != view.meta.sequence:
                return False
            for of, value in zip(part, values, strict=True):
                if value is None:
                    return False
                aggregate = _renumbered(Aggregate.unpack(value), cached)
                cached.slices[of] = (view.index[of], aggregate)
        return True

    async def _hmget(self, key: str, fields: Sequence[str]) -> list[bytes | None]:
        if not fields:
            return []
        return cast(list[bytes | None], await self._redis.hmget(key, list(fields)))


def _number(name: Name, names: list[Name], numbers: dict[Name, int]) -> int:
    found = numbers.get(name)
    if found is None:
        found = numbers[name] = len(names)
        names.append(name)
    return found


def _renumbered(aggregate: Aggregate, cached: _Cached) -> Aggregate:
    """Replace a partition's own numbers by ours."""
    return replace(
        aggregate,
        series=_rekeyed(aggregate.series, cached.series, 0),
        cells=_rekeyed(aggregate.cells, cached.series, CELL_BITS),
        within=_rekeyed(aggregate.within, cached.series, WITHIN_BITS),
        cube=_rekeyed(aggregate.cube, cached.cubes, 0),
    )


def _rekeyed(table: Table, numbers: Ints, low_bits: int) -> Table:
    if not len(table):
        return table
    low = table.keys & ((1 << low_bits) - 1)
    return Table.summed((numbers[table.keys >> low_bits] << low_bits) | low, table.values)
