"""The daily board in words, shared by all renderers so that no two formats can disagree.

Pure. All texts are plain and unescaped. Names in them come from events, policies and the customer
directory; each renderer escapes them for its format.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from zoneinfo import ZoneInfo

from exporters.daily.day.facts import (
    METRICS,
    DailyFacts,
    Day,
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
from exporters.daily.render.commercial import (
    CONTRACTS_SHOWN,
    GROWTH_NOTE,
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
CAUSES_NOTE = (
    "Rate: it got better or worse itself. Mix: its share of the traffic changed. Compared with the "
    "days before taken together, so a little off the medians above."
)

READING = (
    "Percentiles are within 1 % of the exact value. No number is rounded to the other side of its "
    "target. A norm is the median of the days before."
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
    tokens_known: str  # `61.3 % known`; empty if it is known for all requests or for none
    cache_known: str


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
    linked: bool  # True if there is a board of it
    cells: tuple[Marked, ...]  # in the order of METRICS


@dataclass(frozen=True, slots=True)
class View:
    """All texts of a page of the daily board."""

    date: str
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
    attempts: str  # one sentence; empty if all attempts of the day were final
    month: str  # `November`
    month_words: str  # `November 2026 to date`
    causes: tuple[str, ...]
    causes_note: str  # what rate and mix mean; empty without a cause
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
    growth_note: str
    segments: tuple[SegmentRow, ...]
    segments_more: int
    days: tuple[DayColumn, ...]
    made: str  # `2026-11-04 08:00 UTC`
    foot: str  # when it was made, and how to read its numbers
    previous: str | None  # dates with a board, for links
    next: str | None


def view_of(facts: DailyFacts) -> View:
    """Return the texts of a board."""
    day = facts.day
    corrections = (*_corrections(facts), *_risk_corrections(facts))
    badges = _badges(day)
    # Corrected budgets and credits count as well, beside the day's own metrics.
    if corrections and "corrected" not in badges:
        badges = (*badges, "corrected")
    month = date.fromisoformat(f"{facts.month}-01")
    rows = seven(facts)
    due = [contract for contract in facts.contracts if contract.days_left <= RENEWAL_DAYS]
    at_risk = [risk for risk in facts.risks if is_at_risk(risk)]
    made = f"{_made(facts)} {facts.zone}"
    return View(
        date=facts.date,
        date_words=_date_words(facts.date),
        zone=facts.zone,
        state=badges[0],
        badges=badges,
        headline=facts.headline,
        verdict=verdict(judge(day.values, facts.targets, facts.risks)),
        trust=facts.trust,
        reliable=badges == ("final",),
        corrections=corrections,
        rows=rows,
        attempts=_attempts(day, facts.targets.availability_ratio),
        month=f"{month:%B}",
        month_words=f"{month:%B %Y} to date",
        causes=tuple(cause.words for cause in facts.causes),
        causes_note=CAUSES_NOTE if facts.causes else "",
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
        growth=tuple(growth_line(row, facts.month_to_date) for row in facts.growth),
        growth_titles=(*GROWTH_TITLES, f"A day in {month:%B}"),
        growth_note=GROWTH_NOTE if facts.growth else "",
        segments=tuple(_segment_row(one, facts) for one in facts.segments[:SEGMENTS_SHOWN]),
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
    letters = {"provisional": "P", "still running": "R", "no data": "–"}
    marks = letters.get(badges[0], "") + ("!" if not day.complete else "")
    return DayColumn(
        date=day.date,
        day=day.date[-2:],
        weekend=date.fromisoformat(day.date).weekday() >= 5,
        requests=count(day.values.requests),
        state=", ".join(badges),
        letter=marks + ("C" if day.corrections else ""),
        chosen=day.date == facts.date,
        linked=_has_board(day.date, facts),
        cells=tuple(mark_metric(metric, day.values, facts.targets) for metric in METRICS),
    )


def _date_words(text: str) -> str:
    day = date.fromisoformat(text)
    return f"{day:%A}, {day.day} {day:%B %Y}"


def _made(facts: DailyFacts) -> str:
    return minute(facts.made_at_s, ZoneInfo(facts.zone))


def _has_board(on: str, facts: DailyFacts) -> bool:
    """Return True if a date has a board: not before the first day with data."""
    return any(day.date <= on and day.state != "absent" for day in facts.days)


def _beside(facts: DailyFacts, step: int) -> str | None:
    """Return the date before or after the board's, or None if it has no board."""
    beside = (date.fromisoformat(facts.date) + timedelta(days=step)).isoformat()
    # Before: if data reaches back that far. After: up to the running day.
    if step < 0:
        return beside if _has_board(beside, facts) else None
    return beside if beside <= _made(facts)[:10] else None
