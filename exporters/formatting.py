"""How a value is written for people, on every page, in every mail, PDF and command.

Pure. There is one rounding rule: to nearest (half to even), with as many more digits as keep the
value on its side of its target, of zero and of 100 %. So 99.96 % under a target of 99.99 % is not
"100 %", and 299.7 ms under a target of 300 ms is not "300 ms". Between 99 and 100 %, where every
digit is error budget, a ratio is rounded down to three digits. Programs get `all_digits`.

None is "unknown". A plain space stands between number and unit; HTML replaces it by a no-break
space (`unbroken`).
"""

import math
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, tzinfo
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Context, Decimal
from fractions import Fraction

from slo.policy.units import latency_text, percent_text

UNKNOWN = "unknown"
NO_BREAK_SPACE = "\u00a0"
# Further digits are below the precision of what is measured.
DIGITS_MAX = 6
_EXACT = Context(prec=400)
STEPS = (
    (Decimal(10**12), "T"),
    (Decimal(10**9), "B"),
    (Decimal(10**6), "M"),
    (Decimal(1000), "k"),
)
_BEFORE_LETTERS = re.compile(r"(?<=\d)(?=[a-z])")
_BEFORE_UNIT = re.compile(r"(?<=\d) (?=(?:%|(?:ms|s|min|h|d|k|M|B|T|UTC|[A-Z]{3}|points?)\b))")
_BEFORE_TIME = re.compile(r"(?<=\d{4}-\d{2}-\d{2}) (?=\d{2}:\d{2})")
# Up to a length of time that is only expected, the step it is rounded up to.
_STEPS_S = ((60.0, 10), (600.0, 60), (7_200.0, 300), (math.inf, 3_600))
_SPANS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))
_WINDOW_UNITS = {"m": "minute", "h": "hour", "d": "day"}


# -- measures --------------------------------------------------------------------------------------


def latency(seconds: float | None, target_s: float | Fraction | None = None) -> str:
    """Return a latency, `42.3 ms`, `212 ms` or `1.24 s`, on its side of `target_s`."""
    value = _decimal(seconds)
    if value is None:
        return UNKNOWN
    target = _decimal(target_s)
    # By the rounded value, so that 999.7 ms is 1 s.
    scale, unit = (1000, "ms") if abs(value) < Decimal("0.9995") else (1, "s")
    digits = 2 if scale == 1 else 0 if abs(value) >= Decimal("0.1") else 1
    limits = [Decimal(0)] if target is None else [Decimal(0), target * scale]
    return f"{_rounded(value * scale, digits, limits)} {unit}"


def percent(ratio: float | Fraction | None, target: float | Fraction | None = None) -> str:
    """Return a ratio as a percent, `48.3 %`, `0.12 %`, `99.982 %` or `192 %`.

    It reads 0 %, 100 % or the target only if it is exactly that.
    """
    value = _decimal(ratio)
    if value is None:
        return UNKNOWN
    limits = [Decimal(0), Decimal(100)]
    if (held_to := _decimal(target)) is not None:
        limits.append(held_to * 100)
    hundredths = value * 100
    if 99 <= hundredths <= 100:
        return f"{_rounded(hundredths, 3, limits, ROUND_FLOOR)} %"
    size = abs(hundredths)
    return f"{_rounded(hundredths, 0 if size > 100 else 1 if size >= 1 else 2, limits)} %"


def points(difference: float | Fraction | None) -> str:
    """Return the size of a difference of two ratios in percentage points: `0.4 points`."""
    value = _decimal(difference)
    if value is None:
        return UNKNOWN
    size = abs(value) * 100
    places = 1 if size >= 1 else 2 if size >= Decimal("0.1") else 3
    number = _plain(_half_even(size, places))
    return "1 point" if number == "1" else f"{number} points"


def burn_rate(rate: float | Fraction | None, threshold: float | Fraction | None = None) -> str:
    """Return a burn rate, `0.4×` or `14.4×`, on its side of 1 (sustainable) and of `threshold`."""
    value = _decimal(rate)
    limits = [Decimal(0), Decimal(1)]
    if (held_to := _decimal(threshold)) is not None:
        limits.append(held_to)
    return UNKNOWN if value is None else f"{_rounded(value, 1, limits)}×"


