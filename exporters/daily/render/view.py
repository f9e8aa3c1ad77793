"""The daily board in words, shared by all renderers so that no two formats can disagree.

Pure. All texts are plain and unescaped. Names in them come from events, policies and the customer
directory; each renderer escapes them for its format.
"""

import hashlib
from dataclasses import dataclass
from datetime import date, timedelta
from zoneinfo import ZoneInfo

from exporters.daily.day.facts import (
    METRICS,
    PERIODS,
    DailyFacts,
    Day,
    PeriodKind,
)
from exporters.daily.day.verdict import (
    is_at_risk,
    judge,
    verdict,
)
from exporters.daily.editions.periods import SPANS, Period, period_at
from exporters.daily.render.commercial import (
    CONTRACTS_SHOWN,
    GROWTH_TITLES,
    RENEWAL_DAYS,
    CacheLine,
    ContractRow,
    GrowthLine,
    cache_answer,
    cache_line,
    cache_note,
    contract_row,
    contracts_note,
    growth_table,
)
from exporters.daily.render.details import (
    RiskRow,
    SegmentRow,
    attempts_words,
    metric_corrections,
    risk_corrections,
    risk_row,
    risks_note,
    segment_row,
)
from exporters.daily.render.rows import (
    Marked,
    NumberRow,
    mark_metric,
    seven,
)
from exporters.formatting import (
    count,
    counted,
    minute,
)

RISKS_SHOWN = 5
SEGMENTS_SHOWN = 5
RATE_AND_MIX = "Rate: it got better or worse itself. Mix: its share of the traffic changed."
AGAINST_DAYS = "Compared with the days before taken together, so a little off the medians above."
ADJECTIVES: dict[PeriodKind, str] = {"day": "Daily", "week": "Weekly", "month": "Monthly"}
YEARS = {"week": ", {}", "month": " {}"}  # after the name of a week or month
DAY_AGAINST = ("Against 7 days", "Against 28 days")
NO_DIRECTORY = "No customer directory is configured."
NO_SEGMENTS = "No customer directory is configured, or customers are no longer counted by name."

READING = (
    "Percentiles are within 1 % of the exact value. No number is rounded to the other side of its "
    "target."
)
NORMS = "A norm is the median of the days before."
SUMS = "Percentiles and ratios are those of all requests of the {period}, not means of its days."


@dataclass(frozen=True, slots=True)
class DayColumn:
    """One day of the strip."""

    date: str
    day: str  # of the month, `03`; of the week or month, `46` or `Nov`
    hidden: str  # the rest of its name, for readers of a screen: `2026-11-`
    query: str
    weekend: bool
    requests: str
    state: str  # `final`, `provisional, incomplete`; words
    letter: str  # the state in the strip, a letter; empty if it is final and complete
    chosen: bool
    linked: bool  # True if there is a board of it
    cells: tuple[Marked, ...]  # in the order of METRICS


@dataclass(frozen=True, slots=True)
class View:
    """All texts of a page of the daily board."""

    title: str  # `Daily reliability board`
    period: PeriodKind
    this: str  # `this day`, `this week`
    date: str  # of a day; `2026-W46`, `2026-11` of a week or month
    first_date: str  # `2026-11-03`
    date_words: str  # `Tuesday, 3 November 2026`
    zone: str
    state: str  # `final`, `provisional`, `still running`, `no data`
    badges: tuple[str, ...]  # the state, then `incomplete` and `corrected` if they apply
    headline: str
    verdict: str  # `missed: P95 TTFT`
    trust: str
    reliable: bool  # final, complete and not corrected
    corrections: tuple[str, ...]
    rows: tuple[NumberRow, ...]
    against_titles: tuple[str, ...]  # `Against 7 days`
    month_title: str  # `November to date`; empty on the board of a week or month
    attempts: str  # one sentence; empty if the attempts of the day are its requests
    causes: tuple[str, ...]
    causes_note: str  # what rate and mix mean; empty without a cause
    causes_none: str  # in place of causes
    cache: tuple[CacheLine, ...]  # empty without a price book
    cache_answer: str  # what the cache saved and lost, in one sentence; empty without a price book
    cache_note: str
    contracts: tuple[ContractRow, ...]  # those that are due within RENEWAL_DAYS
    contracts_more: int
    contracts_note: str  # how many are at risk, and the revenue at stake
    has_directory: bool  # of customers; without one a mail does not ask about renewals
    risks: tuple[RiskRow, ...]  # those at risk
    risks_more: int
    risks_note: str  # how many objectives are not at risk
    growth: tuple[GrowthLine, ...]
    growth_titles: tuple[str, ...]  # of the comparisons that are known for a name at least
    growth_totals: tuple[str, ...]  # of further columns: `November to date`, `Projected`
    growth_note: str
    growth_answer: str  # whether the tokens of all traffic grow, in one sentence; may be empty
    segments_none: str  # in place of segments
    segments: tuple[SegmentRow, ...]
    segments_more: int
    days: tuple[DayColumn, ...]
    days_title: str  # `31 days`, `13 weeks`
    made: str  # `2026-11-04 08:00 UTC`
    foot: str  # when it was made, and how to read its numbers
    query: str  # of the links to other formats: `date=2026-11-03`
    previous: str | None  # of the boards beside it, for links
    next: str | None
    other_periods: tuple[PeriodKind, ...]  # for links


