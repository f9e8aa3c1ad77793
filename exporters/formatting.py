"""Numbers as people read them: 212 ms, 99.982 %, 1.2 M, 3 min 20 s.

Pure. None is "unknown". A number is never rounded onto or across a limit that it does not reach:
99.996 % is not 100 %, and 299.7 ms under a target of 300 ms is not "300 ms". Between number and
unit stands a plain space; the page sets it unbreakable where it shows it (`glued`).
"""

import math
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Context, Decimal
from fractions import Fraction

from slo.policy.units import latency_text, percent_text

UNKNOWN = "unknown"
GAP = "\u00a0"
# More digits than this say nothing that was measured.
DIGITS_MAX = 6
_EXACT = Context(prec=400)
STEPS = (
    (Decimal(10**12), "T"),
    (Decimal(10**9), "B"),
    (Decimal(10**6), "M"),
    (Decimal(1000), "k"),
)
_BEFORE_LETTERS = re.compile(r"(?<=\d)(?=[a-z])")
_BEFORE_UNIT = re.compile(r"(?<=\d) (?=(?:%|(?:ms|s|min|h|d|k|M|B|T|UTC)\b))")
_AGES = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def latency(seconds: float | None, limit_s: float | Fraction | None = None) -> str:
    """A latency: `42.3 ms`, `212 ms`, `1.24 s`; kept on its side of `limit_s`."""
    value = _known(seconds)
    if value is None:
        return UNKNOWN
    limit = _known(limit_s)
    # The unit by what will be shown, so that 999.7 ms is 1 s.
    scale, unit = (1000, "ms") if abs(value) < Decimal("0.9995") else (1, "s")
    digits = 2 if scale == 1 else 0 if abs(value) >= Decimal("0.1") else 1
    limits = [Decimal(0)] if limit is None else [Decimal(0), limit * scale]
    return f"{_rounded(value * scale, digits, limits)} {unit}"


def percent(ratio: float | Fraction | None, limit: float | Fraction | None = None) -> str:
    """A ratio: `48.3 %`, `0.12 %`, `99.982 %`, `192 %`. Never 0 %, 100 % or `limit` unless it is
    just that; from 99 % to 100 %, where each digit counts, rounded down."""
    value = _known(ratio)
    if value is None:
        return UNKNOWN
    limits = [Decimal(0), Decimal(100)]
    if (known := _known(limit)) is not None:
        limits.append(known * 100)
    hundredths = value * 100
    if 99 <= hundredths <= 100:
        return f"{_rounded(hundredths, 3, limits, ROUND_FLOOR)} %"
    size = abs(hundredths)
    return f"{_rounded(hundredths, 0 if size > 100 else 1 if size >= 1 else 2, limits)} %"


def exact_percent(ratio: float | Fraction) -> str:
    """A target as it was set: `99.9 %`, `40 %`."""
    return percent_text(Fraction(str(ratio))).replace("%", " %")


def exact_latency(seconds: float | Fraction) -> str:
    """A target as it was set: `300 ms`, `1.5 s`."""
    return _BEFORE_LETTERS.sub(" ", latency_text(round(seconds * 10**6)))


def count(number: float | None) -> str:
    """A count: `12,345`, from 100,000 on in three digits: `345 k`, `1.2 M`, `12 B`."""
    value = _known(number)
    if value is None:
        return UNKNOWN
    if abs(value) < 100_000:
        return f"{_half_even(value, 0 if abs(value) >= 100 else 1):,f}".removesuffix(".0")
    for step, letter in STEPS:
        # 999,950 and more are 1 M, not 1,000 k.
        if abs(value) >= step * Decimal("0.9995"):
            shown = value / step
            return f"{_plain(_half_even(shown, three_digits(shown)))} {letter}"
    raise AssertionError("steps end at 1000")


