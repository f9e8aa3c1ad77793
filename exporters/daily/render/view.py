"""The daily board in words, shared by all renderers so that no two formats can disagree.

Pure. All texts are plain and unescaped. Names in them come from events, policies and the customer
directory; each renderer escapes them for its format.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from zoneinfo import ZoneInfo

from exporters.daily.day.facts import (
    METRICS,
    PERIODS,
    DailyFacts,
    Day,
    PeriodKind,
    Risk,
    Segment,
)
from exporters.daily.day.figures import figure
from exporters.daily.day.verdict import (
    AT_RISK_BUDGET_LEFT,
    TITLES,
    is_at_risk,
    judge,
    verdict,
)
from exporters.daily.editions.periods import SPANS, Period, period_at
from exporters.daily.render.commercial import (
    CONTRACTS_SHOWN,
    GROWTH_NOTES,
    GROWTH_TITLES,
    RENEWAL_DAYS,
    CacheLine,
    ContractRow,
    GrowthLine,
    cache_line,
    cache_note,
    contract_row,
    contracts_note,
    growth_line,
)
from exporters.daily.render.rows import (
    Marked,
    Row,
    mark_budget,
    mark_metric,
    objective,
    seven,
    short,
)
from exporters.formatting import (
    budget_left,
    count,
    counted,
    exact_percent,
    minute,
    percent,
    tokens,
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
    tokens_known: str  # `61.3 % known`; empty if it is known for all requests or for none
    cache_known: str


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
    rows: tuple[Row, ...]
    against_titles: tuple[str, ...]  # `Against 7 days`
    month_title: str  # `November to date`; empty on the board of a week or month
    attempts: str  # one sentence; empty if all attempts of the day were final
    causes: tuple[str, ...]
    causes_note: str  # what rate and mix mean; empty without a cause
    causes_none: str  # in place of causes
    cache: tuple[CacheLine, ...]  # empty without a price book
    cache_note: str
    contracts: tuple[ContractRow, ...]  # those that are due within RENEWAL_DAYS
    contracts_more: int
    contracts_note: str  # how many are at risk, and the revenue at stake
    risks: tuple[RiskRow, ...]  # those at risk
    risks_more: int
    risks_note: str  # how many objectives are not at risk
    growth: tuple[GrowthLine, ...]
    growth_titles: tuple[str, ...]
    growth_totals: tuple[str, ...]  # of further columns: `November to date`, `Projected`
    growth_note: str
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
    corrections = (*_corrections(facts), *_risk_corrections(facts))
    badges = _badges(day)
    # Corrected budgets and credits count as well, beside the day's own metrics.
    if corrections and "corrected" not in badges:
        badges = (*badges, "corrected")
    period = period_of(facts)
    month = f"{date.fromisoformat(f'{facts.month}-01'):%B}"
    is_day = facts.edition is None
    rows = seven(facts)
    due = [contract for contract in facts.contracts if contract.days_left <= RENEWAL_DAYS]
    at_risk = [risk for risk in facts.risks if is_at_risk(risk)]
    made = f"{_made(facts)} {facts.zone}"
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
        reliable=badges == ("final",),
        corrections=corrections,
        rows=rows,
        against_titles=_against_titles(facts, period),
        month_title=f"{month} to date" if is_day else "",
        attempts=_attempts(day, facts.targets.availability_ratio),
        causes=tuple(cause.words for cause in facts.causes),
        causes_note=_causes_note(facts, period) if facts.causes else "",
        causes_none=f"No change beyond the usual ones of a {facts.period}.",
        cache=tuple(cache_line(row, facts.cache.target_ratio) for row in facts.cache.rows)
        if facts.cache is not None
        else (),
        cache_note=cache_note(facts.cache),
        contracts=tuple(contract_row(contract) for contract in due[:CONTRACTS_SHOWN]),
        contracts_more=max(0, len(due) - CONTRACTS_SHOWN),
        contracts_note=contracts_note(facts.contracts, due),
        risks=tuple(_risk_row(risk) for risk in at_risk[:RISKS_SHOWN]),
        risks_more=max(0, len(at_risk) - RISKS_SHOWN),
        risks_note=_risks_note(facts.risks),
        growth=tuple(growth_line(row, facts) for row in facts.growth),
        growth_titles=(
            (*GROWTH_TITLES, f"A day in {month}") if is_day else _against_titles(facts, period)
        ),
        growth_totals=(f"{month} to date", "Projected")
        if is_day
        else ("Projected",) * (facts.period == "month" and facts.day.state == "running"),
        growth_note=GROWTH_NOTES[facts.period] if facts.growth else "",
        segments_none=NO_DIRECTORY if is_day else NO_SEGMENTS,
        segments=tuple(_segment_row(one, facts) for one in facts.segments[:SEGMENTS_SHOWN]),
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


def _attempts(day: Day, target: float | None) -> str:
    """Return the attempts of a day beside its requests, in one sentence."""
    if day.attempts is None:
        return ""
    return (
        f"Retries and fallbacks: {counted(day.attempts.attempts, 'attempt')} at "
        f"{counted(day.values.requests, 'request')}; the providers succeeded in "
        f"{percent(day.attempts.availability_ratio, target)} of the attempts that count, the "
        f"customers in {percent(day.values.availability_ratio.value, target)} of the requests."
    )


def _corrections(facts: DailyFacts) -> Iterator[str]:
    for correction in facts.day.corrections:
        metric = correction.metric
        target = facts.targets.of(metric)
        yield (
            f"Correction, {TITLES[metric]}: final as {figure(metric, correction.sealed, target)}, "
            f"today {figure(metric, correction.now, target)} ({correction.words})."
        )


def _risk_corrections(facts: DailyFacts) -> Iterator[str]:
    """Yield one sentence about all error budgets and credits that read otherwise."""
    final = {risk.key: risk for risk in facts.risks}
    differences = []
    for risk in facts.risks_corrected:
        before, now = _risk_words(final[risk.key]), _risk_words(risk)
        if before != now:
            name = f"{objective(risk)}, {short(risk.scope)}"
            differences.append(f"{name}: final as {before}, today {now}")
    if differences:
        more = f"; {len(differences) - 1} more" if len(differences) > 1 else ""
        yield f"Correction, error budget of {differences[0]} (late events or maintenance{more})."


def _risk_words(risk: Risk) -> str:
    ahead = "" if risk.credit_projected is None else f" and {risk.credit_projected} ahead"
    return f"{budget_left(risk.budget_left_ratio)}{ahead}"


def _risk_row(risk: Risk) -> RiskRow:
    return RiskRow(
        name=objective(risk),
        scope=short(risk.scope),
        target=exact_percent(risk.target_ratio),
        attained=percent(risk.attained_ratio, risk.target_ratio),
        budget=mark_budget(risk),
        credit=risk.credit_projected or "–",
        adjusted=risk.adjusted,
    )


def _risks_note(risks: Sequence[Risk]) -> str:
    """Return the number of objectives that are not at risk, and of those without data."""
    if not risks:
        return "No policy in force has an error budget."
    unknown = sum(risk.budget_left_ratio is None and not is_at_risk(risk) for risk in risks)
    safe = sum(not is_at_risk(risk) for risk in risks) - unknown
    parts = []
    if safe:
        verb = "has" if safe == 1 else "have"
        least = exact_percent(AT_RISK_BUDGET_LEFT)
        parts.append(f"{counted(safe, 'objective')} {verb} at least {least} of the budget left")
    if unknown:
        verb = "has" if unknown == 1 else "have"
        parts.append(f"{counted(unknown, 'objective')} {verb} no data")
    return f"{'; '.join(parts)}." if parts else ""


def _segment_row(segment: Segment, facts: DailyFacts) -> SegmentRow:
    targets = facts.targets
    return SegmentRow(
        name=short(segment.name),
        customers=counted(segment.customers, "customer"),
        requests=count(segment.requests),
        tokens=tokens(segment.tokens),
        availability=percent(segment.availability_ratio, targets.availability_ratio),
        cache_hit=percent(segment.cache_hit_ratio, targets.cache_hit_ratio),
        tokens_known=_known_share(segment.tokens_known_ratio),
        cache_known=_known_share(segment.cached_known_ratio),
    )


def _known_share(ratio: float | None) -> str:
    # If none of it is known, the value itself is "unknown".
    return f"{percent(ratio)} known" if ratio and ratio < 1 else ""


def _column(day: Day, facts: DailyFacts) -> DayColumn:
    badges = _badges(day)
    first = date.fromisoformat(day.date)
    period = period_at(first, facts.period)
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
