"""Numbers and lists as the board says them.

Pure. Plain words; a number never says more than is known, and 99.9996 % is never "100 %".
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import ROUND_FLOOR, Decimal
from fractions import Fraction

from alerts.values import latency_text, percent_text

_WINDOWS = {
    "1m": "the last minute",
    "5m": "the last 5 minutes",
    "30m": "the last 30 minutes",
    "1h": "the last hour",
    "6h": "the last 6 hours",
    "24h": "the last 24 hours",
    "3d": "the last 3 days",
    "30d": "the last 30 days",
}


def window_words(window: str) -> str:
    """`the last 5 minutes`."""
    return _WINDOWS[window]


def percent(ratio: float | Fraction) -> str:
    """`99.982 %`, `48.3 %`, `0.12 %`. From 99 % on it is rounded down."""
    hundredths = Decimal(str(float(ratio))) * 100
    if ratio >= Fraction(99, 100):
        shown = hundredths.quantize(Decimal("0.001"), ROUND_FLOOR)
    elif 0 < hundredths < Decimal("0.01"):
        return "under 0.01 %"
    else:
        shown = hundredths.quantize(Decimal("0.01" if hundredths < 1 else "0.1"))
    return f"{shown.normalize():f} %"


def seconds(value: float) -> str:
    """A latency: `212 ms`, `9.4 ms`, `1.24 s`."""
    if value >= 1:
        return f"{_short(value, 2)} s"
    return f"{_short(value * 1_000, 0 if value >= 0.1 else 1)} ms"


def exact_percent(ratio: Fraction) -> str:
    """A ratio of a policy: `99.9 %`."""
    return percent_text(ratio).replace("%", " %")


def exact_latency(us: int) -> str:
    """A latency of a policy: `300 ms`."""
    text = latency_text(us)
    number = text.rstrip("mus")
    return f"{number} {text[len(number) :]}"


def duration(span_s: float) -> str:
    """`41 s`, `4 min`, `3 h 20 min`, `2.1 days`."""
    if span_s < 10:
        return f"{_short(max(span_s, 0), 1)} s"
    if span_s < 100:
        return f"{span_s:.0f} s"
    if span_s < 3_600:
        return f"{span_s / 60:.0f} min"
    if span_s < 2 * 86_400:
        hours, minutes = divmod(round(span_s / 60), 60)
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{_short(span_s / 86_400, 1)} days"


def many(count: int, one: str, several: str | None = None) -> str:
    """`1 worker`, `1,204 records`."""
    return f"{count:,} {one if count == 1 else several or one + 's'}"


def listed(names: Sequence[str], most: int = 5) -> str:
    """`a, b and c`; `a, b and 7 more`."""
    shown = list(names) if len(names) <= most else [*names[:most], f"{len(names) - most:,} more"]
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def clock(at_s: float) -> str:
    """`12:00:31 UTC`."""
    return datetime.fromtimestamp(at_s, UTC).strftime("%H:%M:%S UTC")


def capital(text: str) -> str:
    """With a capital letter first."""
    return text[:1].upper() + text[1:]


def rate(value: float | Fraction) -> str:
    """A burn rate: `14.4`, `120`."""
    return _short(float(value), 1 if value < 100 else 0)


def _short(value: float, digits: int) -> str:
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