def age(seconds: float | None) -> str:
    """How long ago: `0.8 s`, `12 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`."""
    value = _known(seconds)
    if value is None:
        return UNKNOWN
    if value < 0:
        value = Decimal(0)
    if value < Decimal("9.95"):
        return f"{_half_even(value, 1)} s"
    whole = int(_half_even(value, 0))
    for position, (span_s, unit) in enumerate(_AGES):
        if whole >= span_s:
            first, rest = divmod(whole, span_s)
            finer = _AGES[position + 1 : position + 2]
            parts = [f"{first} {unit}"]
            parts += [f"{n} {name}" for s, name in finer if (n := rest // s)]
            return " ".join(parts)
    raise AssertionError("ages end at a second")


def times(ratio: float | Fraction | None, limit: float | Fraction | None = None) -> str:
    """A burn rate, 1 = just sustainable: `0.4×`, `14.4×`; kept on its side of 1 and of `limit`."""
    value = _known(ratio)
    limits = [Decimal(0), Decimal(1)]
    if (known := _known(limit)) is not None:
        limits.append(known)
    return UNKNOWN if value is None else f"{_rounded(value, 1, limits)}×"


def clock(at_s: float) -> str:
    """An instant of the day: `12:03:05`; UTC."""
    return _utc(at_s).strftime("%H:%M:%S")


def instant(at_s: float) -> str:
    """An instant for people: `22 Nov 2026, 12:03:05 UTC`."""
    return f"{day(at_s)}, {clock(at_s)} UTC"


def machine_time(at_s: float) -> str:
    """An instant for programs, RFC 3339."""
    return _utc(at_s).strftime("%Y-%m-%dT%H:%M:%SZ")


def day(at_s: float) -> str:
    """The UTC date of an instant: `22 Nov 2026`."""
    at = _utc(at_s)
    return f"{at.day} {at:%b %Y}"


def month(date: str) -> str:
    """The month of a `YYYY-MM-DD`: `Nov`; what is no date as it is."""
    try:
        return f"{datetime.strptime(date, '%Y-%m-%d').replace(tzinfo=UTC):%b}"
    except ValueError:
        return date


def glued(words: str) -> str:
    """The same words with no-break spaces between numbers and their units."""
    return _BEFORE_UNIT.sub(GAP, words)


def full(value: float | None) -> str:
    """All digits there are, for programs; empty where nothing is known."""
    return "" if _known(value) is None else repr(value)


def three_digits(value: Decimal) -> int:
    """Digits after the point that make three in all, at most two."""
    return 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0


def _known(value: float | Fraction | None) -> Decimal | None:
    """The number as it is written, so that 0.2997 is just that; None for what is no number."""
    if value is None or not math.isfinite(value):
        return None
    if isinstance(value, Fraction):
        return Decimal(value.numerator) / value.denominator
    return Decimal(repr(value))


def _rounded(
    value: Decimal, digits: int, limits: Iterable[Decimal], rounding: str = ROUND_HALF_EVEN
) -> str:
    """Rounded to `digits` after the point, or to as many more as keep it on its side of every
    limit; where DIGITS_MAX do not, rounded away from the limit."""
    limits = list(limits)
    for places in range(digits, DIGITS_MAX + 1):
        shown = value.quantize(Decimal(1).scaleb(-places), rounding, _EXACT)
        if all(_side(shown, limit) == _side(value, limit) for limit in limits):
            return _plain(shown)
    crossed = next(one for one in limits if _side(shown, one) != _side(value, one))
    unit = Decimal(1).scaleb(-DIGITS_MAX)
    away = ROUND_FLOOR if value < crossed else ROUND_CEILING
    return _plain(value.quantize(unit, away, _EXACT))


def _side(value: Decimal, limit: Decimal) -> int:
    return (value > limit) - (value < limit)


def _half_even(value: Decimal, places: int) -> Decimal:
    return value.quantize(Decimal(1).scaleb(-places), ROUND_HALF_EVEN, _EXACT)


def _plain(value: Decimal) -> str:
    """Without an exponent, and without zeros that say nothing."""
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _utc(at_s: float) -> datetime:
    return datetime.fromtimestamp(at_s, UTC)
