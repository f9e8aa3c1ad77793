"""Sums by key on arrays, and how such arrays are written as bytes.

Pure. All counts are kept in a `Table`: a sorted array of distinct int64 keys and one row of int64
values a key. Adding two tables adds the rows of equal keys, so the order in which
parts of a stream were counted, and where it was cut, cannot matter. A sum of more than `MAX_SUM`
stays there: it means "at least so much", and no order of additions changes that either.

Bytes are LEB128: seven bits a byte, least significant first, the high bit set on all but the last
byte of a number (the encoding of DWARF and of Protocol Buffers' varints).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

MAX_SUM = (1 << 62) - 1  # two of these add up without an overflow
_HALF_BITS = 31
_LOW_HALF = (1 << _HALF_BITS) - 1
_MASKED = 64  # added to the width of a row if only the columns of a mask are written
_LOW_BITS, _GOES_ON = 0x7F, 0x80  # of a byte of LEB128
_NO_PLACES: Ints = np.empty(0, np.int64)


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
        return cls(
            keys[starts],
            add_capped(values[order], lambda rows: np.add.reduceat(rows, starts, axis=0)),
        )

    @classmethod
    def counted(cls, keys: Ints) -> Self:
        """Count how often each key occurs in `keys`."""
        distinct, counts = np.unique(keys, return_counts=True)
        return cls(distinct, counts.astype(np.int64))

    @classmethod
    def merged(cls, tables: Sequence["Table"]) -> Self:
        """The sum of one or more tables of equal width."""
        # Without a filled table the first one gives the width.
        filled = [table for table in tables if len(table.keys)] or list(tables[:1])
        if len(filled) == 1:
            return cls(filled[0].keys, filled[0].values)
        keys = np.concatenate([table.keys for table in filled])
        largest = sum(_largest(table.values) for table in filled)
        if filled[0].values.ndim == 1 or largest > MAX_SUM:
            return cls.summed(keys, np.concatenate([table.values for table in filled]))
        # Adding wide rows table by table moves each of them once; sorting them takes 3 to 6 times
        # as long.
        distinct, place = np.unique(keys, return_inverse=True)
        values = np.zeros((len(distinct), filled[0].values.shape[1]), np.int64)
        ends = np.cumsum([len(table) for table in filled])
        for table, rows in zip(filled, np.split(place, ends[:-1]), strict=True):
            # The keys of a table are distinct, so no row is added to twice.
            values[rows] += table.values
        return cls(distinct, values)

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
        """Return the bytes of keys as differences, then values row by row, none negative.

        Columns without a value are left out: of wide rows, most events fill less than half.
        """
        head, values = [0, len(self.keys)], self.values
        if values.ndim > 1:
            columns = values.shape[1]
            filled = np.flatnonzero(values.any(axis=0))
            # Rows have fewer than 63 columns, so the mask is one number.
            mask = int((1 << filled).sum())
            head = [_MASKED + columns, len(self.keys), mask]
            values = values[:, filled]
        # Keys rise, so their differences are small and mostly take one byte.
        differences = np.diff(self.keys, prepend=np.int64(0))
        numbers = np.concatenate((np.array(head, np.int64), differences, values.ravel()))
        return leb128_encode(numbers)[0]

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """Read the bytes of `pack`, and those of state schemas up to 4, which had all columns."""
        numbers = leb128_decode(np.frombuffer(data, np.uint8))
        columns, count = int(numbers[0]), int(numbers[1])
        if columns < _MASKED:
            keys, values = np.cumsum(numbers[2 : 2 + count]), numbers[2 + count :]
            return cls(keys, values.reshape(count, columns) if columns else values)
        columns -= _MASKED
        filled = (int(numbers[2]) >> np.arange(columns)) & 1 == 1
        rows = np.zeros((count, columns), np.int64)
        rows[:, filled] = numbers[3 + count :].reshape(count, int(filled.sum()))
        return cls(np.cumsum(numbers[3 : 3 + count]), rows)


def _largest(values: Ints) -> int:
    return max(int(values.max(initial=0)), -int(values.min(initial=0)))


def add_capped(values: Ints, add: Callable[[Ints], Ints]) -> Ints:
    """Return `add(values)`, some sums along the first axis, each at most MAX_SUM.

    `values`: from -MAX_SUM to MAX_SUM.
    """
    # Nearly always no sum can be too large.
    if _largest(values) <= MAX_SUM // max(1, len(values)):
        return add(values)
    high, low = add(values >> _HALF_BITS), add(values & _LOW_HALF)
    high += low >> _HALF_BITS
    sums = np.maximum((high << _HALF_BITS) | (low & _LOW_HALF), -MAX_SUM)
    is_too_low = high < -(1 << _HALF_BITS)
    return np.where(high > _LOW_HALF, MAX_SUM, np.where(is_too_low, -MAX_SUM, sums))


def sum_rows(values: Ints) -> Ints:
    """Return the sum over the first axis, each at most MAX_SUM."""
    return add_capped(values, lambda rows: np.asarray(rows.sum(axis=0), np.int64))


def leb128_encode(numbers: Ints, places: Ints = _NO_PLACES) -> tuple[bytes, Ints]:
    """Return numbers >= 0 as bytes, and where in them the numbers at `places` begin.

    `places` rises. Raises ValueError for a negative number.
    """
    low = numbers.astype(np.uint8)  # modulo 256
    # As unsigned numbers, negative ones are the largest.
    if int(numbers.view(np.uint64).max(initial=0)) <= _LOW_BITS:
        return low.tobytes(), places
    if int(numbers.min()) < 0:
        raise ValueError(f"LEB128 holds numbers >= 0, got {int(numbers.min())}")
    # Most numbers take one byte; the rest are followed byte by byte, fewer each time.
    large = np.flatnonzero(numbers > _LOW_BITS)
    low[large] |= _GOES_ON
    rest = numbers[large] >> 7
    more = np.ones(len(large), np.int64)
    left = rest >> 7
    while left.any():
        more += left > 0
        left >>= 7
    before = np.concatenate((np.zeros(1, np.int64), np.cumsum(more)))  # bytes more than numbers
    out = np.empty(len(numbers) + int(before[-1]), np.uint8)
    is_first = np.ones(len(out), np.bool_)
    # The second byte of each large number, behind the extra bytes of all earlier ones.
    position = large + before[:-1] + 1
    while len(rest):
        goes_on = rest > _LOW_BITS
        out[position] = (rest & _LOW_BITS) | (goes_on * _GOES_ON)
        is_first[position] = False
        position, rest = position[goes_on] + 1, rest[goes_on] >> 7
    out[is_first] = low
    return out.tobytes(), places + before[np.searchsorted(large, places)]


def leb128_decode(data: npt.NDArray[np.uint8]) -> Ints:
    """Read all numbers of a buffer that `leb128_encode` wrote."""
    if len(data) == 0:
        return np.empty(0, np.int64)
    # Only the last byte of a number has no high bit.
    ends = np.flatnonzero(data < 0x80)
    if len(ends) == 0 or ends[-1] != len(data) - 1:
        raise ValueError("LEB128 data ends inside a number")
    if len(ends) == len(data):
        return data.astype(np.int64)
    starts = np.concatenate((np.zeros(1, np.int64), ends[:-1] + 1))
    # The place of each byte within its number: seven bits a place.
    place = np.arange(len(data), dtype=np.int64) - np.repeat(starts, ends - starts + 1)
    digits = (data & 0x7F).astype(np.int64) << (7 * place)
    return np.add.reduceat(digits, starts)
