"""Write the values of the five metrics and their changes, in the words of exporters/formatting.py.

Pure.
"""

from collections.abc import Sequence
from decimal import Decimal

from exporters import formatting
from exporters.daily.day.facts import Metric
from slo.policy.units import Money

AS_USUAL = "as usual"
_RATIOS = ("availability_ratio", "cache_hit_ratio")
_DIRECTIONS = {
    "tokens": ("more", "less"),
    "ttft_p95_s": ("slower", "faster"),
    "tpot_p95_s": ("slower", "faster"),
    "availability_ratio": ("higher", "lower"),
    "cache_hit_ratio": ("higher", "lower"),
}
# Smaller changes are noise: 0.05 ms, half a token; of a share of the norm, 0.005 %.
_LEAST_S, _LEAST_TOKENS, _LEAST_SHARE = 5e-5, 0.5, 5e-5


def figure(metric: Metric, value: float | None, target: float | None = None) -> str:
    """Return a metric's value on its side of `target`: `1.23 B`, `287 ms`, `99.982 %`."""
    match metric:
        case "tokens":
            return formatting.tokens(value)
        case "ttft_p95_s" | "tpot_p95_s":
            return formatting.latency(value, target)
        case _:
            return formatting.percent(value, target)


def amount(metric: Metric, by: float) -> str:
    """Return the size of a change in the metric's unit: `1.2 M`, `9 ms`, `0.4 points`."""
    return formatting.points(by) if metric in _RATIOS else figure(metric, abs(by))


def is_visible(metric: Metric, by: float) -> bool:
    """Return False for a change that is too small to be mentioned."""
    if metric in _RATIOS:
        return formatting.points(by) != formatting.points(0)
    return abs(by) >= (_LEAST_TOKENS if metric == "tokens" else _LEAST_S)


def change(metric: Metric, by: float | None) -> str:
    """Return a change against a norm: `9 ms slower`, `0.4 points lower`, `8.1 % more`.

    `by`: in the metric's unit, of tokens as a share of the norm.
    """
    if by is None:
        return "no norm yet"
    # Tokens are given as a share, as their size differs from company to company.
    if metric == "tokens":
        size = formatting.percent(abs(by)) if abs(by) >= _LEAST_SHARE else ""
    else:
        size = amount(metric, by) if is_visible(metric, by) else ""
    return f"{size} {_DIRECTIONS[metric][by < 0]}" if size else AS_USUAL


def total(amounts: Sequence[Money]) -> str | None:
    """Return the sum of each currency: `3.00 EUR + 1,250.50 USD`; None without an amount."""
    sums: dict[str, Decimal] = {}
    for money in amounts:
        sums[money.currency] = sums.get(money.currency, Decimal()) + money.amount
    # Currencies are never added up: there is no rate that would be right.
    parts = [formatting.money(sums[currency], currency) for currency in sorted(sums)]
    return " + ".join(parts) or None
