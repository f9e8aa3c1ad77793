"""Where the live board, Prometheus and Alertmanager contradict each other.

Pure. Prometheus sees a page of the exporter up to one scrape after the board, and evaluates it up
to one evaluation later:

    board        . . . x x x x x . . . .
    Prometheus   . . . . . . x x x x x .
                       |----| lag
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from exporters.board.live.page import OVERALL_WORDS
from tests.support.truth_watch import BoardView, Moment, RuleAlert, Shown

SCRAPE_S = EVALUATION_S = 5.0  # of the shipped configuration
REFRESH_S = 1.0  # of the board
NOTIFY_S = 7.0  # Alertmanager waits five seconds for more alerts of the group
_RANK = {"breached": 0, "at_risk": 1, "unknown": 2, "ok": 3}
_STATE_OF = {"page": "breached", "ticket": "at_risk"}
# What the banner says of an alert that fires, or of one that is more urgent.
_NOTIFIED = {"page": ("Paging since",), "ticket": ("Paging since", "Would page", "Ticket since")}
# An incident about one of the second says also that the first holds.
_SAID_WITH = {
    "TokenpulseObjectiveMissed": ("TokenpulseErrorBudgetBurn",),
    # The fleet's alert names the cell, and Alertmanager sends no page about the cell beside it.
    "TokenpulseModelSlowInRegion": ("TokenpulseTtftHigh", "TokenpulseTpotHigh"),
}


@dataclass(frozen=True, slots=True)
class Contradiction:
    """One contradiction at one moment (epoch s)."""

    kind: str
    at_s: float
    about: str


class Truth:
    """The moments of one run, in the order of time."""

    def __init__(self, moments: Sequence[Moment]) -> None:
        """`moments`: what was seen, at rising times."""
        self._moments = moments
        self._times = [moment.at_s for moment in moments]
        # On a busy machine, looks and refreshes are farther apart.
        looks = [later - earlier for earlier, later in pairwise(self._times)]
        ages = [moment.at_s - moment.board.made_at_s for moment in moments]
        self.sight_s = REFRESH_S + max(*looks, *ages)
        self.lag_s = SCRAPE_S + EVALUATION_S + self.sight_s

    def contradictions(self) -> list[Contradiction]:
        """Return all, in the order of time."""
        checks = (
            self._unnamed,
            self._green_banner,
            self._unknown_to_rules,
            self._unsent,
            self._other_page,
            _greener,
        )
        # Both ends miss the other half of the comparison.
        begin_s, end_s = self._times[0] + self.lag_s, self._times[-1] - self.lag_s - NOTIFY_S
        inner = [moment for moment in self._moments if begin_s < moment.at_s < end_s]
        return [
            Contradiction(kind, moment.at_s, about)
            for moment in inner
            for check in checks
            for kind, about in check(moment)
        ]

    def summary(self) -> list[str]:
        """Return one line for each contradiction: when, for how many looks, and about what."""
        begin_s, lines = self._times[0], dict[tuple[str, str], list[float]]()
        for found in self.contradictions():
            lines.setdefault((found.kind, found.about), []).append(found.at_s - begin_s)
        return [
            f"{kind}, at {times[0]:.0f} to {times[-1]:.0f} s, {len(times)} looks: {about}"
            for (kind, about), times in lines.items()
        ]

    def _near(self, from_s: float, to_s: float) -> Sequence[Moment]:
        """Return the moments of a stretch of time."""
        return self._moments[bisect_left(self._times, from_s) : bisect_left(self._times, to_s)]

    def _boards(self, moment: Moment) -> list[BoardView]:
        """Return the boards whose samples Prometheus may have evaluated at a moment."""
        near = self._near(moment.at_s - self.lag_s, moment.at_s + self.sight_s)
        return [other.board for other in near]

    def _unnamed(self, moment: Moment) -> Iterator[tuple[str, str]]:
        """Yield the alerts that fire in Prometheus and that no incident of the board names."""
        shown = [incident for board in self._boards(moment) for incident in board.incidents]
        for alert in moment.rules:
            if alert.is_firing and not any(_is_about(incident, alert) for incident in shown):
                yield "an alert fires that the board does not name", _label_words(alert)

    def _green_banner(self, moment: Moment) -> Iterator[tuple[str, str]]:
        """Yield the alerts that fire in Prometheus under a banner that looks better."""
        boards = self._boards(moment)
        for alert in moment.rules:
            if not alert.is_firing:
                continue
            # An alert that is only kept firing is about the past, so the banner need not be red.
            worst = "at_risk" if alert.is_kept else _STATE_OF[alert.severity]
            if all(_RANK[board.state] > _RANK[worst] and not board.is_stale for board in boards):
                yield "the banner is greener than an alert", _label_words(alert)
            words = _NOTIFIED[alert.severity]
            if not any(board.notification.startswith(words) for board in boards):
                yield "the banner does not say who is notified", _label_words(alert)

    def _unknown_to_rules(self, moment: Moment) -> Iterator[tuple[str, str]]:
        """Yield the incidents said to notify a person whose alert does not fire in Prometheus."""
        later = self._near(moment.at_s - self.sight_s, moment.at_s + self.lag_s)
        firing = {
            (alert.name, alert.severity)
            for other in later
            for alert in other.rules
            if alert.is_firing
        }
        for incident in moment.board.incidents:
            said = incident.notification == "firing"
            if said and (incident.alert, incident.severity) not in firing:
                yield "the board notifies and Prometheus does not", f"{incident.alert}"

    def _unsent(self, moment: Moment) -> Iterator[tuple[str, str]]:
        """Yield differences between `Paging since` and the pages that Alertmanager sends."""
        if moment.board.notification.startswith("Paging since"):
            later = self._near(moment.at_s - self.sight_s, moment.at_s + self.lag_s + NOTIFY_S)
            if not any(map(_paging, later)):
                alerts = sorted({str(incident.alert) for incident in moment.board.incidents})
                yield "the board says paging and Alertmanager pages no one", ", ".join(alerts)
        pages = _paging(moment)
        boards = self._boards(moment)
        if pages and not any(board.notification.startswith("Paging since") for board in boards):
            yield "Alertmanager pages and the board does not say so", ", ".join(pages)

    def _other_page(self, moment: Moment) -> Iterator[tuple[str, str]]:
        """Yield a banner in the HTML of the page that is not that of the facts."""
        if moment.shown is None:
            return
        verdict, notification = moment.shown
        near = self._near(moment.at_s - self.sight_s, moment.at_s + 2 * self.sight_s)
        # Healthy boards without incidents leave `Not paged` out.
        banners = {(OVERALL_WORDS[other.board.state], other.board.notification) for other in near}
        # Between the two answers the board may have lost its numbers; it says so in other words.
        is_known = verdict in set(OVERALL_WORDS.values()) - {OVERALL_WORDS["unknown"]}
        if is_known and (verdict, notification or "Not paged") not in banners:
            yield "the page differs from its facts", f"{verdict}, {notification}"

    def minutes(self) -> list[str]:
        """Return one line a minute: banner, incidents, alerts of Prometheus, Alertmanager."""
        lines, next_s = [], self._times[0]
        for moment in self._moments:
            if moment.at_s < next_s:
                continue
            next_s = moment.at_s + 60
            incidents = (
                f"{incident.alert} {'over' if incident.is_over else incident.notification}"
                for incident in moment.board.incidents
            )
            rules = (
                f"{alert.name} {'kept' if alert.is_kept else 'firing'}"
                for alert in moment.rules
                if alert.is_firing
            )
            lines.append(
                f"{moment.at_s - self._times[0]:4.0f} s  {moment.board.state}, "
                f"{moment.board.notification} | board: {', '.join(incidents)} | Prometheus: "
                f"{', '.join(rules)} | Alertmanager pages: {', '.join(_paging(moment))}"
            )
        return lines


def first_named(
    moments: Sequence[Moment], start_s: float, is_named: Callable[[Shown], bool]
) -> tuple[float, Shown] | None:
    """Return after how many seconds an incident names a fault, and the incident."""
    for moment in moments:
        for incident in moment.board.incidents:
            if moment.at_s >= start_s and is_named(incident):
                return moment.at_s - start_s, incident
    return None


def _greener(moment: Moment) -> Iterator[tuple[str, str]]:
    """Yield a banner that is better than a card, an objective or an incident below it."""
    board = moment.board
    if board.is_stale:
        return
    states = {part for part in board.parts if part in _STATE_OF.values()}
    for incident in board.incidents:
        if incident.severity in _STATE_OF:
            states.add("at_risk" if incident.is_over else _STATE_OF[incident.severity])
    worst = min(states, key=_RANK.__getitem__, default="ok")
    if _RANK[board.state] > _RANK[worst]:
        yield "the banner is greener than what is below it", f"{board.state}, below {worst}"


def _paging(moment: Moment) -> list[str]:
    """Return the pages that Alertmanager sends."""
    sent = [alert for alert in moment.pager if alert.severity == "page" and not alert.is_silent]
    return sorted({alert.name for alert in sent})


def _is_about(incident: Shown, alert: RuleAlert) -> bool:
    """Return whether an incident names an alert and says that it fires.

    A page that is pending says more than the ticket about the same objective that fires already.
    """
    is_firing = incident.notification == "firing"
    is_before_page = alert.severity == "ticket" and incident.severity == "page"
    names = alert.name, *_SAID_WITH.get(alert.name, ())
    return incident.alert in names and (is_firing or is_before_page)


def _label_words(alert: RuleAlert) -> str:
    kept = ", kept" if alert.is_kept else ""
    labels = (f"{name}={value}" for name, value in alert.labels if name not in ("job", "route"))
    return f"{alert.severity}{kept} {' '.join(labels)}"
