"""Whether the alert rules notify a person, in words. Pure."""

from collections.abc import Iterable, Sequence

from exporters import formatting as fmt
from exporters.board.facts import Incident, Notification, PastIncident, Severity
from slo.alert_state import AlertState

NOT_NOTIFIED = "Not paged"
_DAY_S = 86_400.0
_PLACES_MAX = 2  # in the banner
_STATE_RANK = {"firing": 0, "pending": 1, "expected": 2, "none": 3}


def incident_key(alert: str, *place: str) -> str:
    """Return the key of an incident: its alert, and the place of the alert."""
    return "|".join((alert, *place))


def notification_of(states: Iterable[AlertState]) -> Notification:
    """Return the notification of an incident's alerts: the one that fires first."""
    # An alert that fires already is before all pending ones.
    first = min(
        states,
        key=lambda state: (state.firing_since_s is None, state.fires_at_s),
        default=None,
    )
    if first is None:
        return Notification()
    return Notification(
        "pending" if first.firing_since_s is None else "firing", float(first.fires_at_s)
    )


def notification_words(incident: Incident, now_s: float) -> str:
    """Return `Paging since 20:54 UTC`, `Would page in 40 s`, `Ticket since ...` or `Not paged`.

    `Would page in about 9 min` if no rule holds yet, and one will.
    """
    notification, is_page = incident.notification, _is_page(incident)
    # No rule stands behind it, so no person can be notified of it.
    if incident.severity == "info":
        return "Note"
    if notification.at_s is None:
        return NOT_NOTIFIED
    if notification.state == "firing":
        return f"{'Paging' if is_page else 'Ticket'} since {since_text(notification.at_s, now_s)}"
    ahead_s = max(round(notification.at_s - now_s), 0)
    ahead = fmt.whole_span(ahead_s)
    if notification.state == "expected":
        ahead = fmt.about_span(ahead_s)
    return f"Would page in {ahead}" if is_page else f"Ticket in {ahead}"


def _is_page(incident: Incident) -> bool:
    return (incident.notification.severity or incident.severity) == "page"


def notification_tone(incident: Incident) -> Severity:
    """Return the severity that the notification of an incident is shown with.

    If no person is notified, its colour must not say so.
    """
    if incident.notification.state == "none":
        return "info"
    return incident.notification.severity or incident.severity


def overall_notification(incidents: Sequence[Incident], now_s: float) -> str:
    """Return the words of the most urgent notification of all incidents, the most urgent first.

    They name its alert and places if it is not about the first incident, which the headline
    describes: `Paging since 20:54 UTC: TokenpulseOutage (region eu-west-1, over)`.
    """
    first = min(
        (incident for incident in incidents if incident.notification.state != "none"),
        key=lambda incident: (
            not _is_page(incident),
            _STATE_RANK[incident.notification.state],
            incident.notification.at_s,
        ),
        default=None,
    )
    if first is None:
        return NOT_NOTIFIED
    words = notification_words(first, now_s)
    if first is incidents[0] or not first.alert:
        return words
    about = [f"{of.replace('_', ' ')} {name}" for of, name in first.where[:_PLACES_MAX]]
    about += ["over"] if first.is_over else ["recovering"] if first.is_recovering else []
    return f"{words}: {first.alert}" + (f" ({', '.join(about)})" if about else "")


def past_notification(past: PastIncident) -> str:
    """Return whether a person was notified of an incident that ended: `Paged 20:54:10`."""
    if past.firing_since_s is None:
        return NOT_NOTIFIED
    word = "Paged" if past.severity == "page" else "Ticket"
    return f"{word} {fmt.clock(past.firing_since_s)}"


def since_text(at_s: float, now_s: float) -> str:
    """Return an instant as `20:54 UTC`, with its date if it is older than a day."""
    text = f"{fmt.minute(at_s)} UTC"
    # Within a day the time alone is clear, and short enough for the banner.
    return text if now_s - at_s > _DAY_S else text.partition(" ")[2]
