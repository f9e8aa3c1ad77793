"""The daily board as plain text: what a terminal prints and the text part of the e-mail.

Pure. Names come from events and from the operator's files, so a sign that is not printable (such as
a terminal's control sequence or a line break) is replaced before it is written.
"""

from functools import cache
from typing import Any

from jinja2 import Template

from exporters.daily.day.facts import DailyFacts
from exporters.daily.render.view import view_of
from exporters.templates import templates

REPLACEMENT = "�"


def plain_text(facts: DailyFacts, link: str | None = None) -> str:
    """Return the board without the days before; `link`: the address of its page."""
    return _template().render(view=view_of(facts), link=link)


@cache
def _template() -> Template:
    # Plain text has no markup: escaping would show `&amp;` to the reader.
    environment = templates("exporters.daily.render").overlay(autoescape=False, finalize=printable)
    environment.filters["columns"] = columns
    return environment.get_template("daily.txt")


def columns(rows: list[list[str]]) -> list[str]:
    """Return rows of cells as lines with aligned columns."""
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def printable(value: Any) -> Any:
    """Return a text on one line without signs that change how a terminal shows what follows."""
    if not isinstance(value, str):
        return value
    return "".join(
        char if char.isprintable() else " " if char.isspace() else REPLACEMENT for char in value
    )
