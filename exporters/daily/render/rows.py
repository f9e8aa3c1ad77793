"""The seven numbers of the daily board: each against its target and its norms, in words.

Pure. Texts are plain and unescaped.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from exporters.daily.day import figures
from exporters.daily.day.facts import (
    METRICS,
    BoardTargets,
    DailyFacts,
    Mark,
    Metric,
    Risk,
    Trend,
    Value,
    Values,
)
from exporters.formatting import exact_percent

NAME_LONGEST = 96
TOO_EARLY = "the day is not over"

TITLES: dict[Metric, str] = {
    "tokens": "Tokens processed",
    "ttft_p95_s": "P95 TTFT",
    "tpot_p95_s": "P95 TPOT",
    "availability_ratio": "Uptime",
    "cache_hit_ratio": "Cache hit rate",
}
ABOUT: dict[Metric, str] = {
    "tokens": "input and output",
    "ttft_p95_s": "time to first token",
    "tpot_p95_s": "time per output token",
    "availability_ratio": "requests that succeeded",
    "cache_hit_ratio": "input read from the cache",
}
_SAMPLES = {
    "tokens": "",
    "ttft_p95_s": "requests",
    "tpot_p95_s": "requests",
    "availability_ratio": "requests",
    "cache_hit_ratio": "input tokens",
}


@dataclass(frozen=True, slots=True)
class Marked:
    """A number and how it was judged."""

    text: str
    mark: Mark
    words: str  # `best in class`, `met`, `missed`, `no target`, `not known`


@dataclass(frozen=True, slots=True)
class Against:
    """A number against one norm."""

    words: str  # `9 ms slower`
    norm: str  # `norm 278 ms`; empty if there is none
    better: bool | None


@dataclass(frozen=True, slots=True)
class Chart:
    """A metric over the days of the board, oldest first."""

    values: tuple[float | None, ...]
    marks: tuple[Mark, ...]
    target: float | None
    chosen: int  # index of the board's day
    words: str  # `lowest 201 ms, highest 344 ms`


@dataclass(frozen=True, slots=True)
class Row:
    """One of the seven numbers."""

    key: str
    title: str
    about: str
    value: Marked
    target: str  # `under 300 ms`; empty if there is none
    samples: str  # `of 1,234,567 requests`; empty where it is a sum
    note: str = ""  # instead of norms: which objective it is, what is due
    week: Against | None = None
    four_weeks: Against | None = None
    month: Marked | None = None
    chart: Chart | None = None


def seven(facts: DailyFacts) -> tuple[Row, ...]:
    """All of them, in the order of the board."""
    return (*_metric_rows(facts), _budget_row(facts.risks), _credit_row(facts.risks))


def short(name: str) -> str:
    """Shorten a name in the middle if it would not fit on the sheet."""
    if len(name) <= NAME_LONGEST:
        return name
    half = NAME_LONGEST // 2
    return f"{name[: half - 1]}…{name[-half:]}"


def measured(values: Values, metric: Metric) -> Value:
    """One metric of some values."""
    found: Value = getattr(values, metric)
    return found


def target_of(targets: BoardTargets, metric: Metric) -> float | None:
    """Return the target of a metric, or None if it has none."""
    match metric:
        case "tokens":
            return None
        case _:
            found: float | None = getattr(targets, metric)
            return found


def _metric_rows(facts: DailyFacts) -> Iterator[Row]:
    trends = {trend.metric: trend for trend in facts.trends}
    chosen = [day.date for day in facts.days].index(facts.date)
    for metric in METRICS:
        found = measured(facts.day.values, metric)
        trend = trends.get(metric)
        yield Row(
            key=metric,
            title=TITLES[metric],
            about=ABOUT[metric],
            value=marked(metric, found),
            target=_target(metric, facts.targets),
            samples=(
                f"of {figures.large(found.samples)} {_SAMPLES[metric]}"
                if _SAMPLES[metric] and found.value is not None
                else ""
            ),
            week=_against(metric, found.value, trend, 7),
            four_weeks=_against(metric, found.value, trend, 28),
            month=marked(metric, measured(facts.month_to_date, metric)),
            chart=_chart(metric, facts, chosen),
        )


def marked(metric: Metric, found: Value) -> Marked:
    """A metric's value in words."""
    words = {"best": "best in class", "met": "met", "missed": "missed"}.get(found.mark)
    if words is None:
        words = "not known" if found.value is None else "no target"
    return Marked(figures.figure(metric, found.value), found.mark, words)


