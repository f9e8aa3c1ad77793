"""Duplicates by their definition: which names arrived before, one event at a time."""

from collections import defaultdict, deque
from collections.abc import Hashable, Sequence
from typing import NamedTuple, TypeVar

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


class Arrival(NamedTuple):
    """An event and the watermark before and after it; -1 after it: not settled."""

    name: Hashable
    ended_ms: int
    before_ms: int
    after_ms: int

    def takes_part(self, part_ms: int, step_ms: int) -> bool:
        """Whether it is no event that is too old beside the end of a part of arrival."""
        return self.after_ms < 0 or self.ended_ms >= part_ms + step_ms - HORIZON_S * 1_000


def find_duplicates(log: Sequence[Arrival], window_ms: int, set_back_at: int = 0) -> list[bool]:
    """Which events have the name of one that arrived before, within the window and a part.

    `set_back_at`: the place before which an operator set the watermark back.
    """
    step_ms = arrival_step_ms(window_ms)
    settled_ms = next((one.after_ms for one in log if one.after_ms >= 0), -1)
    parts_ms: dict[int, int] = {}  # of each event that takes part, by its place
    places: defaultdict[Hashable, list[int]] = defaultdict(list)  # of the events with a name
    found = []
    for place, one in enumerate(log):
        at_ms = settled_ms if one.after_ms < 0 else one.after_ms
        part_ms = at_ms - at_ms % step_ms
        if one.after_ms - one.before_ms > step_ms:
            earliest_ms = earliest_part_ms(one.before_ms, window_ms)
            newest = [at for at in parts_ms if at >= set_back_at or place < set_back_at]
            for other in reversed(newest[-NEWEST_MAX:]):
                if parts_ms[other] < earliest_ms or not log[other].takes_part(part_ms, step_ms):
                    break
                parts_ms[other] = part_ms
        if not one.takes_part(part_ms, step_ms):
            found.append(False)
            continue
        before = [(one.name, parts_ms[other]) for other in places[one.name]]
        is_known = is_duplicate(before, one.name, at_ms, window_ms + step_ms)
        found.append(bool(before) and (one.after_ms < 0 or is_known))
        parts_ms[place] = part_ms
        places[one.name].append(place)
    return found


def earliest_part_ms(watermark_ms: int, window_ms: int) -> int:
    """The begin of the earliest part of arrival that is still kept, if a part begins there."""
    step_ms = arrival_step_ms(window_ms)
    return (watermark_ms - window_ms - step_ms + 1) // (step_ms // 32) * (step_ms // 32)


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
