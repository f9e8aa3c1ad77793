"""The three questions of the daily board in words: growth, renewals, margin of the cache.

Pure. Texts are plain and unescaped.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import compress
from zoneinfo import ZoneInfo

from exporters.daily.day.facts import (
    CacheMargin,
    CacheRow,
    Comparison,
    Contract,
    DailyFacts,
    GrowthRow,
    GrowthVerdict,
    Mark,
    PeriodKind,
    Span,
)
from exporters.daily.day.figures import AS_USUAL, change, total
from exporters.daily.render.rows import short
from exporters.formatting import (
    UNKNOWN,
    budget_left,
    count,
    counted,
    enumeration,
    exact_percent,
    minute,
    money,
    percent,
    tokens,
)
from slo.policy.units import Money

CONTRACTS_SHOWN = 8
RENEWAL_DAYS = 90  # contracts that are renewed later are only counted
# Of the first comparisons; that of the month is named by its month.
GROWTH_TITLES = ("Same weekday", "7 days", "28 days")
_GROWTH_TEST = (
    " Coloured if the change is larger than three times the usual spread of same-weekday changes "
    "in 28 days; else it may be chance. Incomplete days are left out."
)
GROWTH_NOTES: dict[PeriodKind, str] = {
    "day": "Each against the same days before: the day against the weekday of a week ago, the "
    "month by tokens a day with weekdays evened out against the month before." + _GROWTH_TEST,
    "week": "Each against the same weekdays of the earlier week." + _GROWTH_TEST,
    "month": "By tokens a day, with weekdays evened out." + _GROWTH_TEST,
}
_GROUPS = {"fleet": "All traffic", "model": "Model", "segment": "Segment", "customer": "Customer"}
_GROWTH_WORDS: dict[GrowthVerdict, str] = {"up": "growth", "down": "fall"}
_GROWTH_ANSWERS: dict[frozenset[GrowthVerdict], str] = {
    frozenset({"up"}): "Growing",
    frozenset({"down"}): "Falling",
    frozenset({"up", "down"}): "Mixed",
    frozenset(): "Flat",
}
# What a comparison is with, in a sentence; of a day, then of a week or month.
_EARLIER: dict[Span, str] = {
    "weekday": "a week before",
    "week": "in the 7 days before",
    "four_weeks": "in the 28 days before",
    "month": "in the month before",
    "four_weeks_ago": "four weeks before",
    "year": "a year before",
}
_CHANCE = "which may be chance"
_NO_SPREAD = "but too few days are known to tell it from chance"


@dataclass(frozen=True, slots=True)
class ContractRow:
    """One contract up for renewal."""

    name: str
    about: str  # `enterprise, e-2026`
    renewal: str  # `2027-01-31`
    due: str  # `in 14 days`
    stake: str  # `10,000.00 USD`; a month
    attained: str
    target: str  # `of 99.9 %`; empty without a target
    budget: str
    credit: str
    mark: Mark
    words: str  # `at risk`, `safe`, `unknown`


@dataclass(frozen=True, slots=True)
class CacheLine:
    """The dollars of the cache for one name."""

    group: str
    name: str  # empty for all traffic
    hit: str
    mark: Mark
    words: str  # `below`, `met`; empty without a target
    saved: str  # `1,250.00 USD`
    lost: str


@dataclass(frozen=True, slots=True)
class GrowthCell:
    """One comparison of tokens."""

    text: str  # `4.4 % more`, `unknown`
    verdict: GrowthVerdict
    words: str  # `growth`, `fall`; empty if the change may be chance or is unknown


@dataclass(frozen=True, slots=True)
class GrowthLine:
    """The growth of one name's tokens."""

    group: str  # `All traffic`, `Model`, `Segment`, `Customer`
    name: str  # empty for all traffic
    tokens: str
    cells: tuple[GrowthCell, ...]  # in the order of the table's titles
    totals: tuple[str, ...]  # the month to date and projected, `34.4 B`, `unknown`


@dataclass(frozen=True, slots=True)
class GrowthTable:
    """The growth of all names that a board shows."""

    rows: tuple[GrowthLine, ...]
    titles: tuple[str, ...]  # of the comparisons
    note: str  # what is compared with what; empty without rows
    answer: str = ""  # of all traffic, in one sentence; empty if nothing can be compared


