"""The days of the daily board as CSV (RFC 4180), one row a day.

Pure. Numbers in seconds and ratios from 0 to 1; an unknown value is empty. A text that a
spreadsheet would read as a formula gets an apostrophe before it.
"""

import csv
from collections.abc import Iterator
from datetime import UTC, datetime
from io import StringIO

from exporters.daily.day.facts import METRICS, DailyFacts, Day
from exporters.daily.render.rows import measured, target_of

# What makes a cell a formula in one spreadsheet program or another.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")

COLUMNS = (
    *("date", "from", "to", "zone", "state", "complete", "corrected", "requests"),
    *(
        f"{metric}{suffix}"
        for metric in METRICS
        for suffix in ("", "_samples", "_target", "_mark")
        if (metric, suffix) not in (("tokens", "_samples"), ("tokens", "_target"))
    ),
    "note",
)


def csv_text(facts: DailyFacts) -> str:
    """All days of the board, oldest first, after a line of column names."""
    out = StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\r\n")
    writer.writeheader()
    for day in facts.days:
        writer.writerow(dict(_cells(day, facts)))
    return out.getvalue()


def _cells(day: Day, facts: DailyFacts) -> Iterator[tuple[str, str]]:
    yield "date", day.date
    yield "from", _instant(day.from_s)
    yield "to", _instant(day.to_s)
    yield "zone", facts.zone
    yield "state", day.state
    yield "complete", _flag(day.complete)
    yield "corrected", _flag(bool(day.corrections))
    yield "requests", str(day.values.requests)
    for metric in METRICS:
        found = measured(day.values, metric)
        yield metric, _number(found.value)
        if metric != "tokens":
            yield f"{metric}_samples", str(found.samples)
            yield f"{metric}_target", _number(target_of(facts.targets, metric))
        yield f"{metric}_mark", found.mark
    yield "note", _harmless(day.note)


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return str(int(value)) if float(value).is_integer() else repr(value)


def _flag(is_so: bool) -> str:
    return "true" if is_so else "false"


def _instant(at_s: int) -> str:
    return f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _harmless(text: str) -> str:
    # A NUL ends the text in some readers.
    text = text.replace("\0", "�")
    return f"'{text}" if text.startswith(_FORMULA) else text
