"""Sums and nearest-rank percentiles of any stretch of slots, without adding it up anew.

Pure. A slot is the number of a slice of ten seconds. Rows are sorted by (group, slot), so that a
stretch of a group is a range of rows.
"""

import numpy as np
from numpy.typing import NDArray

from streams.state import histogram
from streams.state.tables import Ints

_SLOT_BITS = 28  # 85 years


class PrefixSums:
    """Running sums of rows of numbers: a stretch is the difference of two of them."""

    def __init__(self, groups: Ints, slots: Ints, values: Ints) -> None:
        keys = (groups << _SLOT_BITS) | slots
        self.order = np.argsort(keys, kind="stable")
        self._keys = keys[self.order]
        self.sums = _running(values[self.order])

    def range(self, group: int, begins: Ints, ends: Ints) -> tuple[Ints, Ints]:
        """Return the first row, and the row after the last, of stretches [begin, end)."""
        first = group << _SLOT_BITS
        low, high = (
            np.searchsorted(self._keys, first + np.maximum(at, 0)) for at in (begins, ends)
        )
        return low, high

    def between(self, group: int, begins: Ints, ends: Ints) -> Ints:
        """Return the sums of stretches [begin, end) of slots of one group."""
        low, high = self.range(group, begins, ends)
        sums: Ints = self.sums[high] - self.sums[low]
        return sums


class StretchPercentiles(PrefixSums):
    """Percentiles of latencies by histogram bucket.

    A wavelet matrix: on each level the rows are parted by one bit of their bucket, from the highest
    on. To find a rank, each level shows how many of a range have that bit 0, so that thirteen steps
    find it in a range of any length.

    Source: Claude, Navarro, Ordonez: The wavelet matrix (2015).
    """

    def __init__(self, groups: Ints, slots: Ints, buckets: Ints, counts: Ints) -> None:
        super().__init__(groups, slots, counts)
        buckets, counts = buckets[self.order], counts[self.order]
        # Of each bit, from the highest on: (bit, rows with 0 before each row, their counts).
        self._levels: list[tuple[int, Ints, Ints]] = []
        for bit in reversed(range(histogram.BUCKET_BITS)):
            is_low = (buckets >> bit) & 1 == 0
            self._levels.append((bit, _running(is_low * 1), _running(is_low * counts)))
            parted = np.concatenate((np.flatnonzero(is_low), np.flatnonzero(~is_low)))
            buckets, counts = buckets[parted], counts[parted]

    def at(self, low: Ints, high: Ints, ranks: Ints) -> Ints:
        """Return the highest value, in ns, of the bucket of each rank in ranges of `range`."""
        buckets = np.zeros(len(ranks), np.int64)
        for bit, rows, counts in self._levels:
            below = counts[high] - counts[low]
            is_high = ranks > below
            ranks = np.where(is_high, ranks - below, ranks)
            # Rows with 0 moved to the front, those with 1 behind all of them; both kept order.
            low, high = (
                np.where(is_high, rows[-1] + at - rows[at], rows[at]) for at in (low, high)
            )
            buckets |= is_high * (1 << bit)
        return histogram.highest_in(buckets)


def _running(values: "NDArray[np.int64]") -> Ints:
    """Return the sums of the values before each place, and of all."""
    sums = np.zeros((len(values) + 1, *values.shape[1:]), np.int64)
    np.cumsum(values, axis=0, out=sums[1:])
    return sums
