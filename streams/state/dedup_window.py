"""Remembers ids with the latest of their times, exactly within a window of time, in little memory.

Pure. Deduplicator (streams/worker/deduplication.py) finds the duplicates of a partition with it.
"""

import numpy as np
import numpy.typing as npt

from streams.state.tables import Ints

Hashes = npt.NDArray[np.uint64]
Marks = npt.NDArray[np.bool_]

MAX_WINDOW_MS = 1 << 30  # 12 days: times of remembered events are kept in 32 bits
STEPS_OF_ARRIVAL = 32  # parts of a window that make one part of arrival
_STEPS = 512  # parts of a window; ids are forgotten by part
_ROWS_MIN = 1 << 12  # smallest size of the ring
_DROP_ROWS = 1 << 13  # rows that are checked together when old ones are dropped
_ROWS_A_BUCKET = 2
_ROW = np.dtype([("low", "<u8"), ("high", "<u8"), ("older", "<u4"), ("time", "<u4")])


def step_ms(window_ms: int) -> int:
    """Return the length of a part of the window."""
    return max(STEPS_OF_ARRIVAL, -(-window_ms // _STEPS))


class DedupWindow:
    """Ids with the latest of their times, within a window of time.

    Rows lie in a ring in the order of arrival. A hash leads to the newest row of its bucket, each
    row to the next older one of its bucket. A row cannot be found any more as soon as the ring's
    tail has passed it, so no row is ever deleted.

        ring      tail |  ...  | older | ... | older | ... | newest | ...
                             ^--------------'   ^--------------'   ^------- bucket <- hash

    An id that comes again with a later time gets a new row: its newest row has its latest time.
    Row numbers and times are kept modulo 2**32; rows in the ring differ by less than that.
    """

    def __init__(self, window_ms: int, max_ids: int, part_ms: int | None = None) -> None:
        """Remember at most `max_ids`; beyond that the oldest ids are forgotten, those of `part_ms`
        at a time (default: a 512th of the window). Raises ValueError for an impossible number."""
        if not 0 < window_ms <= MAX_WINDOW_MS:
            raise ValueError(f"window_ms: got {window_ms}; give 1 to {MAX_WINDOW_MS}")
        if max_ids < 1:
            raise ValueError(f"max_ids: got {max_ids}; give 1 or more")
        self._window_ms, self._max_ids = window_ms, max_ids
        self._step_ms = step_ms(window_ms) if part_ms is None else part_ms
        self.forgotten = 0  # ids within the window that were dropped for lack of room
        self._counts: dict[int, int] = {}  # part -> ids whose latest time is in it
        self._count = 0
        self._floor = 0  # parts before this one are forgotten
        self._start = 0  # parts before this one are forgotten or have left the window
        self._latest_ms = 0  # no row is later
        self._ring = np.empty(_ROWS_MIN, _ROW)
        self._rows = 0  # from the tail to the newest
        self._at = 0  # index in the ring of the next row
        self._number = 0  # of the next row
        self._buckets = np.zeros(_ROWS_MIN, np.uint32)  # number of the newest row of each

    def __len__(self) -> int:
        return self._count

    @property
    def size_bytes(self) -> int:
        """Return the memory in use."""
        return self._ring.nbytes + self._buckets.nbytes

    def shift(self, back_ms: int) -> None:
        """Move all remembered times back, by whole parts of arrival, as the watermark is set back.

        The next watermark is at least the last one less `back_ms`.
        """
        parts = back_ms // self._step_ms
        self._counts = {part - parts: count for part, count in self._counts.items()}
        self._start = max(0, self._start - parts)
        self._floor = max(0, self._floor - parts)
        self._latest_ms -= back_ms
        self._ring["time"] -= np.uint32(back_ms % (1 << 32))  # kept modulo 2**32

    def find_duplicates(self, request: Hashes, time_ms: Ints, watermark_ms: Ints) -> Marks:
        """Return which of these events, in log order, are duplicates; remember all of them.

        `request` has shape (n, 2), as in Columns. `time_ms`: the time of each event, by which it is
        remembered. `watermark_ms`: the present time for each event, -1 if it is unknown; it never
        falls. Both are of arrival in `Deduplicator`.

        After a restart: call it with the valid records from `ReplayHorizon.since` on, with the
        stored watermark for all of them, and ignore the result.
        """
        duplicate = np.zeros(len(time_ms), np.bool_)
        start = 0
        while start < len(duplicate):
            self._move_to(int(watermark_ms[start]))
            # The result is that of one event after another: only the last one of such a part can
            # exceed the limit.
            end = start + self._max_ids - self._count + 1
            part = slice(start, end)
            duplicate[part] = self._add(request[part], time_ms[part], watermark_ms[part])
            while self._count > self._max_ids:
                self._forget_oldest()
            start = end
        return duplicate

    def _add(self, request: Hashes, time_ms: Ints, watermark_ms: Ints) -> Marks:
        """Add events of which at most the last exceeds the limit; return the duplicates."""
        low, high = request[:, 0], request[:, 1]
        oldest_ms, start_ms = watermark_ms - self._window_ms, self._start * self._step_ms
        row = self._find(low, high)
        # Latest time of each id before this call, -1 if it is unknown or out of the window.
        stored_ms = np.where(row < 0, -1, self._times_ms(self._ring["time"][row]))
        stored_ms[stored_ms < start_ms] = -1
        known_ms = stored_ms.copy()
        added = time_ms > np.maximum(stored_ms, start_ms - 1)
        # Ids that occur more than once among these events are few, and go one by one.
        latest: dict[tuple[int, int], tuple[int, int]] = {}  # id -> latest time, and its index
        for at in _repetitions(low).tolist():
            request_id = int(low[at]), int(high[at])
            known_ms[at], before = latest.get(request_id, (stored_ms[at], -1))
            added[at] = time_ms[at] > max(known_ms[at], start_ms - 1)
            if added[at]:
                latest[request_id] = int(time_ms[at]), at
                if before >= 0:
                    added[before] = False
        if self._floor:
            # New within the window, but in a part that was forgotten for lack of room.
            barred = time_ms < self._floor * self._step_ms
            barred &= (known_ms < 0) & (time_ms > oldest_ms)
            self.forgotten += int(np.count_nonzero(barred))

        # An id that gets a later row is no longer counted at its earlier time.
        self._change_counts(stored_ms[added & (stored_ms >= 0)], -1)
        self._change_counts(time_ms[added], 1)
        self._move_to(max(int(watermark_ms[-1]), int(time_ms[-1])))
        added &= time_ms >= self._start * self._step_ms
        self._append(low[added], high[added], time_ms[added].astype(np.uint32))
        return (known_ms > oldest_ms) & (known_ms >= 0)

    def _change_counts(self, time_ms: Ints, change: int) -> None:
        parts, sizes = np.unique(time_ms // self._step_ms, return_counts=True)
        for part, size in zip(parts.tolist(), sizes.tolist(), strict=True):
            self._counts[part] = self._counts.get(part, 0) + change * size
        self._count += change * len(time_ms)

    def _find(self, low: Hashes, high: Hashes) -> Ints:
        """Return the index in the ring of the newest row of each hash, -1 if there is none."""
        index = np.full(len(low), -1)
        number = np.uint32(self._number)
        age = number - self._buckets[self._bucket_of(high)]  # 1 is the newest row's
        # All hashes follow the chain of their bucket together, one older row a round.
        searching = np.flatnonzero((age > 0) & (age <= self._rows))
        age = age[searching]
        while len(searching):
            at = self._at - age.astype(np.int64)
            at[at < 0] += len(self._ring)
            same = self._ring["low"][at] == low[searching]
            if same.any():
                same &= self._ring["high"][at] == high[searching]
                index[searching[same]] = at[same]
            older = number - self._ring["older"][at]
            # 2**32 rows later, a number that has left the ring may look as if it were in it. So a
            # chain only leads to older rows.
            following = (older > age) & (older <= self._rows) & ~same
            searching, age = searching[following], older[following]
        return index

    def _append(self, low: Hashes, high: Hashes, time: npt.NDArray[np.uint32]) -> None:
        """Add rows of distinct hashes."""
        size = len(low)
        self._make_room(size)
        number = (self._number + np.arange(size)).astype(np.uint32)
        bucket = self._bucket_of(high)
        rows = np.empty(size, _ROW)
        rows["low"], rows["high"], rows["time"] = low, high, time
        rows["older"] = self._buckets[bucket]
        # New rows of one bucket form a chain; the bucket leads to the last of them.
        shared = _sharing(bucket, self._buckets, number)
        shared = shared[np.argsort(bucket[shared], kind="stable")]
        again = bucket[shared[1:]] == bucket[shared[:-1]]
        rows["older"][shared[1:][again]] = number[shared[:-1][again]]

        # Up to the end of the ring, and the rest at its beginning.
        fitting = min(size, len(self._ring) - self._at)
        self._ring[self._at : self._at + fitting] = rows[:fitting]
        self._ring[: size - fitting] = rows[fitting:]
        self._at = (self._at + size) % len(self._ring)
        self._number = (self._number + size) % (1 << 32)
        self._rows += size

    def _bucket_of(self, high: Hashes) -> Ints:
        return (high & np.uint64(len(self._buckets) - 1)).astype(np.int64)

    def _times_ms(self, time: npt.NDArray[np.uint32]) -> Ints:
        # Stored modulo 2**32; the difference to the latest time is exact.
        latest = np.uint32(self._latest_ms % (1 << 32))
        return self._latest_ms - (latest - time).astype(np.int64)

    def _make_room(self, size: int) -> None:
        if self._rows + size > len(self._ring):
            self._resize(max(self._rows + size, len(self._ring) * 5 // 4))
        while self._rows + size > _ROWS_A_BUCKET * len(self._buckets):
            # Two buckets now lead to the rows of one; later rows are in one or the other.
            self._buckets = np.tile(self._buckets, 2)

    def _resize(self, capacity: int) -> None:
        ring = np.empty(capacity, _ROW)
        # As plain numbers, which are copied several times faster than fields.
        old, new = self._ring.view((np.uint64, 3)), ring.view((np.uint64, 3))
        tail = (self._at - self._rows) % len(old)
        fitting = min(self._rows, len(old) - tail)
        new[:fitting] = old[tail : tail + fitting]
        new[fitting : self._rows] = old[: self._rows - fitting]
        self._ring, self._at = ring, self._rows % capacity

    def _move_to(self, watermark_ms: int) -> None:
        if watermark_ms - self._latest_ms >= self._window_ms + self._step_ms:
            self._rows = 0  # all too old, and some times might be ambiguous modulo 2**32
        self._latest_ms = max(self._latest_ms, watermark_ms)
        start = (watermark_ms - self._window_ms + 1) // self._step_ms
        if start > self._start:
            self._start = start
            for part in [part for part in self._counts if part < start]:
                self._count -= self._counts.pop(part)
            self._drop()

    def _forget_oldest(self) -> None:
        part = min(self._counts)
        size = self._counts.pop(part)
        self._count -= size
        self.forgotten += size
        self._start = self._floor = part + 1
        self._drop()

    def _drop(self) -> None:
        """Move the tail to the first row that is still needed."""
        start_ms = self._start * self._step_ms
        while self._rows:
            tail = (self._at - self._rows) % len(self._ring)
            end = min(tail + min(self._rows, _DROP_ROWS), len(self._ring))
            rows = self._ring[tail:end]
            needed = np.flatnonzero(self._times_ms(rows["time"]) >= start_ms)
            if not len(needed):
                self._rows -= len(rows)
            elif self._rows <= 2 * self._count + _ROWS_MIN:
                self._rows -= int(needed[0])
                break
            else:  # few needed rows keep many old ones in the ring: move them to its front
                newest = self._find(rows["low"][needed], rows["high"][needed]) == tail + needed
                moved = rows[needed[newest]]
                self._rows -= len(rows)
                self._append(moved["low"], moved["high"], moved["time"])
        if len(self._ring) > max(4 * self._rows, _ROWS_MIN):
            self._resize(max(2 * self._rows, _ROWS_MIN))


def _sharing(bucket: Ints, buckets: npt.NDArray[np.uint32], number: npt.NDArray[np.uint32]) -> Ints:
    """Write each row's number into its bucket; return the rows that share one with another row.

    Numbers rise by one from row to row, modulo 2**32; a bucket ends with the number of its last
    row.
    """
    buckets[bucket] = number
    last = buckets[bucket]
    overwritten = np.flatnonzero(last != number)
    if not len(overwritten):
        return overwritten
    return np.union1d(overwritten, last[overwritten] - number[0])


def _repetitions(low: Hashes) -> Ints:
    """Return in order the rows whose hash occurs more than once, and maybe some more."""
    # Eight times as many buckets as rows: few rows share one by chance, and only those are sorted.
    bits = (8 * len(low)).bit_length()
    bucket = (low & np.uint64((1 << bits) - 1)).astype(np.int64)
    number = np.arange(len(low), dtype=np.uint32)
    shared = _sharing(bucket, np.empty(1 << bits, np.uint32), number)
    _, group, sizes = np.unique(low[shared], return_inverse=True, return_counts=True)
    return shared[sizes[group] > 1]