def view_of(facts: DailyFacts) -> View:
    """Return the texts of a board."""
    day = facts.day
    corrections = (*metric_corrections(facts), *risk_corrections(facts))
    badges = _badges(day)
    # Corrected budgets and credits count as well, beside the day's own metrics.
    if corrections and "corrected" not in badges:
        badges = (*badges, "corrected")
    period = period_of(facts)
    month = f"{date.fromisoformat(f'{facts.month}-01'):%B}"
    is_day = facts.edition is None
    rows = seven(facts)
    # Sorted by renewal date, so that those with the least time left are shown.
    due = [contract for contract in facts.contracts if contract.days_left <= RENEWAL_DAYS]
    at_risk = [risk for risk in facts.risks if is_at_risk(risk)]
    made = f"{_made(facts)} {facts.zone}"
    before = f"{date.fromisoformat(f'{facts.month}-01') - timedelta(days=1):%B}"
    growth = growth_table(
        facts,
        (*GROWTH_TITLES, f"{month} a day, against {before}")
        if is_day
        else _against_titles(facts, period),
    )
    return View(
        title=f"{ADJECTIVES[facts.period]} reliability board",
        period=facts.period,
        this=f"this {facts.period}",
        date=period.label,
        first_date=facts.date,
        date_words=period.words,
        zone=facts.zone,
        state=badges[0],
        badges=badges,
        headline=facts.headline,
        verdict=verdict(judge(day.values, facts.targets, facts.risks)),
        trust=facts.trust,
        # With another badge the numbers may still change, or are not of the whole day.
        reliable=badges == ("final",),
        corrections=corrections,
        rows=rows,
        against_titles=_against_titles(facts, period),
        month_title=f"{month} to date" if is_day else "",
        attempts=attempts_words(day, facts.targets.availability_ratio),
        causes=tuple(cause.words for cause in facts.causes),
        causes_note=_causes_note(facts, period) if facts.causes else "",
        causes_none=f"No change beyond the usual ones of a {facts.period}.",
        cache=tuple(cache_line(row, facts.cache.target_ratio) for row in facts.cache.rows)
        if facts.cache is not None
        else (),
        cache_answer=cache_answer(facts.cache),
        cache_note=cache_note(facts.cache),
        contracts=tuple(contract_row(contract) for contract in due[:CONTRACTS_SHOWN]),
        contracts_more=max(0, len(due) - CONTRACTS_SHOWN),
        contracts_note=contracts_note(facts.contracts, due),
        has_directory=bool(facts.contracts or facts.segments),
        risks=tuple(risk_row(risk) for risk in at_risk[:RISKS_SHOWN]),
        risks_more=max(0, len(at_risk) - RISKS_SHOWN),
        risks_note=risks_note(facts.risks),
        growth=growth.rows,
        growth_titles=growth.titles,
        growth_totals=(f"{month} to date", "Projected")
        if is_day
        else ("Projected",) * (facts.period == "month" and facts.day.state == "running"),
        growth_note=growth.note,
        growth_answer=growth.answer,
        segments_none=NO_DIRECTORY if is_day else NO_SEGMENTS,
        segments=tuple(segment_row(one, facts) for one in facts.segments[:SEGMENTS_SHOWN]),
        segments_more=max(0, len(facts.segments) - SEGMENTS_SHOWN),
        days=tuple(_column(one, facts) for one in facts.days),
        days_title=counted(len(facts.days), facts.period),
        made=made,
        foot=f"Made {made}; days of the zone {facts.zone}. {READING} "
        + (NORMS if is_day else SUMS.format(period=facts.period)),
        query=_query(period),
        previous=_beside(facts, -1),
        next=_beside(facts, 1),
        other_periods=tuple(kind for kind in PERIODS if kind != facts.period),
    )


