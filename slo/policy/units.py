"""Values as people write them in a policy, and the exact numbers they stand for.

Pure. Ratios are Fractions, money is Decimal, latencies are whole microseconds, times are whole
seconds: `99.9%` is 999/1000 and never 0.9990000000000001.
"""

import re
from collections.abc import Callable, Iterable
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Any, NamedTuple, Self

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, Strict, WithJsonSchema

from streams.events.fields import CLIENT_CLASSES, LABEL_PATTERN, OUTCOMES
from streams.state.windows import ROLLING_S

# ASCII digits without sign or exponent: the JSON schema has the same pattern, and `\d` means more
# characters in Python than in other languages.
_DECIMAL = r"(?:0|[1-9][0-9]{0,14})(?:[.][0-9]{1,9})?"
PERCENT_PATTERN = rf"^{_DECIMAL} ?%$"
LATENCY_PATTERN = rf"^{_DECIMAL} ?(?:us|ms|s)$"
SPAN_PATTERN = "^[1-9][0-9]{0,5} ?[smhd]$"
MONEY_PATTERN = rf"^{_DECIMAL} [A-Z]{{3}}$"
# Whole minutes with a zone: statuses are by minute, and a time without a zone is ambiguous.
INSTANT_PATTERN = (
    "^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}(?::00)?(?:[Zz]|[+-][0-9]{2}:[0-9]{2})$"
)
NAME_PATTERN = "^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$"
_US = {"us": 1, "ms": 1_000, "s": 1_000_000}
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
MAX_LATENCY_US = 86_400 * 10**6


class Money(NamedTuple):
    """An amount in one currency (ISO 4217)."""

    amount: Decimal
    currency: str

    def __str__(self) -> str:
        return f"{self.amount} {self.currency}"

    @classmethod
    def read(cls, text: str) -> Self:
        """Return the amount of `1250.00 USD` or `1,250.00 USD`."""
        amount, _, currency = text.rpartition(" ")
        return cls(Decimal(amount.replace(",", "")), currency)


def percent(text: str) -> Fraction:
    """Return `99.9%` as 999/1000. Raises ValueError if the text is no percent."""
    if not re.fullmatch(PERCENT_PATTERN, text):
        raise ValueError("write a percent such as 99.9%, at most nine digits after the point")
    return Fraction(text.removesuffix("%").rstrip()) / 100


def latency_us(text: str) -> int:
    """Return `300ms` in microseconds.

    Raises ValueError if the text is no latency, or not a whole number of microseconds up to a day.
    """
    if not re.fullmatch(LATENCY_PATTERN, text):
        raise ValueError("write a latency such as 300ms or 1.5s")
    # The pattern above allows these letters in the unit only.
    number = text.rstrip("mus ")
    exact = Fraction(number) * _US[text[len(number) :].strip()]
    if exact.denominator != 1 or not 0 < exact <= MAX_LATENCY_US:
        raise ValueError("latencies are whole microseconds, more than none and at most a day")
    return int(exact)


def span_s(text: str) -> int:
    """Return `5m` in seconds. Raises ValueError if the text is no span."""
    if not re.fullmatch(SPAN_PATTERN, text):
        raise ValueError("write a span such as 30s, 5m, 6h or 30d")
    return int(text[:-1]) * _SECONDS[text[-1]]


def instant_s(text: str) -> int:
    """Return a whole minute in RFC 3339 with a zone as seconds since 1970. Raises ValueError."""
    cure = "write a whole minute with its zone, such as 2026-01-31T22:00:00+01:00"
    if not re.fullmatch(INSTANT_PATTERN, text):
        raise ValueError(cure)
    try:
        return int(datetime.fromisoformat(text.upper()).timestamp())
    except ValueError as error:
        raise ValueError(f"no such time; {cure}") from error


def money(text: str) -> Money:
    """Return an amount such as `2500.50 USD`. Raises ValueError if the text is no amount."""
    if not re.fullmatch(MONEY_PATTERN, text):
        raise ValueError("write an amount and its currency, such as 250000 USD")
    amount, currency = text.split(" ")
    return Money(Decimal(amount), currency)


