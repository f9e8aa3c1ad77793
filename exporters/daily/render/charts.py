"""Compute the lines and points of the daily board's small charts.

Pure. Coordinates from the upper left corner, y downwards, as in SVG.
"""

from dataclasses import dataclass

from exporters.daily.render.rows import MetricChart

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Plot:
    """A chart, laid out."""

    lines: tuple[tuple[Point, ...], ...]  # one for each run of known days
    missed: tuple[Point, ...]
    chosen: Point | None  # None: the board's day is not known
    target_y: float | None  # None: no target, or nothing to draw


def plot(chart: MetricChart, width: float, height: float, margin: float = 4) -> Plot:
    """Lay a chart out in a box; the target's line is always inside."""
    known = [value for value in chart.values if value is not None]
    # A target alone has no scale.
    if not known:
        return Plot((), (), None, None)
    scale = known if chart.target is None else [*known, chart.target]
    # The target is part of the scale: its line is in the chart however far the days are off.
    low, high = min(scale), max(scale)
    step = (width - 2 * margin) / max(1, len(chart.values) - 1)

    def at_y(value: float) -> float:
        # Equal values are drawn in the middle.
        share = (value - low) / (high - low) if high > low else 0.5
        return round(height - margin - share * (height - 2 * margin), 1)

    points = [
        None if value is None else (round(margin + at * step, 1), at_y(value))
        for at, value in enumerate(chart.values)
    ]
    # A day without a value is a gap: a new line begins after it.
    runs: list[list[Point]] = [[]]
    for point in points:
        if point is None:
            runs.append([])
        else:
            runs[-1].append(point)
    return Plot(
        lines=tuple(tuple(run) for run in runs if run),
        missed=tuple(
            point
            for point, mark in zip(points, chart.marks, strict=True)
            if point is not None and mark == "missed"
        ),
        chosen=points[chart.chosen],
        target_y=None if chart.target is None else at_y(chart.target),
    )
