"""Duplicates by their definition: which names arrived before, one event at a time."""

from collections import defaultdict, deque
from collections.abc import Hashable, Sequence
from typing import TypeVar

from streams.state.slices import HORIZON_S

NEWEST_MAX = 4_096
T = TypeVar("T")


def is_duplicate(
    before: list[tuple[T, int]], request_id: T, watermark_ms: int, window_ms: int
) -> bool:
    """`before`: (identity, time) of the valid events that came before."""
    return any(one == request_id and at > watermark_ms - window_ms for one, at in before)


def arrival_step_ms(window_ms: int) -> int:
    """The parts of a window to which arrivals are rounded down: a 16th, rounded up to 32 of its
    512 parts."""
    return 32 * max(32, -(-window_ms // 512))


def find_duplicates(
    names: Sequence[Hashable],
    arrived_ms: Sequence[int],
    before_ms: Sequence[int],
    window_ms: int,
    set_back_at: int = 0,
) -> list[bool]:
    """Which events have the name of one that arrived before, within the window and a part.

    `before_ms`: the watermark before each; `arrived_ms`: after it, -1 if it was not settled.
    `set_back_at`: the place before which an operator set the watermark back.
    """
    step_ms = arrival_step_ms(window_ms)
    settled_ms = next((at for at in arrived_ms if at >= 0), -1)
    parts_ms: list[int] = []  # of each event so far
    places: defaultdict[Hashable, list[int]] = defaultdict(list)  # of the events with a name
    found = []
    for place, (name, at_ms) in enumerate(zip(names, arrived_ms, strict=True)):
        if at_ms >= 0 and at_ms - before_ms[place] > step_ms:
            for moved in _moved(parts_ms, before_ms[place], window_ms):
                if moved >= set_back_at or place < set_back_at:
                    parts_ms[moved] = at_ms - at_ms % step_ms
        before = [(name, parts_ms[other]) for other in places[name]]
        found.append(
            bool(before) and (at_ms < 0 or is_duplicate(before, name, at_ms, window_ms + step_ms))
        )
        counted_ms = settled_ms if at_ms < 0 else at_ms
        parts_ms.append(counted_ms - counted_ms % step_ms)
        places[name].append(place)
    return found


def earliest_part_ms(watermark_ms: int, window_ms: int) -> int:
    """The begin of the earliest part of arrival that is still kept, if a part begins there."""
    step_ms = arrival_step_ms(window_ms)
    return (watermark_ms - window_ms - step_ms + 1) // (step_ms // 32) * (step_ms // 32)


def _moved(parts_ms: Sequence[int], watermark_ms: int, window_ms: int) -> list[int]:
    """The places of events that arrive again as the next one moves this watermark far."""
    earliest_ms = earliest_part_ms(watermark_ms, window_ms)
    newest = range(max(0, len(parts_ms) - NEWEST_MAX), len(parts_ms))
    return [place for place in newest if parts_ms[place] >= earliest_ms]


class RecentArrivals:
    """The names that arrived within the window, one event at a time, of a settled watermark."""

    def __init__(self, window_ms: int) -> None:
        self._window_ms, self._step_ms = window_ms, arrival_step_ms(window_ms)
        self._parts: dict[Hashable, int] = {}  # name -> part of its latest arrival
        self._newest: deque[tuple[Hashable, int]] = deque(maxlen=NEWEST_MAX)  # names, and ends

    def is_duplicate(self, name: Hashable, ended_ms: int, watermark_ms: int) -> bool:
        """Whether the name of the next event arrived before. `watermark_ms`: before it."""
        arrived_ms = max(watermark_ms, ended_ms)
        part = arrived_ms // self._step_ms
        if arrived_ms - watermark_ms > self._step_ms:
            self._move(part, watermark_ms)
        # Too old beside an end in a far year, which only some limits accept: no duplicates.
        if self._is_too_old(ended_ms, part):
            return False
        before = self._parts.get(name)
        self._parts[name] = part
        self._newest.append((name, ended_ms))
        oldest_ms = arrived_ms - self._window_ms - self._step_ms
        return before is not None and before * self._step_ms > oldest_ms

    def forget(self, watermark_ms: int) -> None:
        """Free the memory of names that arrived before the window."""
        earliest = earliest_part_ms(watermark_ms, self._window_ms) // self._step_ms
        self._parts = {name: part for name, part in self._parts.items() if part >= earliest}

    def _move(self, part: int, watermark_ms: int) -> None:
        earliest_ms = earliest_part_ms(watermark_ms, self._window_ms)
        for name, ended_ms in reversed(self._newest):
            before = self._parts.get(name, -1)
            if self._is_too_old(ended_ms, part) or before * self._step_ms < earliest_ms:
                break
            self._parts[name] = part

    def _is_too_old(self, ended_ms: int, part: int) -> bool:
        return ended_ms < (part + 1) * self._step_ms - HORIZON_S * 1_000
