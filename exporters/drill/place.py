"""The history of one place: a model, region, channel, tier or customer, step by step.

Pure. The same sums and nearest-rank percentiles as in `tokenpulse report` for the same stretch.
None is "unknown": a step without requests has no ratio and no percentile.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from exporters.board.facts import Where, names_by_dimension
from exporters.drill.ranges import ChartRange
from exporters.drill.steps import BAND_BITS, BAND_ENDS_S, QUANTILES, RangeHistory, StepFigures
from exporters.place_links import DIMENSION_OF
from exporters.windows.incremental import CUSTOMER, FLEET
from exporters.windows.measured import Measured, outcome_counts
from streams.events.fields import OUTCOMES
from streams.state.measures import SERIES_DIMENSIONS
from streams.state.slices import CUSTOMER_COLUMNS, LATENCIES, LATENCY_BITS, SERIES_COLUMNS
from streams.state.tables import Ints, sum_rows

Unit = Literal["percent", "latency", "count", "tokens"]
_QUANTILE_NAMES = ("P50", "P95", "P99")


class Place(NamedTuple):
    """A value of one dimension, as the state names it."""

    kind: str  # first part of the page's path, of DIMENSION_OF
    name: str

    @property
    def dimension(self) -> str:
        return DIMENSION_OF[self.kind]

    @property
    def where(self) -> Where:
        return ((self.dimension, self.name),)


@dataclass(frozen=True, slots=True)
class Step:
    """One step of time at one place."""

    start_s: int
    end_s: int
    is_running: bool  # events of it are still to come
    is_complete: bool  # False: records of it are known to be missing
    measured: Measured
    outcomes: dict[str, int]  # requests and probes; without outcomes of 0
    bands: dict[str, tuple[int, ...]]  # requests by band of each latency (steps.BAND_ENDS_S)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a chart: a value a step."""

    label: str
    values: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class Chart:
    """One chart and its table."""

    key: str
    title: str
    about: str
    unit: Unit
    lines: tuple[Line, ...]
    target: float | None = None

    @property
    def is_sum(self) -> bool:
        """Return whether the value of an unfinished step still grows, so that no line shows it."""
        return self.unit in ("count", "tokens")

    @property
    def is_known(self) -> bool:
        """Return whether any step has a value."""
        return any(value is not None for line in self.lines for value in line.values)


@dataclass(frozen=True, slots=True)
class PlaceHistory:
    """All that the charts of a page show."""

    range: ChartRange
    steps: tuple[Step, ...]  # oldest first
    unread: int  # steps that are still to be read after a start
    outcomes: dict[str, int]  # of the whole range
    has_latencies: bool  # percentiles are known for the fleet and for single places only

    @property
    def is_running(self) -> bool:
        """Return whether the last step is not over."""
        return bool(self.steps) and self.steps[-1].is_running


def names_of(history: RangeHistory, dimension: str) -> list[str]:
    """Return the names that have counts in the state, without repetition, sorted."""
    if dimension == CUSTOMER:
        return sorted({customer for customer, _ in history.customers})
    return sorted({key[0] for key in history.groups[dimension]})


def place_history(
    history: RangeHistory, where: Where, from_s: float = 0, to_s: float = float("inf")
) -> PlaceHistory:
    """Return the steps of some places that touch [from_s, to_s].

    A place without requests has steps without counts.
    """
    rows = _Rows(history, where)
    steps = tuple(step for step in rows.steps() if step.end_s > from_s and step.start_s <= to_s)
    outcomes: dict[str, int] = {}
    for step in steps:
        for name, count in step.outcomes.items():
            outcomes[name] = outcomes.get(name, 0) + count
    # In the order of the event contract, so that a row keeps its position between reloads.
    ordered = {name: outcomes[name] for name in OUTCOMES if name in outcomes}
    unread = history.unread + rows.unread
    return PlaceHistory(history.range, steps, unread, ordered, rows.has_latencies)