def growth_table(facts: DailyFacts, titles: Sequence[str]) -> GrowthTable:
    """Return the table of growth, without the comparisons that are unknown for every name."""
    rows = [growth_line(row, facts) for row in facts.growth]
    if not rows:
        return GrowthTable((), (), "")
    is_known = [any(row.cells[at].text != UNKNOWN for row in rows) for at in range(len(titles))]
    note = GROWTH_NOTES[facts.period]
    if not any(is_known):
        note = "Nothing to compare with yet: too few days before are known."
    elif not all(is_known):
        missing = [title for title, known in zip(titles, is_known, strict=True) if not known]
        note += f" Not shown, as too few days are known: {'; '.join(missing)}."
    if facts.counting_began_s is not None:
        began = minute(facts.counting_began_s, ZoneInfo(facts.zone))
        note += f" From {began} on; the first day is left out, as counting began within it."
    return GrowthTable(
        rows=tuple(replace(row, cells=tuple(compress(row.cells, is_known))) for row in rows),
        titles=tuple(compress(titles, is_known)),
        note=note,
        answer=growth_answer(facts),
    )


def growth_answer(facts: DailyFacts) -> str:
    """Return whether the tokens of all traffic grow, in one sentence; empty if no change is known.

    `Flat: 0.4 % more than a week before, which may be chance.`
    """
    fleet = next((row for row in facts.growth if row.dimension == "fleet"), None)
    known = [] if fleet is None else [one for one in _shown(fleet, facts) if _is_known(one)]
    if not known:
        return ""
    clear = [one for one in known if one.verdict in _GROWTH_WORDS]
    by_chance = [one for one in known if one.verdict == "noise"]
    # Without a usual spread, a change can be neither growth nor chance.
    untested = [one for one in known if one.verdict == "unknown"]
    parts = [
        enumeration(list(map(_against_words, group))) + judgement
        for group, judgement in (
            (clear, ""),
            (by_chance, f", {_CHANCE}"),
            (untested, f", {_NO_SPREAD}"),
        )
        if group
    ]
    if len(untested) == len(known):
        word = "Not known yet"
    else:
        word = _GROWTH_ANSWERS[frozenset(one.verdict for one in clear)]
    return f"{word}: {'; '.join(parts)}."


def _is_known(comparison: Comparison) -> bool:
    return comparison.change_ratio is not None


def _against_words(comparison: Comparison) -> str:
    """Return a comparison in a sentence: `0.4 % more than a week before`."""
    words, earlier = change("tokens", comparison.change_ratio), _EARLIER[comparison.span]
    # Months differ in length.
    a_day = " a day" if comparison.span == "month" else ""
    return f"as many{a_day} as {earlier}" if words == AS_USUAL else f"{words}{a_day} than {earlier}"


def _shown(row: GrowthRow, facts: DailyFacts) -> tuple[Comparison, ...]:
    """Return the comparisons that a board shows of a name."""
    if facts.edition is None:
        return row.comparisons
    spans = {change.span for change in facts.edition.changes}
    return tuple(one for one in row.comparisons if one.span in spans)


def growth_line(row: GrowthRow, facts: DailyFacts) -> GrowthLine:
    """Return the texts of a name on a board."""
    projected = tokens(row.month_projected)
    comparisons = _shown(row, facts)
    totals: tuple[str, ...] = (projected,)
    if facts.edition is None:
        month = comparisons[-1].tokens
        # Of all traffic, the sum that the seven numbers show, with late events.
        if row.dimension == "fleet":
            month = facts.month_to_date.tokens.value
        totals = (tokens(month), projected)
    else:
        is_projected = facts.period == "month" and facts.day.state == "running"
        totals = totals if is_projected else ()
    return GrowthLine(
        group=_GROUPS[row.dimension],
        name=short(row.name),
        tokens=tokens(row.tokens),
        cells=tuple(_growth_cell(comparison) for comparison in comparisons),
        totals=totals,
    )


def _growth_cell(comparison: Comparison) -> GrowthCell:
    by = comparison.change_ratio
    words = UNKNOWN if by is None else change("tokens", by)
    # Tokens where there were none before.
    if by is None and comparison.before == 0 and comparison.tokens:
        words = "new"
    return GrowthCell(words, comparison.verdict, _GROWTH_WORDS.get(comparison.verdict, ""))


