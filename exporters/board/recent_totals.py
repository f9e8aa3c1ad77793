"""Totals of the last 15 minutes, to see which ones rise. Pure; kept in memory only."""

from collections import deque
from collections.abc import Hashable, Mapping

EVERY_S = 5.0
SPAN_S = 15 * 60.0


class RecentTotals:
    """Samples of all totals, one every EVERY_S at most."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, Mapping[Hashable, int]]] = deque()
        self._now: tuple[float, Mapping[Hashable, int]] = (0.0, {})

    def add(self, now_s: float, totals: Mapping[Hashable, int]) -> None:
        """Add the totals at `now_s`, and drop samples older than SPAN_S."""
        self._now = now_s, totals
        if not self._samples or now_s - self._samples[-1][0] >= EVERY_S:
            self._samples.append((now_s, totals))
        while self._samples[0][0] < now_s - SPAN_S:
            self._samples.popleft()

    def rise(self, key: Hashable, span_s: float = SPAN_S) -> int:
        """Return by how much a total rose over a span, or since the first sample; 0 if it fell."""
        now_s, totals = self._now
        before = next((past for at_s, past in self._samples if at_s >= now_s - span_s), totals)
        return max(totals.get(key, 0) - before.get(key, 0), 0)

    def rises(self, kind: str) -> dict[str, int]:
        """Return the rises above zero of all totals of one kind; keys are (kind, name)."""
        rises = {
            key[1]: self.rise(key)
            for key in self._now[1]
            if isinstance(key, tuple) and key[0] == kind
        }
        return {name: rise for name, rise in rises.items() if rise}

    def grows(self, key: Hashable, at_least_s: float) -> bool:
        """Return whether a total was larger in the later half of its samples.

        False if they cover less than `at_least_s`.
        """
        samples = [(at_s, totals[key]) for at_s, totals in self._samples if key in totals]
        if not samples or self._now[0] - samples[0][0] < at_least_s:
            return False
        values = [value for _, value in samples]
        half = len(values) // 2
        # The means of both halves, without a division.
        return sum(values[half:]) * half > sum(values[:half]) * (len(values) - half)
