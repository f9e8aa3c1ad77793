"""How models and regions are without the places that an incident is about. Pure."""

from collections.abc import Iterable
from fractions import Fraction

from exporters import formatting as fmt
from exporters.board.breakdown import FleetTargets
from exporters.board.facts import Incident, names_by_dimension
from exporters.board.incidents.failures import GROUP
from exporters.board.input import BoardInput
from exporters.board.tiles import WINDOW
from exporters.windows.measured import failures
from streams.state.measures import SERIES_DIMENSIONS


def without_failures_of(
    incidents: Iterable[Incident], dimension: str, reading: BoardInput, targets: FleetTargets
) -> str:
    """Return how many places of a dimension meet the target without those of an incident.

    During the outage of a region all models miss their target. Of the first incident about
    failures; empty if it is about the same dimension, or about all places.
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
    target = targets.target_ratio
    met = sum(Fraction(good, every) >= target for good, every in counts.values())
    place = " in ".join(f"{of.replace('_', ' ')} {name}" for of, name in incident.where)
    least = fmt.exact_percent(target)
    return f"Without {place}: {met} of {len(counts)} have an availability of at least {least}."
