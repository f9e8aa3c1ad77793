"""The daily board as Markdown that reads well on GitHub, in Slack and in a terminal.

Pure. No tables, since Slack has none: columns are set in a code block. Names in sentences cannot
become markup, mentions or links.
"""

import re
from collections.abc import Sequence

from exporters.daily.day.facts import DailyFacts
from exporters.daily.render.rows import Row
from exporters.daily.render.view import View, view_of

# A sign that begins or ends markup, wherever it stands.
_MARKUP = re.compile(r"([\\`*\[\]|~#])")
# `_` does so only beside a space or an end; inside a word it is a letter.
_UNDERSCORE = re.compile(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
# What makes a list of a line that begins with it.
_ITEM = re.compile(r"^(\d*)([-+.)])(?= )")
_ENTITY = re.compile(r"&(?=#?\w{1,31};)")
# An address that is made a link by itself, a mention of somebody.
_LINK = re.compile(r"(?i)\b(https?|ftp|mailto|www)(?=[:.])")
_MENTION = re.compile(r"@(?=\w)")
_UNSEEN = "\u2060"  # a word joiner: no width, and breaks what it stands in


def markdown(facts: DailyFacts, link: str | None = None) -> str:
    """The board, without the days before: a summary for people. `link`: where the page is."""
    view = view_of(facts)
    blocks = [
        f"*Daily reliability board, {view.date_words}* ({', '.join(view.badges)})",
        plain(view.headline),
        plain(view.trust),
        *(plain(words) for words in view.corrections),
        _block(
            [["", "this day", "", "target", "against 28 days", f"{view.month} to date"]]
            + [_number(row) for row in view.rows]
        ),
    ]
    if view.causes:
        blocks.append("*What moved*")
        numbered = [f"{number}. {plain(words)}" for number, words in enumerate(view.causes, 1)]
        blocks += ["\n".join(numbered), plain(view.causes_note)]
    if view.risks:
        blocks += ["*Objectives at risk*", _risks(view)]
    if view.segments:
        blocks += ["*Segments*", _segments(view)]
    if link is not None:
        blocks.append(f"The whole page: {link}")
    blocks.append(f"Made {view.made}; days of the zone {view.zone}.")
    return "\n\n".join(blocks) + "\n"


def plain(text: str) -> str:
    """Escape a text so that no part of it is markup."""
    text = _printable(text)
    text = _ENTITY.sub("&amp;", text)
    text = _MARKUP.sub(r"\\\1", text)
    text = _UNDERSCORE.sub(r"\\_", text)
    text = _ITEM.sub(r"\1\\\2", text)
    text = text.replace("<", "&lt;").replace(">", "&gt;")
    text = _LINK.sub(rf"\1{_UNSEEN}", text)
    return _MENTION.sub(f"@{_UNSEEN}", text)


def _number(row: Row) -> list[str]:
    month = row.month.text if row.month is not None else ""
    return [
        row.title,
        row.value.text,
        row.value.words.upper() if row.value.mark == "missed" else row.value.words,
        row.target,
        row.four_weeks.words if row.four_weeks is not None else "",
        month,
    ]


def _risks(view: View) -> str:
    rows = [
        [risk.name, risk.scope, f"{risk.attained} of {risk.target}", risk.budget.text, risk.credit]
        for risk in view.risks
    ]
    return _block([["objective", "scope", "attained", "budget", "credit ahead"], *rows])


def _segments(view: View) -> str:
    rows = [
        [one.name, one.customers, one.requests, one.tokens, one.availability, one.cache_hit]
        for one in view.segments
    ]
    return _block([["segment", "", "requests", "tokens", "uptime", "cache hit rate"], *rows])


def _block(rows: Sequence[Sequence[str]]) -> str:
    """Rows as a code block with columns."""
    # Only a fence ends a code block: no line of it can be made of backticks.
    cells = [[_printable(cell).replace("`", "'") for cell in row] for row in rows]
    widths = [max(len(row[at]) for row in cells) for at in range(len(cells[0]))]
    lines = [
        "  ".join(cell.ljust(wide) for cell, wide in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]
    return "\n".join(["```", *lines, "```"])


def _printable(text: str) -> str:
    """Return the text on one line, with unprintable characters replaced."""
    return "".join(
        char if char == " " or char.isprintable() else "�" for char in " ".join(text.split())
    )
