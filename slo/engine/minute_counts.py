"""Per-minute counts: two counts per minute and name, over the days that a period needs.

Pure, whole numbers only. `total` counts eligible or measured requests, `bad` those of
them that failed or missed the limit. Times are minutes since 1970.

Counts of one minute never fall: late events add, and no event is taken back. So of two counts of a
minute the one with the larger total is newer, and any order of merging gives the same result. Only
after an operator set a watermark back, counts are cleared and made again from the state.

Requests that only a longer stretch contains (minutes are kept for hours, hours for weeks) are in
`rest`: the count of the stretch less those of its minutes, so that sums stay exact to the event:

    minutes     5  7  0  0  0  0  0  0  0  0      the exporter stood still from 12:02 on
    rest       31                                 ten minutes from 12:00 had 43
"""

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from streams.state.tables import leb128_decode, leb128_encode

DAY = 1_440  # minutes
BLOCK = 10  # minutes of one entry of `rest`
_BLOCKS = DAY // BLOCK

Pair = tuple[int, int]  # total, bad
Flags = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]
Small = npt.NDArray[np.int32]  # half the memory, and no minute has 2**31 requests
Array = TypeVar("Array", Small, Flags)


class Completeness(IntEnum):
    """How well a minute is known."""

    NO = 0  # not counted by itself
    WHOLE = 1
    PARTLY = 2  # records of it are missing for good; never WHOLE again


@dataclass(slots=True)
class NameCounts:
    """The counts of one name."""

    counts: Small  # (minutes, 2)
    rest: Small  # (minutes / BLOCK, 2)
    version: int = 0  # rises with every change of a minute that is over


@dataclass(frozen=True, slots=True)
class MinuteSpan:
    """The minutes [begin, begin + len(seen)) of one name."""

    begin: int
    counts: Small
    rest: Small  # of the blocks that begin in the span; the first begins at `first_block`
    first_block: int  # minutes
    seen: Flags