def cache_line(row: CacheRow, target: float | None) -> CacheLine:
    """Return the texts of a name; `target`: the hit ratio that is good enough."""
    mark: Mark = "unknown"
    # The colour is that of the hit rate; dollars have no target.
    if row.hit_ratio is not None and target is not None:
        mark = "met" if row.hit_ratio >= target else "missed"
    return CacheLine(
        group=_GROUPS[row.dimension],
        name=short(row.name),
        hit=percent(row.hit_ratio, target),
        mark=mark,
        words={"met": "met", "missed": "below"}.get(mark, ""),
        saved=_usd(row.saved_usd),
        lost=_usd(row.lost_usd),
    )


def cache_answer(margin: CacheMargin | None) -> str:
    """Return what the cache saved and lost, in one sentence; empty without a price book."""
    if margin is None or margin.rows[0].saved_usd is None:
        return ""
    saved, lost, target = margin.rows[0].saved_usd, margin.rows[0].lost_usd, margin.target_ratio
    words = f"Saved {_usd(saved)}"
    if margin.saved_week_before_usd is not None:
        words += f" ({_usd(margin.saved_week_before_usd)} a week before)"
    if target is None or lost is None:
        return f"{words}."
    if lost:
        reached = saved / (saved + lost) if saved > 0 else 0.0
        return (
            f"{words}, and lost {_usd(lost)} to models below a hit rate of "
            f"{exact_percent(target)}: {percent(reached)} of what would be saved if these "
            "models reached it."
        )
    # A model without known cached tokens, or without a price, has no dollars.
    which = "known cached tokens" + (" and a price" if margin.unpriced_tokens else "")
    words += f": no model with {which} is below a hit rate of {exact_percent(target)}."
    below = [row for row in margin.rows if row.dimension == "customer" and row.lost_usd]
    if not below:
        return words
    of_them = _usd(sum(row.lost_usd or 0 for row in below))
    number = counted(len(below), "customer")
    return f"{words} {number} in the list stayed below it and lost {of_them}."


def cache_note(margin: CacheMargin | None) -> str:
    """Return how the dollars are counted; empty without a price book."""
    if margin is None:
        return ""
    target = "no policy sets a target"
    if margin.target_ratio is not None:
        target = f"lost: against a hit rate of {exact_percent(margin.target_ratio)} for each model"
    words = f"Saved: against no cache, less the cost of writing to it; {target}."
    if margin.unpriced_tokens:
        words += (
            f" Without {tokens(margin.unpriced_tokens)} input tokens of models without a price."
        )
    return words


def contract_row(contract: Contract) -> ContractRow:
    """Return the texts of a contract."""
    days, target = contract.days_left, contract.target_ratio
    mark: Mark = "missed" if contract.at_risk else "met"
    # Without any request nothing is known, and a green mark would claim that it is safe.
    if contract.attained_ratio is None and not contract.at_risk:
        mark = "unknown"
    due = f"in {counted(days, 'day')}" if days > 0 else f"{counted(-days, 'day')} ago"
    return ContractRow(
        name=short(contract.name),
        about=short(", ".join(part for part in (contract.segment, contract.contract) if part)),
        renewal=contract.renewal,
        due=due if days else "this day",
        stake=_usd(contract.monthly_commitment_usd),
        attained=percent(contract.attained_ratio, target),
        target="" if target is None else f"of {exact_percent(target)}",
        budget="–" if contract.objective is None else budget_left(contract.budget_left_ratio),
        # Contracts may be in several currencies, whose credits stay apart.
        credit=total([Money.read(credit) for credit in contract.credits_projected]) or "–",
        mark=mark,
        words={"missed": "at risk", "met": "safe"}.get(mark, UNKNOWN),
    )


def contracts_note(contracts: Sequence[Contract], due: Sequence[Contract]) -> str:
    """Return the contracts that are due soon, those at risk, and the revenue at stake."""
    if not contracts:
        return "No customer has a renewal date (key renewal of the customer directory)."
    later = len(contracts) - len(due)
    rest = f"; {count(later)} later" if later else ""
    if not due:
        return f"No contract is renewed within {RENEWAL_DAYS} days{rest}."
    at_risk = [contract for contract in due if contract.at_risk]
    words = f"{counted(len(due), 'contract')} to renew within {RENEWAL_DAYS} days"
    if not at_risk:
        return f"{words}, none at risk{rest}."
    known = [
        contract.monthly_commitment_usd
        for contract in at_risk
        if contract.monthly_commitment_usd is not None
    ]
    stake = f" with {_usd(sum(known))} a month at stake" if known else ""
    return f"{words}, {count(len(at_risk))} at risk{stake}{rest}."


def _usd(amount: float | None) -> str:
    return "–" if amount is None else money(Decimal(str(amount)), "USD")
