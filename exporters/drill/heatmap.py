"""The latency heatmap of a place: of each step, the share of the requests in each band. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

from exporters import formatting as fmt
from exporters.drill.place import PlaceHistory, Step
from exporters.drill.steps import BAND_ENDS_S

LEVELS = 9  # shades of a cell with requests
_TITLES = {"ttft": "Time to first token", "duration": "Duration of the whole request"}


@dataclass(frozen=True, slots=True)
class HeatCell:
    """The requests of one step in one band."""

    requests: int
    level: int  # 0 without requests, LEVELS if all requests of the step are in this band


@dataclass(frozen=True, slots=True)
class HeatBand:
    """One row: a band of latency over all steps."""

    label: str  # `300 ms to 500 ms`
    cells: tuple[HeatCell, ...]  # oldest first


@dataclass(frozen=True, slots=True)
class Heatmap:
    """One latency by step and band."""

    key: str
    title: str
    steps: tuple[Step, ...]
    bands: tuple[HeatBand, ...]  # the slowest first; without empty bands at both ends


def heatmaps(history: PlaceHistory | None) -> Iterator[Heatmap]:
    """Yield the heatmaps of the latencies that are known at a place."""
    for latency, title in _TITLES.items():
        steps = () if history is None else history.steps
        columns = [step.bands.get(latency, (0,) * (len(BAND_ENDS_S) + 1)) for step in steps]
        filled = [at for at in range(len(BAND_ENDS_S) + 1) if any(each[at] for each in columns)]
        if not filled:
            continue
        totals = [sum(column) for column in columns]
        bands = tuple(
            HeatBand(
                _label(at),
                tuple(
                    # Rounded up, so that a single request among thousands is visible.
                    HeatCell(column[at], ceil(LEVELS * column[at] / max(total, 1)))
                    for column, total in zip(columns, totals, strict=True)
                ),
            )
            # Empty bands between are kept: a gap is how two kinds of requests show.
            for at in range(filled[-1], filled[0] - 1, -1)
        )
        yield Heatmap(latency, title, steps, bands)


def _label(band: int) -> str:
    if band == 0:
        return f"up to {fmt.exact_latency(BAND_ENDS_S[0])}"
    begin = fmt.exact_latency(BAND_ENDS_S[band - 1])
    if band == len(BAND_ENDS_S):
        return f"over {begin}"
    return f"{begin} to {fmt.exact_latency(BAND_ENDS_S[band])}"
