"""Alerts that are kept firing after their condition ended, in words. Pure.

`keep_firing_for` keeps the page of a short recovery open, so that its return wakes no one again:

    condition    x x x x . . . . . . .
    alert          |------------------->    over
    incident     |------>|-- this one -->

The incident itself has ended, and is in the list of those. But a person is notified still, so the
banner must not be green, and says since when.
"""

from collections.abc import Iterator, Sequence

from exporters import formatting as fmt
from exporters.board.alerts import URGENCY, ActiveAlerts, severity_of
from exporters.board.facts import Incident
from exporters.board.incidents.notifications import incident_key, notification_of, since_text
from slo.alert_state import AlertState

_NOT_A_PLACE = {"scope"}  # the kind of the place that another label names


def kept_incidents(
    alerts: ActiveAlerts, shown: Sequence[Incident], now_s: float
) -> Iterator[Incident]:
    """Yield one incident for each alert that is kept firing, the most urgent first.

    `shown`: the incidents of now. Those that fire for the same alert in the same place say more.
    """
    firing = [incident for incident in shown if incident.notification.state == "firing"]
    kept: dict[tuple[str, str], list[AlertState]] = {}
    for state in sorted(alerts.kept, key=lambda state: URGENCY[severity_of(state)]):
        if not any(_is_about(incident, state) for incident in firing):
            kept.setdefault((state.alert, state.severity), []).append(state)
    for (alert, severity), states in kept.items():
        yield Incident(
            severity_of(states[0]),
            _words(states, now_s),
            alert,
            alert,
            incident_key("kept", alert, severity),
            notification_of(states),
            where=tuple(dict.fromkeys(pair for state in states for pair in _places(state))),
            is_over=True,
        )


def _is_about(incident: Incident, state: AlertState) -> bool:
    """Return whether an incident has the alert, the severity and the place of a kept alert."""
    is_same = (incident.alert, incident.severity) == (state.alert, state.severity)
    return is_same and set(_places(state)) <= set(incident.where)


def _places(state: AlertState) -> list[tuple[str, str]]:
    return [pair for pair in state.series.items() if pair[0] not in _NOT_A_PLACE]


def _words(states: Sequence[AlertState], now_s: float) -> str:
    first = states[0]
    places = list(
        dict.fromkeys(
            ", ".join(" ".join(pair) for pair in _places(state))
            or state.rule_labels.get("objective", "fleet")
            for state in states
        )
    )
    ended_s = max(state.ended_at_s or now_s for state in states)
    until_s = max(state.kept_until_s or now_s for state in states)
    noun = "page" if first.severity == "page" else "ticket"
    return (
        f"Over since {since_text(ended_s, now_s)}: {first.alert} ({fmt.enumeration(places)}). "
        f"Its {noun} stays open until {since_text(until_s, now_s)}, in case the fault returns."
    )