def percent_text(ratio: Fraction) -> str:
    """Return a ratio as a percent, exact to nine digits: 999/1000 is `99.9%`."""
    # Integers until the last step: a float cannot hold 99.9 % exactly.
    return f"{(Decimal((ratio * 10**11).__round__()) / 10**9).normalize():f}%"


def latency_text(us: int) -> str:
    """Return microseconds as a policy writes them: 300000 is `300ms`."""
    unit = "s" if us >= _US["s"] else "ms" if us >= _US["ms"] else "us"
    return f"{(Decimal(us) / _US[unit]).normalize():f}{unit}"


def _parser(parse: Callable[[str], Any]) -> PlainValidator:
    """Return a validator that parses text; a bare number is an error, as it has no unit."""
    return PlainValidator(lambda found: parse(found if isinstance(found, str) else ""))


def _text(pattern: str, example: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": pattern, "examples": [example]})


def _one_of(known: Iterable[str]) -> AfterValidator:
    def value(found: str) -> str:
        if found not in known:
            raise ValueError(f"use {', '.join(known)}")
        return found

    return AfterValidator(value)


def _matching(pattern: str, cure: str) -> AfterValidator:
    def value(found: str) -> str:
        if not re.fullmatch(pattern, found):
            raise ValueError(cure)
        return found

    return AfterValidator(value)


def _first(version: int) -> int:
    if version != 1:
        raise ValueError("this release reads version 1")
    return version


def _open(ratio: Fraction) -> Fraction:
    """Return a target between 0 and 100 %: 100 % leaves no error budget to divide by."""
    # At 0 % every value is met, so that it is no objective.
    if not 0 < ratio < 1:
        raise ValueError("write more than 0% and less than 100%, such as 99.9%")
    return ratio


def _at_most_whole(ratio: Fraction) -> Fraction:
    if ratio > 1:
        raise ValueError("write at most 100%")
    return ratio


def _one_or_more(found: Any) -> Any:
    return (found,) if isinstance(found, str) else found


Percent = Annotated[
    Fraction, _parser(percent), AfterValidator(_at_most_whole), _text(PERCENT_PATTERN, "5%")
]
OpenPercent = Annotated[
    Fraction, _parser(percent), AfterValidator(_open), _text(PERCENT_PATTERN, "99.9%")
]
LatencyUs = Annotated[int, _parser(latency_us), _text(LATENCY_PATTERN, "300ms")]
SpanS = Annotated[int, _parser(span_s), _text(SPAN_PATTERN, "5m")]
InstantS = Annotated[int, _parser(instant_s), _text(INSTANT_PATTERN, "2026-01-31T22:00:00Z")]
Amount = Annotated[Money, _parser(money), _text(MONEY_PATTERN, "250000 USD")]
Outcome = Annotated[
    str, _one_of(OUTCOMES), WithJsonSchema({"type": "string", "enum": list(OUTCOMES)})
]
ErrorClass = Annotated[
    str,
    _one_of(CLIENT_CLASSES),
    WithJsonSchema({"type": "string", "enum": list(CLIENT_CLASSES)}),
]
WindowName = Annotated[
    str, _one_of(ROLLING_S), WithJsonSchema({"type": "string", "enum": list(ROLLING_S)})
]
Count = Annotated[int, Strict()]
Flag = Annotated[bool, Strict()]
Version = Annotated[int, Strict(), AfterValidator(_first), WithJsonSchema({"const": 1})]
Name = Annotated[
    str,
    _matching(NAME_PATTERN, "use up to 63 lower-case letters, digits and - between them"),
    _text(NAME_PATTERN, "uptime"),
]
Label = Annotated[
    str,
    _matching(LABEL_PATTERN, "use up to 96 letters, digits, spaces and . _ : / @ -"),
    _text(LABEL_PATTERN, "eu-west"),
]
Labels = Annotated[
    tuple[Label, ...],
    BeforeValidator(_one_or_more),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": LABEL_PATTERN},
                {
                    "type": "array",
                    "items": {"type": "string", "pattern": LABEL_PATTERN},
                    "minItems": 1,
                },
            ]
        }
    ),
]
Text = Annotated[str, Field(min_length=1, max_length=2_000)]