class _Rows:
    """Selects the rows of some places from the figures of all."""

    def __init__(self, history: RangeHistory, where: Where) -> None:
        self._history = history
        names = names_by_dimension(where)
        self._is_customer = CUSTOMER in names
        # Percentiles cannot be added up, so they are there only for the groups that were read.
        self._dimension, self._group = FLEET, 0 if not where else None
        if self._is_customer:
            dimensions: Sequence[str] = (CUSTOMER, "model")
            rows: Sequence[Sequence[str]] = history.customers
        else:
            dimensions, rows = SERIES_DIMENSIONS, history.series
            if len(where) == 1:
                self._dimension = where[0][0]
                keys = history.groups[self._dimension]
                matching = (number for number, key in enumerate(keys) if key[0] == where[0][1])
                self._group = next(matching, None)
        self._customers = names.get(CUSTOMER, set())
        self.unread = 0  # steps that do not have all rows of the customer yet
        self._mask = np.ones(len(rows), np.bool_)
        for at, dimension in enumerate(dimensions):
            if dimension in names:
                self._mask &= name_mask([row[at] for row in rows], names[dimension])

    @property
    def has_latencies(self) -> bool:
        return not self._is_customer and (self._group is not None or self._dimension != FLEET)

    def steps(self) -> Iterator[Step]:
        for figures in self._history.steps:
            if not all(map(figures.is_exact, self._customers)):
                self.unread += 1
                continue
            row = self._row(figures)
            samples, quantiles_s = self._latencies(figures)
            scope = CUSTOMER if self._is_customer else FLEET
            measured = Measured.from_row(
                scope, row.tolist(), samples=samples, quantiles_s=quantiles_s
            )
            coverage = self._history.coverage
            yield Step(
                figures.start_s,
                figures.end_s,
                figures.end_s > self._history.watermark_s,
                coverage.complete(figures.start_s, figures.end_s),
                measured,
                self._outcomes(row),
                self._bands(figures),
            )

    def _row(self, figures: StepFigures) -> Ints:
        table = figures.customers if self._is_customer else figures.series
        columns = CUSTOMER_COLUMNS if self._is_customer else SERIES_COLUMNS
        if not len(table):
            return np.zeros(columns, np.int64)
        # Names that are newer than this history are not in the mask.
        known = table.keys < len(self._mask)
        chosen = np.zeros(len(table), np.bool_)
        chosen[known] = self._mask[table.keys[known]]
        return sum_rows(table.values[chosen])

    def _outcomes(self, row: Ints) -> dict[str, int]:
        if self._is_customer:
            counts = row[: len(OUTCOMES)].tolist()
            return {name: n for name, n in zip(OUTCOMES, counts, strict=True) if n}
        return outcome_counts(row.reshape(1, -1))

    def _bands(self, figures: StepFigures) -> dict[str, tuple[int, ...]]:
        bands: dict[str, tuple[int, ...]] = {}
        if self._group is None:
            return bands
        table = figures.bands[self._dimension]
        for at, latency in enumerate(LATENCIES):
            first = (self._group << LATENCY_BITS | at) << BAND_BITS
            keys = np.arange(first, first + len(BAND_ENDS_S) + 1)
            low, high = np.searchsorted(table.keys, [keys[0], keys[-1] + 1])
            counts = np.zeros(len(keys), np.int64)
            # The table has only bands with requests: the others stay 0.
            counts[table.keys[low:high] - first] = table.values[low:high]
            if counts.any():
                bands[latency] = tuple(counts.tolist())
        return bands

    def _latencies(
        self, figures: StepFigures
    ) -> tuple[dict[str, int], dict[tuple[str, float], float]]:
        samples: dict[str, int] = {}
        quantiles_s: dict[tuple[str, float], float] = {}
        if self._group is None:
            return samples, quantiles_s
        table = figures.percentiles[self._dimension]
        # Keys are sorted, so all latencies of the group are one range of rows.
        first = self._group << LATENCY_BITS
        low, high = np.searchsorted(table.keys, [first, first + len(LATENCIES)])
        for key, values in zip(
            table.keys[low:high].tolist(), table.values[low:high].tolist(), strict=True
        ):
            latency = LATENCIES[key - first]
            samples[latency] = values[0]
            for ratio, value_ns in zip(QUANTILES, values[1:], strict=True):
                quantiles_s[latency, ratio] = value_ns / 1e9
        return samples, quantiles_s


def name_mask(names: Sequence[str], chosen: Collection[str]) -> npt.NDArray[np.bool_]:
    """Return which of the names are among the chosen ones."""
    return np.fromiter((name in chosen for name in names), np.bool_, len(names))


# -- charts ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ChartTargets:
    """The targets of the fleet, drawn as a line; None without one. Ratios, seconds."""

    availability_ratio: float | None = None
    ttft_p95_s: float | None = None
    tpot_p95_s: float | None = None


def charts(
    history: PlaceHistory, targets: ChartTargets, first: str | None = None
) -> tuple[Chart, ...]:
    """Return the charts of a place; those of latencies not for customers, as they have none.

    `first`: the key of the chart that comes first.
    """
    steps = history.steps
    measured = [step.measured for step in steps]
    # Of the whole range, so that a line is there in every step and keeps its colour.
    failures = [name for name in history.outcomes if name != "success"]
    made = [
        Chart(
            "availability",
            "Availability",
            "Requests that succeeded, of those that count.",
            "percent",
            (Line("Availability", tuple(one.availability_ratio for one in measured)),),
            targets.availability_ratio,
        ),
        Chart(
            "requests",
            "Requests",
            "Requests in each step, without probes.",
            "count",
            (Line("Requests", tuple(float(one.requests) for one in measured)),),
        ),
        Chart(
            "outcomes",
            "Requests that did not succeed",
            "By outcome, probes included.",
            "count",
            tuple(
                Line(_words(name), tuple(float(step.outcomes.get(name, 0)) for step in steps))
                for name in failures
            ),
        ),
    ]
    if history.has_latencies:
        made += [
            _latency_chart("ttft", "Time to first token", measured, targets.ttft_p95_s),
            _latency_chart("tpot", "Time per output token", measured, targets.tpot_p95_s),
            _latency_chart("duration", "Duration of the whole request", measured, None),
        ]
    made += [
        Chart(
            "cache",
            "Cache hit rate",
            "Input tokens read from the prompt cache, of those whose cached part is known.",
            "percent",
            (Line("Cache hit rate", tuple(one.cache_hit_ratio for one in measured)),),
        ),
        Chart(
            "tokens",
            "Tokens",
            "Input and output tokens in each step.",
            "tokens",
            (
                Line("Input", tuple(float(one.input_tokens) for one in measured)),
                Line("Output", tuple(float(one.output_tokens) for one in measured)),
            ),
        ),
    ]
    # Without a failure the chart of outcomes has no line, and would be an empty frame.
    shown = [chart for chart in made if chart.lines]
    return tuple(sorted(shown, key=lambda chart: chart.key != first))


def _latency_chart(
    latency: str, title: str, measured: Sequence[Measured], target_s: float | None
) -> Chart:
    return Chart(
        latency,
        title,
        "Requests that succeeded; half of them were at most P50, 95 % at most P95.",
        "latency",
        tuple(
            Line(name, tuple(one.quantiles_s.get((latency, ratio)) for one in measured))
            for name, ratio in zip(_QUANTILE_NAMES, QUANTILES, strict=True)
        ),
        target_s,
    )


def _words(outcome: str) -> str:
    return outcome.replace("_", " ").capitalize()
