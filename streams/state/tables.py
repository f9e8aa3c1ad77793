"""Sums by key on arrays, and how such arrays are written as bytes.

Pure. All counts are kept in a `Table`: a sorted array of distinct int64 keys and one row of int64
values a key. Adding two tables adds the rows of equal keys, so the order in which
parts of a stream were counted, and where it was cut, cannot matter.

Bytes are LEB128: seven bits a byte, least significant first, the high bit set on all but the last
byte of a number (the encoding of DWARF and of Protocol Buffers' varints).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Table:
    """`values[i]` belongs to `keys[i]`; keys rise strictly. `values` is (n,) or (n, columns)."""

    keys: Ints
    values: Ints

    @classmethod
    def empty(cls, columns: int | None = None) -> Self:
        """No keys. `columns`: width of a row; None for one plain number a key."""
        shape = (0,) if columns is None else (0, columns)
        return cls(np.empty(0, np.int64), np.empty(shape, np.int64))

    @classmethod
    def summed(cls, keys: Ints, values: Ints) -> Self:
        """The table of these rows; keys in any order, repeated ones are added up."""
        if len(keys) == 0:
            return cls(keys, values)
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        starts = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1])))
        if len(starts) == len(keys):
            return cls(keys, values[order])
        return cls(keys[starts], np.add.reduceat(values[order], starts, axis=0))

    @classmethod
    def counted(cls, keys: Ints) -> Self:
        """Count how often each key occurs in `keys`."""
        distinct, counts = np.unique(keys, return_counts=True)
        return cls(distinct, counts.astype(np.int64))

    @classmethod
    def merged(cls, tables: Sequence["Table"]) -> Self:
        """The sum of one or more tables of equal width."""
        filled = [table for table in tables if len(table.keys)] or list(tables[:1])
        if len(filled) == 1:
            return cls(filled[0].keys, filled[0].values)
        return cls.summed(
            np.concatenate([table.keys for table in filled]),
            np.concatenate([table.values for table in filled]),
        )

    def __len__(self) -> int:
        return len(self.keys)

    def split(self, bits: int) -> list[tuple[int, "Table"]]:
        """Cut at the key's bits from `bits` upwards; each part keeps only the lower bits.

        [(high part, table of the low parts), ...] in rising order.
        """
        if not len(self.keys):
            return []
        high = self.keys >> bits
        low = self.keys & ((1 << bits) - 1)
        starts = np.flatnonzero(np.concatenate(([True], high[1:] != high[:-1])))
        ends = np.append(starts[1:], len(high))
        # Copies: a view would keep the whole table in memory for as long as any part is kept.
        return [
            (int(high[start]), Table(low[start:end].copy(), self.values[start:end].copy()))
            for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
        ]

    def pack(self) -> bytes:
        """Write keys as differences, then values row by row; values must not be negative."""
        columns = 0 if self.values.ndim == 1 else self.values.shape[1]
        differences = np.diff(self.keys, prepend=np.int64(0))
        head = np.array([columns, len(self.keys)], np.int64)
        return leb128_encode(np.concatenate((head, differences, self.values.ravel())))[0]

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """Read the bytes of `pack`."""
        numbers = leb128_decode(np.frombuffer(data, np.uint8))
        columns, count = int(numbers[0]), int(numbers[1])
        keys = np.cumsum(numbers[2 : 2 + count])
        values = numbers[2 + count :]
        return cls(keys, values.reshape(count, columns) if columns else values)


def leb128_encode(numbers: Ints) -> tuple[bytes, Ints]:
    """Write numbers >= 0; also says where each begins, with the total length last (n + 1,)."""
    if len(numbers) and int(numbers.min()) < 0:
        raise ValueError(f"LEB128 holds numbers >= 0, got {int(numbers.min())}")
    large = np.flatnonzero(numbers > 0x7F)
    low = (numbers & 0x7F).astype(np.uint8)
    if not len(large):
        return low.tobytes(), np.arange(len(numbers) + 1)
    # Most numbers take one byte; the rest are followed byte by byte, fewer each time.
    low[large] |= 0x80
    rest = numbers[large] >> 7
    more = np.ones(len(large), np.int64)
    left = rest >> 7
    while left.any():
        more += left > 0
        left >>= 7
    lengths = np.ones(len(numbers), np.int64)
    lengths[large] += more
    starts = np.concatenate((np.zeros(1, np.int64), np.cumsum(lengths)))
    out = np.empty(int(starts[-1]), np.uint8)
    out[starts[:-1]] = low
    position = starts[large] + 1
    while len(rest):
        goes_on = rest > 0x7F
        out[position] = (rest & 0x7F) | (goes_on * 0x80)
        position, rest = position[goes_on] + 1, rest[goes_on] >> 7
    return out.tobytes(), starts


def leb128_decode(data: npt.NDArray[np.uint8]) -> Ints:
    """Read all numbers of a buffer that `leb128_encode` wrote."""
    if len(data) == 0:
        return np.empty(0, np.int64)
    ends = np.flatnonzero(data < 0x80)
    if len(ends) == 0 or ends[-1] != len(data) - 1:
        raise ValueError("LEB128 data ends inside a number")
    if len(ends) == len(data):
        return data.astype(np.int64)
    starts = np.concatenate((np.zeros(1, np.int64), ends[:-1] + 1))
    place = np.arange(len(data), dtype=np.int64) - np.repeat(starts, ends - starts + 1)
    digits = (data & 0x7F).astype(np.int64) << (7 * place)
    return np.add.reduceat(digits, starts)
