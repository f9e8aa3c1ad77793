"""The page of one place as HTML: its present state, charts, and a table beside each chart.

Pure. The charts are drawn by drill.js from the tables, so a page without a script shows the same
values. All text goes through Jinja's escaping.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from jinja2 import Environment

from exporters import formatting as fmt
from exporters.board.facts import BreakdownRow, LiveState
from exporters.board.live.page import OVERALL_WORDS, STATE_WORDS
from exporters.drill.place import Chart, Place, PlaceHistory, Step
from exporters.drill.ranges import RANGES
from exporters.place_links import OTHERS, place_address
from exporters.static_files import static_files
from exporters.templates import templates
from exporters.windows.measured import is_weak
from streams.events.fields import OTHER

KIND_WORDS: Mapping[str, str] = {
    "model": "Model",
    "region": "Region",
    "channel": "Channel",
    "tier": "Service tier",
    "customer": "Customer",
}
NEAR_MAX = 5


@dataclass(frozen=True, slots=True)
class PlaceView:
    """All that the page of a place shows."""

    place: Place
    title: str  # the place's name, of a customer that of the directory
    live: LiveState
    now: BreakdownRow | None  # None without requests in the board's window
    history: PlaceHistory | None  # None before the first reading
    charts: Sequence[Chart]


def place_page(view: PlaceView, range_name: str, base: str) -> str:
    """Return the page. `base`: path from the page to the root of the exporter, such as `../`."""
    return _ENVIRONMENT.get_template("place.html").render(
        view=view,
        kind=KIND_WORDS[view.place.kind],
        range_name=range_name,
        base=base,
        assets=_addresses(base),
        address=base + place_address(view.place.kind, view.place.name),
    )


def shown_name(name: str) -> str:
    """Return the name of a place on pages."""
    return OTHERS if name == OTHER else name


def near_names(name: str, known: Sequence[str]) -> list[str]:
    """Return the known names that are like a mistyped one, the nearest first."""
    by_folded = {one.casefold(): one for one in known}
    near = get_close_matches(name.casefold(), list(by_folded), NEAR_MAX, 0.5)
    return [by_folded[one] for one in near]


def value_text(chart: Chart, value: float | None) -> str:
    """Return a value of a chart as its table has it."""
    match chart.unit:
        case "percent":
            return fmt.percent(value, chart.target)
        case "latency":
            return fmt.latency(value, chart.target)
        case "tokens":
            return fmt.tokens(value)
        case "count":
            return fmt.count(value)


def step_text(step: Step) -> str:
    """Return the begin of a step as the table has it: a date, or a time of day with its date."""
    if step.end_s - step.start_s >= 86_400:
        return fmt.minute(step.start_s)[:10]
    # Without the year: no range reaches over two.
    return f"{fmt.minute(step.start_s)[5:10]} {fmt.clock(step.start_s)}"


def _addresses(base: str) -> dict[str, str]:
    found = {}
    for package in ("exporters.board", "exporters.drill"):
        for name, asset in static_files(package).items():
            found[name] = base + asset.address
    return found


def _environment() -> Environment:
    environment = templates("exporters.drill", "exporters.board")
    environment.globals.update(
        {
            "formatting": fmt,
            "STATE_WORDS": STATE_WORDS,
            "OVERALL_WORDS": OVERALL_WORDS,
            "RANGES": RANGES,
            "is_weak": is_weak,
            "step_text": step_text,
            "value_text": value_text,
        }
    )
    return environment


_ENVIRONMENT = _environment()
