"""The messages that Alertmanager would have sent about the alerts of a backtest. Pure.

A group is the alerts of one route with equal labels of `group_by`. It sends `group_wait` after its
first alert, and later at each `group_interval` if an alert is new, one has ended, or
`repeat_interval` has passed:

    alert A  fires-----------------------------ends
    alert B              fires------------------------ends
    group    ....|........|........|........|........|........|
                 new      more                                resolved

Alerts that an inhibition silences are in no message. Alerts arrive as they fire: the 7 s of the
pipeline and of Alertmanager are not included.
"""

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from alerts.backtest.alertmanager import AlertmanagerConfig, Labels, Route, match_all

Kind = Literal["new", "more", "repeat", "resolved"]


@dataclass(frozen=True, slots=True)
class FiredAlert:
    """One firing of one alert, as Alertmanager gets it; times in seconds since 1970."""

    labels: Labels  # those of the rule too, with `alertname`
    fired_at_s: float
    resolved_at_s: float = math.inf  # if it still fires at the end


@dataclass(frozen=True, slots=True)
class Message:
    """One message to a receiver."""

    at_s: float
    receiver: str
    kind: Kind
    group: Labels
    alerts: tuple[int, ...]  # places of the firing alerts in it
    added: tuple[int, ...]  # of these, the alerts that the message before did not have


@dataclass(frozen=True, slots=True)
class Notifications:
    """All messages in the order of time, and the alerts that were in none."""

    messages: tuple[Message, ...]
    silenced: tuple[int, ...]  # places of the alerts


def simulate(
    config: AlertmanagerConfig, alerts: Sequence[FiredAlert], end_s: float
) -> Notifications:
    """Return the messages until `end_s`."""
    simulation = _Simulation(config, alerts, end_s)
    messages = sorted(
        (message for message in simulation.messages() if message.receiver in config.receivers),
        key=lambda message: (message.at_s, message.receiver),
    )
    sent = {place for message in messages for place in message.alerts}
    return Notifications(
        tuple(messages), tuple(place for place in range(len(alerts)) if place not in sent)
    )


@dataclass(slots=True)
class _Group:
    """The alerts of one group of a route, and what its last message had."""

    route: Route
    places: list[int] = field(default_factory=list)  # in the order in which they fired
    sent: frozenset[int] = frozenset()
    sent_at_s: float = -math.inf


class _Simulation:
    def __init__(
        self, config: AlertmanagerConfig, alerts: Sequence[FiredAlert], end_s: float
    ) -> None:
        self._config, self._alerts, self._end_s = config, alerts, end_s
        # Inhibitions reach over groups, so any start or end may change a message.
        self._changes_s = sorted(
            {at_s for alert in alerts for at_s in (alert.fired_at_s, alert.resolved_at_s)}
        )
        self._sources = self._find_sources()

    def _find_sources(self) -> Mapping[int, list[int]]:
        """Return the alerts that silence each alert while they fire."""
        sources: defaultdict[int, list[int]] = defaultdict(list)
        for rule in self._config.inhibitions:
            by_equal: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
            for place, alert in enumerate(self._alerts):
                if match_all(rule.source, alert.labels):
                    by_equal[rule.equal_values(alert.labels)].append(place)
            for place, alert in enumerate(self._alerts):
                if match_all(rule.target, alert.labels):
                    is_both = rule.is_on_both_sides(alert.labels)
                    sources[place] += [
                        other
                        for other in by_equal[rule.equal_values(alert.labels)]
                        if not (is_both and rule.is_on_both_sides(self._alerts[other].labels))
                    ]
        return sources

    def messages(self) -> Iterator[Message]:
        """Yield the messages, group after group."""
        groups: dict[tuple[int, tuple[tuple[str, str], ...]], _Group] = {}
        for place in sorted(range(len(self._alerts)), key=lambda at: self._alerts[at].fired_at_s):
            for route in self._config.route.leaves(self._alerts[place].labels):
                key = id(route), route.group_key(self._alerts[place].labels)
                groups.setdefault(key, _Group(route)).places.append(place)
        for group in groups.values():
            yield from self._of_group(group)

    def _of_group(self, group: _Group) -> Iterator[Message]:
        waiting = group.places
        while waiting:
            # A group ends with its last alert; a later alert begins it anew, with its wait.
            begin_s = self._alerts[waiting[0]].fired_at_s
            at_s: float = begin_s + group.route.group_wait_s
            while at_s <= self._end_s:
                yield from self._flush(group, waiting, at_s)
                waiting = [at for at in waiting if self._alerts[at].resolved_at_s > at_s]
                if not any(self._alerts[at].fired_at_s <= at_s for at in waiting):
                    break
                at_s = self._next_flush_s(group, at_s)
            else:
                return

    def _next_flush_s(self, group: _Group, at_s: float) -> float:
        """Return the next time, in steps of the group's interval, at which a message may differ."""
        step_s = group.route.group_interval_s
        # Whether a message is sent depends on the time of day too, so no step can be left out.
        if group.route.active is not None:
            return at_s + step_s
        after = bisect_right(self._changes_s, at_s)
        due_s = self._changes_s[after] if after < len(self._changes_s) else math.inf
        if group.sent:
            due_s = min(due_s, group.sent_at_s + group.route.repeat_s)
        # Nothing changes and nothing is repeated: the loop of the caller ends.
        if math.isinf(due_s):
            return due_s
        return at_s + max(1, math.ceil((due_s - at_s) / step_s)) * step_s

    def _flush(self, group: _Group, waiting: Sequence[int], at_s: float) -> Iterator[Message]:
        """Yield the message of a group at a time, if there is one."""
        if not group.route.is_active(at_s):
            return
        heard = [
            at
            for at in waiting
            if self._alerts[at].fired_at_s <= at_s and not self._is_silenced(at, at_s)
        ]
        if not heard:
            return
        firing = [at for at in heard if self._alerts[at].resolved_at_s > at_s]
        added = [at for at in firing if at not in group.sent]
        has_ended = any(at in group.sent for at in heard if at not in firing)
        kind: Kind
        if added:
            # After all alerts have ended, the next one is new to the reader.
            kind = "more" if group.sent.intersection(firing) else "new"
        elif has_ended:
            kind = "resolved"
        elif firing and at_s - group.sent_at_s >= group.route.repeat_s:
            kind = "repeat"
        else:
            return
        labels = dict(group.route.group_key(self._alerts[heard[0]].labels))
        group.sent, group.sent_at_s = frozenset(firing), at_s
        yield Message(at_s, group.route.receiver, kind, labels, tuple(firing), tuple(added))

    def _is_silenced(self, place: int, at_s: float) -> bool:
        return any(
            self._alerts[source].fired_at_s <= at_s < self._alerts[source].resolved_at_s
            for source in self._sources.get(place, ())
        )