class MinuteCounts:
    """Counts by name over a number of whole UTC days, and which of them are not stored yet."""

    def __init__(self, first_day: int, days: int) -> None:
        self.first_day, self.days = first_day, days
        self.seen: Flags = np.zeros(days * DAY, np.uint8)
        self.rows: dict[str, NameCounts] = {}
        # What changed since it was stored, by (name, day), and when (`clock`); name None: `seen`.
        self.dirty: dict[tuple[str | None, int], int] = {}
        self.clock = 0
        self.seen_version = 0
        self._day_versions: dict[tuple[str | None, int], int] = {}
        self.running = 0  # the minute that is not over yet
        # By name: before this minute, requests of it may be counted as `__other__`.
        self.folded_until: Mapping[str, float] = {}

    @property
    def begin(self) -> int:
        """First minute."""
        return self.first_day * DAY

    @property
    def end(self) -> int:
        """First minute after it."""
        return (self.first_day + self.days) * DAY

    def is_folded(self, name: str, minute: int) -> bool:
        """Return whether requests of a name at a minute may be counted as `__other__`."""
        return minute < self.folded_until.get(name, 0)

    def settled(self, name: str) -> tuple[int, int]:
        """Stays the same as long as all that is known of minutes that are over does."""
        row = self.rows.get(name)
        return self.seen_version, -1 if row is None else row.version

    def version(self, name: str, day: int) -> tuple[int, int]:
        """Stays the same as long as all that is known of a day does."""
        of = self._day_versions
        return of.get((None, day), 0), of.get((name, day), 0)

    def move(self, first_day: int) -> None:
        """Begin at a later day, and drop the counts before it."""
        shift = min(first_day - self.first_day, self.days)
        if shift <= 0:
            return
        self.first_day = first_day
        self.seen_version += 1
        self.seen = _shift(self.seen, shift * DAY)
        for name, row in list(self.rows.items()):
            row.counts = _shift(row.counts, shift * DAY)
            # Minutes and blocks move together, so that both still begin at `first_day`.
            row.rest = _shift(row.rest, shift * _BLOCKS)
            if not row.counts.any() and not row.rest.any():
                del self.rows[name]
        self.dirty = {key: at for key, at in self.dirty.items() if key[1] >= first_day}
        self._day_versions = {
            key: at for key, at in self._day_versions.items() if key[1] >= first_day
        }

    def count(self, minute: int, found: Mapping[str, Pair]) -> None:
        """Counts of one minute by name."""
        if not self.begin <= minute < self.end:
            return
        at = minute - self.begin
        for name, pair in found.items():
            row = self._row(name)
            # A smaller total is an older reading of the same minute, from before late events.
            if pair[0] >= row.counts[at, 0] and pair != tuple(row.counts[at]):
                row.counts[at] = pair
                self._mark_dirty(name, minute)

    def reconcile(self, begin: int, minutes: int, found: Mapping[str, Pair]) -> None:
        """Put counts of a longer stretch, less those of its minutes, into the rest.

        The stretch is whole blocks; finer stretches come first.
        """
        if not (self.begin <= begin and begin + minutes <= self.end):
            return
        low, high = begin - self.begin, begin - self.begin + minutes
        for name, pair in found.items():
            row = self._row(name)
            held = row.counts[low:high].sum(axis=0, dtype=np.int64) + row.rest[
                low // BLOCK : high // BLOCK
            ].sum(0)
            # Negative if a minute was counted after this slice was read: then it is right.
            missing = np.maximum(np.array(pair, np.int64) - held, 0)
            if missing[0]:
                # All of it goes into the first block: only sums over the stretch are exact.
                row.rest[low // BLOCK] += np.minimum(missing, missing[0])
                self._mark_dirty(name, begin)

    def clear(self, stretches: Iterable[tuple[int, int]], rest_begin: int) -> None:
        """Forget the counts of stretches of minutes, and the rest from `rest_begin` on."""
        cut = [tuple(min(max(at, self.begin), self.end) for at in stretch) for stretch in stretches]
        first_block = (min(max(rest_begin, self.begin), self.end) - self.begin) // BLOCK
        for name, row in self.rows.items():
            blocks = np.flatnonzero(row.rest[first_block:, 0]) + first_block
            row.rest[blocks] = 0
            changed = [blocks * BLOCK]
            for begin, end in cut:
                minutes = np.flatnonzero(row.counts[begin - self.begin : end - self.begin, 0])
                minutes += begin - self.begin
                row.counts[minutes] = 0
                changed.append(minutes)
            # Once a day: all that is known of a day changes together.
            for day in np.unique(np.concatenate(changed) // DAY).tolist():
                self._mark_dirty(name, self.begin + day * DAY)

    def see(self, begin: int, end: int) -> None:
        """These minutes were counted whole."""
        self._mark(begin, end, Completeness.NO, Completeness.WHOLE)

    def lose(self, begin: int, end: int) -> None:
        """Records of these minutes are missing for good."""
        self._mark(begin, end, Completeness.NO, Completeness.PARTLY)
        # A minute that was whole becomes partial: its records were skipped or deleted afterwards.
        self._mark(begin, end, Completeness.WHOLE, Completeness.PARTLY)

    def names(self, per: str | None) -> list[str]:
        """Return the names with a status of their own; one empty name if `per` is None."""
        return sorted(self.rows) if per else [""]

    def span(self, name: str, begin: int, end: int) -> MinuteSpan:
        """Return the minutes of one name, cut to the days that are held."""
        low, high = (min(max(one, self.begin), self.end) - self.begin for one in (begin, end))
        high = max(low, high)
        row, blocks = self.rows.get(name), slice(-(-low // BLOCK), -(-high // BLOCK))
        if row is None:
            row = NameCounts(self._nothing(high), self._nothing(blocks.stop))
        return MinuteSpan(
            begin=self.begin + low,
            counts=row.counts[low:high],
            rest=row.rest[blocks],
            first_block=self.begin + blocks.start * BLOCK,
            seen=self.seen[low:high],
        )

    def first_counted(self, name: str, begin: int, end: int) -> int | None:
        """Return the first minute of [begin, end) with a request of a name; None if there is none.

        Of requests that are known only by the block, the first minute of the block.
        """
        span = self.span(name, begin, end)
        minutes = np.flatnonzero(span.counts[:, 0])[:1] + span.begin
        blocks = np.flatnonzero(span.rest[:, 0])[:1] * BLOCK + span.first_block
        return min(map(int, (*minutes, *blocks)), default=None)

    # -- as it is stored ---------------------------------------------------------------------------

    def pack(self, name: str | None, day: int) -> bytes:
        """One day of one name, or of `seen`."""
        at = day - self.first_day
        if name is None:
            return zlib.compress(self.seen[at * DAY : (at + 1) * DAY].tobytes())
        row = self.rows.get(name)
        if row is None:
            return b""
        counts = row.counts[at * DAY : (at + 1) * DAY]
        rest = row.rest[at * _BLOCKS : (at + 1) * _BLOCKS]
        # Column by column: runs of equal numbers compress better than alternating ones.
        numbers = np.concatenate((counts.T.ravel(), rest.T.ravel())).astype(np.int64)
        return zlib.compress(leb128_encode(numbers)[0])

    def unpack(self, name: str | None, day: int, data: bytes) -> None:
        """Merge the bytes that `pack` wrote. Raises zlib.error, ValueError."""
        if not (data and self.first_day <= day < self.first_day + self.days):
            return
        at = day - self.first_day
        raw = np.frombuffer(zlib.decompress(data), np.uint8)
        if name is None:
            self.seen[at * DAY : (at + 1) * DAY] = raw
            return
        numbers = leb128_decode(raw)
        row = self._row(name)
        row.counts[at * DAY : (at + 1) * DAY] = numbers[: 2 * DAY].reshape(2, DAY).T
        row.rest[at * _BLOCKS : (at + 1) * _BLOCKS] = numbers[2 * DAY :].reshape(2, _BLOCKS).T

    def forget(self, day: int) -> None:
        """Mark the minutes of a day as unknown, as stored counts of it are damaged."""
        at = day - self.first_day
        if 0 <= at < self.days:
            self.seen[at * DAY : (at + 1) * DAY] = Completeness.NO

    def _row(self, name: str) -> NameCounts:
        if name not in self.rows:
            self.rows[name] = NameCounts(
                self._nothing(self.days * DAY), self._nothing(self.days * _BLOCKS)
            )
        return self.rows[name]

    @staticmethod
    def _nothing(length: int) -> Small:
        return np.zeros((length, 2), np.int32)

    def _mark(self, begin: int, end: int, was: Completeness, now: Completeness) -> None:
        low, high = (min(max(one, self.begin), self.end) - self.begin for one in (begin, end))
        changed = np.flatnonzero(self.seen[low:high] == was) + low
        if len(changed):
            self.seen[changed] = now
            self.seen_version += 1
            for day in np.unique(changed // DAY).tolist():
                self._mark_dirty(None, self.begin + day * DAY)

    def _mark_dirty(self, name: str | None, minute: int) -> None:
        key = name, minute // DAY
        self.dirty[key] = self.clock
        self._day_versions[key] = self._day_versions.get(key, 0) + 1
        if name is not None and minute < self.running:
            self.rows[name].version += 1


def sum_counts(parts: Iterable[Mapping[str, Pair]]) -> dict[str, Pair]:
    """Return the sums of the counts of several parts, by name."""
    sums: dict[str, Pair] = {}
    for part in parts:
        for name, (total, bad) in part.items():
            before = sums.get(name, (0, 0))
            sums[name] = (before[0] + total, before[1] + bad)
    return sums


def _shift(values: Array, by: int) -> Array:
    out = np.zeros_like(values)
    if by < len(values):
        out[: len(values) - by] = values[by:]
    return out
