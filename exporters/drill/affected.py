"""The parts of a place and their failures: its models, regions, customers and so on.

Pure. Customers are counted by model only, so a region has no customers, and a customer has models.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from exporters.drill.place import Place, name_mask
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


def parts_of(history: RangeHistory, place: Place) -> tuple[Parts, ...]:
    """Return the parts of a place in the range, without kinds of which it has only one."""
    made = []
    if place.dimension != CUSTOMER:
        names = [name[: len(SERIES_DIMENSIONS)] for name in history.series]
        sums = _sums(
            names,
            SERIES_DIMENSIONS.index(place.dimension),
            place.name,
            ((step.series, True) for step in history.steps),
        )
        made += [
            _by_name(kind, [name[at] for name in names], sums)
            for at, dimension in enumerate(SERIES_DIMENSIONS)
            for kind in DIMENSION_OF
            if DIMENSION_OF[kind] == dimension != place.dimension
        ]
    if place.dimension in _CUSTOMER_DIMENSIONS:
        at = _CUSTOMER_DIMENSIONS.index(place.dimension)
        sums = _sums(
            history.customers,
            at,
            place.name,
            ((step.customers, False) for step in history.steps),
        )
        other = _CUSTOMER_DIMENSIONS[1 - at]
        parts = _by_name(other, [name[1 - at] for name in history.customers], sums)
        is_partial = other == CUSTOMER and any(
            step.exact_customers is not None for step in history.steps
        )
        made.append(replace(parts, is_partial=is_partial))
    # The only part would repeat the numbers of the place itself.
    return tuple(parts for parts in made if parts.count > 1)


def _sums(
    names: Sequence[Sequence[str]], at: int, name: str, tables: Iterable[tuple[Table, bool]]
) -> Ints:
    """Return an array (name, [requests, eligible, failed]) of the rows whose place `at` is `name`.

    `tables`: of the steps, each with whether it has probes.
    """
    mask = name_mask([row[at] for row in names], {name})
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