def budget_left(ratio: float | Fraction | None) -> str:
    """Return the rest of an error budget: `73.2 % left`, `all spent`, `overdrawn by 12 %`."""
    if ratio is None:
        return UNKNOWN
    if ratio < 0:
        return f"overdrawn by {percent(-ratio)}"
    return f"{percent(ratio)} left" if ratio else "all spent"


def exact_percent(ratio: float | Fraction) -> str:
    """Return a target as the policy sets it, without rounding: `99.9 %`, `40 %`."""
    return percent_text(Fraction(str(ratio))).replace("%", " %")


def exact_latency(seconds: float | Fraction) -> str:
    """Return a target as the policy sets it, without rounding: `300 ms`, `1.5 s`."""
    return _BEFORE_LETTERS.sub(" ", latency_text(round(seconds * 10**6)))


# -- amounts ---------------------------------------------------------------------------------------


def count(number: float | None) -> str:
    """Return a count of requests, records or names in full: `1,234,567`."""
    value = _decimal(number)
    return UNKNOWN if value is None else f"{_half_even(value, 0):,f}"


def tokens(number: float | None) -> str:
    """Return tokens, or tokens a second: `12,345`, from 100,000 in three digits as `1.23 M`."""
    value = _decimal(number)
    if value is None:
        return UNKNOWN
    if abs(value) < 100_000:
        return f"{_half_even(value, 0 if abs(value) >= 100 else 1):,f}".removesuffix(".0")
    # 999,950 and more are 1 M, not 1,000 k.
    step, letter = next(
        (step, letter) for step, letter in STEPS if abs(value) >= step * Decimal("0.9995")
    )
    scaled = value / step
    return f"{_plain(_half_even(scaled, three_digits(scaled)))} {letter}"


def known_tokens(number: float | None, ratio: float | None) -> str:
    """Return a sum of tokens as `tokens` does; unknown if it is 0 and no request has any.

    `ratio`: share of the requests whose tokens are known; None without any request.
    """
    return UNKNOWN if number == 0 and ratio == 0 else tokens(number)


def known_for(ratio: float | None, noun: str) -> str:
    """Return how far a measure is known, `known for 61.3 % of requests`; empty if all of it is.

    `ratio`: share of the requests or tokens for which it is known; None without any of them.
    """
    if ratio is None or ratio == 1:
        return ""
    # 0 % would read like a value of the measure.
    return f"known for {percent(ratio)} of {noun}" if ratio else f"unknown for all {noun}"


def money(amount: Decimal, currency: str) -> str:
    """Return an amount in hundredths: `1,250.00 USD`."""
    return f"{_half_even(amount, 2):,f} {currency}"


# -- times -----------------------------------------------------------------------------------------


def span(seconds: float | None) -> str:
    """Return a length of time in two units at most: `0.8 s`, `12 s`, `3 min 20 s`, `3 d 4 h`."""
    value = _decimal(seconds)
    if value is None:
        return UNKNOWN
    if value < Decimal("9.95"):
        return f"{_half_even(max(value, Decimal(0)), 1)} s"
    whole = int(_half_even(value, 0))
    position = next(at for at, (unit_s, _) in enumerate(_SPANS) if whole >= unit_s)
    unit_s, unit = _SPANS[position]
    number, rest_s = divmod(whole, unit_s)
    finer = _SPANS[position + 1 : position + 2]
    parts = [f"{number} {unit}"]
    parts += [f"{part} {name}" for finer_s, name in finer if (part := rest_s // finer_s)]
    return " ".join(parts)


def whole_span(seconds: int) -> str:
    """Return a length of time like `span`, without tenths, which would change at every refresh."""
    return f"{seconds} s" if seconds < 10 else span(seconds)


def about_span(seconds: float) -> str:
    """Return a length of time that is only expected, which does not change at every refresh."""
    step_s = next(step_s for longest_s, step_s in _STEPS_S if seconds <= longest_s)
    return f"about {span(max(math.ceil(seconds / step_s), 1) * step_s)}"


def clock(at_s: float) -> str:
    """Return the UTC time of day of an instant: `12:03:05`."""
    return f"{datetime.fromtimestamp(at_s, UTC):%H:%M:%S}"


def instant(at_s: float) -> str:
    """Return an instant with seconds and zone: `2026-11-22 12:03:05 UTC`."""
    return f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%d %H:%M:%S} UTC"


def minute(at_s: float, zone: tzinfo = UTC) -> str:
    """Return a minute, for text that names the zone elsewhere: `2026-11-22 12:03`."""
    return f"{datetime.fromtimestamp(at_s, zone):%Y-%m-%d %H:%M}"


def rfc3339(at_s: float) -> str:
    """Return an instant for programs: `2026-11-22T12:03:05Z`."""
    return f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%dT%H:%M:%SZ}"


