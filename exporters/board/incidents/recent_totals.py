"""Rejected, overflowed and counted events of the last 15 minutes, and records that wait.

Exact numbers, for sentences. Pure; kept in memory only. The rules decide how many are too many
(alerts.py).
"""

from collections import deque
from collections.abc import Collection, Iterable, Mapping

from streams.state.slices import PROBES_AT, rejections_by_reason
from streams.store.reader import PartitionView

WAITING = "waiting"  # kind of the records that wait, by partition; unlike the others, they fall
# Fine enough for sentences; each sample holds all totals.
EVERY_S = 5.0
SPAN_S = 15 * 60.0

TotalKey = tuple[str, str]  # kind and name, as ("rejected", "not_json"); the name may be empty


class RecentTotals:
    """Samples of all totals, one every EVERY_S at most."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, Mapping[TotalKey, int]]] = deque()
        self._now: tuple[float, Mapping[TotalKey, int]] = (0.0, {})

    def add(self, now_s: float, totals: Mapping[TotalKey, int]) -> None:
        """Add the totals at `now_s`, and drop samples older than SPAN_S."""
        self._now = now_s, totals
        if not self._samples or now_s - self._samples[-1][0] >= EVERY_S:
            self._samples.append((now_s, totals))
        while self._samples[0][0] < now_s - SPAN_S:
            self._samples.popleft()

    def rise(self, key: TotalKey, span_s: float = SPAN_S) -> int:
        """Return by how much a total rose over a span, or since the first sample; 0 if it fell."""
        now_s, totals = self._now
        # The oldest sample within the span; a young exporter counts from its first one.
        before = next((past for at_s, past in self._samples if at_s >= now_s - span_s), totals)
        # A total falls only if the state is rebuilt; that is no negative rise.
        return max(totals.get(key, 0) - before.get(key, 0), 0)

    def fall_per_s(self, keys: Collection[TotalKey], span_s: float) -> float:
        """Return by how much the sum of some totals falls in a second, over a span.

        From the first sample in it that has all of them; 0 without one, and if the sum rose.
        """
        now_s, totals = self._now
        for at_s, past in self._samples:
            # Of a partition without a heartbeat it is unknown how many records wait.
            is_known = all(key in past and key in totals for key in keys)
            if now_s - span_s <= at_s < now_s and is_known:
                return max(sum(past[key] - totals[key] for key in keys), 0) / (now_s - at_s)
        return 0.0

    def rises(self, kind: str) -> dict[str, int]:
        """Return the rises above zero of all totals of one kind, by name."""
        rises = {
            name: self.rise((of_kind, name)) for of_kind, name in self._now[1] if of_kind == kind
        }
        return {name: rise for name, rise in rises.items() if rise}


def totals_of(views: Iterable[PartitionView], lags: Mapping[int, int]) -> dict[TotalKey, int]:
    """Return the totals of all partitions; `lags`: records that wait, by partition."""
    totals: dict[TotalKey, int] = {("counted", ""): 0}
    totals |= {(WAITING, str(partition)): lag for partition, lag in lags.items()}
    for view in views:
        totals["counted", ""] += int(view.totals.series.values[:, :PROBES_AT].sum())
        for dimension, count in view.meta.overflowed.items():
            totals["overflowed", dimension] = totals.get(("overflowed", dimension), 0) + count
        for reason, count in rejections_by_reason(view.totals).items():
            totals["rejected", reason] = totals.get(("rejected", reason), 0) + count
    return totals
