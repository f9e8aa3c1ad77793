"""The daily board as a PDF of two A4 pages, typeset by Typst from templates/daily.typ.

The same facts give the same bytes. Texts go to the template as JSON strings, which Typst shows as
they are, so a name cannot become markup. Fonts come from packages, never from the machine, so that
every machine makes the same page: FiraGO (Latin, Greek, Cyrillic, Arabic, Hebrew, Thai, Georgian,
Devanagari) and Noto Sans CJK (Chinese, Japanese, Korean). Other scripts and emoji are shown as
empty boxes.
"""

import json
from dataclasses import asdict
from functools import cache
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import manimgx_fonts_cjk
import pymupdf_fonts
import typst

from exporters.daily.day.facts import METRICS, DailyFacts, Mark
from exporters.daily.day.verdict import TITLES
from exporters.daily.render.charts import plot
from exporters.daily.render.plain_text import printable
from exporters.daily.render.view import view_of
from exporters.formatting import unbroken

# In the order in which a character is looked up.
FAMILIES = ("FiraGO", "Noto Sans CJK SC", "Noto Sans Symbols")
_FILES = {"regular": "figo", "bold": "figbo", "symbols": "symbol1"}
_CHART_WIDTH, _CHART_HEIGHT, _CHART_MARGIN = 54.0, 28.0, 3.0  # points, as in the template
_LEGEND: tuple[tuple[Mark, str], ...] = (
    ("best", "best in class"),
    ("met", "met"),
    ("missed", "missed"),
    ("unknown", "unknown or no target"),
)


def pdf(facts: DailyFacts) -> bytes:
    """Return the document."""
    return typst.compile(
        _template(),
        format="pdf",
        font_paths=_fonts(),
        sys_inputs={"data": json.dumps(page_data(facts))},
        # Typst would write the present time into the document, and no two would be the same.
        timestamp=facts.made_at_s,
    )


def page_data(facts: DailyFacts) -> dict[str, Any]:
    """Return the values that the template reads; charts are laid out in points."""
    view = view_of(facts)
    shown = _fit_for_print(asdict(view))
    for row, target in zip(view.rows, shown["rows"], strict=True):
        target["plot"] = None
        if row.chart is not None:
            laid_out = plot(row.chart, _CHART_WIDTH, _CHART_HEIGHT, _CHART_MARGIN)
            target["plot"] = asdict(laid_out)
    titles = [TITLES[metric] for metric in METRICS]
    return {"view": shown, "titles": titles, "legend": _LEGEND, "fonts": FAMILIES}


def _fit_for_print(value: Any) -> Any:
    """Return a copy in which no text has a control character or breaks before a unit."""
    match value:
        case str():
            return unbroken(printable(value))
        case dict():
            return {key: _fit_for_print(part) for key, part in value.items()}
        case list() | tuple():
            return [_fit_for_print(part) for part in value]
        case _:
            return value


@cache
def _template() -> bytes:
    return (files("exporters.daily.render") / "templates" / "daily.typ").read_bytes()


@cache
def _fonts() -> typst.Fonts:
    """Return the fonts of the packages; FiraGO is packed in modules, Typst reads files."""
    # One folder a process; Typst maps the files, so they must stay until its end.
    folder = _font_folder()
    for name, code in _FILES.items():
        (Path(folder.name) / f"{name}.ttf").write_bytes(pymupdf_fonts.myfont(code))
    return typst.Fonts(
        include_system_fonts=False,
        include_embedded_fonts=False,
        font_paths=[folder.name, str(Path(manimgx_fonts_cjk.__file__).parent)],
    )


@cache
def _font_folder() -> "TemporaryDirectory[str]":
    """Return a folder that is removed when the process ends."""
    return TemporaryDirectory(prefix="tokenpulse-fonts-")
