"""Judge the seven numbers of a day, and say in one sentence which targets were missed.

Pure. The headline of the board, the subject of the e-mail and the seven numbers come from the same
list, so they count the same targets.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from exporters import formatting
from exporters.daily.day.facts import METRICS, BoardTargets, Day, Mark, Metric, Risk, Values
from exporters.daily.day.figures import figure, total
from exporters.daily.day.text import NAMES
from exporters.windows.measured import is_weak
from slo.policy.units import Money

TITLES: dict[str, str] = {
    "tokens": "Tokens processed",
    "ttft_p95_s": "P95 TTFT",
    "tpot_p95_s": "P95 TPOT",
    "availability_ratio": "Availability",
    "cache_hit_ratio": "Cache hit rate",
    "error_budget": "Error budget",
    "credits": "Credits at risk",
}
_NAMES: dict[str, str] = {
    **{metric: NAMES[metric] for metric in METRICS},
    "error_budget": "error budget",
    "credits": "credits at risk",
}
# With less of its error budget left, an objective is shown as at risk.
AT_RISK_BUDGET_LEFT = 0.25
# The total of which a metric's known share is; the remaining metrics have no such share.
KNOWN_OF: dict[str, str] = {
    "tokens": "answered requests",
    "ttft_p95_s": "streamed requests",
    "cache_hit_ratio": "input tokens",
}


@dataclass(frozen=True, slots=True)
class JudgedNumber:
    """One of the seven numbers with its mark."""

    key: str  # a Metric, `error_budget` or `credits`
    text: str  # `314 ms`
    mark: Mark
    known: str = ""  # `known for 61.3 % of input tokens`; empty if it is known for all
    is_weak: bool = False  # known for too small a share to be judged

    @property
    def title(self) -> str:
        """Return its name on the board: `P95 TTFT`."""
        return TITLES[self.key]


def judge(values: Values, targets: BoardTargets, risks: Sequence[Risk]) -> tuple[JudgedNumber, ...]:
    """Return the seven numbers in the order of the board."""
    return (
        *(judge_metric(metric, values, targets) for metric in METRICS),
        judge_budget(worst_budget(risks)),
        _judge_credits(risks),
    )


def judge_metric(metric: Metric, values: Values, targets: BoardTargets) -> JudgedNumber:
    """Return the value of a metric with its mark."""
    value = values.of(metric)
    return JudgedNumber(
        metric,
        figure(metric, value.value, targets.of(metric)),
        value.mark,
        formatting.known_for(value.known_ratio, KNOWN_OF.get(metric, "")),
        metric == "cache_hit_ratio" and is_weak(value.known_ratio),
    )


def judge_budget(risk: Risk | None) -> JudgedNumber:
    """Return an objective's error budget with its mark; None stands for no objective."""
    left = None if risk is None else risk.budget_left_ratio
    # A budget that is spent exactly is met: the target allows these failures.
    mark: Mark = "unknown" if left is None else "missed" if left < 0 else "met"
    return JudgedNumber("error_budget", formatting.budget_left(left), mark)


def worst_budget(risks: Sequence[Risk]) -> Risk | None:
    """Return the risk with the least error budget left; None if no budget is known."""
    known = [risk for risk in risks if risk.budget_left_ratio is not None]
    return min(known, key=lambda risk: risk.budget_left_ratio or 0.0, default=None)


def _judge_credits(risks: Sequence[Risk]) -> JudgedNumber:
    projected = [Money.read(risk.credit_projected) for risk in risks if risk.credit_projected]
    at_risk = total(projected)
    if at_risk is None:
        return JudgedNumber("credits", "none", "unknown")
    # `0.00 USD` is a credit that is not due.
    is_due = any(money.amount for money in projected)
    return JudgedNumber("credits", at_risk, "missed" if is_due else "met")


def verdict(numbers: Sequence[JudgedNumber]) -> str:
    """Return the day in a few words: `missed P95 TTFT, Availability` or `all 6 targets met`."""
    # Numbers without a target or a value are neither met nor missed.
    judged = [number for number in numbers if number.mark != "unknown"]
    missed = [number.title for number in judged if number.mark == "missed"]
    if missed:
        return f"missed {', '.join(missed)}"
    return _all_met(len(judged)) if judged else "no target is set"


def headline(
    day: Day,
    targets: BoardTargets,
    risks: Sequence[Risk],
    so_far: str = "So far: ",
    part: str = "",
    is_read: bool = True,
) -> str:
    """Return the result of a day, week or month in one sentence; the page's title has its name.

    `so_far`: the beginning of the sentence if it is not over. `part`: the beginning if it is over
    and has data of a part of it only. `is_read`: False if its events are not all counted yet.
    """
    if not day.values.requests and not day.values.availability_ratio.samples:
        return "No event was counted." if is_read else "No event is counted yet."
    numbers = judge(day.values, targets, risks)
    judged = [number for number in numbers if number.mark != "unknown"]
    missed = [number for number in judged if number.mark == "missed"]
    when = so_far if day.state == "running" else part
    if not is_read and day.state != "running":
        when = "Not all events are counted yet: "
    if not judged:
        requests = formatting.counted(day.values.requests, "request")
        return f"{when}{requests}; no target is set."
    if not missed:
        best = [_name(number) for number in judged if number.mark == "best"]
        rest = f", {formatting.enumeration(best)} best in class" if best else ""
        return formatting.capitalize(f"{when}{_all_met(len(judged))}{rest}.")
    names = formatting.enumeration([_name_and_value(number) for number in missed], len(missed))
    whose = "its target" if len(missed) == 1 else "their targets"
    met = len(judged) - len(missed)
    rest = f"; {met} of {len(judged)} targets met" if met else ""
    return formatting.capitalize(f"{when}{names} missed {whose}{rest}.")


def is_at_risk(risk: Risk) -> bool:
    """Return True if a credit is ahead or less than AT_RISK_BUDGET_LEFT of the budget is left."""
    left, ahead = risk.budget_left_ratio, risk.credit_projected
    is_credit_ahead = ahead is not None and bool(Money.read(ahead).amount)
    return is_credit_ahead or (left is not None and left < AT_RISK_BUDGET_LEFT)


def _all_met(number: int) -> str:
    return "the target met" if number == 1 else f"all {number} targets met"


def _name(number: JudgedNumber) -> str:
    """Return its name within a sentence: `availability`, `error budget`."""
    return _NAMES[number.key]


def _name_and_value(number: JudgedNumber) -> str:
    # `P95 TTFT at 314 ms`, but `error budget (overdrawn by 29 %)`.
    if number.key in METRICS:
        return f"{_name(number)} at {number.text}"
    return f"{_name(number)} ({number.text})"