def subject(view: View, update: bool = False) -> str:
    """Return the board in one line: `Reliability 2026-11-03: missed P95 TTFT (final)`.

    `update`: the recipient received different numbers before the day was final.
    """
    before = "Update: " if update else ""
    name = view.date if view.period == "day" else view.date_words
    return f"{before}Reliability {name}: {view.verdict} ({', '.join(view.badges)})"


def numbers(view: View) -> str:
    """Return a hash of the seven numbers and their marks."""
    # The texts and not the values: a change that no reader sees sends no second e-mail.
    numbers = [(row.key, row.value.text, row.value.mark) for row in view.rows]
    return hashlib.sha256(repr(numbers).encode()).hexdigest()[:32]


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
    if day.corrections:
        badges.append("corrected")
    return tuple(badges)


def _column(day: Day, facts: DailyFacts) -> DayColumn:
    badges = _badges(day)
    first = date.fromisoformat(day.date)
    period = period_at(first, facts.period)
    # As short as a column of the strip; the rest of the name is there for screen readers.
    name = {"week": period.label[-2:], "month": f"{first:%b}"}.get(facts.period, day.date[-2:])
    letters = {"provisional": "P", "still running": "R", "no data": "–"}
    marks = letters.get(badges[0], "") + ("!" if not day.complete else "")
    return DayColumn(
        date=period.label,
        day=name,
        hidden=period.label.removesuffix(name),
        query=_query(period),
        weekend=facts.edition is None and first.weekday() >= 5,
        requests=count(day.values.requests),
        state=", ".join(badges),
        letter=marks + ("C" if day.corrections else ""),
        chosen=day.date == facts.date,
        linked=_has_board(period.last.isoformat(), facts),
        cells=tuple(mark_metric(metric, day.values, facts.targets) for metric in METRICS),
    )


def _made(facts: DailyFacts) -> str:
    return minute(facts.made_at_s, ZoneInfo(facts.zone))


def _has_board(on: str, facts: DailyFacts) -> bool:
    """Return True if a date has a board: not before the first day with data."""
    return any(day.date <= on and day.state != "absent" for day in facts.days)


def _beside(facts: DailyFacts, step: int) -> str | None:
    """Return the query of the board before or after, or None if there is none."""
    beside = period_of(facts).step(step)
    # Before: if data reaches back that far. After: up to the running one.
    exists = (
        _has_board(beside.last.isoformat(), facts)
        if step < 0
        # Both are dates in the zone of the board, which are ordered as text.
        else beside.first.isoformat() <= _made(facts)[:10]
    )
    return beside.label if exists else None


def period_of(facts: DailyFacts) -> Period:
    """Return the day, week or month of a board."""
    return period_at(date.fromisoformat(facts.date), facts.period)


def _query(period: Period) -> str:
    kind = "" if period.kind == "day" else f"period={period.kind}&"
    return f"{kind}date={period.label}"


def _against_titles(facts: DailyFacts, period: Period) -> tuple[str, ...]:
    """Return the titles of the comparisons of the seven numbers."""
    if facts.edition is None:
        return DAY_AGAINST
    spans = {change.span for change in facts.edition.changes}
    earlier = {span: period.step(-back) for span, back in SPANS[facts.period].items()}
    return tuple(
        f"Against {one.short}{YEARS[facts.period].format(one.label[:4]) if span == 'year' else ''}"
        for span, one in earlier.items()
        if span in spans
    )


def _causes_note(facts: DailyFacts, period: Period) -> str:
    if facts.edition is None:
        return f"{RATE_AND_MIX} {AGAINST_DAYS}"
    return f"{RATE_AND_MIX} Compared with {period.step(-1).short}."