def _target(metric: Metric, targets: BoardTargets) -> str:
    target = target_of(targets, metric)
    if target is None:
        return ""
    if metric in ("ttft_p95_s", "tpot_p95_s"):
        return f"under {figures.limit(target)}"
    band = ""
    if metric == "cache_hit_ratio" and targets.cache_hit_best is not None:
        low, high = (exact_percent(ratio) for ratio in targets.cache_hit_best)
        band = f", best {low.removesuffix(' %')} to {high}"
    return f"at least {exact_percent(target)}{band}"


def _against(metric: Metric, value: float | None, trend: Trend | None, days: int) -> Against:
    if trend is None:
        return Against(figures.change(metric, None), "", None)
    week = days == 7
    norm = trend.norm_7d if week else trend.norm_28d
    by = trend.change_7d if week else trend.change_28d
    words = figures.change(metric, by)
    if by is None and norm is not None:  # a running day's tokens have no whole day to compare
        words = figures.UNKNOWN if value is None else TOO_EARLY
    # `better` judges the change against 28 days, else 7: the other may go the other way.
    judged = trend.change_28d if trend.change_28d is not None else trend.change_7d
    better = None
    if trend.better is not None and by and judged and words != figures.AS_USUAL:
        better = trend.better == ((by > 0) == (judged > 0))
    return Against(words, "" if norm is None else f"norm {figures.figure(metric, norm)}", better)


def _chart(metric: Metric, facts: DailyFacts, chosen: int) -> Chart:
    found = [measured(day.values, metric) for day in facts.days]
    # A sum of half a day would look like a fall.
    drawn = tuple(
        None if metric == "tokens" and day.state == "running" else one.value
        for day, one in zip(facts.days, found, strict=True)
    )
    known = [value for value in drawn if value is not None]
    words = "no day is known"
    if known:
        low, high = figures.figure(metric, min(known)), figures.figure(metric, max(known))
        words = f"lowest {low}, highest {high}"
    marks = tuple(one.mark for one in found)
    return Chart(drawn, marks, target_of(facts.targets, metric), chosen, words)


def _budget_row(risks: tuple[Risk, ...]) -> Row:
    known = [risk for risk in risks if risk.budget_left_ratio is not None]
    worst = min(known, key=lambda risk: risk.budget_left_ratio or 0.0, default=None)
    note = "no objective with a budget is known"
    if worst is not None:
        note = f"worst of {len(known)}: {objective(worst)}, {short(worst.scope)}"
    left = None if worst is None else worst.budget_left_ratio
    return Row(
        "error_budget", "Error budget", "what is left", budget(left), "not used up", "", note
    )


def budget(left: float | None) -> Marked:
    """Return the rest of an error budget, in words."""
    if left is None:
        return Marked(figures.UNKNOWN, "unknown", "not known")
    if left < 0:
        return Marked(figures.budget(left), "missed", "missed")
    return Marked(figures.budget(left), "met", "met")


def _credit_row(risks: tuple[Risk, ...]) -> Row:
    ahead = [risk.credit_projected for risk in risks if risk.credit_projected is not None]
    due = figures.total([risk.credit_due for risk in risks if risk.credit_due is not None])
    at_risk, target = figures.total(ahead), "should be none"
    if at_risk is None:
        value, target = Marked("none", "unknown", "no SLA with a fee"), ""
    elif any(digit in "123456789" for digit in at_risk):
        value = Marked(at_risk, "missed", "missed")
    else:
        value = Marked(at_risk, "met", "met")
    note = "" if due is None else f"{due} due if the period ended now"
    return Row("credits", "Credits at risk", "projected, all SLAs", value, target, "", note)


def objective(risk: Risk) -> str:
    """`default/uptime`."""
    return short(f"{risk.policy}/{risk.objective}")
