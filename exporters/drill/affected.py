"""The parts of a place and their failures: its models, regions, customers and so on.

Pure. Customers are counted by model only, so a region has no customers of its own, and a customer
has models.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from exporters.board.facts import Where, names_by_dimension
from exporters.drill.place import name_mask
from exporters.drill.steps import RangeHistory
from exporters.place_links import DIMENSION_OF
from exporters.windows.incremental import CUSTOMER
from exporters.windows.measured import ELIGIBLE_AT, SUCCESS_AT
from streams.events.fields import OUTCOMES
from streams.state.measures import SERIES_DIMENSIONS
from streams.state.slices import PROBES_AT, TOKENS_AT
from streams.state.tables import Ints, Table

PARTS_MAX = 10
_CUSTOMER_DIMENSIONS = (CUSTOMER, "model")


@dataclass(frozen=True, slots=True)
class PlacePart:
    """One model, region, channel, tier or customer of a place, over the range of the page."""

    name: str
    requests: int  # without probes
    eligible: int  # that count for availability
    failed: int

    @property
    def availability_ratio(self) -> float | None:
        return 1 - self.failed / self.eligible if self.eligible else None


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of one kind: first those with the most failures, then those with most requests."""

    kind: str  # of DIMENSION_OF
    rows: tuple[PlacePart, ...]  # PARTS_MAX at most
    count: int  # all of them
    failing: int  # those with a failure
    failed: int  # failures of all parts
    is_partial: bool = False  # rows of customers with few requests are missing
    is_everywhere: bool = False  # requests in other regions, channels and tiers are counted too


def parts_of(
    history: RangeHistory,
    where: Where,
    from_s: float = 0,
    to_s: float = float("inf"),
    is_incident: bool = False,
) -> tuple[Parts, ...]:
    """Return the parts of some places in the steps that touch [from_s, to_s].

    Without kinds of which there is only one. `is_incident`: also the customers of a region, channel
    or tier, with their requests everywhere, as customers are not counted by these.
    """
    names = names_by_dimension(where)
    steps = [step for step in history.steps if step.end_s > from_s and step.start_s <= to_s]
    made = []
    if CUSTOMER not in names:
        series = [name[: len(SERIES_DIMENSIONS)] for name in history.series]
        sums = _sums(series, SERIES_DIMENSIONS, names, ((step.series, True) for step in steps))
        made += [
            _by_name(kind, [name[at] for name in series], sums)
            for at, dimension in enumerate(SERIES_DIMENSIONS)
            for kind in DIMENSION_OF
            if DIMENSION_OF[kind] == dimension and dimension not in names
        ]
    is_everywhere = not names.keys() <= set(_CUSTOMER_DIMENSIONS)
    if names.keys() != set(_CUSTOMER_DIMENSIONS) and (is_incident or not is_everywhere):
        tables = ((step.customers, False) for step in steps)
        sums = _sums(history.customers, _CUSTOMER_DIMENSIONS, names, tables)
        kind = "model" if CUSTOMER in names else CUSTOMER
        at = _CUSTOMER_DIMENSIONS.index(kind)
        parts = _by_name(kind, [name[at] for name in history.customers], sums)
        is_partial = kind == CUSTOMER and any(step.exact_customers is not None for step in steps)
        made.append(replace(parts, is_partial=is_partial, is_everywhere=is_everywhere))
    # The only part would repeat the numbers of the place itself.
    return tuple(parts for parts in made if parts.count > 1)


def _sums(
    names: Sequence[Sequence[str]],
    dimensions: Sequence[str],
    chosen_names: Mapping[str, set[str]],
    tables: Iterable[tuple[Table, bool]],
) -> Ints:
    """Return an array (name, [requests, eligible, failed]) of the rows inside some places.

    `dimensions`: of the names. `tables`: of the steps, each with whether it has probes.
    """
    mask = np.ones(len(names), np.bool_)
    for at, dimension in enumerate(dimensions):
        if dimension in chosen_names:
            mask &= name_mask([row[at] for row in names], chosen_names[dimension])
    sums = np.zeros((len(names), 3), np.int64)
    for table, has_probes in tables:
        known = table.keys < len(mask)  # names that are newer than this history are left out
        keys, values = table.keys[known], table.values[known]
        chosen = mask[keys]
        # A key is at most once in a table, so that plain indexing adds every row.
        sums[keys[chosen]] += _amounts(values[chosen], has_probes)
    return sums


def _amounts(values: Ints, has_probes: bool) -> Ints:
    requests = values[:, : len(OUTCOMES)]
    # Availability counts synthetic checks, the number of requests does not.
    counted = requests + values[:, PROBES_AT:TOKENS_AT] if has_probes else requests
    eligible = counted[:, ELIGIBLE_AT].sum(axis=1)
    return np.stack((requests.sum(axis=1), eligible, eligible - counted[:, SUCCESS_AT]), axis=1)


def _by_name(kind: str, names: Sequence[str], sums: Ints) -> Parts:
    totals: dict[str, list[int]] = {}
    for at in np.flatnonzero(sums.any(axis=1)).tolist():
        total = totals.setdefault(names[at], [0, 0, 0])
        for column, amount in enumerate(sums[at].tolist()):
            total[column] += amount
    # The name last, so that equal rows do not change places at each refresh.
    parts = sorted(_parts(totals), key=lambda part: (-part.failed, -part.requests, part.name))
    return Parts(
        kind,
        tuple(parts[:PARTS_MAX]),
        len(parts),
        sum(part.failed > 0 for part in parts),
        sum(part.failed for part in parts),
    )


def _parts(totals: dict[str, list[int]]) -> Iterator[PlacePart]:
    return (PlacePart(name, *amounts) for name, amounts in totals.items())
