"""A sparkline: the last hour as a line without axes, and the same in words.

Pure. Coordinates are those of the drawing: WIDTH x HEIGHT, the origin at the top left.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

WIDTH, HEIGHT = 240, 44
MARGIN = 4  # above the highest and below the lowest value, so that no line is cut


@dataclass(frozen=True, slots=True)
class Sparkline:
    """A drawing; its paths are empty without values."""

    line: str  # path of all known stretches; a value alone is a dot
    area: str  # the same stretches, closed downwards
    target_y: float | None
    last: tuple[float, float] | None  # the newest value, if it is known
    words: str
    range: str  # lowest and highest value, as the drawing has no axis; empty without values


def sparkline(
    values: Sequence[float | None], target: float | None, shown: Callable[[float], str]
) -> Sparkline:
    """Draw one value a minute, oldest first, with a gap for each unknown value.

    `shown` writes a value for people.
    """
    found = _known_values(values)
    known = [value for _, value in found]
    if not known:
        return Sparkline("", "", None, None, f"{_span(values)}: nothing known.", "")
    marks = known if target is None else [*known, target]
    low, high = min(marks), max(marks)
    # A constant line has no reach; any value keeps it from a division by zero.
    reach = high - low or abs(high) or 1.0

    def place(position: int, value: float) -> tuple[float, float]:
        # y grows downwards in SVG.
        x = position * WIDTH / max(1, len(values) - 1)
        y = HEIGHT - MARGIN - (value - low) / reach * (HEIGHT - 2 * MARGIN)
        return round(x, 1), round(y, 1)

    stretches = [
        [place(position, value) for position, value in stretch] for stretch in _stretches(found)
    ]
    return Sparkline(
        line=" ".join(map(_line, stretches)),
        area=" ".join(_area(stretch) for stretch in stretches if len(stretch) > 1),
        target_y=None if target is None else place(0, target)[1],
        # The dot marks the present, so only a value of the newest minute has one.
        last=place(*found[-1]) if found[-1][0] == len(values) - 1 else None,
        words=_words(values, known, shown),
        range=_range(known, shown),
    )


def _known_values(values: Sequence[float | None]) -> list[tuple[int, float]]:
    """Return the known values with their positions."""
    return [
        (position, value)
        for position, value in enumerate(values)
        if value is not None and math.isfinite(value)
    ]


def _stretches(found: Sequence[tuple[int, float]]) -> list[list[tuple[int, float]]]:
    """Return runs of values without a gap."""
    stretches = [[found[0]]]
    for before, here in pairwise(found):
        # A gap of unknown minutes begins a new path, so that no line bridges it.
        if here[0] == before[0] + 1:
            stretches[-1].append(here)
        else:
            stretches.append([here])
    return stretches


def _line(stretch: Sequence[tuple[float, float]]) -> str:
    (x, y), *rest = stretch
    # A line of no length with round ends is a dot.
    return f"M{x:g} {y:g}" + ("".join(f"L{x:g} {y:g}" for x, y in rest) or f"L{x:g} {y:g}")


def _area(stretch: Sequence[tuple[float, float]]) -> str:
    return f"{_line(stretch)}L{stretch[-1][0]:g} {HEIGHT}L{stretch[0][0]:g} {HEIGHT}Z"


def _span(values: Sequence[float | None]) -> str:
    return f"Last {len(values)} minutes"


def _range(known: Sequence[float], shown: Callable[[float], str]) -> str:
    low, high = shown(min(known)), shown(max(known))
    return f"always {low}" if low == high else f"{low} to {high}"


def _words(
    values: Sequence[float | None], known: Sequence[float], shown: Callable[[float], str]
) -> str:
    unknown = len(values) - len(known)
    gaps = f"; {unknown} of them unknown" if unknown else ""
    return f"{_span(values)}: {_range(known, shown)}{gaps}."
