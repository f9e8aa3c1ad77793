"""What the totals were a while ago, to see what rises. Pure; kept in memory only."""

from collections import deque
from collections.abc import Hashable, Mapping

EVERY_S = 5.0
SPAN_S = 15 * 60.0


class RecentTotals:
    """Totals over the last quarter of an hour."""

    def __init__(self) -> None:
        self._noted: deque[tuple[float, Mapping[Hashable, int]]] = deque()
        self._now: tuple[float, Mapping[Hashable, int]] = (0.0, {})

    def note(self, now_s: float, totals: Mapping[Hashable, int]) -> None:
        """What the totals are now."""
        self._now = now_s, totals
        if not self._noted or now_s - self._noted[-1][0] >= EVERY_S:
            self._noted.append((now_s, totals))
        while self._noted[0][0] < now_s - SPAN_S:
            self._noted.popleft()

    def rise(self, key: Hashable, span_s: float = SPAN_S) -> int:
        """By how much a total rose over a span, or since the first note; 0 if it fell."""
        now_s, totals = self._now
        before = next((held for at_s, held in self._noted if at_s >= now_s - span_s), totals)
        return max(totals.get(key, 0) - before.get(key, 0), 0)

    def risen(self, kind: str) -> dict[str, int]:
        """Rises of all totals of one kind, keys being (kind, name)."""
        found = {
            key[1]: self.rise(key)
            for key in self._now[1]
            if isinstance(key, tuple) and key[0] == kind
        }
        return {name: rise for name, rise in found.items() if rise}

    def grows(self, key: Hashable, at_least_s: float) -> bool:
        """Whether a total was larger in the later half of the time it was watched."""
        held = [(at_s, totals[key]) for at_s, totals in self._noted if key in totals]
        if not held or self._now[0] - held[0][0] < at_least_s:
            return False
        values = [value for _, value in held]
        half = len(values) // 2
        return sum(values[half:]) * half > sum(values[:half]) * (len(values) - half)
