"""Numbers as the daily board writes them, the same in every format.

Pure. A number that is held against a target is rounded down and never to nearest: 99.8996 % reads
99.899 %, so that the number shown and its mark agree, at least 99.9 % or under 300 ms alike. A
column of a printed sheet also has the same places in every row. So the formats of the live board
(formatting.py), which round to nearest and drop zeros, are not used here.
"""

from collections.abc import Sequence
from decimal import ROUND_FLOOR, ROUND_HALF_EVEN, Decimal

from exporters.daily.day.facts import Metric
from exporters.formatting import STEPS, three_digits

UNKNOWN = "not known"
AS_USUAL = "as usual"
# A share of 1 in so many digits after the point, as a percent.
_PLACES = {"availability_ratio": 3, "cache_hit_ratio": 1}
_WORDS = {
    "tokens": ("more", "less"),
    "ttft_p95_s": ("slower", "faster"),
    "tpot_p95_s": ("slower", "faster"),
    "availability_ratio": ("higher", "lower"),
    "cache_hit_ratio": ("higher", "lower"),
}


def figure(metric: Metric, value: float | None) -> str:
    """A metric's value as it is read: `1.23 B`, `287 ms`, `99.982 %`, `46.2 %`."""
    if value is None:
        return UNKNOWN
    match metric:
        case "tokens":
            return large(value)
        case "ttft_p95_s" | "tpot_p95_s":
            return _latency(Decimal(str(value)))
        case _:
            return percent(value, _PLACES[metric])


def percent(ratio: float, places: int) -> str:
    """A ratio as a percent, rounded down."""
    return f"{_round(Decimal(str(ratio)) * 100, places, ROUND_FLOOR):f} %"


def change(metric: Metric, by: float | None) -> str:
    """A change against a norm in words: `9 ms slower`, `0.4 points lower`, `8 % more`."""
    if by is None:
        return "no norm yet"
    size = abs(Decimal(str(by)))
    match metric:
        case "tokens":
            amount = f"{_round(size * 100, 1 if size < Decimal('0.1') else 0)} %"
        case "ttft_p95_s" | "tpot_p95_s":
            ms = size * 1_000
            amount = f"{_round(ms, 0 if ms >= 10 else 1 if ms >= 1 else 2)} ms"
        case _:
            amount = f"{_round(size * 100, _PLACES[metric])} points"
    if not any(digit in "123456789" for digit in amount):
        return AS_USUAL
    return f"{amount} {_WORDS[metric][by < 0]}"


def limit(seconds: float) -> str:
    """A target latency, as many digits as it has: `300 ms`, `1500 ms`, as the values beside it."""
    return f"{(Decimal(str(seconds)) * 1_000).normalize():f} ms"


def budget(left_ratio: float | None) -> str:
    """Return the rest of an error budget: `62 % left`, `40 % overdrawn`."""
    if left_ratio is None:
        return UNKNOWN
    if left_ratio < 0:
        return f"{_round(-100 * Decimal(str(left_ratio)), 0):,} % overdrawn"
    return f"{percent(left_ratio, 0)} left"


def total(amounts: Sequence[str]) -> str | None:
    """The sum of amounts such as `1,250.00 USD`, each currency for itself; None without any."""
    sums: dict[str, Decimal] = {}
    for text in amounts:
        amount, _, currency = text.rpartition(" ")
        sums[currency] = sums.get(currency, Decimal()) + Decimal(amount.replace(",", ""))
    return " + ".join(f"{sums[currency]:,.2f} {currency}" for currency in sorted(sums)) or None


def count(number: int) -> str:
    """`1,234,567`."""
    return f"{number:,}"


def large(number: float) -> str:
    """A count, three digits of it, rounded down: `1.23 B`."""
    exact = Decimal(str(number))
    for step, letter in STEPS:
        if exact >= step:
            scaled = exact / step
            return f"{_round(scaled, three_digits(scaled), ROUND_FLOOR)} {letter}"
    return f"{_round(exact, 0, ROUND_FLOOR)}"


def _latency(seconds: Decimal) -> str:
    if seconds >= 10:
        return f"{_round(seconds, 1, ROUND_FLOOR)} s"
    ms = seconds * 1_000
    return f"{_round(ms, three_digits(ms), ROUND_FLOOR)} ms"


def _round(number: Decimal, places: int, rounding: str = ROUND_HALF_EVEN) -> Decimal:
    return number.quantize(Decimal(1).scaleb(-places), rounding)
