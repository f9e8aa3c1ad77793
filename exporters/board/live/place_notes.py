"""How models and regions are without the places that an incident is about. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping

from exporters import formatting as fmt
from exporters.board.breakdown import FleetTargets, availability_state
from exporters.board.facts import Incident, State, Where, names_by_dimension
from exporters.board.incidents.failures import GROUP
from exporters.board.input import BoardInput
from exporters.board.tiles import WINDOW
from exporters.windows.measured import Measured, failures
from streams.state.measures import SERIES_DIMENSIONS

_WORDS: Mapping[State, str] = {"breached": "missed", "at_risk": "at risk", "ok": "met"}


def without_failures_of(
    incidents: Iterable[Incident], dimension: str, reading: BoardInput, targets: FleetTargets
) -> str:
    """Return the states of a dimension's places without those of an incident, as counts in words.

    During the outage of a region all models miss their target. Of the first incident about
    failures; empty if it is about the same dimension, or if all requests were in its places.
    """
    incident = next((one for one in incidents if one.group == GROUP), None)
    if incident is None or targets.target_ratio is None or not incident.where:
        return ""
    names = names_by_dimension(incident.where)
    if dimension in names:
        return ""
    series = reading.names["series"]
    bad, total = failures(reading.windows[WINDOW]["series"], len(series))
    counts: dict[str, list[int]] = {}
    at = SERIES_DIMENSIONS.index(dimension)
    for number, key in enumerate(series):
        values: dict[str, str] = dict(zip(SERIES_DIMENSIONS, key, strict=True))
        if total[number] and not all(values[of] in inside for of, inside in names.items()):
            count = counts.setdefault(key[at], [0, 0])
            count[0] += int(total[number] - bad[number])
            count[1] += int(total[number])
    states = Counter(
        availability_state(Measured(eligible=every, successes=good), targets)
        for good, every in counts.values()
    )
    said = [f"{states[state]} {words}" for state, words in _WORDS.items() if states[state]]
    # Without requests outside the places there is no other availability.
    return (
        f"Availability without {_place_words(incident.where)}: {', '.join(said)}." if said else ""
    )


def _place_words(where: Where) -> str:
    """Return places in words: `regions a and b`, `model a in region b`."""
    names: dict[str, list[str]] = {}
    for dimension, name in where:
        names.setdefault(dimension.replace("_", " "), []).append(name)
    return " in ".join(
        f"{dimension if len(each) == 1 else dimension + 's'} {fmt.enumeration(each)}"
        for dimension, each in names.items()
    )
