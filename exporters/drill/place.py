"""The history of one place: a model, region, channel, tier or customer, step by step.

Pure. The same sums and nearest-rank percentiles as in `tokenpulse report` for the same stretch.
None is "unknown": a step without requests has no ratio and no percentile.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from exporters.drill.ranges import ChartRange
from exporters.drill.steps import QUANTILES, RangeHistory, StepFigures
from exporters.place_links import DIMENSION_OF
from exporters.windows.incremental import CUSTOMER
from exporters.windows.measured import Measured, outcome_counts
from streams.events.fields import OUTCOMES
from streams.state.measures import SERIES_DIMENSIONS
from streams.state.slices import CUSTOMER_COLUMNS, LATENCIES, LATENCY_BITS, SERIES_COLUMNS
from streams.state.tables import Ints

Unit = Literal["percent", "latency", "count", "tokens"]
_QUANTILE_NAMES = ("P50", "P95", "P99")


class Place(NamedTuple):
    """A value of one dimension, as the state names it."""

    kind: str  # first part of the page's path, of DIMENSION_OF
    name: str

    @property
    def dimension(self) -> str:
        return DIMENSION_OF[self.kind]


@dataclass(frozen=True, slots=True)
class Step:
    """One step of time at one place."""

    start_s: int
    end_s: int
    is_running: bool  # events of it are still to come
    is_complete: bool  # False: records of it are known to be missing
    measured: Measured
    outcomes: dict[str, int]  # requests and probes; without outcomes of 0


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

    place: Place
    range: ChartRange
    steps: tuple[Step, ...]  # oldest first
    unread: int  # steps that are still to be read after a start
    outcomes: dict[str, int]  # of the whole range

    @property
    def is_running(self) -> bool:
        """Return whether the last step is not over."""
        return bool(self.steps) and self.steps[-1].is_running


def names_of(history: RangeHistory, dimension: str) -> list[str]:
    """Return the names that have counts in the state, without repetition, sorted."""
    if dimension == CUSTOMER:
        return sorted({customer for customer, _ in history.customers})
    return sorted({key[0] for key in history.groups[dimension]})


def place_history(history: RangeHistory, place: Place) -> PlaceHistory:
    """Return the steps of a place; a place without requests has steps without counts."""
    rows = _Rows(history, place)
    steps = tuple(rows.steps())
    outcomes: dict[str, int] = {}
    for step in steps:
        for name, count in step.outcomes.items():
            outcomes[name] = outcomes.get(name, 0) + count
    # In the order of the event contract, so that a row keeps its position between reloads.
    ordered = {name: outcomes[name] for name in OUTCOMES if name in outcomes}
    return PlaceHistory(place, history.range, steps, history.unread, ordered)


class _Rows:
    """Selects the rows of one place from the figures of all."""

    def __init__(self, history: RangeHistory, place: Place) -> None:
        self._history = history
        self._is_customer = place.dimension == CUSTOMER
        self._dimension = place.dimension
        if self._is_customer:
            self._mask = name_mask([customer for customer, _ in history.customers], place.name)
            self._group = None
        else:
            at = SERIES_DIMENSIONS.index(place.dimension)
            self._mask = name_mask([name[at] for name in history.series], place.name)
            keys = history.groups[place.dimension]
            self._group = next((n for n, key in enumerate(keys) if key[0] == place.name), None)

    def steps(self) -> Iterator[Step]:
        for figures in self._history.steps:
            row = self._row(figures)
            samples, quantiles_s = self._latencies(figures)
            scope = CUSTOMER if self._is_customer else self._dimension
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
        row: Ints = table.values[chosen].sum(axis=0)
        return row

    def _outcomes(self, row: Ints) -> dict[str, int]:
        if self._is_customer:
            counts = row[: len(OUTCOMES)].tolist()
            return {name: n for name, n in zip(OUTCOMES, counts, strict=True) if n}
        return outcome_counts(row.reshape(1, -1))

    def _latencies(
        self, figures: StepFigures
    ) -> tuple[dict[str, int], dict[tuple[str, float], float]]:
        samples: dict[str, int] = {}
        quantiles_s: dict[tuple[str, float], float] = {}
        if self._group is None:
            return samples, quantiles_s
        table = figures.percentiles[self._dimension]
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


def name_mask(names: Sequence[str], name: str) -> npt.NDArray[np.bool_]:
    """Return which of the names are `name`."""
    return np.fromiter((one == name for one in names), np.bool_, len(names))


# -- charts ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ChartTargets:
    """The targets of the fleet, drawn as a line; None without one. Ratios, seconds."""

    availability_ratio: float | None = None
    ttft_p95_s: float | None = None
    tpot_p95_s: float | None = None


def charts(history: PlaceHistory, targets: ChartTargets) -> tuple[Chart, ...]:
    """Return the charts of a place; those of latencies not for customers, who have none."""
    steps = history.steps
    measured = [step.measured for step in steps]
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
    if history.place.dimension != CUSTOMER:
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
    return tuple(chart for chart in made if chart.lines)


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
