"""When an alert would have been pending, firing and over: Prometheus' rules for `for`.

Pure. One evaluation after another, with its time:

    holds      no  yes yes yes no  yes no  no  no        every 5 s, for: 10s, keep_firing_for: 10s
    pending        |------>
    firing                 |-------------------->  over

An alert that ends while it is pending never fired; one that fires goes on until its expression has
not held for `keep_firing_for`.

Source: https://prometheus.io/docs/prometheus/latest/configuration/alerting_rules/
"""

from collections.abc import Iterator
from dataclasses import dataclass

from alerts.backtest.promql import Key, Vector


@dataclass(frozen=True, slots=True)
class Episode:
    """One firing of one alert; times in seconds since 1970."""

    labels: Key  # of the expression: whom it is about
    pending_at_s: int
    fired_at_s: int
    resolved_at_s: int | None  # None: still firing at the end
    worst: float


@dataclass(slots=True)
class _Active:
    pending_at_s: int
    worst: float
    fired_at_s: int | None = None
    gone_at_s: int | None = None  # since when a firing one does not hold any more


class Timeline:
    """The life of one rule's alerts."""

    def __init__(self, for_s: int, keep_firing_s: int, is_ceiling: bool) -> None:
        """`is_ceiling`: whether larger values are the worse ones."""
        self._for_s, self._keep_firing_s = for_s, keep_firing_s
        self._worse = max if is_ceiling else min
        self._active: dict[Key, _Active] = {}
        self.episodes: list[Episode] = []  # those that are over
        self.unfired = 0  # how often it held, but not for long enough

    def step(self, now_s: int, holding: Vector) -> None:
        """One evaluation; times rise."""
        for key, value in holding.items():
            active = self._active.setdefault(key, _Active(now_s, value))
            active.worst = self._worse(active.worst, value)
            active.gone_at_s = None
            if active.fired_at_s is None and now_s - active.pending_at_s >= self._for_s:
                active.fired_at_s = now_s
        for key in [key for key in self._active if key not in holding]:
            active = self._active[key]
            if active.fired_at_s is None:
                self.unfired += 1
                del self._active[key]
                continue
            if active.gone_at_s is None:
                active.gone_at_s = now_s
            if now_s - active.gone_at_s >= self._keep_firing_s:
                self.episodes.append(_episode(key, active, active.fired_at_s, now_s))
                del self._active[key]

    def all_episodes(self) -> Iterator[Episode]:
        """Those that are over, and those that still fire."""
        yield from self.episodes
        for key, active in self._active.items():
            if active.fired_at_s is not None:
                yield _episode(key, active, active.fired_at_s, None)


def _episode(key: Key, active: _Active, fired_at_s: int, resolved_at_s: int | None) -> Episode:
    return Episode(key, active.pending_at_s, fired_at_s, resolved_at_s, active.worst)
