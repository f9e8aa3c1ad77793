"""The daily board in words, shared by all renderers so that no two formats can disagree.

Pure. All texts are plain and unescaped. Names in them come from events, policies and the customer
directory; each renderer escapes them for its format.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from exporters.daily.day import figures
from exporters.daily.day.facts import METRICS, DailyFacts, Day, Risk
from exporters.daily.render.rows import (
    TITLES,
    Marked,
    Row,
    budget,
    marked,
    measured,
    objective,
    seven,
    short,
)
from exporters.formatting import exact_percent

RISKS_SHOWN = 5
SEGMENTS_SHOWN = 5
CAUSES_NOTE = (
    "Rate: it got better or worse itself. Mix: its share of the traffic changed. Compared with the "
    "days before taken together, so a little off the medians above."
)

READING = (
    "Percentiles are within 1 % of the exact value; numbers are rounded down, and judged before "
    "that. A norm is the median of the days before."
)


@dataclass(frozen=True, slots=True)
class RiskRow:
    """One objective with a budget."""

    name: str  # `default/uptime`
    scope: str
    target: str
    attained: str
    budget: Marked
    credit: str
    adjusted: bool


@dataclass(frozen=True, slots=True)
class SegmentRow:
    """Customers of one segment."""

    name: str
    customers: str  # `42 customers`
    requests: str
    tokens: str
    availability: str
    cache_hit: str


@dataclass(frozen=True, slots=True)
class DayColumn:
    """One day of the strip."""

    date: str
    day: str  # of the month, `03`
    weekend: bool
    requests: str
    state: str  # `final`, `provisional, incomplete`; words
    letter: str  # the state in the strip, a letter; empty if it is final and complete
    chosen: bool
    linked: bool  # whether there is a board of it
    cells: tuple[Marked, ...]  # in the order of METRICS


@dataclass(frozen=True, slots=True)
class View:
    """All texts of a page of the daily board."""

    date: str
    date_words: str  # `Tuesday, 3 November 2026`
    zone: str
    state: str  # `final`, `provisional`, `still running`, `no data`
    badges: tuple[str, ...]  # the state, then `incomplete` and `corrected` where they hold
    headline: str
    verdict: str  # `missed: P95 TTFT`
    trust: str
    reliable: bool  # final, complete and not corrected
    corrections: tuple[str, ...]
    rows: tuple[Row, ...]
    month: str  # `November`
    month_words: str  # `November 2026 to date`
    causes: tuple[str, ...]
    causes_note: str  # what rate and mix mean; empty without a cause
    risks: tuple[RiskRow, ...]
    risks_more: int
    segments: tuple[SegmentRow, ...]
    segments_more: int
    days: tuple[DayColumn, ...]
    made: str  # `2026-11-04 08:00 UTC`
    foot: str  # when it was made, and how to read its numbers
    previous: str | None  # dates that there is a board of, for links
    next: str | None


def view_of(facts: DailyFacts) -> View:
    """The board of some facts in words."""
    day = facts.day
    corrections = (*_corrections(day), *_risk_corrections(facts))
    badges = _badges(day)
    if corrections and "corrected" not in badges:
        badges = (*badges, "corrected")
    month = date.fromisoformat(f"{facts.month}-01")
    rows = seven(facts)
    made = f"{_made(facts):%Y-%m-%d %H:%M} {facts.zone}"
    return View(
        date=facts.date,
        date_words=_date_words(facts.date),
        zone=facts.zone,
        state=badges[0],
        badges=badges,
        headline=facts.headline,
        verdict=_verdict(rows),
        trust=facts.trust,
        reliable=badges == ("final",),
        corrections=corrections,
        rows=rows,
        month=f"{month:%B}",
        month_words=f"{month:%B %Y} to date",
        causes=tuple(cause.words for cause in facts.causes),
        causes_note=CAUSES_NOTE if facts.causes else "",
        risks=tuple(_risk_row(risk) for risk in facts.risks[:RISKS_SHOWN]),
        risks_more=max(0, len(facts.risks) - RISKS_SHOWN),
        segments=tuple(
            SegmentRow(
                short(one.name),
                "1 customer" if one.customers == 1 else f"{figures.count(one.customers)} customers",
                figures.large(one.requests),
                figures.large(one.tokens),
                figures.figure("availability_ratio", one.availability_ratio),
                figures.figure("cache_hit_ratio", one.cache_hit_ratio),
            )
            for one in facts.segments[:SEGMENTS_SHOWN]
        ),
        segments_more=max(0, len(facts.segments) - SEGMENTS_SHOWN),
        days=tuple(_column(one, facts) for one in facts.days),
        made=made,
        foot=f"Made {made}; days of the zone {facts.zone}. {READING}",
        previous=_beside(facts, -1),
        next=_beside(facts, 1),
    )


def subject(view: View, update: bool = False) -> str:
    """Return the board in one line: `Reliability 2026-11-03: missed P95 TTFT (final)`.

    `update`: the recipient received different numbers before the day was final.
    """
    before = "Update: " if update else ""
    return f"{before}Reliability {view.date}: {view.verdict} ({', '.join(view.badges)})"


def numbers(view: View) -> str:
    """A digest of the numbers and marks that a reader was told."""
    told = [(row.key, row.value.text, row.value.mark) for row in view.rows]
    return hashlib.sha256(repr(told).encode()).hexdigest()[:32]


def is_corrected(day: Day) -> bool:
    """Return True if a final day would differ today."""
    return bool(day.corrections)


def _badges(day: Day) -> tuple[str, ...]:
    states = {
        "running": "still running",
        "provisional": "provisional",
        "sealed": "final",
        "absent": "no data",
    }
    badges = [states[day.state]]
    if not day.complete:
        badges.append("incomplete")
    if is_corrected(day):
        badges.append("corrected")
    return tuple(badges)


def _corrections(day: Day) -> Iterator[str]:
    for one in day.corrections:
        yield (
            f"Correction, {TITLES[one.metric]}: sealed as "
            f"{figures.figure(one.metric, one.sealed)}, today "
            f"{figures.figure(one.metric, one.now)} ({one.words})."
        )


def _risk_corrections(facts: DailyFacts) -> Iterator[str]:
    """One sentence about all error budgets and credits that read otherwise."""
    sealed = {(one.policy, one.objective, one.scope): one for one in facts.risks}
    told = []
    for one in facts.risks_corrected:
        was = _risk_words(sealed[one.policy, one.objective, one.scope])
        if was != _risk_words(one):
            name = f"{objective(one)}, {short(one.scope)}"
            told.append(f"{name}: sealed as {was}, today {_risk_words(one)}")
    if told:
        more = f"; {len(told) - 1} more" if len(told) > 1 else ""
        yield f"Correction, error budget of {told[0]} (late events or maintenance{more})."


def _risk_words(risk: Risk) -> str:
    ahead = "" if risk.credit_projected is None else f" and {risk.credit_projected} ahead"
    return f"{figures.budget(risk.budget_left_ratio)}{ahead}"


def _verdict(rows: tuple[Row, ...]) -> str:
    judged = [row for row in rows if row.value.mark != "unknown"]
    missed = [row.title for row in judged if row.value.mark == "missed"]
    if missed:
        return f"missed {', '.join(missed)}"
    return f"all {len(judged)} targets met" if judged else "nothing to judge"


def _risk_row(risk: Risk) -> RiskRow:
    attained = risk.attained_ratio
    return RiskRow(
        name=objective(risk),
        scope=short(risk.scope),
        target=exact_percent(risk.target_ratio),
        attained=figures.UNKNOWN if attained is None else figures.percent(attained, 3),
        budget=budget(risk.budget_left_ratio),
        credit=risk.credit_projected or "–",
        adjusted=risk.adjusted,
    )


def _column(day: Day, facts: DailyFacts) -> DayColumn:
    badges = _badges(day)
    letters = {"provisional": "P", "still running": "R", "no data": "–"}
    marks = letters.get(badges[0], "") + ("!" if not day.complete else "")
    return DayColumn(
        date=day.date,
        day=day.date[-2:],
        weekend=date.fromisoformat(day.date).weekday() >= 5,
        requests=figures.count(day.values.requests),
        state=", ".join(badges),
        letter=marks + ("C" if is_corrected(day) else ""),
        chosen=day.date == facts.date,
        linked=_has_board(day.date, facts),
        cells=tuple(marked(metric, measured(day.values, metric)) for metric in METRICS),
    )


def _date_words(text: str) -> str:
    found = date.fromisoformat(text)
    return f"{found:%A}, {found.day} {found:%B %Y}"


def _made(facts: DailyFacts) -> datetime:
    return datetime.fromtimestamp(facts.made_at_s, UTC).astimezone(ZoneInfo(facts.zone))


def _has_board(on: str, facts: DailyFacts) -> bool:
    """Return True if a date has a board: not before the first day with data."""
    return any(day.date <= on and day.state != "absent" for day in facts.days)


def _beside(facts: DailyFacts, step: int) -> str | None:
    """The day before or after the board's, if this board knows that it can be asked for."""
    found = (date.fromisoformat(facts.date) + timedelta(days=step)).isoformat()
    if step < 0:
        return found if _has_board(found, facts) else None
    return found if found <= f"{_made(facts):%Y-%m-%d}" else None
