"""The seven numbers of the daily board: each against its target and its norms, in words.

Pure. Texts are plain and unescaped.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date

from exporters.daily.day import figures
from exporters.daily.day.facts import (
    METRICS,
    BoardTargets,
    DailyFacts,
    Mark,
    Metric,
    PeriodChange,
    Risk,
    Trend,
    Values,
)
from exporters.daily.day.verdict import (
    TITLES,
    JudgedNumber,
    judge,
    judge_budget,
    judge_metric,
    worst_budget,
)
from exporters.formatting import UNKNOWN, count, exact_latency, exact_percent, tokens
from slo.policy.units import Money

NAME_LONGEST = 96
TOO_EARLY = "the day is not over"

ABOUT = {
    "tokens": "input and output",
    "ttft_p95_s": "time to first token",
    "tpot_p95_s": "time per output token",
    "availability_ratio": "requests that succeeded",
    "cache_hit_ratio": "input read from the cache",
    "error_budget": "what is left",
    "credits": "projected, all SLAs",
}
_MARK_WORDS: dict[Mark, str] = {"best": "best in class", "met": "met", "missed": "missed"}


@dataclass(frozen=True, slots=True)
class Marked:
    """A number with its mark."""

    text: str
    mark: Mark
    words: str  # `best in class`, `met`, `missed`, `no target`, `too little known`, `unknown`
    known: str = ""  # `known for 61.3 % of input tokens`; empty if it is known for all


@dataclass(frozen=True, slots=True)
class Against:
    """A number against one norm, or against an earlier week or month."""

    words: str  # `9 ms slower`
    norm: str  # `norm 278 ms`, `then 278 ms`; empty if there is none
    better: bool | None


@dataclass(frozen=True, slots=True)
class MetricChart:
    """A metric over the days of the board, oldest first."""

    values: tuple[float | None, ...]
    marks: tuple[Mark, ...]
    target: float | None
    chosen: int  # index of the board's day
    words: str  # `lowest 201 ms, highest 344 ms`


@dataclass(frozen=True, slots=True)
class NumberRow:
    """One of the seven numbers."""

    key: str
    title: str
    about: str
    value: Marked
    target: str  # `under 300 ms`; empty if there is none
    samples: str = ""  # `of 1,234,567 requests`; empty for a sum
    note: str = ""  # in place of norms: the worst objective, the credits due
    against: tuple[Against, ...] = ()  # in the order of the view's `against_titles`
    month: Marked | None = None  # to date; None on the board of a week or month
    chart: MetricChart | None = None


def seven(facts: DailyFacts) -> tuple[NumberRow, ...]:
    """Return all seven, in the order of the board."""
    numbers = judge(facts.day.values, facts.targets, facts.risks)
    budget, credits = numbers[-2:]
    return (
        *_metric_rows(facts, numbers),
        _budget_row(budget, facts.risks),
        _credit_row(credits, facts.risks),
    )


def short(name: str) -> str:
    """Shorten a name in the middle if it would not fit on the sheet."""
    if len(name) <= NAME_LONGEST:
        return name
    # Long names mostly differ at their ends, so both ends are kept.
    half = NAME_LONGEST // 2
    return f"{name[: half - 1]}…{name[-half:]}"


def objective(risk: Risk) -> str:
    """Return the objective's name: `default/uptime`."""
    return short(f"{risk.policy}/{risk.objective}")


def mark_metric(metric: Metric, values: Values, targets: BoardTargets) -> Marked:
    """Return a metric's value with the words of its mark."""
    return _marked(judge_metric(metric, values, targets))


def mark_budget(risk: Risk) -> Marked:
    """Return an objective's error budget with the words of its mark."""
    return _marked(judge_budget(risk))


def _marked(number: JudgedNumber) -> Marked:
    # The reason why a number has no verdict: no value, too little known, or no target.
    words = "too little known" if number.is_weak else "no target"
    if number.text == UNKNOWN:
        words = UNKNOWN
    return Marked(number.text, number.mark, _MARK_WORDS.get(number.mark, words), number.known)