def month(date: str) -> str:
    """Return the month of a `YYYY-MM-DD`, `Nov`; any other text unchanged."""
    try:
        return f"{datetime.strptime(date, '%Y-%m-%d').replace(tzinfo=UTC):%b}"
    except ValueError:
        return date


def last_window(window: str) -> str:
    """Return a rolling window in words: `5m` is `last 5 minutes`; any other text unchanged."""
    match = re.fullmatch("([1-9][0-9]*)([mhd])", window)
    if match is None:
        return window
    number, unit = match[1], _WINDOW_UNITS[match[2]]
    return f"last {unit}" if number == "1" else f"last {number} {unit}s"


# -- words -----------------------------------------------------------------------------------------


def counted(number: int, noun: str) -> str:
    """Return a count with its noun, which takes an s: `1 worker`, `1,204 records`."""
    return f"{count(number)} {noun if number == 1 else noun + 's'}"


def enumeration(names: Sequence[str], most: int = 5) -> str:
    """Return names as a list in a sentence: `a, b and c`, or `a, b and 7 more`."""
    parts = list(names) if len(names) <= most else [*names[:most], f"{len(names) - most:,} more"]
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def capitalize(text: str) -> str:
    """Return a text with its first letter as a capital; `str.capitalize` lowers all other ones."""
    return text[:1].upper() + text[1:]


def unbroken(text: str) -> str:
    """Return a text with no-break spaces between numbers and their units, dates and their times."""
    return _BEFORE_TIME.sub(NO_BREAK_SPACE, _BEFORE_UNIT.sub(NO_BREAK_SPACE, text))


def all_digits(value: float | None) -> str:
    """Return all digits of a value, for programs; an empty text for an unknown one."""
    return "" if _decimal(value) is None else repr(value)


def three_digits(value: Decimal) -> int:
    """Return the digits after the point that make three in all, at most two."""
    return 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0


# -- rounding --------------------------------------------------------------------------------------


def _decimal(value: float | Fraction | None) -> Decimal | None:
    """Return a number by its decimal text, so that 0.2997 is exact; None for NaN and infinity."""
    if value is None or not math.isfinite(value):
        return None
    if isinstance(value, Fraction):
        return Decimal(value.numerator) / value.denominator
    return Decimal(repr(value))


def _rounded(
    value: Decimal, digits: int, limits: Iterable[Decimal], rounding: str = ROUND_HALF_EVEN
) -> str:
    """Round to `digits` after the point, or to the fewest that do not reach or cross a limit.

    If DIGITS_MAX do not suffice, round away from the limit.
    """
    limits = list(limits)
    for places in range(digits, DIGITS_MAX + 1):
        result = value.quantize(Decimal(1).scaleb(-places), rounding, _EXACT)
        if all(_side(result, limit) == _side(value, limit) for limit in limits):
            return _plain(result)
    crossed = next(limit for limit in limits if _side(result, limit) != _side(value, limit))
    unit = Decimal(1).scaleb(-DIGITS_MAX)
    away = ROUND_FLOOR if value < crossed else ROUND_CEILING
    return _plain(value.quantize(unit, away, _EXACT))


def _side(value: Decimal, limit: Decimal) -> int:
    return (value > limit) - (value < limit)


def _half_even(value: Decimal, places: int) -> Decimal:
    return value.quantize(Decimal(1).scaleb(-places), ROUND_HALF_EVEN, _EXACT)


def _plain(value: Decimal) -> str:
    """Return a number without an exponent and without zeros at the end."""
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
