"""The firings of one rule over a recording, collected from the evaluator's states. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from alerts.evaluation.matrix import Floats
from slo.alert_state import AlertState, SampleKey, sample_key


@dataclass(frozen=True, slots=True)
class Episode:
    """One firing of one alert; times in seconds since 1970."""

    labels: SampleKey  # of the expression
    pending_at_s: int
    fired_at_s: int
    resolved_at_s: int | None  # None: still firing at the end
    worst: float


class AlertTimeline:
    """The alerts of one rule, from the first evaluation to the last."""

    def __init__(self, is_ceiling: bool) -> None:
        """`is_ceiling`: larger values are worse."""
        self._worse = max if is_ceiling else min
        self._active: dict[SampleKey, AlertState] = {}
        self._worst: dict[SampleKey, float] = {}
        self._resolved: list[Episode] = []
        self.unfired = 0  # times that the rule was pending, but not long enough to fire

    def add(self, now_s: int, states: Iterable[AlertState]) -> None:
        """Take the active alerts of one evaluation; call it with rising times."""
        active = {sample_key(state.series): state for state in states}
        # An alert that is not active any more has resolved, or was pending for too short a time.
        for key in self._active.keys() - active.keys():
            worst = self._worst.pop(key)
            if self._active[key].firing_since_s is None:
                self.unfired += 1
            else:
                self._resolved.append(_episode(key, self._active[key], now_s, worst))
        # The worst value is that of the whole firing, its pending time included.
        for key, state in active.items():
            self._worst[key] = self._worse(self._worst.get(key, state.value), state.value)
        self._active = active

    def worsen(self, key: SampleKey, values: Floats) -> None:
        """Take further values of an alert that is active, until its next change."""
        worst = values.max() if self._worse is max else values.min()
        self._worst[key] = self._worse(self._worst[key], float(worst))

    def episodes(self) -> list[Episode]:
        """Return all firings in order, also those that still last."""
        firing = [
            _episode(key, state, None, self._worst[key])
            for key, state in self._active.items()
            if state.firing_since_s is not None
        ]
        return sorted(
            self._resolved + firing, key=lambda episode: (episode.fired_at_s, episode.labels)
        )


def _episode(key: SampleKey, state: AlertState, resolved_at_s: int | None, worst: float) -> Episode:
    assert state.firing_since_s is not None
    pending_at_s, fired_at_s = int(state.pending_since_s), int(state.firing_since_s)
    return Episode(key, pending_at_s, fired_at_s, resolved_at_s, worst)