def _metric_rows(facts: DailyFacts, numbers: Sequence[JudgedNumber]) -> Iterator[NumberRow]:
    trends = {trend.metric: trend for trend in facts.trends}
    chosen = [day.date for day in facts.days].index(facts.date)
    for metric, number in zip(METRICS, numbers[: len(METRICS)], strict=True):
        value = facts.day.values.of(metric).value
        trend, target = trends.get(metric), facts.targets.of(metric)
        yield NumberRow(
            key=metric,
            title=TITLES[metric],
            about=ABOUT[metric],
            value=_marked(number),
            target=_target(metric, facts.targets),
            samples="" if value is None else _samples(metric, facts.day.values.of(metric).samples),
            against=(
                (
                    _against(metric, facts, trend, 7),
                    _against(metric, facts, trend, 28),
                )
                if facts.edition is None
                else tuple(
                    _against_period(change, target)
                    for change in facts.edition.changes
                    if change.metric == metric
                )
            ),
            month=(
                mark_metric(metric, facts.month_to_date, facts.targets)
                if facts.edition is None
                else None
            ),
            chart=_chart(metric, facts, chosen),
        )


def _samples(metric: Metric, number: int) -> str:
    match metric:
        case "tokens":
            return ""
        case "cache_hit_ratio":
            return f"of {tokens(number)} input tokens"
        case _:
            return f"of {count(number)} requests"


def _target(metric: Metric, targets: BoardTargets) -> str:
    target = targets.of(metric)
    if target is None:
        return ""
    if metric in ("ttft_p95_s", "tpot_p95_s"):
        return f"under {exact_latency(target)}"
    band = ""
    if metric == "cache_hit_ratio" and targets.cache_hit_best is not None:
        low, high = (exact_percent(ratio) for ratio in targets.cache_hit_best)
        band = f", best {low.removesuffix(' %')} to {high}"
    return f"at least {exact_percent(target)}{band}"


def _against(metric: Metric, facts: DailyFacts, trend: Trend | None, days: int) -> Against:
    value, target = facts.day.values.of(metric).value, facts.targets.of(metric)
    if trend is None:
        return Against(figures.change(metric, None), "", None)
    norm, by = (trend.norm_7d, trend.change_7d) if days == 7 else (trend.norm_28d, trend.change_28d)
    words = figures.change(metric, by)
    if by is None and norm is not None:
        # A norm without a change: the day has no value, or is not over and has too few tokens yet.
        words = UNKNOWN if value is None else TOO_EARLY
    # `better` judges the change against 28 days, else 7: the other may go the other way.
    judged = trend.change_28d if trend.change_28d is not None else trend.change_7d
    better = None
    if trend.better is not None and by and judged and words != figures.AS_USUAL:
        better = trend.better == ((by > 0) == (judged > 0))
    norm_words = "" if norm is None else f"norm {figures.figure(metric, norm, target)}"
    if norm_words and metric == "tokens":
        norm_words += f" on {date.fromisoformat(facts.date):%A}s"
    return Against(words, norm_words, better)


def _against_period(change: PeriodChange, target: float | None) -> Against:
    words = figures.change(change.metric, change.change) if change.change is not None else UNKNOWN
    then = "" if change.value is None else figures.figure(change.metric, change.value, target)
    better = None if words == figures.AS_USUAL else change.better
    return Against(words, f"then {then}" if then else "", better)


def _chart(metric: Metric, facts: DailyFacts, chosen: int) -> MetricChart:
    values = [day.values.of(metric) for day in facts.days]
    target = facts.targets.of(metric)
    drawn = tuple(
        # The tokens of half a day, week or month would look like a fall.
        None if metric == "tokens" and day.state == "running" else value.value
        for day, value in zip(facts.days, values, strict=True)
    )
    known = [value for value in drawn if value is not None]
    words = "no day has a value"
    if known:
        low, high = (figures.figure(metric, value, target) for value in (min(known), max(known)))
        words = f"lowest {low}, highest {high}"
    return MetricChart(drawn, tuple(value.mark for value in values), target, chosen, words)


def _budget_row(number: JudgedNumber, risks: tuple[Risk, ...]) -> NumberRow:
    worst = worst_budget(risks)
    note = "no objective with a budget has data"
    if worst is not None:
        budgets = sum(risk.budget_left_ratio is not None for risk in risks)
        note = f"worst of {count(budgets)}: {objective(worst)}, {short(worst.scope)}"
    return NumberRow(
        key=number.key,
        title=number.title,
        about=ABOUT[number.key],
        value=_marked(number),
        target="not used up",
        note=note,
    )


def _credit_row(number: JudgedNumber, risks: tuple[Risk, ...]) -> NumberRow:
    due = figures.total([Money.read(risk.credit_due) for risk in risks if risk.credit_due])
    value = _marked(number)
    if number.mark == "unknown":
        value = Marked(number.text, number.mark, "no SLA with a fee")
    return NumberRow(
        key=number.key,
        title=number.title,
        about=ABOUT[number.key],
        value=value,
        target="" if number.mark == "unknown" else "should be none",
        note="" if due is None else f"{due} due if the period ended now",
    )
