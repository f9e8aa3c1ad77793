"""The banner: the state of the service in one word and one sentence.

Pure. Never greener than the worst card, objective, incident or alert.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from exporters import formatting as fmt
from exporters.board.facts import (
    BreakdownRow,
    Incident,
    ObjectiveKey,
    ObjectiveRow,
    Severity,
    State,
    TileValue,
)
from exporters.board.incidents.data_quality import DataQuality
from exporters.board.objectives import RANK
from exporters.board.tiles import LAST_MINUTE, WINDOW
from exporters.place_links import OTHERS
from streams.events.fields import OTHER

_STATE_OF: Mapping[Severity, State] = {"page": "breached", "ticket": "at_risk", "info": "ok"}
_LATENCIES = ("P95 TTFT", "P95 TPOT")
_NEW_AFTER_S = 60.0  # an incident that began so much later is not the same fault
_FINDINGS_MAX = 2  # cards and objectives in one sentence


@dataclass(frozen=True, slots=True)
class Banner:
    """The state of the service, and why."""

    state: State
    headline: str


@dataclass(frozen=True, slots=True)
class _Finding:
    """A card or objective that is not met."""

    state: State
    words: str
    value: str = ""  # of a card, as its objective has them
    target: str = ""
    objective: ObjectiveKey | None = None  # None for a card


def make_banner(
    incidents: Sequence[Incident],
    quality: DataQuality,
    requests: int,
    cards: Mapping[str, TileValue],
    objectives: Sequence[ObjectiveRow],
) -> Banner:
    """Return the banner of incidents, the most urgent first; `cards` by their label."""
    # Old numbers do not describe the present, so this goes before all incidents.
    if quality.stale:
        words = quality.freshness.words
        if quality.freshness.catching_up:
            return Banner("unknown", words)
        return Banner("unknown", f"These numbers are old: {words[:1].lower()}{words[1:]}")
    findings = list(_missed_cards(cards))
    # The objective of a card is told once; that of a place, with the same numbers, is another.
    told = {(card.state, card.value, card.target) for card in findings}
    findings += [
        finding
        for finding, row in _missed_objectives(objectives)
        if row.scope != "fleet" or (row.state, row.value, row.target) not in told
    ]
    states = [_state_of(incident) for incident in incidents]
    states += [finding.state for finding in findings]
    worst: State = min(states, key=lambda state: RANK[state], default="ok")
    is_explained = any(_state_of(incident) == worst for incident in incidents)
    if worst == "ok" and not requests:
        return Banner("unknown", _silence(quality, incidents))
    if worst == "ok":
        note = f" Note: {incidents[0].words}" if incidents else ""
        if quality.freshness.no_news:
            note = f" {quality.freshness.words}"
        return Banner("ok", f"{_calm(cards)}{note}")
    if is_explained:
        return Banner(worst, _listed(incidents))
    # No incident explains the colour: the cards and objectives of this state do.
    reasons = [finding for finding in findings if finding.state == worst]
    # The incidents of an objective that the sentence names are no others.
    named = {finding.objective for finding in reasons[:_FINDINGS_MAX]} - {None}
    others = [incident for incident in incidents if incident.objective not in named]
    words = _reasons([finding.words for finding in reasons])
    return Banner(worst, words + (_also(others) if others else ""))


def _state_of(incident: Incident) -> State:
    """Return the state that an incident gives the service.

    One that is over has no present, but its open page must not look healthy.
    """
    if incident.is_over and incident.severity == "page":
        return "at_risk"
    return _STATE_OF[incident.severity]


def with_incident_states(
    rows: Iterable[BreakdownRow], dimension: str, incidents: Sequence[Incident]
) -> tuple[BreakdownRow, ...]:
    """Return the rows of a dimension, none greener than the incidents of its place; worst first.

    No measure of a row has a target for its cache, so only an incident shows that it fails.
    """
    states: dict[str, State] = {}
    for incident in incidents:
        # A model in one region says little of the whole region.
        if {of for of, _ in incident.where} != {dimension}:
            continue
        for _, name in incident.where:
            shown = OTHERS if name == OTHER else name
            states[shown] = _worst(_state_of(incident), states.get(shown, "ok"))
    raised = [
        replace(row, state=_worst(states[row.name], row.state))
        if states.get(row.name, "ok") != "ok"
        else row
        for row in rows
    ]
    return tuple(sorted(raised, key=lambda row: RANK[row.state]))


def _worst(one: State, other: State) -> State:
    return min(one, other, key=lambda state: RANK[state])


def _listed(incidents: Sequence[Incident]) -> str:
    """Return the most urgent incident, and the newest if it began clearly later."""
    first, *others = incidents
    begin_s = first.since_s or 0.0
    # Incidents that begin together are mostly one fault, which the first sentence names.
    later = [other for other in others if (other.since_s or 0.0) > begin_s + _NEW_AFTER_S]
    newest = max(later, key=lambda other: other.since_s or 0.0, default=None)
    words = first.words if newest is None else f"{first.words} New: {newest.words}"
    rest = len(others) - (newest is not None)
    return f"{words} And {rest:,} more." if rest else words


def _reasons(words: Sequence[str]) -> str:
    rest = len(words) - _FINDINGS_MAX
    more = f"; and {rest:,} more" if rest > 0 else ""
    return f"{'; '.join(words[:_FINDINGS_MAX])}{more}."


def _also(incidents: Sequence[Incident]) -> str:
    # Cards show that something is missed; the incident mostly says what happens, and to whom.
    first = ", the first" if len(incidents) > 1 else ""
    return f" {fmt.counted(len(incidents), 'incident')} below{first}: {incidents[0].words}"


def _silence(quality: DataQuality, incidents: Sequence[Incident]) -> str:
    words = f"No requests in the {fmt.last_window(WINDOW)}. {quality.freshness.words}"
    return f"{words} {incidents[0].words}" if incidents else words


def _missed_cards(cards: Mapping[str, TileValue]) -> Iterator[_Finding]:
    for label, card in cards.items():
        # An unknown card is no finding: the card itself shows that.
        if card.state not in ("at_risk", "breached"):
            continue
        if label in _LATENCIES:
            target = "" if card.target is None else f"under {fmt.exact_latency(card.target)}"
        elif card.target is not None:
            target = f"at least {fmt.exact_percent(card.target)}"
        else:
            target = ""
        if target:
            against = f", target {target}"
        else:
            against = "" if label in _LATENCIES else ", far below the usual"
        value = _card_value(label, card, card.value)
        words = f"{label} is {value} over the {fmt.last_window(WINDOW)}{against}"
        # The window describes the past: a fault that ended is in it for minutes.
        if card.last_minute is not None:
            words += f", and met again in the {fmt.last_window(LAST_MINUTE)}: "
            words += _card_value(label, card, card.last_minute)
        yield _Finding(card.state, words, value, target)


def _card_value(label: str, card: TileValue, value: float | None) -> str:
    if label in _LATENCIES:
        return fmt.latency(value, card.target)
    return (
        f"{fmt.tokens(value)} tokens/s" if card.target is None else fmt.percent(value, card.target)
    )


def _missed_objectives(
    objectives: Iterable[ObjectiveRow],
) -> Iterator[tuple[_Finding, ObjectiveRow]]:
    for row in objectives:
        if row.state not in ("at_risk", "breached"):
            continue
        scope = "" if row.scope == "fleet" else f" ({row.scope})"
        verb = "is missed" if row.state == "breached" else "is at risk"
        words = f"Objective {row.objective}{scope} {verb}: {row.value}, target {row.target}"
        yield _Finding(row.state, words, objective=row.key), row


def _calm(cards: Mapping[str, TileValue]) -> str:
    words = list(_calm_words(cards))
    window = fmt.last_window(WINDOW)
    return f"All is well{': ' if words else ''}{', '.join(words)}, over the {window}."


def _calm_words(cards: Mapping[str, TileValue]) -> Iterator[str]:
    """Yield the values of the cards, written as on the cards."""
    availability, cache = cards["Availability"], cards["Cache hit rate"]
    if availability.value is not None:
        succeeded = fmt.percent(availability.value, availability.target)
        requests = fmt.counted(availability.samples, "request")
        verb = "counts" if availability.samples == 1 else "count"
        yield f"{succeeded} of {requests} that {verb} succeeded"
    for label in _LATENCIES:
        if cards[label].value is not None:
            yield f"{label} {fmt.latency(cards[label].value, cards[label].target)}"
    if cache.value is not None:
        known = fmt.known_for(cache.known_ratio, "input tokens")
        rate = fmt.percent(cache.value, cache.target)
        yield f"cache hit rate {rate}{f' ({known})' if known else ''}"
